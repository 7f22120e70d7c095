//! The origin's `stop` clears a flag and joins the worker. The requests in flight and those in the
//! queue are nobody's from then on: their futures are never resolved.
//!
//! A worker is at work while a client submits and the server is then stopped. When the worker
//! has ended, the client must have been told.
//!
//! What ships cancels what is in flight, and tells so: by the call that shuts down or, if the
//! worker is in a step, by that step.

use selvedge_core::platform::{JoinHandle, Platform, Shared as _};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::scheduler::{Loop, Scheduler, Server, told_to};
use super::subject::{ALICE, BOB, CAROL, Fate, Refused, Setup};
use crate::bed::in_rounds;
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-STOP-PENDING",
    ticket: "agent-memory, ConcurrentScheduler.stop",
    summary: "stopped with requests pending: their clients are never told",
    source: concat!(
        include_str!("stop_pending.rs"),
        include_str!("scheduler.rs"),
        include_str!("engine.rs"),
        include_str!("subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(stop_beside_worker, Scheduler),
    shipped: bodies!(stop_beside_worker, Loop),
    signature: "told-nothing-at-stop",
    must_reach: &["told", "refused-when-stopped"],
    // The twin fails in every order, and two engines try all of them on what ships: shuttle would
    // show nothing more.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

fn stop_beside_worker<P: Platform, S: Server>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let server = P::Arc::new(S::new(Setup {
            layers: 1,
            blocks: 4,
            ..Setup::default()
        }));
        let before = server.submit(ALICE, &[1], 9);
        let theirs = server.clone();
        let worker = P::spawn(move || theirs.work(2));
        let beside = server.submit(BOB, &[2], 1);
        server.stop();
        worker.join();
        let fates = [before, beside].map(|submitted| match submitted {
            Ok(ticket) => told_to(&*server, ticket, "told-nothing-at-stop"),
            Err(refused) => violation!("submit-refused", "{refused:?}"),
        });
        reach("told");
        if fates[0] != Fate::Cancelled {
            violation!("wrong-end", "nine tokens in two turns: {fates:?}");
        }
        match server.submit(CAROL, &[3], 1) {
            Err(Refused::Closed) => reach("refused-when-stopped"),
            other => violation!("open-after-stop", "{other:?}"),
        }
        format!("{:?}", fates[1])
    })
}
