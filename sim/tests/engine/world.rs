//! [`World`]: runs [`Operation`]s on an engine and tells the [`Oracle`] what was done and what
//! came of it; after each, the books of engine, pool and backend must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use selvedge_core::engine::{
    BatchEngine, CancelReason, Event, NewRequest, ReconfigureError, StepError, Wake,
};
use selvedge_core::time::Instant;
use selvedge_core::{
    AgentBlocks, AgentId, BlockLease, BlockPool, BlockRef, LayerId, ModelCacheSpec, RequestId,
};
use selvedge_sim::content::{Attention, ContentBlock, ContentCounts, ContentModel, Weights};
use selvedge_sim::faulty::{Call, Faulty, Hit, Moment, Stage};

use super::operation::{Ask, Inner, Operation, Prompt, Sequence, spec_of};
use super::oracle::{Oracle, class};

type Engine = BatchEngine<Faulty<ContentModel>>;

pub(crate) struct World {
    engine: Arc<Engine>,
    pool: Arc<BlockPool>,
    now: Instant,
    inside: Inside,
    oracle: Oracle,
    agents: Vec<AgentId>,
    others: Vec<BlockLease<'static>>,
    taken: Vec<AgentBlocks<'static, ContentBlock>>,
    did: Did,
    ids: Vec<RequestId>,
}

/// Small enough a vocabulary that prompts meet what was generated, and stops often.
pub(crate) fn weights(seed: u64) -> Weights {
    Weights {
        seed,
        vocabulary: 50,
        stop_every: 11,
        attention: Attention::Blocks,
    }
}

type Callback = Box<dyn FnOnce() + Send>;

/// What is seen from inside the backend's calls.
#[derive(Clone, Default)]
struct Inside(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    callbacks: Vec<(Call, Callback)>,
    /// Not yet told to the oracle.
    hits: Vec<Hit>,
    took: Duration,
    /// The first thing wrong.
    wrong: Option<String>,
    /// Sequences in the model.
    sequences: usize,
    inserted: Vec<RequestId>,
    removed: Vec<RequestId>,
    counts: ContentCounts,
}

impl Inside {
    /// Not to be kept across a call of the engine.
    fn with<T>(&self, f: impl FnOnce(&mut Seen) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn watch(&self, pool: &BlockPool, moment: &Moment<'_, ContentModel>) {
        let model = moment.inner;
        let lost = not_leased(pool, model);
        self.with(|seen| {
            let finding = model.findings().first().map(ToString::to_string);
            let lost = lost.map(|block| {
                let (call, stage) = (moment.call, moment.stage);
                format!("{stage:?} {call}, the backend uses {block}, which is free for others")
            });
            seen.wrong = seen.wrong.take().or(finding).or(lost);
        });
        match moment.stage {
            Stage::Before => self.call_back(moment.call),
            Stage::After => self.with(|seen| seen.note(moment)),
        }
    }

    fn call_back(&self, call: Call) {
        let due = self.with(|seen| {
            let place = seen.callbacks.iter().position(|of| of.0 == call)?;
            Some(seen.callbacks.remove(place).1)
        });
        if let Some(callback) = due {
            callback();
        }
    }
}

impl Seen {
    fn note(&mut self, moment: &Moment<'_, ContentModel>) {
        let Moment {
            call,
            number,
            request,
            fault,
            inner,
            ..
        } = *moment;
        self.took += moment.took;
        self.hits.extend(fault.map(|fault| Hit {
            call,
            number,
            request,
            fault,
        }));
        self.sequences = inner.sequences().count();
        self.counts = inner.counts();
        let known = |id| inner.sequences().any(|of| Some(of.0) == id);
        match (call, request) {
            (Call::Insert, Some(id)) if known(request) => self.inserted.push(id),
            (Call::Remove, Some(id)) if !known(request) => self.removed.push(id),
            _ => {}
        }
    }
}

/// A block that the model works in and that is not its agent's any more.
fn not_leased(pool: &BlockPool, model: &ContentModel) -> Option<BlockRef> {
    let mut by_agent: BTreeMap<AgentId, Vec<BlockRef>> = BTreeMap::new();
    for (agent, block) in model.blocks() {
        by_agent.entry(agent).or_default().push(block);
    }
    if by_agent.is_empty() {
        return None;
    }
    let state = pool.state();
    by_agent.into_iter().find_map(|(agent, blocks)| {
        let lost = |block: &&BlockRef| state.check_batch(agent, &[**block]).is_err();
        let all = state.check_batch(agent, &blocks);
        all.err().and_then(|_| blocks.iter().find(lost).copied())
    })
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
        let (spec, weights, inside) = (shape.spec(), weights(1), Inside::default());
        let pool: Arc<BlockPool> =
            Arc::new(BlockPool::new(spec.clone(), shape.blocks).expect("a shape has blocks"));
        let model = ContentModel::new(spec.clone(), shape.blocks, weights);
        let backend = Faulty::new(model, sequence.plan()).watched({
            let (inside, pool) = (inside.clone(), pool.clone());
            move |moment| inside.watch(&pool, moment)
        });
        let engine = BatchEngine::new(pool.clone(), backend, shape.config());
        let agents = ["a", "b", "c", "d"].map(|name| pool.agent(name).expect("it has a name"));
        let (waiting, overtakes) = (shape.max_waiting, shape.max_overtakes);
        World {
            oracle: Oracle::new((spec, weights), shape.blocks, waiting, overtakes),
            engine: Arc::new(engine.expect("a shape is a valid config")),
            pool,
            now: Instant::ZERO,
            inside,
            agents: agents.to_vec(),
            others: Vec::new(),
            taken: Vec::new(),
            did: Did::default(),
            ids: Vec::new(),
        }
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), String> {
        let now = self.now;
        match *operation {
            Operation::Submit(ask) => self.submit(ask),
            Operation::Cancel(k) => self.cancel(self.id(k)),
            Operation::Steps(n) => (0..n).try_for_each(|_| self.step()),
            Operation::Pass(millis) => {
                self.now = self.now + Duration::from_millis(millis);
                Ok(())
            }
            Operation::Drain(millis) => {
                let deadline = now + Duration::from_millis(millis);
                let wanted = self.oracle.drain(deadline, now);
                self.same("drain", self.engine.drain(deadline, now), wanted)
            }
            Operation::Resume => {
                let wanted = self.oracle.resume(now);
                let real = self.engine.resume();
                // Why it is closed is the error's only kind of detail.
                self.same("resume", real.map_err(|_| "Closed"), wanted)
            }
            Operation::Shutdown => {
                self.oracle.shut_down();
                let told = self.engine.shutdown(now);
                self.told(&told)
            }
            Operation::Reconfigure {
                layers,
                window,
                blocks,
                seed,
            } => self.reconfigure(spec_of(layers, window), blocks, weights(seed)),
            Operation::TakeCache(k) => {
                let agent = self.agents[k];
                match self.engine.take_cache(agent) {
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
                match self.engine.put_cache(cache) {
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
                let other = self.pool.agent("other").expect("it has a name");
                let lease = self.pool.allocate(n, LayerId(0), other).ok();
                let lease = lease.and_then(|lease| lease.into_shared(&self.pool).ok());
                self.others.extend(lease);
                Ok(())
            }
            Operation::OthersGive => {
                if !self.others.is_empty() {
                    drop(self.others.remove(0));
                }
                Ok(())
            }
            Operation::During(call, inner) => {
                let callback = self.callback(inner);
                self.inside
                    .with(|seen| seen.callbacks.push((call, Box::new(callback))));
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
        let (now, agent, prompt) = (self.now, self.agents[ask.agent], self.prompt(ask));
        let deadline = ask
            .deadline
            .map(|millis| now + Duration::from_millis(millis));
        let waiting = self.engine.snapshot().requests.waiting;
        let asked = (prompt.as_slice(), ask.max_tokens);
        let wanted = self
            .oracle
            .may_submit(agent, asked, deadline, (now, waiting));
        let before = self.engine.state();
        let real = self
            .engine
            .submit(request(agent, &prompt, ask, deadline), now);
        match &real {
            Ok(id) => {
                self.ids.push(*id);
                self.oracle
                    .submitted(*id, agent, asked, (ask.keep, deadline))?;
            }
            // A drain may have run out by then.
            Err(_) if before.closed() == self.engine.closed() => {
                if before != self.engine.state() {
                    return Err("a refused request has changed the engine".to_owned());
                }
            }
            Err(_) => {}
        }
        self.same("submit", real, wanted)
    }

    fn cancel(&mut self, id: RequestId) -> Result<(), String> {
        let result = (self.engine).cancel(id, CancelReason::Requested, self.now);
        let outcome = result.as_ref().map_or_else(class, |()| "Ok".to_owned());
        self.oracle.reached.insert(format!("cancel: {outcome}"));
        if result.is_ok() {
            self.oracle.cancelled(id);
        }
        Ok(())
    }

    fn reconfigure(
        &mut self,
        spec: ModelCacheSpec,
        blocks: u32,
        weights: Weights,
    ) -> Result<(), String> {
        let wanted = self.oracle.reconfigure();
        let new = spec.clone();
        let swap = |backend: &mut Faulty<ContentModel>| {
            backend.swap(|model| model.swap(new, blocks, weights))
        };
        let call = || self.engine.reconfigure(spec.clone(), blocks, swap);
        let real = catch_unwind(AssertUnwindSafe(call));
        let failed = self.note_hits(Call::Swap);
        let Ok(real) = real else {
            return match self.oracle.dead && wanted.is_ok() {
                true => Ok(()),
                false => Err("reconfigure panicked, and should not".to_owned()),
            };
        };
        if real.is_ok() {
            self.oracle.reconfigured((spec, weights), blocks);
        }
        let in_use = !self.others.is_empty() || !self.taken.is_empty();
        let wanted = match wanted {
            Ok(()) if in_use => Err("Pool"),
            Ok(()) if failed => Err("Backend"),
            other => other,
        };
        let real = real.map_err(|error| match error {
            ReconfigureError::Pool(_) => "Pool".to_owned(),
            other => class(&other),
        });
        self.same("reconfigure", real, wanted)
    }

    fn step(&mut self) -> Result<(), String> {
        self.oracle.settle(self.now);
        match self.engine.step(self.now) {
            Ok(told) => self.told(&told)?,
            Err(StepError::EngineDead(_)) if self.oracle.dead => {}
            Err(error) => return Err(error.to_string()),
        }
        self.now = self.now + self.inside.with(|seen| mem::take(&mut seen.took));
        Ok(())
    }

    fn told(&mut self, told: &[Event]) -> Result<(), String> {
        let now = self.now;
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
        self.note_hits(Call::Step);
        if let Some(wrong) = self.inside.with(|seen| seen.wrong.clone()) {
            return Err(wrong);
        }
        told.iter()
            .try_for_each(|event| self.oracle.told(event, now))?;
        self.oracle.settle(now);
        Ok(())
    }

    /// Tells the oracle what went wrong. Whether one of `call` did so that it failed.
    fn note_hits(&mut self, call: Call) -> bool {
        let hits = self.inside.with(|seen| mem::take(&mut seen.hits));
        hits.iter().for_each(|&hit| self.oracle.wronged(hit));
        let slow = |hit: &Hit| class(&hit.fault) == "Slow";
        hits.iter().any(|hit| hit.call == call && !slow(hit))
    }

    fn callback(&self, inner: Inner) -> impl FnOnce() + Send + 'static {
        let (engine, now, did) = (self.engine.clone(), self.now, self.did.clone());
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
        let pool = self.pool.audit().map_err(|e| e.to_string())?;
        let engine = self.engine.audit().map_err(|e| e.to_string())?;
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
        if let Some(wrong) = self.inside.with(|seen| seen.wrong.clone()) {
            return Err(wrong);
        }
        let inside = self.inside.with(|seen| seen.sequences);
        let running = (engine.requests.running + engine.requests.ending) as usize;
        if !self.oracle.dead && inside > running {
            return Err(format!("the backend has {inside} sequences, {engine:?}"));
        }
        Ok(())
    }

    /// Nobody cancels any more and nobody else uses the pool: all must end by itself.
    fn end(&mut self) -> Result<(), String> {
        self.others.clear();
        self.taken.clear();
        self.inside.with(|seen| seen.callbacks.clear());
        if self.engine.snapshot().counters.evictions > 0 {
            self.oracle.reached.insert("evicted".to_owned());
        }
        for _ in 0..3_000 {
            match self.engine.wake() {
                Wake::Now => {}
                Wake::At(at) => self.now = self.now.max(at),
                Wake::OnCall => break,
            }
            self.step()?;
            self.compare()?;
        }
        self.oracle.all_told()?;
        let left = self.inside.with(|seen| seen.sequences);
        if left > 0 && !self.oracle.dead {
            return Err(format!("the backend still has {left} sequences"));
        }
        let (inserted, mut removed) =
            (self.inside).with(|seen| (seen.inserted.clone(), seen.removed.clone()));
        removed.retain(|id| inserted.contains(id));
        if removed.len() != inserted.len() && !self.oracle.dead {
            let (mut once, mut twice) = (inserted, removed);
            once.sort();
            twice.sort();
            return Err(format!("inserted {once:?}, removed {twice:?}"));
        }
        self.oracle.shut_down();
        let told = self.engine.shutdown(self.now);
        self.told(&told)?;
        let pool = self.pool.audit().map_err(|e| e.to_string())?;
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
