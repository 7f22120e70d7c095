//! Handles and promises that are not what they seem: another pool's agents, blocks put together of parts
//! that no handle has. Each is refused by every call, and leaves the pool as it was.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use selvedge_core::pool::{AgentError, AllocateError, ExchangeError, FreeError};
use selvedge_core::spec::LayerKind;
use selvedge_core::{AgentId, BlockPool, BlockRef, LayerId, ModelCacheSpec, PoolId, PoolState};

const LAYER: LayerId = LayerId(0);

fn spec() -> ModelCacheSpec {
    ModelCacheSpec::new(2, 1, 8, 16).unwrap()
}

fn pool(id: u32) -> (PoolState, AgentId) {
    let mut pool = PoolState::new(PoolId(id), spec(), 4).unwrap();
    let alice = pool.register("alice").unwrap();
    (pool, alice)
}

/// Same name, same place, same generation: only the pool tells the two apart.
#[test]
fn another_pools_agent_is_unknown_to_every_call() {
    let ((mut ours, alice), (_, stranger)) = (pool(1), pool(2));
    assert_ne!(alice, stranger);
    let held = ours.allocate(1, LAYER, alice).unwrap();
    ours.reserve(1, alice).unwrap();
    let before = ours.clone();

    let unknown = AllocateError::UnknownAgent;
    let needs = [(LAYER, 1)];
    assert_eq!(ours.allocate(1, LAYER, stranger), Err(unknown));
    assert_eq!(ours.allocate_reserved(&needs, stranger), Err(unknown));
    assert_eq!(ours.reserve(1, stranger), Err(unknown));
    let unknown = FreeError::UnknownAgent;
    assert_eq!(ours.free(stranger, &held), Err(unknown.clone()));
    assert_eq!(ours.check_batch(stranger, &held), Err(unknown.clone()));
    let refused = ours.exchange(stranger, &held, &needs);
    assert_eq!(refused, Err(ExchangeError::Old(unknown)));
    assert_eq!(ours.retire(stranger), Err(AgentError::Unknown));
    assert_eq!(ours.free_agent(stranger), 0);
    ours.unreserve(1, stranger);
    assert_eq!(ours, before);
}

#[test]
fn two_pools_of_one_process_refuse_each_others_agents() {
    let first: BlockPool = BlockPool::new(spec(), 4).unwrap();
    let second: BlockPool = BlockPool::new(spec(), 4).unwrap();
    let (alice, stranger) = (first.agent("a").unwrap(), second.agent("a").unwrap());
    let refused = first.allocate(1, LAYER, stranger).unwrap_err();
    assert_eq!(refused, AllocateError::UnknownAgent);
    let kept = first.allocate(1, LAYER, alice).unwrap().persist();
    let refused = first.adopt(stranger, kept.clone()).unwrap_err();
    assert_eq!(refused, FreeError::UnknownAgent);
    first.free(alice, &kept).unwrap();
}

#[test]
fn agents_survive_a_reconfiguration() {
    let (mut pool, alice) = pool(1);
    pool.reconfigure(ModelCacheSpec::new(1, 1, 8, 16).unwrap(), 2)
        .unwrap();
    assert_eq!(pool.register("alice").unwrap(), alice);
    let held = pool.allocate(2, LAYER, alice).unwrap();
    pool.free(alice, &held).unwrap();
}

/// Cut off to the bits there are for them, these parts would be those of a block in use.
#[test]
fn parts_too_large_for_a_handle_alias_no_block() {
    let (mut pool, alice) = pool(1);
    let held = pool.allocate(1, LAYER, alice).unwrap();
    let (place, generation) = (held[0].id(), held[0].generation());
    let before = pool.clone();
    for (layer, generation) in [
        (LayerId(1 << 16), generation),
        (LayerId(u32::MAX), generation),
        (LAYER, generation + (1 << 48)),
        (LAYER, u64::MAX),
    ] {
        let forged = BlockRef::from_parts(PoolId(1), place, layer, generation);
        assert_ne!(forged, held[0]);
        assert!(pool.free(alice, &[forged]).is_err(), "{forged:?}");
        assert!(pool.check_batch(alice, &[forged]).is_err(), "{forged:?}");
        pool.release(alice, &[forged]);
        assert_eq!(pool, before);
    }
    // Nor a free one, whose stamp is of no layer as well.
    pool.free(alice, &held).unwrap();
    let before = pool.clone();
    for generation in [generation + 1, u64::MAX] {
        let forged = BlockRef::from_parts(PoolId(1), place, LayerId(u32::MAX), generation);
        let refused = pool.free(alice, &[forged]).unwrap_err();
        assert_eq!(refused, FreeError::NotAllocated { block: forged });
        pool.release(alice, &[forged]);
        assert_eq!(pool, before);
    }
}

/// A lease's blocks of several layers, some freed behind its back: the rest comes back, counted
/// for the right layers.
#[test]
fn release_passes_over_what_is_gone() {
    let (mut pool, alice) = pool(1);
    let needs = [(LAYER, 2), (LayerId(1), 2)];
    for gone in 0..16u32 {
        let held = pool.allocate_layers(&needs, alice).unwrap();
        let behind: Vec<BlockRef> = (held.iter().zip(0..))
            .filter_map(|(&block, i)| (gone >> i & 1 == 1).then_some(block))
            .collect();
        pool.free(alice, &behind).unwrap();
        pool.release(alice, &held);
        assert_eq!(pool.available(), 4);
        // And a second time there is nothing left to take.
        let before = pool.clone();
        pool.release(alice, &held);
        assert_eq!(pool, before);
        assert_eq!(pool.validate(), Ok(()));
    }
}

#[test]
fn release_takes_a_block_that_comes_twice_once() {
    let (mut pool, alice) = pool(1);
    let held = pool.allocate(2, LAYER, alice).unwrap();
    pool.release(alice, &[held[0], held[0], held[1], held[0]]);
    assert_eq!((pool.available(), pool.validate()), (4, Ok(())));
}

#[test]
fn a_reservation_never_grows_and_says_so() {
    let spec = ModelCacheSpec::new(1, 1, 8, 16).unwrap();
    let pool: BlockPool = BlockPool::new(spec, 8).unwrap();
    let agent = pool.agent("a").unwrap();
    let mut promised = pool.reserve(2, agent).unwrap();
    let others = pool.reserve(3, agent).unwrap();
    assert_eq!(
        promised.allocate(3, LayerId(0)).unwrap_err(),
        AllocateError::ExceedsReservation {
            requested: 3,
            left: 2
        }
    );
    let lease = promised.allocate(2, LayerId(0)).unwrap();
    assert_eq!((promised.left(), pool.snapshot().reserved), (0, 3));
    drop((lease, others));
    assert_eq!(pool.snapshot().available, 8);
}

#[test]
fn a_batch_counts_a_sliding_layer_by_its_window() {
    let kinds = vec![LayerKind::Global, LayerKind::SlidingWindow];
    let spec = ModelCacheSpec::new(2, 1, 8, 4)
        .and_then(|spec| spec.with_layers(kinds, Some(4)))
        .unwrap();
    let pool: BlockPool = BlockPool::new(spec, 10).unwrap();
    // 32 tokens: eight blocks of the first layer, one of the second.
    assert_eq!(pool.max_batch_size(32), 1);
    assert_eq!(pool.max_batch_size(4), 5);
    assert_eq!(pool.max_batch_size(40), 0);
}
