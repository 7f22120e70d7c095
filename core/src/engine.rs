//! The batch engine: many agents' requests in one model, on the blocks of one pool.
//!
//! [`EngineState`] decides everything, as plain state; [`BatchEngine`] is the shell that
//! threads share: **each call takes the one lock, hands over to the state and lets go; the
//! backend, the pool and every payload's drop come outside it.** A request goes
//!
//! ```text
//! submit → waiting → leased → live → (extracted) → removed → released → told
//!             ↑ preempted ────┘
//! ```
//!
//! | who | holds | when |
//! |---|---|---|
//! | the shell's lock | the state, prompts on their way in, idle caches (payload and lease) | always |
//! | the driver, the thread that is in [`BatchEngine::step`] | the backend, and of each request its tokens, its lease and what it starts from | during a step; else the shell keeps it |
//! | the backend | what is computed of a sequence | from insert to remove |
//!
//! An agent's cache between two turns is an [`AgentBlocks`](crate::AgentBlocks). Its next
//! request keeps the blocks of the common prefix, gives up the others and takes new ones, in
//! one exchange; the payloads of those given up are dropped before, and no cache of the agent's
//! is left beside it. At the end the cache is moved out of the backend into the same blocks.
//!
//! [`EngineServer`] is the front end for threads: it runs the step loop, and each client has a
//! [`TokenStream`]. The cargo feature `tokio` adds one for tasks, in the module of that name.
//! [`Clients`] decides whose events go where, for every front end alike.

mod action;
mod admission;
mod clients;
mod config;
mod desk;
mod driver;
mod error;
mod generator;
pub mod invariants;
mod layout;
mod prefill;
mod request;
mod serve;
mod shell;
mod state;
mod stream;
#[cfg(feature = "tokio")]
pub mod tokio;
mod turn;

pub use action::{
    Action, CacheSize, CancelReason, End, Ended, Event, Fault, LeaseOrder, Outcome, PlannedChunk,
    RequestCounts, Snapshot, StepPlan, Wake,
};
pub use clients::{
    Cancellations, Clients, NewClient, Refused, StreamEnd, StreamItem, Token, TokenSink,
};
pub use config::{Admission, ConfigError, EngineConfig};
pub use desk::DrainEnd;
pub use error::{
    CancelError, Closed, DeathCause, DrainError, EngineError, FailReason, PutCacheError,
    ReconfigureError, StepError, SubmitError, UnexpectedOutcome,
};
pub use generator::{BlockSlot, Finish, Generator, NewSequence, PrefillChunk, Produced, StepInput};
pub use prefill::chunk_tokens;
pub use request::RequestShape;
pub use serve::{AlreadyRunning, EngineServer, TokenStream};
pub use shell::{BatchEngine, NewRequest};
pub use state::{Counters, EngineState};
pub use stream::{ChannelSink, TokenReceiver, token_channel};
