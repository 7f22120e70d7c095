//! Waiting for the slowest is a pity, so an epoch is decided as soon as most members have arrived.
//! The rest is still in the middle of a collective that the others will never give to again.
//!
//! What ships: all members of the view arrive, or are evicted, which is a change of view.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults, Mutant};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "epoch-majority-commit",
    ticket: "ddp mutant",
    summary: "an epoch is decided when most members have arrived",
    source: include_str!("epoch_majority_commit.rs"),
    twin: Bodies::of_model(body!(MODEL.but(Mutant::MajorityCommit), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "progress",
    must_reach: &["decided", "done", "evicted"],
    engines: &[stateright(Expect::Finds).states(2_268)],
};

const MODEL: EpochModel = EpochModel::of(3);

const SHIPPED: EpochModel = MODEL.with(Faults {
    crashes: 1,
    ..Faults::NONE
});
