//! The epoch gate with two ranks and each kind of fault once: a rank dies, one rejoins, one is
//! suspected falsely, the coordinator dies and comes back, wherever each may.
//!
//! The twin leaves a rank that has failed its connection, and all wait for it.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults, Mutant};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "epoch-two-ranks-all",
    ticket: "epoch gate",
    summary: "two ranks and every kind of fault at once",
    source: include_str!("epoch_two_ranks_all.rs"),
    twin: Bodies::of_model(body!(TWIN.but(Mutant::FailedStaysMember), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "progress",
    must_reach: &[
        "coordinator-back",
        "decided",
        "done",
        "evicted",
        "false-suspicion",
        "rejoined",
    ],
    engines: &[stateright(Expect::Finds).states(940_187)],
};

const TWIN: EpochModel = EpochModel::of(2).with(Faults {
    coordinator_crashes: 1,
    coordinator_restarts: 1,
    ..Faults::NONE
});

const SHIPPED: EpochModel = EpochModel::of(2).with(Faults::ALL);
