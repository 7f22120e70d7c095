//! vllm #23697: a client's request ids were the engine's. A client cancelled its request and sent
//! it again under the same id. New requests and cancellations came to the engine by two queues,
//! and it took what was new before what was cancelled: the cancellation, meant for the first,
//! ended the second.
//!
//! One thread submits, cancels and submits again; another makes turns. The second request must
//! end complete.
//!
//! What ships gives each request an id of its own and never uses one again, so a late
//! cancellation names nobody; and while the first still gives up what it held, the second is
//! refused with its id, to be sent again.

use std::collections::BTreeMap;
use std::mem;

use selvedge_core::RequestId;
use selvedge_core::engine::{
    CancelError, CancelReason, End, EngineConfig, Event, NewRequest, SubmitError,
};
use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_core::time::Instant;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::{Bed, Script, in_rounds};
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "request-id-reuse",
    ticket: "vllm#23697",
    summary: "a cancellation on its way ends the next request of the same id",
    source: concat!(
        include_str!("request_id_reuse.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(sent_again, IdsOfTheClient),
    shipped: bodies!(sent_again, Shipped),
    signature: "new-request-cancelled",
    must_reach: &["sent-again-at-once", "refused-while-it-ends", "completed"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// What was told of the client's requests, by the number of the attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Completed(u32),
    Cancelled(u32),
}

trait Server: Send + Sync + 'static {
    fn new() -> Self;
    /// Whether it was accepted; else it is to be sent again later.
    fn submit(&self, attempt: u32) -> bool;
    fn cancel(&self, attempt: u32);
    fn turn(&self) -> Vec<Told>;
    fn close(&self);
}

fn sent_again<P: Platform, T: Server>(cx: &Cx) -> Observation {
    in_rounds(cx, one_client::<P, T>)
}

fn one_client<P: Platform, T: Server>() -> String {
    let server = P::Arc::new(T::new());
    server.submit(1);
    let client = server.clone();
    let client = P::spawn(move || {
        client.cancel(1);
        client.submit(2)
    });
    let mut told = server.turn();
    let at_once = client.join();
    if at_once {
        reach("sent-again-at-once");
    } else {
        reach("refused-while-it-ends");
        told.extend(server.turn());
        if !server.submit(2) {
            violation!(
                "agent-stuck",
                "the first request is over, the agent still busy"
            );
        }
    }
    for _ in 0..4 {
        told.extend(server.turn());
    }
    if told.contains(&Told::Cancelled(2)) {
        violation!("new-request-cancelled", "only the first was to be");
    }
    if !told.contains(&Told::Completed(2)) {
        violation!("not-told", "the second has no end");
    }
    reach("completed");
    server.close();
    format!(
        "at once: {at_once}, first completed: {}",
        told.contains(&Told::Completed(1))
    )
}

/// The code that ships.
struct Shipped<P: Platform> {
    bed: Bed<P>,
    /// By attempt.
    ids: P::Mutex<BTreeMap<u32, RequestId>>,
}

impl<P: Platform> Server for Shipped<P> {
    fn new() -> Self {
        Shipped {
            bed: Bed::new(1, 1, EngineConfig::default(), Script::default()),
            ids: P::Mutex::new(BTreeMap::new()),
        }
    }

    fn submit(&self, attempt: u32) -> bool {
        let mut request = NewRequest::new(self.bed.alice, vec![1], 1);
        request.keep_cache = false;
        match self.bed.engine.submit(request, Instant::ZERO) {
            Ok(id) => {
                self.ids.lock().insert(attempt, id);
                true
            }
            Err(SubmitError::AgentBusy { .. }) => false,
            Err(other) => violation!("submit-refused", "{other}"),
        }
    }

    fn cancel(&self, attempt: u32) {
        let id = self.ids.lock().get(&attempt).copied();
        if let Some(id) = id {
            let cancelled = (self.bed.engine).cancel(id, CancelReason::Requested, Instant::ZERO);
            // That it may have ended before is no error of the client's.
            if let Err(other @ CancelError::Unknown { .. }) = cancelled {
                violation!("wrong-error", "{other}");
            }
        }
    }

    fn turn(&self) -> Vec<Told> {
        let events = self.bed.step();
        let ids = self.ids.lock().clone();
        let attempt = |id| ids.iter().find(|of| *of.1 == id).map(|of| *of.0);
        let told = |event: &Event| match event {
            Event::Ended(ended) => {
                // One that ended before its id was noted down is the one that is awaited.
                let attempt = attempt(ended.request).unwrap_or(2);
                Some(match ended.end {
                    End::Completed(_) => Told::Completed(attempt),
                    _ => Told::Cancelled(attempt),
                })
            }
            _ => None,
        };
        events.iter().filter_map(told).collect()
    }

    fn close(&self) {
        self.bed.check_all_back("block-leaked");
    }
}

/// As reported: the client's id is the engine's, and both attempts have the same.
struct IdsOfTheClient<P: Platform> {
    new: P::Mutex<Vec<u32>>,
    cancelled: P::Mutex<bool>,
    running: P::Mutex<Option<u32>>,
}

impl<P: Platform> Server for IdsOfTheClient<P> {
    fn new() -> Self {
        IdsOfTheClient {
            new: P::Mutex::new(Vec::new()),
            cancelled: P::Mutex::new(false),
            running: P::Mutex::new(None),
        }
    }

    fn submit(&self, attempt: u32) -> bool {
        self.new.lock().push(attempt);
        true
    }

    fn cancel(&self, _: u32) {
        *self.cancelled.lock() = true;
    }

    fn turn(&self) -> Vec<Told> {
        let mut told = Vec::new();
        let mut running = self.running.lock();
        told.extend(running.take().map(Told::Completed));
        // The newest of an id replaces what was there.
        *running = mem::take(&mut *self.new.lock()).pop();
        if mem::take(&mut *self.cancelled.lock()) {
            told.extend(running.take().map(Told::Cancelled));
        }
        told
    }

    fn close(&self) {}
}
