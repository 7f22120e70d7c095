//! Double-checked initialisation: look at a flag without the lock, and only where it is down
//! take the lock, look again, make the value, raise the flag. The first look is all that a
//! later caller does, so it must order the value with the flag; as a relaxed load of a relaxed
//! store it does not, and a caller may see the flag up and the value not yet there.
//!
//! Loom finds it, though it never has the spawned thread make the value: a thread that begins
//! with a load is what its issue 392 is about. The explorer and shuttle see both make it, and
//! the cross-check of the right code has that outcome as one that loom lost.

use selvedge_core::platform::{Atomic, Mutex, Ordering, Platform};
use selvedge_sim::{Cx, Observation, Variant, bodies, reach, violation};

use super::race::{observe, race};
use crate::registry::{Expect, SC_ONLY, Scenario, explorer, loom, native, only_explorer, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "double-checked-init",
    ticket: "classic",
    summary: "the unlocked look at the flag is relaxed: the value may not be there yet",
    source: concat!(
        include_str!("double_checked_init.rs"),
        include_str!("race.rs")
    ),
    twin: bodies!(relaxed),
    shipped: bodies!(release_acquire),
    signature: "uninitialised-read",
    must_reach: &["found-it-made", "made-it"],
    engines: &[
        native(Expect::May("x86 keeps stores in order, ARM does not")),
        explorer(SC_ONLY),
        loom(Expect::Finds).differs_by(&[only_explorer(
            Variant::Shipped,
            "got by without the lock: [true, false]",
            "its issue 392, the spawned thread begins with a load and never makes the value",
        )]),
        shuttle(Expect::Misses(
            "every atomic is sequentially consistent there",
        )),
    ],
};

/// What the value is made to be; before that it is zero.
const MADE: u32 = 42;

fn relaxed<P: Platform>(cx: &Cx) -> Observation {
    both_get::<P>(cx, Ordering::Relaxed, Ordering::Relaxed)
}

fn release_acquire<P: Platform>(cx: &Cx) -> Observation {
    both_get::<P>(cx, Ordering::Release, Ordering::Acquire)
}

fn both_get<P: Platform>(cx: &Cx, publish: Ordering, look: Ordering) -> Observation {
    let fresh = || Lazy::<P> {
        lock: P::Mutex::new(()),
        made: P::AtomicBool::new(false),
        value: P::AtomicU32::new(0),
        publish,
        look,
    };
    let rounds = race::<P, _, _>(cx, 2, fresh, |lazy, _| lazy.get());
    observe(&rounds, |unlocked| {
        format!("got by without the lock: {unlocked:?}")
    })
}

struct Lazy<P: Platform> {
    lock: P::Mutex<()>,
    made: P::AtomicBool,
    value: P::AtomicU32,
    publish: Ordering,
    look: Ordering,
}

impl<P: Platform> Lazy<P> {
    /// Makes sure that the value can be read; whether it got by without the lock.
    fn get(&self) -> bool {
        // ORDERING: the variant's. Where it sees the flag, it must see the value as well.
        let unlocked = self.made.load(self.look);
        if unlocked {
            reach("found-it-made");
        } else {
            let _guard = self.lock.lock();
            // ORDERING: Relaxed. The flag changes only under the lock, which is held.
            if !self.made.load(Ordering::Relaxed) {
                reach("made-it");
                // ORDERING: Relaxed. The flag's store publishes it, or fails to.
                self.value.store(MADE, Ordering::Relaxed);
                self.made.store(true, self.publish);
            }
        }
        // ORDERING: Relaxed. Seeing the flag, or holding the lock, ordered it.
        match self.value.load(Ordering::Relaxed) {
            MADE => unlocked,
            value => violation!("uninitialised-read", "the value is {value}, not {MADE}"),
        }
    }
}
