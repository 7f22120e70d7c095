//! Textbook programs that tell the engines apart: which of them finds what, which must not,
//! and why. `selvedge list` prints the table.
//!
//! Here the twin is the wrong program and "shipped" stands for the right one.

mod abba_2;
mod abba_3;
mod accounts;
mod bounded_buffer_notify_one;
mod dekker;
mod dining_philosophers;
mod double_checked_init;
mod exclusion;
mod iriw;
mod load_buffering;
mod loom_166;
mod loom_392;
mod lost_wakeup;
mod message_passing;
mod peterson;
mod spin_needs_yield;
mod store_buffering;
mod ticket_lock;

use crate::Scenario;

/// The classics.
pub const ALL: &[&Scenario] = &[
    &store_buffering::SCENARIO,
    &message_passing::SCENARIO,
    &load_buffering::SCENARIO,
    &iriw::SCENARIO,
    &abba_2::SCENARIO,
    &abba_3::SCENARIO,
    &lost_wakeup::SCENARIO,
    &dining_philosophers::SCENARIO,
    &bounded_buffer_notify_one::SCENARIO,
    &double_checked_init::SCENARIO,
    &ticket_lock::SCENARIO,
    &dekker::SCENARIO,
    &peterson::SCENARIO,
    &loom_166::SCENARIO,
    &loom_392::SCENARIO,
    &spin_needs_yield::SCENARIO,
];
