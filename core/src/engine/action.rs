//! What goes into and comes out of [`EngineState`](super::EngineState) as plain values: the
//! actions it asks for, the outcomes a driver reports, and the events users are told.

use super::error::{DeathCause, FailReason};
use super::generator::{Finish, Produced};
use super::state::Counters;
use crate::pool::AllocateError;
use crate::time::Instant;
use crate::{AgentId, RequestId};

/// What the driver is to do next. All but [`Action::Emit`] are answered by an [`Outcome`]
/// before the next is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Get the request's blocks, out of its agent's cached ones as far as they fit.
    Lease(LeaseOrder),
    /// Get more blocks for a running request, good for `capacity` tokens in all.
    Grow {
        /// The request.
        request: RequestId,
        /// Tokens its blocks must be good for.
        capacity: u32,
    },
    /// Hand the request to the backend.
    Insert {
        /// The request.
        request: RequestId,
        /// Tokens it may still generate.
        max_tokens: u32,
    },
    /// Make a step of the model.
    Step(StepPlan),
    /// Move the backend's cache of the sequence into its blocks, then give up those past its
    /// end.
    Extract {
        /// The request.
        request: RequestId,
        /// Tokens of the sequence, which is cut to them.
        tokens: u32,
    },
    /// Make the backend forget a sequence; it may be one that nobody inserted.
    Remove {
        /// Its id.
        request: RequestId,
    },
    /// Give up everything the request holds. What it was given of its agent's cache and has
    /// not handed to the backend becomes the cache again.
    Release {
        /// The request.
        request: RequestId,
    },
    /// Make the backend forget the sequence and give up its blocks, but keep its tokens.
    Preempt {
        /// The request.
        request: RequestId,
        /// Tokens of the sequence, which is cut to them.
        tokens: u32,
    },
    /// Drop an agent's cached blocks.
    Evict {
        /// The agent.
        agent: AgentId,
    },
    /// Drop the backend, then every cache, then every request's blocks: the engine is dead.
    Abandon,
    /// Tell the users.
    Emit(Vec<Event>),
}

impl Action {
    /// Its name in reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Action::Lease(_) => "lease",
            Action::Grow { .. } => "grow",
            Action::Insert { .. } => "insert",
            Action::Step(_) => "step",
            Action::Extract { .. } => "extract",
            Action::Remove { .. } => "remove",
            Action::Release { .. } => "release",
            Action::Preempt { .. } => "preempt",
            Action::Evict { .. } => "evict",
            Action::Abandon => "abandon",
            Action::Emit(_) => "emit",
        }
    }
}

/// Which blocks a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseOrder {
    /// The request.
    pub request: RequestId,
    /// Its agent.
    pub agent: AgentId,
    /// Whether the agent has cached blocks: the driver takes them now, and puts them back if
    /// it is refused.
    pub cached: bool,
    /// Tokens it starts from: its prompt, after a preemption with what it had generated.
    pub len: u32,
    /// Tokens its blocks must be good for.
    pub capacity: u32,
    /// Blocks that must be left available, or it is refused.
    pub keep_free: u32,
}

/// What one step computes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StepPlan {
    /// Who produces a token, by ascending id.
    pub decode: Vec<RequestId>,
    /// Which parts of which prompts are computed.
    pub prefill: Vec<PlannedChunk>,
}

/// A part of a prompt, from token `start` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlannedChunk {
    /// Whose prompt.
    pub request: RequestId,
    /// The first token.
    pub start: u32,
    /// Past the last.
    pub end: u32,
}

/// How an action went.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Of [`Action::Lease`]: it holds `blocks` now, of which those of the agent's cache are
    /// good for `reused` tokens.
    Leased {
        /// Blocks held.
        blocks: u32,
        /// Tokens that need not be computed.
        reused: u32,
    },
    /// Of [`Action::Lease`].
    LeaseRefused {
        /// Why.
        error: AllocateError,
        /// The agent's cache, which is idle again.
        cache: Option<CacheSize>,
    },
    /// Of [`Action::Grow`]: nothing has changed.
    GrowRefused(AllocateError),
    /// Of [`Action::Grow`]: it holds `blocks` now.
    Grown {
        /// Blocks held.
        blocks: u32,
    },
    /// Of [`Action::Insert`].
    Inserted,
    /// Of [`Action::Insert`].
    InsertFailed {
        /// The backend's words.
        message: String,
    },
    /// Of [`Action::Step`].
    Stepped(Vec<Produced>),
    /// Of [`Action::Step`].
    StepFailed {
        /// The backend's words.
        message: String,
    },
    /// Of [`Action::Extract`]: the blocks are the agent's cache now.
    Extracted(CacheSize),
    /// Of [`Action::Extract`].
    ExtractFailed {
        /// The backend's words.
        message: String,
    },
    /// Of [`Action::Remove`].
    Removed,
    /// Of [`Action::Release`].
    Released {
        /// What became the agent's cache again.
        cache: Option<CacheSize>,
    },
    /// Of [`Action::Preempt`].
    Preempted,
    /// Of [`Action::Evict`].
    Evicted,
    /// Of [`Action::Abandon`].
    Abandoned,
    /// Of any but [`Action::Abandon`]: the backend panicked.
    Panicked {
        /// Which call.
        call: &'static str,
        /// The panic's words.
        message: String,
    },
}

impl Outcome {
    /// Its name in reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Leased { .. } => "leased",
            Outcome::LeaseRefused { .. } => "lease refused",
            Outcome::GrowRefused(_) => "grow refused",
            Outcome::Grown { .. } => "grown",
            Outcome::Inserted => "inserted",
            Outcome::InsertFailed { .. } => "insert failed",
            Outcome::Stepped(_) => "stepped",
            Outcome::StepFailed { .. } => "step failed",
            Outcome::Extracted(_) => "extracted",
            Outcome::ExtractFailed { .. } => "extract failed",
            Outcome::Removed => "removed",
            Outcome::Released { .. } => "released",
            Outcome::Preempted => "preempted",
            Outcome::Evicted => "evicted",
            Outcome::Abandoned => "abandoned",
            Outcome::Panicked { .. } => "panicked",
        }
    }
}

/// How large an agent's cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheSize {
    /// Tokens of the sequence.
    pub tokens: u32,
    /// Blocks of all layers.
    pub blocks: u32,
}

/// What users are told, in the order it happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The backend has taken the request in, for the first time or again after a preemption.
    Started {
        /// The request.
        request: RequestId,
        /// Tokens of its prompt that its agent's cache has spared it.
        reused: u32,
    },
    /// The request has generated a token.
    Token {
        /// The request.
        request: RequestId,
        /// The token.
        token: u32,
        /// Its place among those generated, counted from 0.
        index: u32,
    },
    /// The request gave up its blocks to older ones and waits again. Its tokens so far stand.
    Preempted {
        /// The request.
        request: RequestId,
    },
    /// The request is over, and holds nothing any more. Told exactly once of each.
    Ended(Ended),
    /// The backend did what it must not.
    Fault(Fault),
    /// Every request had ended by the drain's deadline. No more are accepted.
    Drained,
    /// The drain's deadline came first. Requests are accepted again.
    DrainTimedOut {
        /// Requests that had not ended.
        left: u32,
    },
    /// The backend failed, and with it the engine.
    Died(DeathCause),
}

/// The end of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ended {
    /// The request.
    pub request: RequestId,
    /// Its agent.
    pub agent: AgentId,
    /// How it ended.
    pub end: End,
    /// Tokens of its prompt.
    pub prompt: u32,
    /// Tokens it has generated.
    pub generated: u32,
    /// Tokens that its agent has cached now, for the next request: of this one, or of the one
    /// before if this one never began.
    pub cached: u32,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// All was generated.
    Completed(Finish),
    /// Somebody, or its deadline, ended it before.
    Cancelled(CancelReason),
    /// It could not go on.
    Failed(FailReason),
}

/// Why a request was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CancelReason {
    /// The caller asked for it.
    Requested,
    /// Nobody listens any more.
    ClientGone,
    /// The client took its tokens too slowly.
    SlowClient,
    /// The request's own deadline passed.
    Deadline,
    /// The engine was shut down.
    ShutDown,
}

/// What a backend did that it must not, and what the engine did about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It returned a sequence that the engine has not inserted. It is told to remove it.
    UnknownSequence {
        /// The id it returned.
        request: RequestId,
    },
    /// It returned a sequence again that was complete. Nothing was done.
    Duplicate {
        /// The request.
        request: RequestId,
    },
    /// It did not hand a cache over. The request ends as it would have, without one.
    ExtractFailed {
        /// The request.
        request: RequestId,
        /// The backend's words.
        message: String,
    },
}

/// When the driver should make its next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wake {
    /// At once: there is work.
    Now,
    /// At this instant, or when somebody calls, whichever comes first.
    At(Instant),
    /// When somebody calls.
    OnCall,
}

/// The engine at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// Requests that have not ended.
    pub requests: RequestCounts,
    /// Agents that have an idle cache.
    pub caches: u32,
    /// Blocks of those.
    pub blocks_cached: u64,
    /// Blocks that requests hold.
    pub blocks_held: u64,
    /// How often the engine was reconfigured.
    pub epoch: u64,
    /// What was done so far.
    pub counters: Counters,
}

/// How many requests there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestCounts {
    /// Accepted, and without blocks.
    pub waiting: u32,
    /// With blocks.
    pub running: u32,
    /// Over, and giving up what they held.
    pub ending: u32,
}

impl RequestCounts {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u32 {
        self.waiting + self.running + self.ending
    }
}
