//! Load buffering: each of two threads looks at the other's flag and then raises its own. With
//! relaxed accesses the memory model lets both see the other's flag up, each load having been
//! put off behind the store that follows it; with acquire and release it does not.
//!
//! No engine here shows it, which is why it stands: loom answers a load from the stores done
//! so far and never from one to come, shuttle is sequentially consistent, and an x86 machine
//! never puts a load off past a later store. A program that relies on this order is checked by
//! reading it, not by running it.

use selvedge_core::platform::{Atomic, Ordering, Platform};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::race::{observe, race};
use crate::registry::{Expect, SC_ONLY, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "load-buffering",
    ticket: "classic",
    summary: "load yours, store mine, all relaxed: both may read one",
    source: concat!(include_str!("load_buffering.rs"), include_str!("race.rs")),
    twin: bodies!(relaxed),
    shipped: bodies!(release_acquire),
    signature: "both-read-one",
    must_reach: &["one-saw-the-other"],
    engines: &[
        native(ON_THIS_MACHINE),
        explorer(SC_ONLY),
        loom(Expect::Misses("a load never sees a store to come there")),
        shuttle(Expect::Misses(
            "every atomic is sequentially consistent there",
        )),
    ],
};

const ON_THIS_MACHINE: Expect = match cfg!(target_arch = "x86_64") {
    true => Expect::Misses("x86 never puts a load off past a later store"),
    false => Expect::May("C11 allows it, and some processors do it"),
};

fn relaxed<P: Platform>(cx: &Cx) -> Observation {
    cross::<P>(cx, Ordering::Relaxed, Ordering::Relaxed)
}

fn release_acquire<P: Platform>(cx: &Cx) -> Observation {
    cross::<P>(cx, Ordering::Acquire, Ordering::Release)
}

fn cross<P: Platform>(cx: &Cx, look: Ordering, raise: Ordering) -> Observation {
    let fresh = || [P::AtomicU32::new(0), P::AtomicU32::new(0)];
    let rounds = race::<P, _, _>(cx, 2, fresh, move |flags, me| {
        // ORDERING: the variant's. Acquire and release keep the load before the store.
        let seen = flags[1 - me].load(look);
        flags[me].store(1, raise);
        seen
    });
    for read in &rounds {
        match read[..] {
            [1, 1] => violation!("both-read-one", "each saw a store made after its load"),
            [0, 0] => {}
            _ => reach("one-saw-the-other"),
        }
    }
    observe(&rounds, |read| format!("read {read:?}"))
}
