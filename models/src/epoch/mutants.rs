//! The protocol, broken on purpose, one way at a time. **The machines are not touched: a mutant
//! is a driver that forges a message or what is written down**, so that what ships has no switch.

use selvedge_core::ddp::{
    CoordinatorAction, CoordinatorEvent, CoordinatorSays, CoordinatorState, CoordinatorWait,
    Durable, Incarnation, Member, Rank, RankSays, RankWait, ToCoordinator, ToRank, View,
};

use super::EpochModel;
use super::drive::passes;
use super::world::{Coordinator, Node, World};
use crate::shared::Shared;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// Nothing.
    None,
    /// After a change of view each rank goes on from what it has itself.
    NoFlush,
    /// Who joins while others train is let in at once, in the view there is.
    MidEpochJoin,
    /// The coordinator keeps the number of its view in memory only.
    VolatileView,
    /// An epoch is decided when most members have arrived.
    MajorityCommit,
    /// Every rank's votes are replaced by what rank 0 thinks (the origin's gate sync).
    Rank0Decides,
    /// One vote of one rank is turned into its opposite.
    ForgedVote,
    /// A message is for a rank, whichever life of it (the first trap).
    AnyLifeTakesIt,
    /// Whoever is connected again is a member again, in the life it has (the second trap).
    HelloRejoins,
    /// A rank that has failed keeps its connection (the third trap).
    FailedStaysMember,
    /// Nobody looks at the view of an arrival.
    ArriveInAnyView,
    /// Nobody looks at the life of an arrival.
    ArriveOfAnyLife,
}

impl Mutant {
    /// All of them. The last two break nothing as long as a connection keeps the order of its
    /// messages and ends with either end of it, which is the network of this model; where a
    /// message of a former connection may come late, as in
    /// [`selvedge_sim::world`], the view of an arrival is needed.
    pub const ALL: [Mutant; 11] = [
        Mutant::NoFlush,
        Mutant::MidEpochJoin,
        Mutant::VolatileView,
        Mutant::MajorityCommit,
        Mutant::Rank0Decides,
        Mutant::ForgedVote,
        Mutant::AnyLifeTakesIt,
        Mutant::HelloRejoins,
        Mutant::FailedStaysMember,
        Mutant::ArriveInAnyView,
        Mutant::ArriveOfAnyLife,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mutant::None => "none",
            Mutant::NoFlush => "no-flush",
            Mutant::MidEpochJoin => "mid-epoch-join",
            Mutant::VolatileView => "volatile-view",
            Mutant::MajorityCommit => "majority-commit",
            Mutant::Rank0Decides => "rank-0-decides",
            Mutant::ForgedVote => "forged-vote",
            Mutant::AnyLifeTakesIt => "any-life-takes-it",
            Mutant::HelloRejoins => "hello-rejoins",
            Mutant::FailedStaysMember => "failed-stays-member",
            Mutant::ArriveInAnyView => "arrive-in-any-view",
            Mutant::ArriveOfAnyLife => "arrive-of-any-life",
        }
    }

    /// What is done with a message to the coordinator.
    pub(super) fn to_coordinator(
        self,
        model: &EpochModel,
        world: &mut World,
        from: Rank,
        mut message: ToCoordinator,
    ) {
        let durable = world.durable();
        let now = durable.view;
        let life = durable
            .members
            .iter()
            .find(|member| member.rank == from)
            .copied();
        match (self, &mut message.body) {
            (Mutant::ArriveInAnyView, RankSays::Arrive { view, .. }) => *view = now,
            (Mutant::Rank0Decides, RankSays::Arrive { votes, .. }) => {
                for vote in votes {
                    vote.passed = passes(Rank(0), vote.question);
                }
            }
            (Mutant::ForgedVote, RankSays::Arrive { votes, .. }) if from == Rank(1) => {
                if let Some(vote) = votes.first_mut() {
                    vote.passed = !vote.passed;
                }
            }
            (Mutant::ArriveOfAnyLife, RankSays::Arrive { .. }) => {
                if let Some(member) = life {
                    message.incarnation = member.incarnation;
                }
            }
            (Mutant::HelloRejoins, RankSays::Hello)
                if life.is_none()
                    && world.node(from).is_running()
                    && world.durable().record.epoch < model.run_config().last_epoch =>
            {
                return world.readmit(model, from, message.incarnation);
            }
            (Mutant::MidEpochJoin, RankSays::Join { .. }) if life.is_none() => {
                return world.admit_at_once(model, from, message);
            }
            _ => {}
        }
        let arrives = matches!(message.body, RankSays::Arrive { .. }).then(|| message.clone());
        world.tell_coordinator(CoordinatorEvent::Message { from, message });
        if let (Mutant::MajorityCommit, Some(arrival)) = (self, arrives) {
            world.arrive_for_the_rest(&arrival);
        }
    }

    /// What is done with a message to a rank.
    pub(super) fn to_rank(self, node: &Node, message: &mut ToRank) {
        match (self, &mut message.body) {
            (Mutant::AnyLifeTakesIt, _) => message.incarnation = node.state.incarnation(),
            (
                Mutant::NoFlush,
                CoordinatorSays::Resume {
                    applied,
                    boundary,
                    holders,
                    ..
                },
            ) => {
                if let Some(said) = node.said {
                    (*applied, *boundary) = (said.applied, said.boundary);
                    *holders = vec![node.state.rank()];
                }
            }
            _ => {}
        }
    }

    /// What is remembered of what a rank said.
    pub(super) fn said(self, node: &mut Node, message: &ToCoordinator) {
        if let (Mutant::NoFlush, RankSays::ViewAck { held, .. }) = (self, &message.body) {
            node.said = *held;
        }
    }

    /// What a crash of the coordinator loses.
    pub(super) fn forget(self, durable: &mut Durable) {
        if self == Mutant::VolatileView {
            durable.view = View(0);
        }
    }
}

impl World {
    /// Where most members have arrived: the others too, as far as the coordinator knows.
    fn arrive_for_the_rest(&mut self, arrival: &ToCoordinator) {
        let Coordinator::Up(state) = &self.coordinator else {
            return;
        };
        let Some(CoordinatorWait::Arrivals { .. }) = state.wait() else {
            return;
        };
        let (members, missing) = (state.durable().members.clone(), state.missing());
        if 2 * (members.len() - missing.len()) <= members.len() {
            return;
        }
        let missing = members.iter().filter(|m| missing.contains(&m.rank));
        for &Member { rank, incarnation } in missing {
            let message = ToCoordinator {
                incarnation,
                body: arrival.body.clone(),
            };
            let from = rank;
            self.tell_coordinator(CoordinatorEvent::Message { from, message });
        }
    }

    fn with_member(&self, rank: Rank, incarnation: Incarnation) -> Durable {
        let mut durable = self.durable().clone();
        let member = Member { rank, incarnation };
        for lives in [&mut durable.members, &mut durable.lives] {
            lives.retain(|life| life.rank != rank);
            lives.push(member);
            lives.sort_unstable();
        }
        durable
    }

    /// Makes a rank a member again in the life it has, by a change of view.
    fn readmit(&mut self, model: &EpochModel, rank: Rank, incarnation: Incarnation) {
        let durable = self.with_member(rank, incarnation);
        let mut out = Vec::new();
        if let Ok(state) = CoordinatorState::restore(model.run_config(), durable, &mut out) {
            self.coordinator = Coordinator::Up(Shared::new(state));
            self.do_coordinator(out);
            // A restart forgets who waits to join.
            self.reconnect(model, |state| state.wait() == Some(RankWait::Admission));
        }
    }

    /// Makes a rank a member in the view there is, and tells nobody but itself.
    fn admit_at_once(&mut self, model: &EpochModel, rank: Rank, joins: ToCoordinator) {
        let incarnation = joins.incarnation;
        let mut durable = self.with_member(rank, incarnation);
        let record = durable.record.clone();
        let training = matches!(&self.coordinator,
            Coordinator::Up(state) if state.wait().is_none() && !state.is_over());
        if !training || durable.view == View(0) {
            let (from, message) = (rank, joins);
            return self.tell_coordinator(CoordinatorEvent::Message { from, message });
        }
        let view = durable.view;
        durable.view = View(view.0 - 1);
        let mut out = Vec::new();
        let Ok(mut state) = CoordinatorState::restore(model.run_config(), durable, &mut out) else {
            return;
        };
        // It resumes at once, as if all had answered.
        let members = state.durable().members.clone();
        for member in &members {
            let held = selvedge_core::ddp::Held {
                record: Some(record.digest()),
                applied: record.applied,
                boundary: false,
            };
            let message = ToCoordinator {
                incarnation: member.incarnation,
                body: RankSays::ViewAck {
                    view,
                    held: Some(held),
                },
            };
            let from = member.rank;
            state.on(CoordinatorEvent::Message { from, message }, &mut Vec::new());
        }
        let commit = ToRank {
            incarnation,
            body: CoordinatorSays::Commit {
                view,
                members: members.iter().map(|member| member.rank).collect(),
                record,
                holders: members
                    .iter()
                    .map(|member| member.rank)
                    .filter(|&r| r != rank)
                    .collect(),
            },
        };
        self.coordinator = Coordinator::Up(Shared::new(state));
        let send = CoordinatorAction::Send {
            to: rank,
            message: commit,
        };
        self.do_coordinator(vec![send]);
    }
}
