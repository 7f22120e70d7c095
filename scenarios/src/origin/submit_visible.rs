//! The origin's `submit` puts a sequence into the backend and only then, after the device's lock
//! was let go, writes the request down. A step in between gets the sequence's token, finds
//! nobody of that name, logs "untracked" and goes on. If that was the last token, the request
//! never ends: its client waits, and no drain can finish.
//!
//! One thread submits a request of one token while another makes steps.
//!
//! What ships mints the id itself, and writes the request down before the backend hears of it.

use selvedge_core::platform::{JoinHandle, Platform, Shared as _};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::engine::OriginEngine;
use super::subject::{ALICE, Engine, Fate, Setup, Shipped, check_none_live, run};
use crate::bed::in_rounds;
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-SUBMIT-VISIBLE",
    ticket: "agent-memory, submit beside step",
    summary: "in the backend before it is in the books: a step drops its tokens",
    source: concat!(
        include_str!("submit_visible.rs"),
        include_str!("engine.rs"),
        include_str!("subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(submit_beside_step, OriginEngine),
    shipped: bodies!(submit_beside_step, Shipped),
    signature: "request-lost",
    must_reach: &["completed"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// Several, so that chance finds one that falls into the gap.
const TURNS: u32 = 4;

fn submit_beside_step<P: Platform, E: Engine>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let engine = P::Arc::new(E::new(Setup {
            layers: 1,
            blocks: 2,
            ..Setup::default()
        }));
        let theirs = engine.clone();
        let client = P::spawn(move || theirs.submit(ALICE, &[1], 1));
        let mut ended: Vec<_> = (0..TURNS).flat_map(|_| engine.step()).collect();
        let beside = !ended.is_empty();
        let id = match client.join() {
            Ok(id) => id,
            Err(refused) => violation!("submit-refused", "{refused:?}"),
        };
        ended.extend(run(&*engine, 4));
        check_none_live(&*engine, "request-lost");
        if ended != [(id, Fate::Completed { generated: 1 })] {
            violation!("wrong-end", "of request {id}: {ended:?}");
        }
        reach("completed");
        format!("ended beside its submission: {beside}")
    })
}
