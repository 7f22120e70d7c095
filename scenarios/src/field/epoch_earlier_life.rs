//! The first trap that the first draft of the epoch gate fell into. A rank dies with a Commit under
//! way to it, and begins another life. The Commit arrives: it is of the right view and the right
//! epoch, and the rank takes it, though it has nothing of what the earlier life had.
//!
//! What ships: messages *to* a rank name its life too, not only those from it.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults, Mutant};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "epoch-earlier-life",
    ticket: "draft trap 1",
    summary: "a message for an earlier life is taken by the new one",
    source: include_str!("epoch_earlier_life.rs"),
    twin: Bodies::of_model(body!(MODEL.but(Mutant::AnyLifeTakesIt), Shortest)),
    shipped: Bodies::of_model(body!(MODEL, Lean)),
    signature: "identity",
    must_reach: &["decided", "evicted", "rejoined"],
    engines: &[stateright(Expect::Finds).states(1_547)],
};

const MODEL: EpochModel = EpochModel::of(2).with(Faults {
    crashes: 1,
    restarts: 1,
    ..Faults::NONE
});
