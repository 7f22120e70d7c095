//! Message passing without a judge: what can the receiver read? With relaxed accesses loom lets
//! it see the flag and not the message, which no order of steps gives; with release and acquire
//! loom and the explorer have the same three outcomes.
//!
//! Loom cannot go on past a failure, so `message-passing` itself ends at the weak outcome, and
//! there is no complete set to compare. This body lets it pass. It shows that the cross-check
//! sees weak memory where there is some, and none where there is none.

use selvedge_core::platform::{Ordering, Platform};
use selvedge_sim::{Cx, Observation, Variant, bodies, reach};

use super::message_passing::{pass, tell};
use crate::registry::{Expect, Scenario, explorer, loom, only_loom};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "outcomes-message-passing",
    ticket: "classic",
    summary: "cross-check: flag up and no message is an outcome of weak memory alone",
    source: concat!(
        include_str!("outcomes_message_passing.rs"),
        include_str!("message_passing.rs"),
        include_str!("race.rs")
    ),
    twin: bodies!(relaxed),
    shipped: bodies!(release_acquire),
    signature: WEAK,
    must_reach: &["observed"],
    engines: &[
        explorer(Expect::Observes),
        loom(Expect::Observes).differs_by(&[only_loom(
            Variant::AsReported,
            WEAK,
            "the relaxed stores may be seen in the other order",
        )]),
    ],
};

const WEAK: &str = "flag 1, message 0";

fn relaxed<P: Platform>(cx: &Cx) -> Observation {
    tell(&pass::<P>(cx, Ordering::Relaxed, Ordering::Relaxed))
}

fn release_acquire<P: Platform>(cx: &Cx) -> Observation {
    reach("observed");
    tell(&pass::<P>(cx, Ordering::Release, Ordering::Acquire))
}
