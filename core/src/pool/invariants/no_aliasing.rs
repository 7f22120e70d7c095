//! I2: a block on the free list has no owner, or it would be handed out while in use.

use crate::pool::error::InvariantViolation;
use crate::pool::state::PoolState;

pub(super) fn check(state: &PoolState) -> Result<(), InvariantViolation> {
    let aliased = (state.free.iter())
        .find(|id| (state.slots.get(id.0 as usize)).is_some_and(|slot| slot.owner.is_some()));
    match aliased {
        None => Ok(()),
        Some(&id) => Err(InvariantViolation::of_block(
            "no_aliasing",
            id,
            "is free and owned at once",
        )),
    }
}
