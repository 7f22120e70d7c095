//! vllm PR 45357 and #47728: a request was aborted while a step of the model was under way. Its
//! blocks were freed at once and given to the next; then the step, which had read the block
//! table when it began, wrote what it had computed into them.
//!
//! Here alice's request runs in the only block. One thread makes a step, one cancels her, and bob
//! takes the block as soon as he can have it, writes into it, and reads it back.
//!
//! What ships decides the end of a request at once, and gives its blocks up between two steps.

use selvedge_core::engine::CancelReason;
use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_core::time::Instant;
use selvedge_core::{AgentId, BlockLease, BlockPool, LayerId, RequestId};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::device::{Content, Memory, OnDevice};
use crate::bed::{agent_of, check_all_back, pool_of};
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "freed-under-step",
    ticket: "vllm PR 45357, #47728",
    summary: "cancelled during a step: its blocks are freed and then written",
    source: concat!(
        include_str!("freed_under_step.rs"),
        include_str!("device.rs")
    ),
    twin: bodies!(cancelled_during_a_step, FreesAtOnce),
    shipped: bodies!(cancelled_during_a_step, Shipped),
    signature: "written-after-free",
    must_reach: &["bob-got-the-block", "bob-was-refused"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const MOST_ROUNDS: u32 = 40;
const ALICE: usize = 0;

/// A server in which alice's request runs.
trait Server<P: Platform>: Send + Sync + 'static {
    fn new() -> Self;
    fn step(&self);
    fn cancel(&self);
    /// Lets all come to its end.
    fn finish(&self);
    fn pool(&self) -> &BlockPool<P>;
    fn memory(&self) -> &Memory<P>;
    fn bob(&self) -> AgentId;
}

fn cancelled_during_a_step<P: Platform, T: Server<P>>(cx: &Cx) -> Observation {
    let mut got = false;
    for _ in 0..cx.rounds().min(MOST_ROUNDS) {
        let server = P::Arc::new(T::new());
        let [stepping, cancelling] = [server.clone(), server.clone()];
        let step = P::spawn(move || stepping.step());
        let cancel = P::spawn(move || cancelling.cancel());
        got = bob_uses_it(&*server);
        step.join();
        cancel.join();
        server.finish();
        check_all_back(server.pool(), "block-leaked");
    }
    match cx.rounds() {
        1 => Observation::of(format!("bob got it: {got}")),
        _ => Observation::none(),
    }
}

fn bob_uses_it<P: Platform, T: Server<P>>(server: &T) -> bool {
    let Ok(lease) = server.pool().allocate(1, LayerId(0), server.bob()) else {
        reach("bob-was-refused");
        return false;
    };
    reach("bob-got-the-block");
    let place = lease.blocks()[0].id().0;
    let his = Content {
        weights: 0,
        tokens: vec![99],
    };
    server.memory().write(place, his.clone());
    P::yield_now();
    let found = server.memory().read(place);
    if found.as_ref() != Some(&his) {
        violation!(
            "written-after-free",
            "bob wrote {his:?} and found {found:?}"
        );
    }
    true
}

/// The code that ships.
struct Shipped<P: Platform> {
    on: OnDevice<P>,
    request: RequestId,
}

impl<P: Platform> Server<P> for Shipped<P> {
    fn new() -> Self {
        let on = OnDevice::new(1, "prefix-wrong");
        let request = on.submit(ALICE, &[1], 3, false);
        let began = on.engine.step(Instant::ZERO);
        debug_assert!(began.is_ok());
        Shipped { on, request }
    }

    fn step(&self) {
        // Its events are of no interest here.
        drop(self.on.engine.step(Instant::ZERO));
    }

    fn cancel(&self) {
        let cancelled =
            (self.on.engine).cancel(self.request, CancelReason::Requested, Instant::ZERO);
        if let Err(refused) = cancelled {
            violation!("cancel-refused", "{refused}");
        }
    }

    fn finish(&self) {
        self.on.finish();
    }

    fn pool(&self) -> &BlockPool<P> {
        &self.on.pool
    }

    fn memory(&self) -> &Memory<P> {
        &self.on.memory
    }

    fn bob(&self) -> AgentId {
        self.on.agents[1]
    }
}

/// As reported.
struct FreesAtOnce<P: Platform> {
    pool: P::Arc<BlockPool<P>>,
    memory: Memory<P>,
    running: P::Mutex<Option<BlockLease<'static, P>>>,
    bob: AgentId,
}

impl<P: Platform> Server<P> for FreesAtOnce<P> {
    fn new() -> Self {
        let pool: P::Arc<BlockPool<P>> = P::Arc::new(pool_of(1, 1));
        let [alice, bob] = ["alice", "bob"].map(|name| agent_of(&pool, name));
        let lease = pool.allocate(1, LayerId(0), alice).ok();
        let lease = lease.and_then(|lease| lease.into_shared(&pool).ok());
        FreesAtOnce {
            memory: Memory::new(),
            running: P::Mutex::new(lease),
            bob,
            pool,
        }
    }

    fn step(&self) {
        // The block table, as the step is launched with it.
        let places: Vec<u32> = (self.running.lock().iter())
            .flat_map(|lease| lease.blocks().iter().map(|block| block.id().0))
            .collect();
        P::yield_now();
        self.memory.write_all(&places, 0, &[1, 7, 7]);
    }

    fn cancel(&self) {
        let lease = self.running.lock().take();
        drop(lease);
    }

    fn finish(&self) {}

    fn pool(&self) -> &BlockPool<P> {
        &self.pool
    }

    fn memory(&self) -> &Memory<P> {
        &self.memory
    }

    fn bob(&self) -> AgentId {
        self.bob
    }
}
