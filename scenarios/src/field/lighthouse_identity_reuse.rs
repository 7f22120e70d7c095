//! torchft's lighthouse told replicas apart by their names. One that dies and is back under its old
//! name before anybody asks makes a quorum of the same names, so it is the same quorum, and the
//! others keep the connections that they have: to the life before. (Names have a random part since.)
//!
//! What ships: a member is a rank and its life, everywhere.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults};
use selvedge_models::lighthouse::{Flaw, LighthouseModel};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "lighthouse-identity-reuse",
    ticket: "torchft lighthouse",
    summary: "a replica restarted under its old name is taken for the one before",
    source: include_str!("lighthouse_identity_reuse.rs"),
    twin: Bodies::of_model(body!(LighthouseModel::with(Flaw::ByName), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "identity",
    must_reach: &["evicted", "rejoined"],
    engines: &[stateright(Expect::Finds).states(11_966)],
};

/// A rank that dies, and one that is suspected falsely, of which one comes back.
const SHIPPED: EpochModel = EpochModel::of(2).with(Faults::RANKS);
