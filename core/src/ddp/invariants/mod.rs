//! What always holds of the epoch step's states, one file a property, under the names that
//! reports and models use too.
//!
//! | | property | of | says |
//! |---|---|---|---|
//! | D1 | `alpha_in_range` | a slot | alpha is between start and target, and those between 0 and 1 |
//! | D2 | `stage_fits_alpha` | a slot | alpha moves only in blending, is 1 in holding, 0 before and after |
//! | D3 | `quorum` | the coordinator | a run has enough members, and counts exactly them |
//! | D4 | `one_life` | the coordinator | a rank is a member in the last life that is known of it |
//! | D5 | `over_is_decided` | the coordinator | a run is over when its last record is made, or it is given up |
//! | D6 | `version_after_record` | a rank | parameters are not older than the record |
//!
//! What holds between several of them (agreement, no mix, progress) is proved by the models.

mod alpha_in_range;
mod one_life;
mod over_is_decided;
mod quorum;
mod stage_fits_alpha;
mod version_after_record;

use super::coordinator::CoordinatorState;
use super::rank::RankState;
use super::slot::SeedSlot;
use crate::pool::InvariantViolation;

type SlotCheck = fn(&SeedSlot) -> Result<(), InvariantViolation>;

type CoordinatorCheck = fn(&CoordinatorState) -> Result<(), InvariantViolation>;

const SLOT_CHECKS: [SlotCheck; 2] = [alpha_in_range::check, stage_fits_alpha::check];

const COORDINATOR_CHECKS: [CoordinatorCheck; 3] =
    [quorum::check, one_life::check, over_is_decided::check];

/// Whether every property of a slot holds.
///
/// # Errors
/// The first that does not, with what was found.
pub fn check_slot(slot: &SeedSlot) -> Result<(), InvariantViolation> {
    SLOT_CHECKS.iter().try_for_each(|check| check(slot))
}

pub(super) fn check_coordinator(state: &CoordinatorState) -> Result<(), InvariantViolation> {
    COORDINATOR_CHECKS.iter().try_for_each(|check| check(state))
}

pub(super) fn check_rank(state: &RankState) -> Result<(), InvariantViolation> {
    version_after_record::check(state)
}

#[cfg(test)]
mod tests;
