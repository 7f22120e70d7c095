//! I6: a block without an owner is on the free list, where nothing of its last use remains:
//! the payload belongs to the lease's holder and is dropped before the block comes back.

use crate::BlockId;
use crate::pool::error::InvariantViolation;
use crate::pool::state::PoolState;

pub(super) fn check(state: &PoolState) -> Result<(), InvariantViolation> {
    let mut on_list = vec![false; state.slots.len()];
    for id in &state.free {
        if let Some(on_list) = on_list.get_mut(id.0 as usize) {
            *on_list = true;
        }
    }
    let stray = (state.slots.iter().zip(&on_list)).position(|(s, &on)| s.owner.is_none() && !on);
    match stray.and_then(|index| u32::try_from(index).ok()) {
        None => Ok(()),
        Some(index) => Err(InvariantViolation::of_block(
            "freed_is_cleared",
            BlockId(index),
            "has no owner but is not free",
        )),
    }
}
