//! vllm PR 18485, #46283, PR 25067: a request was aborted in a moment nobody had thought of:
//! before it was allocated anything, while its blocks were being fetched, or when its last token
//! was on the way. What came back afterwards found no record of it. Its blocks stayed taken, or
//! were freed twice, or a completion went to nobody.
//!
//! Bob's request waits. One thread makes turns. Alice submits hers and cancels it; an operator
//! drains the server and, tired of waiting, cancels bob's. So each request is cancelled while it
//! waits, between any two actions of a turn (which is also: in the middle of a lease, an insert,
//! a step, an extraction, a removal, because what they do is done before it is reported), and
//! after its end. Core's own test `engine_interleavings` goes through the same moments one by one,
//! by the state alone.
//!
//! What ships decides the end of a request where it is cancelled, or, if an action is just moving
//! its blocks, once that is reported; and it gives everything up by one way out.

use std::collections::BTreeMap;

use selvedge_core::engine::{
    CancelError, CancelReason, Closed, End, EngineConfig, Event, NewRequest, SubmitError,
};
use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_core::time::Instant;
use selvedge_core::{AgentId, BlockLease, BlockPool, LayerId, RequestId};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::{Bed, Script, agent_of, check_all_back, end_of, in_rounds, pool_of, tokens_of};
use crate::registry::{Expect, Scenario, explorer, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "cancel-in-every-state",
    ticket: "vllm PR 18485, #46283, PR 25067",
    summary: "cancelled with blocks on their way: they come back to nobody",
    source: concat!(
        include_str!("cancel_in_every_state.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(submit_step_cancel_drain, ForgetsAtOnce),
    shipped: bodies!(submit_step_cancel_drain, Shipped),
    signature: "block-leaked",
    must_reach: &[
        "cancelled-before-it-began",
        "cancelled-in-the-backend",
        "cancelled-after-a-token",
        "cancelled-too-late",
        "refused-while-draining",
        "drained",
    ],
    // Not on real threads, which may miss the moments for as long as they like. Not under loom: all
    // that is shared is under locks, so weak memory shows nothing new, and it takes many times the
    // explorer's ten thousand executions.
    engines: &[explorer(Expect::Finds), shuttle(Expect::Finds)],
};

const ALICE: usize = 0;
const BOB: usize = 1;
/// Turns that race with the rest.
const TURNS: u32 = 2;

trait Server: Send + Sync + 'static {
    fn new() -> Self;
    /// `None` if it is refused, because the server drains.
    fn submit(&self, who: usize) -> Option<RequestId>;
    /// Whether it came in time.
    fn cancel(&self, request: RequestId) -> bool;
    fn drain(&self);
    fn turn(&self);
    /// Makes turns until there is nothing to do, and checks what was told: of each request
    /// whether it was cancelled in time.
    fn finish(&self, cancelled: &BTreeMap<RequestId, bool>);
}

fn submit_step_cancel_drain<P: Platform, T: Server>(cx: &Cx) -> Observation {
    in_rounds(cx, one_server::<P, T>)
}

fn one_server<P: Platform, T: Server>() -> String {
    let server = P::Arc::new(T::new());
    let Some(bobs) = server.submit(BOB) else {
        violation!("submit-refused", "nobody drains yet");
    };
    let [alice, operator] = [server.clone(), server.clone()];
    let alice = P::spawn(move || {
        let id = alice.submit(ALICE)?;
        Some((id, alice.cancel(id)))
    });
    let operator = P::spawn(move || {
        operator.drain();
        operator.cancel(bobs)
    });
    for _ in 0..TURNS {
        server.turn();
    }
    let (alices, of_bob) = (alice.join(), operator.join());
    if alices.is_none() {
        reach("refused-while-draining");
    }
    let cancelled = alices.into_iter().chain([(bobs, of_bob)]).collect();
    server.finish(&cancelled);
    format!("alice {:?}, bob {of_bob}", alices.map(|of| of.1))
}

/// The code that ships.
struct Shipped<P: Platform> {
    bed: Bed<P>,
    told: P::Mutex<Vec<Event>>,
}

impl<P: Platform> Server for Shipped<P> {
    fn new() -> Self {
        Shipped {
            bed: Bed::new(1, 2, EngineConfig::default(), Script::default()),
            told: P::Mutex::new(Vec::new()),
        }
    }

    fn submit(&self, who: usize) -> Option<RequestId> {
        let agent = [self.bed.alice, self.bed.bob][who];
        let mut request = NewRequest::new(agent, vec![1], 2);
        request.keep_cache = who == BOB;
        match self.bed.engine.submit(request, Instant::ZERO) {
            Ok(id) => Some(id),
            Err(SubmitError::Closed(Closed::Draining)) => None,
            Err(other) => violation!("submit-refused", "{other}"),
        }
    }

    fn cancel(&self, request: RequestId) -> bool {
        match (self.bed.engine).cancel(request, CancelReason::Requested, Instant::ZERO) {
            Ok(()) => true,
            Err(CancelError::Ended { .. }) => {
                reach("cancelled-too-late");
                false
            }
            Err(other) => violation!("wrong-error", "{other}"),
        }
    }

    fn drain(&self) {
        let deadline = Instant::from_nanos(1);
        if let Err(refused) = self.bed.engine.drain(deadline, Instant::ZERO) {
            violation!("drain-refused", "{refused}");
        }
    }

    fn turn(&self) {
        let events = self.bed.step();
        // Only this thread looks at it before the others have ended.
        self.told.lock().extend(events);
    }

    fn finish(&self, cancelled: &BTreeMap<RequestId, bool>) {
        let mut told = self.told.lock().clone();
        told.extend(self.bed.run(20));
        for (&request, &in_time) in cancelled {
            let Some(ended) = end_of(&told, request) else {
                violation!("not-told", "{request} has no end");
            };
            let was_cancelled = ended.end == End::Cancelled(CancelReason::Requested);
            if was_cancelled != in_time {
                violation!("wrong-end", "cancelled in time: {in_time}; {:?}", ended.end);
            }
            let began = |event: &Event| matches!(event, Event::Started { request: of, .. } if *of == request);
            if was_cancelled {
                let tokens = tokens_of(&told, request).len();
                reach(match (told.iter().any(began), tokens) {
                    (false, _) => "cancelled-before-it-began",
                    (true, 0) => "cancelled-in-the-backend",
                    (true, _) => "cancelled-after-a-token",
                });
            }
        }
        if told.contains(&Event::Drained) {
            reach("drained");
        } else {
            violation!("not-drained", "{told:?}");
        }
        let engine = &self.bed.engine;
        engine.shutdown(Instant::ZERO);
        self.bed.check_all_back("block-leaked");
    }
}

/// As reported: a cancelled request is forgotten at once, with the blocks that it is known to
/// hold.
struct ForgetsAtOnce<P: Platform> {
    pool: P::Arc<BlockPool<P>>,
    agents: [AgentId; 2],
    books: P::Mutex<Books<P>>,
}

struct Books<P: Platform> {
    last_id: u64,
    draining: bool,
    waiting: BTreeMap<RequestId, AgentId>,
    /// Blocks, and tokens still to generate.
    running: BTreeMap<RequestId, (BlockLease<'static, P>, u32)>,
}

impl<P: Platform> Server for ForgetsAtOnce<P> {
    fn new() -> Self {
        let pool: P::Arc<BlockPool<P>> = P::Arc::new(pool_of(1, 2));
        ForgetsAtOnce {
            agents: ["alice", "bob"].map(|name| agent_of(&pool, name)),
            books: P::Mutex::new(Books {
                last_id: 0,
                draining: false,
                waiting: BTreeMap::new(),
                running: BTreeMap::new(),
            }),
            pool,
        }
    }

    fn submit(&self, who: usize) -> Option<RequestId> {
        let mut books = self.books.lock();
        if books.draining {
            return None;
        }
        books.last_id += 1;
        let id = RequestId(books.last_id);
        books.waiting.insert(id, self.agents[who]);
        Some(id)
    }

    fn cancel(&self, request: RequestId) -> bool {
        let mut books = self.books.lock();
        let waited = books.waiting.remove(&request).is_some();
        let ran = books.running.remove(&request);
        drop(books);
        waited || ran.is_some()
    }

    fn drain(&self) {
        self.books.lock().draining = true;
    }

    fn turn(&self) {
        let waiting = self.books.lock().waiting.clone();
        for (id, agent) in waiting {
            // The transfer of what it starts from, with the lock let go.
            let Ok(lease) = self.pool.allocate(1, LayerId(0), agent) else {
                continue;
            };
            let blocks = lease.persist();
            let mut books = self.books.lock();
            // Here it is that a request which was cancelled meanwhile is not there any more.
            if books.waiting.remove(&id).is_some() {
                drop(books);
                let adopted = self.pool.adopt(agent, blocks).ok();
                let lease = adopted.and_then(|lease| lease.into_shared(&self.pool).ok());
                books = self.books.lock();
                books.running.extend(lease.map(|lease| (id, (lease, 2))));
            }
        }
        let mut books = self.books.lock();
        for (_, left) in books.running.values_mut() {
            *left -= 1;
        }
        let over: Vec<RequestId> = (books.running.iter())
            .filter(|(_, (_, left))| *left == 0)
            .map(|(&id, _)| id)
            .collect();
        let ended: Vec<_> = over
            .iter()
            .filter_map(|id| books.running.remove(id))
            .collect();
        drop(books);
        drop(ended);
    }

    fn finish(&self, _: &BTreeMap<RequestId, bool>) {
        self.turn();
        self.turn();
        check_all_back(&self.pool, "block-leaked");
    }
}
