//! I10: what is reserved is free, and the agents' reservations add up to it.

use crate::pool::error::InvariantViolation;
use crate::pool::state::PoolState;

pub(super) fn check(state: &PoolState) -> Result<(), InvariantViolation> {
    let promised: u64 = state.agents.iter().map(|a| u64::from(a.reserved)).sum();
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
