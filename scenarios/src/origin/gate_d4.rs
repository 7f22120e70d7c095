//! Two slots are due, and the ranks visit them in opposite orders, as dictionaries filled in
//! another order do. The broadcasts match by their number alone: what rank 0 decides about one slot,
//! rank 1 does to the other. Nobody hangs; the models differ from then on.
//!
//! What ships: a vote names its slot, and so does the decision.

use selvedge_models::body;
use selvedge_models::epoch::{Begin, EpochModel, Faults};
use selvedge_models::gate_sync::{GateSyncModel, SlotAt, stage};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-GATE-D4",
    ticket: "gate sync D4",
    summary: "slots visited in opposite orders swap their decisions",
    source: include_str!("gate_d4.rs"),
    twin: Bodies::of_model(body!(twin(), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "gate-symmetry",
    must_reach: &["asked-twice", "done", "failed-step"],
    engines: &[stateright(Expect::Finds).states(395)],
};

/// Handed over in another order than that of their numbers, and a step that must be repeated.
const SHIPPED: EpochModel = EpochModel::of(2).from(Begin::ThreeSlots).with(Faults {
    failed_steps: 1,
    ..Faults::NONE
});

fn twin() -> GateSyncModel {
    let passes = SlotAt::due(0, stage::TRAINING);
    let fails = SlotAt::due(1, stage::TRAINING).voting(false);
    GateSyncModel::of(&[&[passes, fails], &[fails, passes]])
}
