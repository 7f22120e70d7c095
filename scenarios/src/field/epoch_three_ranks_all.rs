//! The epoch gate with three ranks and each kind of fault once: a rank dies, one rejoins, one is
//! suspected falsely, the coordinator dies and comes back. This is a night's work, and **has never
//! been seen to the end**: on two cores that others used too, eight minutes went through 5.7
//! million states (84 MB), of perhaps ten times as many, so no count is pinned. Without the
//! coordinator's return it is complete: 826,525 states.
//!
//! The twin takes a message for a rank's earlier life, with three ranks as with two.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults, Mutant};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "epoch-three-ranks-all",
    ticket: "epoch gate, at length",
    summary: "three ranks and every kind of fault at once",
    source: include_str!("epoch_three_ranks_all.rs"),
    twin: Bodies::of_model(body!(TWIN.but(Mutant::AnyLifeTakesIt), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "identity",
    must_reach: &[
        "coordinator-back",
        "copied",
        "decided",
        "done",
        "false-suspicion",
        "rejoined",
    ],
    engines: &[stateright(Expect::Finds).needs_minutes(480)],
};

const TWIN: EpochModel = EpochModel::of(3).with(Faults {
    crashes: 1,
    restarts: 1,
    ..Faults::NONE
});

const SHIPPED: EpochModel = EpochModel::of(3).with(Faults::ALL);
