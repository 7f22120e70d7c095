//! The origin's `shutdown` forgets the backend, the requests and the caches. It does not free
//! their blocks: a pool that outlives its engine, as in a swap of the model, is short of them
//! for ever.
//!
//! Two requests are in flight, one thread makes a step, another shuts the engine down. When both
//! are done, every block must be back.
//!
//! What ships cancels what is in flight and gives everything back, by whoever is in the engine.

use selvedge_core::platform::{JoinHandle, Platform, Shared as _};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::engine::OriginEngine;
use super::subject::{ALICE, BOB, CAROL, Engine, Refused, Setup, Shipped, check_none_live};
use crate::bed::in_rounds;
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-SHUTDOWN-BLOCKS",
    ticket: "agent-memory, MD-2",
    summary: "shut down with requests in flight: their blocks stay taken",
    source: concat!(
        include_str!("shutdown_blocks.rs"),
        include_str!("engine.rs"),
        include_str!("subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(shutdown_beside_step, OriginEngine),
    shipped: bodies!(shutdown_beside_step, Shipped),
    signature: "blocks-kept-after-shutdown",
    must_reach: &["all-back", "closed"],
    // The twin fails in every order, and two engines try all of them on what ships: shuttle would
    // show nothing more.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

const BLOCKS: u32 = 4;

fn shutdown_beside_step<P: Platform, E: Engine>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let engine = P::Arc::new(E::new(Setup {
            layers: 2,
            blocks: BLOCKS,
            ..Setup::default()
        }));
        for who in [ALICE, BOB] {
            if let Err(refused) = engine.submit(who, &[1], 2) {
                violation!("submit-refused", "{refused:?}");
            }
        }
        let theirs = engine.clone();
        let driver = P::spawn(move || theirs.step());
        engine.shutdown();
        let told = driver.join().len();
        check_none_live(&*engine, "request-lost");
        match engine.available() {
            BLOCKS => reach("all-back"),
            some => violation!("blocks-kept-after-shutdown", "{some} of {BLOCKS} available"),
        }
        match engine.submit(CAROL, &[1], 1) {
            Err(Refused::Closed) => reach("closed"),
            other => violation!("open-after-shutdown", "{other:?}"),
        }
        format!("told to the driver: {told}")
    })
}
