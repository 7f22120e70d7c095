//! The server's process, through all of its lives: the loop that steps the engine, and what is
//! done to it. What it is asked is the matter of its front end.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use selvedge_core::engine::{Clients, Closed, Counters, Event as Told, NewClient, StepError, Wake};
use selvedge_core::time::Instant;
use selvedge_core::{AgentId, BlockPool, RequestId};

use super::engine::{Engine, Outbox};
use super::mail::Request;
use super::shape::{Shape, engine_config};
use crate::world::chain::What;
use crate::world::faults::Moment;
use crate::world::mutants::Mutant;
use crate::world::network::Place;
use crate::world::probes::Probe;
use crate::world::properties::{Broken, conservation, no_stall, valid};
use crate::world::rare::Rare;
use crate::world::run::{Event, Simulation};

/// A turn takes so long, whatever it does.
const TURN: Duration = Duration::from_micros(120);

/// The server, through all of its lives.
#[derive(Debug, Default)]
pub(in crate::world) struct ServerNode {
    /// The number of its last life.
    pub(in crate::world) life: u64,
    pub(in crate::world) process: Option<Box<Server>>,
    /// How far its clock is ahead.
    pub(in crate::world) ahead: Duration,
    /// Engines that there were in the run.
    engines: u32,
    /// Lives that are to begin.
    starts: u32,
}

/// A life of the server.
#[derive(Debug)]
pub(in crate::world) struct Server {
    pub(super) pool: Arc<BlockPool>,
    pub(super) shape: Shape,
    /// `None` where one has died and there is no other yet.
    pub(super) engine: Option<Engine>,
    /// By agent, its name in the pool.
    pub(super) names: Vec<AgentId>,
    pub(super) clients: Clients<Outbox>,
    pub(super) came: Vec<NewClient<Outbox>>,
    /// By agent, what it has asked for last.
    pub(super) known: BTreeMap<u32, Known>,
    turning: Turning,
    /// What the engine had done when it was looked at last.
    counted: Counters,
    /// Turns that were planned.
    turns: u64,
    pub(in crate::world) frozen: bool,
    inbox: VecDeque<ServerInput>,
    /// What comes after the drain that was begun.
    pub(super) draining: Option<After>,
    /// Drains that were begun.
    drains: u64,
    /// Nobody is to be served any more.
    closing: bool,
    /// How many models it has had.
    models: u64,
    /// Caches that were taken out and not put back: a mutant's.
    pub(super) hoard: Vec<Box<dyn std::any::Any>>,
}

/// What an agent has asked for last.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) key: u64,
    pub(super) request: RequestId,
    pub(super) stream: Outbox,
    /// Tokens that were sent.
    pub(super) sent: u32,
    pub(super) end_sent: bool,
}

/// The step loop.
#[derive(Debug, Default)]
enum Turning {
    /// There is nothing to do.
    #[default]
    Idle,
    /// The next turn begins then.
    Planned { number: u64, at: Instant },
    /// It is made; this came of it.
    UnderWay(Vec<Told>),
}

/// What comes after a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::world) enum After {
    /// It is open again after so long.
    Opens(Duration),
    /// It gets the model of this number.
    Changes(u64),
    /// It is shut down.
    Closes,
    /// Nothing: it was taken back, but its engine had been empty, and that is still to be told.
    Nothing,
}

/// What may happen to the server's process.
#[derive(Clone, Debug)]
pub(in crate::world) enum ServerInput {
    /// A message.
    Letter { agent: u32, request: Request },
    /// Time for a turn.
    Turn { number: u64 },
    /// A turn is over.
    TurnOver,
    /// Another engine is there.
    Rebuilt,
    /// It takes requests again, after the drain of this number.
    Opens { drain: u64 },
}

impl Simulation {
    /// What the server's clock says.
    pub(in crate::world) fn server_now(&mut self) -> Instant {
        let mut now = self.now + self.serving.server.ahead;
        if self.config.mutant == Mutant::ClockGoesBack && !self.serving.server.ahead.is_zero() {
            // As a clock that is set right now and then.
            let back = self.now.as_nanos() / 1_000_000_000 % 2 == 1;
            now = if back { self.now } else { now };
        }
        let kept = self
            .checks
            .clock
            .reads(Place::Server, self.serving.server.life, now);
        self.hold(kept);
        now
    }

    pub(in crate::world) fn restart_server(&mut self, after: Duration) {
        self.serving.server.starts += 1;
        self.queue.push(self.now + after, Event::StartServer);
    }

    pub(in crate::world) fn start_server(&mut self) {
        let node = &mut self.serving.server;
        node.starts = node.starts.saturating_sub(1);
        if node.process.is_some() || self.serving.over {
            return;
        }
        node.life += 1;
        let life = node.life;
        let shape = Shape::draw(self.config.seed, life, life);
        let pool = BlockPool::new(shape.spec.clone(), shape.blocks);
        let pool = Arc::new(pool.expect("INVARIANT: a shape has at least one block"));
        let names = (0..self.serving.agents.len())
            .map(|agent| pool.agent(&format!("agent {agent}")))
            .collect::<Result<Vec<AgentId>, _>>();
        node.process = Some(Box::new(Server {
            names: names.expect("INVARIANT: there are few agents, and each has a name"),
            pool,
            shape,
            engine: None,
            clients: Clients::new(),
            came: Vec::new(),
            known: BTreeMap::new(),
            turning: Turning::Idle,
            counted: Counters::default(),
            turns: 0,
            frozen: false,
            inbox: VecDeque::new(),
            draining: None,
            drains: 0,
            closing: false,
            models: 0,
            hoard: Vec::new(),
        }));
        self.checks.server_begins();
        self.note(Place::Server, What::Starts, [life, 0, 0]);
        self.build_engine();
        self.serving_ends();
    }

    fn build_engine(&mut self) {
        let config = engine_config(self.config.seed);
        let node = &mut self.serving.server;
        let Some(server) = &mut node.process else {
            return;
        };
        node.engines += 1;
        let faults = &self.plan.backend;
        let number = node.engines;
        self.checks.engine_begins(config.max_overtakes);
        server.counted = Counters::default();
        server.engine = Some(Engine::new(
            &server.pool,
            &server.shape,
            config,
            number,
            faults,
        ));
    }

    pub(super) fn plan_server(&mut self, after: Duration, input: ServerInput) {
        let life = self.serving.server.life;
        self.queue
            .push(self.now + after, Event::Server { life, input });
    }

    pub(in crate::world) fn server_letter(&mut self, agent: u32, request: Request) {
        let life = self.serving.server.life;
        self.server_input(life, ServerInput::Letter { agent, request });
    }

    pub(in crate::world) fn server_input(&mut self, life: u64, input: ServerInput) {
        let node = &mut self.serving.server;
        let Some(server) = node.process.as_mut().filter(|_| node.life == life) else {
            return;
        };
        if server.frozen {
            server.inbox.push_back(input);
            return;
        }
        match input {
            ServerInput::Letter { agent, request } => self.asked(agent, request),
            ServerInput::Turn { number } => self.turn(number),
            ServerInput::TurnOver => self.turn_over(),
            ServerInput::Rebuilt => {
                self.build_engine();
                self.note(Place::Server, What::Rebuilt, [0; 3]);
                self.serving_ends();
            }
            ServerInput::Opens { drain } => {
                let server = self.serving.server.process.as_ref();
                // Or another drain was begun since.
                if server.is_some_and(|server| server.drains == drain) {
                    self.open_server();
                }
            }
        }
        self.kick();
    }

    pub(in crate::world) fn thaw_server(&mut self, life: u64) {
        let node = &mut self.serving.server;
        let Some(server) = node.process.as_mut().filter(|_| node.life == life) else {
            return;
        };
        if !std::mem::replace(&mut server.frozen, false) {
            return;
        }
        let inbox = std::mem::take(&mut server.inbox);
        self.serving.ready_since = None;
        self.note(Place::Server, What::Thaws, [0; 3]);
        for input in inbox {
            self.server_input(life, input);
        }
        self.kick();
        self.serving_ends();
    }

    /// Sees to it that the engine is stepped when it wants to be.
    pub(in crate::world) fn kick(&mut self) {
        let spurious = self.rare(Rare::SpuriousTurn);
        let (now, ahead) = (self.now, self.serving.server.ahead);
        let mutant = self.config.mutant;
        let Some(server) = &mut self.serving.server.process else {
            return;
        };
        let Some(engine) = server.engine.as_ref().filter(|_| !server.frozen) else {
            return;
        };
        if matches!(server.turning, Turning::UnderWay(_)) {
            return;
        }
        let wake = match engine.shipped.wake() {
            Wake::OnCall if spurious => Wake::Now,
            wake => wake,
        };
        let at = match wake {
            Wake::Now => now,
            // The server's clock is ahead of ours.
            Wake::At(at) => now.max(Instant::ZERO + at.saturating_since(Instant::ZERO + ahead)),
            Wake::OnCall => return,
        };
        let since = self.serving.ready_since.map_or(at, |since| since.min(at));
        self.serving.ready_since = Some(since);
        let kept = no_stall::begins(since, now);
        self.hold(kept);
        let Some(server) = &mut self.serving.server.process else {
            return;
        };
        if mutant == Mutant::SlowStallsAll
            && server
                .known
                .values()
                .any(|it| it.stream.with(|s| s.is_full() && s.end.is_none()))
        {
            return;
        }
        if let Turning::Planned { at: planned, .. } = server.turning
            && planned <= at
        {
            return;
        }
        server.turns += 1;
        let number = server.turns;
        server.turning = Turning::Planned { number, at };
        self.plan_server(at.saturating_since(now), ServerInput::Turn { number });
    }

    /// One turn of the engine.
    fn turn(&mut self, number: u64) {
        let now = self.server_now();
        let Some(mut server) = self.serving.server.process.take() else {
            return;
        };
        let counts = match server.turning {
            Turning::Planned {
                number: planned, ..
            } => planned == number,
            _ => false,
        };
        if let Some(engine) = server.engine.as_ref().filter(|_| counts) {
            self.serving.ready_since = None;
            match engine.shipped.step(now) {
                Ok(told) => self.turned(&mut server, told, now),
                Err(StepError::EngineDead(_)) => server.turning = Turning::Idle,
                Err(StepError::Busy) => {
                    server.turning = Turning::Idle;
                    let busy = Broken::new("core-invariants", "one thread, and it is busy");
                    self.hold(Err(busy));
                }
            }
        }
        self.serving.server.process = Some(server);
    }

    /// A turn was made. What came of it is told when its time is over.
    fn turned(&mut self, server: &mut Server, told: Vec<Told>, now: Instant) {
        for event in &told {
            self.engine_says(event);
        }
        self.check_drain(server, &told, now);
        let books = self.check_engine(server);
        let (Some(books), Some(engine)) = (books, &server.engine) else {
            return;
        };
        let before = std::mem::replace(&mut server.counted, books.counters);
        let after = &server.counted;
        let timing = self.config.timing.serving;
        let prefilled = (after.prefilled - before.prefilled) as u32;
        let generated = (after.generated - before.generated) as u32;
        let stepped = match after.steps > before.steps {
            true => timing.step,
            false => TURN,
        };
        let takes =
            stepped + timing.prefill_token * prefilled + timing.decode * generated + engine.took();
        if engine.faults() > 0 {
            self.probes.reach(Probe::BackendFault);
        }
        if after.preemptions > before.preemptions {
            self.probes.reach(Probe::Preempted);
        }
        if after.evictions > before.evictions {
            self.probes.reach(Probe::CacheEvicted);
        }
        let numbers = [prefilled.into(), generated.into(), told.len() as u64];
        self.note(Place::Server, What::Turns, numbers);
        server.turning = Turning::UnderWay(told);
        self.plan_server(takes, ServerInput::TurnOver);
        self.moment(Moment::Turns);
    }

    /// What came of a turn is told.
    fn turn_over(&mut self) {
        let now = self.server_now();
        let Some(mut server) = self.serving.server.process.take() else {
            return;
        };
        let told = match std::mem::take(&mut server.turning) {
            Turning::UnderWay(told) => told,
            _ => Vec::new(),
        };
        let drained = told.iter().find_map(|event| match event {
            Told::Drained => Some(true),
            Told::DrainTimedOut { .. } => Some(false),
            _ => None,
        });
        self.mutant_after_turn(&mut server, &told);
        self.cache_out_and_in(&server);
        let came = std::mem::take(&mut server.came);
        let cancel = server.clients.deliver(came, told, false);
        for (request, reason) in cancel {
            self.probes.reach(Probe::ClientCut);
            if let Some(engine) = &server.engine {
                // Its end may be decided already.
                let _ = engine.shipped.cancel(request, reason, now);
            }
        }
        let closed = server.engine.as_ref().and_then(|it| it.shipped.closed());
        if let Some(closed @ Closed::EngineDead(_)) = closed {
            self.engine_dies(&mut server, &closed);
        }
        self.serving.server.process = Some(server);
        self.answer_all();
        self.moment(Moment::Tells);
        if let Some(empty) = drained {
            self.drained(empty);
        }
    }

    /// The engine is dead: nothing of it is left, and the front end has another made.
    fn engine_dies(&mut self, server: &mut Server, closed: &Closed) {
        server.clients.close(closed);
        server.engine = None;
        server.draining = None;
        self.serving.ready_since = None;
        self.note(Place::Server, What::EngineDies, [0; 3]);
        self.probes.reach(Probe::EngineDied);
        self.checks.drain_ends.given_up();
        let left = server.pool.snapshot().used;
        let kept = conservation::is_empty(left, "the engine is dead");
        self.hold(kept);
        let kept = self.checks.ends_once.all_ended("the engine is dead");
        self.hold(kept);
        let rebuild = self.config.timing.serving.rebuild;
        self.plan_server(rebuild, ServerInput::Rebuilt);
    }

    pub(in crate::world) fn crash_server(&mut self, restart: Duration) {
        if self.serving.server.process.take().is_none() {
            return;
        }
        self.note(Place::Server, What::Dies, [0; 3]);
        self.probes.reach(Probe::ServerCrashed);
        self.serving.ready_since = None;
        self.restart_server(restart);
    }

    /// Begins a drain, if none is under way and there is anything to drain.
    pub(in crate::world) fn drain_server(&mut self, within: Duration, after: After) {
        let now = self.server_now();
        let naive = self.config.mutant == Mutant::DrainsByLooking && after != After::Closes;
        let Some(server) = &mut self.serving.server.process else {
            return;
        };
        let busy = server.frozen || server.draining.is_some();
        let Some(engine) = server.engine.as_ref().filter(|_| !busy) else {
            return;
        };
        if server.closing && after != After::Closes {
            return;
        }
        let deadline = now + within;
        if naive {
            // It looks whether there is anything, and acts on it later.
            if engine.shipped.snapshot().requests.total() == 0 {
                server.draining = Some(after);
                server.drains += 1;
                let drain = server.drains;
                self.plan_server(Duration::from_millis(30), ServerInput::Opens { drain });
            }
            return;
        }
        if engine.shipped.drain(deadline, now).is_ok() {
            server.draining = Some(after);
            server.drains += 1;
            self.checks.drain_ends.begins(deadline);
            self.note(Place::Server, What::Drains, [0; 3]);
            if after != After::Closes && self.rare(Rare::ResumeDrain) {
                self.take_drain_back();
            }
        }
        self.kick();
    }

    /// The drain that has just begun is no more.
    fn take_drain_back(&mut self) {
        self.checks.drain_ends.given_up();
        self.open_server();
        let Some(server) = &mut self.serving.server.process else {
            return;
        };
        let engine = server.engine.as_ref();
        let empty = engine.is_some_and(|it| it.shipped.snapshot().requests.total() == 0);
        // The end of this one must not be taken for the end of the next.
        server.draining = empty.then_some(After::Nothing);
    }

    /// A drain is over, either way.
    fn drained(&mut self, empty: bool) {
        let Some(server) = &mut self.serving.server.process else {
            return;
        };
        let Some(after) = server.draining.take() else {
            return;
        };
        let (closing, drain) = (server.closing, server.drains);
        self.note(Place::Server, What::Drained, [u64::from(empty), 0, 0]);
        match (empty, after) {
            (true, After::Closes) => self.shut_down(),
            _ if closing => self.serving_ends(),
            (_, After::Nothing) => {}
            (true, After::Opens(closed)) => {
                self.probes.reach(Probe::Drained);
                self.plan_server(closed, ServerInput::Opens { drain });
            }
            (true, After::Changes(model)) => {
                self.probes.reach(Probe::Drained);
                self.change_model(model);
            }
            (false, _) => self.probes.reach(Probe::DrainTimedOut),
        }
    }

    fn open_server(&mut self) {
        let Some(server) = &mut self.serving.server.process else {
            return;
        };
        let closing = server.closing;
        if self.config.mutant == Mutant::DrainsByLooking
            && let Some(after) = server.draining.take()
        {
            let left = server.engine.as_ref();
            let left = left.map_or(0, |it| it.shipped.snapshot().requests.total());
            let kept = self.checks.drain_ends.is_empty(left);
            self.hold(kept);
            if let After::Changes(model) = after {
                self.change_model(model);
            }
            return;
        }
        if closing {
            return self.serving_ends();
        }
        server.draining = None;
        if let Some(engine) = &server.engine {
            // One that died meanwhile is not opened by this.
            let _ = engine.shipped.resume();
        }
    }

    /// The server gets another model.
    fn change_model(&mut self, model: u64) {
        let (seed, life, mutant) = (
            self.config.seed,
            self.serving.server.life,
            self.config.mutant,
        );
        let Some(mut server) = self.serving.server.process.take() else {
            return;
        };
        server.models += 1;
        let number = life << 32 | server.models;
        let shape = Shape::draw(seed, number, model);
        if let Some(engine) = &server.engine {
            let (spec, blocks) = (shape.spec.clone(), shape.blocks);
            let mut weights = shape.weights;
            if mutant == Mutant::KeepsOldWeights {
                weights = server.shape.weights;
            }
            let kept = (mutant == Mutant::KeepsCaches)
                .then(|| (server.names.iter()).find_map(|&name| engine.shipped.take_cache(name)));
            // A panic of the swap goes through, and ends the engine.
            let changed = catch_unwind(AssertUnwindSafe(|| {
                let to = spec.clone();
                (engine.shipped).reconfigure(spec, blocks, |backend| {
                    backend.swap(|model| model.swap(to, blocks, weights))
                })
            }));
            drop(kept);
            let left = server.pool.snapshot();
            match changed {
                Ok(Ok(())) => {
                    self.probes.reach(Probe::Reconfigured);
                    self.note(Place::Server, What::Changes, [model, u64::from(blocks), 0]);
                    server.shape = shape;
                }
                Ok(Err(error)) => {
                    self.probes.reach(Probe::ReconfigureRefused);
                    let kept = conservation::refused(&error, left.used);
                    self.hold(kept);
                    let _ = engine.shipped.resume();
                }
                // The engine is dead. The pool may have its new shape all the same, and the next
                // engine is made for the pool that there is.
                Err(_) => {
                    self.probes.reach(Probe::ReconfigureRefused);
                    if server.pool.spec() == shape.spec && left.total == shape.blocks {
                        server.shape = shape;
                    }
                }
            }
            if let Some(closed @ Closed::EngineDead(_)) = engine.shipped.closed() {
                self.engine_dies(&mut server, &closed);
            }
            self.check_engine(&server);
        }
        let closing = server.closing;
        self.serving.server.process = Some(server);
        self.answer_all();
        if closing {
            self.serving_ends();
        }
        self.kick();
    }

    /// Nobody has anything to ask any more: the server is drained, and then shut down.
    pub(in crate::world) fn close_server(&mut self) {
        if let Some(server) = &mut self.serving.server.process {
            server.closing = true;
            if let Some(engine) = server.engine.as_ref().filter(|_| server.draining.is_none()) {
                // As one that is closed for a while stays so for good.
                let _ = engine.shipped.resume();
            }
            self.drain_server(Duration::from_secs(20), After::Closes);
        }
    }

    fn shut_down(&mut self) {
        let now = self.server_now();
        let Some(server) = self.serving.server.process.take() else {
            return;
        };
        if let Some(engine) = &server.engine {
            let told = engine.shipped.shutdown(now);
            for event in &told {
                self.engine_says(event);
            }
        }
        let left = server.pool.snapshot().used;
        let kept = conservation::is_empty(left, "the engine is shut down");
        self.hold(kept);
        let kept = self.checks.ends_once.all_ended("the engine is shut down");
        self.hold(kept);
        let valid = valid(server.pool.audit().map(drop));
        self.hold(valid);
        self.note(Place::Server, What::Done, [0; 3]);
        self.serving.over = true;
    }
}
