//! [`CoordinatorState`]: the one decider of a run, without a socket, a clock, a thread or a
//! file. Its durable part is small and plain; how it is written down is its store's business.
//!
//! ```text
//! Forming → Running → Over
//!             ↑  ↓ eviction, restart, reconnection
//!           Flushing
//! ```
//!
//! It decides nothing about alpha. It collects votes from *all* members of a view, makes the
//! record that they come to, writes that down and only then tells anybody.

use super::gates::Vote;
use super::ids::{Epoch, Incarnation, Rank, RunId, View};
use super::message::{
    AbortReason, CoordinatorSays, EvictReason, Held, RankSays, ToCoordinator, ToRank,
};
use super::record::{Ballot, CommitRecord};
use super::slot::SlotCommand;
use crate::pool::InvariantViolation;

mod action;
mod error;
mod futile;

pub use action::{CoordinatorAction, CoordinatorEvent, CoordinatorWait};
pub use error::RunConfigError;
use futile::Futile;

/// A run, as its coordinator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunConfig {
    /// The run.
    pub run: RunId,
    /// How many ranks begin it.
    pub world: u32,
    /// With fewer it is given up.
    pub min_world: u32,
    /// Its last epoch.
    pub last_epoch: Epoch,
}

/// A member of a view, or a rank that wants to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub struct Member {
    /// The rank.
    pub rank: Rank,
    /// Which life of it.
    pub incarnation: Incarnation,
}

/// What a coordinator must not forget. **It is written down before any message that follows
/// from it is sent**: [`CoordinatorAction::Persist`] comes first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "net", serde(try_from = "super::net::DurableParts"))]
pub struct Durable {
    /// The view. Were it forgotten, two memberships could have the same number (as torchft's
    /// `quorum_id`).
    pub view: View,
    /// Its members, by rank; empty before the run is formed.
    pub members: Vec<Member>,
    /// The last life of each rank that was a member or that was lost, by rank. None of these
    /// and none before is admitted again.
    pub lives: Vec<Member>,
    /// The last record.
    pub record: CommitRecord,
    /// Why the run was given up, if it was.
    pub aborted: Option<AbortReason>,
}

impl Durable {
    /// Notes a life that can never be admitted again; false if that was known.
    fn note_life(&mut self, life: Member) -> bool {
        match self
            .lives
            .binary_search_by_key(&life.rank, |past| past.rank)
        {
            Ok(at) if self.lives[at].incarnation >= life.incarnation => return false,
            Ok(at) => self.lives[at] = life,
            Err(at) => self.lives.insert(at, life),
        }
        true
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Joiner {
    pub(super) member: Member,
    /// It has what the run begins from. Of one that comes later it makes no difference.
    pub(super) holds: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Arrival {
    pub(super) applied: u64,
    pub(super) votes: Vec<Vote>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Not all ranks have joined.
    Forming,
    /// Members train; by place in the members, who has arrived at the boundary.
    Running { arrived: Vec<Option<Arrival>> },
    /// Members leave the old view; by place in the members, what they have.
    Flushing { acks: Vec<Option<Option<Held>>> },
    /// The last record is made, or the run is given up.
    Over,
}

/// The coordinator of a run.
///
/// **Give it events in the order they happen; after each, do the actions in the order they were
/// pushed, then give it the next.** An event that is out of date is ignored.
///
/// ```
/// use selvedge_core::ddp::{
///     CommitRecord, CoordinatorState, Epoch, RunConfig, RunId, Schedule,
/// };
///
/// let run = RunId(1);
/// let config = RunConfig { run, world: 4, min_world: 2, last_epoch: Epoch(10) };
/// let genesis = CommitRecord::genesis(run, Epoch(0), 0, Schedule::default());
/// let state = CoordinatorState::new(config, genesis)?;
/// assert!(state.durable().members.is_empty(), "nobody has joined yet");
/// # Ok::<(), selvedge_core::ddp::RunConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CoordinatorState {
    pub(super) config: RunConfig,
    pub(super) durable: Durable,
    pub(super) phase: Phase,
    /// By rank.
    pub(super) joiners: Vec<Joiner>,
    pub(super) commands: Vec<SlotCommand>,
    pub(super) futile: Futile,
}

impl CoordinatorState {
    /// So many changes of view there may be in which nobody is lost (a collective came to
    /// nothing, a rank was connected again) and after which nobody has got on by a step. With
    /// the next a rank is left behind: the one that is cut off from the most others, or that was
    /// connected again most often.
    pub const MOST_FUTILE_VIEWS: u32 = 8;
    /// So many commands are kept for the next record; more are dropped.
    pub const MOST_COMMANDS: usize = 1024;

    /// The coordinator of a new run that begins from `genesis`: from epoch 0, or from a
    /// checkpoint's record, if that was made one of this run ([`CommitRecord::genesis`]).
    ///
    /// # Errors
    /// Each of [`RunConfigError`].
    pub fn new(config: RunConfig, genesis: CommitRecord) -> Result<Self, RunConfigError> {
        config.check(&genesis)?;
        config.check_new(&genesis)?;
        Ok(CoordinatorState {
            config,
            durable: Durable {
                view: View(0),
                members: Vec::new(),
                lives: Vec::new(),
                record: genesis,
                aborted: None,
            },
            phase: Phase::Forming,
            joiners: Vec::new(),
            commands: Vec::new(),
            futile: Futile::default(),
        })
    }

    /// The coordinator of a run that goes on from what its former life has written down. That
    /// is a new view: nobody knows what was lost on the way.
    ///
    /// # Errors
    /// Each of [`RunConfigError`].
    pub fn restore(
        config: RunConfig,
        durable: Durable,
        out: &mut Vec<CoordinatorAction>,
    ) -> Result<Self, RunConfigError> {
        config.check(&durable.record)?;
        let mut state = CoordinatorState {
            config,
            durable,
            phase: Phase::Forming,
            joiners: Vec::new(),
            commands: Vec::new(),
            futile: Futile::default(),
        };
        let over = state.durable.record.epoch >= config.last_epoch;
        if over || state.durable.aborted.is_some() {
            state.phase = Phase::Over;
            for member in state.durable.members.clone() {
                state.tell_end(member, out);
            }
        } else if !state.durable.members.is_empty() {
            state.change_view(out);
        }
        state.check();
        Ok(state)
    }

    /// Something has happened.
    pub fn on(&mut self, event: CoordinatorEvent, out: &mut Vec<CoordinatorAction>) {
        match event {
            CoordinatorEvent::Message { from, message } => self.hear(from, message, out),
            CoordinatorEvent::Lost(members) => self.lose(&members, out),
            CoordinatorEvent::Command(command) => {
                if self.phase != Phase::Over && self.commands.len() < Self::MOST_COMMANDS {
                    self.commands.push(command);
                }
            }
            CoordinatorEvent::HardDeadline(wait) => {
                if self.wait() == Some(wait) {
                    self.expire(wait, out);
                }
            }
        }
        self.check();
    }

    fn hear(&mut self, from: Rank, message: ToCoordinator, out: &mut Vec<CoordinatorAction>) {
        let from = Member {
            rank: from,
            incarnation: message.incarnation,
        };
        match message.body {
            RankSays::Join { record, applied } => {
                let forming = self.phase == Phase::Forming;
                let joiner = Joiner {
                    member: from,
                    holds: forming && self.durable.record.is_held(record, applied),
                };
                self.join(joiner, out);
            }
            RankSays::Hello => self.greet(from, out),
            // That it came is all it says; the driver sees to that.
            RankSays::Heartbeat => {}
            RankSays::StepFailed { view, lost } => self.step_failed(from, view, &lost, out),
            RankSays::Arrive {
                view,
                epoch,
                applied,
                votes,
            } => {
                let now = (self.durable.view, self.durable.record.epoch.next());
                let place = self.place(from);
                if let Phase::Running { arrived } = &mut self.phase
                    && (view, epoch) == now
                    && let Some(place) = place
                {
                    arrived[place] = Some(Arrival { applied, votes });
                    self.commit_if_all_arrived(out);
                }
            }
            RankSays::ViewAck { view, held } => {
                let place = self.place(from);
                if let Phase::Flushing { acks } = &mut self.phase
                    && view == self.durable.view
                    && let Some(place) = place
                {
                    acks[place] = Some(held);
                    self.resume_if_all_acked(out);
                }
            }
        }
    }

    fn step_failed(
        &mut self,
        told_by: Member,
        view: View,
        lost: &[Rank],
        out: &mut Vec<CoordinatorAction>,
    ) {
        let now = self.durable.view;
        let again = match &self.phase {
            Phase::Running { .. } if view == now => true,
            // Another was first. What this one says is as true.
            Phase::Flushing { .. } if view.next() == now => false,
            _ => return,
        };
        if !self.is_member(told_by) {
            return;
        }
        let named = self.ranks().into_iter().filter(|rank| lost.contains(rank));
        let others = named.filter(|&rank| rank != told_by.rank);
        self.futile.are_apart(told_by.rank, others);
        if again {
            let cut_off = self.futile.is_cut_off(told_by.rank);
            self.try_again(cut_off, out);
        }
    }

    /// A change of view in which nobody is lost, unless there were too many of them: then `left`
    /// is left behind.
    fn try_again(&mut self, left: Rank, out: &mut Vec<CoordinatorAction>) {
        if self.futile.again() {
            return self.change_view(out);
        }
        let mut members = self.durable.members.iter();
        if let Some(&member) = members.find(|member| member.rank == left) {
            self.evict(&[member], EvictReason::Suspected, out);
        }
    }

    fn join(&mut self, joiner: Joiner, out: &mut Vec<CoordinatorAction>) {
        let Joiner { member, .. } = joiner;
        if self.is_member(member) {
            // It was admitted and never heard of it.
            return self.greet(member, out);
        }
        if let Some(reason) = self.refuse(member) {
            let body = CoordinatorSays::Evict { reason };
            return self.say(member, body, out);
        }
        if self.phase == Phase::Over {
            return self.tell_end(member, out);
        }
        match self
            .joiners
            .binary_search_by_key(&member.rank, |j| j.member.rank)
        {
            Ok(at) => self.joiners[at] = joiner,
            Err(at) => self.joiners.insert(at, joiner),
        }
        if self.phase == Phase::Forming {
            if self.joiners.len() == self.config.world as usize {
                self.form(out);
            }
            return;
        }
        let mut members = self.durable.members.iter();
        if let Some(&former) = members.find(|other| other.rank == member.rank) {
            self.evict(&[former], EvictReason::OldIncarnation, out);
        }
    }

    /// Why `member` may not join, if it may not.
    fn refuse(&self, member: Member) -> Option<EvictReason> {
        if member.rank.0 >= self.config.world {
            return Some(EvictReason::UnknownRank);
        }
        let past = self.durable.lives.iter();
        let later = self.joiners.iter().map(|joiner| &joiner.member);
        let same_rank = |life: &&Member| life.rank == member.rank;
        let known = (past
            .filter(same_rank)
            .any(|life| life.incarnation >= member.incarnation))
            || (later
                .filter(same_rank)
                .any(|life| life.incarnation > member.incarnation));
        known.then_some(EvictReason::OldIncarnation)
    }

    /// Somebody is connected again.
    fn greet(&mut self, member: Member, out: &mut Vec<CoordinatorAction>) {
        let Some(place) = self.place(member) else {
            if self.joiners.iter().all(|joiner| joiner.member != member) {
                let reason = EvictReason::OldIncarnation;
                self.say(member, CoordinatorSays::Evict { reason }, out);
            }
            return;
        };
        match &self.phase {
            Phase::Flushing { acks } if acks[place].is_none() => {
                let body = CoordinatorSays::NewView {
                    view: self.durable.view,
                    members: self.ranks(),
                };
                self.say(member, body, out);
            }
            // Nobody knows what it has missed.
            Phase::Flushing { .. } | Phase::Running { .. } => {
                self.futile.is_back(member.rank);
                let left = self.futile.comes_and_goes(member.rank);
                self.try_again(left, out);
            }
            Phase::Over => self.tell_end(member, out),
            Phase::Forming => {}
        }
    }

    /// The first view, of all who have joined.
    fn form(&mut self, out: &mut Vec<CoordinatorAction>) {
        let joiners = core::mem::take(&mut self.joiners);
        self.durable.view = self.durable.view.next();
        self.durable.members = joiners.iter().map(|joiner| joiner.member).collect();
        for joiner in &joiners {
            self.durable.note_life(joiner.member);
        }
        let holders: Vec<Rank> = (joiners.iter())
            .filter(|joiner| joiner.holds)
            .map(|joiner| joiner.member.rank)
            .collect();
        if holders.is_empty() {
            return self.abort(AbortReason::StateLost, out);
        }
        out.push(CoordinatorAction::Persist);
        self.begin_epoch(&holders, out);
    }

    /// Tells everybody the last record, from which the next epoch begins.
    fn begin_epoch(&mut self, holders: &[Rank], out: &mut Vec<CoordinatorAction>) {
        self.phase = match self.durable.record.epoch >= self.config.last_epoch {
            true => Phase::Over,
            false => Phase::Running {
                arrived: vec![None; self.durable.members.len()],
            },
        };
        let body = CoordinatorSays::Commit {
            view: self.durable.view,
            members: self.ranks(),
            record: self.durable.record.clone(),
            holders: holders.to_vec(),
        };
        self.say_all(&body, out);
    }

    fn commit_if_all_arrived(&mut self, out: &mut Vec<CoordinatorAction>) {
        let Phase::Running { arrived } = &mut self.phase else {
            return;
        };
        if arrived.iter().any(Option::is_none) {
            return;
        }
        let arrivals: Vec<Arrival> = arrived.iter_mut().filter_map(Option::take).collect();
        let applied = arrivals[0].applied;
        let alike = arrivals.iter().all(|arrival| arrival.applied == applied);
        let voters = self.ranks();
        let ballots = (voters.iter().copied().zip(arrivals))
            .map(|(voter, arrival)| Ballot {
                voter,
                votes: arrival.votes,
            })
            .collect();
        let commands = core::mem::take(&mut self.commands);
        let next = (self.durable.record).next(self.durable.view, ballots, &commands, applied);
        let Some(record) = next.ok().filter(|_| alike) else {
            return self.abort(AbortReason::Diverged, out);
        };
        self.durable.record = record;
        self.futile = Futile::default();
        let joiners = core::mem::take(&mut self.joiners);
        let over = self.durable.record.epoch >= self.config.last_epoch;
        if !over && !joiners.is_empty() {
            self.durable.view = self.durable.view.next();
            for &Joiner { member, .. } in &joiners {
                self.durable.members.push(member);
                self.durable.note_life(member);
            }
            self.durable.members.sort_unstable();
        }
        out.push(CoordinatorAction::Persist);
        self.begin_epoch(&voters, out);
        for joiner in joiners.iter().filter(|_| over) {
            let reason = EvictReason::TooLate;
            self.say(joiner.member, CoordinatorSays::Evict { reason }, out);
        }
    }

    /// Lives that are over, as far as anybody can tell: of members, of such as would be, or of
    /// ranks whose wish to join is still on its way.
    fn lose(&mut self, gone: &[Member], out: &mut Vec<CoordinatorAction>) {
        if self.phase == Phase::Over {
            // All is decided. Those who have not heard it still may.
            return;
        }
        let world = self.config.world;
        let known = gone.iter().copied().filter(|life| life.rank.0 < world);
        // All of them are noted, whether or not the first was news.
        let news = known.filter(|&life| self.durable.note_life(life)).count() > 0;
        let ended = |past: &[Member], life: Member| {
            let mut past = past.iter();
            past.any(|past| past.rank == life.rank && past.incarnation >= life.incarnation)
        };
        self.joiners.retain(|joiner| !ended(gone, joiner.member));
        let members = self.durable.members.iter().copied();
        let members: Vec<Member> = members.filter(|&member| ended(gone, member)).collect();
        if !members.is_empty() {
            self.evict(&members, EvictReason::Suspected, out);
        } else if news {
            out.push(CoordinatorAction::Persist);
        }
    }

    fn evict(&mut self, gone: &[Member], reason: EvictReason, out: &mut Vec<CoordinatorAction>) {
        // There are only so many members to lose before the next record.
        self.futile = Futile::default();
        self.durable.members.retain(|member| !gone.contains(member));
        if self.durable.members.len() < self.config.min_world as usize {
            self.abort(AbortReason::QuorumLost, out);
        } else {
            self.change_view(out);
        }
        for &member in gone {
            self.say(member, CoordinatorSays::Evict { reason }, out);
        }
    }

    /// The members as they are now, in a new view that begins with a flush.
    fn change_view(&mut self, out: &mut Vec<CoordinatorAction>) {
        self.durable.view = self.durable.view.next();
        self.phase = Phase::Flushing {
            acks: vec![None; self.durable.members.len()],
        };
        out.push(CoordinatorAction::Persist);
        let body = CoordinatorSays::NewView {
            view: self.durable.view,
            members: self.ranks(),
        };
        self.say_all(&body, out);
    }

    fn resume_if_all_acked(&mut self, out: &mut Vec<CoordinatorAction>) {
        let Phase::Flushing { acks } = &self.phase else {
            return;
        };
        if acks.iter().any(Option::is_none) {
            return;
        }
        let record = &self.durable.record;
        let digest = record.digest();
        // What a record was made of is never taken back, and what came of another is not asked
        // for: it may be of a future that this run has given up.
        let fits = |held: &Held| match held.record {
            Some(theirs) if theirs == digest => held.applied >= record.applied,
            // At the end of the epoch that the record ends, and it has not heard of that.
            Some(_) if held.boundary => held.applied == record.applied,
            theirs => record.is_held(theirs, held.applied),
        };
        let held: Vec<(Rank, Held)> = (self.ranks().into_iter())
            .zip(acks.iter().copied().flatten())
            .filter_map(|(rank, held)| Some((rank, held.filter(fits)?)))
            .collect();
        let Some(applied) = held.iter().map(|(_, held)| held.applied).max() else {
            return self.abort(AbortReason::StateLost, out);
        };
        let having = held.iter().filter(|(_, held)| held.applied == applied);
        // Past the end of the epoch that this record ended is the beginning of the next.
        let boundary =
            (having.clone()).any(|(_, held)| held.boundary && held.record == Some(digest));
        let body = CoordinatorSays::Resume {
            view: self.durable.view,
            record: record.clone(),
            applied,
            boundary,
            holders: having.map(|&(rank, _)| rank).collect(),
        };
        self.futile.go_on_from(applied);
        self.phase = Phase::Running {
            arrived: vec![None; self.durable.members.len()],
        };
        self.say_all(&body, out);
    }

    fn abort(&mut self, reason: AbortReason, out: &mut Vec<CoordinatorAction>) {
        self.durable.aborted = Some(reason);
        self.phase = Phase::Over;
        out.push(CoordinatorAction::Persist);
        let body = CoordinatorSays::Abort { reason };
        self.say_all(&body, out);
        for joiner in core::mem::take(&mut self.joiners) {
            self.say(joiner.member, body.clone(), out);
        }
    }

    /// Tells somebody how the run has ended.
    fn tell_end(&self, member: Member, out: &mut Vec<CoordinatorAction>) {
        let body = match self.durable.aborted {
            Some(reason) => CoordinatorSays::Abort { reason },
            None if self.is_member(member) => CoordinatorSays::Commit {
                view: self.durable.view,
                members: self.ranks(),
                record: self.durable.record.clone(),
                holders: self.ranks(),
            },
            None => CoordinatorSays::Evict {
                reason: EvictReason::TooLate,
            },
        };
        self.say(member, body, out);
    }

    fn expire(&mut self, wait: CoordinatorWait, out: &mut Vec<CoordinatorAction>) {
        match wait {
            CoordinatorWait::Formation => self.abort(AbortReason::QuorumLost, out),
            CoordinatorWait::Arrivals { .. } | CoordinatorWait::Acks { .. } => {
                let missing = self.missing();
                let members = self.durable.members.iter().copied();
                let gone: Vec<Member> = members
                    .filter(|member| missing.contains(&member.rank))
                    .collect();
                self.lose(&gone, out);
            }
        }
    }

    /// What it waits for; `None` if only for time to pass. For a [`Watch`](super::Watch): it is
    /// the same wait however many have come meanwhile, so that its deadline stays where it is.
    /// Who merely trains is not waited for until somebody else has arrived.
    #[must_use]
    pub fn wait(&self) -> Option<CoordinatorWait> {
        let view = self.durable.view;
        let epoch = self.durable.record.epoch.next();
        match &self.phase {
            Phase::Forming if self.joiners.is_empty() => None,
            Phase::Forming => Some(CoordinatorWait::Formation),
            Phase::Running { arrived } if arrived.iter().all(Option::is_none) => None,
            Phase::Running { .. } => Some(CoordinatorWait::Arrivals { view, epoch }),
            Phase::Flushing { .. } => Some(CoordinatorWait::Acks { view }),
            Phase::Over => None,
        }
    }

    /// Whom it waits for, by rank: nobody while [`wait`](Self::wait) is `None`.
    #[must_use]
    pub fn missing(&self) -> Vec<Rank> {
        if self.wait().is_none() {
            return Vec::new();
        }
        let absent = |there: &mut dyn Iterator<Item = bool>| -> Vec<Rank> {
            let ranks = self.ranks().into_iter().zip(there);
            ranks
                .filter(|(_, there)| !there)
                .map(|(rank, _)| rank)
                .collect()
        };
        match &self.phase {
            Phase::Forming => {
                let joined = |rank: &Rank| self.joiners.iter().any(|j| j.member.rank == *rank);
                let all = (0..self.config.world).map(Rank);
                all.filter(|rank| !joined(rank)).collect()
            }
            Phase::Running { arrived } => absent(&mut arrived.iter().map(Option::is_some)),
            Phase::Flushing { acks } => absent(&mut acks.iter().map(Option::is_some)),
            Phase::Over => Vec::new(),
        }
    }

    /// What must be written down.
    #[must_use]
    pub const fn durable(&self) -> &Durable {
        &self.durable
    }

    /// Whether the last record is made or the run is given up.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Whether every property of [`invariants`](super::invariants) holds.
    ///
    /// # Errors
    /// The first that does not, with what was found.
    pub fn validate(&self) -> Result<(), InvariantViolation> {
        super::invariants::check_coordinator(self)
    }

    #[inline]
    fn check(&self) {
        debug_assert_eq!(self.validate(), Ok(()));
    }

    fn place(&self, member: Member) -> Option<usize> {
        self.durable.members.binary_search(&member).ok()
    }

    fn is_member(&self, member: Member) -> bool {
        self.place(member).is_some()
    }

    fn ranks(&self) -> Vec<Rank> {
        self.durable
            .members
            .iter()
            .map(|member| member.rank)
            .collect()
    }

    fn say(&self, to: Member, body: CoordinatorSays, out: &mut Vec<CoordinatorAction>) {
        out.push(CoordinatorAction::Send {
            to: to.rank,
            message: ToRank {
                incarnation: to.incarnation,
                body,
            },
        });
    }

    fn say_all(&self, body: &CoordinatorSays, out: &mut Vec<CoordinatorAction>) {
        for &member in &self.durable.members {
            self.say(member, body.clone(), out);
        }
    }
}
