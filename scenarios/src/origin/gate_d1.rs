//! All ranks come to the same gate. Rank 0's passes, the others' do not, and rank 0's result is
//! what all of them take: the seed is blended into models two thirds of which said that it is not
//! ready. The message is annotated; nothing counts, nothing fails.
//!
//! **The majority is our yardstick, not the origin's:** it has two ranks and declares no rule. Its
//! protocol before took the minimum, so that all had to pass; by that rule too this seed stays.
//!
//! What ships: a gate declares how its votes are reduced, and the record holds every vote.

use selvedge_core::ddp::Reduction;
use selvedge_models::body;
use selvedge_models::epoch::{Begin, EpochModel, Faults};
use selvedge_models::gate_sync::{GateSyncModel, SlotAt, stage};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-GATE-D1",
    ticket: "gate sync D1",
    summary: "rank 0 passes, and overrides those who did not",
    source: include_str!("gate_d1.rs"),
    twin: Bodies::of_model(body!(twin(), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "every-vote-counts",
    must_reach: &["asked", "outvoted", "refused"],
    engines: &[stateright(Expect::Finds).states(11_966)],
};

/// Rank 0 passes and rank 1 does not: where all must, nobody may.
const SHIPPED: EpochModel = EpochModel::of(2)
    .from(Begin::AtGate(Reduction::All))
    .with(Faults::RANKS);

/// One that passes at rank 0, and does not at the two others.
fn twin() -> GateSyncModel {
    let due = SlotAt::due(0, stage::TRAINING);
    let fails = due.voting(false);
    GateSyncModel::of(&[&[due], &[fails], &[fails]])
}
