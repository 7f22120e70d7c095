//! [`World`]: runs [`Operation`]s on an engine and tells the [`Oracle`] what was done and what
//! came of it; after each, the books of engine, pool and backend must agree.
#![allow(
    clippy::disallowed_types,
    reason = "callbacks run inside the backend, on the shipped platform"
)]

use std::collections::BTreeSet;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use selvedge_core::engine::{CancelReason, NewRequest, ReconfigureError, StepError, Wake};
use selvedge_core::time::Instant;
use selvedge_core::{AgentBlocks, AgentId, BlockLease, LayerId, RequestId};

use super::backend::Payload;
use super::bench::Bench;
use super::operation::{Ask, Inner, Operation, Prompt, Sequence, spec_of};
use super::oracle::{Oracle, class};

pub(crate) struct World {
    bench: Bench,
    oracle: Oracle,
    agents: Vec<AgentId>,
    others: Vec<BlockLease<'static>>,
    taken: Vec<AgentBlocks<'static, Payload>>,
    did: Did,
    ids: Vec<RequestId>,
}

/// What callbacks did.
type Did = Arc<Mutex<Vec<Done>>>;

enum Done {
    Cancelled(RequestId),
    Submitted(RequestId, AgentId, Ask, Vec<u32>, Option<Instant>),
    Drained(Instant),
    ShutDown,
}

impl World {
    /// Runs a whole sequence, then lets everything end, and returns what was reached.
    ///
    /// # Errors
    /// The first thing that is wrong, and after which operation.
    pub(crate) fn run(sequence: &Sequence) -> Result<BTreeSet<String>, String> {
        let mut world = World::new(sequence);
        for (operation, number) in sequence.operations.iter().zip(1..) {
            (world.apply(operation).and_then(|()| world.compare()))
                .map_err(|what| format!("operation {number}, {operation:?}: {what}"))?;
        }
        world.end().map_err(|what| format!("in the end: {what}"))?;
        Ok(mem::take(&mut world.oracle.reached))
    }

    fn new(sequence: &Sequence) -> Self {
        let shape = &sequence.shape;
        let bench = Bench::new(shape.spec(), shape.blocks, shape.config());
        let agents = ["a", "b", "c", "d"].map(|name| bench.agent(name)).to_vec();
        let (waiting, overtakes) = (shape.max_waiting, shape.max_overtakes);
        World {
            oracle: Oracle::new(shape.spec(), shape.blocks, waiting, overtakes),
            bench,
            agents,
            others: Vec::new(),
            taken: Vec::new(),
            did: Did::default(),
            ids: Vec::new(),
        }
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), String> {
        let now = self.bench.now;
        match *operation {
            Operation::Submit(ask) => self.submit(ask),
            Operation::Cancel(k) => self.cancel(self.id(k)),
            Operation::Steps(n) => (0..n).try_for_each(|_| self.step()),
            Operation::Pass(millis) => {
                self.bench.pass(millis);
                Ok(())
            }
            Operation::Drain(millis) => {
                let deadline = now + Duration::from_millis(millis);
                let wanted = self.oracle.drain(deadline, now);
                self.same("drain", self.bench.engine.drain(deadline, now), wanted)
            }
            Operation::Resume => {
                let wanted = self.oracle.resume(now);
                let real = self.bench.engine.resume();
                // Why it is closed is the error's only kind of detail.
                self.same("resume", real.map_err(|_| "Closed"), wanted)
            }
            Operation::Shutdown => {
                self.oracle.shut_down();
                let told = self.bench.engine.shutdown(now);
                self.told(&told)
            }
            Operation::Reconfigure { layers, blocks } => self.reconfigure(layers, blocks),
            Operation::TakeCache(k) => {
                let agent = self.agents[k];
                match self.bench.engine.take_cache(agent) {
                    Some(cache) => {
                        self.oracle.cache_taken(agent, cache.tokens())?;
                        self.oracle.reached.insert("cache taken".to_owned());
                        self.taken.push(cache);
                    }
                    None => {
                        self.oracle.reached.insert("no cache to take".to_owned());
                    }
                }
                Ok(())
            }
            Operation::PutCache => {
                let Some(cache) = self.taken.pop() else {
                    return Ok(());
                };
                let (agent, tokens) = (cache.agent(), cache.tokens().to_vec());
                match self.bench.engine.put_cache(cache) {
                    Ok(()) => {
                        self.oracle.cache_put(agent, &tokens);
                        self.oracle.reached.insert("cache put".to_owned());
                    }
                    Err((error, _)) => {
                        self.oracle
                            .reached
                            .insert(format!("put: {}", class(&error)));
                    }
                }
                Ok(())
            }
            Operation::OthersTake(n) => {
                let other = self.bench.agent("other");
                let lease = self.bench.pool.allocate(n, LayerId(0), other).ok();
                let lease = lease.and_then(|lease| lease.into_shared(&self.bench.pool).ok());
                self.others.extend(lease);
                Ok(())
            }
            Operation::OthersGive => {
                if !self.others.is_empty() {
                    drop(self.others.remove(0));
                }
                Ok(())
            }
            Operation::Wrong(wrong) => {
                self.bench.backend.do_wrong(wrong);
                Ok(())
            }
            Operation::During(call, inner) => {
                let callback = self.callback(inner);
                self.bench.backend.during(call, callback);
                Ok(())
            }
        }
    }

    fn id(&self, k: usize) -> RequestId {
        let never_was = RequestId(1 << 30);
        let known = self.ids.get(k % (self.ids.len() + 1));
        known.copied().unwrap_or(never_was)
    }

    fn prompt(&self, ask: Ask) -> Vec<u32> {
        let history = self.oracle.history.get(&self.agents[ask.agent]);
        let history = history.map_or(&[][..], Vec::as_slice);
        let (kept, new) = match ask.prompt {
            Prompt::New(n, salt) => return (0..n).map(|i| i * 3 + salt).collect(),
            Prompt::GoesOn(n) => (history, n),
            Prompt::Parts(n) => (&history[..history.len() / 2], n),
        };
        kept.iter()
            .copied()
            .chain((0..new).map(|i| 60 + i))
            .collect()
    }

    fn submit(&mut self, ask: Ask) -> Result<(), String> {
        let (now, agent, prompt) = (self.bench.now, self.agents[ask.agent], self.prompt(ask));
        let deadline = ask
            .deadline
            .map(|millis| now + Duration::from_millis(millis));
        let waiting = self.bench.engine.snapshot().requests.waiting;
        let asked = (prompt.as_slice(), ask.max_tokens);
        let wanted = self
            .oracle
            .may_submit(agent, asked, deadline, (now, waiting));
        let before = self.bench.engine.state();
        let real = self
            .bench
            .engine
            .submit(request(agent, &prompt, ask, deadline), now);
        match &real {
            Ok(id) => {
                self.ids.push(*id);
                self.oracle
                    .submitted(*id, agent, asked, (ask.keep, deadline))?;
            }
            // A drain may have run out by then.
            Err(_) if before.closed() == self.bench.engine.closed() => {
                if before != self.bench.engine.state() {
                    return Err("a refused request has changed the engine".to_owned());
                }
            }
            Err(_) => {}
        }
        self.same("submit", real, wanted)
    }

    fn cancel(&mut self, id: RequestId) -> Result<(), String> {
        let result = (self.bench.engine).cancel(id, CancelReason::Requested, self.bench.now);
        let outcome = result.as_ref().map_or_else(class, |()| "Ok".to_owned());
        self.oracle.reached.insert(format!("cancel: {outcome}"));
        if result.is_ok() {
            self.oracle.cancelled(id);
        }
        Ok(())
    }

    fn reconfigure(&mut self, layers: u32, blocks: u32) -> Result<(), String> {
        let wanted = self.oracle.reconfigure();
        let spec = spec_of(layers, None);
        let new = spec.clone();
        let real = (self.bench.engine).reconfigure(spec.clone(), blocks, |model| model.swap(new));
        self.note_wrongs();
        if real.is_ok() {
            self.oracle.reconfigured(spec, blocks);
        }
        let fails = !self.others.is_empty() || !self.taken.is_empty();
        match real {
            Err(ReconfigureError::Pool(_)) if wanted.is_ok() && fails => {
                self.oracle.reached.insert("reconfigure: Pool".to_owned());
                Ok(())
            }
            Err(ReconfigureError::Backend { .. }) if wanted.is_ok() && !fails => {
                self.oracle
                    .reached
                    .insert("reconfigure: Backend".to_owned());
                Ok(())
            }
            real => self.same("reconfigure", real, wanted),
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.oracle.settle(self.bench.now);
        match self.bench.engine.step(self.bench.now) {
            Ok(told) => self.told(&told),
            Err(StepError::EngineDead(_)) if self.oracle.dead => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn told(&mut self, told: &[selvedge_core::engine::Event]) -> Result<(), String> {
        let now = self.bench.now;
        let did = mem::take(&mut *self.did.lock().unwrap_or_else(PoisonError::into_inner));
        for done in did {
            match done {
                Done::Cancelled(id) => self.oracle.cancelled(id),
                Done::Submitted(id, agent, ask, prompt, deadline) => {
                    self.ids.push(id);
                    let asked = (prompt.as_slice(), ask.max_tokens);
                    self.oracle
                        .submitted(id, agent, asked, (ask.keep, deadline))?;
                }
                Done::Drained(deadline) => {
                    let accepted = self.oracle.drain(deadline, now);
                    accepted.map_err(|wanted| format!("drained, and should be {wanted}"))?;
                }
                Done::ShutDown => self.oracle.shut_down(),
            }
        }
        if self.oracle.spec.sliding_window_tokens().is_some() {
            for cache in &self.taken {
                self.oracle.window_is_used(cache.agent());
            }
        }
        self.note_wrongs();
        told.iter()
            .try_for_each(|event| self.oracle.told(event, now))?;
        self.oracle.settle(now);
        Ok(())
    }

    fn note_wrongs(&mut self) {
        let wrongs = self
            .bench
            .backend
            .with(|inside| mem::take(&mut inside.done));
        for (wrong, whom) in wrongs {
            self.oracle.wronged(wrong, whom);
        }
    }

    fn callback(&self, inner: Inner) -> impl FnOnce() + Send + 'static {
        let (engine, now, did) = (self.bench.engine.clone(), self.bench.now, self.did.clone());
        let id = match inner {
            Inner::Cancel(k) => self.id(k),
            _ => RequestId(0),
        };
        let asked = match inner {
            Inner::Submit(ask) => Some((self.agents[ask.agent], self.prompt(ask))),
            _ => None,
        };
        move || {
            let done = match inner {
                Inner::Cancel(_) => (engine.cancel(id, CancelReason::Requested, now))
                    .map(|()| Done::Cancelled(id))
                    .ok(),
                Inner::Submit(ask) => asked.and_then(|(agent, prompt)| {
                    let deadline = ask
                        .deadline
                        .map(|millis| now + Duration::from_millis(millis));
                    let id = engine
                        .submit(request(agent, &prompt, ask, deadline), now)
                        .ok()?;
                    Some(Done::Submitted(id, agent, ask, prompt, deadline))
                }),
                Inner::Drain(millis) => {
                    let deadline = now + Duration::from_millis(millis);
                    engine
                        .drain(deadline, now)
                        .map(|()| Done::Drained(deadline))
                        .ok()
                }
                Inner::Shutdown => {
                    assert!(
                        engine.shutdown(now).is_empty(),
                        "the one in the step does it"
                    );
                    Some(Done::ShutDown)
                }
            };
            (did.lock().unwrap_or_else(PoisonError::into_inner)).extend(done);
        }
    }

    fn same<T, E: std::fmt::Debug>(
        &mut self,
        call: &str,
        real: Result<T, E>,
        wanted: Result<(), &'static str>,
    ) -> Result<(), String> {
        let outcome = real.as_ref().map_or_else(class, |_| "Ok".to_owned());
        let outcome = outcome.trim_matches('"').to_owned();
        let wanted = wanted.err().unwrap_or("Ok");
        self.oracle.reached.insert(format!("{call}: {outcome}"));
        if outcome == wanted {
            return Ok(());
        }
        Err(format!("{call} came to {outcome}, should be {wanted}"))
    }

    /// The books agree: no block is unaccounted, and the backend has whom the engine thinks.
    fn compare(&self) -> Result<(), String> {
        let pool = self.bench.pool.audit().map_err(|e| e.to_string())?;
        let engine = self.bench.engine.audit().map_err(|e| e.to_string())?;
        let others: usize = self.others.iter().map(BlockLease::len).sum();
        let taken: usize = self.taken.iter().map(AgentBlocks::num_blocks).sum();
        let engines = engine.blocks_held + engine.blocks_cached;
        if u64::from(pool.used) != engines + (others + taken) as u64 || pool.reserved != 0 {
            return Err(format!(
                "{others} others', {taken} taken, {engine:?}, {pool:?}"
            ));
        }
        let unended = self.oracle.live();
        if engine.requests.total() as usize != unended {
            return Err(format!("{unended} have not ended, but {engine:?}"));
        }
        let inside = self.bench.backend.with(|inside| inside.computed.len());
        let running = (engine.requests.running + engine.requests.ending) as usize;
        if !self.oracle.dead && inside > running {
            return Err(format!("the backend has {inside} sequences, {engine:?}"));
        }
        Ok(())
    }

    /// Nothing goes wrong any more and nobody else uses the pool: all must end by itself.
    fn end(&mut self) -> Result<(), String> {
        self.others.clear();
        self.taken.clear();
        self.bench.backend.with(|inside| {
            inside.wrongs.clear();
            inside.callbacks.clear();
        });
        if self.bench.engine.snapshot().counters.evictions > 0 {
            self.oracle.reached.insert("evicted".to_owned());
        }
        for _ in 0..3_000 {
            match self.bench.engine.wake() {
                Wake::Now => {}
                Wake::At(at) => self.bench.now = self.bench.now.max(at),
                Wake::OnCall => break,
            }
            self.step()?;
            self.compare()?;
        }
        self.oracle.all_told()?;
        let left = self.bench.backend.with(|inside| inside.computed.len());
        if left > 0 && !self.oracle.dead {
            return Err(format!("the backend still has {left} sequences"));
        }
        let (inserted, mut removed) = self
            .bench
            .backend
            .with(|inside| (inside.inserted.clone(), inside.removed.clone()));
        removed.retain(|id| inserted.contains(id));
        if removed.len() != inserted.len() && !self.oracle.dead {
            let (mut once, mut twice) = (inserted, removed);
            once.sort();
            twice.sort();
            return Err(format!("inserted {once:?}, removed {twice:?}"));
        }
        self.oracle.shut_down();
        let told = self.bench.engine.shutdown(self.bench.now);
        self.told(&told)?;
        let pool = self.bench.pool.audit().map_err(|e| e.to_string())?;
        match pool.available == pool.total {
            true => Ok(()),
            false => Err(format!("not all came back: {pool:?}")),
        }
    }
}

fn request(agent: AgentId, prompt: &[u32], ask: Ask, deadline: Option<Instant>) -> NewRequest {
    NewRequest {
        agent,
        prompt: prompt.to_vec(),
        max_tokens: ask.max_tokens,
        keep_cache: ask.keep,
        deadline,
    }
}
