//! odin PR 6822: a pool's free list as a lock-free stack whose head says which element is on
//! top, and not how often that changed. A thread reads the head A and what is below it, B;
//! another pops A, pops B, and pushes A back. The first thread's compare-and-swap still finds
//! A on top, succeeds, and makes B the head, which the other thread is using. The next pop
//! gives B to a second owner.
//!
//! Of three blocks, one thread takes one and keeps it; the other takes two and gives the first
//! of them back. Then all that is left is taken: no block may be held twice.
//!
//! The repair there was a lock around the list, and so it is here: the pool that ships.

use selvedge_core::platform::{Atomic, JoinHandle, Ordering, Platform, Shared};
use selvedge_core::{AgentId, BlockPool, BlockRef, LayerId, ModelCacheSpec};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "treiber-aba",
    ticket: "odin PR 6822",
    summary: "lock-free free list without a tag: one element gets two owners",
    source: include_str!("treiber_aba.rs"),
    twin: bodies!(take_while_another_recycles, Untagged),
    shipped: bodies!(take_while_another_recycles, Shipped),
    signature: "two-owners",
    must_reach: &["recycled"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: usize = 3;
const MOST_ROUNDS: u32 = 40;

/// A free list as far as this body needs one.
trait FreeList: Send + Sync + 'static {
    type Handle: Copy + Send + 'static;
    fn new() -> Self;
    fn pop(&self) -> Option<Self::Handle>;
    fn push(&self, block: Self::Handle);
    /// The block's place.
    fn id(block: Self::Handle) -> u32;
}

fn take_while_another_recycles<P: Platform, T: FreeList>(cx: &Cx) -> Observation {
    let mut held = Vec::new();
    // Each round starts a thread, which is what takes the time.
    for _ in 0..cx.rounds().min(MOST_ROUNDS) {
        held = take_all::<P, T>();
    }
    match cx.rounds() {
        1 => Observation::of(format!("held {held:?}")),
        _ => Observation::none(),
    }
}

/// Who holds what in the end: the first, the second, then what was left.
fn take_all<P: Platform, T: FreeList>() -> Vec<u32> {
    let list = P::Arc::new(T::new());
    let other = list.clone();
    let other = P::spawn(move || {
        let (recycled, kept) = (pop(&*other), pop(&*other));
        other.push(recycled);
        reach("recycled");
        kept
    });
    let mut held = vec![T::id(pop(&*list))];
    held.push(T::id(other.join()));
    // A broken list may go round in a circle: one more than there are is enough to see it.
    while let Some(block) = list.pop() {
        held.push(T::id(block));
        if held.len() > BLOCKS {
            break;
        }
    }
    for (i, id) in held.iter().enumerate() {
        if held[..i].contains(id) {
            violation!("two-owners", "of block {id}; held are {held:?}");
        }
    }
    if held.len() != BLOCKS {
        violation!("lost-block", "held are {held:?} of {BLOCKS}");
    }
    held
}

fn pop<T: FreeList>(list: &T) -> T::Handle {
    match list.pop() {
        Some(block) => block,
        None => violation!("lost-block", "the list is empty too early"),
    }
}

/// The code that ships.
struct Shipped<P: Platform> {
    pool: BlockPool<P>,
    agent: AgentId,
}

impl<P: Platform> FreeList for Shipped<P> {
    type Handle = BlockRef;

    fn new() -> Self {
        let spec = ModelCacheSpec::new(1, 1, 8, 16).expect("INVARIANT: no size is zero");
        let pool = BlockPool::new(spec, BLOCKS as u32).expect("INVARIANT: there are blocks");
        let agent = pool.agent("a").expect("INVARIANT: it has a name");
        Shipped { pool, agent }
    }

    fn pop(&self) -> Option<BlockRef> {
        let lease = self.pool.allocate(1, LayerId(0), self.agent).ok()?;
        lease.persist().first().copied()
    }

    fn push(&self, block: BlockRef) {
        if let Err(refused) = self.pool.free(self.agent, &[block]) {
            violation!("free-refused", "{refused}");
        }
    }

    fn id(block: BlockRef) -> u32 {
        block.id().0
    }
}

/// As reported: a Treiber stack of indices. The head is an index and nothing more.
struct Untagged<P: Platform> {
    head: P::AtomicU32,
    /// By block: the one below it.
    below: [P::AtomicU32; BLOCKS],
}

/// No block: the bottom of the stack.
const NONE: u32 = u32::MAX;

impl<P: Platform> FreeList for Untagged<P> {
    type Handle = u32;

    fn new() -> Self {
        Untagged {
            head: P::AtomicU32::new(2),
            below: [NONE, 0, 1].map(P::AtomicU32::new),
        }
    }

    fn pop(&self) -> Option<u32> {
        loop {
            // ORDERING: Acquire. Pairs with the release of the push that put the block on top,
            // so that what is below it is seen. The bug is not one of ordering.
            let top = self.head.load(Ordering::Acquire);
            if top == NONE {
                return None;
            }
            // ORDERING: Acquire, to leave nothing to the memory model.
            let next = self.below[top as usize].load(Ordering::Acquire);
            // ORDERING: AcqRel and Acquire, as above.
            let swapped =
                (self.head).compare_exchange(top, next, Ordering::AcqRel, Ordering::Acquire);
            if swapped.is_ok() {
                return Some(top);
            }
        }
    }

    fn push(&self, block: u32) {
        loop {
            // ORDERING: Acquire, to leave nothing to the memory model.
            let top = self.head.load(Ordering::Acquire);
            // ORDERING: Release, as above.
            self.below[block as usize].store(top, Ordering::Release);
            // ORDERING: AcqRel. Publishes what is below the block together with the block.
            let swapped =
                (self.head).compare_exchange(top, block, Ordering::AcqRel, Ordering::Acquire);
            if swapped.is_ok() {
                return;
            }
        }
    }

    fn id(block: u32) -> u32 {
        block
    }
}
