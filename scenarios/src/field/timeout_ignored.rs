//! DeepSpeed#4488: `monitored_barrier` takes a time-out. It called `barrier` underneath, which
//! takes none: the number was thrown away, and who counted on it waited for ever.
//!
//! One rank is at the end of the epoch and says for how long it would wait; the other is stuck
//! in the evaluation of its gates, until somebody looks after it, and nobody does before the
//! first has given up.
//!
//! What ships gives the time that has passed to the machine as an event. The coordinator leaves
//! behind whom it waits for, and the run goes on without it.

use selvedge_core::ddp::Rank;
use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::ranks::{Before, Plan, run};
use crate::registry::{Expect, Scenario, explorer, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "timeout-ignored",
    ticket: "DeepSpeed#4488",
    summary: "a barrier takes a time-out and waits without one",
    source: concat!(
        include_str!("timeout_ignored.rs"),
        include_str!("ranks.rs"),
        include_str!("ranks/collective.rs"),
        include_str!("ranks/life.rs"),
        include_str!("../slots.rs")
    ),
    twin: bodies!(time_is_thrown_away),
    shipped: bodies!(time_is_an_event),
    signature: "deadlock",
    must_reach: &["left-behind", "went-on"],
    // Not on real threads, which would hang; not under loom, where no time passes.
    engines: &[explorer(Expect::Finds), shuttle(Expect::Finds)],
};

/// The code that ships.
fn time_is_an_event<P: Platform>(_: &Cx) -> Observation {
    one_is_stuck::<P>(true)
}

/// As reported.
fn time_is_thrown_away<P: Platform>(_: &Cx) -> Observation {
    one_is_stuck::<P>(false)
}

fn one_is_stuck<P: Platform>(deadlines: bool) -> Observation {
    let plan = Plan {
        deadlines,
        stuck: Some((Rank(1), Before::Vote)),
        ..Plan::EVEN
    };
    let ends = run::<P>(
        plan,
        Some(|office| {
            office.wait_for_end(Rank(0));
            office.release();
        }),
    );
    let [well, stuck] = [0, 1].map(|rank| ends[rank].failure);
    match (well, stuck) {
        (None, Some(_)) => {
            reach("left-behind");
            reach("went-on");
        }
        // It was the punctual one who was taken for dead; the other had to go on alone, stuck
        // as it was.
        (Some(_), None) => reach("left-behind"),
        _ => violation!("wrong-end", "{ends:?}"),
    }
    Observation::of(format!("{well:?}, {stuck:?}"))
}
