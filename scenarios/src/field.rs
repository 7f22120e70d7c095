//! Bugs of other engines in the field, by the issue that tells of them.

mod balanced_but_double_owned;
mod bypass_starves_head;
mod cancel_in_every_state;
mod client_gone;
mod dead_thread_200;
mod device;
mod double_free_kills_engine;
mod drop_by_channel;
mod free_batch_duplicate;
mod freed_under_step;
mod front;
mod huge_drop_recursion;
mod naive_front;
mod never_fits_blocks_queue;
mod preempt_livelock;
mod prefill_only;
mod relaxed_publication;
mod request_id_reuse;
mod scheduler_stall;
mod silent_reset;
mod slow_client_stalls_all;
mod stale_cache_after_reconfigure;
mod step_error_keeps_blocks;
mod treiber_aba;
mod two_resources_one_leaks;
mod waiter_cancelled_at_head;

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
    &cancel_in_every_state::SCENARIO,
    &request_id_reuse::SCENARIO,
    &scheduler_stall::SCENARIO,
    &never_fits_blocks_queue::SCENARIO,
    &freed_under_step::SCENARIO,
    &bypass_starves_head::SCENARIO,
    &stale_cache_after_reconfigure::SCENARIO,
    &silent_reset::SCENARIO,
    &balanced_but_double_owned::SCENARIO,
    &step_error_keeps_blocks::SCENARIO,
    &preempt_livelock::SCENARIO,
    &huge_drop_recursion::SCENARIO,
    &waiter_cancelled_at_head::SCENARIO,
    &prefill_only::SCENARIO,
];
