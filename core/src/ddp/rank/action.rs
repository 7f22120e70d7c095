//! What a rank is told, what it wants done, and what it waits for.

use crate::ddp::collective::Reduced;
use crate::ddp::gates::Vote;
use crate::ddp::ids::{Epoch, Rank, View};
use crate::ddp::message::{ToCoordinator, ToRank};
use crate::ddp::rank::Failure;
use crate::ddp::record::CommitRecord;
use crate::ddp::tag::StepTag;

/// What has happened to a rank.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RankEvent {
    /// The coordinator says something.
    Message(ToRank),
    /// A collective has come to something.
    StepDone {
        /// Its view.
        view: View,
        /// Its number in the view.
        seq: u64,
        /// The result.
        reduced: Reduced,
    },
    /// A collective has come to nothing, and never will. Where a member has died, the
    /// coordinator will say so by itself; it may be told all the same.
    StepFailed {
        /// Its view.
        view: View,
        /// Its number in the view.
        seq: u64,
        /// The members that could not be reached, or did not reach this one; none if that is
        /// not known.
        lost: Vec<Rank>,
    },
    /// The driver has evaluated the gates.
    Voted {
        /// The view it was asked in.
        view: View,
        /// The epoch it was asked about.
        epoch: Epoch,
        /// [`Schedule::vote`](crate::ddp::Schedule::vote) of the last record's schedule.
        votes: Vec<Vote>,
    },
    /// The driver has the parameters it was to copy.
    Healed {
        /// The view it was asked in.
        view: View,
    },
    /// The connection to the coordinator is there again.
    Reconnected,
    /// Time for a sign of life.
    Beat,
    /// A wait has taken too long.
    HardDeadline(RankWait),
}

/// What a rank wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RankAction {
    /// Send this to the coordinator.
    Send(ToCoordinator),
    /// Open the collectives of a view.
    EnterView {
        /// The view.
        view: View,
        /// Its members.
        members: Vec<Rank>,
    },
    /// Close the collectives of a view, also one under way. Nothing of it is applied any more.
    LeaveView(View),
    /// Contribute a gradient, or zeros where the loader is exhausted, to the collective of the
    /// tag's view and number; report [`RankEvent::StepDone`].
    Contribute {
        /// What must be the same in all contributions.
        tag: StepTag,
        /// Which step of the epoch it is, counted from 0: the loader's position, also after a
        /// change of view.
        step: u64,
    },
    /// Apply the last result to the parameters.
    ApplyStep {
        /// The version that they are of then.
        applied: u64,
        /// How many gradients are in the sum. With 0 there is nothing to apply.
        active: u32,
    },
    /// Evaluate the gates of the schedule's questions; report [`RankEvent::Voted`]. It may be
    /// asked twice about an epoch, if the view changes.
    Vote {
        /// The view.
        view: View,
        /// The epoch.
        epoch: Epoch,
    },
    /// Copy parameters and optimizer state from any of `holders`; report
    /// [`RankEvent::Healed`].
    ///
    /// **The copy is taken into a buffer of its own and becomes the parameters only when it is
    /// whole, in the same step as `Healed` is reported**; after [`LeaveView`](Self::LeaveView) it
    /// never does. Until then the rank has what it had before, and says so if the view changes:
    /// if all holders are lost, the run goes on from that.
    Heal {
        /// The view.
        view: View,
        /// The version to copy.
        applied: u64,
        /// Who has it.
        holders: Vec<Rank>,
    },
    /// **The one thing that changes an alpha.** Take stages and alphas from the record's
    /// schedule, forget every cached alpha, allow failed compilations another try.
    ApplyEpoch(CommitRecord),
    /// The run is over, and all is well.
    Finish,
    /// The run is over for this rank. Close its connections and say nothing more.
    Fail(Failure),
}

/// What a rank waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RankWait {
    /// To be admitted.
    Admission,
    /// For the other members' contributions.
    Step {
        /// The view.
        view: View,
        /// Which collective of it.
        seq: u64,
    },
    /// For its own driver to evaluate the gates.
    Votes {
        /// The view.
        view: View,
    },
    /// For the record.
    Commit {
        /// The view.
        view: View,
    },
    /// For the other members to leave the old view.
    Resume {
        /// The new view.
        view: View,
    },
    /// For its own driver to copy parameters.
    Copy {
        /// The view.
        view: View,
    },
}
