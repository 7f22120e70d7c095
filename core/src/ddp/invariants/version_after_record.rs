//! D6: a rank that trains or votes has a record, its parameters are not older than that, and it
//! is a member of the view it is in. Done is who has the last record.

use crate::ddp::rank::{Phase, RankState};
use crate::pool::InvariantViolation;

pub(super) fn check(state: &RankState) -> Result<(), InvariantViolation> {
    let holds = match (&state.phase, &state.record) {
        (Phase::Run | Phase::Voting | Phase::AtGate, Some(record)) => {
            state.applied >= record.applied
                && record.epoch < state.config.last_epoch
                && state.members.contains(&state.config.rank)
        }
        (Phase::Run | Phase::Voting | Phase::AtGate, None) => false,
        (Phase::Healing { applied, .. }, record) => record
            .as_ref()
            .is_some_and(|record| *applied >= record.applied),
        (Phase::Done, record) => {
            (record.as_ref()).is_some_and(|record| record.epoch == state.config.last_epoch)
        }
        (Phase::Joining | Phase::Flushing { .. } | Phase::Failed(_), _) => true,
    };
    if holds {
        return Ok(());
    }
    Err(InvariantViolation::new(
        "version_after_record",
        format!(
            "{} in {:?} with parameters of version {} and the record {:?}",
            state.config.rank, state.phase, state.applied, state.record
        ),
    ))
}
