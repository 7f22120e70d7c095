//! Why a run cannot be coordinated.

use thiserror::Error;

use super::RunConfig;
use crate::ddp::record::CommitRecord;

/// What is wrong with a run's configuration.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RunConfigError {
    /// A run needs a rank.
    #[error("min_world is 0; a run needs at least one rank")]
    NoRank,
    /// It would be given up before it began.
    #[error("min_world is {min_world}, but the world has only {world}")]
    MinAboveWorld {
        /// The least.
        min_world: u32,
        /// All.
        world: u32,
    },
    /// Nothing is left to do.
    #[error("the run begins after epoch {begins_after} and is to end after epoch {last}")]
    NoEpoch {
        /// The epoch of the record it begins from.
        begins_after: u64,
        /// Its last.
        last: u64,
    },
    /// The record is another run's.
    #[error("the record is of another run; make one of this run from it")]
    OtherRun,
}

impl RunConfig {
    pub(super) fn check(&self, record: &CommitRecord) -> Result<(), RunConfigError> {
        if self.min_world == 0 {
            return Err(RunConfigError::NoRank);
        }
        if self.min_world > self.world {
            return Err(RunConfigError::MinAboveWorld {
                min_world: self.min_world,
                world: self.world,
            });
        }
        if record.run != self.run {
            return Err(RunConfigError::OtherRun);
        }
        // A run that is over may be restored, to tell those who have not heard of it.
        match record.epoch > self.last_epoch {
            true => Err(self.no_epoch(record)),
            false => Ok(()),
        }
    }

    /// Whether anything is left to do after the record that a run begins from.
    pub(super) fn check_new(&self, genesis: &CommitRecord) -> Result<(), RunConfigError> {
        match genesis.epoch >= self.last_epoch {
            true => Err(self.no_epoch(genesis)),
            false => Ok(()),
        }
    }

    const fn no_epoch(&self, record: &CommitRecord) -> RunConfigError {
        RunConfigError::NoEpoch {
            begins_after: record.epoch.0,
            last: self.last_epoch.0,
        }
    }
}
