//! [`EngineState`]: every decision of the batch engine as plain state, without a lock, a clock,
//! a token or a type parameter. The shell ([`BatchEngine`](super::BatchEngine)) locks, asks and
//! does.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{
    Action, CacheSize, CancelReason, End, Event, Outcome, RequestCounts, Snapshot, Wake,
};
use super::config::EngineConfig;
use super::error::{
    CancelError, Closed, DeathCause, DrainError, EngineError, PutCacheError, ReconfigureError,
    SubmitError, UnexpectedOutcome,
};
use super::request::{Phase, Request, RequestShape};
use super::{admission, invariants};
use crate::pool::InvariantViolation;
use crate::time::Instant;
use crate::{AgentId, ModelCacheSpec, PoolId, RequestId};

/// The batch engine's state. Explorers and models use it directly; threads share it through
/// [`BatchEngine`](super::BatchEngine).
///
/// **Anybody may submit, cancel, drain, resume or shut down at any time. One driver calls
/// [`tick`](Self::tick), then [`poll`](Self::poll) until there is nothing more, carrying out
/// each action and reporting how it went by [`done`](Self::done) before it polls again.**
///
/// Everything that takes time or runs foreign code is an action. So no decision is made on
/// what was true before a call and is no longer, and whatever order calls and outcomes come
/// in, there is an answer.
///
/// ```
/// use selvedge_core::engine::{Action, EngineConfig, EngineState, Outcome, RequestShape};
/// use selvedge_core::time::Instant;
/// use selvedge_core::{ModelCacheSpec, PoolId, PoolState};
///
/// let (id, spec) = (PoolId(1), ModelCacheSpec::new(1, 1, 8, 16)?);
/// let mut pool = PoolState::new(id, spec.clone(), 4)?;
/// let mut engine = EngineState::new(EngineConfig::default(), id, spec, 4)?;
/// let now = Instant::ZERO;
///
/// let request = engine.submit(
///     RequestShape {
///         agent: pool.register("alice")?,
///         prompt: 5,
///         max_tokens: 3,
///         keep_cache: true,
///         deadline: None,
///     },
///     now,
/// )?;
/// engine.tick(now);
/// let Some(Action::Lease(order)) = engine.poll() else { panic!("it needs blocks first") };
/// assert_eq!((order.request, order.capacity), (request, 8));
/// engine.done(Outcome::Leased { blocks: 1, reused: 0 }, now)?;
/// assert!(matches!(engine.poll(), Some(Action::Insert { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EngineState {
    pub(super) config: EngineConfig,
    pub(super) pool: PoolId,
    pub(super) spec: ModelCacheSpec,
    pub(super) total_blocks: u32,
    pub(super) mode: Mode,
    /// How often the engine was reconfigured.
    pub(super) epoch: u64,
    /// The id given out last.
    pub(super) last_id: u64,
    /// Every request that was accepted and has not ended.
    pub(super) requests: BTreeMap<RequestId, Request>,
    /// The request of each agent that has one in flight.
    pub(super) busy: BTreeMap<AgentId, RequestId>,
    /// Requests by phase.
    pub(super) waiting: BTreeSet<RequestId>,
    pub(super) leased: BTreeSet<RequestId>,
    pub(super) live: BTreeSet<RequestId>,
    pub(super) ending: BTreeSet<RequestId>,
    pub(super) deadlines: BTreeSet<(Instant, RequestId)>,
    pub(super) admission: admission::Round,
    /// Whose prompt was served last.
    pub(super) prefilled_last: RequestId,
    /// Idle caches.
    pub(super) caches: BTreeMap<AgentId, CacheRecord>,
    /// The cache that the lease under way starts from: nobody else can have it.
    pub(super) cache_in_use: Option<CacheRecord>,
    /// How often anything was cached: what tells the least recently used.
    pub(super) cachings: u64,
    /// Sequences of the backend that nobody inserted, to be removed.
    pub(super) strays: BTreeSet<RequestId>,
    pub(super) under_way: Option<Action>,
    /// Whether this turn's step was made.
    pub(super) stepped: bool,
    pub(super) events: Vec<Event>,
    pub(super) counters: Counters,
}

/// What the engine takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    Open,
    Draining {
        deadline: Instant,
    },
    Drained,
    Reconfiguring {
        drained: bool,
    },
    ShutDown,
    /// Its backend failed; what it held is not given up yet.
    Dying(DeathCause),
    Dead(DeathCause),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CacheRecord {
    pub(super) size: CacheSize,
    /// The greater, the more recently used.
    pub(super) used: u64,
}

/// What an engine has done since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters {
    /// Requests accepted.
    pub accepted: u64,
    /// Of those, completed.
    pub completed: u64,
    /// Of those, cancelled.
    pub cancelled: u64,
    /// Of those, failed.
    pub failed: u64,
    /// Steps of the model.
    pub steps: u64,
    /// Tokens generated.
    pub generated: u64,
    /// Prompt tokens computed, those of a preempted request again.
    pub prefilled: u64,
    /// Prompt tokens that a cache has spared.
    pub reused: u64,
    /// Requests that gave their blocks up.
    pub preemptions: u64,
    /// Caches dropped for want of blocks.
    pub evictions: u64,
    /// Sequences the backend returned that nobody had inserted.
    pub unknown_sequences: u64,
    /// Whatever else a backend did that it must not.
    pub faults: u64,
}

impl EngineState {
    /// An engine for the model `spec` on a pool of `total_blocks` blocks.
    ///
    /// # Errors
    /// [`EngineError::Config`] if the configuration makes no sense.
    pub fn new(
        config: EngineConfig,
        pool: PoolId,
        spec: ModelCacheSpec,
        total_blocks: u32,
    ) -> Result<Self, EngineError> {
        config.check()?;
        Ok(EngineState {
            config,
            pool,
            spec,
            total_blocks,
            mode: Mode::Open,
            epoch: 0,
            last_id: 0,
            requests: BTreeMap::new(),
            busy: BTreeMap::new(),
            waiting: BTreeSet::new(),
            leased: BTreeSet::new(),
            live: BTreeSet::new(),
            ending: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            admission: admission::Round::default(),
            prefilled_last: RequestId(0),
            caches: BTreeMap::new(),
            cache_in_use: None,
            cachings: 0,
            strays: BTreeSet::new(),
            under_way: None,
            stepped: false,
            events: Vec::new(),
            counters: Counters::default(),
        })
    }

    /// Accepts a request, or says why not. What is accepted ends exactly once, whatever
    /// happens: [`Event::Ended`] says so.
    ///
    /// # Errors
    /// Each of [`SubmitError`]; the state is unchanged then, but for a drain whose deadline
    /// has passed.
    pub fn submit(&mut self, shape: RequestShape, now: Instant) -> Result<RequestId, SubmitError> {
        // Or a drain that nobody ticked would refuse for longer than it may.
        self.settle(now);
        self.refuse_if_closed()?;
        self.check_shape(&shape, now)?;
        if let Some(&request) = self.busy.get(&shape.agent) {
            return Err(SubmitError::AgentBusy { request });
        }
        if self.waiting.len() >= self.config.max_waiting as usize {
            return Err(SubmitError::QueueFull {
                waiting: self.config.max_waiting,
            });
        }
        self.last_id += 1;
        let id = RequestId(self.last_id);
        self.requests.insert(id, Request::new(shape));
        self.busy.insert(shape.agent, id);
        self.waiting.insert(id);
        self.deadlines.extend(shape.deadline.map(|at| (at, id)));
        self.counters.accepted += 1;
        self.check();
        Ok(id)
    }

    fn refuse_if_closed(&self) -> Result<(), Closed> {
        Err(match &self.mode {
            Mode::Open => return Ok(()),
            Mode::Draining { .. } | Mode::Drained => Closed::Draining,
            Mode::Reconfiguring { .. } => Closed::Reconfiguring,
            Mode::ShutDown => Closed::ShutDown,
            Mode::Dying(cause) | Mode::Dead(cause) => Closed::EngineDead(cause.clone()),
        })
    }

    fn check_shape(&self, shape: &RequestShape, now: Instant) -> Result<(), SubmitError> {
        if shape.agent.pool != self.pool {
            return Err(SubmitError::ForeignAgent);
        }
        if shape.prompt == 0 {
            return Err(SubmitError::EmptyPrompt);
        }
        if shape.max_tokens == 0 {
            return Err(SubmitError::ZeroTokens);
        }
        let Some(len_max) = shape.prompt.checked_add(shape.max_tokens) else {
            return Err(SubmitError::TooLong {
                prompt: shape.prompt as usize,
                max_tokens: shape.max_tokens,
            });
        };
        let needed = admission::blocks_for(&self.spec, len_max);
        if needed > u64::from(self.total_blocks) {
            return Err(SubmitError::NeverFits {
                needed,
                total: self.total_blocks,
            });
        }
        if shape.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(SubmitError::DeadlinePassed);
        }
        Ok(())
    }

    /// Ends a request now, in whatever state it is.
    ///
    /// # Errors
    /// Each of [`CancelError`]; nothing has changed then.
    pub fn cancel(
        &mut self,
        request: RequestId,
        reason: CancelReason,
        now: Instant,
    ) -> Result<(), CancelError> {
        let Some(record) = self.requests.get_mut(&request) else {
            let known = (1..=self.last_id).contains(&request.0);
            return Err(match known {
                true => CancelError::Ended { request },
                false => CancelError::Unknown { request },
            });
        };
        if record.phase == Phase::Ending || record.cancelled.is_some() {
            return Err(CancelError::Ended { request });
        }
        self.cancel_live(request, reason);
        self.settle(now);
        self.check();
        Ok(())
    }

    /// Cancels a request that has not ended, at once or as soon as the action under way allows.
    fn cancel_live(&mut self, id: RequestId, reason: CancelReason) {
        let moving = match &self.under_way {
            Some(Action::Lease(order)) => order.request == id,
            Some(Action::Insert { request, .. } | Action::Preempt { request, .. }) => {
                *request == id
            }
            _ => false,
        };
        match self.requests.get_mut(&id) {
            Some(request) if moving => {
                request.cancelled.get_or_insert(reason);
            }
            Some(_) => self.end(id, End::Cancelled(reason)),
            None => {}
        }
    }

    /// Decides how a request ends, unless that is decided. It is told once it holds nothing.
    pub(super) fn end(&mut self, id: RequestId, end: End) {
        let closing = !matches!(self.mode, Mode::Open | Mode::Draining { .. });
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        if request.phase == Phase::Ending {
            return;
        }
        let worth_keeping = request.in_backend && request.extractable() > 0;
        let failed = matches!(end, End::Failed(_));
        request.extract = request.shape.keep_cache && worth_keeping && !failed && !closing;
        request.phase = Phase::Ending;
        request.end = Some(end);
        self.admission.forget(id);
        for set in [&mut self.waiting, &mut self.leased, &mut self.live] {
            set.remove(&id);
        }
        self.ending.insert(id);
    }

    /// Begins a turn: lets deadlines pass and allows one more step.
    pub fn tick(&mut self, now: Instant) {
        self.stepped = false;
        while let Some(&(deadline, id)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.remove(&(deadline, id));
            let undecided = (self.requests.get(&id))
                .is_some_and(|r| r.phase != Phase::Ending && r.cancelled.is_none());
            if undecided {
                self.cancel_live(id, CancelReason::Deadline);
            }
        }
        self.admission.begin(now);
        self.settle(now);
        self.check();
    }

    /// Refuses requests from this call on, and lets those accepted end by `deadline`. Then
    /// [`Event::Drained`] comes and the engine stays closed, or [`Event::DrainTimedOut`] and it
    /// is open again. One of them for each drain: a drained engine says so again. There is no moment between the check and the refusal (the origin had
    /// one).
    ///
    /// # Errors
    /// Each of [`DrainError`]. Draining a drained engine is none.
    pub fn drain(&mut self, deadline: Instant, now: Instant) -> Result<(), DrainError> {
        self.settle(now);
        match self.mode {
            Mode::Drained => {
                self.events.push(Event::Drained);
                self.check();
                return Ok(());
            }
            Mode::Draining { deadline } => return Err(DrainError::Draining { deadline }),
            _ => self.refuse_if_closed()?,
        }
        self.mode = Mode::Draining { deadline };
        self.settle(now);
        self.check();
        Ok(())
    }

    /// Accepts requests again after a drain, or instead of one under way.
    ///
    /// # Errors
    /// [`Closed`] if the engine is being reconfigured, shut down or dead.
    pub fn resume(&mut self) -> Result<(), Closed> {
        match self.mode {
            Mode::Draining { .. } | Mode::Drained => self.mode = Mode::Open,
            _ => self.refuse_if_closed()?,
        }
        self.check();
        Ok(())
    }

    /// Cancels everything and gives up everything, for good. The driver polls once more to
    /// carry it out. A second call changes nothing; nor does one on a dead engine.
    pub fn shutdown(&mut self, now: Instant) {
        if matches!(self.mode, Mode::ShutDown | Mode::Dying(_) | Mode::Dead(_)) {
            return;
        }
        self.mode = Mode::ShutDown;
        let ids: Vec<RequestId> = self.requests.keys().copied().collect();
        for id in ids {
            self.cancel_live(id, CancelReason::ShutDown);
        }
        for request in self.requests.values_mut() {
            request.extract = false;
        }
        self.settle(now);
        self.check();
    }

    /// Begins a change of model: refuses requests and forgets every cache, because what was
    /// computed with other weights is worth nothing. The driver drops the caches, changes the
    /// pool and the backend, and calls [`Self::end_reconfigure`].
    ///
    /// # Errors
    /// [`ReconfigureError::InUse`] while a request has not ended, [`ReconfigureError::Closed`],
    /// [`ReconfigureError::Busy`] while an action is under way.
    pub fn begin_reconfigure(&mut self) -> Result<(), ReconfigureError> {
        let drained = match self.mode {
            Mode::Open => false,
            Mode::Drained => true,
            // It may hold requests, and may revert.
            Mode::Draining { .. } => {
                return Err(ReconfigureError::InUse {
                    live: self.count_live(),
                });
            }
            _ => {
                self.refuse_if_closed()?;
                false
            }
        };
        if !self.requests.is_empty() {
            return Err(ReconfigureError::InUse {
                live: self.count_live(),
            });
        }
        if self.under_way.is_some() {
            return Err(ReconfigureError::Busy);
        }
        self.mode = Mode::Reconfiguring { drained };
        self.caches.clear();
        self.check();
        Ok(())
    }

    /// Ends a change of model: with the new one, open; or, if nothing came of it, as before.
    pub fn end_reconfigure(&mut self, new: Option<(ModelCacheSpec, u32)>) {
        let Mode::Reconfiguring { drained } = self.mode else {
            // Shut down in the meantime: that stands.
            return;
        };
        self.mode = match (&new, drained) {
            (None, true) => Mode::Drained,
            _ => Mode::Open,
        };
        if let Some((spec, total_blocks)) = new {
            self.spec = spec;
            self.total_blocks = total_blocks;
            self.epoch += 1;
        }
        self.check();
    }

    /// The engine's end, by whatever it was.
    pub fn die(&mut self, cause: DeathCause) {
        if !matches!(self.mode, Mode::Dead(_)) {
            // Whatever was under way will not be answered.
            self.under_way = None;
            self.cache_in_use = None;
            if !matches!(self.mode, Mode::Dying(_)) {
                self.mode = Mode::Dying(cause);
            }
        }
        self.check();
    }

    /// What to do next; `None` if this turn is over. While an action is under way there is
    /// none, until [`Self::done`] has reported its outcome.
    #[must_use]
    pub fn poll(&mut self) -> Option<Action> {
        if self.under_way.is_some() {
            return None;
        }
        let action = self.next_action()?;
        if !matches!(action, Action::Emit(_)) {
            self.under_way = Some(action.clone());
        }
        self.check();
        Some(action)
    }

    /// Reports how the action under way went.
    ///
    /// # Errors
    /// [`UnexpectedOutcome`] if it is no answer to that action; nothing has changed then.
    pub fn done(&mut self, outcome: Outcome, now: Instant) -> Result<(), UnexpectedOutcome> {
        self.apply(outcome, now)?;
        self.settle(now);
        self.check();
        Ok(())
    }

    /// When the driver should begin its next turn, if it is not in one.
    #[must_use]
    pub fn wake(&self) -> Wake {
        if self.has_work() {
            return Wake::Now;
        }
        let drain = match self.mode {
            Mode::Draining { deadline } => Some(deadline),
            _ => None,
        };
        let deadline = self.deadlines.first().map(|first| first.0);
        let retry = self.retry_at();
        match [drain, deadline, retry].into_iter().flatten().min() {
            Some(at) => Wake::At(at),
            None => Wake::OnCall,
        }
    }

    /// Takes an agent's idle cache out of the books: the driver hands it to the caller.
    /// `None` if it has none, or a request that uses it.
    pub fn take_cache(&mut self, agent: AgentId) -> Option<CacheSize> {
        let record = self.caches.remove(&agent)?;
        self.check();
        Some(record.size)
    }

    /// Notes that an agent has a cache of `size` for its next request.
    ///
    /// # Errors
    /// Each of [`PutCacheError`] that does not concern the blocks themselves.
    pub fn put_cache(&mut self, agent: AgentId, size: CacheSize) -> Result<(), PutCacheError> {
        self.refuse_if_closed()?;
        if agent.pool != self.pool {
            return Err(PutCacheError::ForeignPool);
        }
        if size.tokens == 0 || size.blocks == 0 {
            return Err(PutCacheError::Empty);
        }
        if self.busy.contains_key(&agent) || self.caches.contains_key(&agent) {
            return Err(PutCacheError::AgentBusy);
        }
        self.note_cache(agent, size);
        self.check();
        Ok(())
    }

    pub(super) fn note_cache(&mut self, agent: AgentId, size: CacheSize) {
        self.cachings += 1;
        let used = self.cachings;
        self.caches.insert(agent, CacheRecord { size, used });
    }

    /// Ends a drain that is over, either way.
    fn settle(&mut self, now: Instant) {
        let Mode::Draining { deadline } = self.mode else {
            return;
        };
        if self.requests.is_empty() {
            self.mode = Mode::Drained;
            self.events.push(Event::Drained);
        } else if deadline <= now {
            self.mode = Mode::Open;
            let left = self.count_live();
            self.events.push(Event::DrainTimedOut { left });
        }
    }

    /// Everything at one instant.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let count = |set: &BTreeSet<RequestId>| u32::try_from(set.len()).unwrap_or(u32::MAX);
        let cached = self
            .caches
            .values()
            .map(|cache| u64::from(cache.size.blocks));
        let held = self.requests.values().map(|r| u64::from(r.blocks));
        Snapshot {
            requests: RequestCounts {
                waiting: count(&self.waiting),
                running: count(&self.leased) + count(&self.live),
                ending: count(&self.ending),
            },
            caches: u32::try_from(self.caches.len()).unwrap_or(u32::MAX),
            blocks_cached: cached.sum(),
            blocks_held: held.sum(),
            epoch: self.epoch,
            counters: self.counters.clone(),
        }
    }

    /// Why the engine takes no requests; `None` if it does.
    #[must_use]
    pub fn closed(&self) -> Option<Closed> {
        self.refuse_if_closed().err()
    }

    /// The model the engine serves now.
    #[must_use]
    pub fn spec(&self) -> &ModelCacheSpec {
        &self.spec
    }

    /// How the engine is set up.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Whether every property of [`invariants`](super::invariants) holds.
    ///
    /// # Errors
    /// The first that does not, with what was found.
    pub fn validate(&self) -> Result<(), InvariantViolation> {
        invariants::check_all(self)
    }

    pub(super) fn count_live(&self) -> u32 {
        u32::try_from(self.requests.len()).unwrap_or(u32::MAX)
    }

    #[inline]
    fn check(&self) {
        debug_assert_eq!(self.validate(), Ok(()));
    }
}
