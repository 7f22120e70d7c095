//! What the cache tells: a `tracing` event once a transition, and counters through the `metrics`
//! facade. Both are the program's own code to the cache, so no lock is held here.

use core::fmt::Debug;

use tracing::{info, warn};

use super::shell::Calls;
use super::state::{Attempt, Transition, TransitionKind};

/// Where the events come from.
const TARGET: &str = "selvedge::compiled_step";

pub(super) fn began(key: &impl Debug, attempt: Attempt) {
    info!(target: TARGET, transition = "began", ?key, attempt = attempt.number);
    count("selvedge_compile_attempts_total", 1);
}

/// Tells of what has changed. `why` is what the failure said, if it is one.
pub(super) fn of(key: &impl Debug, transition: &Transition, why: &str) {
    let attempt = transition.number;
    match transition.kind {
        TransitionKind::Published { failures, late } => {
            let recovered = failures > 0;
            info!(target: TARGET, transition = "published", ?key, attempt, recovered, late);
            if recovered {
                count("selvedge_compile_recoveries_total", 1);
            }
        }
        TransitionKind::Failed {
            class,
            failures,
            not_before,
        } => {
            let (class, not_before) = (class.name(), not_before.as_nanos());
            warn!(
                target: TARGET, transition = "failed", ?key, attempt, class, failures,
                not_before, why,
            );
            failed("selvedge_compile_failures_total", class);
        }
        TransitionKind::Withdrawn {
            class,
            failures,
            not_before,
        } => {
            let (class, not_before) = (class.name(), not_before.as_nanos());
            warn!(
                target: TARGET, transition = "withdrawn", ?key, attempt, class, failures,
                not_before, why,
            );
            failed("selvedge_compile_withdrawn_total", class);
        }
    }
}

/// Tells of calls.
pub(super) fn of_calls(calls: Calls) {
    count("selvedge_compiled_calls_total", calls.compiled);
    count("selvedge_eager_calls_total", calls.eager);
}

#[cfg(feature = "metrics")]
fn count(name: &'static str, by: u64) {
    if by > 0 {
        metrics::counter!(name).increment(by);
    }
}

#[cfg(not(feature = "metrics"))]
fn count(_: &'static str, _: u64) {}

#[cfg(feature = "metrics")]
fn failed(name: &'static str, class: &'static str) {
    metrics::counter!(name, "class" => class).increment(1);
}

#[cfg(not(feature = "metrics"))]
fn failed(_: &'static str, _: &'static str) {}
