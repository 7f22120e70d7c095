//! torchft's lighthouse kept everybody who had ever asked for a quorum. A replica that asks and dies
//! is counted all the same: the quorum is formed with it, and those in it wait for somebody who will
//! never connect.
//!
//! What ships: a death is a change of view, also one in the middle of an arrival.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults};
use selvedge_models::lighthouse::{Flaw, LighthouseModel};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "lighthouse-dead-counted",
    ticket: "torchft#63",
    summary: "a dead participant is counted into every quorum",
    source: include_str!("lighthouse_dead_counted.rs"),
    twin: Bodies::of_model(body!(LighthouseModel::with(Flaw::NeverForgets), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "progress",
    must_reach: &["decided", "evicted"],
    engines: &[stateright(Expect::Finds).states(9_505)],
};

/// Two of three may die, at a gate or anywhere else; below two members the run is given up.
const SHIPPED: EpochModel = EpochModel::of(3).with(Faults {
    crashes: 2,
    ..Faults::NONE
});
