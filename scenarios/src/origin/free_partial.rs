//! The origin's `free` took a list and freed block by block. At the first block it could not
//! free it raised, and the blocks before it stayed freed: the caller was told that the call
//! had failed, kept all the handles, and held less than it thought. Trying again failed at the
//! first block, so the rest could never be freed. An agent whose last block went that way was
//! left behind as an empty entry.
//!
//! Two threads of one agent free overlapping batches, {0, 1} and {2, 1}. Whoever comes second
//! must be refused and must have freed nothing. No schedule is needed to see it: the second
//! batch always fails at its second block.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_core::pool::invariants::failed_is_unchanged;
use selvedge_core::{AgentId, BlockPool, BlockRef, LayerId, ModelCacheSpec, PoolState};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-FREE-PARTIAL",
    ticket: "agent-memory, free",
    summary: "free fails in the middle of its list: the first blocks stay freed",
    source: include_str!("free_partial.rs"),
    twin: bodies!(overlapping_batches, BlockByBlock),
    shipped: bodies!(overlapping_batches, Shipped),
    signature: "partly-freed",
    must_reach: &["refused", "refused-again", "rest-freed"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: u32 = 3;

/// A pool as far as this body needs one.
trait Pool: Sized + Send + Sync + 'static {
    type Handle: Copy + Send + 'static;
    type State: Debug;
    /// The pool, and all its blocks, held by one agent.
    fn new() -> (Self, [Self::Handle; BLOCKS as usize]);
    fn free(&self, blocks: &[Self::Handle]) -> Result<(), String>;
    /// Blocks the agent holds.
    fn held(&self) -> u32;
    fn state(&self) -> Self::State;
    /// What differs, if anything does.
    fn difference(before: &Self::State, after: &Self::State) -> Option<String>;
}

fn overlapping_batches<P: Platform, T: Pool>(cx: &Cx) -> Observation {
    let mut second = 0;
    // One round shows it; a few more move the threads about.
    for _ in 0..cx.rounds().min(10) {
        second = overlap_once::<P, T>();
    }
    match cx.rounds() {
        1 => Observation::of(format!("batch {second} came second")),
        _ => Observation::none(),
    }
}

/// Which of the two batches was refused.
fn overlap_once<P: Platform, T: Pool>() -> usize {
    let (pool, blocks) = T::new();
    let pool = P::Arc::new(pool);
    let batches = [[blocks[0], blocks[1]], [blocks[2], blocks[1]]];
    let threads = batches.map(|batch| {
        let pool = pool.clone();
        P::spawn(move || pool.free(&batch).is_err())
    });
    let refused = threads.map(JoinHandle::join);
    let second = match refused {
        [true, false] => 0,
        [false, true] => 1,
        _ => violation!("not-one-refused", "refused: {refused:?}"),
    };
    reach("refused");
    let held = pool.held();
    if held != 1 {
        violation!(
            "partly-freed",
            "one batch was freed, {held} of {BLOCKS} are held"
        );
    }

    let before = pool.state();
    match pool.free(&batches[second]) {
        Ok(()) => violation!("freed-twice", "batch {second} holds a block that was freed"),
        Err(_) => reach("refused-again"),
    }
    if let Some(difference) = T::difference(&before, &pool.state()) {
        violation!("partly-freed", "{difference}");
    }
    match pool.free(&batches[second][..1]) {
        Ok(()) => reach("rest-freed"),
        Err(refused) => violation!("partly-freed", "the rest cannot be freed: {refused}"),
    }
    second
}

/// The code that ships.
struct Shipped<P: Platform> {
    pool: BlockPool<P>,
    agent: AgentId,
}

impl<P: Platform> Pool for Shipped<P> {
    type Handle = BlockRef;
    type State = PoolState;

    fn new() -> (Self, [BlockRef; BLOCKS as usize]) {
        let spec = ModelCacheSpec::new(1, 1, 8, 16).expect("INVARIANT: no size is zero");
        let pool = BlockPool::new(spec, BLOCKS).expect("INVARIANT: there are blocks");
        let agent = pool.agent("a").expect("INVARIANT: it has a name");
        let blocks = (pool.allocate(BLOCKS, LayerId(0), agent))
            .expect("INVARIANT: all are free yet")
            .persist();
        let blocks = blocks.try_into().expect("INVARIANT: all were asked for");
        (Shipped { pool, agent }, blocks)
    }

    fn free(&self, blocks: &[BlockRef]) -> Result<(), String> {
        (self.pool.free(self.agent, blocks)).map_err(|error| error.to_string())
    }

    fn held(&self) -> u32 {
        match self.pool.audit() {
            Ok(snapshot) => snapshot.used,
            Err(violated) => violation!(violated.property, "{violated}"),
        }
    }

    fn state(&self) -> PoolState {
        self.pool.state()
    }

    fn difference(before: &PoolState, after: &PoolState) -> Option<String> {
        let unchanged = failed_is_unchanged::check(before, after);
        unchanged.err().map(|violated| violated.to_string())
    }
}

/// As reported: one lock around the whole call, and still not atomic.
struct BlockByBlock<P: Platform>(P::Mutex<Books>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Books {
    free: Vec<u32>,
    by_agent: BTreeMap<&'static str, BTreeSet<u32>>,
}

impl<P: Platform> Pool for BlockByBlock<P> {
    type Handle = u32;
    type State = Books;

    fn new() -> (Self, [u32; BLOCKS as usize]) {
        let books = Books {
            free: Vec::new(),
            by_agent: BTreeMap::from([("a", (0..BLOCKS).collect())]),
        };
        (BlockByBlock(P::Mutex::new(books)), [0, 1, 2])
    }

    fn free(&self, blocks: &[u32]) -> Result<(), String> {
        let books = &mut *self.0.lock();
        for id in blocks {
            if !books.by_agent.entry("a").or_default().remove(id) {
                return Err(format!("block {id} is not allocated (double free?)"));
            }
            books.free.push(*id);
        }
        // Not reached by a call that fails: that is where the empty entry comes from.
        books.by_agent.retain(|_, held| !held.is_empty());
        Ok(())
    }

    fn held(&self) -> u32 {
        self.0
            .lock()
            .by_agent
            .values()
            .map(|held| held.len() as u32)
            .sum()
    }

    fn state(&self) -> Books {
        self.0.lock().clone()
    }

    fn difference(before: &Books, after: &Books) -> Option<String> {
        (before != after).then(|| format!("{before:?} became {after:?}"))
    }
}
