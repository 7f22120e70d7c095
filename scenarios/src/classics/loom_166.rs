//! Loom's issue 166: one more load in a thread, whose result nobody uses, and loom no longer
//! tries some of the orders.
//!
//! A writer fills an entry, first the key, then the value, and empties it again in the same
//! order reversed. A reader that finds the value wants the key that goes with it. It reads the
//! two one after the other, so the writer may empty the entry in between: value found, key
//! gone. That is an everyday interleaving, shuttle finds it, and loom does so only without the
//! writer's useless load. Right with a lock around both sides.
//!
//! It stands so that nobody takes "loom found nothing" for a proof, and so that an upgrade of
//! loom that mends it does not go unnoticed.

use selvedge_core::platform::{Atomic, Mutex, Ordering, Platform};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::race::{observe, race};
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "loom-166",
    ticket: "tokio-rs/loom#166",
    summary: "one more load, its result unused, and loom loses an everyday interleaving",
    source: concat!(include_str!("loom_166.rs"), include_str!("race.rs")),
    twin: bodies!(unlocked),
    shipped: bodies!(locked),
    signature: "value-without-key",
    must_reach: &["read-empty"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Misses("loom loses this outcome (its issue 166)")),
        shuttle(Expect::Finds),
    ],
};

struct Entry<P: Platform> {
    lock: P::Mutex<()>,
    key: P::AtomicU32,
    value: P::AtomicU32,
}

fn unlocked<P: Platform>(cx: &Cx) -> Observation {
    judge(&fill_and_read::<P>(cx, true, false))
}

fn locked<P: Platform>(cx: &Cx) -> Observation {
    judge(&fill_and_read::<P>(cx, true, true))
}

fn judge(rounds: &[Round]) -> Observation {
    for read in rounds {
        match read[1] {
            (1, 0) => violation!("value-without-key", "the key was gone by then"),
            (0, 0) => reach("read-empty"),
            _ => {}
        }
    }
    tell(rounds)
}

/// What writer and reader came to in one round: value and key, as the reader read them.
pub(super) type Round = Vec<(u32, u32)>;

/// The reader's words.
pub(super) fn tell(rounds: &[Round]) -> Observation {
    observe(rounds, |read| format!("value and key read: {:?}", read[1]))
}

/// One entry filled, emptied and read.
pub(super) fn fill_and_read<P: Platform>(cx: &Cx, useless_load: bool, locked: bool) -> Vec<Round> {
    let fresh = || Entry::<P> {
        lock: P::Mutex::new(()),
        key: P::AtomicU32::new(0),
        value: P::AtomicU32::new(0),
    };
    race::<P, _, _>(cx, 2, fresh, move |entry, me| {
        let _guard = locked.then(|| entry.lock.lock());
        match me {
            0 => entry.fill_and_empty(useless_load),
            _ => entry.read(),
        }
    })
}

impl<P: Platform> Entry<P> {
    fn fill_and_empty(&self, useless_load: bool) -> (u32, u32) {
        // ORDERING: SeqCst, all. The bug is one of interleaving, not of order.
        self.key.store(1, Ordering::SeqCst);
        self.value.store(1, Ordering::SeqCst);
        self.value.store(0, Ordering::SeqCst);
        if useless_load {
            self.key.load(Ordering::SeqCst); // it leads loom astray
        }
        self.key.store(0, Ordering::SeqCst);
        (0, 0)
    }

    fn read(&self) -> (u32, u32) {
        // ORDERING: SeqCst, as above.
        let value = self.value.load(Ordering::SeqCst);
        (value, self.key.load(Ordering::SeqCst))
    }
}
