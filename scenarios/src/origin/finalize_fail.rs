//! The origin strikes a request off its books as the last thing it does with it. Before, it moves
//! the cache into new blocks, and if that fails the request stays for ever: its client waits,
//! and no drain can finish. It does fail: admission reserves the blocks of layer 0 alone, so
//! the pool runs out at the very end.
//!
//! Two requests, in a pool that has blocks for one; then one whose cache the backend does not
//! hand over. Each must end, and a drain after it come through.
//!
//! What ships reserves every layer's blocks at admission, and ends a request whose cache is not
//! to be had as it would have ended, without a cache.

use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::engine::OriginEngine;
use super::subject::{
    ALICE, BOB, Engine, Fate, Setup, Shipped, check_blocks, check_none_live, run,
};
use crate::bed::Script;
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-FINALIZE-FAIL",
    ticket: "agent-memory, extraction at the end",
    summary: "the cache cannot be extracted: the request never ends",
    source: concat!(
        include_str!("finalize_fail.rs"),
        include_str!("engine.rs"),
        include_str!("subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(as_reported),
    shipped: bodies!(shipped),
    signature: "stuck-after-finalize",
    must_reach: &["both-completed", "completed-without-cache"],
    // One thread has one order: shuttle would run it thousands of times.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

const LAYERS: u32 = 2;
const DONE: Fate = Fate::Completed { generated: 1 };

/// As reported.
fn as_reported<P: Platform>(_: &Cx) -> Observation {
    both_ways_to_fail::<OriginEngine<P>>()
}

/// The code that ships.
fn shipped<P: Platform>(_: &Cx) -> Observation {
    both_ways_to_fail::<Shipped<P>>()
}

fn both_ways_to_fail<E: Engine>() -> Observation {
    // Two blocks for each; layer 0 alone would have room for both.
    if ended_of::<E>(3, Script::default(), &[ALICE, BOB]) != [DONE, DONE] {
        violation!("wrong-end", "in a pool for one at a time");
    }
    reach("both-completed");
    let fails = Script {
        fail_extract: Some(0),
        ..Script::default()
    };
    if ended_of::<E>(4, fails, &[ALICE]) != [DONE] {
        violation!("wrong-end", "where the cache is not handed over");
    }
    reach("completed-without-cache");
    Observation::none()
}

/// How requests of these agents have ended.
fn ended_of<E: Engine>(blocks: u32, script: Script, agents: &[usize]) -> Vec<Fate> {
    let engine = E::new(Setup {
        layers: LAYERS,
        blocks,
        script,
        ..Setup::default()
    });
    for &who in agents {
        if let Err(refused) = engine.submit(who, &[1], 1) {
            violation!("submit-refused", "{refused:?}");
        }
    }
    let ended = run(&engine, 8);
    check_none_live(&engine, "stuck-after-finalize");
    if !engine.drain(1) {
        violation!("drain-timed-out", "with nothing in flight");
    }
    check_blocks(&engine, blocks, "blocks-leaked");
    ended.into_iter().map(|one| one.1).collect()
}
