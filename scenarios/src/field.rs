//! Bugs of other engines in the field, by the issue that tells of them.

mod double_free_kills_engine;
mod free_batch_duplicate;
mod relaxed_publication;
mod treiber_aba;
mod two_resources_one_leaks;

use crate::Scenario;

/// The scenarios of the field.
pub const ALL: &[&Scenario] = &[
    &free_batch_duplicate::SCENARIO,
    &double_free_kills_engine::SCENARIO,
    &two_resources_one_leaks::SCENARIO,
    &relaxed_publication::SCENARIO,
    &treiber_aba::SCENARIO,
];
