//! E6: nobody is overtaken more often than may be, and only those that wait are passed over.

use crate::engine::state::EngineState;
use crate::pool::InvariantViolation;

pub(super) fn check(state: &EngineState) -> Result<(), InvariantViolation> {
    let most = state.config.max_overtakes;
    for (id, request) in &state.requests {
        if request.overtaken > most {
            return Err(InvariantViolation::new(
                "bounded_bypass",
                format!("{id} was overtaken {} times of {most}", request.overtaken),
            ));
        }
    }
    let round = &state.admission;
    let passed = round.passed_over.is_subset(&state.waiting);
    if passed && round.starved.is_subset(&state.live) {
        return Ok(());
    }
    Err(InvariantViolation::new(
        "bounded_bypass",
        format!("{round:?}, but {:?} wait", state.waiting),
    ))
}
