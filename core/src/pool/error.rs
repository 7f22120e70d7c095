//! One error enum an operation. Every call that returns one has changed nothing.

use thiserror::Error;

use crate::{BlockId, BlockRef, LayerId};

/// Why a pool could not be made.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PoolConfigError {
    /// A pool of no blocks could never serve anybody: give it at least one.
    #[error("a pool of 0 blocks was asked for; give it at least 1")]
    NoBlocks,
}

/// Why an agent was not registered or retired.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AgentError {
    /// An agent without a name could not be told from another: give it one.
    #[error("an agent's name is empty; give it one")]
    EmptyName,
    /// 2^32 - 1 agents are registered: retire those that are gone.
    #[error("no more agents can be registered; retire those that are gone")]
    TooMany,
    /// The handle's agent was retired: register it again.
    #[error("the agent is not registered with this pool (it was retired, or is another pool's)")]
    Unknown,
    /// The agent still holds blocks or reservations: free them first.
    #[error("agent {name:?} still holds {blocks} blocks and {reserved} reserved; free them first")]
    StillHolds {
        /// The agent's name.
        name: String,
        /// Blocks it holds.
        blocks: u32,
        /// Blocks reserved for it.
        reserved: u32,
    },
}

/// Why an allocation (of any kind) was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
pub enum AllocateError {
    /// Zero blocks were asked for: ask for at least one.
    #[error("0 blocks were asked for; ask for at least 1")]
    ZeroBlocks,
    /// The same layer was named twice in one request: add the two counts up.
    #[error("{layer} is named twice in one request; add the counts up")]
    DuplicateLayer {
        /// The layer named twice.
        layer: LayerId,
    },
    /// The model has no such layer.
    #[error("{layer} was asked for; the model has layers 0 to {last}")]
    UnknownLayer {
        /// The layer asked for.
        layer: LayerId,
        /// The last there is.
        last: u32,
    },
    /// The agent was retired, or is registered with another pool: register it.
    #[error("the agent is not registered with this pool (it was retired, or is another pool's)")]
    UnknownAgent,
    /// More than a sliding-window layer can ever use for one agent: the oldest blocks of that
    /// layer must be freed (or exchanged), waiting does not help.
    #[error(
        "{layer} slides: an agent uses at most {cap} of its blocks, holds {held}, asked for {requested} more"
    )]
    WindowExceeded {
        /// The layer.
        layer: LayerId,
        /// Blocks its window is worth.
        cap: u32,
        /// Blocks the agent holds of it already.
        held: u32,
        /// Blocks asked for.
        requested: u32,
    },
    /// More than the pool has at all: it never fits. Refuse the request; do not retry.
    #[error("{requested} blocks were asked for; the pool has {total} in all, so it never fits")]
    ExceedsCapacity {
        /// Blocks asked for.
        requested: u64,
        /// Blocks the pool has.
        total: u32,
    },
    /// More than the reservation has left. It never grows: reserve more, do not retry.
    #[error("{requested} blocks were asked for of a reservation that has {left} left")]
    ExceedsReservation {
        /// Blocks asked for.
        requested: u32,
        /// Blocks still promised.
        left: u32,
    },
    /// Not enough blocks are free now: retry when some come back.
    #[error("{requested} blocks were asked for; {available} of {total} are available now")]
    Exhausted {
        /// Blocks asked for.
        requested: u32,
        /// Blocks neither held nor reserved.
        available: u32,
        /// Blocks the pool has.
        total: u32,
    },
}

/// Why waiting for blocks came to nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq, Hash)]
pub enum WaitError {
    /// It cannot be had however long one waits.
    #[error("waiting does not help: {0}")]
    Refused(AllocateError),
    /// The time is up: retry, or refuse your own caller.
    #[error("the blocks did not come in time")]
    TimedOut,
    /// The agent was retired while it waited.
    #[error("the agent was retired while it waited")]
    AgentRetired,
    /// The pool was reconfigured meanwhile: ask again for what the new model needs.
    #[error("the pool was reconfigured while this waited; ask for what the new model needs")]
    Reconfigured,
    /// Nobody may wait: the queue was closed.
    #[error("the pool's queue is closed; open it, or allocate without waiting")]
    Closed,
    /// The ticket has given its blocks or its error already, or was withdrawn.
    #[error("the ticket is spent; get in line again")]
    NoTicket,
}

/// Why a batch of handles was not freed (or adopted). None of the batch was.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FreeError {
    /// The agent was retired, or is registered with another pool.
    #[error("the agent is not registered with this pool (it was retired, or is another pool's)")]
    UnknownAgent,
    /// The block is not allocated: this is a double free, or a handle nobody was given.
    #[error("{block} is not allocated (freed twice?)")]
    NotAllocated {
        /// The handle.
        block: BlockRef,
    },
    /// The block is another agent's.
    #[error("{block} belongs to agent {owner:?}")]
    WrongOwner {
        /// The handle.
        block: BlockRef,
        /// Whose it is.
        owner: String,
    },
    /// The block was freed and handed out again since: the handle is of an earlier use.
    #[error("{block} was freed since and is in generation {current} now")]
    StaleGeneration {
        /// The handle.
        block: BlockRef,
        /// The generation the block is in.
        current: u64,
    },
    /// The same block stands twice in the batch.
    #[error("{block} stands twice in one batch")]
    DuplicateInBatch {
        /// The handle.
        block: BlockRef,
    },
    /// The handle is another pool's.
    #[error("{block} is of another pool")]
    ForeignPool {
        /// The handle.
        block: BlockRef,
    },
}

/// Why an exchange was refused. The old blocks are all still held.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ExchangeError {
    /// The old blocks are not (all) the caller's to give.
    #[error("the old blocks cannot be given up: {0}")]
    Old(#[from] FreeError),
    /// The new ones cannot be had, even with the old ones back.
    #[error("the new blocks cannot be had: {0}")]
    New(#[from] AllocateError),
}

/// Why a pool was not reconfigured.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReconfigureError {
    /// Somebody still holds blocks or reservations: drain them first.
    #[error("blocks are still held or reserved by {}", owners.join(", "))]
    InUse {
        /// The names of all who do, in order.
        owners: Vec<String>,
    },
    /// The new pool would have no blocks.
    #[error(transparent)]
    Config(#[from] PoolConfigError),
}

/// A property that does not hold: a bug of this crate, never of its caller.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{property} does not hold: {detail}")]
pub struct InvariantViolation {
    /// The property's name, the same as its file's.
    pub property: &'static str,
    /// What was found.
    pub detail: String,
}

impl InvariantViolation {
    pub(crate) fn new(property: &'static str, detail: impl Into<String>) -> Self {
        InvariantViolation {
            property,
            detail: detail.into(),
        }
    }

    pub(super) fn of_block(property: &'static str, block: BlockId, detail: &str) -> Self {
        InvariantViolation::new(property, format!("{block} {detail}"))
    }
}
