//! Ticket B2-DRL-05, option B: nothing is done at the end of an epoch, because a document asks for
//! loaders of equal length. Each rank ticks its alpha where its own loader ends. With loaders of
//! one batch and of two, a rank is in its second epoch while the other is in its first, and one
//! all-reduce adds up the gradients of two alphas: no error, no log line, a wrong model.
//!
//! What ships: the end of an epoch is a fact that the step's collective carries, alpha follows from
//! the record that all members are given, and each contribution has a tag.

use selvedge_models::body;
use selvedge_models::epoch::{EpochModel, Faults};
use selvedge_models::ticket::{Boundary, TicketModel};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "alpha-drift",
    ticket: "B2-DRL-05 option B",
    summary: "each rank ticks alpha at the end of its own loader",
    source: include_str!("alpha_drift.rs"),
    twin: Bodies::of_model(body!(ticket(), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "no-mix",
    must_reach: &["decided", "done", "rejoined"],
    engines: &[stateright(Expect::Finds).states(11_966)],
};

const SHIPPED: EpochModel = EpochModel::of(2).with(Faults::RANKS);

/// Loaders of one and of two batches, as the shipped model has them.
fn ticket() -> TicketModel {
    TicketModel {
        boundary: Boundary::Nothing,
        batches: vec![1, 2],
        epochs: 2,
    }
}
