//! dynamo PR 4995: a block of a sequence owned the one before it, by a shared pointer, back to the
//! first. Dropping the last of many thousands dropped the one before inside of its own drop, and
//! that the one before it, until the stack was full and the process died.
//!
//! A cache of many blocks is dropped. Each payload's drop says how many others it runs inside of.
//!
//! What ships keeps blocks in a flat list under one lease.

use std::cell::Cell;

use selvedge_core::platform::{Platform, Shared};
use selvedge_core::{AgentBlocks, BlockPool, KvBlock, LayerId, ModelCacheSpec};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::{agent_of, check_all_back};
use crate::registry::{Expect, Scenario, explorer, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "huge-drop-recursion",
    ticket: "dynamo PR 4995",
    summary: "each block owns the one before: dropping thousands overflows the stack",
    source: include_str!("huge_drop_recursion.rs"),
    twin: bodies!(drop_many, Chain),
    shipped: bodies!(drop_many, Flat),
    signature: "recursive-drop",
    must_reach: &["all-dropped"],
    // No thread and no race: the explorer runs it once. Not shuttle, which would do so thousands
    // of times; not loom, whose coroutines' stacks are too small for the twin's recursion.
    engines: &[native(Expect::Finds), explorer(Expect::Finds)],
};

/// A drop inside of so many others uses a stack in proportion to the cache.
const DEEP: u32 = 100;

thread_local! {
    static DROPS: Cell<u32> = const { Cell::new(0) };
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static DEEPEST: Cell<u32> = const { Cell::new(0) };
}

/// What a block holds; its drop is measured.
struct Payload;

/// How deep the drop is that runs while this lives.
struct Level;

impl Level {
    fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        DEEPEST.set(DEEPEST.get().max(DEPTH.get()));
        DROPS.set(DROPS.get() + 1);
        Level
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        let _level = Level::enter();
    }
}

trait Cache<P: Platform> {
    /// How many blocks: few where each takes stack.
    const BLOCKS: u32;
    fn make_and_drop();
}

fn drop_many<P: Platform, T: Cache<P>>(_: &Cx) -> Observation {
    DROPS.set(0);
    DEEPEST.set(0);
    T::make_and_drop();
    let deepest = DEEPEST.get();
    if deepest > DEEP {
        violation!(
            "recursive-drop",
            "{} blocks: a drop inside of {deepest}",
            T::BLOCKS
        );
    }
    if DROPS.get() == T::BLOCKS {
        reach("all-dropped");
    }
    Observation::none()
}

/// The code that ships.
struct Flat<P: Platform>(std::marker::PhantomData<P>);

impl<P: Platform> Cache<P> for Flat<P> {
    const BLOCKS: u32 = 20_000;

    fn make_and_drop() {
        let n = Self::BLOCKS;
        let spec = ModelCacheSpec::new(1, 1, 8, 1).expect("INVARIANT: no size is zero");
        let pool: BlockPool<P> =
            BlockPool::new(spec.clone(), n).expect("INVARIANT: there are blocks");
        let alice = agent_of(&pool, "alice");
        let lease = match pool.allocate(n, LayerId(0), alice) {
            Ok(lease) => lease,
            Err(refused) => violation!("refused", "{refused}"),
        };
        let block = |&block: &_| KvBlock::new(&spec, block, 1, Payload).ok();
        let blocks: Vec<KvBlock<Payload>> = lease.blocks().iter().filter_map(block).collect();
        match AgentBlocks::new(&spec, lease, blocks, vec![1; n as usize]) {
            Ok(cache) => drop(cache),
            Err(refused) => violation!("not-a-cache", "{refused}"),
        }
        check_all_back(&pool, "block-leaked");
    }
}

/// As reported. What the compiler does at the end of a node's drop is written out, so that it can
/// be measured.
struct Chain<P: Platform>(Option<P::Arc<Node<P>>>);

struct Node<P: Platform> {
    before: Chain<P>,
}

impl<P: Platform> Drop for Node<P> {
    fn drop(&mut self) {
        let _level = Level::enter();
        drop(self.before.0.take());
    }
}

impl<P: Platform> Cache<P> for Chain<P> {
    const BLOCKS: u32 = 300;

    fn make_and_drop() {
        let mut last = Chain(None);
        for _ in 0..Self::BLOCKS {
            let node: P::Arc<Node<P>> = P::Arc::new(Node { before: last });
            last = Chain(Some(node));
        }
        drop(last);
    }
}
