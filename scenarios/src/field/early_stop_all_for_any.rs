//! Lightning's early stopping reduces each rank's wish to stop with a function that came to mean that
//! *all* must want it, where the callback meant *any*. One rank's wish is lost, and training goes on.
//!
//! What ships: each gate declares its reduction, and the record shows votes and decision together.

use selvedge_core::ddp::Reduction;
use selvedge_models::body;
use selvedge_models::epoch::{Begin, EpochModel, Faults};
use selvedge_models::gate_sync::{GateSyncModel, Meant, SlotAt, Sync, stage};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "early-stop-all-for-any",
    ticket: "Lightning#15252",
    summary: "all ranks must want to stop where one was meant to be enough",
    source: include_str!("early_stop_all_for_any.rs"),
    twin: Bodies::of_model(body!(twin(), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "every-vote-counts",
    must_reach: &["asked", "outvoted", "passed"],
    engines: &[stateright(Expect::Finds).states(11_966)],
};

/// One of two passes, and one is enough.
const SHIPPED: EpochModel = EpochModel::of(2)
    .from(Begin::AtGate(Reduction::Any))
    .with(Faults::RANKS);

/// A gate of this kind: rank 0 wants to stop, rank 1 does not, and all must.
fn twin() -> GateSyncModel {
    let stops = SlotAt::due(0, stage::TRAINING);
    GateSyncModel {
        sync: Sync::AllReduceAll,
        meant: Meant::Any,
        ..GateSyncModel::of(&[&[stops], &[stops.voting(false)]])
    }
}
