//! Bugs of other engines in the field, by the issue that tells of them.

mod client_gone;
mod dead_thread_200;
mod double_free_kills_engine;
mod drop_by_channel;
mod free_batch_duplicate;
mod front;
mod naive_front;
mod relaxed_publication;
mod slow_client_stalls_all;
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
    &client_gone::SCENARIO,
    &slow_client_stalls_all::SCENARIO,
    &dead_thread_200::SCENARIO,
    &drop_by_channel::SCENARIO,
];
