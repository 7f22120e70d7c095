//! D5: a run is over if and only if its last record is made or it was given up.

use crate::ddp::coordinator::{CoordinatorState, Phase};
use crate::pool::InvariantViolation;

pub(super) fn check(state: &CoordinatorState) -> Result<(), InvariantViolation> {
    let last = state.config.last_epoch;
    let decided = state.durable.record.epoch == last || state.durable.aborted.is_some();
    if decided == (state.phase == Phase::Over) && state.durable.record.epoch <= last {
        return Ok(());
    }
    Err(InvariantViolation::new(
        "over_is_decided",
        format!("{:?} after {}", state.phase, state.durable.record.epoch),
    ))
}
