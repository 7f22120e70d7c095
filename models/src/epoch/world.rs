//! The state that is explored: the machines, what is under way between them, the ghosts.

use std::collections::VecDeque;

use selvedge_core::ddp::{
    Contribution, CoordinatorState, Durable, Epoch, Held, Incarnation, Member, Rank, RankState,
    Reduced, RunConfig, RunId, ToCoordinator, ToRank, View,
};
use selvedge_core::pool::InvariantViolation;
use smallvec::{SmallVec, smallvec};

use super::{Action, EpochModel, Faults};
use crate::shared::Shared;

/// A property that was broken in the step just made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// A rank applied a record other than the one decided, or one was decided twice.
    Agreement,
    /// A collective added up what does not belong together.
    NoMix,
    /// An epoch or a view went back.
    Monotone,
    /// Two ranks in one epoch have different schedules, so they ask different questions.
    GateSymmetry,
    /// A decision is not what the declared reduction makes of its voters' votes.
    VoteLost,
    /// A rank took what was meant for another life of it.
    Identity,
    /// A machine reported damage where there is none.
    FalseAlarm,
}

/// The run at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub(super) nodes: SmallVec<[Shared<Node>; 4]>,
    pub(super) coordinator: Coordinator,
    /// Ends of lives that the coordinator has not noticed.
    pub(super) unnoticed: VecDeque<Member>,
    /// What was decided, by epoch: digests of records.
    pub(super) log: SmallVec<[u64; 4]>,
    pub(super) left: Faults,
    pub(super) broken: Option<Broken>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Coordinator {
    Up(Shared<CoordinatorState>),
    /// What is written down.
    Down(Shared<Durable>),
}

/// Messages under way, the oldest first: there are few at a time.
pub(super) type Queue<T> = SmallVec<[Shared<T>; 3]>;

/// A rank, and what is under way from and to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) state: Shared<RankState>,
    /// Its process is there. It ends when it is killed, and when the rank fails.
    pub(super) alive: bool,
    /// Ghost: the parameters, as a digest of the steps that made them.
    pub(super) parameters: u64,
    pub(super) to_coordinator: Queue<ToCoordinator>,
    pub(super) to_rank: Queue<ToRank>,
    /// What it last gave to a collective, while anybody may need it.
    pub(super) given: Option<Shared<Given>>,
    /// A result that it has not got yet.
    pub(super) result: Option<Shared<StepResult>>,
    /// What it is to copy.
    pub(super) heal: Option<Shared<Heal>>,
    /// What it said it has when it left its last view; kept for the mutant that needs it only.
    pub(super) said: Option<Held>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Given {
    pub(super) view: View,
    pub(super) seq: u64,
    pub(super) contribution: Contribution,
    pub(super) members: Vec<Rank>,
    pub(super) parameters: u64,
    /// Its rank has the result, or never will.
    pub(super) served: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct StepResult {
    pub(super) view: View,
    pub(super) seq: u64,
    pub(super) reduced: Reduced,
    pub(super) members: Vec<Rank>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Heal {
    pub(super) view: View,
    pub(super) applied: u64,
    pub(super) holders: Vec<Rank>,
}

impl EpochModel {
    pub(super) fn run_config(&self) -> RunConfig {
        RunConfig {
            run: World::RUN,
            world: u32::from(self.ranks),
            min_world: u32::from(self.min_world),
            last_epoch: Epoch(u64::from(self.epochs)),
        }
    }
}

impl World {
    const RUN: RunId = RunId(7);

    /// All ranks have joined, in order, and are in their first step: how a run is formed is no
    /// part of the search.
    pub(super) fn formed(model: &EpochModel) -> World {
        let genesis = model.begin.record(Self::RUN, model.epochs);
        let log = smallvec![genesis.digest()];
        let coordinator = CoordinatorState::new(model.run_config(), genesis)
            .expect("INVARIANT: the model has ranks and epochs");
        let mut world = World {
            nodes: SmallVec::new(),
            coordinator: Coordinator::Up(Shared::new(coordinator)),
            unnoticed: VecDeque::new(),
            log,
            left: model.faults,
            broken: None,
        };
        for rank in 0..model.ranks {
            let mut out = Vec::new();
            let rank = Rank(u32::from(rank));
            let config = model.rank_config(rank);
            let state = RankState::start(config, Incarnation(1), None, &mut out);
            world.nodes.push(Shared::new(Node {
                state: Shared::new(state),
                alive: true,
                parameters: 0,
                to_coordinator: Queue::new(),
                to_rank: Queue::new(),
                given: None,
                result: None,
                heal: None,
                said: None,
            }));
            world.do_rank(model, rank, out);
        }
        let ranks: Vec<Rank> = world.ranks().collect();
        for deliver in [Action::ToCoordinator, Action::ToRank] {
            for &rank in &ranks {
                world.step(model, deliver(rank));
            }
        }
        world
    }

    pub(super) fn ranks(&self) -> impl Iterator<Item = Rank> + use<> {
        (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).map(Rank)
    }

    pub(super) fn node(&self, rank: Rank) -> &Node {
        &self.nodes[rank.0 as usize]
    }

    pub(super) fn node_mut(&mut self, rank: Rank) -> &mut Node {
        self.nodes[rank.0 as usize].make_mut()
    }

    pub(super) fn durable(&self) -> &Durable {
        match &self.coordinator {
            Coordinator::Up(state) => state.durable(),
            Coordinator::Down(durable) => durable,
        }
    }

    /// Whether every live rank is done. One that has failed lives no more: its process ends.
    pub(super) fn all_ended(&self) -> bool {
        self.nodes.iter().all(|node| !node.is_running())
    }

    pub(super) fn makes_progress(&self) -> bool {
        let mut goes_on = false;
        self.progress(|action| {
            goes_on |= match action {
                Action::StepDone(rank) => self.gets_result(rank),
                _ => true,
            };
        });
        goes_on
    }

    /// Whether a rank gets a result of its collective for sure: if all who gave to it are still
    /// there. Else it may, and may as well never.
    pub(super) fn gets_result(&self, rank: Rank) -> bool {
        self.node(rank).result.as_ref().is_some_and(|result| {
            let there = |member: &Rank| {
                let node = self.node(*member);
                node.is_running() && node.state.view() == result.view
            };
            result.members.iter().all(there)
        })
    }

    pub(super) fn validate(&self) -> Result<(), InvariantViolation> {
        for node in self.nodes.iter().filter(|node| node.alive) {
            node.state.validate()?;
        }
        match &self.coordinator {
            Coordinator::Up(state) => state.validate(),
            Coordinator::Down(_) => Ok(()),
        }
    }

    /// Notes what is broken; the first thing that is.
    pub(super) fn break_if(&mut self, is: bool, broken: Broken) {
        if is && self.broken.is_none() {
            self.broken = Some(broken);
        }
    }
}

impl Node {
    /// Whether it is alive and its run is not over.
    pub(super) fn is_running(&self) -> bool {
        self.alive && !self.state.is_done()
    }

    pub(super) fn member(&self) -> Member {
        Member {
            rank: self.state.rank(),
            incarnation: self.state.incarnation(),
        }
    }
}
