//! D3: a run that was formed and not given up has at least `min_world` members, and whatever
//! its phase counts, it counts of exactly them.

use crate::ddp::coordinator::{CoordinatorState, Phase};
use crate::pool::InvariantViolation;

pub(super) fn check(state: &CoordinatorState) -> Result<(), InvariantViolation> {
    let violation = |detail: String| Err(InvariantViolation::new("quorum", detail));
    let (members, least) = (state.durable.members.len(), state.config.min_world as usize);
    let counted = match &state.phase {
        Phase::Running { arrived } => Some(arrived.len()),
        Phase::Flushing { acks } => Some(acks.len()),
        Phase::Forming if members > 0 => {
            return violation(format!("{members} members before the run is formed"));
        }
        _ => None,
    };
    match counted {
        Some(counted) if counted != members || members < least => violation(format!(
            "{counted} counted, {members} members, {least} needed"
        )),
        _ => Ok(()),
    }
}
