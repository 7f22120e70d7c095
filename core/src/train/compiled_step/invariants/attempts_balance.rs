//! K4: each attempt that was made has passed, failed, was superseded or is under way, and only
//! what was given up can pass late.

use crate::pool::InvariantViolation;
use crate::train::compiled_step::config::FailureClass;
use crate::train::compiled_step::state::{CompileState, Phase};

pub(super) fn check(state: &CompileState) -> Result<(), InvariantViolation> {
    let counters = &state.counters;
    let under_way = (state.entries.values())
        .filter(|entry| matches!(entry.phase, Phase::Compiling { .. }))
        .count() as u64;
    let known = counters.passed + counters.failures() + counters.superseded + under_way;
    let given_up = counters.failures_of(FailureClass::Overdue) + counters.superseded;
    if known != counters.attempts || counters.late > given_up {
        let detail = format!("{under_way} attempts are under way, of {counters:?}");
        return Err(InvariantViolation::new("attempts_balance", detail));
    }
    Ok(())
}
