//! A request of an agent that has a cache takes the data out of the cache's blocks before it is
//! inserted. When the insert fails, the origin leaves it at that: the blocks are still the
//! agent's, and empty. The next look at them raises an error of validation, and the work of
//! the turns before is lost.
//!
//! A first turn leaves a cache; the insert of the second fails. The third must start from what
//! the first has left.
//!
//! What ships lends the cache to the insert, which takes it out only if it succeeds; else it is
//! the agent's again.

use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::engine::OriginEngine;
use super::subject::{ALICE, Engine, Fate, Refused, Setup, Shipped, check_blocks, run};
use crate::bed::Script;
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-CACHED-INSERT-FAIL",
    ticket: "agent-memory, insert with a cache",
    summary: "insert with a cache fails: the cache is left empty",
    source: concat!(
        include_str!("cached_insert_fail.rs"),
        include_str!("engine.rs"),
        include_str!("subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(as_reported),
    shipped: bodies!(shipped),
    signature: "cache-emptied-by-failed-insert",
    must_reach: &["failed", "cache-kept", "completed"],
    // One thread has one order: shuttle would run it thousands of times.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

const BLOCKS: u32 = 8;
/// Two turns of a conversation, the second begins with the first.
const FIRST: [u32; 5] = [1, 2, 3, 4, 5];
const SECOND: [u32; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];
const DONE: Fate = Fate::Completed { generated: 1 };

/// As reported.
fn as_reported<P: Platform>(_: &Cx) -> Observation {
    second_insert_fails::<OriginEngine<P>>()
}

/// The code that ships.
fn shipped<P: Platform>(_: &Cx) -> Observation {
    second_insert_fails::<Shipped<P>>()
}

fn second_insert_fails<E: Engine>() -> Observation {
    let engine = E::new(Setup {
        layers: 2,
        blocks: BLOCKS,
        script: Script {
            fail_insert: Some(1),
            ..Script::default()
        },
        ..Setup::default()
    });
    let turn = |prompt: &[u32]| match engine.submit(ALICE, prompt, 1) {
        Ok(id) => (run(&engine, 4).into_iter())
            .find(|ended| ended.0 == id)
            .map(|ended| ended.1),
        Err(Refused::InsertFailed) => Some(Fate::Failed),
        Err(other) => violation!("submit-refused", "{other:?}"),
    };
    if turn(&FIRST) != Some(DONE) {
        violation!("wrong-end", "of the first turn");
    }
    let before = engine.cached(ALICE);
    if turn(&SECOND) != Some(Fate::Failed) {
        violation!("wrong-end", "of the second turn");
    }
    reach("failed");
    let after = engine.cached(ALICE);
    if before != after || after == Ok(0) {
        violation!(
            "cache-emptied-by-failed-insert",
            "before {before:?}, after {after:?}"
        );
    }
    reach("cache-kept");
    if turn(&SECOND) != Some(DONE) {
        violation!("wrong-end", "of the third turn");
    }
    reach("completed");
    check_blocks(&engine, BLOCKS, "blocks-leaked");
    Observation::none()
}
