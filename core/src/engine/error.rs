//! One error enum an operation of the engine.

use thiserror::Error;

use super::config::ConfigError;
use crate::RequestId;
use crate::pool::{AllocateError, ReconfigureError as PoolReconfigureError};
use crate::time::Instant;

/// Why a request was not accepted. The engine has kept nothing of it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SubmitError {
    /// There is nothing to continue: give at least one token.
    #[error("the prompt is empty; give at least one token")]
    EmptyPrompt,
    /// Nothing was to be generated: ask for at least one token.
    #[error("max_tokens is 0; ask for at least 1")]
    ZeroTokens,
    /// Prompt and answer are more tokens than can be counted.
    #[error("{prompt} prompt tokens and {max_tokens} more; at most 4294967295 are possible")]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens asked for.
        max_tokens: u32,
    },
    /// It would need more blocks than the pool has: shorten it; waiting does not help.
    #[error("it needs {needed} blocks in all layers; the pool has {total}, so it never fits")]
    NeverFits {
        /// Blocks for the prompt and all it may generate.
        needed: u64,
        /// Blocks the pool has.
        total: u32,
    },
    /// The agent's last request has not ended: wait for it, or cancel it.
    #[error("the agent's {request} has not ended; wait for it or cancel it")]
    AgentBusy {
        /// The request in flight.
        request: RequestId,
    },
    /// The agent is registered with another pool.
    #[error("the agent is another pool's; register it with this engine's")]
    ForeignAgent,
    /// As many requests wait as may: retry later.
    #[error("{waiting} requests are waiting, as many as may; retry later")]
    QueueFull {
        /// Requests waiting.
        waiting: u32,
    },
    /// The deadline is not after now.
    #[error("the deadline has passed already")]
    DeadlinePassed,
    /// The engine takes no requests.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Why an engine takes no requests (or no command).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Closed {
    /// It is being drained, or has been: resume it, or use another engine.
    #[error("the engine is draining or drained; resume it or use another")]
    Draining,
    /// It is being reconfigured: retry.
    #[error("the engine is being reconfigured; retry later")]
    Reconfiguring,
    /// It was shut down for good.
    #[error("the engine was shut down")]
    ShutDown,
    /// Its backend failed: make a new engine.
    #[error("the engine is dead: {0}")]
    EngineDead(DeathCause),
}

/// What an engine died of. It never recovers: make a new one.
#[derive(Clone, Debug, Error, PartialEq, Eq, Hash)]
pub enum DeathCause {
    /// [`Generator::step`](super::Generator::step) returned an error.
    #[error("the backend's step failed: {message}")]
    StepFailed {
        /// The backend's words.
        message: String,
    },
    /// The backend (or a payload's drop) panicked.
    #[error("the backend panicked in {call}: {message}")]
    Panicked {
        /// Which call.
        call: &'static str,
        /// The panic's words.
        message: String,
    },
    /// Whoever steps the engine is gone, and nobody else will.
    #[error("nobody steps the engine any more: {message}")]
    DriverGone {
        /// What is known of it.
        message: String,
    },
    /// A model was to be swapped back after a failed swap, and the pool was taken by others.
    #[error("the swap to another model failed and could not be undone: {message}")]
    SwapNotUndone {
        /// Why.
        message: String,
    },
}

/// Why a request was not cancelled: it had ended, or never was.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CancelError {
    /// Its end was decided before.
    #[error("{request} has ended, or its end is decided")]
    Ended {
        /// The request.
        request: RequestId,
    },
    /// No request had this id yet.
    #[error("{request} was never submitted")]
    Unknown {
        /// The id.
        request: RequestId,
    },
}

/// Why no step was made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StepError {
    /// Another thread is stepping this engine: leave it to that one.
    #[error("another thread is stepping this engine")]
    Busy,
    /// The backend failed, and every event of its end was handed out before.
    #[error("the engine is dead: {0}")]
    EngineDead(DeathCause),
}

/// Why a drain was not begun.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DrainError {
    /// One is under way.
    #[error("the engine is draining already, until {deadline:?}")]
    Draining {
        /// By when it ends.
        deadline: Instant,
    },
    /// Another thread is resuming it this very moment: retry.
    #[error("the engine is being resumed; retry")]
    Resuming,
    /// The engine can no longer be drained.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Why an engine was not made.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum EngineError {
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Why an engine was not reconfigured.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReconfigureError {
    /// Requests have not ended: drain first.
    #[error("{live} requests have not ended; drain the engine first")]
    InUse {
        /// Requests accepted and not ended.
        live: u32,
    },
    /// Another thread is stepping the engine: stop it, or retry.
    #[error("another thread is stepping this engine")]
    Busy,
    /// The pool is used by others, or the new size is none. The caches are gone, else nothing
    /// has changed.
    #[error("the pool was not reconfigured: {0}")]
    Pool(#[from] PoolReconfigureError),
    /// The backend refused. The pool is as it was; the caches are gone.
    #[error("the backend was not reconfigured: {message}")]
    Backend {
        /// The backend's words.
        message: String,
    },
    /// The engine can no longer be reconfigured.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Why one request failed. Others are not touched, but for [`FailReason::EngineDead`].
#[derive(Clone, Debug, Error, PartialEq, Eq, Hash)]
pub enum FailReason {
    /// The backend did not take it in.
    #[error("the backend did not take it: {message}")]
    InsertFailed {
        /// The backend's words.
        message: String,
    },
    /// The pool can never give what it needs: its agent was retired, say.
    #[error("the pool refused its blocks: {0}")]
    PoolRefused(AllocateError),
    /// The backend returned two tokens for it in one step, or one that was not asked for.
    #[error("the backend returned a token for it that was not asked for")]
    Protocol,
    /// The backend returned nothing for it, step after step.
    #[error("the backend returned nothing for it in {steps} steps")]
    Silent {
        /// Steps in a row.
        steps: u32,
    },
    /// The whole engine died.
    #[error("the engine died: {0}")]
    EngineDead(DeathCause),
}

/// An outcome was reported that no action asked for: a bug of the driver.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{outcome} was reported, but what is under way is {under_way}")]
pub struct UnexpectedOutcome {
    /// The outcome's name.
    pub outcome: &'static str,
    /// The action it should answer, or "nothing".
    pub under_way: &'static str,
}

/// A cache was not given to the engine. It comes back with this.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PutCacheError {
    /// The agent's last request has not ended, or it has a cache already.
    #[error("the agent has a request in flight or a cache already")]
    AgentBusy,
    /// The blocks are another pool's.
    #[error("the blocks are of another pool")]
    ForeignPool,
    /// They do not fit the model the engine serves now.
    #[error("the blocks do not fit this engine's model: {0}")]
    Mismatch(#[from] crate::blocks::AgentBlocksError),
    /// They hold no tokens.
    #[error("the cache is empty")]
    Empty,
    /// The engine takes nothing.
    #[error(transparent)]
    Closed(#[from] Closed),
}
