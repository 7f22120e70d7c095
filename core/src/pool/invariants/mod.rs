//! What always holds of a [`PoolState`], one file a property, under the names that reports
//! and models use too. The numbers are those of the origin's list.
//!
//! | | property | says |
//! |---|---|---|
//! | I1 | `free_unique` | no block stands twice on the free list |
//! | I2 | `no_aliasing` | a block is free or owned, never both |
//! | I3 | `conservation` | free + allocated = total |
//! | I4 | `ownership` | every allocated block has exactly one registered owner, who counts it |
//! | I5 | `no_ghosts` | a retired agent holds and reserves nothing |
//! | I6 | `freed_is_cleared` | a free block keeps no trace of its last use |
//! | I7 | `bytes_balance` | used + available = total, in blocks and in bytes of one snapshot |
//! | I8 | `failed_is_unchanged` | a failed operation leaves the state as it was |
//! | I9 | `window_cap` | no agent holds more of a sliding layer than its window |
//! | I10 | `reservations` | promises are kept: reserved blocks are free, and add up |
//! | I11 | `first_is_served` | nobody waits for what is there |
//! | I12 | `waiters_known` | whoever waits is in one place, registered, and can be served |

mod bytes_balance;
mod conservation;
pub mod failed_is_unchanged;
mod first_is_served;
mod free_unique;
mod freed_is_cleared;
mod no_aliasing;
mod no_ghosts;
mod ownership;
mod reservations;
mod waiters_known;
mod window_cap;

use super::error::InvariantViolation;
use super::state::PoolState;

type Check = fn(&PoolState) -> Result<(), InvariantViolation>;

/// Every property of a single state (I8 compares two: [`failed_is_unchanged`]).
const CHECKS: [Check; 11] = [
    free_unique::check,
    no_aliasing::check,
    conservation::check,
    ownership::check,
    no_ghosts::check,
    freed_is_cleared::check,
    bytes_balance::check,
    window_cap::check,
    reservations::check,
    first_is_served::check,
    waiters_known::check,
];

pub(super) fn check_all(state: &PoolState) -> Result<(), InvariantViolation> {
    CHECKS.iter().try_for_each(|check| check(state))
}

#[cfg(test)]
mod tests;
