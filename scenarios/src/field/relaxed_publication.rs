//! dynamo PR 11019: entries were written first and counted after, and whoever read the count
//! took all entries below it for written. The count was incremented with a relaxed access,
//! which orders nothing: another core may see the new count and the old entry.
//!
//! One thread writes two entries and counts each; another reads the count and then as many
//! entries. Every entry it counts must be there.
//!
//! With release on the increment and acquire on the read of the count it is right. Only loom
//! can tell: shuttle takes every access as sequentially consistent, and an x86 increment is a
//! full barrier whatever it says.

use selvedge_core::platform::{Atomic, AtomicInt, JoinHandle, Ordering, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{Expect, SC_ONLY, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "relaxed-publication",
    ticket: "dynamo PR 11019",
    summary: "entries published by a relaxed counter: counted, but not there yet",
    source: include_str!("relaxed_publication.rs"),
    twin: bodies!(relaxed),
    shipped: bodies!(release_acquire),
    signature: "entry-missing",
    must_reach: &["entry-read"],
    engines: &[
        native(Expect::May(
            "an x86 increment is a barrier, an ARM one is not",
        )),
        explorer(SC_ONLY),
        loom(Expect::Finds),
        shuttle(Expect::Misses(
            "every atomic is sequentially consistent there",
        )),
    ],
};

const ENTRIES: usize = 2;
const MOST_ROUNDS: u32 = 40;
const WRITTEN: u32 = 42;

/// Entries, and how many of them are published.
struct Journal<P: Platform> {
    entries: [P::AtomicU32; ENTRIES],
    published: P::AtomicUsize,
}

fn relaxed<P: Platform>(cx: &Cx) -> Observation {
    write_and_read::<P>(cx, Ordering::Relaxed, Ordering::Relaxed)
}

fn release_acquire<P: Platform>(cx: &Cx) -> Observation {
    write_and_read::<P>(cx, Ordering::Release, Ordering::Acquire)
}

fn write_and_read<P: Platform>(cx: &Cx, publish: Ordering, observe: Ordering) -> Observation {
    let mut read = 0;
    // Each round starts a thread, which is what takes the time.
    for _ in 0..cx.rounds().min(MOST_ROUNDS) {
        let journal: P::Arc<Journal<P>> = P::Arc::new(Journal {
            entries: [P::AtomicU32::new(0), P::AtomicU32::new(0)],
            published: P::AtomicUsize::new(0),
        });
        let theirs = journal.clone();
        // The reader starts later, so that on real threads it mostly finds entries.
        let reader = P::spawn(move || read_published(&*theirs, observe));
        for entry in &journal.entries {
            // ORDERING: Relaxed. Counting the entry is what publishes it, or fails to.
            entry.store(WRITTEN, Ordering::Relaxed);
            journal.published.fetch_add(1, publish);
        }
        read = reader.join();
    }
    match cx.rounds() {
        1 => Observation::of(format!("{read} entries read")),
        _ => Observation::none(),
    }
}

fn read_published<P: Platform>(journal: &Journal<P>, observe: Ordering) -> usize {
    let published = journal.published.load(observe);
    for (place, entry) in journal.entries.iter().enumerate().take(published) {
        // ORDERING: Relaxed. Seeing it counted is what orders it, or fails to.
        let found = entry.load(Ordering::Relaxed);
        if found != WRITTEN {
            violation!(
                "entry-missing",
                "{published} are published, entry {place} is {found}"
            );
        }
        reach("entry-read");
    }
    published
}
