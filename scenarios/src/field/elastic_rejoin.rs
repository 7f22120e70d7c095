//! Elastic training: a worker that joins begins with a broadcast of the state, and the others take
//! part in it if they were told that somebody has joined. Told of a loss they leave it out, because
//! nobody needs it then. If the one who was lost has come back before they go on, what they were told
//! last is the loss: it waits in the broadcast, they wait in a step, and that is all.
//!
//! What ships: who takes part, and what each does first, is told to all of them by one message, and
//! what a member of a view does next follows from that.

use selvedge_models::body;
use selvedge_models::elastic::ElasticModel;
use selvedge_models::epoch::{EpochModel, Faults};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "elastic-rejoin",
    ticket: "horovod#2189, #3494",
    summary: "a worker that comes back broadcasts while the others all-reduce",
    source: include_str!("elastic_rejoin.rs"),
    twin: Bodies::of_model(body!(ElasticModel::of(true), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "progress",
    must_reach: &["copied", "decided", "rejoined"],
    engines: &[stateright(Expect::Finds).states(11_966)],
};

const SHIPPED: EpochModel = EpochModel::of(2).with(Faults::RANKS);
