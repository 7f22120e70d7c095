//! The origin's worker catches two kinds of error where it submits. Any other ends its thread,
//! and nobody notices: `is_running` stays true, requests are taken and queued, and every client
//! waits for ever.
//!
//! The first attempt to load the model fails, which is of no caught kind; what ships gets, in
//! addition, a panic of the backend in its first step. Each client that was let in must be told,
//! also one that comes later.
//!
//! What ships fails the one request whose insert fails. The panic it survives as an engine that
//! is dead and says so: it fails what is pending, and refuses whoever comes later.

use selvedge_core::platform::{JoinHandle, Platform, Shared as _};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::scheduler::{Loop, Scheduler, Server, told_to};
use super::subject::{ALICE, BOB, CAROL, Fate, Refused, Setup};
use crate::bed::{Script, in_rounds};
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-WORKER-DEATH",
    ticket: "agent-memory, ConcurrentScheduler",
    summary: "an error ends the worker's thread: clients wait, is_running stays true",
    source: concat!(
        include_str!("worker_death.rs"),
        include_str!("scheduler.rs"),
        include_str!("engine.rs"),
        include_str!("subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(worker_dies, Scheduler),
    shipped: bodies!(worker_dies, Loop),
    signature: "client-waits-for-dead-worker",
    must_reach: &["failed", "refused-when-dead"],
    // The twin fails in every order, and two engines try all of them on what ships: shuttle would
    // show nothing more.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

fn worker_dies<P: Platform, S: Server>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let server = P::Arc::new(S::new(Setup {
            layers: 1,
            blocks: 4,
            script: Script {
                panic_step: Some(0),
                ..Script::default()
            },
            factory_fails: 1,
            ..Setup::default()
        }));
        let mine = server.submit(ALICE, &[1], 2);
        let theirs = server.clone();
        let client = P::spawn(move || theirs.submit(BOB, &[2], 2));
        server.work(2);
        let both = [mine, client.join()];
        server.work(4);
        for submitted in &both {
            match submitted {
                Ok(ticket) => match told_to(&*server, *ticket, "client-waits-for-dead-worker") {
                    Fate::Failed => reach("failed"),
                    other => violation!("wrong-end", "of client {ticket}: {other:?}"),
                },
                Err(other) => violation!("submit-refused", "{other:?}"),
            }
        }
        match server.submit(CAROL, &[3], 1) {
            Err(Refused::Closed) => reach("refused-when-dead"),
            other => violation!("alive-after-death", "{other:?}"),
        }
        format!("let in: {:?}", both.map(|one| one.is_ok()))
    })
}
