//! One turn of the engine: which action comes next, and what its outcome changes.
//!
//! What frees comes before what takes: endings, then growth, then admission, then the step, then
//! the endings it has caused. A turn has one step, so that whoever calls comes between steps.

use super::action::{Action, CacheSize, End, Ended, Event, Fault, LeaseOrder, Outcome, StepPlan};
use super::error::{DeathCause, FailReason, UnexpectedOutcome};
use super::generator::{Finish, Produced};
use super::request::Phase;
use super::state::{CacheRecord, EngineState, Mode};
use crate::RequestId;
use crate::pool::AllocateError;
use crate::time::Instant;

impl EngineState {
    pub(super) fn next_action(&mut self) -> Option<Action> {
        match self.mode {
            Mode::Dying(_) => return Some(Action::Abandon),
            Mode::Dead(_) => return self.emit(),
            _ => {}
        }
        if let Some(request) = self.strays.pop_first() {
            return Some(Action::Remove { request });
        }
        if let Some(&id) = self.ending.first() {
            return Some(self.next_of_ending(id));
        }
        if self.mode == Mode::ShutDown
            && let Some((&agent, _)) = self.caches.first_key_value()
        {
            self.note_eviction(agent);
            return Some(Action::Evict { agent });
        }
        if let Some(&request) = self.leased.first() {
            let record = &self.requests[&request];
            let max_tokens = record.shape.max_tokens - record.generated;
            return Some(Action::Insert {
                request,
                max_tokens,
            });
        }
        if let Some(action) = self.next_growth().or_else(|| self.next_admission()) {
            match &action {
                Action::Lease(order) => self.take_cache_into_use(order),
                Action::Evict { agent } => self.note_eviction(*agent),
                _ => {}
            }
            return Some(action);
        }
        if !self.stepped && !self.live.is_empty() {
            let plan = self.step_plan();
            if !(plan.decode.is_empty() && plan.prefill.is_empty()) {
                self.stepped = true;
                return Some(Action::Step(plan));
            }
        }
        self.emit()
    }

    fn emit(&mut self) -> Option<Action> {
        if self.events.is_empty() {
            return None;
        }
        Some(Action::Emit(core::mem::take(&mut self.events)))
    }

    fn next_of_ending(&self, request: RequestId) -> Action {
        let record = &self.requests[&request];
        if record.extract {
            let tokens = record.extractable();
            return Action::Extract { request, tokens };
        }
        if record.in_backend {
            return Action::Remove { request };
        }
        Action::Release { request }
    }

    /// While a request is leased its blocks, its agent's cache is nobody's: it cannot be
    /// evicted or taken.
    fn take_cache_into_use(&mut self, order: &LeaseOrder) {
        if order.cached {
            self.cache_in_use = self.caches.remove(&order.agent);
        }
    }

    pub(super) fn apply(
        &mut self,
        outcome: Outcome,
        now: Instant,
    ) -> Result<(), UnexpectedOutcome> {
        let (action, outcome) = self.matching(outcome)?;
        match (action, outcome) {
            (_, Outcome::Panicked { call, message }) => {
                self.die(DeathCause::Panicked { call, message });
            }
            (Action::Lease(order), Outcome::Leased { blocks, reused }) => {
                self.leased(&order, blocks, reused);
            }
            (Action::Lease(order), Outcome::LeaseRefused { error, cache }) => {
                self.lease_refused(&order, error, cache, now);
            }
            (Action::Grow { request, capacity }, Outcome::Grown { blocks }) => {
                self.admission.evicting = None;
                let capacity = self.whole_blocks(capacity);
                if let Some(record) = self.requests.get_mut(&request) {
                    record.blocks = blocks;
                    record.capacity = capacity;
                }
            }
            (Action::Grow { request, .. }, Outcome::GrowRefused(error)) => {
                self.grow_refused(request, error, now);
            }
            (Action::Insert { request, .. }, Outcome::Inserted) => self.inserted(request),
            (Action::Insert { request, .. }, Outcome::InsertFailed { message }) => {
                let reason = FailReason::InsertFailed { message };
                self.end_as_cancelled_or(request, End::Failed(reason));
            }
            (Action::Step(plan), Outcome::Stepped(produced)) => self.take_step(&plan, &produced),
            (Action::Step(_), Outcome::StepFailed { message }) => {
                self.die(DeathCause::StepFailed { message });
            }
            (Action::Extract { request, .. }, Outcome::Extracted(size)) => {
                self.extracted(request, size);
            }
            (Action::Extract { request, .. }, Outcome::ExtractFailed { message }) => {
                self.counters.faults += 1;
                let fault = Fault::ExtractFailed { request, message };
                self.events.push(Event::Fault(fault));
                if let Some(record) = self.requests.get_mut(&request) {
                    record.extract = false;
                }
            }
            (Action::Remove { request }, Outcome::Removed) => {
                let record = self.requests.get_mut(&request);
                if let Some(record) = record.filter(|r| r.phase == Phase::Ending) {
                    record.in_backend = false;
                }
            }
            (Action::Release { request }, Outcome::Released { cache }) => {
                self.released(request, cache);
            }
            (Action::Preempt { request, .. }, Outcome::Preempted) => self.preempted(request),
            // Whoever it was for is still the next to be asked.
            (Action::Evict { .. }, Outcome::Evicted) => {}
            (Action::Abandon, Outcome::Abandoned) => self.abandoned(),
            _ => debug_assert!(false, "`matching` lets no other pair through"),
        }
        Ok(())
    }

    /// The action under way, taken, if `outcome` answers it.
    fn matching(&mut self, outcome: Outcome) -> Result<(Action, Outcome), UnexpectedOutcome> {
        let fits = match (&self.under_way, &outcome) {
            (Some(Action::Abandon), Outcome::Panicked { .. }) | (None, _) => false,
            (Some(_), Outcome::Panicked { .. }) => true,
            (Some(action), outcome) => answers(action, outcome),
        };
        match self.under_way.take_if(|_| fits) {
            Some(action) => Ok((action, outcome)),
            None => Err(UnexpectedOutcome {
                outcome: outcome.name(),
                under_way: self.under_way.as_ref().map_or("nothing", Action::name),
            }),
        }
    }

    fn leased(&mut self, order: &LeaseOrder, blocks: u32, reused: u32) {
        let id = order.request;
        self.cache_in_use = None;
        self.admission.evicting = None;
        self.waiting.remove(&id);
        self.note_overtaking(id);
        self.admission.forget(id);
        let capacity = self.whole_blocks(order.capacity);
        let Some(record) = self.requests.get_mut(&id) else {
            return;
        };
        record.blocks = blocks;
        record.capacity = capacity;
        record.computed = reused.min(order.len - 1);
        record.phase = Phase::Leased;
        self.leased.insert(id);
        self.end_if_cancelled(id);
    }

    fn lease_refused(
        &mut self,
        order: &LeaseOrder,
        error: AllocateError,
        cache: Option<CacheSize>,
        now: Instant,
    ) {
        let id = order.request;
        if let (Some(record), Some(size)) = (self.cache_in_use.take(), cache) {
            let used = record.used;
            self.caches.insert(order.agent, CacheRecord { size, used });
        }
        self.end_if_cancelled(id);
        if !self.waiting.contains(&id) {
            return;
        }
        match self.shortage(error, order.keep_free) {
            None => self.end(id, End::Failed(FailReason::PoolRefused(error))),
            Some(short) => {
                if !self.make_room(id, short) {
                    self.pass_over(id);
                    self.retry_later(now);
                }
            }
        }
    }

    fn grow_refused(&mut self, id: RequestId, error: AllocateError, now: Instant) {
        match self.shortage(error, 0) {
            None => self.end(id, End::Failed(FailReason::PoolRefused(error))),
            Some(short) => {
                if self.live.contains(&id) && !self.make_room(id, short) {
                    let alone = self.growing().all(|other| other == id);
                    // Then the rest is in the idle caches of older requests that wait, and what
                    // they wait for may be what this one holds.
                    let others_wait = self.idle_blocks() >= u64::from(short);
                    if alone && !others_wait {
                        // It keeps what it has. Whoever else runs will end, having all it
                        // needs; the rest is with others than this engine.
                        self.admission.starved.insert(id);
                        self.retry_later(now);
                    } else {
                        // The youngest gives way, be it this one.
                        self.admission.preempt = true;
                    }
                }
            }
        }
    }

    fn retry_later(&mut self, now: Instant) {
        let at = now + self.config.retry;
        self.admission.retry_at.get_or_insert(at);
    }

    fn inserted(&mut self, id: RequestId) {
        self.leased.remove(&id);
        let Some(record) = self.requests.get_mut(&id) else {
            return;
        };
        record.in_backend = true;
        if record.phase == Phase::Leased {
            record.phase = Phase::Live;
            self.live.insert(id);
            let reused = record.computed;
            self.counters.reused += u64::from(reused);
            let started = Event::Started {
                request: id,
                reused,
            };
            self.events.push(started);
        }
        self.end_if_cancelled(id);
    }

    fn take_step(&mut self, plan: &StepPlan, produced: &[Produced]) {
        self.counters.steps += 1;
        for chunk in &plan.prefill {
            self.prefilled_last = chunk.request;
            self.counters.prefilled += u64::from(chunk.end - chunk.start);
            if let Some(record) = self.requests.get_mut(&chunk.request) {
                record.computed = chunk.end;
            }
        }
        let mut answered = vec![false; plan.decode.len()];
        for &one in produced {
            let place = plan.decode.binary_search(&one.request).ok();
            let again = place.is_some_and(|place| core::mem::replace(&mut answered[place], true));
            self.take_produced(one, place.is_some(), again);
        }
        for (&id, _) in plan.decode.iter().zip(&answered).filter(|of| !of.1) {
            self.note_silence(id);
        }
    }

    fn take_produced(&mut self, one: Produced, planned: bool, again: bool) {
        let id = one.request;
        let phase = self.requests.get(&id).map(|record| record.phase);
        match phase {
            // Its end came while the step was under way.
            Some(Phase::Ending) if !again => {}
            Some(Phase::Ending) => {
                self.counters.faults += 1;
                self.events
                    .push(Event::Fault(Fault::Duplicate { request: id }));
            }
            Some(Phase::Live) if planned && !again => self.take_token(one),
            Some(Phase::Live) => {
                self.counters.faults += 1;
                self.end(id, End::Failed(FailReason::Protocol));
            }
            // Not in the backend, as far as the engine knows.
            Some(Phase::Waiting | Phase::Leased) | None => {
                self.counters.unknown_sequences += 1;
                self.strays.insert(id);
                let fault = Fault::UnknownSequence { request: id };
                self.events.push(Event::Fault(fault));
            }
        }
    }

    fn take_token(&mut self, one: Produced) {
        let Some(record) = self.requests.get_mut(&one.request) else {
            return;
        };
        record.silent = 0;
        if one.finish == Some(Finish::Stop) {
            record.computed = record.len();
            return self.end(one.request, End::Completed(Finish::Stop));
        }
        let index = record.generated;
        record.generated += 1;
        record.computed = record.len();
        self.counters.generated += 1;
        let all = record.generated >= record.shape.max_tokens;
        self.events.push(Event::Token {
            request: one.request,
            token: one.token,
            index,
        });
        if all || one.finish.is_some() {
            self.end(one.request, End::Completed(Finish::Length));
        }
    }

    fn note_silence(&mut self, id: RequestId) {
        let record = self.requests.get_mut(&id);
        let Some(record) = record.filter(|record| record.phase == Phase::Live) else {
            return;
        };
        record.silent += 1;
        let steps = record.silent;
        if steps > self.config.max_silent_steps {
            self.counters.faults += 1;
            self.end(id, End::Failed(FailReason::Silent { steps }));
        }
    }

    fn extracted(&mut self, id: RequestId, size: CacheSize) {
        let Some(record) = self.requests.get_mut(&id) else {
            return;
        };
        record.extract = false;
        record.blocks = 0;
        record.capacity = 0;
        self.cached(id, size);
        // What it had beyond its last token came back.
        self.admission.reopen();
    }

    fn preempted(&mut self, id: RequestId) {
        self.counters.preemptions += 1;
        self.live.remove(&id);
        self.admission.reopen();
        let Some(record) = self.requests.get_mut(&id) else {
            return;
        };
        record.in_backend = false;
        record.blocks = 0;
        record.capacity = 0;
        record.computed = 0;
        record.silent = 0;
        record.preempted = true;
        if record.phase == Phase::Live {
            record.phase = Phase::Waiting;
            self.waiting.insert(id);
            self.events.push(Event::Preempted { request: id });
        }
        self.end_if_cancelled(id);
    }

    fn released(&mut self, id: RequestId, cache: Option<CacheSize>) {
        self.admission.reopen();
        let Some(record) = self.requests.get_mut(&id) else {
            return;
        };
        record.blocks = 0;
        if let Some(size) = cache {
            self.cached(id, size);
        }
        self.tell_end(id);
    }

    /// A request's blocks are its agent's cache now; not for long if the engine is shut down.
    fn cached(&mut self, id: RequestId, size: CacheSize) {
        let stays = self.mode != Mode::ShutDown;
        if let Some(record) = self.requests.get_mut(&id) {
            record.cached = if stays { size.tokens } else { 0 };
            let agent = record.shape.agent;
            self.note_cache(agent, size);
        }
    }

    /// Forgets a request that holds nothing any more, and tells its end.
    fn tell_end(&mut self, id: RequestId) {
        let Some(record) = self.requests.remove(&id) else {
            return;
        };
        let end = record.end.unwrap_or_else(|| match &self.mode {
            Mode::Dying(cause) => End::Failed(FailReason::EngineDead(cause.clone())),
            // INVARIANT: only an engine that dies ends requests whose end was not decided.
            _ => End::Failed(FailReason::Protocol),
        });
        match end {
            End::Completed(_) => self.counters.completed += 1,
            End::Cancelled(_) => self.counters.cancelled += 1,
            End::Failed(_) => self.counters.failed += 1,
        }
        for set in [
            &mut self.waiting,
            &mut self.leased,
            &mut self.live,
            &mut self.ending,
        ] {
            set.remove(&id);
        }
        self.busy.remove(&record.shape.agent);
        self.admission.forget(id);
        if let Some(deadline) = record.shape.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        self.events.push(Event::Ended(Ended {
            request: id,
            agent: record.shape.agent,
            end,
            prompt: record.shape.prompt,
            generated: record.generated,
            cached: record.cached,
        }));
    }

    fn abandoned(&mut self) {
        let Mode::Dying(cause) = self.mode.clone() else {
            return;
        };
        self.events.push(Event::Died(cause.clone()));
        self.caches.clear();
        self.cache_in_use = None;
        self.strays.clear();
        let ids: Vec<RequestId> = self.requests.keys().copied().collect();
        for id in ids {
            if let Some(record) = self.requests.get_mut(&id) {
                // A cache that was extracted went with the rest.
                record.cached = 0;
                if let (None, Some(reason)) = (&record.end, record.cancelled) {
                    record.end = Some(End::Cancelled(reason));
                }
            }
            self.tell_end(id);
        }
        self.mode = Mode::Dead(cause);
    }

    /// A cancellation that had to wait for the action under way.
    fn end_if_cancelled(&mut self, id: RequestId) {
        if let Some(reason) = self.requests.get(&id).and_then(|record| record.cancelled) {
            self.end(id, End::Cancelled(reason));
        }
    }

    fn end_as_cancelled_or(&mut self, id: RequestId, end: End) {
        self.end_if_cancelled(id);
        self.end(id, end);
    }

    /// Tokens that the blocks for `capacity` tokens are good for.
    fn whole_blocks(&self, capacity: u32) -> u32 {
        let block = self.spec.block_tokens();
        capacity.div_ceil(block).saturating_mul(block)
    }
}

/// Whether `outcome` is one of those that `action` can have.
fn answers(action: &Action, outcome: &Outcome) -> bool {
    matches!(
        (action, outcome),
        (
            Action::Lease(_),
            Outcome::Leased { .. } | Outcome::LeaseRefused { .. }
        ) | (
            Action::Grow { .. },
            Outcome::Grown { .. } | Outcome::GrowRefused(_)
        ) | (
            Action::Insert { .. },
            Outcome::Inserted | Outcome::InsertFailed { .. }
        ) | (
            Action::Step(_),
            Outcome::Stepped(_) | Outcome::StepFailed { .. }
        ) | (
            Action::Extract { .. },
            Outcome::Extracted(_) | Outcome::ExtractFailed { .. }
        ) | (Action::Remove { .. }, Outcome::Removed)
            | (Action::Release { .. }, Outcome::Released { .. })
            | (Action::Preempt { .. }, Outcome::Preempted)
            | (Action::Evict { .. }, Outcome::Evicted)
            | (Action::Abandon, Outcome::Abandoned)
    )
}
