//! K3: whoever cools has failed, whoever is ready or was never tried has not, and no delay is
//! longer than the longest there may be. `not_before` saturates at the end of time, so what is
//! bounded is the delay it was made of.

use crate::pool::InvariantViolation;
use crate::train::compiled_step::config::{CompileConfig, FailureClass};
use crate::train::compiled_step::state::{CompileState, Phase};

pub(super) fn check(state: &CompileState) -> Result<(), InvariantViolation> {
    let violation = |detail: String| Err(InvariantViolation::new("never_for_ever", detail));
    for (key, entry) in &state.entries {
        let fits = match entry.phase {
            Phase::Cooling { .. } => entry.failures > 0,
            Phase::Compiling { .. } => entry.permit.is_none(),
            Phase::Vacant => entry.failures == 0,
            Phase::Ready { .. } => entry.failures == 0 && entry.permit.is_none(),
        };
        if !fits {
            return violation(format!("{key} has {entry:?}"));
        }
        for class in FailureClass::ALL {
            let delay = state.delays.after(class, entry.failures);
            if delay.is_zero() || delay > CompileConfig::MOST_CAP {
                return violation(format!("{key} cools for {delay:?} after {class:?}"));
            }
        }
    }
    Ok(())
}
