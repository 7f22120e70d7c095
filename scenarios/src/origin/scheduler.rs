//! The origin's `ConcurrentScheduler`, resurrected: one worker that takes requests from a queue
//! and drives the [engine](super::engine) for many clients. Beside it what takes its place here:
//! the loop that [`BatchEngine`](selvedge_core::engine::BatchEngine) documents, which hands each
//! end to its client.
//!
//! The worker's loop is called turn by turn, so that a body ends even where a worker never would.

use std::collections::{BTreeMap, VecDeque};

use selvedge_core::RequestId;
use selvedge_core::engine::{CancelReason, StepError};
use selvedge_core::platform::{Mutex, Platform};
use selvedge_core::time::Instant;
use selvedge_sim::{note, violation};

use super::engine::{Failed, OriginEngine};
use super::subject::{Engine, Fate, Id, Refused, Setup, Shipped, fates_of};

/// What a client waits with.
pub(crate) type Ticket = u64;

/// A server as far as the bodies need one.
pub(crate) trait Server: Send + Sync + 'static {
    fn new(setup: Setup) -> Self;
    fn submit(&self, who: usize, prompt: &[u32], max_tokens: u32) -> Result<Ticket, Refused>;
    /// The client has gone.
    fn cancel(&self, ticket: Ticket);
    /// The worker's loop, so many times.
    fn work(&self, turns: u32);
    fn stop(&self);
    /// What clients were told, in this order.
    fn told(&self) -> Vec<(Ticket, Fate)>;
}

/// What this client was told: ends the scenario by `signature` if it was told nothing.
pub(crate) fn told_to<S: Server>(server: &S, ticket: Ticket, signature: &str) -> Fate {
    let told = server.told();
    let mut fates = told.iter().filter(|one| one.0 == ticket);
    match (fates.next(), fates.next()) {
        (Some(&(_, fate)), None) => fate,
        (None, _) => violation!(signature, "client {ticket} waits for ever; told: {told:?}"),
        (Some(_), Some(_)) => violation!("told-twice", "client {ticket}: {told:?}"),
    }
}

/// As reported.
pub(crate) struct Scheduler<P: Platform> {
    engine: OriginEngine<P>,
    queue: P::Mutex<VecDeque<Job>>,
    /// The worker's own: nobody else ever looks.
    worker: P::Mutex<Worker>,
    running: P::Mutex<bool>,
    replies: P::Mutex<Replies>,
    batch: usize,
    swallows_decode_errors: bool,
}

struct Job {
    ticket: Ticket,
    who: usize,
    prompt: Vec<u32>,
    max_tokens: u32,
}

#[derive(Default)]
struct Worker {
    waiting: VecDeque<Job>,
    decoding: BTreeMap<Id, Ticket>,
    /// An error that nobody catches has ended the thread.
    dead: bool,
}

#[derive(Default)]
struct Replies {
    tickets: Ticket,
    told: Vec<(Ticket, Fate)>,
}

impl<P: Platform> Scheduler<P> {
    /// Whether there is a worker afterwards.
    fn turn(&self) -> bool {
        let mut worker = self.worker.lock();
        if worker.dead || !*self.running.lock() {
            return false;
        }
        let arrived: Vec<Job> = self.queue.lock().drain(..).collect();
        worker.waiting.extend(arrived);
        // Nobody is let in while anybody decodes.
        if worker.decoding.is_empty() && !self.promote(&mut worker) {
            worker.dead = true;
            return false;
        }
        if worker.decoding.is_empty() {
            self.wait_for_request();
        } else {
            self.decode(&mut worker);
        }
        true
    }

    fn promote(&self, worker: &mut Worker) -> bool {
        while worker.decoding.len() < self.batch
            && let Some(job) = worker.waiting.pop_front()
        {
            match (self.engine).submit(job.who, &job.prompt, job.max_tokens) {
                Ok(id) => {
                    worker.decoding.insert(id, job.ticket);
                }
                Err(Refused::Exhausted | Refused::InsertFailed) => {
                    self.tell(job.ticket, Fate::Failed);
                }
                // Of no kind that is caught here.
                Err(_) => return false,
            }
        }
        true
    }

    fn decode(&self, worker: &mut Worker) {
        match self.engine.step_once() {
            Ok(ended) => {
                for (id, fate) in ended {
                    if let Some(ticket) = worker.decoding.remove(&id) {
                        self.tell(ticket, fate);
                    }
                }
            }
            Err(Failed(what)) => {
                note(&what);
                if !self.swallows_decode_errors {
                    for ticket in std::mem::take(&mut worker.decoding).into_values() {
                        self.tell(ticket, Fate::Failed);
                    }
                }
            }
        }
    }

    /// The queue cannot be waited for without taking from it: what was taken is put back.
    fn wait_for_request(&self) {
        let first = self.queue.lock().pop_front();
        self.queue.lock().extend(first);
    }

    fn tell(&self, ticket: Ticket, fate: Fate) {
        let mut replies = self.replies.lock();
        // A client that has gone hears nothing more.
        if !replies.told.iter().any(|told| told.0 == ticket) {
            replies.told.push((ticket, fate));
        }
    }
}

impl<P: Platform> Server for Scheduler<P> {
    fn new(setup: Setup) -> Self {
        Scheduler {
            batch: if setup.one_at_a_time { 1 } else { 2 },
            swallows_decode_errors: setup.origin.swallows_decode_errors,
            engine: OriginEngine::new(setup),
            queue: P::Mutex::new(VecDeque::new()),
            worker: P::Mutex::new(Worker::default()),
            running: P::Mutex::new(true),
            replies: P::Mutex::new(Replies::default()),
        }
    }

    fn submit(&self, who: usize, prompt: &[u32], max_tokens: u32) -> Result<Ticket, Refused> {
        if !*self.running.lock() {
            return Err(Refused::Closed);
        }
        let ticket = {
            let mut replies = self.replies.lock();
            replies.tickets += 1;
            replies.tickets
        };
        self.queue.lock().push_back(Job {
            ticket,
            who,
            prompt: prompt.to_vec(),
            max_tokens,
        });
        Ok(ticket)
    }

    fn cancel(&self, ticket: Ticket) {
        // The worker is not told.
        self.tell(ticket, Fate::Cancelled);
    }

    fn work(&self, turns: u32) {
        for _ in 0..turns {
            if !self.turn() {
                return;
            }
        }
    }

    fn stop(&self) {
        *self.running.lock() = false;
    }

    fn told(&self) -> Vec<(Ticket, Fate)> {
        self.replies.lock().told.clone()
    }
}

/// The code that ships, in the loop it documents.
pub(crate) struct Loop<P: Platform> {
    engine: Shipped<P>,
    told: P::Mutex<Vec<(Ticket, Fate)>>,
}

impl<P: Platform> Loop<P> {
    fn tell(&self, fates: Vec<(Id, Fate)>) {
        if !fates.is_empty() {
            self.told.lock().extend(fates);
        }
    }
}

impl<P: Platform> Server for Loop<P> {
    fn new(setup: Setup) -> Self {
        Loop {
            engine: Shipped::new(setup),
            told: P::Mutex::new(Vec::new()),
        }
    }

    fn submit(&self, who: usize, prompt: &[u32], max_tokens: u32) -> Result<Ticket, Refused> {
        self.engine.submit(who, prompt, max_tokens)
    }

    fn cancel(&self, ticket: Ticket) {
        let (id, gone) = (RequestId(ticket), CancelReason::ClientGone);
        // Its end may be decided already.
        let _ = self.engine.bed.engine.cancel(id, gone, Instant::ZERO);
    }

    fn work(&self, turns: u32) {
        for _ in 0..turns {
            match self.engine.bed.engine.step(Instant::ZERO) {
                Ok(events) => self.tell(fates_of(&events)),
                // Whoever stops the server is in it, and tells.
                Err(StepError::Busy) => P::yield_now(),
                Err(StepError::EngineDead(_)) => return,
            }
        }
    }

    fn stop(&self) {
        self.tell(fates_of(&self.engine.bed.engine.shutdown(Instant::ZERO)));
    }

    fn told(&self) -> Vec<(Ticket, Fate)> {
        self.told.lock().clone()
    }
}
