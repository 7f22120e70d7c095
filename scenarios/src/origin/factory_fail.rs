//! The origin makes its backend when the first request comes, after it has reserved the blocks
//! and outside the `try` that would free them. Each attempt to load a model that does not load
//! costs a request's blocks, until none is left.
//!
//! The first attempt fails. The available blocks must be what they were, and the second
//! attempt must succeed.
//!
//! What ships is given its backend made. One that loads its model at the first insert fails that
//! insert, which fails the one request.

use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::engine::OriginEngine;
use super::subject::{
    ALICE, Engine, Fate, Refused, Setup, Shipped, check_blocks, check_none_live, run,
};
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-FACTORY-FAIL",
    ticket: "agent-memory, lazy creation of the backend",
    summary: "the backend cannot be made: the request's blocks are leaked",
    source: concat!(
        include_str!("factory_fail.rs"),
        include_str!("engine.rs"),
        include_str!("subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(as_reported),
    shipped: bodies!(shipped),
    signature: "leaked-by-factory",
    must_reach: &["failed-to-load", "completed"],
    // One thread has one order: shuttle would run it thousands of times.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

const BLOCKS: u32 = 4;

/// As reported.
fn as_reported<P: Platform>(_: &Cx) -> Observation {
    first_attempt_fails::<OriginEngine<P>>()
}

/// The code that ships.
fn shipped<P: Platform>(_: &Cx) -> Observation {
    first_attempt_fails::<Shipped<P>>()
}

fn first_attempt_fails<E: Engine>() -> Observation {
    let engine = E::new(Setup {
        layers: 2,
        blocks: BLOCKS,
        factory_fails: 1,
        ..Setup::default()
    });
    match engine.submit(ALICE, &[1], 1) {
        Err(Refused::Other(_)) => {}
        Ok(id) if run(&engine, 4) == [(id, Fate::Failed)] => reach("failed-to-load"),
        other => violation!("wrong-end", "{other:?}"),
    }
    check_none_live(&engine, "request-lost");
    // There is no cache either that could hold any.
    match engine.available() {
        BLOCKS => {}
        some => violation!("leaked-by-factory", "{some} of {BLOCKS} available"),
    }
    match engine.submit(ALICE, &[1], 1) {
        Ok(id) if run(&engine, 4) == [(id, Fate::Completed { generated: 1 })] => {
            reach("completed");
        }
        other => violation!("not-recovered", "{other:?}"),
    }
    check_blocks(&engine, BLOCKS, "leaked-after-recovery");
    Observation::none()
}
