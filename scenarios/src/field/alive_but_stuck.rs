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
use selvedge_core::platform::{Condvar, JoinHandle, Mutex, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::ranks::collective::Unbounded;
use super::ranks::{Before, Plan, run};
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
    must_reach: &["silent", "left-behind"],
    // Not on real threads, which would hang; not under loom, where no time passes.
    engines: &[explorer(Expect::Finds), shuttle(Expect::Finds)],
};

/// The code that ships.
fn machine_beats<P: Platform>(_: &Cx) -> Observation {
    let plan = Plan {
        beats: Some(Rank(1)),
        stuck: Some((Rank(1), Before::Step)),
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

/// How often the watch looks before it takes the run for well.
const LOOKS: u32 = 2;

struct Host<P: Platform> {
    collective: Unbounded<P>,
    state: P::Mutex<State>,
    changed: P::Condvar,
}

#[derive(Default)]
struct State {
    beats: u32,
    released: bool,
}

/// As reported.
fn side_thread_beats<P: Platform>(_: &Cx) -> Observation {
    let host = P::Arc::new(Host::<P> {
        collective: Unbounded::new(2),
        state: P::Mutex::new(State::default()),
        changed: P::Condvar::new(),
    });
    let theirs = host.clone();
    let stuck = P::spawn(move || {
        // The thread that only beats; what it beats for comes after it, once released.
        let ours = theirs.clone();
        let heart = P::spawn(move || {
            for _ in 0..LOOKS {
                ours.state.lock().beats += 1;
                ours.changed.notify_all();
            }
        });
        let mut state = theirs.state.lock();
        while !state.released {
            state = theirs.changed.wait(state);
        }
        drop(state);
        theirs.collective.meet("step", 1, 1.0);
        heart.join();
    });
    let theirs = host.clone();
    let well = P::spawn(move || theirs.collective.meet("step", 0, 1.0));
    let mut state = host.state.lock();
    while state.beats < LOOKS {
        state = host.changed.wait(state);
    }
    drop(state);
    // Its heart beats: there is nothing to do but wait for the run.
    well.join();
    host.state.lock().released = true;
    host.changed.notify_all();
    stuck.join();
    Observation::none()
}
