//! The third trap, and in production the one of jax#38503: alive, but stuck. A rank fails in its own
//! state machine; its process, and with it its connection and its heartbeat, goes on. The coordinator
//! sees a healthy member and waits for it to arrive, and so does everybody else.
//!
//! What ships: a rank that has failed says no more, its heartbeat included, and its connections end.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults, Mutant};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "epoch-failed-member",
    ticket: "draft trap 3, jax#38503",
    summary: "a rank that has failed stays a member, and all wait for it",
    source: include_str!("epoch_failed_member.rs"),
    twin: Bodies::of_model(body!(MODEL.but(Mutant::FailedStaysMember), Shortest)),
    shipped: Bodies::of_model(body!(MODEL, Lean)),
    signature: "progress",
    must_reach: &["coordinator-back", "decided", "done"],
    engines: &[stateright(Expect::Finds).states(2_946)],
};

const MODEL: EpochModel = EpochModel::of(2).with(Faults {
    coordinator_crashes: 1,
    coordinator_restarts: 1,
    ..Faults::NONE
});
