//! What always holds of a [`CompileState`], one file a property, under the names in reports.
//!
//! | | property | says |
//! |---|---|---|
//! | K1 | `within_bounds` | there are no more keys than there may be |
//! | K2 | `one_attempt` | what compiles or is ready does so by an attempt of its own |
//! | K3 | `never_for_ever` | whoever cools has failed, and for no longer than the longest cap |
//! | K4 | `attempts_balance` | each attempt passed, failed, was superseded or is under way |

mod attempts_balance;
mod never_for_ever;
mod one_attempt;
mod within_bounds;

use super::state::CompileState;
use crate::pool::InvariantViolation;

type Check = fn(&CompileState) -> Result<(), InvariantViolation>;

const CHECKS: [Check; 4] = [
    within_bounds::check,
    one_attempt::check,
    never_for_ever::check,
    attempts_balance::check,
];

/// Whether every property holds.
///
/// # Errors
/// The first that does not, with what was found.
pub fn check(state: &CompileState) -> Result<(), InvariantViolation> {
    CHECKS.iter().try_for_each(|check| check(state))
}

#[cfg(test)]
mod tests;
