//! nanochat PR 857: the learning rate is computed from how far the epoch has come, and how far
//! it has come from the rank's own loader. Loaders that pack short texts together get further,
//! so ranks step one model at different rates. Nobody waits and nothing fails.
//!
//! Two ranks with one batch an epoch and with two, for two epochs. In no step may two ranks use
//! different alphas.
//!
//! What ships takes alpha from the record that all have, and tags each contribution by it.

use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::ranks::{Bug, Plan, run};
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "drift-by-local-progress",
    ticket: "nanochat PR 857",
    summary: "a schedule by the progress of each rank's own loader",
    source: concat!(
        include_str!("drift_by_local_progress.rs"),
        include_str!("ranks.rs"),
        include_str!("ranks/collective.rs"),
        include_str!("ranks/life.rs"),
        include_str!("../slots.rs")
    ),
    twin: bodies!(own_progress),
    shipped: bodies!(by_the_record),
    signature: "two-alphas-in-a-step",
    must_reach: &["alpha-moved"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BATCHES: &[u64] = &[1, 2];
const EPOCHS: u64 = 2;

/// The code that ships.
fn by_the_record<P: Platform>(_: &Cx) -> Observation {
    uneven::<P>(None)
}

/// As reported.
fn own_progress<P: Platform>(_: &Cx) -> Observation {
    uneven::<P>(Some(Bug::OwnAlpha))
}

fn uneven<P: Platform>(bug: Option<Bug>) -> Observation {
    let plan = Plan {
        // Loom does not come to the end of two; the second begins all the same.
        epochs: if P::NAME == "loom" { 1 } else { EPOCHS },
        batches: BATCHES,
        bug,
        ..Plan::EVEN
    };
    let ends = run::<P>(plan, None);
    let steps = ends.iter().flat_map(|end| &end.alphas);
    for &(epoch, step, alpha) in steps.clone() {
        let mut same = steps.clone().filter(|s| (s.0, s.1) == (epoch, step));
        if let Some(other) = same.find(|other| other.2 != alpha) {
            violation!("two-alphas-in-a-step", "{alpha} and {} in {epoch}", other.2);
        }
        if steps.clone().any(|other| other.2 != alpha) {
            reach("alpha-moved");
        }
    }
    Observation::none()
}
