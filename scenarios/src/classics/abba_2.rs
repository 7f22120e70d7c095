//! Lock-order deadlock with two threads.
//!
//! One thread holds the first lock and wants the second, the other holds the second and wants
//! the first: both wait for ever. Two transfers in opposite directions between two accounts do
//! it, each locking the account that gives before the one that takes.
//!
//! Right with one order of locks for everybody.

use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, bodies};

use super::accounts::{LockOrder, ring_of_transfers};
use crate::registry::{Expect, Scenario, explorer, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "abba-2",
    ticket: "classic",
    summary: "transfers between two accounts, each locking the giver first",
    source: concat!(include_str!("abba_2.rs"), include_str!("accounts.rs")),
    twin: bodies!(giver_first),
    shipped: bodies!(lower_first),
    signature: "deadlock",
    must_reach: &["received-before-it-gave"],
    // Not on real threads, which would hang.
    engines: &[
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

fn giver_first<P: Platform>(cx: &Cx) -> Observation {
    ring_of_transfers::<P, 2>(cx, LockOrder::GiverFirst)
}

fn lower_first<P: Platform>(cx: &Cx) -> Observation {
    ring_of_transfers::<P, 2>(cx, LockOrder::LowerFirst)
}
