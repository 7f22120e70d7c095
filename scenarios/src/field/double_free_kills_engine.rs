//! vllm#1556 and #1930: a block was freed a second time (beam search led there, for one). The
//! block manager raised, which was right; but it raised inside the one loop that serves
//! everybody, the loop ended, and every other request died with it. Nothing was wrong with
//! those.
//!
//! One caller frees its block twice while another allocates and frees; a third comes after
//! both. Only the first may be told of an error, and the others must be served.
//!
//! The dead loop is a flag here: a real panic would end the test bed's own execution.

use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_core::{AgentId, BlockPool, BlockRef, LayerId, ModelCacheSpec};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "double-free-kills-engine",
    ticket: "vllm#1556, vllm#1930",
    summary: "one caller's double free ends the loop that serves everybody",
    source: include_str!("double_free_kills_engine.rs"),
    twin: bodies!(one_frees_twice, OneLoopForAll),
    shipped: bodies!(one_frees_twice, Shipped),
    signature: "engine-dead",
    must_reach: &["double-free-refused", "others-served"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: u32 = 2;
const CALLERS: [&str; 3] = ["clumsy", "busy", "late"];

/// Why a call was not served.
#[derive(Debug)]
enum Unserved {
    /// This call was wrong; so it was told.
    Refused(String),
    /// There is nobody left to serve it.
    Dead,
}

/// A pool with everybody's calls going to it.
trait Engine: Send + Sync + 'static {
    type Handle: Copy + Send + 'static;
    fn new() -> Self;
    fn allocate(&self, caller: usize) -> Result<Self::Handle, Unserved>;
    fn free(&self, caller: usize, block: Self::Handle) -> Result<(), Unserved>;
}

fn one_frees_twice<P: Platform, T: Engine>(cx: &Cx) -> Observation {
    let mut told = String::new();
    // One round shows it; a few more move the threads about.
    for _ in 0..cx.rounds().min(10) {
        told = free_twice::<P, T>();
    }
    match cx.rounds() {
        1 => Observation::of(told),
        _ => Observation::none(),
    }
}

/// What the clumsy caller was told.
fn free_twice<P: Platform, T: Engine>() -> String {
    let engine = P::Arc::new(T::new());
    let block = served(engine.allocate(0));
    served(engine.free(0, block));

    let busy = engine.clone();
    let busy = P::spawn(move || allocate_and_free(&*busy, 1));
    let told = match engine.free(0, block) {
        // The twin may take the second free for the busy caller's first.
        Ok(()) => "the double free was accepted".to_owned(),
        Err(Unserved::Dead) => "the engine died".to_owned(),
        Err(Unserved::Refused(why)) => {
            reach("double-free-refused");
            why
        }
    };
    busy.join();
    allocate_and_free(&*engine, 2);
    reach("others-served");
    told
}

fn allocate_and_free<T: Engine>(engine: &T, caller: usize) {
    let block = served(engine.allocate(caller));
    served(engine.free(caller, block));
}

/// What a caller gets that does nothing wrong.
fn served<T>(result: Result<T, Unserved>) -> T {
    match result {
        Ok(served) => served,
        Err(Unserved::Dead) => violation!("engine-dead", "a caller that did nothing wrong"),
        Err(Unserved::Refused(why)) => violation!("wrongly-refused", "{why}"),
    }
}

/// The code that ships: an error belongs to its call.
struct Shipped<P: Platform> {
    pool: BlockPool<P>,
    agents: [AgentId; 3],
}

impl<P: Platform> Engine for Shipped<P> {
    type Handle = BlockRef;

    fn new() -> Self {
        let spec = ModelCacheSpec::new(1, 1, 8, 16).expect("INVARIANT: no size is zero");
        let pool = BlockPool::new(spec, BLOCKS).expect("INVARIANT: there are blocks");
        let agents = CALLERS.map(|name| pool.agent(name).expect("INVARIANT: it has a name"));
        Shipped { pool, agents }
    }

    fn allocate(&self, caller: usize) -> Result<BlockRef, Unserved> {
        match self.pool.allocate(1, LayerId(0), self.agents[caller]) {
            Ok(lease) => Ok(lease.persist()[0]),
            Err(refused) => Err(Unserved::Refused(refused.to_string())),
        }
    }

    fn free(&self, caller: usize, block: BlockRef) -> Result<(), Unserved> {
        (self.pool.free(self.agents[caller], &[block]))
            .map_err(|refused| Unserved::Refused(refused.to_string()))
    }
}

/// As reported: the block manager raises, and nobody in the loop catches it.
struct OneLoopForAll<P: Platform>(P::Mutex<Loop>);

struct Loop {
    alive: bool,
    free: Vec<u32>,
    in_use: [bool; BLOCKS as usize],
}

impl<P: Platform> OneLoopForAll<P> {
    /// One turn of the loop: `Err` is an exception, and the loop's last turn.
    fn turn<T>(
        &self,
        work: impl FnOnce(&mut Loop) -> Result<T, &'static str>,
    ) -> Result<T, Unserved> {
        let state = &mut *self.0.lock();
        if !state.alive {
            return Err(Unserved::Dead);
        }
        work(state).map_err(|_uncaught| {
            state.alive = false;
            Unserved::Dead
        })
    }
}

impl<P: Platform> Engine for OneLoopForAll<P> {
    type Handle = u32;

    fn new() -> Self {
        OneLoopForAll(P::Mutex::new(Loop {
            alive: true,
            free: (0..BLOCKS).collect(),
            in_use: [false; BLOCKS as usize],
        }))
    }

    fn allocate(&self, _caller: usize) -> Result<u32, Unserved> {
        self.turn(|state| {
            let id = state.free.pop().ok_or("no free block")?;
            state.in_use[id as usize] = true;
            Ok(id)
        })
    }

    fn free(&self, _caller: usize, block: u32) -> Result<(), Unserved> {
        self.turn(|state| {
            if !std::mem::take(&mut state.in_use[block as usize]) {
                return Err("double free");
            }
            state.free.push(block);
            Ok(())
        })
    }
}
