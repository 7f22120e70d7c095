//! Something makes rank 0's epoch step twice: a retry, say. Its alpha is one tick ahead, 0.98 where
//! rank 1 has 0.77, and each of the following steps adds up gradients of two alphas. Where rank 0
//! comes to the end of blending first it is due at its gate, alone, and waits for ever.
//!
//! What ships: a step that is repeated changes no alpha; only a record does.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults};
use selvedge_models::gate_sync::{GateSyncModel, SlotAt, stage};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-GATE-D7",
    ticket: "gate sync D7",
    summary: "an epoch's step made twice on one rank: another alpha, then a hang",
    source: include_str!("gate_d7.rs"),
    twin: Bodies::of_model(body!(twin(), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "no-mix",
    must_reach: &["decided", "evicted", "failed-step"],
    engines: &[stateright(Expect::Finds).states(3_057)],
};

/// A slot that blends, and steps that come to nothing and are made again.
const SHIPPED: EpochModel = EpochModel::of(2).with(Faults {
    failed_steps: 1,
    crashes: 1,
    ..Faults::NONE
});

fn twin() -> GateSyncModel {
    let blends = SlotAt {
        ticks: 2,
        ..SlotAt::new(0, stage::BLENDING)
    };
    GateSyncModel {
        again: 1,
        ..GateSyncModel::of(&[&[blends], &[blends]])
    }
}
