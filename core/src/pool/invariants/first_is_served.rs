//! I11: nobody waits for what is there. While anybody is in line nothing is available, because
//! all of it is kept for the first, and the first lacks more than that. (A wake-up that is lost,
//! or a waiter that leaves and takes its wake-up along, shows here first.)

use crate::pool::error::InvariantViolation;
use crate::pool::state::PoolState;

pub(super) fn check(state: &PoolState) -> Result<(), InvariantViolation> {
    let (gathered, available) = (state.waiting.gathered, state.available());
    let found = match state.waiting.line.values().next() {
        None if gathered == 0 => return Ok(()),
        None => format!("{gathered} blocks are kept for the first in line, and nobody is"),
        Some(first) if available == 0 && gathered < first.n => return Ok(()),
        Some(first) => format!(
            "the first in line waits for {}; {gathered} are kept for it and {available} available",
            first.n
        ),
    };
    Err(InvariantViolation::new("first_is_served", found))
}
