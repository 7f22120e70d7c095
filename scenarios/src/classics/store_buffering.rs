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
    judge(&cross::<P>(cx, Ordering::Relaxed, || {}))
}

fn fenced<P: Platform>(cx: &Cx) -> Observation {
    // ORDERING: SeqCst. Of two such fences one comes first, and what was stored before it is
    // seen after the other.
    judge(&cross::<P>(cx, Ordering::Relaxed, || {
        P::fence(Ordering::SeqCst);
    }))
}

fn judge(rounds: &[Vec<u32>]) -> Observation {
    for read in rounds {
        match read[..] {
            [0, 0] => violation!("both-read-zero", "neither saw the other's store"),
            _ => reach("one-saw-the-other"),
        }
    }
    tell(rounds)
}

/// What both read.
pub(super) fn tell(rounds: &[Vec<u32>]) -> Observation {
    observe(rounds, |read| format!("read {read:?}"))
}

/// What each thread read of the other's flag, round by round.
pub(super) fn cross<P: Platform>(cx: &Cx, by: Ordering, between: fn()) -> Vec<Vec<u32>> {
    let fresh = || [P::AtomicU32::new(0), P::AtomicU32::new(0)];
    race::<P, _, _>(cx, 2, fresh, move |flags, me| {
        // ORDERING: the caller's. Relaxed, where what lies between them is what it is about.
        flags[me].store(1, by);
        between();
        flags[1 - me].load(by)
    })
}
