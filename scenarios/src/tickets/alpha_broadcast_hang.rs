//! Ticket B2-DRL-05, option A: rank 0's alpha is broadcast at the end of an epoch. A rank whose
//! loader has ended broadcasts; one whose loader has not is in a step's all-reduce. Collectives meet
//! in the order in which they are issued, so each waits in another one, for ever, and nothing says
//! so.
//!
//! What ships: a rank without a batch goes on in the step's collective with zeros until all have
//! come to the end, so that nobody ever issues another one.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults};
use selvedge_models::ticket::{Boundary, TicketModel};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "alpha-broadcast-hang",
    ticket: "B2-DRL-05 option A",
    summary: "alpha broadcast at the end of an epoch, uneven loaders",
    source: include_str!("alpha_broadcast_hang.rs"),
    twin: Bodies::of_model(body!(ticket(), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "progress",
    must_reach: &["decided", "done", "evicted"],
    engines: &[stateright(Expect::Finds).states(2_268)],
};

/// Loaders of one, two and one batches, and a rank that may die in the middle.
const SHIPPED: EpochModel = EpochModel::of(3).with(Faults {
    crashes: 1,
    ..Faults::NONE
});

/// Loaders of one and of two batches, as the shipped model has them.
fn ticket() -> TicketModel {
    TicketModel {
        boundary: Boundary::Broadcast,
        batches: vec![1, 2],
        epochs: 2,
    }
}
