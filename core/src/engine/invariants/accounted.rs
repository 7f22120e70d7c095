//! E1: every accepted request has ended exactly once, or is still there: none is lost and none
//! told twice.

use crate::engine::state::EngineState;
use crate::pool::InvariantViolation;

pub(super) fn check(state: &EngineState) -> Result<(), InvariantViolation> {
    let counters = &state.counters;
    let ended = counters.completed + counters.cancelled + counters.failed;
    let left = state.requests.len() as u64;
    if counters.accepted == ended + left && counters.accepted == state.last_id {
        return Ok(());
    }
    Err(InvariantViolation::new(
        "accounted",
        format!(
            "{} accepted, {ended} ended, {left} left, {} ids given out",
            counters.accepted, state.last_id
        ),
    ))
}
