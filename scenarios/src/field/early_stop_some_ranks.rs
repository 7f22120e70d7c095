//! Lightning#379: each rank looked at the metric of its own data to see whether to stop early.
//! Some stopped; the others went on into the next epoch, and waited for them in its first
//! all-reduce.
//!
//! Two ranks, two epochs. After the first, one finds that it is good enough, or both do. Both
//! must stop, or neither.
//!
//! What ships has no rank act on what it measured itself: it votes, and all act on the record.
//! Here they stop where a gate has let a seed pass, which takes the votes of all.

use selvedge_core::ddp::Rank;
use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::ranks::{Bug, Plan, run};
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
    must_reach: &["outvoted", "stopped-together"],
    // Not on real threads, which would hang.
    engines: &[
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// The code that ships.
fn all_vote<P: Platform>(cx: &Cx) -> Observation {
    stop_early::<P>(cx, None)
}

/// As reported.
fn own_metric<P: Platform>(cx: &Cx) -> Observation {
    stop_early::<P>(cx, Some(Bug::OwnVote))
}

fn stop_early<P: Platform>(cx: &Cx, bug: Option<Bug>) -> Observation {
    let all_for_it = cx.choose(2) == 1;
    // Loom comes to the end of two in half a minute, and that is where nobody stops. What goes
    // wrong does so in the second.
    let epochs = if P::NAME == "loom" && bug.is_none() && !all_for_it {
        1
    } else {
        2
    };
    let plan = Plan {
        epochs,
        passes: match all_for_it {
            true => |_, _| true,
            false => |rank, _| rank == Rank(0),
        },
        stops: true,
        bug,
        ..Plan::EVEN
    };
    for end in run::<P>(plan, None) {
        let voted_for = end.votes.iter().any(|vote| vote.2 == Some(true));
        match (all_for_it, end.stopped, end.records.len() as u64) {
            (true, true, 1) => reach("stopped-together"),
            (false, false, made) if made == epochs => {
                if voted_for {
                    reach("outvoted");
                }
            }
            _ => violation!("stopped-alone", "{end:?}"),
        }
    }
    Observation::none()
}
