//! E4: a waiting request holds nothing, one that runs holds blocks for every token it has, and
//! one is known to the backend exactly while it is live or not yet removed.

use crate::engine::request::Phase;
use crate::engine::state::EngineState;
use crate::pool::InvariantViolation;

pub(super) fn check(state: &EngineState) -> Result<(), InvariantViolation> {
    for (id, request) in &state.requests {
        let holds = request.blocks > 0 && request.capacity >= request.len();
        let right = match request.phase {
            Phase::Waiting => request.blocks == 0 && !request.in_backend && request.computed == 0,
            Phase::Leased => holds && !request.in_backend,
            Phase::Live => holds && request.in_backend,
            Phase::Ending => request.end.is_some() && (request.in_backend || !request.extract),
        };
        if !right {
            return Err(InvariantViolation::new(
                "blocks_by_phase",
                format!("{id}: {request:?}"),
            ));
        }
    }
    Ok(())
}
