//! vllm#42571 and dynamo PR 13398: one block stood twice in one batch that was freed. The check
//! looked at every block before any was freed, and found each of them allocated; then the
//! block went onto the free list twice. The counts were off by one from there on, and some
//! time later the list handed the same block to two requests.
//!
//! A block is freed in a batch that names it twice; afterwards two threads take a block each.
//! Of two blocks they must get different ones.

use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_core::pool::FreeError;
use selvedge_core::pool::invariants::failed_is_unchanged;
use selvedge_core::{AgentId, BlockPool, BlockRef, LayerId, ModelCacheSpec};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "free-batch-duplicate",
    ticket: "vllm#42571, dynamo PR 13398",
    summary: "one block twice in one free: it goes onto the free list twice",
    source: include_str!("free_batch_duplicate.rs"),
    twin: bodies!(freed_twice_at_once, CheckAllThenFree),
    shipped: bodies!(freed_twice_at_once, Shipped),
    signature: "two-owners",
    must_reach: &["duplicate-refused"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: u32 = 2;

/// A pool as far as this body needs one.
trait Pool: Send + Sync + 'static {
    type Handle: Copy + Send + 'static;
    fn new() -> Self;
    fn allocate(&self) -> Option<Self::Handle>;
    /// Whether the batch was accepted.
    fn free(&self, blocks: &[Self::Handle]) -> bool;
    /// The block's place.
    fn id(block: Self::Handle) -> u32;
}

fn freed_twice_at_once<P: Platform, T: Pool>(cx: &Cx) -> Observation {
    let mut ids = [0; 2];
    // One round shows it; a few more move the threads about.
    for _ in 0..cx.rounds().min(10) {
        ids = free_then_allocate::<P, T>();
    }
    match cx.rounds() {
        1 => Observation::of(format!("got blocks {ids:?}")),
        _ => Observation::none(),
    }
}

fn free_then_allocate<P: Platform, T: Pool>() -> [u32; 2] {
    let pool = P::Arc::new(T::new());
    let block = allocate(&*pool);
    if !pool.free(&[block, block]) {
        reach("duplicate-refused");
        if !pool.free(&[block]) {
            violation!("not-unchanged", "the block cannot be freed any more");
        }
    }
    let threads = [(); 2].map(|()| {
        let pool = pool.clone();
        P::spawn(move || allocate(&*pool))
    });
    let blocks = threads.map(JoinHandle::join);
    let ids = blocks.map(T::id);
    if ids[0] == ids[1] {
        violation!("two-owners", "both threads hold block {}", ids[0]);
    }
    if pool.allocate().is_some() {
        violation!("too-many-blocks", "more than {BLOCKS} were handed out");
    }
    if !pool.free(&blocks) {
        violation!("free-refused", "two different blocks, both held");
    }
    ids
}

fn allocate<T: Pool>(pool: &T) -> T::Handle {
    match pool.allocate() {
        Some(block) => block,
        None => violation!("lost-block", "fewer than {BLOCKS} blocks are left"),
    }
}

/// The code that ships.
struct Shipped<P: Platform> {
    pool: BlockPool<P>,
    agent: AgentId,
}

impl<P: Platform> Pool for Shipped<P> {
    type Handle = BlockRef;

    fn new() -> Self {
        let spec = ModelCacheSpec::new(1, 1, 8, 16).expect("INVARIANT: no size is zero");
        let pool = BlockPool::new(spec, BLOCKS).expect("INVARIANT: there are blocks");
        let agent = pool.agent("a").expect("INVARIANT: it has a name");
        Shipped { pool, agent }
    }

    fn allocate(&self) -> Option<BlockRef> {
        let lease = self.pool.allocate(1, LayerId(0), self.agent).ok()?;
        lease.persist().first().copied()
    }

    fn free(&self, blocks: &[BlockRef]) -> bool {
        // No other thread runs while a batch is freed here, so before and after compare.
        let before = self.pool.state();
        match self.pool.free(self.agent, blocks) {
            Ok(()) => true,
            Err(FreeError::DuplicateInBatch { .. }) => {
                match failed_is_unchanged::check(&before, &self.pool.state()) {
                    Ok(()) => false,
                    Err(violated) => violation!("not-unchanged", "{violated}"),
                }
            }
            Err(other) => violation!("wrong-error", "{other}"),
        }
    }

    fn id(block: BlockRef) -> u32 {
        block.id().0
    }
}

/// As reported: all of the batch is checked before any of it is freed.
struct CheckAllThenFree<P: Platform>(P::Mutex<Books>);

struct Books {
    free: Vec<u32>,
    allocated: [bool; BLOCKS as usize],
}

impl<P: Platform> Pool for CheckAllThenFree<P> {
    type Handle = u32;

    fn new() -> Self {
        CheckAllThenFree(P::Mutex::new(Books {
            free: (0..BLOCKS).collect(),
            allocated: [false; BLOCKS as usize],
        }))
    }

    fn allocate(&self) -> Option<u32> {
        let mut books = self.0.lock();
        let id = books.free.pop()?;
        books.allocated[id as usize] = true;
        Some(id)
    }

    fn free(&self, blocks: &[u32]) -> bool {
        let mut books = self.0.lock();
        let all_allocated = blocks.iter().all(|&id| books.allocated[id as usize]);
        if all_allocated {
            for &id in blocks {
                books.allocated[id as usize] = false;
                books.free.push(id);
            }
        }
        all_allocated
    }

    fn id(block: u32) -> u32 {
        block
    }
}
