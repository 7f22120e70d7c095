//! E2: every request is in the set of its phase and in no other, and no set holds one that is
//! over.

use crate::engine::request::Phase;
use crate::engine::state::EngineState;
use crate::pool::InvariantViolation;

pub(super) fn check(state: &EngineState) -> Result<(), InvariantViolation> {
    let sets = [
        (Phase::Waiting, &state.waiting),
        (Phase::Leased, &state.leased),
        (Phase::Live, &state.live),
        (Phase::Ending, &state.ending),
    ];
    let held: usize = sets.iter().map(|(_, set)| set.len()).sum();
    if held != state.requests.len() {
        return Err(InvariantViolation::new(
            "one_phase",
            format!("{held} in the sets, {} requests", state.requests.len()),
        ));
    }
    for (phase, set) in sets {
        for id in set {
            let found = state.requests.get(id).map(|request| request.phase);
            if found != Some(phase) {
                return Err(InvariantViolation::new(
                    "one_phase",
                    format!("{id} is kept as {phase:?} and is {found:?}"),
                ));
            }
        }
    }
    Ok(())
}
