//! A night: the whole catalogue run by as many machines as there are, and put together again.
//!
//! **What is run is decided by a [`Plan`] and by nothing else.** The plan is a pure function of its
//! [`Inputs`]; every machine makes it anew, takes the part of its [`Shard`] and appends what came of
//! it to a file of its own ([`mod@file`]). Its hash stands in each file, so that [`Night`] puts together
//! only what belongs together, and says what is missing.
//!
//! ```
//! use selvedge_scenarios::nightly::{Inputs, Plan, Shard};
//!
//! let inputs = Inputs {
//!     run_id: "2026-11-22".to_owned(),
//!     seed: 1,
//!     effort: 4,
//!     filters: vec!["abba".to_owned()],
//!     room_s: 0,
//!     sources: "0123456789abcdef".to_owned(),
//! };
//! let scenarios: Vec<_> = selvedge_scenarios::all();
//! let chosen: Vec<_> = scenarios.into_iter().filter(|s| s.id.starts_with("abba")).collect();
//! let plan = Plan::of(inputs, &chosen);
//! // Four shards have each piece once.
//! let shards: Vec<Shard> = (1..=4).map(|number| Shard { number, of: 4 }).collect();
//! let dealt: usize = shards.iter().map(|shard| plan.part(*shard).len()).sum();
//! assert_eq!(dealt, plan.pieces().len());
//! ```

pub mod file;
mod join;
mod merge;
mod plan;
mod record;
mod shard;
mod trend;

pub use join::{Joined, better, join};
pub use merge::{Canary, CanaryState, Gap, Night, Refused, Unit, common_header};
pub use plan::{Inputs, MOST_INTERVALS, Piece, Plan, PlanUnit, sources};
pub use record::{Ended, Header, Line, Ran, SCHEMA};
pub use shard::{COUNT_VARIABLE, Shard, ShardError};
pub use trend::{Base, BaseUnit, Failing, Key, SamePlan, Trend};
