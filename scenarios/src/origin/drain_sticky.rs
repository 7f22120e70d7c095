//! A drain that times out leaves the origin's engine closed: the flag is set when it begins, and
//! nothing ever clears it. The swap of the model that wanted the drain is called off, the old
//! model stays, and refuses every request from then on.
//!
//! A long request is in flight. A drain that has not the time for it must fail, and leave the
//! engine open; meanwhile another thread submits.
//!
//! What ships has the drain's deadline in its state, and when it passes the engine is open
//! again.

use selvedge_core::platform::{JoinHandle, Platform, Shared as _};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::engine::OriginEngine;
use super::subject::{ALICE, BOB, CAROL, Engine, Refused, Setup, Shipped, check_none_live, run};
use crate::bed::in_rounds;
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-DRAIN-STICKY",
    ticket: "agent-memory, drain timeout",
    summary: "a drain that failed leaves the engine closed for ever",
    source: concat!(
        include_str!("drain_sticky.rs"),
        include_str!("engine.rs"),
        include_str!("subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(drain_without_time, OriginEngine),
    shipped: bodies!(drain_without_time, Shipped),
    signature: "closed-after-failed-drain",
    must_reach: &["drain-timed-out", "open-again", "all-ended"],
    // The twin fails in every order, and two engines try all of them on what ships: shuttle would
    // show nothing more.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

fn drain_without_time<P: Platform, E: Engine>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let engine = P::Arc::new(E::new(Setup {
            layers: 1,
            blocks: 4,
            ..Setup::default()
        }));
        if let Err(refused) = engine.submit(ALICE, &[1], 4) {
            violation!("submit-refused", "{refused:?}");
        }
        let theirs = engine.clone();
        let client = P::spawn(move || theirs.submit(BOB, &[2], 1));
        if engine.drain(1) {
            violation!("drained", "four tokens in one turn");
        }
        reach("drain-timed-out");
        let beside = match client.join() {
            Ok(_) => "accepted",
            Err(Refused::Closed) => "refused",
            Err(other) => violation!("wrong-error", "{other:?}"),
        };
        match engine.submit(CAROL, &[3], 1) {
            Ok(_) => reach("open-again"),
            Err(refused) => violation!("closed-after-failed-drain", "{refused:?}"),
        }
        run(&*engine, 8);
        check_none_live(&*engine, "request-lost");
        reach("all-ended");
        format!("beside the drain: {beside}")
    })
}
