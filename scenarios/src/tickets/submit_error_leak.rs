//! Ticket SPRINT-2.5, issue 8: when the backend does not take a sequence in, `submit` frees the
//! blocks of layer 0, and of no other. With one layer nothing is lost; with 12, eleven of twelve
//! blocks are, at each failed insert.
//!
//! (In the code of that day admission reserved layer 0 alone, so the bug was asleep. The twin
//! reserves every layer, as the ticket supposes and a sound admission must.)
//!
//! The insert fails, with 1, with 12 and with 48 layers: the available blocks must be what they
//! were, and the next request must be served.
//!
//! What ships holds a request's blocks in one lease, which gives all of them back at once.

use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::Script;
use crate::origin::engine::OriginEngine;
use crate::origin::subject::{ALICE, Engine, Fate, Origin, Refused, Setup, Shipped, run};
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "submit-error-leak",
    ticket: "SPRINT-2.5 #8",
    summary: "insert fails: only the blocks of layer 0 are freed",
    source: concat!(
        include_str!("submit_error_leak.rs"),
        include_str!("../origin/engine.rs"),
        include_str!("../origin/subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(as_reported),
    shipped: bodies!(shipped),
    signature: "leaked-by-failed-insert",
    must_reach: &["1 layer", "12 layers", "48 layers", "served-after"],
    // One thread has one order: shuttle would run it thousands of times.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

/// As reported.
fn as_reported<P: Platform>(_: &Cx) -> Observation {
    insert_fails::<OriginEngine<P>>()
}

/// The code that ships.
fn shipped<P: Platform>(_: &Cx) -> Observation {
    insert_fails::<Shipped<P>>()
}

fn insert_fails<E: Engine>() -> Observation {
    for (layers, probe) in [(1, "1 layer"), (12, "12 layers"), (48, "48 layers")] {
        // A prompt of two blocks.
        insert_fails_with::<E>(layers, &[1, 2, 3, 4, 5]);
        reach(probe);
    }
    Observation::none()
}

fn insert_fails_with<E: Engine>(layers: u32, prompt: &[u32]) {
    // The origin of that day wants new blocks before it frees the old ones.
    let blocks = 4 * layers;
    let engine = E::new(Setup {
        layers,
        blocks,
        script: Script {
            fail_insert: Some(0),
            ..Script::default()
        },
        origin: Origin::TICKET,
        ..Setup::default()
    });
    match engine.submit(ALICE, prompt, 1) {
        Err(Refused::InsertFailed) => {}
        Ok(id) if run(&engine, 4) == [(id, Fate::Failed)] => {}
        other => violation!("wrong-end", "{other:?}"),
    }
    let available = engine.available();
    if available != blocks {
        violation!(
            "leaked-by-failed-insert",
            "{available} of {blocks} blocks are available, with {layers} layers"
        );
    }
    match engine.submit(ALICE, prompt, 1) {
        Ok(id) if run(&engine, 4) == [(id, Fate::Completed { generated: 1 })] => {
            reach("served-after");
        }
        other => violation!("not-served-after", "{other:?}"),
    }
}
