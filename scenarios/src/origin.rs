//! Further bugs of the two systems that the tickets come from.

mod cached_insert_fail;
mod cancel;
mod clear_window;
mod compile_last_writer;
mod decode_loop;
mod drain_sticky;
mod drain_toctou;
mod embargo_double;
pub(crate) mod engine;
mod factory_fail;
mod fifo;
mod finalize_fail;
mod force_alpha;
mod free_partial;
mod gate_allreduce;
mod gate_d1;
mod gate_d2;
mod gate_d3;
mod gate_d4;
mod gate_d5;
mod gate_d6;
mod gate_d7;
mod gate_d8;
mod gate_d9;
mod hot_shared_ref;
mod lone_rank;
mod next_fail;
mod profiler_enter;
mod profiler_finally;
mod profiler_handler;
mod profiler_summary;
pub(crate) mod profilers;
mod race_partial;
mod rollback_orphan;
mod same_agent;
pub(crate) mod scheduler;
mod shutdown_blocks;
mod sigmoid_overflow;
mod snapshot;
mod step_abandon;
mod stop_pending;
pub(crate) mod subject;
mod submit_visible;
mod torn_mem;
mod unlocked_orphan;
mod worker_death;

use crate::Scenario;

/// The scenarios of the origin.
pub const ALL: &[&Scenario] = &[
    &race_partial::SCENARIO,
    &unlocked_orphan::SCENARIO,
    &torn_mem::SCENARIO,
    &free_partial::SCENARIO,
    &clear_window::SCENARIO,
    &submit_visible::SCENARIO,
    &drain_toctou::SCENARIO,
    &same_agent::SCENARIO,
    &hot_shared_ref::SCENARIO,
    &finalize_fail::SCENARIO,
    &next_fail::SCENARIO,
    &factory_fail::SCENARIO,
    &cached_insert_fail::SCENARIO,
    &step_abandon::SCENARIO,
    &drain_sticky::SCENARIO,
    &shutdown_blocks::SCENARIO,
    &decode_loop::SCENARIO,
    &worker_death::SCENARIO,
    &stop_pending::SCENARIO,
    &cancel::SCENARIO,
    &fifo::SCENARIO,
    &gate_d1::SCENARIO,
    &gate_d2::SCENARIO,
    &gate_d3::SCENARIO,
    &gate_d4::SCENARIO,
    &gate_d5::SCENARIO,
    &gate_d6::SCENARIO,
    &gate_d7::SCENARIO,
    &gate_d8::SCENARIO,
    &gate_d9::SCENARIO,
    &gate_allreduce::SCENARIO,
    &force_alpha::SCENARIO,
    &embargo_double::SCENARIO,
    &snapshot::SCENARIO,
    &rollback_orphan::SCENARIO,
    &sigmoid_overflow::SCENARIO,
    &compile_last_writer::SCENARIO,
    &profiler_enter::SCENARIO,
    &profiler_finally::SCENARIO,
    &profiler_handler::SCENARIO,
    &profiler_summary::SCENARIO,
];
