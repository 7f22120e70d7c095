//! Bugs of other engines in the field, by the issue that tells of them.

mod agreed_on_time;
mod alive_but_stuck;
mod balanced_but_double_owned;
mod barrier_without_round;
mod bypass_starves_head;
mod cancel_in_every_state;
mod client_gone;
mod compile_storm;
mod dead_thread_200;
mod device;
mod different_collectives;
mod double_free_kills_engine;
mod drift_by_local_progress;
mod drop_by_channel;
mod early_stop_all_for_any;
mod early_stop_some_ranks;
mod elastic_rejoin;
mod epoch_earlier_life;
mod epoch_evicted_returns;
mod epoch_failed_member;
mod epoch_four_ranks;
mod epoch_majority_commit;
mod epoch_mid_join;
mod epoch_no_flush;
mod epoch_three_ranks;
mod epoch_three_ranks_all;
mod epoch_three_ranks_rejoin;
mod epoch_two_ranks_all;
mod epoch_volatile_view;
mod free_batch_duplicate;
mod freed_under_step;
mod front;
mod half_filled_entry;
mod huge_drop_recursion;
mod inner_failure_is_success;
mod lighthouse_dead_counted;
mod lighthouse_identity_reuse;
mod naive_front;
mod never_fits_blocks_queue;
mod preempt_livelock;
mod prefill_only;
mod rank_local_return;
mod ranks;
mod relaxed_publication;
mod request_id_reuse;
mod scheduler_stall;
mod silent_reset;
mod slow_client_stalls_all;
mod stale_cache_after_reconfigure;
mod step_error_keeps_blocks;
mod timeout_ignored;
mod treiber_aba;
mod two_resources_one_leaks;
mod unbounded_barrier;
mod unequal_compile;
mod uneven_loaders;
mod votes_without_step;
mod waiter_cancelled_at_head;
mod waiters_never_woken;

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
    &epoch_earlier_life::SCENARIO,
    &epoch_evicted_returns::SCENARIO,
    &epoch_failed_member::SCENARIO,
    &epoch_no_flush::SCENARIO,
    &epoch_mid_join::SCENARIO,
    &epoch_volatile_view::SCENARIO,
    &epoch_majority_commit::SCENARIO,
    &elastic_rejoin::SCENARIO,
    &lighthouse_identity_reuse::SCENARIO,
    &lighthouse_dead_counted::SCENARIO,
    &early_stop_all_for_any::SCENARIO,
    &epoch_two_ranks_all::SCENARIO,
    &epoch_three_ranks_rejoin::SCENARIO,
    &epoch_three_ranks::SCENARIO,
    &epoch_four_ranks::SCENARIO,
    &epoch_three_ranks_all::SCENARIO,
    &barrier_without_round::SCENARIO,
    &waiters_never_woken::SCENARIO,
    &unbounded_barrier::SCENARIO,
    &timeout_ignored::SCENARIO,
    &alive_but_stuck::SCENARIO,
    &inner_failure_is_success::SCENARIO,
    &votes_without_step::SCENARIO,
    &early_stop_some_ranks::SCENARIO,
    &agreed_on_time::SCENARIO,
    &rank_local_return::SCENARIO,
    &different_collectives::SCENARIO,
    &uneven_loaders::SCENARIO,
    &drift_by_local_progress::SCENARIO,
    &half_filled_entry::SCENARIO,
    &compile_storm::SCENARIO,
    &unequal_compile::SCENARIO,
];
