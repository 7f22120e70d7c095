//! torchft, manager: local ranks vote on whether a step is to be committed. The request names
//! the step; the manager did not look at it (a comment beside the code said so). It had a set of
//! who had voted and a set of who was against. A vote whose call was given up stayed in them,
//! and was counted together with votes on another step.
//!
//! Two ranks vote on two steps. One gives up its first call, as a lost connection would, and
//! votes again. No decision may be made of votes on different things.
//!
//! What ships has view and epoch in each vote, and a record names the votes that it was made of.

use std::collections::BTreeMap;

use selvedge_core::ddp::{Ballot, Rank};
use selvedge_core::platform::{Condvar, JoinHandle, Mutex, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::ranks::{Plan, run};
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
    let plan = Plan {
        // It changes its mind between its first vote and its second.
        passes: |rank, nth| rank != Rank(0) || nth > 0,
        reconnects: Some(Rank(0)),
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

/// As reported.
struct Manager<P: Platform> {
    state: P::Mutex<State>,
    decided: P::Condvar,
}

#[derive(Default)]
struct State {
    /// By rank, what it votes on, which nobody looks at, and what it votes.
    votes: BTreeMap<u32, (u64, bool)>,
    decisions: u64,
}

impl<P: Platform> Manager<P> {
    /// Votes; how many decisions there were before.
    fn vote(&self, rank: u32, step: u64, is_for: bool) -> u64 {
        let mut state = self.state.lock();
        let before = state.decisions;
        state.votes.insert(rank, (step, is_for));
        if state.votes.len() == 2 {
            let steps = state.votes.values().map(|vote| vote.0);
            let (first, last) = (steps.clone().min(), steps.max());
            if first != last {
                violation!("votes-on-different-steps", "{:?}", state.votes);
            }
            state.votes.clear();
            state.decisions += 1;
            self.decided.notify_all();
        }
        before
    }

    fn wait(&self, before: u64) {
        let mut state = self.state.lock();
        while state.decisions == before {
            state = self.decided.wait(state);
        }
    }
}

fn counted_by_rank<P: Platform>(_: &Cx) -> Observation {
    let manager = P::Arc::new(Manager::<P> {
        state: P::Mutex::new(State::default()),
        decided: P::Condvar::new(),
    });
    let theirs = manager.clone();
    let other = P::spawn(move || {
        for step in 0..2 {
            let before = theirs.vote(1, step, true);
            theirs.wait(before);
        }
    });
    // Its first call is given up.
    manager.vote(0, 0, false);
    let before = manager.vote(0, 1, true);
    manager.wait(before);
    other.join();
    Observation::none()
}
