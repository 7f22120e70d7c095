//! The tickets this project began with. Each stands for ever.

mod agent_blocks_mutation;
mod alpha_broadcast_hang;
mod alpha_cache_left_behind;
mod alpha_cache_never_reset;
mod alpha_drift;
mod alpha_workers;
mod compile_fallback_forever;
mod compile_lazy_failure;
mod opaque_payload;
mod pool_check_then_act;
mod profiler_left_open;
mod step_doubles_memory;
mod submit_error_leak;
mod untracked_uid;

use crate::Scenario;

/// The scenarios of the tickets.
pub const ALL: &[&Scenario] = &[
    &pool_check_then_act::SCENARIO,
    &agent_blocks_mutation::SCENARIO,
    &opaque_payload::SCENARIO,
    &step_doubles_memory::SCENARIO,
    &submit_error_leak::SCENARIO,
    &untracked_uid::SCENARIO,
    &alpha_drift::SCENARIO,
    &alpha_broadcast_hang::SCENARIO,
    &alpha_cache_never_reset::SCENARIO,
    &alpha_cache_left_behind::SCENARIO,
    &compile_fallback_forever::SCENARIO,
    &compile_lazy_failure::SCENARIO,
    &profiler_left_open::SCENARIO,
];
