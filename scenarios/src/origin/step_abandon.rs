//! The origin's `step` is a lazy generator: a step of the model is made, and what has ended in it
//! is dealt with one by one, as the caller asks for the next. A caller that has what it wants
//! walks away, as the origin's own did. Whoever finished in the same step is never dealt with:
//! the backend has forgotten it, and its request never ends.
//!
//! Three requests finish in one step, and the caller wants the first.
//!
//! What ships does all of it before it returns, and returns a list.

use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::engine::OriginEngine;
use super::subject::{
    ALICE, BOB, CAROL, Engine, Setup, Shipped, check_blocks, check_none_live, run,
};
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-STEP-ABANDON",
    ticket: "agent-memory, run_step_for_uid",
    summary: "lazy step abandoned half-way: who finished with it is lost",
    source: concat!(
        include_str!("step_abandon.rs"),
        include_str!("engine.rs"),
        include_str!("subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(as_reported),
    shipped: bodies!(shipped),
    signature: "co-finished-lost",
    must_reach: &["all-ended"],
    // One thread has one order: shuttle would run it thousands of times.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

const BLOCKS: u32 = 6;

/// As reported.
fn as_reported<P: Platform>(_: &Cx) -> Observation {
    three_finish_at_once::<OriginEngine<P>>()
}

/// The code that ships.
fn shipped<P: Platform>(_: &Cx) -> Observation {
    three_finish_at_once::<Shipped<P>>()
}

fn three_finish_at_once<E: Engine>() -> Observation {
    let engine = E::new(Setup {
        layers: 1,
        blocks: BLOCKS,
        ..Setup::default()
    });
    let ids = [ALICE, BOB, CAROL].map(|who| match engine.submit(who, &[1], 2) {
        Ok(id) => id,
        Err(refused) => violation!("submit-refused", "{refused:?}"),
    });
    engine.run_for(ids[0]);
    run(&engine, 6);
    check_none_live(&engine, "co-finished-lost");
    reach("all-ended");
    check_blocks(&engine, BLOCKS, "blocks-lost");
    Observation::none()
}
