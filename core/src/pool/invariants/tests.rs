//! Each property goes red on a state broken in just its way: a check that cannot fail proves
//! nothing.

use crate::ids::Stamp;
use crate::pool::error::WaitError;
use crate::pool::state::PoolState;
use crate::spec::LayerKind;
use crate::{AgentId, BlockId, LayerId, ModelCacheSpec, PoolId};

/// Four blocks, two layers (the second slides, cap 1); `alice` holds one block of layer 0.
fn state() -> (PoolState, AgentId) {
    let spec = ModelCacheSpec::new(2, 1, 8, 16)
        .unwrap()
        .with_layers(vec![LayerKind::Global, LayerKind::SlidingWindow], Some(16))
        .unwrap();
    let mut state = PoolState::new(PoolId(1), spec, 4).unwrap();
    let alice = state.register("alice").unwrap();
    state.allocate(1, LayerId(0), alice).unwrap();
    (state, alice)
}

#[track_caller]
fn breaks(property: &str, break_it: impl FnOnce(&mut PoolState, AgentId)) {
    let (mut state, alice) = state();
    assert_eq!(state.validate(), Ok(()));
    break_it(&mut state, alice);
    let found = super::CHECKS
        .iter()
        .filter_map(|check| check(&state).err())
        .map(|violation| violation.property)
        .collect::<Vec<_>>();
    assert!(found.contains(&property), "{property} not among {found:?}");
}

#[test]
fn free_unique_sees_a_block_twice_and_one_from_nowhere() {
    breaks("free_unique", |s, _| s.free.push(BlockId(0)));
    breaks("free_unique", |s, _| s.free[0] = BlockId(99));
}

#[test]
fn no_aliasing_sees_a_free_block_in_use() {
    breaks("no_aliasing", |s, _| s.free.push(BlockId(3)));
}

#[test]
fn conservation_sees_a_lost_block() {
    breaks("conservation", |s, _| {
        s.free.pop();
    });
}

#[test]
fn ownership_sees_an_orphan_and_a_miscount() {
    breaks("ownership", |s, _| s.agents[0].name = None);
    breaks("ownership", |s, _| s.agents[0].blocks += 1);
    breaks("ownership", |s, _| s.agents[0].by_layer = vec![0, 1]);
    for stamp in [Stamp::free(0), Stamp::free(0).taken(LayerId(9))] {
        breaks("ownership", |s, _| s.slots[3].stamp = stamp);
    }
}

#[test]
fn no_ghosts_sees_a_retired_holder_and_a_wrong_index() {
    breaks("no_ghosts", |s, _| s.agents[0].name = None);
    breaks("no_ghosts", |s, _| s.places.clear());
}

#[test]
fn freed_is_cleared_sees_a_stray_and_a_trace() {
    breaks("freed_is_cleared", |s, _| {
        s.slots[3].owner = None;
        s.slots[3].stamp = Stamp::free(1);
    });
    breaks("freed_is_cleared", |s, _| {
        s.slots[0].stamp = Stamp::free(0).taken(LayerId(0));
    });
}

#[test]
fn bytes_balance_sees_a_miscount() {
    breaks("bytes_balance", |s, _| {
        s.free.pop();
    });
}

#[test]
fn window_cap_sees_one_too_many() {
    breaks("window_cap", |s, _| s.agents[0].by_layer[1] = 2);
}

#[test]
fn reservations_see_a_broken_promise() {
    breaks("reservations", |s, _| s.reserved = 1);
    breaks("reservations", |s, _| {
        s.reserved = 1;
        s.agents[0].reserved = 1;
        s.free.clear();
    });
}

#[test]
fn first_is_served_sees_an_idle_block_and_a_gift_to_nobody() {
    breaks("first_is_served", |s, alice| {
        s.enqueue(&[(LayerId(0), 4)], alice).unwrap();
        s.reserved -= 1;
        s.waiting.gathered -= 1;
    });
    breaks("first_is_served", |s, alice| {
        let first = s.enqueue(&[(LayerId(0), 4)], alice).unwrap();
        s.waiting.line.remove(&first);
    });
}

#[test]
fn waiters_known_sees_a_stranger_a_giant_and_a_ticket_twice() {
    let waits = |s: &mut PoolState, alice| s.enqueue(&[(LayerId(0), 4)], alice).unwrap();
    breaks("waiters_known", |s, alice| {
        waits(s, alice);
        s.agents[0].generation += 1;
    });
    breaks("waiters_known", |s, alice| {
        let ticket = waits(s, alice);
        s.waiting.line.get_mut(&ticket).unwrap().needs[0].1 = 9;
    });
    breaks("waiters_known", |s, alice| {
        let ticket = waits(s, alice);
        s.waiting.refused.insert(ticket, WaitError::Closed);
    });
    breaks("waiters_known", |s, alice| {
        waits(s, alice);
        s.waiting.last = 0;
    });
}

#[test]
fn failed_is_unchanged_compares_all() {
    let (state, _) = state();
    let mut other = state.clone();
    assert_eq!(super::failed_is_unchanged::check(&state, &other), Ok(()));
    other.free.swap(0, 1);
    assert!(super::failed_is_unchanged::check(&state, &other).is_err());
}
