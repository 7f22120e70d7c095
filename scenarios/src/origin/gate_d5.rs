//! Rank 0 is at the end of training; rank 1, an epoch ahead, has begun to blend in, and a policy
//! tells both to go on. Both take part in the same broadcast, and rank 0's pass, which was about
//! whether to begin blending, lets rank 1's seed through to holding: its alpha jumps from 0 to 1.
//!
//! What ships: a decision answers a question of a slot, a gate and a stage, or is not taken.

use selvedge_models::body;
use selvedge_models::epoch::{Begin, EpochModel, Faults};
use selvedge_models::gate_sync::{GateSyncModel, SlotAt, stage};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-GATE-D5",
    ticket: "gate sync D5",
    summary: "a decision about one gate passes another",
    source: include_str!("gate_d5.rs"),
    twin: Bodies::of_model(body!(twin(), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "gate-symmetry",
    must_reach: &["asked-twice", "evicted", "false-suspicion"],
    engines: &[stateright(Expect::Finds).states(1_851)],
};

/// One slot at each of the two gates, and ranks that die and are suspected falsely.
const SHIPPED: EpochModel = EpochModel::of(2).from(Begin::ThreeSlots).with(Faults {
    crashes: 1,
    suspicions: 1,
    ..Faults::NONE
});

fn twin() -> GateSyncModel {
    let trains = SlotAt::due(0, stage::TRAINING);
    let blends = SlotAt {
        commanded: true,
        passes: false,
        ..SlotAt::new(0, stage::BLENDING)
    };
    GateSyncModel::of(&[&[trains], &[blends]])
}
