//! E7: a cache has one user. Whose request holds blocks has no idle cache beside them: that
//! would be the same agent's memory twice (ticket SPRINT-2.5, issue 6).

use crate::engine::action::Action;
use crate::engine::state::EngineState;
use crate::pool::InvariantViolation;

pub(super) fn check(state: &EngineState) -> Result<(), InvariantViolation> {
    let leasing = match &state.under_way {
        Some(Action::Lease(order)) if order.cached => Some(order),
        _ => None,
    };
    if leasing.is_some() != state.cache_in_use.is_some() {
        return Err(InvariantViolation::new(
            "cache_exclusive",
            format!("{leasing:?} uses {:?}", state.cache_in_use),
        ));
    }
    for (agent, cache) in &state.caches {
        let leased_again = leasing.is_some_and(|order| order.agent == *agent);
        let holds = (state.busy.get(agent).and_then(|id| state.requests.get(id)))
            .is_some_and(|request| request.blocks > 0);
        if leased_again || holds || cache.size.blocks == 0 || cache.size.tokens == 0 {
            return Err(InvariantViolation::new(
                "cache_exclusive",
                format!("{agent:?} has {cache:?} and a request that holds blocks: {holds}"),
            ));
        }
    }
    Ok(())
}
