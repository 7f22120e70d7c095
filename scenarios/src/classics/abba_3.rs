//! Lock-order deadlock with three threads.
//!
//! Three transfers around a ring of three accounts, each locking the account that gives before the
//! one that takes. Any two of them get along; all three at once may each hold one lock and wait
//! for the next, so a test with two threads never shows it.
//!
//! Right with one order of locks for everybody.

use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, bodies};

use super::accounts::{LockOrder, ring_of_transfers};
use crate::registry::{Expect, Scenario, explorer, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "abba-3",
    ticket: "classic",
    summary: "transfers around three accounts, each locking the giver first",
    source: concat!(include_str!("abba_3.rs"), include_str!("accounts.rs")),
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
    ring_of_transfers::<P, 3>(cx, LockOrder::GiverFirst)
}

fn lower_first<P: Platform>(cx: &Cx) -> Observation {
    ring_of_transfers::<P, 3>(cx, LockOrder::LowerFirst)
}
