//! Ticket SPRINT-2.5, issue 1: `allocate` looked at the length of the free list and then
//! popped block by block. Between the look and the last pop another thread took some, and the
//! pop from the empty list ended the server.
//!
//! Two threads each want two blocks of three. At most one can have them; the other must be
//! told so, and no block may be lost or doubled.

use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_core::pool::AllocateError;
use selvedge_core::{AgentId, BlockPool, LayerId, ModelCacheSpec};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "pool-check-then-act",
    ticket: "SPRINT-2.5 #1",
    summary: "free list checked, then popped block by block",
    source: include_str!("pool_check_then_act.rs"),
    twin: bodies!(two_want_two_of_three, CheckThenPop),
    shipped: bodies!(two_want_two_of_three, Shipped),
    signature: "pop-from-empty-list",
    must_reach: &["granted", "exhausted"],
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
    fn new() -> Self;
    /// Takes two blocks, calls `use_them` with their ids, and gives them back.
    fn with_two(&self, thread: u32, use_them: impl FnOnce(&[u32])) -> Result<(), AllocateError>;
    fn available(&self) -> u32;
}

fn two_want_two_of_three<P: Platform, T: Pool>(cx: &Cx) -> Observation {
    let pool = P::Arc::new(T::new());
    let in_use = P::Arc::new(P::Mutex::new([false; BLOCKS as usize]));
    let threads = [0, 1].map(|thread| {
        let (pool, in_use) = (pool.clone(), in_use.clone());
        let rounds = cx.rounds();
        P::spawn(move || {
            let mut granted = 0;
            for round in 0..rounds {
                let result = pool.with_two(thread, |ids| {
                    mark::<P>(&in_use, ids, true);
                    if round % YIELD_EVERY == 0 {
                        P::yield_now();
                    }
                    mark::<P>(&in_use, ids, false);
                });
                match result {
                    Ok(()) => granted += 1,
                    Err(AllocateError::Exhausted { .. }) => reach("exhausted"),
                    Err(other) => violation!("wrong-error", "{other}"),
                }
            }
            granted
        })
    });
    let granted = threads.map(JoinHandle::join);
    if granted.iter().sum::<u32>() > 0 {
        reach("granted");
    }
    if pool.available() != BLOCKS {
        violation!("lost-block", "{} of {BLOCKS} came back", pool.available());
    }
    match cx.rounds() {
        1 => Observation::of(format!("granted {granted:?}")),
        _ => Observation::none(),
    }
}

fn mark<P: Platform>(in_use: &P::Mutex<[bool; BLOCKS as usize]>, ids: &[u32], used: bool) {
    let mut in_use = in_use.lock();
    for &id in ids {
        if in_use[id as usize] == used {
            violation!("two-owners", "block {id} was handed out twice");
        }
        in_use[id as usize] = used;
    }
}

/// The code that ships.
struct Shipped<P: Platform> {
    pool: BlockPool<P>,
    agents: [AgentId; 2],
}

impl<P: Platform> Pool for Shipped<P> {
    fn new() -> Self {
        let spec = ModelCacheSpec::new(1, 1, 8, 16).expect("INVARIANT: no size is zero");
        let pool = BlockPool::new(spec, BLOCKS).expect("INVARIANT: there are blocks");
        let agents = ["a", "b"].map(|name| pool.agent(name).expect("INVARIANT: it has a name"));
        Shipped { pool, agents }
    }

    fn with_two(&self, thread: u32, use_them: impl FnOnce(&[u32])) -> Result<(), AllocateError> {
        let agent = self.agents[thread as usize];
        let lease = self.pool.allocate(WANTED, LayerId(0), agent)?;
        let ids: Vec<u32> = lease.blocks().iter().map(|block| block.id().0).collect();
        use_them(&ids);
        Ok(())
    }

    fn available(&self) -> u32 {
        match self.pool.audit() {
            Ok(snapshot) => snapshot.available,
            Err(violated) => violation!(violated.property, "{violated}"),
        }
    }
}

/// As reported: each list operation is safe by itself, the sequence of them is not.
struct CheckThenPop<P: Platform> {
    free: P::Mutex<Vec<u32>>,
}

impl<P: Platform> Pool for CheckThenPop<P> {
    fn new() -> Self {
        CheckThenPop {
            free: P::Mutex::new((0..BLOCKS).collect()),
        }
    }

    fn with_two(&self, _thread: u32, use_them: impl FnOnce(&[u32])) -> Result<(), AllocateError> {
        let available = self.available();
        if available < WANTED {
            return Err(AllocateError::Exhausted {
                requested: WANTED,
                available,
                total: BLOCKS,
            });
        }
        let mut ids = Vec::new();
        for _ in 0..WANTED {
            match self.free.lock().pop() {
                Some(id) => ids.push(id),
                None => violation!(
                    "pop-from-empty-list",
                    "{available} were there to begin with"
                ),
            }
        }
        use_them(&ids);
        self.free.lock().extend(ids);
        Ok(())
    }

    fn available(&self) -> u32 {
        u32::try_from(self.free.lock().len()).expect("INVARIANT: there are three blocks")
    }
}
