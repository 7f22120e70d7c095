//! I5: a retired agent holds and reserves nothing, and the name index knows just the others.
//! (The origin kept empty entries of agents that were gone.)

use crate::pool::error::InvariantViolation;
use crate::pool::state::PoolState;

pub(super) fn check(state: &PoolState) -> Result<(), InvariantViolation> {
    for agent in &state.agents {
        if agent.name.is_none() && (agent.blocks > 0 || agent.reserved > 0) {
            return Err(InvariantViolation::new(
                "no_ghosts",
                format!(
                    "a retired agent still has {} blocks and {} reserved",
                    agent.blocks, agent.reserved
                ),
            ));
        }
    }
    let named = state.agents.iter().filter(|a| a.name.is_some()).count();
    let indexed = (state.places.iter())
        .filter(|(name, place)| {
            (state.agents.get(place.index())).is_some_and(|a| a.name.as_ref() == Some(*name))
        })
        .count();
    if indexed != named || indexed != state.places.len() {
        return Err(InvariantViolation::new(
            "no_ghosts",
            format!(
                "{named} agents are registered, {} are indexed, {indexed} of them rightly",
                state.places.len()
            ),
        ));
    }
    Ok(())
}
