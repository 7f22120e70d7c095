//! The origin keeps one set of blocks for each agent. A second request of an agent that has one
//! in flight writes its blocks over those of the first: nobody knows of these any more, and the
//! pool never gets them back.
//!
//! Two threads submit for the same agent. When all has ended and no cache is kept, every block
//! must be back.
//!
//! What ships has one request in flight for each agent, and says to the other that it is busy.

use selvedge_core::platform::{JoinHandle, Platform, Shared as _};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::engine::OriginEngine;
use super::subject::{
    ALICE, Engine, Fate, Refused, Setup, Shipped, check_blocks, check_none_live, run,
};
use crate::bed::in_rounds;
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-SAME-AGENT",
    ticket: "agent-memory, two requests of an agent",
    summary: "second request of an agent: the first one's blocks are forgotten",
    source: concat!(
        include_str!("same_agent.rs"),
        include_str!("engine.rs"),
        include_str!("subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(two_of_one_agent, OriginEngine),
    shipped: bodies!(two_of_one_agent, Shipped),
    signature: "reservation-leaked",
    must_reach: &["agent-busy", "completed"],
    // The twin fails in every order, and two engines try all of them on what ships: shuttle would
    // show nothing more.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

const BLOCKS: u32 = 6;

fn two_of_one_agent<P: Platform, E: Engine>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let engine = P::Arc::new(E::new(Setup {
            layers: 2,
            blocks: BLOCKS,
            ..Setup::default()
        }));
        let theirs = engine.clone();
        let other = P::spawn(move || theirs.submit(ALICE, &[1], 1));
        let mine = engine.submit(ALICE, &[2], 1);
        let both = [other.join(), mine];
        let ended = run(&*engine, 6);
        check_none_live(&*engine, "request-lost");
        for submitted in &both {
            match submitted {
                Ok(id) if ended.contains(&(*id, Fate::Completed { generated: 1 })) => {
                    reach("completed");
                }
                Err(Refused::AgentBusy) => reach("agent-busy"),
                other => violation!("wrong-end", "{other:?}: {ended:?}"),
            }
        }
        check_blocks(&*engine, BLOCKS, "reservation-leaked");
        format!("accepted: {:?}", both.map(|one| one.is_ok()))
    })
}
