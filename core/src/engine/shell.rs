//! [`BatchEngine`]: the batch engine that threads share. It locks, asks the state, and does
//! what it says, with the lock let go.

use core::fmt;
use core::mem;
use core::time::Duration;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::action::{Action, CancelReason, Event, Outcome, Snapshot, Wake};
use super::config::EngineConfig;
use super::driver::{Arrivals, Cache, Caches, Driver, Report, size_of_cache};
use super::error::{
    CancelError, Closed, DeathCause, DrainError, EngineError, PutCacheError, ReconfigureError,
    StepError, SubmitError,
};
use super::generator::Generator;
use super::request::RequestShape;
use super::state::EngineState;
use crate::platform::{Condvar, Mutex, Platform, Std};
use crate::pool::InvariantViolation;
use crate::time::Instant;
use crate::{AgentId, BlockPool, ModelCacheSpec, RequestId};

/// A batch engine: requests of many agents, one model, one pool.
///
/// Put it behind an `Arc` to share it: all calls take `&self`. Any thread may submit, cancel,
/// drain or shut down; one thread at a time steps, in a loop:
///
/// ```text
/// loop {
///     for event in engine.step(clock.now())? { /* tell the client */ }
///     match engine.wake() {
///         Wake::Now => {}
///         Wake::At(at) => engine.wait(Some(at.saturating_since(clock.now()))),
///         Wake::OnCall => engine.wait(None),
///     }
/// }
/// ```
///
/// A whole run, with a backend that counts:
///
/// ```
/// use std::{convert::Infallible, sync::Arc};
///
/// use selvedge_core::engine::{
///     BatchEngine, BlockSlot, EngineConfig, Event, Generator, NewRequest, NewSequence, Produced,
///     StepInput,
/// };
/// use selvedge_core::time::Instant;
/// use selvedge_core::{BlockPool, ModelCacheSpec, RequestId};
///
/// struct Counting(u32);
/// impl Generator for Counting {
///     type Payload = ();
///     type Error = Infallible;
///     fn insert(&mut self, _: NewSequence<'_, ()>) -> Result<(), Infallible> {
///         Ok(())
///     }
///     fn step(&mut self, input: &StepInput<'_>) -> Result<Vec<Produced>, Infallible> {
///         self.0 += 1;
///         let token = self.0;
///         let one = |&request: &RequestId| Produced { request, token, finish: None };
///         Ok(input.decode.iter().map(one).collect())
///     }
///     fn extract_cache(&mut self, _: RequestId, slots: &[BlockSlot]) -> Result<Vec<()>, Infallible> {
///         Ok(vec![(); slots.len()])
///     }
///     fn remove(&mut self, _: RequestId) {}
/// }
///
/// let spec = ModelCacheSpec::new(12, 4, 64, 256)?;
/// let pool: Arc<BlockPool> = Arc::new(BlockPool::new(spec, 64)?);
/// let engine: BatchEngine<Counting> = BatchEngine::new(pool.clone(), Counting(0), EngineConfig::default())?;
///
/// let alice = pool.agent("alice")?;
/// let prompt = "Hello".bytes().map(u32::from).collect();
/// engine.submit(NewRequest::new(alice, prompt, 3), Instant::ZERO)?;
/// let mut tokens = Vec::new();
/// for _ in 0..4 {
///     for event in engine.step(Instant::ZERO)? {
///         match event {
///             Event::Token { token, .. } => tokens.push(token),
///             Event::Ended(ended) => assert_eq!((ended.generated, ended.cached), (3, 8)),
///             _ => {}
///         }
///     }
/// }
/// assert_eq!(tokens, [2, 3, 4]);
/// // Five tokens and three: one block in each of twelve layers, kept for alice's next request.
/// assert_eq!(pool.snapshot().used, 12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BatchEngine<G: Generator, P: Platform = Std> {
    shared: P::Mutex<Shared<G, P>>,
    /// Something was put in that a driver may be waiting for.
    work: P::Condvar,
    pool: P::Arc<BlockPool<P>>,
}

/// What the lock guards.
struct Shared<G: Generator, P: Platform> {
    state: EngineState,
    /// Prompts of accepted requests, until the driver takes them.
    arrivals: Arrivals,
    caches: Caches<G, P>,
    /// `None` while somebody steps.
    driver: Option<Box<Driver<G, P>>>,
    /// Threads in [`BatchEngine::wait`].
    waiting: u32,
}

impl<G: Generator, P: Platform> Shared<G, P> {
    /// What is still here when the engine dies.
    fn take_all(&mut self) -> (Arrivals, Caches<G, P>) {
        (mem::take(&mut self.arrivals), mem::take(&mut self.caches))
    }
}

/// A request as a caller makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRequest {
    /// Who asks; registered with the engine's pool. One request in flight an agent.
    pub agent: AgentId,
    /// The prompt, at least one token.
    pub prompt: Vec<u32>,
    /// The most tokens to generate, at least one.
    pub max_tokens: u32,
    /// Whether to cache the sequence for the agent's next request.
    pub keep_cache: bool,
    /// When it is cancelled if it has not ended.
    pub deadline: Option<Instant>,
}

impl NewRequest {
    /// A request without a deadline, whose sequence is cached for the agent's next.
    #[must_use]
    pub fn new(agent: AgentId, prompt: Vec<u32>, max_tokens: u32) -> Self {
        NewRequest {
            agent,
            prompt,
            max_tokens,
            keep_cache: true,
            deadline: None,
        }
    }
}

impl<G: Generator, P: Platform> BatchEngine<G, P> {
    /// An engine over `generator` on the blocks of `pool`, whose model must be the generator's.
    /// Others may use the pool as well; the engine then waits for what they give back.
    ///
    /// # Errors
    /// [`EngineError::Config`] if the configuration makes no sense.
    pub fn new(
        pool: P::Arc<BlockPool<P>>,
        generator: G,
        config: EngineConfig,
    ) -> Result<Self, EngineError> {
        let (spec, total) = (pool.spec(), pool.snapshot().total);
        let state = EngineState::new(config, pool.id(), spec.clone(), total)?;
        let driver = Driver::new(generator, pool.clone(), spec);
        Ok(BatchEngine {
            shared: P::Mutex::new(Shared {
                state,
                arrivals: Vec::new(),
                caches: BTreeMap::new(),
                driver: Some(Box::new(driver)),
                waiting: 0,
            }),
            work: P::Condvar::new(),
            pool,
        })
    }

    /// Accepts a request, or says why not. What is accepted ends exactly once:
    /// [`Event::Ended`] says so, out of some [`Self::step`].
    ///
    /// # Errors
    /// Each of [`SubmitError`]; nothing is kept of the request then.
    pub fn submit(&self, request: NewRequest, now: Instant) -> Result<RequestId, SubmitError> {
        let NewRequest {
            agent,
            prompt,
            max_tokens,
            keep_cache,
            deadline,
        } = request;
        let shape = RequestShape {
            agent,
            prompt: u32::try_from(prompt.len()).map_err(|_| SubmitError::TooLong {
                prompt: prompt.len(),
                max_tokens,
            })?,
            max_tokens,
            keep_cache,
            deadline,
        };
        let mut shared = self.shared.lock();
        let id = shared.state.submit(shape, now)?;
        shared.arrivals.push((id, prompt));
        let waiting = shared.waiting;
        drop(shared);
        self.wake_drivers(waiting);
        Ok(id)
    }

    /// Ends a request now, in whatever state it is. What it holds is given up by the next step.
    ///
    /// # Errors
    /// Each of [`CancelError`].
    pub fn cancel(
        &self,
        request: RequestId,
        reason: CancelReason,
        now: Instant,
    ) -> Result<(), CancelError> {
        let mut shared = self.shared.lock();
        shared.state.cancel(request, reason, now)?;
        let waiting = shared.waiting;
        drop(shared);
        self.wake_drivers(waiting);
        Ok(())
    }

    /// One turn: ends what is to end, admits what fits, makes one step of the model if anybody
    /// runs, and returns everything that users are to be told. All of it, always: there is
    /// nothing lazy that a caller could walk away from half-way (the origin's `step` was).
    ///
    /// # Errors
    /// [`StepError::Busy`] if another thread is in it. [`StepError::EngineDead`] if the engine
    /// is dead and all about it was told: the call in which it dies still returns the events.
    pub fn step(&self, now: Instant) -> Result<Vec<Event>, StepError> {
        let mut turn = Turn::begin(self, now)?;
        let mut report = None;
        loop {
            match turn.next(report, now) {
                Next::Do(action, cache) => report = Some(turn.driver().perform(action, cache)),
                Next::Over(events) => return Ok(events),
            }
        }
    }

    /// When the next step should be made.
    pub fn wake(&self) -> Wake {
        self.shared.lock().state.wake()
    }

    /// Blocks until there is work, the engine is shut down or dead, somebody has called, or
    /// `at_most` has passed. Whoever called may have brought an earlier deadline. May return early: step, and ask again. Deadlines are no work until a step looks at the
    /// time: pass what is left until the instant that [`Self::wake`] has named.
    pub fn wait(&self, at_most: Option<Duration>) {
        let mut shared = self.shared.lock();
        if is_over(&shared.state) || shared.state.wake() == Wake::Now {
            return;
        }
        shared.waiting += 1;
        shared = match at_most {
            None => self.work.wait::<Shared<G, P>>(shared),
            Some(time) => self.work.wait_timeout::<Shared<G, P>>(shared, time).0,
        };
        shared.waiting -= 1;
    }

    /// Refuses requests from now on and lets those accepted end by `deadline`: see
    /// [`EngineState::drain`]. Steps go on as usual; one of them returns [`Event::Drained`] or
    /// [`Event::DrainTimedOut`].
    ///
    /// # Errors
    /// Each of [`DrainError`].
    pub fn drain(&self, deadline: Instant, now: Instant) -> Result<(), DrainError> {
        let mut shared = self.shared.lock();
        shared.state.drain(deadline, now)?;
        let waiting = shared.waiting;
        drop(shared);
        self.wake_drivers(waiting);
        Ok(())
    }

    /// Accepts requests again after a drain, or instead of one under way.
    ///
    /// # Errors
    /// [`Closed`] if the engine is being reconfigured, shut down or dead.
    pub fn resume(&self) -> Result<(), Closed> {
        self.shared.lock().state.resume()
    }

    /// Cancels everything and gives every block back, for good; returns what users are to be
    /// told. If another thread is in [`Self::step`], that one does it before it returns, and
    /// gets the events.
    pub fn shutdown(&self, now: Instant) -> Vec<Event> {
        self.begin_shutdown(now);
        self.step(now).unwrap_or_default()
    }

    /// As [`Self::shutdown`], but leaves all the work to the next [`Self::step`].
    pub fn begin_shutdown(&self, now: Instant) {
        let mut shared = self.shared.lock();
        shared.state.shutdown(now);
        let waiting = shared.waiting;
        drop(shared);
        self.wake_drivers(waiting);
    }

    /// Ends the engine, because nobody will step it again: it is [`Closed::EngineDead`] from
    /// here on, drops its backend and gives every block back. Returns what users are to be told.
    /// If a thread is in [`Self::step`] all the same, it does this once its action is over, and
    /// gets the events.
    pub fn abandon(&self, cause: DeathCause) -> Vec<Event> {
        let mut shared = self.shared.lock();
        if !matches!(shared.state.closed(), Some(Closed::EngineDead(_))) {
            shared.state.die(cause.clone());
        }
        let mut turn = Turn {
            engine: self,
            driver: shared.driver.take(),
            displaced: Vec::new(),
        };
        let waiting = shared.waiting;
        drop(shared);
        self.wake_drivers(waiting);
        turn.bury(cause);
        let mut shared = self.shared.lock();
        let events = shared.driver.as_mut().map(|d| mem::take(&mut d.events));
        events.unwrap_or_default()
    }

    /// Changes the model. The engine must have no request: drain it first. Every cache is
    /// dropped, because what other weights have computed is worth nothing; then the pool gets
    /// its new shape, and `swap` the backend, to unload and load in place.
    ///
    /// # Errors
    /// Each of [`ReconfigureError`]. The model is the old one then. If `swap` has failed, it
    /// must have left the backend as it was.
    ///
    /// # Panics
    /// If `swap` does. The engine is dead then.
    pub fn reconfigure(
        &self,
        spec: ModelCacheSpec,
        total_blocks: u32,
        swap: impl FnOnce(&mut G) -> Result<(), G::Error>,
    ) -> Result<(), ReconfigureError> {
        let mut shared = self.shared.lock();
        if shared.driver.is_none() {
            return Err(ReconfigureError::Busy);
        }
        shared.state.begin_reconfigure()?;
        let caches = mem::take(&mut shared.caches);
        let mut turn = Turn {
            engine: self,
            driver: shared.driver.take(),
            displaced: Vec::new(),
        };
        drop(shared);

        drop(caches);
        let (new, result) = match self.change(turn.driver(), spec, total_blocks, swap) {
            Ok(new) => (Some(new), Ok(())),
            Err(Change::Refused(error)) => (None, Err(error)),
            Err(Change::Lost(cause)) => {
                turn.bury(cause.clone());
                return Err(Closed::EngineDead(cause).into());
            }
        };
        let mut shared = self.shared.lock();
        shared.state.end_reconfigure(new);
        shared.driver = turn.driver.take();
        // Ended in the meantime: what was changed serves nobody.
        match shared.state.closed().filter(|_| is_over(&shared.state)) {
            Some(closed) => result.and(Err(closed.into())),
            None => result,
        }
    }

    fn change(
        &self,
        driver: &mut Driver<G, P>,
        spec: ModelCacheSpec,
        total_blocks: u32,
        swap: impl FnOnce(&mut G) -> Result<(), G::Error>,
    ) -> Result<(ModelCacheSpec, u32), Change> {
        let (old_spec, old_total) = (self.pool.spec(), self.pool.snapshot().total);
        (self.pool.reconfigure(spec.clone(), total_blocks))
            .map_err(|error| Change::Refused(error.into()))?;
        let swapped = driver.generator.as_mut().map_or(Ok(()), swap);
        let Err(error) = swapped else {
            driver.spec = spec.clone();
            return Ok((spec, total_blocks));
        };
        let message = error.to_string();
        match self.pool.reconfigure(old_spec, old_total) {
            Ok(()) => Err(Change::Refused(ReconfigureError::Backend { message })),
            Err(undo) => Err(Change::Lost(DeathCause::SwapNotUndone {
                message: format!("{message}; {undo}"),
            })),
        }
    }

    /// Takes an agent's idle cache out of the engine: to write it to disk, say. `None` if it
    /// has none, or a request that uses it.
    pub fn take_cache(&self, agent: AgentId) -> Option<Cache<G, P>> {
        let mut shared = self.shared.lock();
        shared.state.take_cache(agent)?;
        shared.caches.remove(&agent)
    }

    /// Gives an agent a cache for its next request, of this engine's pool and model.
    ///
    /// # Errors
    /// Each of [`PutCacheError`], with the cache.
    pub fn put_cache(&self, cache: Cache<G, P>) -> Result<(), (PutCacheError, Box<Cache<G, P>>)> {
        let agent = cache.agent();
        let checked = match agent.pool == self.pool.id() {
            true => cache
                .validate(&self.pool.spec())
                .map_err(PutCacheError::from),
            false => Err(PutCacheError::ForeignPool),
        };
        let size = size_of_cache(&cache);
        let cache = Box::new(cache);
        if let Err(error) = checked {
            return Err((error, cache));
        }
        let mut shared = self.shared.lock();
        match shared.state.put_cache(agent, size) {
            Ok(()) => {
                shared.caches.insert(agent, *cache);
                Ok(())
            }
            Err(error) => {
                drop(shared);
                Err((error, cache))
            }
        }
    }

    /// Why the engine takes no requests; `None` if it does.
    pub fn closed(&self) -> Option<Closed> {
        self.shared.lock().state.closed()
    }

    /// Everything at one instant.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.lock().state.snapshot()
    }

    /// Checks every invariant and returns the snapshot of the same instant.
    ///
    /// # Errors
    /// The first invariant that does not hold: a bug of this crate.
    pub fn audit(&self) -> Result<Snapshot, InvariantViolation> {
        let shared = self.shared.lock();
        shared.state.validate().map(|()| shared.state.snapshot())
    }

    /// A copy of the whole state, for comparing before with after.
    pub fn state(&self) -> EngineState {
        self.shared.lock().state.clone()
    }

    /// The pool it takes its blocks from.
    pub fn pool(&self) -> &BlockPool<P> {
        &self.pool
    }

    /// Called with the lock let go, and not at all if nobody waits.
    fn wake_drivers(&self, waiting: u32) {
        if waiting > 0 {
            self.work.notify_all();
        }
    }
}

impl<G: Generator, P: Platform> fmt::Debug for BatchEngine<G, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without locking: a debug print must not take part in a deadlock.
        f.debug_struct("BatchEngine")
            .field("pool", &self.pool.id())
            .finish_non_exhaustive()
    }
}

/// Whether there will never be work again, once what is left is given up.
fn is_over(state: &EngineState) -> bool {
    let closed = state.closed();
    matches!(closed, Some(Closed::ShutDown | Closed::EngineDead(_)))
}

/// How a change of model went wrong.
enum Change {
    /// All is as it was.
    Refused(ReconfigureError),
    /// It could not be undone.
    Lost(DeathCause),
}

/// What a turn goes on with.
enum Next<G: Generator, P: Platform> {
    /// An action, and the idle cache that it concerns, if it concerns one.
    Do(Action, Option<Cache<G, P>>),
    /// Nothing: this is what users are to be told.
    Over(Vec<Event>),
}

/// A driver at work. If it is dropped before its end, somebody's code has unwound through the
/// engine: the engine dies of it, and gives up everything, rather than to be left half-way.
struct Turn<'e, G: Generator, P: Platform> {
    engine: &'e BatchEngine<G, P>,
    driver: Option<Box<Driver<G, P>>>,
    /// Caches that another took the place of. There are none: but no payload is dropped under
    /// the lock even so.
    displaced: Vec<Cache<G, P>>,
}

impl<'e, G: Generator, P: Platform> Turn<'e, G, P> {
    fn begin(engine: &'e BatchEngine<G, P>, now: Instant) -> Result<Self, StepError> {
        let mut shared = engine.shared.lock();
        let driver = shared.driver.as_ref().ok_or(StepError::Busy)?;
        if let Some(Closed::EngineDead(cause)) = shared.state.closed()
            && driver.events.is_empty()
            && shared.state.wake() != Wake::Now
        {
            return Err(StepError::EngineDead(cause));
        }
        shared.state.tick(now);
        let driver = shared.driver.take();
        Ok(Turn {
            engine,
            driver,
            displaced: Vec::new(),
        })
    }

    /// Reports how the last action went and gets the next, in one locked section. Once the turn
    /// is over, the driver is back where the next one finds it.
    fn next(&mut self, report: Option<Report<G, P>>, now: Instant) -> Next<G, P> {
        let mut shared = self.engine.shared.lock();
        if let Some(Report { outcome, idle }) = report {
            if let Some(cache) = idle {
                let agent = cache.agent();
                let before = shared.caches.insert(agent, cache);
                debug_assert!(before.is_none(), "an agent has one cache");
                self.displaced.extend(before);
            }
            // Unless it was ended in the meantime: nobody asks any more.
            if !matches!(shared.state.closed(), Some(Closed::EngineDead(_))) {
                let answered = shared.state.done(outcome, now);
                debug_assert_eq!(answered, Ok(()), "each action gets its own answer");
            }
        }
        loop {
            let action = shared.state.poll();
            let driver = self.driver();
            match action {
                Some(Action::Emit(events)) => driver.events.extend(events),
                Some(Action::Abandon) => {
                    let (arrivals, caches) = shared.take_all();
                    drop(shared);
                    driver.receive(arrivals);
                    driver.abandon(caches);
                    shared = self.engine.shared.lock();
                    let answered = shared.state.done(Outcome::Abandoned, now);
                    debug_assert_eq!(answered, Ok(()), "each action gets its own answer");
                }
                Some(action) => {
                    driver.receive(mem::take(&mut shared.arrivals));
                    let cache = match &action {
                        Action::Lease(order) if order.cached => shared.caches.remove(&order.agent),
                        Action::Evict { agent } => shared.caches.remove(agent),
                        _ => None,
                    };
                    return Next::Do(action, cache);
                }
                None => {
                    let events = mem::take(&mut driver.events);
                    shared.driver = self.driver.take();
                    // Who waits for work would wait for ever: there will be none.
                    let waiting = if is_over(&shared.state) {
                        shared.waiting
                    } else {
                        0
                    };
                    drop(shared);
                    self.engine.wake_drivers(waiting);
                    return Next::Over(events);
                }
            }
        }
    }

    fn driver(&mut self) -> &mut Driver<G, P> {
        (self.driver.as_mut()).expect("INVARIANT: a turn has its driver until its end")
    }

    /// Ends the engine, and puts the driver back with what is to be told of it.
    fn bury(&mut self, cause: DeathCause) {
        let Some(mut driver) = self.driver.take() else {
            return;
        };
        let mut shared = self.engine.shared.lock();
        shared.state.die(cause);
        let (arrivals, caches) = shared.take_all();
        drop(shared);
        driver.receive(arrivals);
        // It may be the second time that the same code unwinds: this time it stays here.
        let _ = catch_unwind(AssertUnwindSafe(|| driver.abandon(caches)));
        let mut shared = self.engine.shared.lock();
        while let Some(action) = shared.state.poll() {
            match action {
                Action::Emit(events) => driver.events.extend(events),
                // Time decides nothing any more.
                _ => drop(shared.state.done(Outcome::Abandoned, Instant::ZERO)),
            }
        }
        shared.driver = Some(driver);
        let waiting = shared.waiting;
        drop(shared);
        self.engine.wake_drivers(waiting);
    }
}

impl<G: Generator, P: Platform> Drop for Turn<'_, G, P> {
    fn drop(&mut self) {
        let cause = DeathCause::Panicked {
            call: "step",
            message: "something unwound through the engine".to_owned(),
        };
        // A second panic on the way out would end the process, and hide the first.
        let _ = catch_unwind(AssertUnwindSafe(|| self.bury(cause)));
    }
}
