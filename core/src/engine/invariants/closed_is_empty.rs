//! E9: an engine that is drained or being reconfigured has no request, one that is dead has
//! nothing at all, and one that was shut down ends what it has.

use crate::engine::state::{EngineState, Mode};
use crate::pool::InvariantViolation;

pub(super) fn check(state: &EngineState) -> Result<(), InvariantViolation> {
    let idle = state.requests.is_empty();
    let right = match &state.mode {
        Mode::Open | Mode::Draining { .. } | Mode::Dying(_) => true,
        Mode::Drained => idle,
        Mode::Reconfiguring { .. } => idle && state.caches.is_empty(),
        Mode::ShutDown => (state.requests.values())
            .all(|request| request.end.is_some() || request.cancelled.is_some()),
        Mode::Dead(_) => idle && state.caches.is_empty() && state.strays.is_empty(),
    };
    if right {
        return Ok(());
    }
    Err(InvariantViolation::new(
        "closed_is_empty",
        format!(
            "{:?} with {} requests and {} caches",
            state.mode,
            state.requests.len(),
            state.caches.len()
        ),
    ))
}
