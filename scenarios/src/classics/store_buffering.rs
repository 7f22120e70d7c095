//! Store buffering: each of two threads raises its own flag and then looks at the other's. One
//! of the two must see the other, or so it seems; yet each store may still sit in its
//! processor's buffer while the load behind it is done, and both read zero.
//!
//! Right with a sequentially consistent fence between store and load. The accesses themselves
//! stay relaxed in both variants: loom weakens a `SeqCst` access to acquire-release, and would
//! raise a false alarm where it takes a `SeqCst` fence as what it is.

use selvedge_core::platform::{Atomic, Ordering, Platform};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::race::{observe, race};
use crate::registry::{Expect, SC_ONLY, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "store-buffering",
    ticket: "classic",
    summary: "store mine, load yours, no fence between: both read zero",
    source: concat!(include_str!("store_buffering.rs"), include_str!("race.rs")),
    twin: bodies!(relaxed),
    shipped: bodies!(fenced),
    signature: "both-read-zero",
    must_reach: &["one-saw-the-other"],
    engines: &[
        native(Expect::May("processors buffer stores, x86 too")),
        explorer(SC_ONLY),
        loom(Expect::Finds),
        shuttle(Expect::Misses(
            "every atomic is sequentially consistent there",
        )),
    ],
};

fn relaxed<P: Platform>(cx: &Cx) -> Observation {
    cross::<P>(cx, || {})
}

fn fenced<P: Platform>(cx: &Cx) -> Observation {
    // ORDERING: SeqCst. Of two such fences one comes first, and what was stored before it is
    // seen after the other.
    cross::<P>(cx, || P::fence(Ordering::SeqCst))
}

fn cross<P: Platform>(cx: &Cx, between: fn()) -> Observation {
    let fresh = || [P::AtomicU32::new(0), P::AtomicU32::new(0)];
    let rounds = race::<P, _, _>(cx, 2, fresh, move |flags, me| {
        // ORDERING: Relaxed, both. What lies between them is what this is about.
        flags[me].store(1, Ordering::Relaxed);
        between();
        flags[1 - me].load(Ordering::Relaxed)
    });
    for read in &rounds {
        match read[..] {
            [0, 0] => violation!("both-read-zero", "neither saw the other's store"),
            _ => reach("one-saw-the-other"),
        }
    }
    observe(&rounds, |read| format!("read {read:?}"))
}
