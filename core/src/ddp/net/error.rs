//! Why somebody is not let in, and why a driver ends.

use core::fmt;
use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::observe::Noted;
use super::options::OptionsError;
use super::store::StoreError;
use super::trainee::TraineeError;
use crate::ddp::coordinator::RunConfigError;
use crate::ddp::ids::Epoch;
use crate::ddp::message::AbortReason;
use crate::ddp::rank::Failure;

/// Why a connection was refused, or cut.
#[derive(
    Clone, Copy, Debug, Deserialize, Error, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
)]
#[non_exhaustive]
pub enum Refusal {
    /// The first frame does not begin as one of this protocol does.
    #[error("that is not this protocol")]
    NotOurs,
    /// The two speak different versions.
    #[error("another version of the protocol; run the same release everywhere")]
    Version,
    /// The frame is damaged, or says what cannot be.
    #[error("a malformed frame")]
    Malformed,
    /// The frame is longer than any may be.
    #[error("an oversized frame")]
    Oversized,
    /// It is another run's.
    #[error("another run; check its id")]
    Run,
    /// The token is wrong.
    #[error("a wrong token; all processes of a run must be given the same")]
    Token,
    /// World or last epoch differ.
    #[error("another configuration; world, last epoch and bucket must be the same everywhere")]
    Config,
    /// The run has no such rank.
    #[error("the run has no such rank")]
    UnknownRank,
    /// What is asked for is not to be had here: of a coordinator what only a rank does, or of a
    /// rank what another does.
    #[error("the wrong place to ask")]
    WrongPlace,
    /// It said nothing for too long.
    #[error("nothing was said in time")]
    TimedOut,
    /// It went away before it had said who it is.
    #[error("hung up before anything was said")]
    HungUp,
    /// Too many are at the door.
    #[error("too many at the door; try again")]
    Crowded,
}

impl Refusal {
    /// Whether there is a point in trying again.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(
            self,
            Refusal::TimedOut | Refusal::HungUp | Refusal::Crowded | Refusal::Malformed
        )
    }
}

/// How many were refused, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedCounts(BTreeMap<Refusal, u64>);

impl RefusedCounts {
    pub(super) fn count(&mut self, refusal: Refusal) {
        *self.0.entry(refusal).or_default() += 1;
    }

    /// How many were refused for this.
    #[must_use]
    pub fn of(&self, refusal: Refusal) -> u64 {
        self.0.get(&refusal).copied().unwrap_or(0)
    }

    /// How many were refused.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Every kind that was refused, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> {
        self.0.iter().map(|(refusal, count)| (*refusal, *count))
    }
}

impl fmt::Display for RefusedCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} refused", self.total())?;
        for (at, (refusal, count)) in self.iter().enumerate() {
            let before = if at == 0 { ": " } else { ", " };
            write!(f, "{before}{count} {refusal:?}")?;
        }
        Ok(())
    }
}

/// Why a coordinator ends before its run does.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CoordinatorError {
    /// Options that make no sense.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A run that makes no sense.
    #[error(transparent)]
    Config(#[from] RunConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing to begin again from.
    #[error("the store has no record to begin again from; start a new run")]
    NothingToBeginFrom,
    /// It could not listen.
    #[error("cannot listen: {0}")]
    Listen(#[source] io::Error),
    /// A message has no room in a frame. Sent to whoever it may be, it would cut the connection
    /// again and again.
    #[error(
        "the record of {epoch} makes a message of more than {most} bytes; \
         use fewer slots or ranks, or fewer commands an epoch"
    )]
    Oversized {
        /// The epoch of the last record.
        epoch: Epoch,
        /// The most bytes.
        most: usize,
    },
    /// The task that lets ranks in has ended, as it does where the network panics.
    #[error("the coordinator's door has shut; start it again, and it goes on from its store")]
    DoorShut {
        /// The last 256 events; of refusals and steps, the last 64.
        events: Vec<Noted>,
    },
    /// The run was given up.
    #[error("the run was given up ({reason:?}); start all again from a checkpoint")]
    Aborted {
        /// Why.
        reason: AbortReason,
        /// The last 256 events; of refusals and steps, the last 64.
        events: Vec<Noted>,
    },
}

/// Why a rank ends before its run does.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RankError {
    /// Options that make no sense.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// It could not listen for other ranks.
    #[error("cannot listen: {0}")]
    Listen(#[source] io::Error),
    /// Its checkpoint.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The coordinator does not let it in.
    #[error("the coordinator refuses this rank: {refusal}")]
    Refused {
        /// Why.
        refusal: Refusal,
        /// The last 256 events; of refusals and steps, the last 64.
        events: Vec<Noted>,
    },
    /// The machine has failed.
    #[error("{failure}")]
    Failed {
        /// Why.
        failure: Failure,
        /// The last 256 events; of refusals and steps, the last 64.
        events: Vec<Noted>,
    },
    /// The trainee could not take a copy or a checkpoint.
    #[error("the parameters cannot be loaded: {error}")]
    Load {
        /// Why.
        error: TraineeError,
        /// The last 256 events; of refusals and steps, the last 64.
        events: Vec<Noted>,
    },
    /// A call of the trainee has not come back.
    #[error("the trainee's {call} has not come back by the hard deadline")]
    TraineeStuck {
        /// Which call.
        call: &'static str,
        /// The last 256 events; of refusals and steps, the last 64.
        events: Vec<Noted>,
    },
    /// A task that keeps its connections has ended, as it does where the network panics.
    #[error("a task that keeps this rank's connections has ended; start it again to rejoin")]
    ConnectionsEnded {
        /// The last 256 events; of refusals and steps, the last 64.
        events: Vec<Noted>,
    },
    /// A call of the trainee has panicked.
    #[error("the trainee's {call} has panicked")]
    TraineePanicked {
        /// Which call.
        call: &'static str,
        /// The last 256 events; of refusals and steps, the last 64.
        events: Vec<Noted>,
    },
}

impl RankError {
    /// The last events before the failure.
    #[must_use]
    pub fn events(&self) -> &[Noted] {
        match self {
            RankError::Refused { events, .. }
            | RankError::Failed { events, .. }
            | RankError::Load { events, .. }
            | RankError::ConnectionsEnded { events }
            | RankError::TraineeStuck { events, .. }
            | RankError::TraineePanicked { events, .. } => events,
            RankError::Options(_) | RankError::Listen(_) | RankError::Store(_) => &[],
        }
    }
}
