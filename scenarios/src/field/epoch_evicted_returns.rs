//! The second trap. A rank is evicted, but the coordinator dies before it hears of that. It connects
//! to the next coordinator, in the life it has, and is taken in again, with parameters that the
//! others have long left behind.
//!
//! What ships: who connects again only says hello; who was evicted comes back by another life.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults, Mutant};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "epoch-evicted-returns",
    ticket: "draft trap 2",
    summary: "an evicted rank that never heard of it comes back as it is",
    source: include_str!("epoch_evicted_returns.rs"),
    twin: Bodies::of_model(body!(MODEL.but(Mutant::HelloRejoins), Shortest)),
    shipped: Bodies::of_model(body!(MODEL, Lean)),
    signature: "no-mix",
    must_reach: &["coordinator-back", "decided", "evicted", "false-suspicion"],
    engines: &[stateright(Expect::Finds).states(49_412)],
};

const MODEL: EpochModel = EpochModel::of(2).with(Faults {
    suspicions: 1,
    coordinator_crashes: 1,
    coordinator_restarts: 1,
    ..Faults::NONE
});
