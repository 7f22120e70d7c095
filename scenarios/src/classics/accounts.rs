//! What the lock-order classics share: accounts in a ring, and on each a thread that moves one
//! coin to the next account, which takes both locks at once.

use selvedge_core::platform::{Mutex, Platform};
use selvedge_sim::{Cx, Observation, reach, violation};

use super::race::{observe, race};

/// Which of its two locks a transfer takes first.
#[derive(Clone, Copy)]
pub(super) enum LockOrder {
    /// The giving account's: around the ring, all threads may hold one and want the next.
    GiverFirst,
    /// The lower-numbered one's: whoever holds the highest never waits for another.
    LowerFirst,
}

const COINS: u32 = 1;

/// `N` threads, the main one among them, move one coin each, around the ring.
pub(super) fn ring_of_transfers<P: Platform, const N: usize>(
    cx: &Cx,
    order: LockOrder,
) -> Observation {
    let fresh = || std::array::from_fn(|_| P::Mutex::new(COINS));
    let rounds = race::<P, [P::Mutex<u32>; N], _>(cx, N, fresh, move |accounts, me| {
        transfer::<P, N>(accounts, me, order)
    });
    for transfers in &rounds {
        for (giver, (from, _)) in transfers.iter().enumerate() {
            let (_, to) = transfers[(giver + N - 1) % N];
            // An account is touched twice, and the first to do so finds it as it was.
            if (*from == COINS) == (to == COINS) {
                violation!("coin-lost", "account {giver}, found with {from} and {to}");
            }
            if to == COINS {
                reach("received-before-it-gave");
            }
        }
    }
    observe(&rounds, |transfers| format!("found {transfers:?}"))
}

/// Moves a coin on from `giver`; what was found on the two accounts.
fn transfer<P: Platform, const N: usize>(
    accounts: &[P::Mutex<u32>; N],
    giver: usize,
    order: LockOrder,
) -> (u32, u32) {
    let taker = (giver + 1) % N;
    let (mut from, mut to) = match order {
        LockOrder::LowerFirst if taker < giver => {
            let to = accounts[taker].lock();
            (accounts[giver].lock(), to)
        }
        _ => {
            let from = accounts[giver].lock();
            (from, accounts[taker].lock())
        }
    };
    let found = (*from, *to);
    *from -= 1;
    *to += 1;
    found
}
