//! Why a rank has failed. There is no other way out of a run than these and its end.

use thiserror::Error;

use super::RankWait;
use crate::ddp::message::{AbortReason, EvictReason};

/// Why a rank is out of the run.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
pub enum Failure {
    /// It is no member. A new life of it may join.
    #[error("the run goes on without this rank ({0:?}); start it again to rejoin")]
    Evicted(EvictReason),
    /// Too few ranks are left.
    #[error("fewer ranks are left than the run needs; start all again from a checkpoint")]
    QuorumLost,
    /// Nobody left has the parameters.
    #[error("no rank left has the parameters; start all again from a checkpoint")]
    StateLost,
    /// Ranks came to one boundary with different parameters or questions.
    #[error("ranks came to one boundary with different state; start again from a checkpoint")]
    Diverged,
    /// The coordinator did not answer by the hard deadline.
    #[error("the coordinator was not heard of by the deadline ({0:?})")]
    CoordinatorLost(RankWait),
    /// Contributions to one step had different tags. Nothing of it was applied.
    #[error("contributions to one step were not of the same epoch, alpha or parameters")]
    TagMismatch,
    /// The coordinator's record does not follow from the last one and its own votes.
    #[error("the record received does not follow from the one before")]
    BadRecord,
    /// Something other than the coordinator took too long.
    #[error("no progress by the deadline ({0:?})")]
    Stalled(RankWait),
}

impl Failure {
    /// What it is that `wait` was too long.
    pub(super) fn by(wait: RankWait) -> Self {
        match wait {
            RankWait::Admission | RankWait::Commit { .. } | RankWait::Resume { .. } => {
                Failure::CoordinatorLost(wait)
            }
            RankWait::Step { .. } | RankWait::Votes { .. } | RankWait::Copy { .. } => {
                Failure::Stalled(wait)
            }
        }
    }
}

impl From<AbortReason> for Failure {
    fn from(reason: AbortReason) -> Self {
        match reason {
            AbortReason::QuorumLost => Failure::QuorumLost,
            AbortReason::StateLost => Failure::StateLost,
            AbortReason::Diverged => Failure::Diverged,
        }
    }
}
