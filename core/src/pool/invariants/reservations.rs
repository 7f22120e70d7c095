//! I10: what is reserved is free; the agents' reservations, and what is kept for those who wait,
//! add up to it.

use crate::pool::error::InvariantViolation;
use crate::pool::state::PoolState;

pub(super) fn check(state: &PoolState) -> Result<(), InvariantViolation> {
    let agents = state.agents.iter().map(|a| u64::from(a.reserved));
    let promised = agents.sum::<u64>() + state.waiting.set_aside();
    if promised == u64::from(state.reserved) && promised <= state.free.len() as u64 {
        return Ok(());
    }
    Err(InvariantViolation::new(
        "reservations",
        format!(
            "{promised} promised, {} set aside, {} free",
            state.reserved,
            state.free.len()
        ),
    ))
}
