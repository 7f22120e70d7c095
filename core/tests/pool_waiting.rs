//! Waiting for blocks on real threads and by ticket: in order, for good reason, and never longer
//! than it must be. What the queue itself does is in `pool_oracle.rs`; every interleaving of a waiter,
//! one who leaves and one who gives back is in the scenario `waiter-cancelled-at-head`.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the shell is tested on `Std`, with std's threads"
)]

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use selvedge_core::pool::{AllocateError, WaitError};
use selvedge_core::{AgentId, BlockPool, LayerId, ModelCacheSpec};

const LAYER: LayerId = LayerId(0);

type Outcome = Result<(), Box<dyn Error>>;

fn pool(blocks: u32) -> Result<(Arc<BlockPool>, AgentId, AgentId), Box<dyn Error>> {
    let pool = Arc::new(BlockPool::new(ModelCacheSpec::new(2, 1, 8, 16)?, blocks)?);
    let (alice, bob) = (pool.agent("alice")?, pool.agent("bob")?);
    Ok((pool, alice, bob))
}

/// Lets threads get in line one after the other.
fn until_waiting(pool: &BlockPool, n: u32) {
    while pool.snapshot().waiting < n {
        thread::yield_now();
    }
}

#[test]
fn what_can_never_be_had_is_refused_at_once() -> Outcome {
    let (pool, alice, _) = pool(2)?;
    let refused = |n, layer| {
        pool.allocate_wait(n, LayerId(layer), alice, None)
            .unwrap_err()
    };
    let never = AllocateError::ExceedsCapacity {
        requested: 3,
        total: 2,
    };
    assert_eq!(refused(3, 0), WaitError::Refused(never));
    assert_eq!(refused(0, 0), WaitError::Refused(AllocateError::ZeroBlocks));
    assert!(matches!(
        refused(1, 9),
        WaitError::Refused(AllocateError::UnknownLayer { .. })
    ));
    Ok(())
}

#[test]
fn blocks_go_to_threads_in_the_order_of_their_coming() -> Outcome {
    let (pool, alice, bob) = pool(4)?;
    let held = pool.allocate(4, LAYER, alice)?;
    let waiters: Vec<_> = (0..4)
        .map(|k| {
            let shared = Arc::clone(&pool);
            let waiter = thread::spawn(move || {
                // The third wants most, and the fourth does not pass it.
                let n = if k == 2 { 4 } else { 1 };
                let lease = shared.allocate_wait(n, LAYER, bob, None)?;
                let left = shared.snapshot().waiting;
                drop(lease);
                Ok::<u32, WaitError>(left)
            });
            until_waiting(&pool, k + 1);
            waiter
        })
        .collect();
    drop(held);
    let mut left = Vec::new();
    for waiter in waiters {
        left.push(waiter.join().map_err(|_| "a waiter panicked")??);
    }
    // The large one was served before the last.
    assert_eq!(left[2..], [1, 0]);
    assert_eq!(pool.audit()?.available, 4);
    Ok(())
}

#[test]
fn nobody_barges_in_past_the_first() -> Outcome {
    let (pool, alice, bob) = pool(3)?;
    let held = pool.allocate(2, LAYER, alice)?;
    let mut first = pool.enqueue(&[(LAYER, 1), (LayerId(1), 1)], bob)?;
    let barging = pool.allocate(1, LAYER, alice).unwrap_err();
    assert!(matches!(
        barging,
        AllocateError::Exhausted { available: 0, .. }
    ));
    assert!(pool.reserve(1, alice).is_err());
    // In place one exchanges as before, and gives nothing up by it.
    let mut held = held;
    held.exchange(&[(LAYER, 2)])?;
    assert!(first.try_claim()?.is_none());
    held.exchange(&[(LAYER, 1)])?;
    assert_eq!(first.try_claim()?.map(|lease| lease.len()), Some(2));
    assert_eq!(first.try_claim().err(), Some(WaitError::NoTicket));
    Ok(())
}

#[test]
fn a_wait_that_times_out_makes_way_for_the_next() -> Outcome {
    let (pool, alice, bob) = pool(2)?;
    let _held = pool.allocate(1, LAYER, alice)?;
    let shared = Arc::clone(&pool);
    let impatient = thread::spawn(move || {
        let at_most = Some(Duration::from_millis(20));
        shared
            .allocate_wait(2, LAYER, bob, at_most)
            .map(|lease| lease.len())
    });
    until_waiting(&pool, 1);
    let lease = pool.allocate_wait(1, LAYER, alice, None)?;
    assert_eq!(lease.len(), 1);
    let outcome = impatient.join().map_err(|_| "the waiter panicked")?;
    assert_eq!(outcome, Err(WaitError::TimedOut));
    Ok(())
}

#[test]
fn whoever_ends_the_wait_says_why() -> Outcome {
    for (end, why) in [(0, WaitError::AgentRetired), (1, WaitError::Closed)] {
        let (pool, alice, bob) = pool(1)?;
        let _held = pool.allocate(1, LAYER, alice)?;
        let shared = Arc::clone(&pool);
        let waiter =
            thread::spawn(move || shared.allocate_wait(1, LAYER, bob, None).map(|l| l.len()));
        until_waiting(&pool, 1);
        match end {
            0 => pool.retire(bob)?,
            _ => pool.close_queue(),
        }
        assert_eq!(waiter.join().map_err(|_| "it panicked")?, Err(why));
    }
    Ok(())
}

#[test]
fn a_pool_is_reconfigured_past_those_who_did_not_fetch_theirs() -> Outcome {
    let (pool, alice, bob) = pool(2)?;
    let held = pool.allocate(1, LAYER, alice)?;
    let mut ticket = pool.enqueue(&[(LAYER, 2)], bob)?;
    let other = || ModelCacheSpec::new(1, 1, 8, 16);
    assert!(
        pool.reconfigure(other()?, 1).is_err(),
        "alice holds a block"
    );
    drop(held);
    pool.reconfigure(other()?, 1)?;
    assert_eq!(ticket.try_claim().err(), Some(WaitError::Reconfigured));
    pool.close_queue();
    assert_eq!(
        pool.enqueue(&[(LAYER, 1)], bob).err(),
        Some(WaitError::Closed)
    );
    pool.open_queue();
    assert!(pool.allocate_wait(1, LAYER, bob, None).is_ok());
    assert_eq!(pool.audit()?.available, 1);
    Ok(())
}
