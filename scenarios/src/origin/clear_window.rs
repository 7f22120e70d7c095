//! The origin's admin command "clear" is two steps: the pool forgets every allocation, then
//! the engine forgets its handles. A turn of an agent that falls in between allocates a new
//! block, which is the place just cleared, and then frees the agent's old handle, which names
//! the same place. The pool knows blocks by id alone, so it takes the old handle for the new
//! block and frees what is in use. The next agent gets it: one block, two owners.
//!
//! The window is open when the body begins; the turn and the clear's second step race. If the
//! turn finds the old handle still there, freeing it must be refused.
//!
//! What ships gives every use of a block a generation, and a handle carries it.

use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_core::pool::FreeError;
use selvedge_core::{AgentId, BlockPool, BlockRef, LayerId, ModelCacheSpec};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-CLEAR-WINDOW",
    ticket: "agent-memory, clear_all_agent_blocks",
    summary: "cleared in two steps: a stale handle frees a live block (ABA)",
    source: include_str!("clear_window.rs"),
    twin: bodies!(turn_in_the_window, KnownById),
    shipped: bodies!(turn_in_the_window, Shipped),
    signature: "two-owners",
    must_reach: &["stale-handle-refused"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: u32 = 2;
const MOST_ROUNDS: u32 = 40;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Alice,
    Bob,
}

/// A pool as far as this body needs one.
trait Pool: Send + Sync + 'static {
    type Handle: Copy + Send + 'static;
    fn new() -> Self;
    fn allocate(&self, who: Who) -> Self::Handle;
    /// Whether the handle was accepted.
    fn free(&self, who: Who, block: Self::Handle) -> bool;
    /// Forgets every allocation.
    fn force_clear(&self);
    /// The block's place.
    fn id(block: Self::Handle) -> u32;
}

fn turn_in_the_window<P: Platform, T: Pool>(cx: &Cx) -> Observation {
    let mut outcome = "";
    // Each round starts a thread, which is what takes the time.
    for _ in 0..cx.rounds().min(MOST_ROUNDS) {
        outcome = one_turn::<P, T>();
    }
    match cx.rounds() {
        1 => Observation::of(outcome),
        _ => Observation::none(),
    }
}

fn one_turn<P: Platform, T: Pool>() -> &'static str {
    let pool = T::new();
    let tracked = P::Arc::new(P::Mutex::new(Some(pool.allocate(Who::Alice))));
    pool.force_clear();
    let engine = tracked.clone();
    let admin = P::spawn(move || *engine.lock() = None);

    // Alice's turn: take the new blocks, then free the old ones.
    let new = pool.allocate(Who::Alice);
    let old = tracked.lock().take();
    let outcome = match old {
        None => "the engine was cleared first",
        Some(old) if pool.free(Who::Alice, old) => "the stale handle was accepted",
        Some(_) => {
            reach("stale-handle-refused");
            "the stale handle was refused"
        }
    };
    admin.join();

    let bobs = pool.allocate(Who::Bob);
    if T::id(bobs) == T::id(new) {
        violation!("two-owners", "block {} is Alice's and Bob's", T::id(new));
    }
    if !(pool.free(Who::Alice, new) && pool.free(Who::Bob, bobs)) {
        violation!("live-handle-refused", "{outcome}");
    }
    outcome
}

/// The code that ships.
struct Shipped<P: Platform> {
    pool: BlockPool<P>,
    alice: AgentId,
    bob: AgentId,
}

impl<P: Platform> Shipped<P> {
    fn agent(&self, who: Who) -> AgentId {
        match who {
            Who::Alice => self.alice,
            Who::Bob => self.bob,
        }
    }
}

impl<P: Platform> Pool for Shipped<P> {
    type Handle = BlockRef;

    fn new() -> Self {
        let spec = ModelCacheSpec::new(1, 1, 8, 16).expect("INVARIANT: no size is zero");
        let pool = BlockPool::new(spec, BLOCKS).expect("INVARIANT: there are blocks");
        let [alice, bob] =
            ["alice", "bob"].map(|name| pool.agent(name).expect("INVARIANT: it has a name"));
        Shipped { pool, alice, bob }
    }

    fn allocate(&self, who: Who) -> BlockRef {
        match self.pool.allocate(1, LayerId(0), self.agent(who)) {
            Ok(lease) => lease.persist()[0],
            Err(refused) => violation!("refused", "{refused}"),
        }
    }

    fn free(&self, who: Who, block: BlockRef) -> bool {
        match self.pool.free(self.agent(who), &[block]) {
            Ok(()) => true,
            Err(FreeError::StaleGeneration { .. }) => false,
            Err(other) => violation!("wrong-error", "{other}"),
        }
    }

    fn force_clear(&self) {
        self.pool.free_agent(self.alice);
        self.pool.free_agent(self.bob);
    }

    fn id(block: BlockRef) -> u32 {
        block.id().0
    }
}

/// As reported: a handle is a place, whatever use of it was meant.
struct KnownById<P: Platform>(P::Mutex<Books>);

struct Books {
    free: Vec<u32>,
    owners: [Option<Who>; BLOCKS as usize],
}

impl<P: Platform> Pool for KnownById<P> {
    type Handle = u32;

    fn new() -> Self {
        KnownById(P::Mutex::new(Books {
            free: (0..BLOCKS).collect(),
            owners: [None; BLOCKS as usize],
        }))
    }

    fn allocate(&self, who: Who) -> u32 {
        let mut books = self.0.lock();
        match books.free.pop() {
            Some(id) => {
                books.owners[id as usize] = Some(who);
                id
            }
            None => violation!("refused", "no block is free"),
        }
    }

    fn free(&self, who: Who, block: u32) -> bool {
        let mut books = self.0.lock();
        let owned = books.owners[block as usize] == Some(who);
        if owned {
            books.owners[block as usize] = None;
            books.free.push(block);
        }
        owned
    }

    fn force_clear(&self) {
        let mut books = self.0.lock();
        books.free = (0..BLOCKS).collect();
        books.owners = [None; BLOCKS as usize];
    }

    fn id(block: u32) -> u32 {
        block
    }
}
