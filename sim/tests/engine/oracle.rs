//! [`Oracle`]: what callers of an engine may rely on, in the plainest words there are. It does
//! not know in which order an engine does what. It knows which requests must be accepted, which
//! tokens each must come to, by what it may end, and that it ends once.
//!
//! Nothing here may be borrowed from `EngineState`: two copies of one mistake agree.

use std::collections::{BTreeMap, BTreeSet};

use selvedge_core::engine::{CancelReason, End, Event, Fault, Finish};
use selvedge_core::time::Instant;
use selvedge_core::{AgentId, ModelCacheSpec, RequestId};

use selvedge_sim::content::Weights;
use selvedge_sim::faulty::{self, Call, Hit};

pub(crate) struct Oracle {
    pub(crate) spec: ModelCacheSpec,
    weights: Weights,
    pub(crate) blocks: u32,
    max_waiting: u32,
    max_overtakes: u32,
    mode: Mode,
    pub(crate) requests: BTreeMap<RequestId, Record>,
    /// Of each agent, all it has said and heard.
    pub(crate) history: BTreeMap<AgentId, Vec<u32>>,
    /// Of each agent, the longest that can be cached.
    cached: BTreeMap<AgentId, Vec<u32>>,
    pub(crate) dead: bool,
    /// Drains that were begun, and whose end was not told.
    drains: u32,
    pub(crate) reached: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Open,
    Draining(Instant),
    Drained,
    ShutDown,
}

pub(crate) struct Record {
    agent: AgentId,
    prompt: Vec<u32>,
    keep: bool,
    deadline: Option<Instant>,
    tokens: Vec<u32>,
    wanted: (Vec<u32>, Finish),
    started: bool,
    /// It waits: neither started nor over, nor is its end decided.
    waits: bool,
    overtaken: u32,
    preempted: u32,
    cancelled: BTreeSet<&'static str>,
    may_fail: BTreeSet<&'static str>,
    ended: bool,
}

impl Oracle {
    pub(crate) fn new(
        (spec, weights): (ModelCacheSpec, Weights),
        blocks: u32,
        max_waiting: u32,
        max_overtakes: u32,
    ) -> Self {
        Oracle {
            spec,
            weights,
            blocks,
            max_waiting,
            max_overtakes,
            mode: Mode::Open,
            requests: BTreeMap::new(),
            history: BTreeMap::new(),
            cached: BTreeMap::new(),
            dead: false,
            drains: 0,
            reached: BTreeSet::new(),
        }
    }

    /// Requests that have not ended.
    pub(crate) fn live(&self) -> usize {
        self.requests.values().filter(|r| !r.ended).count()
    }

    /// A drain ends when all requests have, or by its deadline.
    pub(crate) fn settle(&mut self, now: Instant) {
        if let Mode::Draining(deadline) = self.mode {
            if self.live() == 0 {
                self.mode = Mode::Drained;
            } else if deadline <= now {
                self.mode = Mode::Open;
            }
        }
    }

    /// Whether a request must be accepted, or by which error it must be refused. `waiting` is
    /// how many wait, which only the engine knows.
    pub(crate) fn may_submit(
        &mut self,
        agent: AgentId,
        (prompt, max_tokens): (&[u32], u32),
        deadline: Option<Instant>,
        (now, waiting): (Instant, u32),
    ) -> Result<(), &'static str> {
        self.settle(now);
        ensure(!self.dead, "Closed")?;
        ensure(self.mode == Mode::Open, "Closed")?;
        ensure(!prompt.is_empty(), "EmptyPrompt")?;
        ensure(max_tokens > 0, "ZeroTokens")?;
        let tokens = prompt.len() as u32 + max_tokens;
        let needed: u32 = (0..self.spec.n_layers())
            .map(|layer| {
                let cap = self
                    .spec
                    .max_blocks_for_layer(selvedge_core::LayerId(layer));
                tokens.div_ceil(4).min(cap.unwrap_or(u32::MAX))
            })
            .sum();
        ensure(needed <= self.blocks, "NeverFits")?;
        ensure(
            deadline.is_none_or(|deadline| deadline > now),
            "DeadlinePassed",
        )?;
        let free = self.requests.values().all(|r| r.ended || r.agent != agent);
        ensure(free, "AgentBusy")?;
        ensure(waiting < self.max_waiting, "QueueFull")
    }

    pub(crate) fn submitted(
        &mut self,
        id: RequestId,
        agent: AgentId,
        (prompt, max_tokens): (&[u32], u32),
        (keep, deadline): (bool, Option<Instant>),
    ) -> Result<(), String> {
        let record = Record {
            agent,
            prompt: prompt.to_vec(),
            keep,
            deadline,
            tokens: Vec::new(),
            wanted: self.weights.expected(&self.spec, prompt, max_tokens),
            started: false,
            waits: true,
            overtaken: 0,
            preempted: 0,
            cancelled: BTreeSet::new(),
            may_fail: BTreeSet::new(),
            ended: false,
        };
        match self.requests.insert(id, record) {
            None => Ok(()),
            Some(_) => Err(format!("{id} was given out twice")),
        }
    }

    pub(crate) fn cancelled(&mut self, id: RequestId) {
        if let Some(record) = self.requests.get_mut(&id) {
            record.cancelled.insert("Requested");
            record.waits = false;
        }
    }

    /// `Err` is the class of the refusal that must come.
    pub(crate) fn drain(&mut self, deadline: Instant, now: Instant) -> Result<(), &'static str> {
        self.settle(now);
        ensure(!self.dead, "Closed")?;
        match self.mode {
            Mode::Drained => {}
            Mode::Draining(_) => return Err("Draining"),
            Mode::ShutDown => return Err("Closed"),
            Mode::Open => self.mode = Mode::Draining(deadline),
        }
        self.drains += 1;
        self.settle(now);
        Ok(())
    }

    pub(crate) fn resume(&mut self, now: Instant) -> Result<(), &'static str> {
        self.settle(now);
        ensure(!self.dead, "Closed")?;
        match self.mode {
            Mode::ShutDown => return Err("Closed"),
            _ => self.mode = Mode::Open,
        }
        Ok(())
    }

    pub(crate) fn shut_down(&mut self) {
        if self.dead {
            return;
        }
        // What was begun with a cache goes on being told.
        self.mode = Mode::ShutDown;
        for record in self.requests.values_mut().filter(|r| !r.ended) {
            record.cancelled.insert("ShutDown");
            record.waits = false;
        }
    }

    pub(crate) fn reconfigure(&mut self) -> Result<(), &'static str> {
        ensure(!self.dead && self.mode != Mode::ShutDown, "Closed")?;
        ensure(self.live() == 0, "InUse")?;
        self.cached.clear();
        Ok(())
    }

    pub(crate) fn reconfigured(&mut self, (spec, weights): (ModelCacheSpec, Weights), blocks: u32) {
        self.mode = Mode::Open;
        self.reached.insert(match weights == self.weights {
            true => "the same weights".to_owned(),
            false => "other weights".to_owned(),
        });
        self.spec = spec;
        self.weights = weights;
        self.blocks = blocks;
    }

    pub(crate) fn cache_taken(&mut self, agent: AgentId, tokens: &[u32]) -> Result<(), String> {
        match self.cached.remove(&agent) {
            Some(whole) if whole.starts_with(tokens) => Ok(()),
            other => Err(format!("took {tokens:?}, known is {other:?}")),
        }
    }

    pub(crate) fn cache_put(&mut self, agent: AgentId, tokens: &[u32]) {
        self.cached.insert(agent, tokens.to_vec());
    }

    /// Its window's blocks are in a cache that somebody has taken out.
    pub(crate) fn window_is_used(&mut self, agent: AgentId) {
        for record in self
            .requests
            .values_mut()
            .filter(|r| !r.ended && r.agent == agent)
        {
            record.may_fail.insert("PoolRefused");
        }
    }

    /// What a backend did wrong to whom: what may come of it.
    pub(crate) fn wronged(&mut self, hit: Hit) {
        let Hit { call, fault, .. } = hit;
        self.reached.insert(format!("{call}: {}", class(&fault)));
        if fault.ends_engine(call) {
            self.dead = true;
            for record in self.requests.values_mut().filter(|r| !r.ended) {
                record.may_fail.insert("EngineDead");
            }
            return;
        }
        let reason = match (call, fault) {
            (_, faulty::Fault::Slow { .. }) => return,
            (Call::Insert, _) => "InsertFailed",
            (_, faulty::Fault::DuplicateToken | faulty::Fault::UnplannedId) => "Protocol",
            (_, faulty::Fault::Silence) => "Silent",
            _ => return,
        };
        if let Some(record) = hit.request.and_then(|id| self.requests.get_mut(&id)) {
            record.may_fail.insert(reason);
        }
    }

    /// Takes note of what was told, in the step made at `now`.
    pub(crate) fn told(&mut self, event: &Event, now: Instant) -> Result<(), String> {
        self.reach(event);
        match event {
            Event::Started { request, reused } => self.started(*request, *reused),
            Event::Token {
                request,
                token,
                index,
            } => {
                let record = self.running(*request)?;
                let place = record.tokens.len();
                if *index as usize != place || record.wanted.0.get(place) != Some(token) {
                    let wanted = &record.wanted.0;
                    return Err(format!("{event:?}, after {place} of {wanted:?}"));
                }
                record.tokens.push(*token);
                Ok(())
            }
            Event::Preempted { request } => {
                let record = self.running(*request)?;
                record.started = false;
                record.waits = true;
                record.preempted += 1;
                match record.preempted {
                    1 => Ok(()),
                    n => Err(format!("{request} gave way {n} times")),
                }
            }
            Event::Ended(ended) => {
                let (id, end) = (ended.request, &ended.end);
                let generated = ended.generated;
                self.ended(id, end, generated, ended.cached, now)
            }
            Event::Fault(Fault::UnknownSequence { request })
                if self.requests.contains_key(request) =>
            {
                Err(format!("{request} is known"))
            }
            Event::Drained | Event::DrainTimedOut { .. } => {
                self.drains = (self.drains.checked_sub(1))
                    .ok_or("a drain has ended that nobody had begun, or twice")?;
                Ok(())
            }
            Event::Died(cause) if !self.dead => {
                Err(format!("nobody did wrong, and it died: {cause}"))
            }
            Event::Died(_) => {
                self.cached.clear();
                Ok(())
            }
            Event::Fault(_) => Ok(()),
        }
    }

    fn started(&mut self, id: RequestId, reused: u32) -> Result<(), String> {
        let cached = self
            .requests
            .get(&id)
            .and_then(|r| self.cached.remove(&r.agent));
        let record = self
            .requests
            .get_mut(&id)
            .filter(|r| !r.ended && !r.started);
        let record = record.ok_or_else(|| format!("{id} started, and should not"))?;
        record.started = true;
        record.waits = false;
        let sequence = [record.prompt.as_slice(), &record.tokens].concat();
        let known = cached.unwrap_or_default();
        let common = known
            .iter()
            .zip(&sequence)
            .take_while(|(a, b)| a == b)
            .count();
        if reused as usize > common || reused as usize >= sequence.len() {
            return Err(format!("{id} reuses {reused} of {common} in common"));
        }
        let window = self.spec.sliding_window_tokens();
        let slid = window.is_some_and(|window| reused > window);
        for (is, what) in [
            (slid, "reused what has slid"),
            (
                reused as usize == known.len() && reused > 0,
                "reused all of a cache",
            ),
            (
                reused > 0 && (reused as usize) < known.len(),
                "reused a part of a cache",
            ),
            (
                reused > 0 && self.spec.n_layers() > 1,
                "reused in several layers",
            ),
            (common > 0 && reused == 0, "nothing reused"),
        ] {
            if is {
                self.reached.insert(what.to_owned());
            }
        }
        let most = self.max_overtakes;
        for (&other, record) in self.requests.range_mut(..id).filter(|of| of.1.waits) {
            record.overtaken += 1;
            if record.overtaken > most {
                return Err(format!("{other} is overtaken by {id}, once too often"));
            }
            self.reached.insert("overtaken".to_owned());
        }
        Ok(())
    }

    fn running(&mut self, id: RequestId) -> Result<&mut Record, String> {
        let record = self.requests.get_mut(&id).filter(|r| r.started && !r.ended);
        record.ok_or_else(|| format!("{id} does not run"))
    }

    fn ended(
        &mut self,
        id: RequestId,
        end: &End,
        generated: u32,
        cached: u32,
        now: Instant,
    ) -> Result<(), String> {
        let record = self.requests.get_mut(&id).filter(|r| !r.ended);
        let record = record.ok_or_else(|| format!("{id} ended twice, or never was"))?;
        record.ended = true;
        record.waits = false;
        let why = match end {
            End::Completed(finish)
                if (&record.tokens, finish) != (&record.wanted.0, &record.wanted.1) =>
            {
                return Err(format!("{id} ended by {finish:?} with {:?}", record.tokens));
            }
            End::Completed(_) => Ok(()),
            End::Cancelled(CancelReason::Deadline) => {
                let passed = record.deadline.is_some_and(|deadline| deadline <= now);
                ensure(passed, "its deadline")
            }
            End::Cancelled(reason) => {
                let name = format!("{reason:?}");
                ensure(record.cancelled.contains(name.as_str()), "nobody's call")
            }
            End::Failed(reason) => {
                let name = class(reason);
                ensure(
                    record.may_fail.contains(name.as_str()),
                    "nothing that went wrong",
                )
            }
        };
        why.map_err(|why| format!("{id} ended by {end:?}, which was {why}"))?;
        if generated as usize != record.tokens.len() {
            return Err(format!(
                "{id}: {generated} generated, told {:?}",
                record.tokens
            ));
        }
        let mut sequence = [record.prompt.as_slice(), &record.tokens].concat();
        let complete = matches!(end, End::Completed(_));
        let whole = sequence.len();
        let right = if complete {
            cached == 0 || cached as usize == whole
        } else {
            true
        };
        if !right || (record.started && cached as usize > whole) {
            return Err(format!("{id} has {cached} cached of {whole}"));
        }
        let agent = record.agent;
        if complete || (cached > 0 && record.started) {
            self.history.insert(agent, sequence.clone());
        }
        if cached > 0 {
            // A request that gave its blocks back unused leaves the cache it was to start from.
            let untouched = !record.started;
            if !untouched && !record.keep {
                return Err(format!("{id} was to leave no cache"));
            }
            if untouched {
                return match self.cached.get(&agent) {
                    Some(known) if known.len() >= cached as usize => Ok(()),
                    known => Err(format!("{id} leaves {cached} cached of {known:?}")),
                };
            }
            sequence.truncate(cached as usize);
            self.cached.insert(agent, sequence);
        }
        Ok(())
    }

    /// Nothing is left to be told, at rest.
    pub(crate) fn all_told(&self) -> Result<(), String> {
        match self.requests.iter().find(|(_, record)| !record.ended) {
            Some((id, _)) => Err(format!("{id} never ended")),
            None => Ok(()),
        }
    }

    fn reach(&mut self, event: &Event) {
        let what = match event {
            Event::Ended(ended) => match &ended.end {
                End::Failed(reason) => format!("failed: {}", class(reason)),
                End::Cancelled(reason) => format!("cancelled: {reason:?}"),
                End::Completed(finish) => format!("completed: {finish:?}"),
            },
            Event::Started { reused: 1.., .. } => "reused".to_owned(),
            Event::Fault(fault) => format!("fault: {}", class(fault)),
            other => class(other).to_lowercase(),
        };
        if !self.reached.contains(&what) {
            self.reached.insert(what);
        }
    }
}

fn ensure<E>(holds: bool, otherwise: E) -> Result<(), E> {
    if holds { Ok(()) } else { Err(otherwise) }
}

/// The name of a variant.
pub(crate) fn class(of: &impl std::fmt::Debug) -> String {
    let text = format!("{of:?}");
    let end = text.find([' ', '{', '(']).unwrap_or(text.len());
    text[..end].to_owned()
}
