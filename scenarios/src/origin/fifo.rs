//! The origin's idle worker waits for its queue by taking from it, and puts what it took back at
//! the queue's other end. A request that comes in between is before it now, although it came
//! later.
//!
//! One client submits two requests, one after the other, while the worker is idle. With one
//! request in the backend at a time, they must be served in that order.
//!
//! What ships waits for work on a condition, and serves by the order of acceptance.

use selvedge_core::platform::{JoinHandle, Platform, Shared as _};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::scheduler::{Loop, Scheduler, Server, told_to};
use super::subject::{ALICE, BOB, Setup};
use crate::bed::in_rounds;
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-FIFO",
    ticket: "agent-memory, _wait_for_request",
    summary: "idle worker takes from its queue and puts back: order is lost",
    source: concat!(
        include_str!("fifo.rs"),
        include_str!("scheduler.rs"),
        include_str!("engine.rs"),
        include_str!("subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(two_in_order, Scheduler),
    shipped: bodies!(two_in_order, Loop),
    signature: "served-out-of-order",
    must_reach: &["both-served"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// Several, so that chance finds one that falls between the two submissions.
const TURNS: u32 = 3;

fn two_in_order<P: Platform, S: Server>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let server = P::Arc::new(S::new(Setup {
            layers: 1,
            blocks: 4,
            one_at_a_time: true,
            ..Setup::default()
        }));
        let theirs = server.clone();
        let client = P::spawn(move || [ALICE, BOB].map(|who| theirs.submit(who, &[1], 1)));
        server.work(TURNS);
        let before = server.told().len();
        let tickets = client.join().map(|submitted| match submitted {
            Ok(ticket) => ticket,
            Err(refused) => violation!("submit-refused", "{refused:?}"),
        });
        server.work(8);
        for ticket in tickets {
            told_to(&*server, ticket, "told-nothing");
        }
        reach("both-served");
        let order: Vec<u64> = server.told().iter().map(|told| told.0).collect();
        if order != tickets {
            violation!("served-out-of-order", "{order:?} instead of {tickets:?}");
        }
        format!("served beside their submission: {before}")
    })
}
