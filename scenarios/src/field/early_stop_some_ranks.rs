//! Lightning#379: each rank looked at the metric of its own data to see whether to stop early.
//! Some stopped; the others went on into the next epoch, and waited for them in its first
//! all-reduce.
//!
//! Two ranks, two epochs. After the first, one finds that it is good enough, the other does not.
//!
//! What ships has no rank act on what it measured itself: it votes, and all act on the record.

use selvedge_core::ddp::Rank;
use selvedge_core::platform::{JoinHandle, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::ranks::collective::Unbounded;
use super::ranks::{Plan, run};
use crate::registry::{Expect, Scenario, explorer, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "early-stop-on-some",
    ticket: "Lightning#379",
    summary: "each rank stops early by its own metric",
    source: concat!(
        include_str!("early_stop_some_ranks.rs"),
        include_str!("ranks.rs"),
        include_str!("ranks/collective.rs"),
        include_str!("ranks/life.rs"),
        include_str!("../slots.rs")
    ),
    twin: bodies!(own_metric),
    shipped: bodies!(all_vote),
    signature: "deadlock",
    must_reach: &["outvoted"],
    // Not on real threads, which would hang.
    engines: &[
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const EPOCHS: u64 = 2;

fn is_good_enough(rank: Rank) -> bool {
    rank == Rank(0)
}

/// The code that ships.
fn all_vote<P: Platform>(_: &Cx) -> Observation {
    // Loom comes to the end of two in half a minute.
    let epochs = if P::NAME == "loom" { 1 } else { EPOCHS };
    let plan = Plan {
        epochs,
        passes: |rank, _| is_good_enough(rank),
        ..Plan::EVEN
    };
    let ends = run::<P>(plan, None);
    for end in &ends {
        let decided = |passed| {
            let mut decisions = end.records.iter().flat_map(|record| &record.decisions);
            decisions.any(|decision| decision.passed == passed)
        };
        let voted_for = end.votes.iter().any(|vote| vote.2 == Some(true));
        match (voted_for, decided(true), decided(false)) {
            (_, true, _) => violation!("minority", "not all were for it: {end:?}"),
            (true, false, true) => reach("outvoted"),
            _ => {}
        }
        if end.records.len() as u64 != epochs {
            violation!("stopped-alone", "{end:?}");
        }
    }
    Observation::none()
}

/// As reported.
fn own_metric<P: Platform>(_: &Cx) -> Observation {
    let collective = P::Arc::new(Unbounded::<P>::new(2));
    let ranks = [0, 1].map(|rank| {
        let collective = collective.clone();
        P::spawn(move || {
            for _ in 0..EPOCHS {
                collective.meet("step", rank, 1.0);
                if is_good_enough(Rank(rank)) {
                    break;
                }
            }
        })
    });
    for rank in ranks {
        rank.join();
    }
    Observation::none()
}
