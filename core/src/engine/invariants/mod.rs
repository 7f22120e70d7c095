//! What always holds of an [`EngineState`], one file a property, under the names that reports
//! and models use too.
//!
//! | | property | says |
//! |---|---|---|
//! | E1 | `accounted` | accepted = ended + left: each request ends exactly once |
//! | E2 | `one_phase` | every request is in the set of its phase |
//! | E3 | `one_per_agent` | an agent has at most one request in flight |
//! | E4 | `blocks_by_phase` | who runs holds blocks for its tokens, who waits holds none |
//! | E5 | `within_bounds` | no request, and no number of them, exceeds its bound |
//! | E6 | `bounded_bypass` | nobody is overtaken more often than may be |
//! | E7 | `cache_exclusive` | a cache has one user |
//! | E8 | `action_fits` | the action under way is one its request can be in |
//! | E9 | `closed_is_empty` | a closed engine holds nothing |
//! | E10 | `deadlines_known` | each deadline is kept as long as it can fire |

mod accounted;
mod action_fits;
mod blocks_by_phase;
mod bounded_bypass;
mod cache_exclusive;
mod closed_is_empty;
mod deadlines_known;
mod one_per_agent;
mod one_phase;
mod within_bounds;

use super::state::EngineState;
use crate::pool::InvariantViolation;

type Check = fn(&EngineState) -> Result<(), InvariantViolation>;

const CHECKS: [Check; 10] = [
    accounted::check,
    one_phase::check,
    one_per_agent::check,
    blocks_by_phase::check,
    within_bounds::check,
    bounded_bypass::check,
    cache_exclusive::check,
    action_fits::check,
    closed_is_empty::check,
    deadlines_known::check,
];

pub(super) fn check_all(state: &EngineState) -> Result<(), InvariantViolation> {
    CHECKS.iter().try_for_each(|check| check(state))
}

#[cfg(test)]
mod tests;
