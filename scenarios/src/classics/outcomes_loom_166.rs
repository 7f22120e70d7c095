//! Loom's issue 166 without a judge: what may the reader find while the writer fills the entry
//! and empties it? The explorer finds everything that loom does and, where the writer does a
//! load whose result nobody uses, more than loom. Without that load the two agree.

use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, Variant, bodies, reach};

use super::loom_166::{fill_and_read, tell};
use crate::registry::{Expect, Scenario, explorer, loom, only_explorer};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "outcomes-loom-166",
    ticket: "tokio-rs/loom#166",
    summary: "cross-check: one more load, its result unused, and loom loses an outcome",
    source: concat!(
        include_str!("outcomes_loom_166.rs"),
        include_str!("loom_166.rs"),
        include_str!("race.rs")
    ),
    twin: bodies!(with_load),
    shipped: bodies!(without_load),
    signature: KEY_GONE,
    must_reach: &["observed"],
    engines: &[
        explorer(Expect::Observes),
        loom(Expect::Observes).differs_by(&[only_explorer(
            Variant::AsReported,
            KEY_GONE,
            "its issue 166",
        )]),
    ],
};

const KEY_GONE: &str = "value and key read: (1, 0)";

fn with_load<P: Platform>(cx: &Cx) -> Observation {
    tell(&fill_and_read::<P>(cx, true, false))
}

fn without_load<P: Platform>(cx: &Cx) -> Observation {
    reach("observed");
    tell(&fill_and_read::<P>(cx, false, false))
}
