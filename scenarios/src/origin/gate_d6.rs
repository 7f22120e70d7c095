//! Rank 1's slot is empty: its seed was removed by something that rank 0 knows nothing of. An empty
//! slot has no gate, so rank 1 takes no part, and rank 0 waits for ever.
//!
//! What ships: which slots are empty stands in the record.

use selvedge_models::body;
use selvedge_models::epoch::{Begin, EpochModel, Faults};
use selvedge_models::gate_sync::{GateSyncModel, SlotAt, stage};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-GATE-D6",
    ticket: "gate sync D6",
    summary: "a slot that is empty on one rank leaves the other waiting",
    source: include_str!("gate_d6.rs"),
    twin: Bodies::of_model(body!(twin(), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "progress",
    must_reach: &["asked-twice", "rejoined"],
    engines: &[stateright(Expect::Finds).states(1_547)],
};

/// One of the slots is empty, and a rank begins another life with nothing at all.
const SHIPPED: EpochModel = EpochModel::of(2).from(Begin::ThreeSlots).with(Faults {
    crashes: 1,
    restarts: 1,
    ..Faults::NONE
});

fn twin() -> GateSyncModel {
    let due = SlotAt::due(0, stage::TRAINING);
    let empty = SlotAt::new(0, stage::EMPTY);
    GateSyncModel::of(&[&[due], &[empty]])
}
