//! When a client goes, the origin resolves its future and no more: the worker is not told, and the
//! sequence is decoded to its end for nobody. Meanwhile nobody else is let in, because the
//! worker lets requests in only while none decodes.
//!
//! A request of eleven tokens runs, with the whole pool; its client goes while another submits
//! a request of one token. That one must be served within a few turns.
//!
//! What ships ends a cancelled request at once, in whatever state it is, and admits the next to
//! its blocks.

use selvedge_core::platform::{JoinHandle, Platform, Shared as _};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::scheduler::{Loop, Scheduler, Server, told_to};
use super::subject::{ALICE, BOB, Fate, Setup};
use crate::bed::in_rounds;
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-CANCEL",
    ticket: "agent-memory, ConcurrentScheduler",
    summary: "cancelled client decoded on: it keeps the next one out",
    source: concat!(
        include_str!("cancel.rs"),
        include_str!("scheduler.rs"),
        include_str!("engine.rs"),
        include_str!("subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(cancel_beside_submit, Scheduler),
    shipped: bodies!(cancel_beside_submit, Loop),
    signature: "starved-by-cancelled",
    must_reach: &["next-served"],
    // The twin fails in every order, and two engines try all of them on what ships: shuttle would
    // show nothing more.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

/// Fewer than the cancelled request would still take.
const TURNS: u32 = 5;

fn cancel_beside_submit<P: Platform, S: Server>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let server = P::Arc::new(S::new(Setup {
            layers: 1,
            blocks: 3,
            ..Setup::default()
        }));
        let long = match server.submit(ALICE, &[1], 11) {
            Ok(ticket) => ticket,
            Err(refused) => violation!("submit-refused", "{refused:?}"),
        };
        server.work(1);
        let theirs = server.clone();
        let leaving = P::spawn(move || theirs.cancel(long));
        let next = server.submit(BOB, &[2], 1);
        server.work(1);
        leaving.join();
        server.work(TURNS);
        let fate = match next {
            Ok(ticket) => told_to(&*server, ticket, "starved-by-cancelled"),
            Err(refused) => violation!("submit-refused", "{refused:?}"),
        };
        if fate != (Fate::Completed { generated: 1 }) {
            violation!("wrong-end", "of the next: {fate:?}");
        }
        reach("next-served");
        match told_to(&*server, long, "told-nothing-of-cancellation") {
            Fate::Cancelled => {}
            other => violation!("wrong-end", "of the cancelled: {other:?}"),
        }
        format!("{:?}", server.told())
    })
}
