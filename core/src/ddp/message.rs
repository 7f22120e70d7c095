//! What ranks and the coordinator tell each other. Each message has the incarnation of the rank
//! that it is from or for: a process that was started again must not be taken for its former
//! life, nor take what was meant for that.

use super::gates::Vote;
use super::ids::{Epoch, Incarnation, Rank, View};
use super::record::CommitRecord;

/// What a rank has of the model's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub struct Held {
    /// The digest of the last record it has applied; none if its parameters are fresh ones.
    pub record: Option<u64>,
    /// The version of its parameters: how many steps were applied to them.
    pub applied: u64,
    /// Whether it is past the last step of the epoch after that record.
    pub boundary: bool,
}

/// From a rank to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub struct ToCoordinator {
    /// The life that says it.
    pub incarnation: Incarnation,
    /// What it says.
    pub body: RankSays,
}

/// What a rank says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub enum RankSays {
    /// It wants to become a member, with parameters of a checkpoint or fresh ones.
    Join {
        /// The digest of the checkpoint's record, if there is a checkpoint.
        record: Option<u64>,
        /// The version of its parameters (0: fresh ones).
        applied: u64,
    },
    /// It is connected again.
    Hello,
    /// It is alive. Only the machine sends these, so one that is stuck sends none.
    Heartbeat,
    /// Its collective came to nothing: a connection between ranks was cut, say.
    StepFailed {
        /// The view in which it did.
        view: View,
        /// The members that it could not reach, or was not reached by, as far as it knows.
        lost: Vec<Rank>,
    },
    /// It is at the end of an epoch.
    Arrive {
        /// The view in which it got there.
        view: View,
        /// The epoch.
        epoch: Epoch,
        /// The version of its parameters.
        applied: u64,
        /// Its votes.
        votes: Vec<Vote>,
    },
    /// It has left the old view and touches nothing until told what to go on from.
    ViewAck {
        /// The view it has entered.
        view: View,
        /// What it has; nothing if that is of no use to anybody. In the middle of a copy it is
        /// what it had before.
        held: Option<Held>,
    },
}

/// From the coordinator to a rank.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub struct ToRank {
    /// The life it is meant for.
    pub incarnation: Incarnation,
    /// What it says.
    pub body: CoordinatorSays,
}

/// What the coordinator says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub enum CoordinatorSays {
    /// An epoch is decided; the next begins.
    Commit {
        /// The view from here on.
        view: View,
        /// Its members.
        members: Vec<Rank>,
        /// What was decided.
        record: CommitRecord,
        /// Who has the record's version of the parameters; who has not copies it from them.
        holders: Vec<Rank>,
    },
    /// The membership has changed: stop, and say what you have.
    NewView {
        /// The new view.
        view: View,
        /// Its members.
        members: Vec<Rank>,
    },
    /// All have stopped: go on from here.
    Resume {
        /// The view.
        view: View,
        /// The last record.
        record: CommitRecord,
        /// The version of the parameters to go on with.
        applied: u64,
        /// Whether the epoch is over at this version.
        boundary: bool,
        /// Who has that version.
        holders: Vec<Rank>,
    },
    /// You are no member (any more).
    Evict {
        /// Why not.
        reason: EvictReason,
    },
    /// The run ends here.
    Abort {
        /// Why.
        reason: AbortReason,
    },
}

/// Why a rank is no member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub enum EvictReason {
    /// It was too long silent, or its connection was lost.
    Suspected,
    /// A later life of it has come, or this one was a member before.
    OldIncarnation,
    /// The run was over before it could be admitted.
    TooLate,
    /// The run has no such rank.
    UnknownRank,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub enum AbortReason {
    /// Too few ranks are left.
    QuorumLost,
    /// Nobody left has the parameters.
    StateLost,
    /// Ranks came to one boundary with different parameters or different questions: a bug, or
    /// damaged memory.
    Diverged,
}
