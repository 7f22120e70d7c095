//! What the cache tells: a `tracing` event once a transition, and its counters through the `metrics`
//! facade. Both are the program's own code to the cache, so no lock is held here.

use core::fmt::Debug;

use tracing::{info, warn};

use super::config::FailureClass;
use super::counters::CompileCounters;
use super::state::{Attempt, TooManyKeys, Transition, TransitionKind};

/// Where the events come from.
const TARGET: &str = "selvedge::compiled_step";

pub(super) fn began(key: &impl Debug, attempt: Attempt) {
    info!(target: TARGET, transition = "began", ?key, attempt = attempt.number);
}

/// Tells of what has changed. `why` is what the failure said, if it is one.
pub(super) fn of(key: &impl Debug, transition: &Transition, why: &str) {
    let attempt = transition.number;
    match transition.kind {
        TransitionKind::Published { failures, late } => {
            let recovered = failures > 0;
            info!(target: TARGET, transition = "published", ?key, attempt, recovered, late);
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
        }
    }
}

/// Tells that a key runs eagerly for want of room.
pub(super) fn crowded_out(key: &impl Debug, refused: &TooManyKeys) {
    warn!(target: TARGET, transition = "refused", ?key, why = %refused);
}

/// Tells the facade what was counted.
pub(super) fn counted(before: &CompileCounters, after: &CompileCounters) {
    for (name, of) in COUNTERS {
        count(name, of(after).saturating_sub(of(before)));
    }
    for class in FailureClass::ALL {
        let by = after.failures_of(class) - before.failures_of(class);
        failed("selvedge_compile_failures_total", class.name(), by);
    }
}

type Reading = fn(&CompileCounters) -> u64;

/// Each counter by its name in the facade; failures are beside it, by class.
const COUNTERS: [(&str, Reading); 10] = [
    ("selvedge_compiled_calls_total", |all| all.compiled),
    ("selvedge_eager_calls_total", |all| all.eager),
    ("selvedge_compile_attempts_total", |all| all.attempts),
    ("selvedge_compile_passed_total", |all| all.passed),
    ("selvedge_compile_superseded_total", |all| all.superseded),
    ("selvedge_compile_late_total", |all| all.late),
    ("selvedge_compile_withdrawn_total", |all| all.withdrawn),
    ("selvedge_compile_recoveries_total", |all| all.recoveries),
    ("selvedge_compile_lapsed_total", |all| all.lapsed),
    ("selvedge_compile_refused_keys_total", |all| {
        all.refused_keys
    }),
];

#[cfg(feature = "metrics")]
fn count(name: &'static str, by: u64) {
    if by > 0 {
        metrics::counter!(name).increment(by);
    }
}

#[cfg(not(feature = "metrics"))]
fn count(_: &'static str, _: u64) {}

#[cfg(feature = "metrics")]
fn failed(name: &'static str, class: &'static str, by: u64) {
    if by > 0 {
        metrics::counter!(name, "class" => class).increment(by);
    }
}

#[cfg(not(feature = "metrics"))]
fn failed(_: &'static str, _: &'static str, _: u64) {}
