//! Lightning#20404, DeepSpeed#2223, horovod#3980: the ranks' loaders have not the same number of
//! batches. Whose loader is exhausted is at the end of its epoch; the others wait for it in the
//! all-reduce of one more step.
//!
//! Two ranks with one batch and with two.
//!
//! What ships tells with each step whether anybody has more. Whose loader is exhausted goes on
//! with zeros until nobody has.

use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, bodies, violation};

use super::ranks::{Bug, Plan, run};
use crate::registry::{Expect, Scenario, explorer, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "uneven-loaders",
    ticket: "Lightning#20404, DeepSpeed#2223, horovod#3980",
    summary: "a loader is exhausted before the others, who wait for its rank",
    source: concat!(
        include_str!("uneven_loaders.rs"),
        include_str!("ranks.rs"),
        include_str!("ranks/collective.rs"),
        include_str!("ranks/life.rs"),
        include_str!("../slots.rs")
    ),
    twin: bodies!(step_for_a_batch),
    shipped: bodies!(step_while_any_has),
    signature: "deadlock",
    must_reach: &["shadowed"],
    // Not on real threads, which would hang.
    engines: &[
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BATCHES: &[u64] = &[1, 2];

/// The code that ships.
fn step_while_any_has<P: Platform>(_: &Cx) -> Observation {
    uneven::<P>(None)
}

/// As reported.
fn step_for_a_batch<P: Platform>(_: &Cx) -> Observation {
    uneven::<P>(Some(Bug::OwnLoader))
}

fn uneven<P: Platform>(bug: Option<Bug>) -> Observation {
    let plan = Plan {
        batches: BATCHES,
        bug,
        ..Plan::EVEN
    };
    for end in run::<P>(plan, None) {
        match end.records.last() {
            Some(record) if record.applied == 2 => {}
            _ => violation!("steps-lost", "two were there to be made: {end:?}"),
        }
    }
    Observation::none()
}
