//! Ticket SPRINT-2.5, issue 9: a step returns a sequence that is not in the engine's books, and
//! the engine skips it. In the backend of that day a finished sequence stays until its cache is
//! extracted, so this one stays for ever, with all it has computed. (The fix was to log and
//! extract it; a later revision dropped that half of it.)
//!
//! How it comes about: a request is written down only after the backend has it (see
//! `A-SUBMIT-VISIBLE`). One thread submits while another makes steps. At the end the backend
//! must hold nothing. What ships has no such gap, so there the backend itself returns
//! a sequence that nobody inserted.
//!
//! What ships tells the backend to remove what it does not know, reports it and counts it.

use selvedge_core::platform::{JoinHandle, Platform, Shared as _};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::{Script, in_rounds};
use crate::origin::engine::OriginEngine;
use crate::origin::subject::{ALICE, Engine, Fate, Origin, Setup, Shipped, check_none_live, run};
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "untracked-uid",
    ticket: "SPRINT-2.5 #9",
    summary: "a sequence nobody knows is skipped: the backend keeps it for ever",
    source: concat!(
        include_str!("untracked_uid.rs"),
        include_str!("../origin/engine.rs"),
        include_str!("../origin/subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(submit_beside_step, OriginEngine),
    shipped: bodies!(submit_beside_step, Shipped),
    signature: "backend-still-holds",
    must_reach: &["unknown-sequence-reported", "completed"],
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
            script: Script {
                unknown_in_step: Some(0),
                ..Script::default()
            },
            origin: Origin::TICKET,
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
        match engine.held_by_backend() {
            0 => {}
            held => violation!("backend-still-holds", "{held} sequences"),
        }
        check_none_live(&*engine, "request-lost");
        if ended != [(id, Fate::Completed { generated: 1 })] {
            violation!("wrong-end", "of request {id}: {ended:?}");
        }
        reach("completed");
        format!("ended beside its submission: {beside}")
    })
}
