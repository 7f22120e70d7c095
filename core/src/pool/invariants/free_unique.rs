//! I1: no block stands twice on the free list, or two callers would be handed it.

use crate::pool::error::InvariantViolation;
use crate::pool::state::PoolState;

pub(super) fn check(state: &PoolState) -> Result<(), InvariantViolation> {
    let mut seen = vec![false; state.slots.len()];
    for &id in &state.free {
        match seen.get_mut(id.0 as usize) {
            Some(seen) if !*seen => *seen = true,
            Some(_) => {
                return Err(InvariantViolation::of_block(
                    "free_unique",
                    id,
                    "stands twice on the free list",
                ));
            }
            None => {
                return Err(InvariantViolation::of_block(
                    "free_unique",
                    id,
                    "is on the free list but not in the pool",
                ));
            }
        }
    }
    Ok(())
}
