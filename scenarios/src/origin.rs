//! Further bugs of the two systems that the tickets come from.

mod clear_window;
mod free_partial;
mod race_partial;
mod torn_mem;
mod unlocked_orphan;

use crate::Scenario;

/// The scenarios of the origin.
pub const ALL: &[&Scenario] = &[
    &race_partial::SCENARIO,
    &unlocked_orphan::SCENARIO,
    &torn_mem::SCENARIO,
    &free_partial::SCENARIO,
    &clear_window::SCENARIO,
];
