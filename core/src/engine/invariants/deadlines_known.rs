//! E10: a deadline is kept for those requests that have one and are still to be ended by it.

use crate::engine::state::EngineState;
use crate::pool::InvariantViolation;

pub(super) fn check(state: &EngineState) -> Result<(), InvariantViolation> {
    for (deadline, id) in &state.deadlines {
        let request = state.requests.get(id);
        if request.is_none_or(|request| request.shape.deadline != Some(*deadline)) {
            return Err(InvariantViolation::new(
                "deadlines_known",
                format!("{deadline:?} is kept for {id}, which is {request:?}"),
            ));
        }
    }
    for (id, request) in &state.requests {
        let decided = request.end.is_some() || request.cancelled.is_some();
        if let Some(deadline) = request.shape.deadline
            && !decided
            && !state.deadlines.contains(&(deadline, *id))
        {
            return Err(InvariantViolation::new(
                "deadlines_known",
                format!("{id} has {deadline:?}, which is not kept"),
            ));
        }
    }
    Ok(())
}
