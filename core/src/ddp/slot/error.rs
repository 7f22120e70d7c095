//! One error enum an operation of a slot.

use thiserror::Error;

use crate::ddp::alpha::RetargetError;
use crate::ddp::ids::SlotId;
use crate::ddp::stage::SeedStage;

/// Why no seed was put in.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
pub enum GerminateError {
    /// One is there: prune it, and wait for the end of its embargo.
    #[error("the slot has a seed, which is {stage}; it must be empty")]
    Occupied {
        /// Where that seed stands.
        stage: SeedStage,
    },
    /// Seed or blueprint is 0, which is none.
    #[error("a seed and its blueprint need ids other than 0")]
    MissingId,
}

/// Why nothing was asked.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
pub enum AdvanceError {
    /// The slot is empty.
    #[error("the slot has no seed; germinate one first")]
    NoSeed,
    /// The target is one of those after a removal: prune instead.
    #[error("no seed advances to where removed ones go; from {stage}, prune it")]
    Failure {
        /// Where the seed stands.
        stage: SeedStage,
    },
    /// Nothing comes after.
    #[error("nothing comes after {stage}")]
    NoSuccessor {
        /// Where the seed stands.
        stage: SeedStage,
    },
    /// That stage does not come after this one.
    #[error("{target} does not come after {stage}")]
    NotASuccessor {
        /// Where the seed stands.
        stage: SeedStage,
        /// Where it was to go.
        target: SeedStage,
    },
}

/// Why no seed was removed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
pub enum PruneError {
    /// The slot is empty.
    #[error("the slot has no seed")]
    NoSeed,
    /// The seed is part of the host for good.
    #[error("a fossilized seed is never removed")]
    Fossilized,
    /// It was removed before.
    #[error("the seed was removed; it is {stage}")]
    Removed {
        /// Where it stands.
        stage: SeedStage,
    },
}

/// Why no removal was scheduled.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SchedulePruneError {
    /// It cannot be removed at all.
    #[error(transparent)]
    Prune(#[from] PruneError),
    /// Alpha is on its way somewhere else.
    #[error(transparent)]
    Moving(#[from] RetargetError),
}

/// Why alpha was not sent anywhere.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AlphaTargetError {
    /// The seed neither blends nor holds.
    #[error("only a seed that blends or holds has an alpha to move; this slot is {stage}")]
    NotBlending {
        /// Where the slot stands.
        stage: SeedStage,
    },
    /// To 0 goes only who is removed: schedule a prune.
    #[error("alpha's target must be above 0; to remove the seed, schedule a prune")]
    Zero,
    /// Alpha is on its way somewhere else.
    #[error(transparent)]
    Moving(#[from] RetargetError),
}

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CommandError {
    /// There is no such slot.
    #[error("there is no {slot} here")]
    UnknownSlot {
        /// The slot it named.
        slot: SlotId,
    },
    /// Of germinate.
    #[error(transparent)]
    Germinate(#[from] GerminateError),
    /// Of advance.
    #[error(transparent)]
    Advance(#[from] AdvanceError),
    /// Of prune.
    #[error(transparent)]
    Prune(#[from] PruneError),
    /// Of a scheduled prune.
    #[error(transparent)]
    SchedulePrune(#[from] SchedulePruneError),
    /// Of a new target.
    #[error(transparent)]
    AlphaTarget(#[from] AlphaTargetError),
}
