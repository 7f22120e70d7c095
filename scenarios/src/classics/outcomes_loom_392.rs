//! Loom's issue 392 without a judge: may the store come before the look? The explorer has both
//! outcomes. Loom has one where the storing thread begins with a load, and calls that complete;
//! without the load it has both, too.
//!
//! The cross-check must see an outcome that loom lost, or it would see none in code of ours.

use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, Variant, bodies, reach};

use super::loom_392::look_then_store;
use super::race::observe;
use crate::registry::{Expect, Scenario, explorer, loom, only_explorer};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "outcomes-loom-392",
    ticket: "tokio-rs/loom#392",
    summary: "cross-check: loom loses the order in which a thread that begins with a load is first",
    source: concat!(
        include_str!("outcomes_loom_392.rs"),
        include_str!("loom_392.rs"),
        include_str!("race.rs")
    ),
    twin: bodies!(with_load),
    shipped: bodies!(without_load),
    signature: STORE_FIRST,
    must_reach: &["observed"],
    engines: &[
        explorer(Expect::Observes),
        loom(Expect::Observes).differs_by(&[only_explorer(
            Variant::AsReported,
            STORE_FIRST,
            "its issue 392",
        )]),
    ],
};

const STORE_FIRST: &str = "the look saw true";

fn with_load<P: Platform>(cx: &Cx) -> Observation {
    tell(&look_then_store::<P>(cx, true, false))
}

fn without_load<P: Platform>(cx: &Cx) -> Observation {
    reach("observed");
    tell(&look_then_store::<P>(cx, false, false))
}

fn tell(rounds: &[Vec<bool>]) -> Observation {
    observe(rounds, |seen| format!("the look saw {}", seen[0]))
}
