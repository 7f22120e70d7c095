//! The origin's `submit` looks whether the engine drains, lets the lock go, and does the rest. A
//! drain that begins in between finds nothing in flight and returns; the model is unloaded; and
//! then the request is admitted.
//!
//! One thread submits while another drains. Once the drain has returned, nothing is in flight
//! and nothing ever comes.
//!
//! What ships looks and writes the request down under one lock.

use selvedge_core::platform::{JoinHandle, Platform, Shared as _};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::engine::OriginEngine;
use super::subject::{ALICE, BOB, Engine, Refused, Setup, Shipped, check_none_live};
use crate::bed::in_rounds;
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-DRAIN-TOCTOU",
    ticket: "agent-memory, submit beside drain",
    summary: "draining looked at, then let in: admitted after the drain returned",
    source: concat!(
        include_str!("drain_toctou.rs"),
        include_str!("engine.rs"),
        include_str!("subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(submit_beside_drain, OriginEngine),
    shipped: bodies!(submit_beside_drain, Shipped),
    signature: "admitted-after-drain",
    must_reach: &["closed-after-drain"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

fn submit_beside_drain<P: Platform, E: Engine>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let engine = P::Arc::new(E::new(Setup {
            layers: 1,
            blocks: 2,
            ..Setup::default()
        }));
        let theirs = engine.clone();
        let client = P::spawn(move || theirs.submit(ALICE, &[1], 1));
        if !engine.drain(4) {
            violation!("drain-timed-out", "a request of one token was in its way");
        }
        let submitted = client.join();
        check_none_live(&*engine, "admitted-after-drain");
        match engine.submit(BOB, &[2], 1) {
            Err(Refused::Closed) => reach("closed-after-drain"),
            other => violation!("open-after-drain", "{other:?}"),
        }
        match submitted {
            Ok(_) => "in time".to_owned(),
            Err(Refused::Closed) => "refused".to_owned(),
            Err(other) => violation!("wrong-error", "{other:?}"),
        }
    })
}
