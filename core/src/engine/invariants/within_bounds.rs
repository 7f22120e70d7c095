//! E5: no request generates or computes more than it may, no more run than may, none that has
//! not ended has generated everything, and none has been silent for too long.

use crate::engine::request::Phase;
use crate::engine::state::EngineState;
use crate::pool::InvariantViolation;

pub(super) fn check(state: &EngineState) -> Result<(), InvariantViolation> {
    let running = state.leased.len() + state.live.len();
    if running > state.config.max_running as usize {
        return Err(InvariantViolation::new(
            "within_bounds",
            format!("{running} run, {} may", state.config.max_running),
        ));
    }
    for (id, request) in &state.requests {
        let over = request.phase == Phase::Ending;
        let most = request.shape.max_tokens - u32::from(!over);
        let silent = over || request.silent <= state.config.max_silent_steps;
        if request.generated > most || request.computed > request.len() || !silent {
            return Err(InvariantViolation::new(
                "within_bounds",
                format!("{id}: {request:?}"),
            ));
        }
    }
    Ok(())
}
