//! JANK-003, the protocol before the broadcast: ranks all-reduce the minimum of their gates'
//! results. It asks everybody, which is more than the broadcast does. It is still no message about a
//! slot: a rank whose seed is in another stage does not take part, and the others wait for ever.
//!
//! What ships: nobody waits for a rank in a collective about a gate; the votes go with the arrival at
//! the end of the epoch, where all members arrive or are evicted.

use selvedge_models::body;
use selvedge_models::epoch::{Begin, EpochModel, Faults};
use selvedge_models::gate_sync::{GateSyncModel, Meant, SlotAt, Sync, stage};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-GATE-ALLREDUCE",
    ticket: "JANK-003",
    summary: "an all-reduce of gate results hangs where stages differ",
    source: include_str!("gate_allreduce.rs"),
    twin: Bodies::of_model(body!(twin(), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "progress",
    must_reach: &["asked-twice", "coordinator-back", "done"],
    engines: &[stateright(Expect::Finds).states(2_946)],
};

/// Slots in three stages, and a coordinator that dies before all have voted.
const SHIPPED: EpochModel = EpochModel::of(2).from(Begin::ThreeSlots).with(Faults {
    coordinator_crashes: 1,
    coordinator_restarts: 1,
    ..Faults::NONE
});

fn twin() -> GateSyncModel {
    let trains = SlotAt::due(0, stage::TRAINING);
    let blends = SlotAt::new(0, stage::BLENDING);
    GateSyncModel {
        sync: Sync::AllReduceAll,
        meant: Meant::All,
        ..GateSyncModel::of(&[&[trains], &[blends]])
    }
}
