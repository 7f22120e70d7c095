//! torchft, manager: local ranks vote on whether a step is to be committed. The request names
//! the step; the manager did not look at it (a comment beside the code said so). It had a set of
//! who had voted and a set of who was against. A vote whose call was given up stayed in them,
//! and was counted together with votes on another step.
//!
//! Two ranks vote. One loses its connection after its vote, and votes again in the view that
//! comes of it. No decision may be made of votes on different things. The twin's coordinator is
//! handed what it was told before, by rank, as if it were of now.
//!
//! What ships has view and epoch in each vote, and a record names the votes that it was made of.

use selvedge_core::ddp::{Ballot, Rank};
use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::ranks::{Bug, Plan, run};
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "votes-without-step",
    ticket: "torchft manager, should_commit",
    summary: "votes are counted without looking at which step they are on",
    source: concat!(
        include_str!("votes_without_step.rs"),
        include_str!("ranks.rs"),
        include_str!("ranks/collective.rs"),
        include_str!("ranks/life.rs"),
        include_str!("../slots.rs")
    ),
    twin: bodies!(counted_by_rank),
    shipped: bodies!(counted_by_view_and_epoch),
    signature: "votes-on-different-steps",
    must_reach: &["voted-again"],
    // Not under loom, which does not come to the end of a change of view.
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// The code that ships.
fn counted_by_view_and_epoch<P: Platform>(_: &Cx) -> Observation {
    one_votes_again::<P>(None)
}

/// As reported.
fn counted_by_rank<P: Platform>(_: &Cx) -> Observation {
    one_votes_again::<P>(Some(Bug::VotesByRank))
}

fn one_votes_again<P: Platform>(bug: Option<Bug>) -> Observation {
    let plan = Plan {
        // It changes its mind between its first vote and its second.
        passes: |rank, nth| rank != Rank(0) || nth > 0,
        reconnects: Some(Rank(0)),
        bug,
        ..Plan::EVEN
    };
    let ends = run::<P>(plan, None);
    for end in &ends {
        for record in &end.records {
            let votes = end.votes.iter().filter(|vote| vote.1 == record.epoch);
            if votes.clone().count() > 1 {
                reach("voted-again");
            }
            let mut in_view = votes.filter(|vote| vote.0 == record.view);
            let given = in_view.next_back().and_then(|vote| vote.2);
            let of = |ballot: &&Ballot| ballot.voter == end.rank;
            let ballot = record.ballots.iter().find(of);
            let counted = ballot.and_then(|ballot| ballot.votes.first());
            if counted.map(|vote| vote.passed) != given {
                violation!(
                    "votes-on-different-steps",
                    "{} said {given:?} in {:?}, and {counted:?} was counted",
                    end.rank,
                    record.view
                );
            }
        }
    }
    Observation::none()
}
