//! The epoch gate with three ranks, of which one dies and rejoins and one is suspected falsely,
//! wherever each may.
//!
//! The twin does not flush at a change of view, and adds up gradients of different parameters.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults, Mutant};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "epoch-three-ranks-rejoin",
    ticket: "epoch gate",
    summary: "three ranks, of which one dies and rejoins and one is suspected",
    source: include_str!("epoch_three_ranks_rejoin.rs"),
    twin: Bodies::of_model(body!(MODEL.but(Mutant::NoFlush), Shortest)),
    shipped: Bodies::of_model(body!(MODEL, Lean)),
    signature: "no-mix",
    must_reach: &[
        "copied",
        "decided",
        "done",
        "evicted",
        "false-suspicion",
        "rejoined",
    ],
    engines: &[stateright(Expect::Finds).states(340_498)],
};

const MODEL: EpochModel = EpochModel::of(3).with(Faults::RANKS);
