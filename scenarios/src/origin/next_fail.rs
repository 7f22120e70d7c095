//! When a step of the model fails, the origin drops the backend and raises. The requests stay in
//! the books with all their blocks, with no backend that could ever end them: the engine says
//! that it has nothing to do, and every drain times out.
//!
//! The first step fails; meanwhile another thread submits. Every request that was accepted must
//! be told that it failed, and every block come back.
//!
//! What ships dies of a failed step, once and for good: it fails what is pending, gives up every
//! block, and refuses whoever comes later.

use selvedge_core::platform::{JoinHandle, Platform, Shared as _};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::engine::OriginEngine;
use super::subject::{
    ALICE, BOB, CAROL, Engine, Fate, Refused, Setup, Shipped, check_blocks, check_none_live, run,
};
use crate::bed::{Script, in_rounds};
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-NEXT-FAIL",
    ticket: "agent-memory, error of a step",
    summary: "a step fails: requests and blocks are stranded",
    source: concat!(
        include_str!("next_fail.rs"),
        include_str!("engine.rs"),
        include_str!("subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(submit_beside_failure, OriginEngine),
    shipped: bodies!(submit_beside_failure, Shipped),
    signature: "stranded",
    must_reach: &["failed", "refused-when-dead"],
    // The twin fails in every order, and two engines try all of them on what ships: shuttle would
    // show nothing more.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

const BLOCKS: u32 = 4;

fn submit_beside_failure<P: Platform, E: Engine>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let engine = P::Arc::new(E::new(Setup {
            layers: 1,
            blocks: BLOCKS,
            script: Script {
                fail_step: Some(0),
                ..Script::default()
            },
            ..Setup::default()
        }));
        let mut accepted: Vec<_> = engine.submit(ALICE, &[1], 2).into_iter().collect();
        let theirs = engine.clone();
        let client = P::spawn(move || theirs.submit(BOB, &[2], 2));
        let mut ended = engine.step();
        let beside = client.join();
        match &beside {
            Ok(id) => accepted.push(*id),
            Err(Refused::Closed) => {}
            Err(other) => violation!("wrong-error", "{other:?}"),
        }
        ended.extend(run(&*engine, 6));
        check_none_live(&*engine, "stranded");
        for id in accepted {
            match ended.iter().filter(|one| one.0 == id).collect::<Vec<_>>()[..] {
                [(_, Fate::Failed)] => reach("failed"),
                ref other => violation!("wrong-end", "of request {id}: {other:?}"),
            }
        }
        check_blocks(&*engine, BLOCKS, "blocks-stranded");
        match engine.submit(CAROL, &[3], 1) {
            Err(Refused::Closed) => reach("refused-when-dead"),
            other => violation!("alive-after-death", "{other:?}"),
        }
        format!("accepted beside it: {}", beside.is_ok())
    })
}
