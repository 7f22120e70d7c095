//! The epoch gate with three ranks, of which one dies and rejoins, and a coordinator that dies and
//! comes back, wherever each may: more than a push should wait for.
//!
//! The twin forgets the number of its view, with three ranks as with two.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults, Mutant};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "epoch-three-ranks",
    ticket: "epoch gate, at length",
    summary: "three ranks, and a coordinator that dies and comes back",
    source: include_str!("epoch_three_ranks.rs"),
    twin: Bodies::of_model(body!(TWIN.but(Mutant::VolatileView), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "progress",
    must_reach: &["coordinator-back", "copied", "decided", "done", "rejoined"],
    engines: &[stateright(Expect::Finds)
        .states(11_053_612)
        .needs_minutes(30)],
};

const TWIN: EpochModel = EpochModel::of(3).with(Faults {
    crashes: 1,
    coordinator_crashes: 1,
    coordinator_restarts: 1,
    ..Faults::NONE
});

const SHIPPED: EpochModel = EpochModel::of(3).with(Faults::COORDINATOR);
