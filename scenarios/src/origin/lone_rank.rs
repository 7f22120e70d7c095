//! A run of one rank, by the machines that ship. Its driver does what they say, one thing that
//! takes time after the other, and keeps with the rank's checkpoint what is a driver's to keep:
//! the parameters. For the scenarios about going back to a snapshot.

use std::collections::VecDeque;

use selvedge_core::ddp::{
    CommitRecord, CoordinatorAction, CoordinatorEvent, CoordinatorState, Epoch, Incarnation, Rank,
    RankAction, RankCheckpoint, RankConfig, RankEvent, RankState, Reduced, RunConfig, RunId,
    SeedId, SeedSlot, SeedStage, SlotCommand,
};
use selvedge_sim::{reach, violation};

use crate::slots::{schedule_of, votes};

const RUN: RunId = RunId(1);
const RANK: Rank = Rank(0);
/// More than there are.
const LAST_EPOCH: Epoch = Epoch(9);

/// The rank and its coordinator, which are never apart.
pub(super) struct LoneRank {
    coordinator: CoordinatorState,
    state: RankState,
    life: Incarnation,
    /// The step or vote that is to be made next.
    next: Option<RankAction>,
    model: Model,
    /// With the steps that its parameters are of.
    stored: Option<(RankCheckpoint, u64)>,
}

/// What a driver has in its memory.
#[derive(Debug, Default)]
struct Model {
    /// How many steps were applied to the parameters.
    steps: u64,
    /// The seeds in the network.
    seeds: Vec<SeedId>,
}

impl LoneRank {
    /// At its first step, with a snapshot of that.
    pub(super) fn new(slot: SeedSlot) -> Self {
        let genesis = CommitRecord::genesis(RUN, Epoch(0), 0, schedule_of([slot]));
        let mut rank = Self::begin(genesis, None, Incarnation(1), Model::default());
        rank.snapshot();
        rank
    }

    fn begin(
        from: CommitRecord,
        checkpoint: Option<RankCheckpoint>,
        life: Incarnation,
        model: Model,
    ) -> Self {
        let run = RunConfig {
            run: RUN,
            world: 1,
            min_world: 1,
            last_epoch: LAST_EPOCH,
        };
        let coordinator = CoordinatorState::new(run, from)
            .unwrap_or_else(|refused| violation!("bad-configuration", "{refused}"));
        let config = RankConfig {
            run: RUN,
            rank: RANK,
            last_epoch: LAST_EPOCH,
        };
        let mut actions = Vec::new();
        let mut rank = LoneRank {
            coordinator,
            state: RankState::start(config, life, checkpoint, &mut actions),
            life,
            next: None,
            model,
            stored: None,
        };
        rank.perform(actions);
        rank
    }

    fn on(&mut self, event: RankEvent) {
        let mut actions = Vec::new();
        self.state.on(event, &mut actions);
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<RankAction>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                RankAction::Send(message) => {
                    let said = CoordinatorEvent::Message {
                        from: RANK,
                        message,
                    };
                    let mut answers = Vec::new();
                    self.coordinator.on(said, &mut answers);
                    for answer in answers {
                        if let CoordinatorAction::Send { message, .. } = answer {
                            let mut more = Vec::new();
                            self.state.on(RankEvent::Message(message), &mut more);
                            actions.extend(more);
                        }
                    }
                }
                RankAction::Contribute { .. } | RankAction::Vote { .. } => self.next = Some(action),
                RankAction::ApplyStep { .. } => self.model.steps += 1,
                RankAction::ApplyEpoch(record) => {
                    let slots = record.schedule.slots().iter();
                    self.model.seeds = slots.filter_map(SeedSlot::seed).collect();
                }
                RankAction::Heal { applied, .. } => {
                    violation!("lost-parameters", "{applied} are wanted: {:?}", self.model)
                }
                RankAction::Fail(failure) => violation!("wrong-end", "{failure}"),
                RankAction::EnterView { .. } | RankAction::LeaveView(_) | RankAction::Finish => {}
            }
        }
    }

    /// What a policy wants, which is to be in the next record.
    pub(super) fn command(&mut self, command: SlotCommand) {
        let command = CoordinatorEvent::Command(command);
        self.coordinator.on(command, &mut Vec::new());
    }

    /// The epoch's only step, and a snapshot that comes too late for the epoch.
    pub(super) fn step(&mut self) {
        let Some(RankAction::Contribute { tag, .. }) = self.next.take() else {
            violation!("no-step", "it is to step: {:?}", self.state);
        };
        let reduced = Reduced {
            tags_equal: true,
            active: 1,
            more: false,
        };
        self.on(RankEvent::StepDone {
            view: tag.view,
            seq: tag.seq,
            reduced,
        });
        // A driver may ask at any time. These parameters are of no record's version.
        self.snapshot();
    }

    /// The vote after it, for whatever is asked, and the record.
    pub(super) fn vote(&mut self) {
        let Some(RankAction::Vote { view, epoch }) = self.next.take() else {
            violation!("no-vote", "it is to vote: {:?}", self.state);
        };
        let asked = self.state.record().map(|record| &record.schedule);
        let votes = asked.map_or(Vec::new(), |asked| votes(asked, true));
        self.on(RankEvent::Voted { view, epoch, votes });
    }

    /// Stores the checkpoint and the parameters, where there is a checkpoint now; else the one
    /// before stays.
    pub(super) fn snapshot(&mut self) {
        match self.state.checkpoint() {
            Some(checkpoint) => self.stored = Some((checkpoint, self.model.steps)),
            None => reach("not-now"),
        }
    }

    /// As after all of the run was stopped: another life begins from what was stored. The network
    /// is built as it was just now, and told what to be by the machine alone.
    pub(super) fn roll_back(&mut self) {
        let Some((checkpoint, steps)) = self.stored.clone() else {
            violation!("nothing-stored", "it was at the start of an epoch");
        };
        let record = &checkpoint.record;
        let genesis =
            CommitRecord::genesis(RUN, record.epoch, record.applied, record.schedule.clone());
        // All begin from one record, made one of the new run; whose checkpoint is of another has
        // other parameters.
        let checkpoint = RankCheckpoint {
            record: genesis.clone(),
        };
        let model = Model {
            steps,
            seeds: std::mem::take(&mut self.model.seeds),
        };
        let life = Incarnation(self.life.0 + 1);
        *self = Self::begin(genesis, Some(checkpoint), life, model);
    }

    /// By the books.
    pub(super) fn stage(&self) -> SeedStage {
        match self.state.record() {
            Some(record) => record.schedule.slots()[0].stage(),
            None => violation!("no-record", "it was admitted"),
        }
    }

    /// The version of the parameters.
    pub(super) fn steps(&self) -> u64 {
        let steps = self.model.steps;
        if self.state.applied() != steps {
            let books = self.state.applied();
            violation!("incoherent-rollback", "{steps} steps, {books} by the books");
        }
        steps
    }

    /// Whether the network has it.
    pub(super) fn has(&self, seed: SeedId) -> bool {
        self.model.seeds.contains(&seed)
    }
}
