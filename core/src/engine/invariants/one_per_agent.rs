//! E3: an agent has at most one request in flight, and is busy exactly while it has.

use crate::engine::state::EngineState;
use crate::pool::InvariantViolation;

pub(super) fn check(state: &EngineState) -> Result<(), InvariantViolation> {
    let busy = state.busy.iter().all(|(agent, id)| {
        let request = state.requests.get(id);
        request.is_some_and(|request| request.shape.agent == *agent)
    });
    if busy && state.busy.len() == state.requests.len() {
        return Ok(());
    }
    Err(InvariantViolation::new(
        "one_per_agent",
        format!("busy: {:?}; {} requests", state.busy, state.requests.len()),
    ))
}
