//! I12: whoever has a ticket is in one place (in line, served or refused), is registered, and
//! asked for no more than the pool has.

use crate::pool::error::InvariantViolation;
use crate::pool::state::PoolState;

pub(super) fn check(state: &PoolState) -> Result<(), InvariantViolation> {
    let queue = &state.waiting;
    let violation = |what: String| Err(InvariantViolation::new("waiters_known", what));
    for (ticket, waiter) in queue.line.iter().chain(&queue.served) {
        if state.agent_index(waiter.agent).is_none() {
            return violation(format!("{ticket:?} is of an agent that is not registered"));
        }
        let asked: u64 = waiter.needs.iter().map(|need| u64::from(need.1)).sum();
        if asked != u64::from(waiter.n) || waiter.n == 0 || waiter.n > state.total() {
            let total = state.total();
            return violation(format!(
                "{ticket:?} is for {asked} blocks of {total}: {waiter:?}"
            ));
        }
    }
    let all = || (queue.line.keys().chain(queue.served.keys())).chain(queue.refused.keys());
    let mut tickets: Vec<u64> = all().map(|ticket| ticket.0).collect();
    tickets.sort_unstable();
    if tickets.windows(2).any(|two| two[0] == two[1]) {
        return violation(format!("a ticket is in two places: {tickets:?}"));
    }
    if tickets.last().is_some_and(|&newest| newest > queue.last) {
        return violation(format!(
            "{tickets:?} were given out, the last {}",
            queue.last
        ));
    }
    Ok(())
}
