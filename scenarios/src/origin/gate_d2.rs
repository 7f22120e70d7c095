//! The other way round from D1: two of three ranks find the seed ready, rank 0 does not, and it
//! stays where it is on all of them. Their votes were never looked at. (Of a majority only we speak:
//! the origin declares no rule, and by the minimum of its protocol before, the seed had to stay.)
//!
//! What ships: a vote that says yes counts as much on rank 1 as on rank 0.

use selvedge_models::body;
use selvedge_models::epoch::{Begin, EpochModel, Faults};
use selvedge_models::gate_sync::{GateSyncModel, SlotAt, stage};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-GATE-D2",
    ticket: "gate sync D2",
    summary: "rank 0 does not pass, and overrides those who did",
    source: include_str!("gate_d2.rs"),
    twin: Bodies::of_model(body!(twin(), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "every-vote-counts",
    must_reach: &["asked-twice", "outvoted", "passed"],
    engines: &[stateright(Expect::Finds).states(11_966)],
};

/// Of one slot rank 0 says no and rank 1 yes, and one is enough.
const SHIPPED: EpochModel = EpochModel::of(2)
    .from(Begin::ThreeSlots)
    .with(Faults::RANKS);

/// One that does not pass at rank 0, and does at the two others.
fn twin() -> GateSyncModel {
    let due = SlotAt::due(0, stage::TRAINING);
    GateSyncModel::of(&[&[due.voting(false)], &[due], &[due]])
}
