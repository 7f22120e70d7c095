//! The catalogue: every scenario is one file with a body generic over its platform, the bug's
//! as-reported twin, the code that ships, and what each engine must make of both.
//!
//! The `selvedge` command ([`cli`]) runs them.

mod bed;
pub mod classics;
pub mod cli;
pub mod field;
pub mod origin;
pub mod registry;
pub mod report;
pub mod serving;
pub mod tickets;

pub use registry::{Difference, Expect, Only, Plan, Scenario, all};
