//! The tests that ticket SPRINT-2.5 asks of the pool, with its numbers, and the two numbers the
//! origin got wrong. (Its memory test is `heap.rs`.)
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "real threads on the shipped platform are the point here"
)]

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};
use std::thread;

use selvedge_core::pool::AllocateError;
use selvedge_core::{BlockId, BlockLease, BlockPool, LayerId, ModelCacheSpec};

type Outcome<'p> = Result<BlockLease<'p>, AllocateError>;

fn pool(layers: u32, blocks: u32) -> BlockPool {
    let spec = ModelCacheSpec::new(layers, 8, 256, 256).expect("a valid model");
    BlockPool::new(spec, blocks).expect("it has blocks")
}

/// `threads` threads, let go at once, lease `n` blocks each; all leases are still held when
/// the outcomes are returned.
fn allocate_at_once(pool: &BlockPool, threads: usize, n: u32) -> Vec<Outcome<'_>> {
    let start = Barrier::new(threads);
    let start = &start;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|i| {
                scope.spawn(move || {
                    let agent = pool.agent(&format!("thread_{i}")).expect("it has a name");
                    start.wait();
                    pool.allocate(n, LayerId(0), agent)
                })
            })
            .collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined.map(|outcome| outcome.expect("no crash")).collect()
    })
}

fn distinct(outcomes: &[Outcome<'_>]) -> BTreeSet<BlockId> {
    let leases = outcomes.iter().flatten();
    let blocks = leases.flat_map(|lease| lease.blocks().iter().map(|block| block.id()));
    blocks.collect()
}

/// The ticket's `test_concurrent_allocation`.
#[test]
fn ten_threads_allocate_at_once() {
    let pool = pool(1, 1_000);
    let outcomes = allocate_at_once(&pool, 10, 10);
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(distinct(&outcomes).len(), 100);
    assert_eq!(pool.audit().unwrap().used, 100);
    drop(outcomes);
    assert_eq!(pool.audit().unwrap().available, 1_000);
}

/// "1000 iterations of concurrent test pass", on one pool, so that what one iteration leaves
/// behind would show in the next.
#[test]
fn ten_threads_a_thousand_times() {
    let pool = pool(1, 1_000);
    for _ in 0..1_000 {
        let outcomes = allocate_at_once(&pool, 10, 10);
        assert!(outcomes.iter().all(Result::is_ok));
        assert_eq!(distinct(&outcomes).len(), 100);
    }
    assert_eq!(pool.audit().unwrap().available, 1_000);
}

/// The race of issue 1: between checking and taking, the blocks went to somebody else. The
/// origin's threads died of an `IndexError`, and blocks were left without an owner.
#[test]
fn two_hundred_threads_share_what_is_enough_for_one_hundred() {
    let pool = pool(1, 1_000);
    let outcomes = allocate_at_once(&pool, 200, 10);
    assert_eq!(outcomes.iter().flatten().count(), 100);
    assert_eq!(distinct(&outcomes).len(), 1_000);
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(
            *error,
            AllocateError::Exhausted {
                requested: 10,
                available: 0,
                total: 1_000
            }
        );
    }
    assert_eq!(pool.audit().unwrap().available, 0);
    drop(outcomes);
    assert_eq!(pool.audit().unwrap().available, 1_000);
}

/// Twenty threads allocate, exchange, reserve, persist, adopt and clear; one looks on and sees
/// a consistent pool at every instant.
#[test]
fn twenty_threads_do_everything_at_once() {
    let pool = Arc::new(pool(2, 200));
    thread::scope(|scope| {
        for i in 0..20usize {
            let pool = &pool;
            scope.spawn(move || mixed_work(pool, i));
        }
        for _ in 0..200 {
            let snapshot = pool
                .audit()
                .expect("every invariant holds at every instant");
            assert_eq!(snapshot.used + snapshot.available, snapshot.total);
        }
    });
    let snapshot = pool.audit().unwrap();
    assert_eq!((snapshot.available, snapshot.reserved), (200, 0));
    assert_eq!(snapshot.agents, [], "all have retired");
}

fn mixed_work(pool: &Arc<BlockPool>, i: usize) {
    let agent = pool.agent(&format!("agent_{i}")).expect("it has a name");
    let (first, second) = (LayerId(0), LayerId(1));
    for round in i..i + 40 {
        match round % 4 {
            0 => {
                if let Ok(mut lease) = pool.allocate_layers(&[(first, 3), (second, 3)], agent) {
                    let before = lease.len();
                    // Never fails: it gives up what it asks for.
                    lease
                        .exchange(&[(first, 2), (second, 4)])
                        .expect("an even exchange");
                    assert_eq!(lease.len(), before);
                }
            }
            1 => {
                if let Ok(mut promise) = pool.reserve(4, agent) {
                    let lease = promise.allocate(3, first).expect("it was promised");
                    drop(promise);
                    drop(lease);
                }
            }
            2 => {
                if let Ok(lease) = pool.allocate(5, second, agent) {
                    let kept = lease.persist();
                    let lease = pool.adopt(agent, kept).expect("they are the agent's");
                    pool.free(agent, &lease.persist()).expect("they still are");
                }
            }
            _ => {
                if let Ok(lease) = pool.allocate(5, first, agent) {
                    let lease = lease.into_shared(pool).expect("it is of this pool");
                    assert_eq!(pool.free_agent(agent), 5);
                    drop(lease); // passes over what is gone
                }
            }
        }
    }
    pool.retire(agent).expect("it gave everything back");
}

/// The ticket's `test_submit_error_frees_all_layers`, on the pool: what 48 layers need is had
/// altogether or not at all, so no error path has to give anything back.
#[test]
fn a_failure_in_the_last_layer_leaves_nothing_allocated() {
    let pool = pool(48, 100);
    let alice = pool.agent("alice").unwrap();
    let bob = pool.agent("bob").unwrap();
    let held = pool.allocate(5, LayerId(0), bob).unwrap();
    let before = pool.state();

    // Two blocks a layer are 96, one more than there are.
    let needs: Vec<(LayerId, u32)> = (0..48).map(|layer| (LayerId(layer), 2)).collect();
    assert_eq!(
        pool.allocate_layers(&needs, alice).unwrap_err(),
        AllocateError::Exhausted {
            requested: 96,
            available: 95,
            total: 100
        }
    );
    assert_eq!(pool.state(), before);

    // The last layer does not exist.
    let mut needs = needs;
    needs[47].0 = LayerId(48);
    assert!(matches!(
        pool.allocate_layers(&needs, alice).unwrap_err(),
        AllocateError::UnknownLayer { last: 47, .. }
    ));
    assert_eq!(pool.state(), before);

    drop(held);
    assert_eq!(pool.audit().unwrap().available, 100);
}

/// The origin reserved for layer 0 only and failed once all 48 were needed: what was admitted
/// is now what is needed.
#[test]
fn reserved_for_all_layers_is_enough_for_all_layers() {
    let pool = pool(48, 96);
    let alice = pool.agent("alice").unwrap();
    let bob = pool.agent("bob").unwrap();
    let mut promise = pool.reserve(48, alice).unwrap();
    let _bobs = pool.allocate(48, LayerId(0), bob).unwrap();
    let leases: Vec<_> = (0..48)
        .map(|layer| promise.allocate(1, LayerId(layer)).unwrap())
        .collect();
    assert_eq!(pool.audit().unwrap().available, 0);
    drop(leases);
    assert_eq!(pool.audit().unwrap().available, 48);
}
