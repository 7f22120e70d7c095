//! A collective is not uniform under failure: one rank may have its result while another never
//! gets it. If after a crash each goes on from what it has itself, the next step adds up gradients
//! of different parameters.
//!
//! What ships: a change of view is a flush. All stop, say what they have, and those behind copy the
//! largest version from one that has it.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults, Mutant};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "epoch-no-flush",
    ticket: "ddp mutant",
    summary: "after a change of view each rank goes on from what it has itself",
    source: include_str!("epoch_no_flush.rs"),
    twin: Bodies::of_model(body!(MODEL.but(Mutant::NoFlush), Shortest)),
    shipped: Bodies::of_model(body!(MODEL, Lean)),
    signature: "no-mix",
    must_reach: &["decided", "evicted", "false-suspicion"],
    engines: &[stateright(Expect::Finds).states(37_604)],
};

const MODEL: EpochModel = EpochModel::of(3).with(Faults {
    crashes: 1,
    suspicions: 1,
    ..Faults::NONE
});
