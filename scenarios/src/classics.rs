//! Textbook programs that tell the engines apart: which of them finds what, which must not,
//! and why. `selvedge list` prints the table.
//!
//! Here the twin is the wrong program and "shipped" stands for the right one.

mod message_passing;

use crate::Scenario;

/// The classics.
pub const ALL: &[&Scenario] = &[&message_passing::SCENARIO];
