//! The epoch step of data-parallel training: seeds that are blended into a host network, and
//! ranks that agree on how far.
//!
//! **Alpha is never synchronised.** Ranks agree on a record of what was decided; alpha and the
//! stages are pure functions of it, in integers ([`Schedule`]), and become floats in one place
//! ([`AlphaController::alpha`]).

mod alpha;
mod collective;
mod coordinator;
mod digest;
mod gates;
mod ids;
pub mod invariants;
mod message;
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
