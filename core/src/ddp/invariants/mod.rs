//! What always holds of the epoch step's states, one file a property, under the names that
//! reports and models use too.
//!
//! | | property | of | says |
//! |---|---|---|---|
//! | D1 | `alpha_in_range` | a slot | alpha is between start and target, and those between 0 and 1 |
//! | D2 | `stage_fits_alpha` | a slot | alpha moves only in blending, is 1 in holding, 0 before and after |

mod alpha_in_range;
mod stage_fits_alpha;

use super::slot::SeedSlot;
use crate::pool::InvariantViolation;

type SlotCheck = fn(&SeedSlot) -> Result<(), InvariantViolation>;

const SLOT_CHECKS: [SlotCheck; 2] = [alpha_in_range::check, stage_fits_alpha::check];

/// Whether every property of a slot holds.
///
/// # Errors
/// The first that does not, with what was found.
pub fn check_slot(slot: &SeedSlot) -> Result<(), InvariantViolation> {
    SLOT_CHECKS.iter().try_for_each(|check| check(slot))
}
