//! I3: free + allocated = total: no block is lost, none is made up.

use crate::pool::error::InvariantViolation;
use crate::pool::state::PoolState;

pub(super) fn check(state: &PoolState) -> Result<(), InvariantViolation> {
    let (free, total) = (state.free.len(), state.slots.len());
    let allocated = (state.slots.iter())
        .filter(|slot| slot.owner.is_some())
        .count();
    if free + allocated == total {
        return Ok(());
    }
    Err(InvariantViolation::new(
        "conservation",
        format!("{free} free and {allocated} allocated of {total}"),
    ))
}
