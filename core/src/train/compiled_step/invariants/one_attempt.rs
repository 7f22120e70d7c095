//! K2: what compiles or is ready does so by an attempt that was made, of this key, and of no
//! other.

use std::collections::BTreeSet;

use crate::pool::InvariantViolation;
use crate::train::compiled_step::state::{CompileState, Phase};

pub(super) fn check(state: &CompileState) -> Result<(), InvariantViolation> {
    let mut seen = BTreeSet::new();
    for (key, entry) in &state.entries {
        let number = match entry.phase {
            Phase::Compiling { attempt } if attempt.key == *key => attempt.number,
            Phase::Ready { number } => number,
            Phase::Vacant | Phase::Cooling { .. } => continue,
            Phase::Compiling { attempt } => {
                let detail = format!("{key} is compiled by {attempt:?}");
                return Err(InvariantViolation::new("one_attempt", detail));
            }
        };
        if number >= state.counters.attempts || !seen.insert(number) {
            let detail = format!(
                "{key} has attempt {number}, of {} that were made, as another has",
                state.counters.attempts
            );
            return Err(InvariantViolation::new("one_attempt", detail));
        }
    }
    Ok(())
}
