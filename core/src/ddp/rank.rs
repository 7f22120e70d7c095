//! [`RankState`]: what one rank does, without a socket, a clock, a thread or a float.
//!
//! ```text
//! Joining → Run ⇄ Voting → AtGate → (Run | Done)
//!            └────── NewView ─────┴→ Flushing → (Healing →) Run | Voting
//! any → Failed
//! ```
//!
//! What a driver must do is in [`RankAction`]; it does it in the order given.

use super::collective::Reduced;
use super::gates::Vote;
use super::ids::{Epoch, Incarnation, Rank, RunId, View};
use super::message::{CoordinatorSays, Held, RankSays, ToCoordinator, ToRank};
use super::record::CommitRecord;
use super::tag::StepTag;
use crate::pool::InvariantViolation;

mod action;
mod failure;

pub use action::{RankAction, RankEvent, RankWait};
pub use failure::Failure;

/// Who a rank is, and in what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RankConfig {
    /// The run.
    pub run: RunId,
    /// This rank.
    pub rank: Rank,
    /// The last epoch of the run.
    pub last_epoch: Epoch,
}

/// What a rank keeps to begin from after all of a run was stopped: the record, and that its
/// parameters are of that record's version. A driver stores both together; how they are
/// written down is its store's business.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RankCheckpoint {
    /// The last record it has applied, and whose parameters it has.
    pub record: CommitRecord,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// It waits to be admitted.
    Joining,
    /// It waits for the result of a step.
    Run,
    /// The epoch's steps are over; its driver evaluates the gates.
    Voting,
    /// It waits for the record.
    AtGate,
    /// It has left its view and waits to hear what to go on from.
    Flushing {
        held: Option<Held>,
        /// It is new: its record is a checkpoint's, perhaps of a future that the run has given
        /// up.
        new: bool,
    },
    /// It waits for a copy of the parameters.
    Healing {
        applied: u64,
        boundary: bool,
        /// What it has until the copy is whole.
        had: Option<Held>,
    },
    Done,
    Failed(Failure),
}

/// One rank of a run.
///
/// **Give it events in the order they happen; after each, do the actions in the order they
/// were pushed, then give it the next.** An event that is out of date is ignored: it may be
/// given whatever comes, whenever it comes.
///
/// ```
/// use selvedge_core::ddp::{
///     Epoch, Incarnation, Rank, RankAction, RankConfig, RankSays, RankState, RunId,
/// };
///
/// let (run, rank, last_epoch) = (RunId(1), Rank(0), Epoch(10));
/// let mut actions = Vec::new();
/// let config = RankConfig { run, rank, last_epoch };
/// let state = RankState::start(config, Incarnation(1), None, &mut actions);
/// let RankAction::Send(message) = &actions[0] else { panic!("it joins") };
/// assert_eq!(message.body, RankSays::Join { record: None, applied: 0 });
/// assert_eq!(state.epoch(), None, "it is in no epoch before it is admitted");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RankState {
    pub(super) config: RankConfig,
    pub(super) incarnation: Incarnation,
    pub(super) view: View,
    /// The next collective of the view.
    pub(super) seq: u64,
    pub(super) members: Vec<Rank>,
    /// The last record it has applied.
    pub(super) record: Option<CommitRecord>,
    /// The version of its parameters.
    pub(super) applied: u64,
    pub(super) phase: Phase,
}

impl RankState {
    /// A new life of a rank, which asks to be admitted. `incarnation` must be greater than that
    /// of any earlier life. Without a checkpoint it begins with fresh parameters, which must be
    /// the same on every rank.
    #[must_use]
    pub fn start(
        config: RankConfig,
        incarnation: Incarnation,
        checkpoint: Option<RankCheckpoint>,
        out: &mut Vec<RankAction>,
    ) -> Self {
        let record = checkpoint.map(|checkpoint| checkpoint.record);
        let state = RankState {
            config,
            incarnation,
            view: View(0),
            seq: 0,
            members: Vec::new(),
            applied: record.as_ref().map_or(0, |record| record.applied),
            record,
            phase: Phase::Joining,
        };
        state.say(state.join(), out);
        state
    }

    /// What to begin from later. Only at the very start of an epoch is there anything that all
    /// ranks would agree on; `None` elsewhere.
    #[must_use]
    pub fn checkpoint(&self) -> Option<RankCheckpoint> {
        let record = self.record.as_ref()?;
        let at_start = matches!(self.phase, Phase::Run | Phase::Done);
        (at_start && self.applied == record.applied).then(|| RankCheckpoint {
            record: record.clone(),
        })
    }

    /// Something has happened.
    pub fn on(&mut self, event: RankEvent, out: &mut Vec<RankAction>) {
        if matches!(self.phase, Phase::Done | Phase::Failed(_)) {
            return;
        }
        match event {
            RankEvent::Message(message) if message.incarnation == self.incarnation => {
                self.hear(message, out);
            }
            // For another life of this rank.
            RankEvent::Message(_) => {}
            RankEvent::StepDone { view, seq, reduced } => {
                if self.phase == Phase::Run && (view, seq) == (self.view, self.seq) {
                    self.step_done(reduced, out);
                }
            }
            RankEvent::StepFailed { view, seq, lost } => {
                if self.phase == Phase::Run && (view, seq) == (self.view, self.seq) {
                    self.say(RankSays::StepFailed { view, lost }, out);
                }
            }
            RankEvent::Voted { view, epoch, votes } => {
                if self.phase == Phase::Voting && (view, Some(epoch)) == (self.view, self.epoch()) {
                    self.arrive(epoch, votes, out);
                }
            }
            RankEvent::Healed { view } => {
                if let Phase::Healing {
                    applied, boundary, ..
                } = self.phase
                    && view == self.view
                {
                    self.applied = applied;
                    self.go_on(boundary, out);
                }
            }
            RankEvent::Reconnected => {
                let body = match self.phase {
                    Phase::Joining => self.join(),
                    _ => RankSays::Hello,
                };
                self.say(body, out);
            }
            RankEvent::Beat => self.say(RankSays::Heartbeat, out),
            RankEvent::HardDeadline(wait) => {
                if self.wait() == Some(wait) {
                    self.fail(Failure::by(wait), out);
                }
            }
        }
        self.check();
    }

    fn hear(&mut self, message: ToRank, out: &mut Vec<RankAction>) {
        match message.body {
            CoordinatorSays::Commit {
                view,
                members,
                record,
                holders,
            } => self.commit(view, members, record, holders, out),
            CoordinatorSays::NewView { view, members } => self.new_view(view, members, out),
            CoordinatorSays::Resume {
                view,
                record,
                applied,
                boundary,
                holders,
            } => {
                let Phase::Flushing { held, new } = self.phase else {
                    return;
                };
                if view != self.view {
                    return;
                }
                match &self.record {
                    Some(ours) if ours.digest() == record.digest() => {}
                    // The coordinator has forgotten what it decided.
                    Some(ours) if ours.epoch >= record.epoch && !new => {
                        return self.fail(Failure::BadRecord, out);
                    }
                    _ => self.apply_epoch(record, out),
                }
                self.seq = 0;
                self.enter(out);
                match holders.contains(&self.config.rank) {
                    true => self.go_on(boundary, out),
                    false => self.heal(applied, boundary, held, holders, out),
                }
            }
            CoordinatorSays::Evict { reason } => self.fail(Failure::Evicted(reason), out),
            CoordinatorSays::Abort { reason } => self.fail(reason.into(), out),
        }
    }

    fn commit(
        &mut self,
        view: View,
        members: Vec<Rank>,
        record: CommitRecord,
        holders: Vec<Rank>,
        out: &mut Vec<RankAction>,
    ) {
        match self.phase {
            Phase::AtGate if view >= self.view && Some(record.epoch) == self.epoch() => {
                let follows =
                    (self.record.as_ref()).is_some_and(|previous| record.follows(previous).is_ok());
                if !follows || record.applied != self.applied {
                    return self.fail(Failure::BadRecord, out);
                }
                let another = view != self.view;
                if another {
                    out.push(RankAction::LeaveView(self.view));
                    (self.view, self.members, self.seq) = (view, members, 0);
                }
                self.apply_epoch(record, out);
                if another && self.epoch().is_some() {
                    self.enter(out);
                }
                self.go_on(false, out);
            }
            Phase::Joining if view > self.view => {
                (self.view, self.members, self.seq) = (view, members, 0);
                let applied = record.applied;
                let holds = record.is_held(self.digest(), self.applied);
                self.apply_epoch(record, out);
                self.enter(out);
                match holds {
                    true => self.go_on(false, out),
                    // What it has is older than the record, or of another future.
                    false => self.heal(applied, false, None, holders, out),
                }
            }
            // Of an older view, or a record that it has.
            _ => {}
        }
    }

    fn new_view(&mut self, view: View, members: Vec<Rank>, out: &mut Vec<RankAction>) {
        if let Phase::Flushing { held, .. } = self.phase
            && view == self.view
        {
            // It was said before, and lost with a connection: the coordinator asks again.
            return self.say(RankSays::ViewAck { view, held }, out);
        }
        if view <= self.view {
            return;
        }
        let has = |boundary| {
            Some(Held {
                record: self.digest(),
                applied: self.applied,
                boundary,
            })
        };
        let held = match self.phase {
            Phase::Flushing { held, .. } => held,
            Phase::Healing { had, .. } => had,
            Phase::Voting | Phase::AtGate => has(true),
            _ => has(false),
        };
        let new = match self.phase {
            Phase::Joining => true,
            Phase::Flushing { new, .. } => new,
            _ => {
                out.push(RankAction::LeaveView(self.view));
                false
            }
        };
        (self.view, self.members, self.seq) = (view, members, 0);
        self.phase = Phase::Flushing { held, new };
        self.say(RankSays::ViewAck { view, held }, out);
    }

    fn step_done(&mut self, reduced: Reduced, out: &mut Vec<RankAction>) {
        if !reduced.tags_equal {
            return self.fail(Failure::TagMismatch, out);
        }
        self.applied += 1;
        self.seq += 1;
        out.push(RankAction::ApplyStep {
            applied: self.applied,
            active: reduced.active,
        });
        self.go_on(!reduced.more, out);
    }

    /// Goes on with the epoch: with its next step, or, at its end, with the vote.
    fn go_on(&mut self, boundary: bool, out: &mut Vec<RankAction>) {
        let (Some(epoch), Some(record)) = (self.epoch(), &self.record) else {
            self.phase = Phase::Done;
            out.push(RankAction::Finish);
            return;
        };
        if boundary {
            self.phase = Phase::Voting;
            let view = self.view;
            out.push(RankAction::Vote { view, epoch });
            return;
        }
        self.phase = Phase::Run;
        out.push(RankAction::Contribute {
            tag: StepTag {
                run: self.config.run,
                view: self.view,
                seq: self.seq,
                epoch,
                schedule: record.schedule.digest(),
                applied: self.applied,
            },
            step: self.applied.saturating_sub(record.applied),
        });
    }

    fn arrive(&mut self, epoch: Epoch, votes: Vec<Vote>, out: &mut Vec<RankAction>) {
        self.phase = Phase::AtGate;
        let body = RankSays::Arrive {
            view: self.view,
            epoch,
            applied: self.applied,
            votes,
        };
        self.say(body, out);
    }

    fn heal(
        &mut self,
        applied: u64,
        boundary: bool,
        had: Option<Held>,
        holders: Vec<Rank>,
        out: &mut Vec<RankAction>,
    ) {
        self.phase = Phase::Healing {
            applied,
            boundary,
            had,
        };
        out.push(RankAction::Heal {
            view: self.view,
            applied,
            holders,
        });
    }

    fn apply_epoch(&mut self, record: CommitRecord, out: &mut Vec<RankAction>) {
        self.record = Some(record.clone());
        out.push(RankAction::ApplyEpoch(record));
    }

    fn enter(&self, out: &mut Vec<RankAction>) {
        out.push(RankAction::EnterView {
            view: self.view,
            members: self.members.clone(),
        });
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<RankAction>) {
        self.phase = Phase::Failed(failure);
        out.push(RankAction::Fail(failure));
    }

    fn digest(&self) -> Option<u64> {
        self.record.as_ref().map(CommitRecord::digest)
    }

    fn join(&self) -> RankSays {
        RankSays::Join {
            record: self.digest(),
            applied: self.applied,
        }
    }

    fn say(&self, body: RankSays, out: &mut Vec<RankAction>) {
        out.push(RankAction::Send(ToCoordinator {
            incarnation: self.incarnation,
            body,
        }));
    }

    /// What it waits for; `None` if its run is over. For a [`Watch`](super::Watch).
    #[must_use]
    pub fn wait(&self) -> Option<RankWait> {
        let (view, seq) = (self.view, self.seq);
        Some(match self.phase {
            Phase::Joining => RankWait::Admission,
            Phase::Run => RankWait::Step { view, seq },
            Phase::Voting => RankWait::Votes { view },
            Phase::AtGate => RankWait::Commit { view },
            Phase::Flushing { .. } => RankWait::Resume { view },
            Phase::Healing { .. } => RankWait::Copy { view },
            Phase::Done | Phase::Failed(_) => return None,
        })
    }

    /// The rank.
    #[must_use]
    pub const fn rank(&self) -> Rank {
        self.config.rank
    }

    /// Which life of it.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The view it is in.
    #[must_use]
    pub const fn view(&self) -> View {
        self.view
    }

    /// The members of that view.
    #[must_use]
    pub fn members(&self) -> &[Rank] {
        &self.members
    }

    /// The epoch it trains in; `None` before it is admitted and after the last.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        let epoch = self.record.as_ref()?.epoch.next();
        (epoch <= self.config.last_epoch).then_some(epoch)
    }

    /// The last record it has applied.
    #[must_use]
    pub const fn record(&self) -> Option<&CommitRecord> {
        self.record.as_ref()
    }

    /// The version of its parameters.
    #[must_use]
    pub const fn applied(&self) -> u64 {
        self.applied
    }

    /// Whether it has finished the run.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Why it has failed, if it has.
    #[must_use]
    pub const fn failure(&self) -> Option<Failure> {
        match self.phase {
            Phase::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Whether every property of [`invariants`](super::invariants) holds.
    ///
    /// # Errors
    /// The first that does not, with what was found.
    pub fn validate(&self) -> Result<(), InvariantViolation> {
        super::invariants::check_rank(self)
    }

    #[inline]
    fn check(&self) {
        debug_assert_eq!(self.validate(), Ok(()));
    }
}
