//! I9: no agent holds more blocks of a sliding layer than its window is worth. (The origin's
//! ADR-002 promised it and no code enforced it.)

use crate::pool::error::InvariantViolation;
use crate::pool::state::PoolState;

pub(super) fn check(state: &PoolState) -> Result<(), InvariantViolation> {
    for agent in &state.agents {
        for (layer, (&held, &cap)) in agent.by_layer.iter().zip(&state.caps).enumerate() {
            if held > cap {
                return Err(InvariantViolation::new(
                    "window_cap",
                    format!("{:?} holds {held} of layer {layer}, cap {cap}", agent.name),
                ));
            }
        }
    }
    Ok(())
}
