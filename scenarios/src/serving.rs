//! Real requests through the code that ships, in virtual time: what `selvedge serve-trace`
//! does.
//!
//! ```text
//! trace (who asked what, when) → agents (whose next turn is it) → run (engine, pool, clock)
//!                                                                   → report (text, JSON, HTML)
//! ```
//!
//! Only the clock and the model are not the real ones. A step takes as long as [`StepCost`]
//! says, and the model is the one that checks what it reads back from the blocks.

pub mod agents;
pub mod page;
pub mod report;
pub mod run;
pub mod trace;

pub use report::{Percentiles, ServeReport};
pub use run::{Progress, ServeConfig, ServeError, StepCost, serve};
pub use trace::{BadLine, Request, Trace};
