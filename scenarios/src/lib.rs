//! The catalogue: every scenario is one file with a body generic over its platform, the bug's
//! as-reported twin, the code that ships, and what each engine must make of both.
//!
//! The `selvedge` command ([`cli`]) runs them.

// Most of the catalogue is the engine, compiled for each platform. Compiled once more for the
// few unit tests of this crate it would be a quarter of a cold `cargo test`: they do without.
#[cfg(not(test))]
mod bed;
pub mod canary;
pub mod classics;
pub mod cli;
#[cfg(not(test))]
mod compiling;
mod corpus;
#[cfg(not(test))]
pub mod field;
pub mod nightly;
#[cfg(not(test))]
pub mod origin;
pub mod registry;
pub mod report;
pub mod serving;
#[cfg(not(test))]
mod slots;
#[cfg(not(test))]
pub mod tickets;
pub mod training;
pub mod worlds;

pub use registry::{Difference, Expect, Only, Plan, Scenario, all};
