//! A policy tells both ranks to begin blending. Rank 0's seed trains, and passes. Rank 1's has only
//! germinated, from where there is no way to blending: it gets the pass of rank 0, fails with
//! `transition_failed`, and tells nobody. From then on the seed is blended in on rank 0 alone.
//!
//! What ships: a command becomes a question of the schedule that all have, or is refused for all.

use selvedge_core::ddp::Reduction;
use selvedge_models::body;
use selvedge_models::epoch::{Begin, EpochModel, Faults};
use selvedge_models::gate_sync::{GateSyncModel, SlotAt, stage};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-GATE-D8",
    ticket: "gate sync D8",
    summary: "a decision that one rank cannot carry out",
    source: include_str!("gate_d8.rs"),
    twin: Bodies::of_model(body!(twin(), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "gate-symmetry",
    must_reach: &["asked", "false-suspicion", "passed", "rejoined"],
    engines: &[stateright(Expect::Finds).states(1_151)],
};

/// What was decided is carried out by those too who were not there when it was.
const SHIPPED: EpochModel = EpochModel::of(2)
    .from(Begin::AtGate(Reduction::Any))
    .with(Faults {
        suspicions: 1,
        restarts: 1,
        ..Faults::NONE
    });

fn twin() -> GateSyncModel {
    let trains = SlotAt {
        commanded: true,
        ..SlotAt::new(0, stage::TRAINING)
    };
    let germinated = SlotAt {
        stage: stage::GERMINATED,
        passes: false,
        ..trains
    };
    GateSyncModel::of(&[&[trains], &[germinated]])
}
