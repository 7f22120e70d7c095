//! As torchft's `quorum_id`: the coordinator counts its views in memory. After its own restart it
//! begins again at a number that its ranks are long past. What it tells them is of an old view, they
//! do not listen, and it waits for their answers.
//!
//! What ships: the view is written down before anybody is told of it, and a restart is a new view.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults, Mutant};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "epoch-volatile-view",
    ticket: "torchft `quorum_id`",
    summary: "the number of the view is kept in memory only",
    source: include_str!("epoch_volatile_view.rs"),
    twin: Bodies::of_model(body!(MODEL.but(Mutant::VolatileView), Shortest)),
    shipped: Bodies::of_model(body!(MODEL, Lean)),
    signature: "progress",
    must_reach: &["coordinator-back", "decided", "done"],
    engines: &[stateright(Expect::Finds).states(15_876)],
};

const MODEL: EpochModel = EpochModel::of(2).with(Faults {
    crashes: 1,
    coordinator_crashes: 1,
    coordinator_restarts: 1,
    ..Faults::NONE
});
