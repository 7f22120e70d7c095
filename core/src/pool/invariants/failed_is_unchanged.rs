//! I8: a failed operation leaves the state as it was, to the bit.
//!
//! It compares two states, so whoever runs an operation checks it: the property test of this
//! crate does after every step, the scenarios do around each call that must fail.

use crate::pool::error::InvariantViolation;
use crate::pool::state::PoolState;

/// Compares the state before a failed operation with the one after it.
///
/// # Errors
/// What differs, if anything does.
pub fn check(before: &PoolState, after: &PoolState) -> Result<(), InvariantViolation> {
    if before == after {
        return Ok(());
    }
    Err(InvariantViolation::new(
        "failed_is_unchanged",
        format!("a failed operation turned {before:?} into {after:?}"),
    ))
}
