//! Serves a trace: the engine and the pool that ship, a virtual clock, and the model that
//! checks what it reads back from the blocks.
//!
//! The clock stands still while the engine decides, and moves by what a step costs, or to the
//! next arrival when there is nothing to do. So a run depends on nothing but its input.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use selvedge_core::engine::{
    BatchEngine, ConfigError, End, EngineConfig, EngineError, Event, NewRequest, StepError,
    SubmitError, Wake,
};
use selvedge_core::pool::{AgentError, InvariantViolation, PoolConfigError};
use selvedge_core::spec::SpecError;
use selvedge_core::time::Instant;
use selvedge_core::{AgentId, BlockPool, ModelCacheSpec, RequestId};
use selvedge_sim::content::{Attention, ContentModel, Weights};
use thiserror::Error;

use super::agents::Agents;
use super::report::{Counts, Percentiles, PoolUse, Prefill, Sample, Series, ServeReport};
use super::trace::Trace;

/// Turns without a step of the model and without an event, after which the engine is taken to
/// be stuck. It needs one turn for each ending and eviction, so this is far above what it has.
const MOST_IDLE_TURNS: u32 = 100_000;

/// What the requests are served on.
#[derive(Clone, Debug, PartialEq)]
pub struct ServeConfig {
    /// Layers of the model: each sequence needs blocks in all of them.
    pub layers: u32,
    /// Tokens of a block.
    pub block_tokens: u32,
    /// Blocks of the pool, for all layers.
    pub blocks: u32,
    /// The engine's bounds.
    pub engine: EngineConfig,
    /// How long a step takes.
    pub cost: StepCost,
}

impl Default for ServeConfig {
    fn default() -> Self {
        ServeConfig {
            layers: 2,
            block_tokens: 256,
            blocks: 65_536,
            engine: EngineConfig::default(),
            cost: StepCost::default(),
        }
    }
}

/// How long a step of the model takes in virtual time.
///
/// ```
/// use std::time::Duration;
///
/// use selvedge_scenarios::serving::StepCost;
///
/// let cost = StepCost::default();
/// assert_eq!(cost.of(0, 8), Duration::from_micros(10_400));
/// assert!(cost.of(4_096, 0) > cost.of(512, 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepCost {
    /// Whatever it computes.
    pub step: Duration,
    /// For each token of a prompt.
    pub prefill_token: Duration,
    /// For each sequence that produces a token.
    pub decode: Duration,
}

impl Default for StepCost {
    /// About what one large accelerator does for a model of 7 billion parameters: 10 ms a step,
    /// 40,000 prompt tokens a second, 50 µs a sequence.
    fn default() -> Self {
        StepCost {
            step: Duration::from_millis(10),
            prefill_token: Duration::from_micros(25),
            decode: Duration::from_micros(50),
        }
    }
}

impl StepCost {
    /// The time of a step that computes so many prompt tokens and decodes so many sequences.
    #[must_use]
    pub fn of(&self, prefill_tokens: u32, decodes: u32) -> Duration {
        self.step + self.prefill_token * prefill_tokens + self.decode * decodes
    }
}

/// Why a trace was not served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// No model has such a cache.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// No pool is of this size.
    #[error(transparent)]
    Pool(#[from] PoolConfigError),
    /// The engine's bounds make no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An agent was not registered.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// A bug of the engine: it refused a request that it had to accept.
    #[error("request {number} of the trace was refused: {error}")]
    Refused {
        /// Its place in the trace, from 1.
        number: usize,
        /// Why.
        error: SubmitError,
    },
    /// The model failed, or found in a block what must not be there.
    #[error("the engine died: {0}")]
    Died(String),
    /// A bug of the engine.
    #[error("{unended} requests have not ended and nothing goes on, at {at:?}")]
    Stuck {
        /// Accepted and not ended.
        unended: usize,
        /// The virtual time.
        at: Duration,
    },
    /// A bug of this crate.
    #[error(transparent)]
    Violated(#[from] InvariantViolation),
}

impl From<EngineError> for ServeError {
    fn from(error: EngineError) -> Self {
        let EngineError::Config(error) = error;
        ServeError::Config(error)
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Requests that have ended or were refused.
    pub ended: usize,
    /// Steps of the model.
    pub steps: u64,
    /// The virtual time.
    pub at: Duration,
    /// Requests that wait for admission.
    pub waiting: u32,
    /// Requests that run.
    pub running: u32,
}

/// Serves every request of `trace`, and says how it went. `watch` is told after each turn, and
/// may end the run: what was done until then is reported.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use selvedge_scenarios::serving::{ServeConfig, Trace, serve};
///
/// let line = r#"{"timestamp": 0, "input_length": 5, "output_length": 3, "hash_ids": [1]}"#;
/// let trace = Trace::read(line.as_bytes(), false)?;
/// let report = serve(&trace, &ServeConfig::default(), &mut |_| ControlFlow::Continue(()))?;
/// assert_eq!((report.counts.completed, report.generated, report.unended), (1, 3, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Each of [`ServeError`]. That a request never fits or finds the queue full is none: it is
/// counted.
pub fn serve(
    trace: &Trace,
    config: &ServeConfig,
    watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<ServeReport, ServeError> {
    let mut run = Run::new(trace, config)?;
    let interrupted = run.all(watch)?.is_break();
    run.report(interrupted)
}

struct Run<'t> {
    trace: &'t Trace,
    config: &'t ServeConfig,
    pool: Arc<BlockPool>,
    engine: BatchEngine<ContentModel>,
    now: Instant,
    /// Requests of the trace that have come.
    arrived: usize,
    agents: Agents,
    ids: Vec<AgentId>,
    busy: BTreeSet<usize>,
    live: BTreeMap<RequestId, Live>,
    counts: Counts,
    waits: Vec<Duration>,
    first_tokens: Vec<Duration>,
    between_tokens: Vec<Duration>,
    totals: Vec<Duration>,
    series: Series,
    prefilled: u64,
}

/// A request that has not ended.
struct Live {
    agent: usize,
    arrived: Instant,
    started: bool,
    first_token: Option<Instant>,
}

impl<'t> Run<'t> {
    fn new(trace: &'t Trace, config: &'t ServeConfig) -> Result<Self, ServeError> {
        let spec = ModelCacheSpec::new(config.layers, 1, 8, config.block_tokens)?;
        // Long prompts: each token must cost the same wherever it stands.
        let weights = Weights {
            attention: Attention::Last,
            ..Weights::of(1)
        };
        let model = ContentModel::new(spec.clone(), config.blocks, weights);
        let pool = Arc::new(BlockPool::new(spec, config.blocks)?);
        let engine = BatchEngine::new(pool.clone(), model, config.engine.clone())?;
        Ok(Run {
            trace,
            config,
            pool,
            engine,
            now: Instant::ZERO,
            arrived: 0,
            agents: Agents::default(),
            ids: Vec::new(),
            busy: BTreeSet::new(),
            live: BTreeMap::new(),
            counts: Counts::default(),
            waits: Vec::new(),
            first_tokens: Vec::new(),
            between_tokens: Vec::new(),
            totals: Vec::new(),
            series: Series::default(),
            prefilled: 0,
        })
    }

    fn all(
        &mut self,
        watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ServeError> {
        let mut idle_turns = 0;
        loop {
            self.let_arrive()?;
            match (self.engine.wake(), self.next_arrival()) {
                (Wake::Now, _) => {}
                (Wake::At(at), next) => {
                    self.now = self.now.max(next.map_or(at, |next| next.min(at)));
                    if next.is_some_and(|next| next <= self.now) {
                        continue;
                    }
                }
                (Wake::OnCall, Some(next)) => {
                    self.now = self.now.max(next);
                    continue;
                }
                (Wake::OnCall, None) if self.live.is_empty() => {
                    return Ok(ControlFlow::Continue(()));
                }
                (Wake::OnCall, None) => return Err(self.stuck()),
            }
            match self.turn()? {
                true => idle_turns = 0,
                false => idle_turns += 1,
            }
            if idle_turns > MOST_IDLE_TURNS {
                return Err(self.stuck());
            }
            let sample = self.series.last();
            let progress = Progress {
                ended: self.counts.ended() + self.counts.refused(),
                steps: sample.steps,
                at: self.now.saturating_since(Instant::ZERO),
                waiting: sample.waiting,
                running: sample.running,
            };
            if watch(&progress).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    fn stuck(&self) -> ServeError {
        ServeError::Stuck {
            unended: self.live.len(),
            at: self.now.saturating_since(Instant::ZERO),
        }
    }

    fn next_arrival(&self) -> Option<Instant> {
        let request = self.trace.requests.get(self.arrived)?;
        let first = self.trace.requests.first()?.timestamp;
        let after = Duration::from_millis(request.timestamp - first);
        Some(Instant::ZERO + after)
    }

    /// Submits every request whose time has come.
    fn let_arrive(&mut self) -> Result<(), ServeError> {
        while let Some(at) = self.next_arrival()
            && at <= self.now
        {
            let request = &self.trace.requests[self.arrived];
            self.arrived += 1;
            let agent = self.agents.of(request, |agent| !self.busy.contains(&agent));
            if agent == self.ids.len() {
                self.ids.push(self.pool.agent(&format!("agent {agent}"))?);
            }
            let new = NewRequest::new(self.ids[agent], request.prompt(), request.output_length);
            match self.engine.submit(new, self.now) {
                Ok(id) => {
                    self.counts.accepted += 1;
                    self.agents.asked(agent, request);
                    self.busy.insert(agent);
                    let live = Live {
                        agent,
                        arrived: at,
                        started: false,
                        first_token: None,
                    };
                    self.live.insert(id, live);
                }
                Err(SubmitError::NeverFits { needed, .. }) => {
                    self.counts.never_fit += 1;
                    self.counts.largest_needed = self.counts.largest_needed.max(needed);
                }
                Err(SubmitError::QueueFull { .. }) => self.counts.queue_full += 1,
                Err(error) => {
                    return Err(ServeError::Refused {
                        number: self.arrived,
                        error,
                    });
                }
            }
        }
        Ok(())
    }

    /// One turn of the engine. Returns whether anything came of it.
    fn turn(&mut self) -> Result<bool, ServeError> {
        let began = self.now;
        let told = match self.engine.step(self.now) {
            Ok(told) => told,
            Err(StepError::EngineDead(cause)) => return Err(ServeError::Died(cause.to_string())),
            Err(StepError::Busy) => return Err(self.stuck()),
        };
        let snapshot = self.engine.snapshot();
        let before = self.series.last().steps;
        let stepped = snapshot.counters.steps > before;
        if stepped {
            let tokens = |event: &&Event| matches!(event, Event::Token { .. });
            let decodes = told.iter().filter(tokens).count();
            let prefilled = snapshot.counters.prefilled - self.prefilled;
            self.prefilled = snapshot.counters.prefilled;
            self.now = self.now + self.config.cost.of(count(prefilled), count(decodes));
        }
        // The pool's own snapshot names every agent, which is too much for each turn.
        let used = snapshot.blocks_held + snapshot.blocks_cached;
        self.series.push(Sample {
            at_ms: millis(began.saturating_since(Instant::ZERO)),
            steps: snapshot.counters.steps,
            waiting: snapshot.requests.waiting,
            running: snapshot.requests.running,
            used_blocks: count(used),
            cached_blocks: count(snapshot.blocks_cached),
        });
        for event in &told {
            self.hear(event, began)?;
        }
        Ok(stepped || !told.is_empty())
    }

    /// `began`: when the turn did, which is when what started has started.
    fn hear(&mut self, event: &Event, began: Instant) -> Result<(), ServeError> {
        match event {
            Event::Started { request, .. } => {
                if let Some(live) = self.live.get_mut(request).filter(|live| !live.started) {
                    live.started = true;
                    self.waits.push(began.saturating_since(live.arrived));
                }
            }
            Event::Token { request, .. } => {
                if let Some(live) = self.live.get_mut(request)
                    && live.first_token.is_none()
                {
                    live.first_token = Some(self.now);
                    (self.first_tokens).push(self.now.saturating_since(live.arrived));
                }
            }
            Event::Ended(ended) => {
                let Some(live) = self.live.remove(&ended.request) else {
                    return Ok(());
                };
                self.busy.remove(&live.agent);
                match &ended.end {
                    End::Completed(_) => self.counts.completed += 1,
                    End::Cancelled(_) => self.counts.cancelled += 1,
                    End::Failed(reason) => {
                        self.counts.failed += 1;
                        self.counts.first_failure.get_or_insert(reason.to_string());
                    }
                }
                self.totals.push(self.now.saturating_since(live.arrived));
                if let (Some(first), 2..) = (live.first_token, ended.generated) {
                    let time = self.now.saturating_since(first);
                    self.between_tokens.push(time / (ended.generated - 1));
                }
            }
            Event::Died(cause) => return Err(ServeError::Died(cause.to_string())),
            _ => {}
        }
        Ok(())
    }

    fn report(mut self, interrupted: bool) -> Result<ServeReport, ServeError> {
        let snapshot = self.engine.audit()?;
        let cached = snapshot.blocks_cached;
        self.engine.shutdown(self.now);
        let pool = self.pool.audit()?;
        let sum = |of: fn(&super::Request) -> u32| -> u64 {
            self.trace.requests.iter().map(|r| u64::from(of(r))).sum()
        };
        let seconds = self.now.saturating_since(Instant::ZERO).as_secs_f64();
        let steps = snapshot.counters.steps;
        let per = |n: u64, of: f64| if of > 0.0 { n as f64 / of } else { 0.0 };
        let prompts = snapshot.counters.prefilled + snapshot.counters.reused;
        Ok(ServeReport {
            interrupted,
            requests: self.trace.requests.len(),
            bad_lines: self.trace.bad.len(),
            prompt_tokens: sum(|r| r.input_length),
            output_tokens: sum(|r| r.output_length),
            agents: self.agents.count(),
            counts: self.counts,
            unended: self.live.len(),
            virtual_s: seconds,
            steps,
            generated: snapshot.counters.generated,
            tokens_per_step: per(snapshot.counters.generated, steps as f64),
            tokens_per_s: per(snapshot.counters.generated, seconds),
            waiting_ms: Percentiles::of(&mut self.waits),
            first_token_ms: Percentiles::of(&mut self.first_tokens),
            between_tokens_ms: Percentiles::of(&mut self.between_tokens),
            total_ms: Percentiles::of(&mut self.totals),
            prefill: Prefill {
                computed: snapshot.counters.prefilled,
                reused: snapshot.counters.reused,
                reused_share: per(snapshot.counters.reused, prompts as f64),
            },
            pool: PoolUse {
                blocks: pool.total,
                peak: self.series.peak_used(),
                mean: self.series.mean_used(),
                cached_at_end: cached,
                left_after_shutdown: pool.used,
            },
            peak_waiting: self.series.peak_waiting(),
            peak_running: self.series.peak_running(),
            preemptions: snapshot.counters.preemptions,
            evictions: snapshot.counters.evictions,
            backend_faults: snapshot.counters.faults + snapshot.counters.unknown_sequences,
            series: self.series.samples(),
        })
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn count<N: TryInto<u32>>(n: N) -> u32 {
    n.try_into().unwrap_or(u32::MAX)
}
