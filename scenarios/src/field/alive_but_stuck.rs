//! jax#38503: one host stalls in its step. Its heartbeats come from a thread of their own and
//! go on as if nothing were, so the coordination service finds all well; the others wait for it
//! in a collective for ever, at full load and without a word.
//!
//! Two ranks. One is stuck before its contribution to a step. Who watches over it hears its
//! heart and nothing else.
//!
//! What ships beats by the machine: a thread that is stuck in a step does not turn the machine,
//! and its silence is what the others are told.

use selvedge_core::ddp::Rank;
use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::ranks::{Before, Bug, Plan, run};
use crate::registry::{Expect, Scenario, explorer, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "alive-but-stuck",
    ticket: "jax#38503",
    summary: "a thread of its own beats for a rank that is stuck in a step",
    source: concat!(
        include_str!("alive_but_stuck.rs"),
        include_str!("ranks.rs"),
        include_str!("ranks/collective.rs"),
        include_str!("ranks/life.rs"),
        include_str!("../slots.rs")
    ),
    twin: bodies!(side_thread_beats),
    shipped: bodies!(machine_beats),
    signature: "deadlock",
    must_reach: &["heard", "silent", "left-behind"],
    // Not on real threads, which would hang; not under loom, where no time passes.
    engines: &[explorer(Expect::Finds), shuttle(Expect::Finds)],
};

/// The code that ships.
fn machine_beats<P: Platform>(_: &Cx) -> Observation {
    one_is_stuck::<P>(None)
}

/// As reported.
fn side_thread_beats<P: Platform>(_: &Cx) -> Observation {
    one_is_stuck::<P>(Some(Bug::BeatsAside))
}

fn one_is_stuck<P: Platform>(bug: Option<Bug>) -> Observation {
    let plan = Plan {
        beats: Some(Rank(1)),
        stuck: Some((Rank(1), Before::Step)),
        bug,
        ..Plan::EVEN
    };
    let ends = run::<P>(
        plan,
        Some(|office| {
            office.watch(Rank(1));
            office.wait_for_end(Rank(0));
            office.release();
        }),
    );
    let [well, stuck] = [0, 1].map(|rank| ends[rank].failure);
    match (well, stuck) {
        (None, Some(_)) => reach("left-behind"),
        _ => violation!("wrong-end", "{ends:?}"),
    }
    Observation::of(format!("{stuck:?}"))
}
