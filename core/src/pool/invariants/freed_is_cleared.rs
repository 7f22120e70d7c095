//! I6: a block without an owner is on the free list, where nothing of its last use remains:
//! no layer here, and the payload belongs to the lease's holder and is dropped before the block
//! comes back.

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
    let free = (state.slots.iter().zip(on_list).zip(0..))
        .map(|((slot, on_list), id)| (slot, on_list, BlockId(id)))
        .filter(|(slot, ..)| slot.owner.is_none());
    for (slot, on_list, id) in free {
        let what = match slot.stamp.layer() {
            None if on_list => continue,
            None => "has no owner but is not free",
            Some(_) => "has no owner but a layer",
        };
        return Err(InvariantViolation::of_block("freed_is_cleared", id, what));
    }
    Ok(())
}
