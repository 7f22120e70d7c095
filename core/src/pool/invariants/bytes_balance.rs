//! I7: in one snapshot used + available = total, in blocks and in bytes. (The origin read the
//! two under two locks and saw them torn, scenario `A-TORN-MEM`.)

use crate::pool::error::InvariantViolation;
use crate::pool::state::PoolState;

pub(super) fn check(state: &PoolState) -> Result<(), InvariantViolation> {
    let allocated = (state.slots.iter())
        .filter(|slot| slot.owner.is_some())
        .count() as u64;
    let snapshot = state.snapshot();
    let used = allocated + u64::from(state.reserved);
    let balanced = u64::from(snapshot.used) == used
        && u64::from(snapshot.used) + u64::from(snapshot.available) == state.slots.len() as u64
        && snapshot.used_bytes() + snapshot.available_bytes() == snapshot.total_bytes();
    if balanced {
        return Ok(());
    }
    Err(InvariantViolation::new(
        "bytes_balance",
        format!(
            "{used} used; the snapshot says {} used, {} available of {}",
            snapshot.used, snapshot.available, snapshot.total
        ),
    ))
}
