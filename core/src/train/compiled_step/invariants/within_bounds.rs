//! K1: a cache has no more keys than it may, and each of them was given.

use crate::pool::InvariantViolation;
use crate::train::compiled_step::state::CompileState;

pub(super) fn check(state: &CompileState) -> Result<(), InvariantViolation> {
    let (keys, most) = (state.entries.len(), state.config.max_keys);
    let last = state.entries.keys().next_back().map(|key| key.0);
    if keys > most as usize || last.is_some_and(|last| last >= state.keys_given) {
        let detail = format!(
            "{keys} keys, the last {last:?}, where {most} may be and {} were given",
            state.keys_given
        );
        return Err(InvariantViolation::new("within_bounds", detail));
    }
    Ok(())
}
