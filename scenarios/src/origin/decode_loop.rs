//! The origin's worker logged an error of the decode and went on. The futures of the requests in
//! flight were never resolved, and the next turn decoded them again: a worker that fails for
//! ever, and clients that wait for ever. (Fixed in February: it rejects what is in flight.)
//!
//! The first step fails; meanwhile another client submits. Each client that was let in must be
//! told.
//!
//! What ships returns, from the step that fails, the end of every request.

use selvedge_core::platform::{JoinHandle, Platform, Shared as _};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::scheduler::{Loop, Scheduler, Server, told_to};
use super::subject::{ALICE, BOB, Fate, Origin, Refused, Setup};
use crate::bed::{Script, in_rounds};
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-DECODE-LOOP",
    ticket: "agent-memory, docs/MEMORY.md 2026-02-07",
    summary: "decode error swallowed: the loop fails for ever, clients wait",
    source: concat!(
        include_str!("decode_loop.rs"),
        include_str!("scheduler.rs"),
        include_str!("engine.rs"),
        include_str!("subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(decode_fails, Scheduler),
    shipped: bodies!(decode_fails, Loop),
    signature: "told-nothing-after-error",
    must_reach: &["failed"],
    // The twin fails in every order, and two engines try all of them on what ships: shuttle would
    // show nothing more.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

fn decode_fails<P: Platform, S: Server>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let server = P::Arc::new(S::new(Setup {
            layers: 1,
            blocks: 4,
            script: Script {
                fail_step: Some(0),
                ..Script::default()
            },
            origin: Origin {
                swallows_decode_errors: true,
                ..Origin::default()
            },
            ..Setup::default()
        }));
        let mine = server.submit(ALICE, &[1], 2);
        let theirs = server.clone();
        let client = P::spawn(move || theirs.submit(BOB, &[2], 2));
        server.work(1);
        let beside = client.join();
        server.work(8);
        for submitted in [&mine, &beside] {
            match submitted {
                Ok(ticket) => match told_to(&*server, *ticket, "told-nothing-after-error") {
                    Fate::Failed => reach("failed"),
                    other => violation!("wrong-end", "of client {ticket}: {other:?}"),
                },
                Err(Refused::Closed) => {}
                Err(other) => violation!("wrong-error", "{other:?}"),
            }
        }
        format!("let in beside it: {}", beside.is_ok())
    })
}
