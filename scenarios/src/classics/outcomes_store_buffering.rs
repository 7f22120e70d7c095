//! Store buffering without a judge, by sequentially consistent accesses: the language forbids
//! that both read zero, and yet loom shows it, because it takes such an access as acquire and
//! release. It is the one known case where what only loom sees is a false alarm. With relaxed
//! accesses and a sequentially consistent fence between them loom and the explorer agree, which
//! is why the right code of `store-buffering` has fences.

use selvedge_core::platform::{Ordering, Platform};
use selvedge_sim::{Cx, Observation, Variant, bodies, reach};

use super::store_buffering::{cross, tell};
use crate::registry::{Expect, Scenario, explorer, loom, only_loom};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "outcomes-store-buffering",
    ticket: "classic",
    summary: "cross-check: loom weakens a sequentially consistent access, but no fence",
    source: concat!(
        include_str!("outcomes_store_buffering.rs"),
        include_str!("store_buffering.rs"),
        include_str!("race.rs")
    ),
    twin: bodies!(by_accesses),
    shipped: bodies!(by_fences),
    signature: BOTH_ZERO,
    must_reach: &["observed"],
    engines: &[
        explorer(Expect::Observes),
        loom(Expect::Observes).differs_by(&[only_loom(
            Variant::AsReported,
            BOTH_ZERO,
            "loom takes a SeqCst access as acquire and release, so this is a false alarm",
        )]),
    ],
};

const BOTH_ZERO: &str = "read [0, 0]";

fn by_accesses<P: Platform>(cx: &Cx) -> Observation {
    // ORDERING: SeqCst. All four accesses are in one order that every thread agrees on.
    tell(&cross::<P>(cx, Ordering::SeqCst, || {}))
}

fn by_fences<P: Platform>(cx: &Cx) -> Observation {
    reach("observed");
    // ORDERING: Relaxed, and SeqCst for the fence. Of two such fences one comes first, and what
    // was stored before it is seen after the other.
    tell(&cross::<P>(cx, Ordering::Relaxed, || {
        P::fence(Ordering::SeqCst);
    }))
}
