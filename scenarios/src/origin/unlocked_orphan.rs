//! The origin, with the pool's lock taken away to see what it was for: an allocation popped
//! ids off the free list and only afterwards wrote down whose they are. Where the list ran
//! empty on the way, the error left with the ids that were already popped. They were on no
//! list and in nobody's name: no `free` could ever give them back.
//!
//! Seen there in 41 of 400 runs. The crash of the same race is the ticket
//! `pool-check-then-act`; here the error is caught, as the server does, and what it leaves
//! behind is looked at: a block that is not free must have an owner.

use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_core::{AgentId, BlockPool, BlockRef, LayerId, ModelCacheSpec};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-UNLOCKED-ORPHAN",
    ticket: "agent-memory, allocate without its lock",
    summary: "ids popped first, owner written down later: an error leaves ids without owner",
    source: include_str!("unlocked_orphan.rs"),
    twin: bodies!(two_want_two_of_three, PopThenRecord),
    shipped: bodies!(two_want_two_of_three, Shipped),
    signature: "block-without-owner",
    must_reach: &["granted", "refused"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: u32 = 3;
const WANTED: u32 = 2;
/// In which rounds to let the other thread in on purpose: in the only one under a checker, in
/// few on real threads, where on a busy machine each costs a time slice.
const YIELD_EVERY: u32 = 50;

/// A pool as far as this body needs one.
trait Pool: Send + Sync + 'static {
    type Handle: Send + 'static;
    fn new() -> Self;
    /// Two blocks, or none.
    fn allocate(&self, thread: usize) -> Option<Vec<Self::Handle>>;
    fn free(&self, thread: usize, blocks: Vec<Self::Handle>);
    /// How many blocks are neither free nor owned, and how many are free.
    fn orphans_and_free(&self) -> (u32, u32);
}

fn two_want_two_of_three<P: Platform, T: Pool>(cx: &Cx) -> Observation {
    let pool = P::Arc::new(T::new());
    let threads = [0, 1].map(|thread| {
        let pool = pool.clone();
        let rounds = cx.rounds();
        P::spawn(move || {
            let mut granted = 0;
            for round in 0..rounds {
                let Some(blocks) = pool.allocate(thread) else {
                    reach("refused");
                    continue;
                };
                reach("granted");
                granted += 1;
                if round % YIELD_EVERY == 0 {
                    P::yield_now();
                }
                pool.free(thread, blocks);
            }
            granted
        })
    });
    let granted: [u32; 2] = threads.map(JoinHandle::join);
    let (orphans, free) = pool.orphans_and_free();
    if orphans > 0 {
        violation!("block-without-owner", "{orphans} of {BLOCKS}; {free} free");
    }
    if free != BLOCKS {
        violation!("lost-block", "{free} of {BLOCKS} came back");
    }
    match cx.rounds() {
        1 => Observation::of(format!("granted {granted:?}")),
        _ => Observation::none(),
    }
}

/// The code that ships.
struct Shipped<P: Platform> {
    pool: BlockPool<P>,
    agents: [AgentId; 2],
}

impl<P: Platform> Pool for Shipped<P> {
    type Handle = BlockRef;

    fn new() -> Self {
        let spec = ModelCacheSpec::new(1, 1, 8, 16).expect("INVARIANT: no size is zero");
        let pool = BlockPool::new(spec, BLOCKS).expect("INVARIANT: there are blocks");
        let agents = ["a", "b"].map(|name| pool.agent(name).expect("INVARIANT: it has a name"));
        Shipped { pool, agents }
    }

    fn allocate(&self, thread: usize) -> Option<Vec<BlockRef>> {
        let lease = self.pool.allocate(WANTED, LayerId(0), self.agents[thread]);
        lease.ok().map(|lease| lease.persist())
    }

    fn free(&self, thread: usize, blocks: Vec<BlockRef>) {
        if let Err(refused) = self.pool.free(self.agents[thread], &blocks) {
            violation!("free-refused", "{refused}");
        }
    }

    fn orphans_and_free(&self) -> (u32, u32) {
        match self.pool.audit() {
            Ok(snapshot) => {
                let owned: u32 = snapshot.agents.iter().map(|agent| agent.blocks).sum();
                (snapshot.used - owned, snapshot.available)
            }
            Err(violated) => violation!(violated.property, "{violated}"),
        }
    }
}

/// As reported: list and owners are safe each by itself, and changed one after the other.
struct PopThenRecord<P: Platform> {
    free: P::Mutex<Vec<u32>>,
    owners: P::Mutex<[Option<usize>; BLOCKS as usize]>,
}

impl<P: Platform> Pool for PopThenRecord<P> {
    type Handle = u32;

    fn new() -> Self {
        PopThenRecord {
            free: P::Mutex::new((0..BLOCKS).collect()),
            owners: P::Mutex::new([None; BLOCKS as usize]),
        }
    }

    fn allocate(&self, thread: usize) -> Option<Vec<u32>> {
        if self.free.lock().len() < WANTED as usize {
            return None;
        }
        let mut ids = Vec::new();
        for _ in 0..WANTED {
            // The list may be empty by now, and the ids so far go with the error.
            ids.push(self.free.lock().pop()?);
        }
        let mut owners = self.owners.lock();
        for &id in &ids {
            owners[id as usize] = Some(thread);
        }
        Some(ids)
    }

    fn free(&self, _thread: usize, blocks: Vec<u32>) {
        let mut owners = self.owners.lock();
        for &id in &blocks {
            owners[id as usize] = None;
        }
        drop(owners);
        self.free.lock().extend(blocks);
    }

    fn orphans_and_free(&self) -> (u32, u32) {
        let free = self.free.lock();
        let owners = self.owners.lock();
        let orphans = (0..BLOCKS).filter(|id| !free.contains(id) && owners[*id as usize].is_none());
        (orphans.count() as u32, free.len() as u32)
    }
}
