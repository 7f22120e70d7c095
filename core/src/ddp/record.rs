//! What was decided at the end of an epoch. **A record is the only thing that ever changes an
//! alpha or a stage**, on every rank the same, whenever it gets there.

use thiserror::Error;

use super::digest::Digest;
use super::gates::{Decision, Vote};
use super::ids::{Epoch, Rank, RunId, View};
use super::schedule::Schedule;
use super::slot::SlotCommand;

/// One rank's votes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub struct Ballot {
    /// Whose.
    pub voter: Rank,
    /// One vote for each question of the schedule, in its order.
    pub votes: Vec<Vote>,
}

/// What the ranks of one view decided at the end of one epoch, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "net", serde(try_from = "super::net::RecordParts"))]
pub struct CommitRecord {
    /// The run.
    pub run: RunId,
    /// The epoch that it ends.
    pub epoch: Epoch,
    /// The view whose members voted.
    pub view: View,
    /// Exactly those votes that were reduced, by rank.
    pub ballots: Vec<Ballot>,
    /// What they came to.
    pub decisions: Vec<Decision>,
    /// What a policy wanted done, and could be.
    pub commands: Vec<SlotCommand>,
    /// The version of the parameters at this boundary.
    pub applied: u64,
    /// Every slot as it is from now on.
    pub schedule: Schedule,
}

impl CommitRecord {
    /// What a run begins from: the record of epoch 0, or of a checkpoint of another run.
    #[must_use]
    pub fn genesis(run: RunId, epoch: Epoch, applied: u64, schedule: Schedule) -> Self {
        CommitRecord {
            run,
            epoch,
            view: View(0),
            ballots: Vec::new(),
            decisions: Vec::new(),
            commands: Vec::new(),
            applied,
            schedule,
        }
    }

    /// The record after `self`: a pure function of it and of what is given. Commands that a
    /// slot refuses are left out, and so is none that it takes.
    ///
    /// # Errors
    /// [`RecordError::Ballots`] if somebody votes on something else than was asked.
    pub fn next(
        &self,
        view: View,
        ballots: Vec<Ballot>,
        commands: &[SlotCommand],
        applied: u64,
    ) -> Result<Self, RecordError> {
        let votes = ballots.iter().map(|ballot| &ballot.votes[..]);
        let decisions = self
            .schedule
            .decide(votes)
            .map_err(|_| RecordError::Ballots)?;
        let mut schedule = self.schedule.clone();
        let mut commands = commands.to_vec();
        commands.retain(|command| schedule.command(command).is_ok());
        schedule.step_epoch(&decisions);
        Ok(CommitRecord {
            run: self.run,
            epoch: self.epoch.next(),
            view,
            ballots,
            decisions,
            commands,
            applied,
            schedule,
        })
    }

    /// Whether this is the record that its own votes and commands make of `previous`.
    ///
    /// # Errors
    /// Each of [`RecordError`].
    pub fn follows(&self, previous: &CommitRecord) -> Result<(), RecordError> {
        if self.run != previous.run {
            return Err(RecordError::OtherRun);
        }
        if self.epoch != previous.epoch.next() {
            return Err(RecordError::NotNext {
                epoch: self.epoch,
                after: previous.epoch,
            });
        }
        let ballots = self.ballots.clone();
        match previous.next(self.view, ballots, &self.commands, self.applied)? == *self {
            true => Ok(()),
            false => Err(RecordError::NotOfItsVotes { epoch: self.epoch }),
        }
    }

    /// Whether parameters of version `applied`, of whoever has applied the record of digest
    /// `last`, are the ones of this boundary. The version alone does not tell: a run that began
    /// again from an earlier record comes by the same versions with other parameters. Fresh ones
    /// (`None`) are what a run begins with at version 0.
    pub(super) fn is_held(&self, last: Option<u64>, applied: u64) -> bool {
        applied == self.applied && last.map_or(applied == 0, |last| last == self.digest())
    }

    /// One number for all of it.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = Digest::new();
        digest.words(&[self.run.0, self.epoch.0, self.view.0, self.applied]);
        for ballot in &self.ballots {
            digest.words(&[u64::from(ballot.voter.0), ballot.votes.len() as u64]);
            for vote in &ballot.votes {
                vote.question.fold(&mut digest);
                digest.words(&[u64::from(vote.passed), u64::from(vote.score)]);
            }
        }
        for decision in &self.decisions {
            decision.question.fold(&mut digest);
            digest.words(&[u64::from(decision.passed)]);
        }
        for command in &self.commands {
            command.fold(&mut digest);
        }
        self.schedule.fold(&mut digest);
        digest.finish()
    }
}

/// Why a record is not the next one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// A ballot answers other questions than were asked.
    #[error("a ballot answers other questions than this epoch asks")]
    Ballots,
    /// It is of another run.
    #[error("the record is of another run")]
    OtherRun,
    /// It is of another epoch.
    #[error("a record of {epoch} cannot come after {after}")]
    NotNext {
        /// Its epoch.
        epoch: Epoch,
        /// The one before.
        after: Epoch,
    },
    /// Its schedule or decisions are not what its votes come to.
    #[error("the record of {epoch} is not what its own votes come to")]
    NotOfItsVotes {
        /// Its epoch.
        epoch: Epoch,
    },
}
