//! [`Bench`]: an engine on a pool, with a clock that is turned by hand, and what it has told.
#![allow(
    clippy::disallowed_types,
    reason = "the engine is shared with the callbacks of its backend"
)]

use std::sync::Arc;
use std::time::Duration;

use selvedge_core::engine::{
    BatchEngine, End, Ended, EngineConfig, Event, Finish, NewRequest, StepError, SubmitError, Wake,
};
use selvedge_core::time::Instant;
use selvedge_core::{AgentId, BlockPool, ModelCacheSpec, RequestId};

use super::backend::{Backend, Handle, expected};

pub(crate) struct Bench {
    pub(crate) engine: Arc<BatchEngine<Backend>>,
    pub(crate) pool: Arc<BlockPool>,
    pub(crate) backend: Handle,
    pub(crate) now: Instant,
    /// Everything told so far.
    pub(crate) told: Vec<Event>,
}

/// A model of `layers` global layers in blocks of 4 tokens.
pub(crate) fn spec(layers: u32) -> ModelCacheSpec {
    ModelCacheSpec::new(layers, 1, 8, 4).expect("a valid model")
}

/// A prompt of `n` tokens after which nothing stops early for `max` tokens.
pub(crate) fn prompt(n: u32, max: u32) -> Vec<u32> {
    (0..)
        .map(|salt| (0..n).map(|i| i * 7 + salt).collect::<Vec<u32>>())
        .find(|prompt| expected(prompt, max).1 == Finish::Length)
        .expect("some salt does")
}

impl Bench {
    pub(crate) fn new(spec: ModelCacheSpec, blocks: u32, config: EngineConfig) -> Self {
        let pool: Arc<BlockPool> = Arc::new(BlockPool::new(spec.clone(), blocks).expect("blocks"));
        let backend = Handle::default();
        let model = Backend::new(spec, backend.clone());
        let engine = BatchEngine::new(pool.clone(), model, config).expect("a valid config");
        Bench {
            engine: Arc::new(engine),
            pool,
            backend,
            now: Instant::ZERO,
            told: Vec::new(),
        }
    }

    /// Two layers, default bounds.
    pub(crate) fn plain(blocks: u32) -> Self {
        Bench::new(spec(2), blocks, EngineConfig::default())
    }

    pub(crate) fn agent(&self, name: &str) -> AgentId {
        self.pool.agent(name).expect("it has a name")
    }

    pub(crate) fn submit(
        &self,
        name: &str,
        prompt: &[u32],
        max_tokens: u32,
    ) -> Result<RequestId, SubmitError> {
        let request = NewRequest::new(self.agent(name), prompt.to_vec(), max_tokens);
        self.engine.submit(request, self.now)
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
    }

    /// One step; returns what was told in it.
    #[track_caller]
    pub(crate) fn step(&mut self) -> Vec<Event> {
        let events = self.engine.step(self.now).expect("an engine at work");
        self.told.extend(events.iter().cloned());
        self.check();
        events
    }

    /// Steps until nothing is left to do at this time.
    #[track_caller]
    pub(crate) fn run(&mut self) {
        for _ in 0..10_000 {
            match self.engine.wake() {
                Wake::Now => {}
                Wake::At(at) if at <= self.now => {}
                Wake::At(_) | Wake::OnCall => return,
            }
            self.step();
        }
        panic!("it never comes to rest: {:?}", self.engine.snapshot());
    }

    /// Steps until the engine dies, and once more.
    #[track_caller]
    pub(crate) fn run_to_death(&mut self) -> StepError {
        for _ in 0..10_000 {
            match self.engine.step(self.now) {
                Ok(events) => self.told.extend(events),
                Err(error) => return error,
            }
        }
        panic!("it does not die: {:?}", self.engine.snapshot());
    }

    pub(crate) fn tokens_of(&self, id: RequestId) -> Vec<u32> {
        let tokens = self.told.iter().filter_map(|event| match event {
            Event::Token { request, token, .. } if *request == id => Some(*token),
            _ => None,
        });
        tokens.collect()
    }

    pub(crate) fn ends_of(&self, id: RequestId) -> Vec<Ended> {
        let ends = self.told.iter().filter_map(|event| match event {
            Event::Ended(ended) if ended.request == id => Some(ended.clone()),
            _ => None,
        });
        ends.collect()
    }

    /// The one end of a request.
    #[track_caller]
    pub(crate) fn end_of(&self, id: RequestId) -> End {
        match self.ends_of(id).as_slice() {
            [one] => one.end.clone(),
            ends => panic!("{id} has {} ends: {ends:?}", ends.len()),
        }
    }

    /// Requests in the order they started, again after a preemption.
    pub(crate) fn started(&self) -> Vec<RequestId> {
        let started = self.told.iter().filter_map(|event| match event {
            Event::Started { request, .. } => Some(*request),
            _ => None,
        });
        started.collect()
    }

    pub(crate) fn reused(&self, id: RequestId) -> Option<u32> {
        self.told.iter().rev().find_map(|event| match event {
            Event::Started { request, reused } if *request == id => Some(*reused),
            _ => None,
        })
    }

    /// Both books are in order, and agree.
    #[track_caller]
    pub(crate) fn check(&self) {
        let pool = self.pool.audit().expect("the pool is in order");
        let engine = self.engine.audit().expect("the engine is in order");
        let engines = engine.blocks_held + engine.blocks_cached;
        let others: u32 = (pool.agents.iter())
            .filter(|agent| agent.name.starts_with("other"))
            .map(|agent| agent.blocks)
            .sum();
        assert_eq!(
            u64::from(pool.used),
            engines + u64::from(others),
            "{pool:?} {engine:?}"
        );
    }
}
