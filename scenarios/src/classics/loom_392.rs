//! Loom's issue 392: a thread whose first step is an atomic load is, by mistake, marked as one
//! that need not be tried at that point, and loom misses orders in which it runs first.
//!
//! The body says that the main thread looks at a cell before the other thread stores to it. As
//! reported it only hopes so: it looks after the spawn. Shuttle shows at once that the store
//! may come first; loom calls one execution a complete search, on account of a load that
//! changes nothing. Without that load loom finds it too. Right is to look before the spawn.
//!
//! It stands so that nobody takes "loom found nothing" for a proof, and so that an upgrade of
//! loom that mends it does not go unnoticed.

use selvedge_core::platform::{Atomic, JoinHandle, Ordering, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{BY_LUCK, Expect, Scenario, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "loom-392",
    ticket: "tokio-rs/loom#392",
    summary: "a thread that begins with a load: loom loses the order in which it runs first",
    source: include_str!("loom_392.rs"),
    twin: bodies!(looks_after_spawn),
    shipped: bodies!(looks_before_spawn),
    signature: "store-came-first",
    must_reach: &["looked-first"],
    engines: &[
        native(BY_LUCK),
        loom(Expect::Misses("loom loses this outcome (its issue 392)")),
        shuttle(Expect::Finds),
    ],
};

fn looks_after_spawn<P: Platform>(cx: &Cx) -> Observation {
    look::<P>(cx, false)
}

fn looks_before_spawn<P: Platform>(cx: &Cx) -> Observation {
    look::<P>(cx, true)
}

fn look<P: Platform>(cx: &Cx, before_spawn: bool) -> Observation {
    for _ in 0..cx.rounds() {
        let cell = P::Arc::new(P::AtomicBool::new(false));
        let theirs = cell.clone();
        // ORDERING: Relaxed, all. There is one cell, and nothing else depends on it.
        let early = before_spawn.then(|| cell.load(Ordering::Relaxed));
        let storer = P::spawn(move || {
            theirs.load(Ordering::Relaxed); // of no use but to lead loom astray
            theirs.store(true, Ordering::Relaxed);
        });
        let seen = early.unwrap_or_else(|| cell.load(Ordering::Relaxed));
        storer.join();
        match seen {
            true => violation!("store-came-first", "the look was meant to come first"),
            false => reach("looked-first"),
        }
    }
    Observation::none()
}
