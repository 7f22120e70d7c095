//! A rank that joins is let in at once, in the view there is. It begins the epoch that the others are
//! in the middle of, and their next step adds up what does not belong together.
//!
//! What ships: joiners wait for the end of the epoch, and come in with a new view.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults, Mutant};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "epoch-mid-join",
    ticket: "ddp mutant",
    summary: "who joins is let in while the others train",
    source: include_str!("epoch_mid_join.rs"),
    twin: Bodies::of_model(body!(MODEL.but(Mutant::MidEpochJoin), Shortest)),
    shipped: Bodies::of_model(body!(MODEL, Lean)),
    signature: "no-mix",
    must_reach: &["copied", "decided", "rejoined"],
    engines: &[stateright(Expect::Finds).states(1_547)],
};

const MODEL: EpochModel = EpochModel::of(2).with(Faults {
    crashes: 1,
    restarts: 1,
    ..Faults::NONE
});
