//! Loom's issue 392: a thread whose first step is an atomic load is, by mistake, marked as one
//! that need not be tried at that point, and loom misses orders in which it runs first.
//!
//! The main thread is to look at a cell before the other thread stores to it. As reported it
//! only hopes so. Shuttle shows at once that the store may come first; loom calls a single
//! execution a complete search, on account of a load that changes nothing: take the load away,
//! and loom finds it too. Right is to say that one has looked, and to store only then.
//!
//! It stands so that nobody takes "loom found nothing" for a proof, and so that an upgrade of
//! loom that mends it does not go unnoticed.

use selvedge_core::platform::{Atomic, Ordering, Platform};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::race::race;
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "loom-392",
    ticket: "tokio-rs/loom#392",
    summary: "a thread that begins with a load: loom loses the order in which it runs first",
    source: concat!(include_str!("loom_392.rs"), include_str!("race.rs")),
    twin: bodies!(stores_at_once),
    shipped: bodies!(stores_after_look),
    signature: "store-came-first",
    must_reach: &["stored"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Misses("loom loses this outcome (its issue 392)")),
        shuttle(Expect::Finds),
    ],
};

fn stores_at_once<P: Platform>(cx: &Cx) -> Observation {
    judge(&look_then_store::<P>(cx, true, false))
}

fn stores_after_look<P: Platform>(cx: &Cx) -> Observation {
    judge(&look_then_store::<P>(cx, true, true))
}

fn judge(rounds: &[Vec<bool>]) -> Observation {
    for seen in rounds {
        if seen[0] {
            violation!("store-came-first", "the look was meant to come first");
        }
    }
    Observation::none()
}

/// What the look of each round saw, which is thread 0's; the other thread's is no news.
pub(super) fn look_then_store<P: Platform>(
    cx: &Cx,
    load_first: bool,
    wait_for_look: bool,
) -> Vec<Vec<bool>> {
    let fresh = || (P::AtomicBool::new(false), P::AtomicBool::new(false));
    race::<P, _, _>(cx, 2, fresh, move |(looked, cell), me| {
        if me == 0 {
            // ORDERING: Relaxed. There is nothing that comes with the cell.
            let seen = cell.load(Ordering::Relaxed);
            // ORDERING: Release, with the acquire below: the look comes before the store.
            looked.store(true, Ordering::Release);
            return seen;
        }
        if load_first {
            // ORDERING: Relaxed. Its value is of no use; it is there to lead loom astray.
            cell.load(Ordering::Relaxed);
        }
        // ORDERING: Acquire, as above.
        if !wait_for_look || looked.load(Ordering::Acquire) {
            reach("stored");
            // ORDERING: Relaxed, as above.
            cell.store(true, Ordering::Relaxed);
        }
        false
    })
}
