//! The epoch gate with four ranks, of which one dies and rejoins and one is suspected falsely,
//! wherever each may: more than a push should wait for.
//!
//! The twin decides when most have arrived, which with four ranks leaves one behind.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults, Mutant};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "epoch-four-ranks",
    ticket: "epoch gate, at length",
    summary: "four ranks, of which one dies and one is suspected falsely",
    source: include_str!("epoch_four_ranks.rs"),
    twin: Bodies::of_model(body!(TWIN.but(Mutant::MajorityCommit), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "progress",
    must_reach: &["copied", "decided", "done", "false-suspicion", "rejoined"],
    engines: &[stateright(Expect::Finds)
        .states(11_912_590)
        .needs_minutes(30)],
};

const TWIN: EpochModel = EpochModel::of(4);

const SHIPPED: EpochModel = EpochModel::of(4).with(Faults::RANKS);
