//! A cache for compiled training steps that never remembers a failure for good.
//!
//! Ticket B8-PT-03: the origin's `functools.cache` kept whatever its first call gave. One compile
//! that failed for want of memory left the process on the slow path until its end. Its repair
//! compiled again at every call, which in a runtime of somebody else's came to a million failed
//! compiles a minute (openj9#20618), and could not see the failure it was written for: what is
//! compiled lazily fails at its first *call*.
//!
//! ```text
//!             ask                      passed
//!   Vacant ────────▶ Compiling ─────────────────────▶ Ready
//!                     ▲     │ failed, or not back by     │ failed in use
//!      apply_epoch,   │     ▼ its deadline               ▼
//!      then ask       └── Cooling { not_before } ◀───────┘
//! ```
//!
//! | layer | type | does |
//! |---|---|---|
//! | state | [`CompileState`] | decides; plain, with time as an argument |
//! | shell | [`CompiledStep`], [`StepHandle`] | locks, compiles and runs with the lock let go |
//! | yours | [`StepCompiler`] | the step itself: eager, compiled, and how to compile it |
//!
//! **One attempt for a key at a time, whoever asks meanwhile runs eagerly, and what was compiled
//! is published only after its first execution has passed.** After a failure nobody compiles again
//! before two things have come: the end of the delay, which is finite whatever failed, and an
//! epoch that allows it. So no rank compiles in the middle of an epoch because another thread of
//! it was unlucky.
//!
//! An attempt that does not come back by its deadline counts as failed at the next epoch, so that
//! one compile that hangs does not keep its key eager for ever. It is published all the same if it
//! passes after all; what fails late changes nothing.

mod config;
mod counters;
mod handle;
pub mod invariants;
mod shell;
mod state;
mod told;

pub use config::{Backoff, CompileConfig, ConfigError, FailureClass, FirstCompile};
pub use counters::CompileCounters;
pub use handle::StepHandle;
pub use shell::{CompileFailure, CompiledStep, StepCompiler};
pub use state::{
    Attempt, CompileState, Decision, KeyId, Permits, Phase, TooManyKeys, Transition, TransitionKind,
};
