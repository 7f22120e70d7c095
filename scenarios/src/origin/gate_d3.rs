//! A seed is due at its gate after ten epochs of training, and each rank counts its own. With one
//! epoch more on rank 0, it enters the broadcast; rank 1 is not due, takes no part, and goes on.
//! Rank 0 waits without a time-out.
//!
//! What ships: how old a seed is stands in the record, and who is at an epoch's end has the same
//! record as all others there.

use selvedge_core::ddp::Reduction;
use selvedge_models::body;
use selvedge_models::epoch::{Begin, EpochModel, Faults};
use selvedge_models::gate_sync::{GateSyncModel, SlotAt, stage};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-GATE-D3",
    ticket: "gate sync D3",
    summary: "ten epochs on one rank and nine on the other: one waits for ever",
    source: include_str!("gate_d3.rs"),
    twin: Bodies::of_model(body!(twin(), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "progress",
    must_reach: &["asked", "rejoined"],
    engines: &[stateright(Expect::Finds).states(11_966)],
};

/// A rank may fall behind, be replaced, and come to the gate late.
const SHIPPED: EpochModel = EpochModel::of(2)
    .from(Begin::AtGate(Reduction::Majority))
    .with(Faults::RANKS);

fn twin() -> GateSyncModel {
    let due = SlotAt::due(0, stage::TRAINING);
    let behind = SlotAt { epochs: 8, ..due };
    GateSyncModel::of(&[&[due], &[behind]])
}
