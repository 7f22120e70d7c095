//! The ticket's memory test: "memory should not grow over 100 generation cycles". Measured by
//! counting every byte the test holds, so the bound is not 1 MB but zero.
//!
//! Counted for each thread alone: libtest's own thread allocates while a test runs.
#![allow(clippy::unwrap_used, reason = "all of this file is one test")]

mod counting;

use counting::{LIVE, PEAK};
use selvedge_core::pool::{AllocateError, FreeError};
use selvedge_core::{AgentId, BlockPool, BlockRef, LayerId, ModelCacheSpec};

const LAYER: LayerId = LayerId(0);

/// Nothing here needs more than this at once, but for a snapshot of a thousand agents.
const SMALL: usize = 4_096;

/// Runs `cycle` until the heap is warm, then `times` more: not a byte may stay, and at no time
/// may more than `at_most` have been needed.
#[track_caller]
fn stays_flat(what: &str, times: usize, at_most: usize, mut cycle: impl FnMut(usize)) {
    (0..4).for_each(&mut cycle);
    let before = LIVE.get();
    PEAK.set(before);
    (0..times).for_each(&mut cycle);
    let (after, peak) = (LIVE.get(), PEAK.get());
    assert_eq!(after, before, "{what}: {times} times left bytes behind");
    let needed = (peak - before).cast_unsigned();
    assert!(needed <= at_most, "{what}: needed {needed} bytes at once");
}

#[test]
fn the_heap_does_not_grow() {
    the_counter_sees_a_leak();
    for times in [100, 10_000] {
        leases(times);
        handles_and_clears(times);
        failures(times);
    }
    // Debug builds check the whole pool at every call: agents make that slow.
    agents_come_and_go();
}

/// A count that cannot go up proves nothing.
fn the_counter_sees_a_leak() {
    let before = LIVE.get();
    let leaked = vec![0u8; 1_000];
    assert_eq!(LIVE.get(), before + 1_000);
    drop(leaked);
    assert_eq!(LIVE.get(), before);
}

fn pool() -> (BlockPool, AgentId) {
    let spec = ModelCacheSpec::new(2, 8, 256, 256).unwrap();
    let pool = BlockPool::new(spec, 64).unwrap();
    let alice = pool.agent("alice").unwrap();
    (pool, alice)
}

fn leases(times: usize) {
    let (pool, alice) = pool();
    stays_flat("allocate and drop 8", times, SMALL, |_| {
        drop(pool.allocate(8, LAYER, alice).unwrap());
    });
    stays_flat("allocate and exchange 8", times, SMALL, |_| {
        let mut lease = pool.allocate(8, LAYER, alice).unwrap();
        lease.exchange(&[(LAYER, 4), (LayerId(1), 4)]).unwrap();
    });
    let mut kept = pool.allocate(8, LAYER, alice).unwrap();
    stays_flat("exchange 8 in place", times, SMALL, |i| {
        kept.exchange(&[(LayerId((i % 2) as u32), 8)]).unwrap();
    });
    stays_flat("reserve 8 and lease 5", times, SMALL, |_| {
        let mut promise = pool.reserve(8, alice).unwrap();
        drop(promise.allocate(5, LAYER).unwrap());
    });
}

fn handles_and_clears(times: usize) {
    let (pool, alice) = pool();
    stays_flat("persist, adopt and free 8", times, SMALL, |_| {
        let handles = pool.allocate(8, LAYER, alice).unwrap().persist();
        let handles = pool.adopt(alice, handles).unwrap().persist();
        pool.free(alice, &handles).unwrap();
    });
    stays_flat("free_agent of 8", times, SMALL, |_| {
        let handles = pool.allocate(8, LAYER, alice).unwrap().persist();
        assert_eq!(pool.free_agent(alice) as usize, handles.len());
    });
}

fn failures(times: usize) {
    let (pool, alice) = pool();
    let bob = pool.agent("bob").unwrap();
    let mut most = pool.allocate(60, LAYER, alice).unwrap();
    stays_flat("fail to allocate", times, SMALL, |_| {
        let exhausted = pool.allocate(8, LAYER, bob).unwrap_err();
        assert!(matches!(exhausted, AllocateError::Exhausted { .. }));
        assert!(pool.reserve(8, bob).is_err());
        assert!(most.exchange(&[(LAYER, 65)]).is_err());
    });
    let stolen: Vec<BlockRef> = most.blocks()[..8].to_vec();
    let mut twice = stolen.clone();
    twice.push(stolen[0]);
    stays_flat("fail to free", times, SMALL, |_| {
        let wrong = pool.free(bob, &stolen).unwrap_err();
        assert!(matches!(wrong, FreeError::WrongOwner { .. }));
        let wrong = pool.free(alice, &twice).unwrap_err();
        assert!(matches!(wrong, FreeError::DuplicateInBatch { .. }));
        assert!(pool.adopt(alice, twice.clone()).is_err());
    });
    // A request for more than there ever was makes room for 2^16 handles before it is refused.
    const ROOM: usize = (1 << 16) * size_of::<BlockRef>() + SMALL;
    stays_flat("ask for the impossible", times, ROOM, |_| {
        let never = pool.allocate(u32::MAX, LAYER, alice).unwrap_err();
        assert!(matches!(never, AllocateError::ExceedsCapacity { .. }));
    });
}

/// A server sees a thousand agents, each with a name of its own, and then a thousand others.
fn agents_come_and_go() {
    let (pool, _) = pool();
    stays_flat("an agent registers and retires", 1_000, SMALL, |i| {
        let agent = pool.agent(&format!("agent-{i:06}")).unwrap();
        drop(pool.allocate(8, LAYER, agent).unwrap());
        pool.retire(agent).unwrap();
    });
    let mut generation = 0;
    stays_flat("a thousand agents come and go", 3, 1_000 * 512, |_| {
        generation += 1;
        let agents: Vec<AgentId> = (0..1_000)
            .map(|i| {
                pool.agent(&format!("agent-{generation:06}-{i:06}"))
                    .unwrap()
            })
            .collect();
        agents.iter().for_each(|&agent| pool.retire(agent).unwrap());
    });
}
