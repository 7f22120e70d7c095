//! The epoch step of data-parallel training: seeds that are blended into a host network, and
//! ranks that agree on how far.
//!
//! **Alpha is never synchronised.** Ranks agree on a [`CommitRecord`]; alpha, the stages and the
//! results of gates are pure functions of it, in integers ([`Schedule`]), and alpha becomes a
//! float in one place ([`AlphaController::alpha`]).
//!
//! | machine | decides | held by |
//! |---|---|---|
//! | [`RankState`] | when to step, vote, stop, copy, apply a record, fail | a driver in each rank |
//! | [`CoordinatorState`] | who is a member, what the votes of a view come to | one driver a run, and its store |
//! | [`Watch`] | which wait was too long | the driver of either |
//!
//! 1. Each step is an all-reduce ([`Collective`]). Beside the gradient it carries whether a rank
//!    has more batches, so that all learn in the same step that the epoch is over. Whose loader
//!    is exhausted goes on with zeros: nobody ever issues another collective than the others.
//! 2. It also carries a [`StepTag`]. If not all were equal, nothing of the step is applied.
//! 3. At the boundary each rank votes on the schedule's questions, and the coordinator makes a
//!    record of the votes of *all* members, writes it down, and sends it. [`RankAction::ApplyEpoch`]
//!    is the one thing that changes an alpha.
//! 4. A death, a suspicion, a reconnection, a collective that came to nothing and a restart of the
//!    coordinator are each a change of view: all stop, say what they have, and go on from the newest step that any of them has
//!    applied. Ranks are let in at a boundary only.
//! 5. A machine waits for one thing at a time, and says for what. At its hard deadline a rank
//!    fails with a reason ([`Failure`]), a coordinator leaves behind whom it waits for.
//!
//! # What cannot be had
//! * Slow and dead cannot be told apart. A rank that is falsely suspected loses its membership,
//!   never its honesty: it must come back as a new life ([`Incarnation`]), with a copy of the
//!   others' parameters.
//! * Ranks do not begin an epoch at the same instant. That no step mixes two epochs the tags
//!   see to.
//! * A collective may come to something for one rank and to nothing for another, if somebody
//!   dies. That is what the flush is for.
//! * A rank or a disk that lies is not defended against.
//!
//! # What a network must do
//! A connection keeps the order of its messages and delivers nothing after it was lost. Messages
//! of a former connection may come at any time; they are told apart by view and life. There is one
//! coordinator at a time: the lock on its store sees to that.
//!
//! # What is not here
//! Threads and sockets. [`InProcessGroup`] lets the threads of one process reduce together; the
//! cargo feature `net` adds `ddp::net`: drivers of both machines over TCP, and the store of
//! [`Durable`] and [`RankCheckpoint`], which are plain values here.

mod alpha;
mod alpha_view;
mod collective;
mod coordinator;
mod digest;
mod gates;
mod ids;
mod in_process;
pub mod invariants;
mod message;
#[cfg(feature = "net")]
pub mod net;
mod rank;
mod record;
mod schedule;
mod slot;
mod stage;
mod tag;
mod watch;

pub use alpha::{
    AlphaController, AlphaCurve, AlphaError, AlphaLevel, AlphaMode, RetargetError, Steepness,
};
pub use alpha_view::{AlphaView, ForceError};
pub use collective::{Collective, Contribution, Reduced};
pub use coordinator::{
    CoordinatorAction, CoordinatorEvent, CoordinatorState, CoordinatorWait, Durable, Member,
    RunConfig, RunConfigError,
};
pub use gates::{
    Check, Decision, GateLevel, GateMetrics, GateResult, MAX_GRADIENT_RATIO, MIN_CONTRIBUTION,
    MIN_EPOCHS, MIN_GRADIENT_RATIO, MIN_HEALTH, MIN_IMPROVEMENT, Question, Reduction, Strictness,
    Vote, evaluate,
};
pub use ids::{BlueprintId, Epoch, Incarnation, Rank, RunId, SeedId, SlotId, View};
pub use in_process::{
    InProcess, InProcessExit, InProcessGroup, RoundError, RoundState, Scalar, Seat,
};
pub use message::{
    AbortReason, CoordinatorSays, EvictReason, Held, RankSays, ToCoordinator, ToRank,
};
pub use rank::{Failure, RankAction, RankCheckpoint, RankConfig, RankEvent, RankState, RankWait};
pub use record::{Ballot, CommitRecord, RecordError};
pub use schedule::{BallotMismatch, DuplicateSlot, Schedule};
pub use slot::{
    AdvanceError, AlphaTargetError, CommandError, GerminateError, History, MIN_PRUNE_AGE,
    PruneError, PruneReason, SchedulePruneError, SeedSlot, SlotCommand, SlotRules, Transition,
};
pub use stage::SeedStage;
pub use tag::{StepTag, TagLanes, TagMax};
pub use watch::{Deadlines, Due, Watch};
