//! The corpus: seeds that are kept for ever, each with its name and its post-mortem, as TOML
//! files that `selvedge corpus` writes and people read.
//!
//! ```toml
//! [[regression]]
//! name = "pool-check-then-act-by-explorer"
//! engine = "explorer"
//! signature = "pop-from-empty-list"
//! expect = "fails"
//! found_by = "selvedge corpus add --twins"
//! twin = "SPRINT-2.5 #1"
//! size = "1 preemption, 3 switches, 14 steps; none with fewer preemptions fails"
//! why = "free list checked, then popped block by block"
//! seed = "sv2.pool-check-then-act.as-reported.explorer.abfe36e8.ABNwb3AtZnJvbS1l..."
//! ```
//!
//! There are two kinds, by what is expected:
//!
//! * **`fails`: the seed of a twin**, which has its bug for ever. It must fail with its signature,
//!   at the first execution, by the very steps it was made of. Anything else is staleness: a new
//!   seed is made by `corpus add --twins`.
//! * **`passes`: the seed of a bug of the shipped code**, which was fixed (`fixed_in`) or waits to
//!   be. No fix leaves the steps as they were, so it is kept to *as far as the code allows*
//!   ([`selvedge_sim::follow`]), and the execution that comes of it must be well. How far it was
//!   kept to is told each time. Where not one of its switches takes place any more it guides
//!   nothing, and is stale.
//!
//! What is said twice is compared: engine, signature and expectation with the seed, the twin's
//! report with the scenario. [`entry`] reads one, [`store`] the folder; [`judge`] says what a
//! replay means, and runs nothing.

pub(crate) mod entry;
pub(crate) mod judge;
pub(crate) mod store;

pub(crate) use entry::{Entry, Expected, Problem};
pub(crate) use judge::Finding;
pub(crate) use store::Corpus;

/// What `corpus add --twins` writes into `found_by`: it rewrites such entries, and no others' words.
pub(crate) const BY_TWINS: &str = "selvedge corpus add --twins";
