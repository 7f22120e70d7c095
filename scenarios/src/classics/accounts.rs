//! What the lock-order classics share: accounts in a ring, and on each a thread that moves one
//! coin to the next account, which takes both locks at once.

use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_sim::{Cx, Observation, reach, violation};

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
    let accounts: P::Arc<[P::Mutex<u32>; N]> =
        P::Arc::new(std::array::from_fn(|_| P::Mutex::new(COINS)));
    let others: Vec<_> = (1..N)
        .map(|giver| {
            let accounts = accounts.clone();
            P::spawn(move || transfer::<P, N>(&accounts, giver, order))
        })
        .collect();
    let mut received = vec![transfer::<P, N>(&accounts, 0, order)];
    received.extend(others.into_iter().map(JoinHandle::join));
    if received.iter().any(|&first| first) {
        reach("gave-what-it-had-received");
    }
    let left: Vec<u32> = accounts.iter().map(|account| *account.lock()).collect();
    if left.iter().any(|&coins| coins != COINS) {
        violation!("coins-lost", "{left:?}, where each had {COINS}");
    }
    match cx.rounds() {
        1 => Observation::of(format!("received before giving: {received:?}")),
        _ => Observation::none(),
    }
}

/// Moves a coin on from `giver`; whether the account had received one by then.
fn transfer<P: Platform, const N: usize>(
    accounts: &[P::Mutex<u32>; N],
    giver: usize,
    order: LockOrder,
) -> bool {
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
    let received = *from > COINS;
    *from -= 1;
    *to += 1;
    received
}
