//! Every call at every moment. A driver works on `EngineState` in small moves, each a poll or an
//! outcome; between any two of them somebody cancels, shuts down, drains or asks for more. All
//! of those moments are tried (catalogue: `cancel-in-every-state`), with and without a cache to
//! start from and under both admissions. Whatever comes when, each request ends once, every
//! block is back and the backend knows nobody.
#![allow(clippy::unwrap_used, reason = "all of this file is one test")]

use std::collections::{BTreeMap, BTreeSet};

use selvedge_core::engine::{
    Action, Admission, CacheSize, CancelReason, EngineConfig, EngineState, Event, Outcome,
    Produced, RequestShape,
};
use selvedge_core::time::Instant;
use selvedge_core::{AgentId, ModelCacheSpec, PoolId, PoolState, RequestId};

const BLOCKS: u32 = 6;

/// What may come in between.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Cancel(u64),
    Shutdown,
    Drain,
    /// With a deadline that has passed already.
    DrainNow,
    Submit,
    TakeCache,
    /// The action under way panics instead.
    Panic,
    /// The blocks asked for are refused; the backend refuses what is inserted.
    Refuse,
}

const CALLS: [Call; 9] = [
    Call::Cancel(1),
    Call::Cancel(2),
    Call::Shutdown,
    Call::Drain,
    Call::DrainNow,
    Call::Submit,
    Call::TakeCache,
    Call::Panic,
    Call::Refuse,
];

/// A driver that keeps only counts: of blocks, by request and cached, and who is inserted.
struct World {
    engine: EngineState,
    agents: Vec<AgentId>,
    held: BTreeMap<RequestId, u32>,
    cached: BTreeMap<AgentId, CacheSize>,
    inserted: BTreeSet<RequestId>,
    ended: Vec<RequestId>,
    /// Cancelled while their blocks were fetched or given up: nothing may follow on that.
    doomed: BTreeSet<RequestId>,
    dead: bool,
    refuse: bool,
    panic: bool,
    /// Which actions the call came in the middle of.
    met: BTreeSet<&'static str>,
}

impl World {
    fn new(admission: Admission, cached: bool) -> Self {
        let (id, spec) = (PoolId(1), ModelCacheSpec::new(1, 1, 8, 1).unwrap());
        let mut pool = PoolState::new(id, spec.clone(), BLOCKS).unwrap();
        let agents: Vec<AgentId> = (0..3)
            .map(|i| pool.register(&format!("agent-{i}")).unwrap())
            .collect();
        let config = EngineConfig {
            admission,
            ..EngineConfig::default()
        };
        let mut world = World {
            engine: EngineState::new(config, id, spec, BLOCKS).unwrap(),
            agents,
            held: BTreeMap::new(),
            cached: BTreeMap::new(),
            inserted: BTreeSet::new(),
            ended: Vec::new(),
            doomed: BTreeSet::new(),
            dead: false,
            refuse: false,
            panic: false,
            met: BTreeSet::new(),
        };
        if cached {
            for &agent in &world.agents[..2] {
                let size = CacheSize {
                    tokens: 2,
                    blocks: 2,
                };
                world.engine.put_cache(agent, size).unwrap();
                world.cached.insert(agent, size);
            }
        }
        world
    }

    fn submit(&mut self, agent: usize) {
        let shape = RequestShape {
            agent: self.agents[agent],
            prompt: 2,
            max_tokens: 2,
            keep_cache: true,
            deadline: None,
        };
        let _ = self.engine.submit(shape, Instant::ZERO);
    }

    fn call(&mut self, call: Call, under_way: Option<&Action>) {
        self.met.insert(under_way.map_or("nothing", Action::name));
        let now = Instant::ZERO;
        match call {
            Call::Cancel(id) => {
                let moving = match under_way {
                    Some(Action::Lease(order)) => Some(order.request),
                    Some(Action::Preempt { request, .. }) => Some(*request),
                    _ => None,
                };
                self.doomed.extend(moving.filter(|moving| moving.0 == id));
                let _ = self
                    .engine
                    .cancel(RequestId(id), CancelReason::Requested, now);
            }
            Call::Shutdown => self.engine.shutdown(now),
            Call::Drain => {
                let _ = self.engine.drain(Instant::from_nanos(1), now);
            }
            Call::DrainNow => {
                let _ = self.engine.drain(now, now);
            }
            Call::Submit => self.submit(2),
            Call::TakeCache => {
                let agent = self.agents[0];
                let real = self.engine.take_cache(agent);
                // Not one that a lease under way starts from.
                if real.is_some() {
                    assert_eq!(real, self.cached.remove(&agent));
                }
            }
            Call::Panic => self.panic = true,
            Call::Refuse => self.refuse = true,
        }
    }

    fn used(&self) -> u32 {
        let cached = self.cached.values().map(|size| size.blocks);
        self.held.values().sum::<u32>() + cached.sum::<u32>()
    }

    /// What comes of an action.
    fn outcome(&mut self, action: &Action) -> Outcome {
        if self.panic && *action != Action::Abandon {
            self.panic = false;
            self.dead = true;
            return Outcome::Panicked {
                call: action.name(),
                message: "panics".to_owned(),
            };
        }
        match action {
            Action::Lease(order) => self.lease(order.request, order.agent, order.capacity),
            Action::Grow { request, capacity } => {
                let more = capacity - self.held[request];
                let available = BLOCKS - self.used();
                if more > available {
                    return Outcome::GrowRefused(exhausted(more, available));
                }
                self.held.insert(*request, *capacity);
                Outcome::Grown { blocks: *capacity }
            }
            Action::Insert { request, .. } => {
                if std::mem::take(&mut self.refuse) {
                    let message = "full".to_owned();
                    return Outcome::InsertFailed { message };
                }
                assert!(self.inserted.insert(*request), "inserted twice");
                assert!(!self.doomed.contains(request), "cancelled, and inserted");
                Outcome::Inserted
            }
            Action::Step(plan) => {
                let known = |id: &RequestId| self.inserted.contains(id);
                assert!(plan.decode.iter().all(known));
                assert!(plan.prefill.iter().all(|chunk| known(&chunk.request)));
                let produced = |&request: &RequestId| Produced {
                    request,
                    token: 1,
                    finish: None,
                };
                Outcome::Stepped(plan.decode.iter().map(produced).collect())
            }
            Action::Extract { request, tokens } => {
                assert!(self.inserted.contains(request), "extracted from nowhere");
                let held = self.held.remove(request).unwrap();
                let size = CacheSize {
                    tokens: *tokens,
                    blocks: *tokens,
                };
                assert!(held >= *tokens, "more tokens than blocks");
                let agent = self.engine_agent(*request);
                assert!(self.cached.insert(agent, size).is_none(), "two caches");
                Outcome::Extracted(size)
            }
            Action::Remove { request } => {
                assert!(self.inserted.remove(request), "removed and not inserted");
                Outcome::Removed
            }
            Action::Release { request } => {
                self.held.remove(request);
                Outcome::Released { cache: None }
            }
            Action::Preempt { request, .. } => {
                self.inserted.remove(request);
                self.held.remove(request);
                Outcome::Preempted
            }
            Action::Evict { agent } => {
                assert!(
                    self.cached.remove(agent).is_some(),
                    "evicted what is not there"
                );
                Outcome::Evicted
            }
            Action::Abandon => {
                self.held.clear();
                self.cached.clear();
                self.inserted.clear();
                Outcome::Abandoned
            }
            Action::Emit(_) => unreachable!("is not answered"),
        }
    }

    fn lease(&mut self, request: RequestId, agent: AgentId, capacity: u32) -> Outcome {
        let moving = self.doomed.contains(&request) && !self.met.contains("lease");
        assert!(!moving, "cancelled, and leased again");
        let cache = self.cached.get(&agent).copied();
        let own = cache.map_or(0, |size| size.blocks);
        let available = BLOCKS - self.used();
        let more = capacity.saturating_sub(own);
        if std::mem::take(&mut self.refuse) || more > available {
            let error = exhausted(more.max(available + 1), available);
            return Outcome::LeaseRefused { error, cache };
        }
        self.cached.remove(&agent);
        self.held.insert(request, capacity);
        Outcome::Leased {
            blocks: capacity,
            reused: own.min(2),
        }
    }

    /// Agents ask in turn: the third is agent 2's.
    fn engine_agent(&self, request: RequestId) -> AgentId {
        self.agents[(request.0 as usize - 1) % 3]
    }

    /// Runs until nothing is left to do, with `call` coming in at the `moment`-th moment.
    /// Returns whether that moment came.
    fn run(&mut self, call: Call, moment: usize) -> bool {
        let (mut moments, mut came) = (0, false);
        let mut at = |world: &mut World, under_way: Option<&Action>, over: bool| {
            if moments == moment && !over {
                world.call(call, under_way);
                came = true;
            }
            moments += 1;
        };
        self.submit(0);
        self.submit(1);
        for turn in 0..60_u64 {
            // Time passes: what was refused is asked for again.
            let now = Instant::from_nanos(turn * 1_000_000_000);
            // And enough of it is left for what comes last to end.
            let over = turn >= 30;
            at(self, None, over);
            self.engine.tick(now);
            loop {
                at(self, None, over);
                let Some(action) = self.engine.poll() else {
                    break;
                };
                if let Action::Emit(events) = action {
                    self.note(&events);
                    continue;
                }
                at(self, Some(&action), over);
                let outcome = self.outcome(&action);
                self.engine.done(outcome, now).unwrap();
                assert!(self.used() <= BLOCKS, "more than there is");
            }
        }
        came
    }

    fn note(&mut self, events: &[Event]) {
        for event in events {
            if let Event::Ended(ended) = event {
                assert!(!self.ended.contains(&ended.request), "ended twice");
                self.ended.push(ended.request);
            }
        }
    }
}

fn exhausted(requested: u32, available: u32) -> selvedge_core::pool::AllocateError {
    selvedge_core::pool::AllocateError::Exhausted {
        requested,
        available,
        total: BLOCKS,
    }
}

#[test]
fn whatever_comes_at_whatever_moment_all_is_accounted_for() {
    let (mut runs, mut met) = (0, BTreeSet::new());
    for admission in [Admission::Full, Admission::Watermark { blocks: 0 }] {
        for cached in [false, true] {
            for call in CALLS {
                for moment in 0.. {
                    let mut world = World::new(admission, cached);
                    if !world.run(call, moment) {
                        break;
                    }
                    runs += 1;
                    met.extend(world.met.iter().copied());
                    let case = format!("{admission:?}, cached {cached}, {call:?} at {moment}");
                    let snapshot = world.engine.snapshot();
                    let accepted = snapshot.counters.accepted as usize;
                    assert_eq!(world.ended.len(), accepted, "{case}: all ended");
                    assert!(
                        world.inserted.is_empty(),
                        "{case}: the backend knows nobody"
                    );
                    assert!(
                        world.held.is_empty(),
                        "{case}: {:?} hold blocks",
                        world.held
                    );
                    assert_eq!(u64::from(world.used()), snapshot.blocks_cached, "{case}");
                    if call == Call::Shutdown || world.dead {
                        assert_eq!(world.used(), 0, "{case}: all is back");
                    }
                }
            }
        }
    }
    assert!(runs > 1_000, "only {runs} moments");
    let all = [
        "nothing", "lease", "grow", "insert", "step", "extract", "remove", "release", "preempt",
        "evict",
    ];
    for action in all {
        assert!(
            met.contains(action),
            "never in the middle of {action}: {met:?}"
        );
    }
}
