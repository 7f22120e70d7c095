//! The event loop: one run, from its first event to the last.

use std::collections::BTreeMap;
use std::time::Duration;

use selvedge_core::ddp::{
    AlphaCurve, BlueprintId, CommitRecord, CoordinatorAction, Durable, Epoch, Held, Incarnation,
    Member, Rank, RankAction, RankSays, Reduction, RunId, Schedule, SeedId, SeedSlot, SlotCommand,
    SlotId, SlotRules, Strictness, ToCoordinator, ToRank, View,
};
use selvedge_core::time::{Clock, Instant};

use super::chain::{Chain, Happened, What};
use super::clock::{EventQueue, VirtualClock};
use super::collective::{Collectives, Receiver};
use super::coordinator::{CoordinatorInput, CoordinatorNode};
use super::faults::{Faults, Moment, Plan, When};
use super::guards::GuardNode;
use super::network::{Endpoint, Network, Place, Told, Wire};
use super::probes::{Probe, Probes};
use super::properties::{Checks, Kept, no_false_alarm};
use super::random::{Concern, Stream};
use super::ranks::{End, RankInput, RankNode};
use super::serving::Serving;
use super::serving::mail::Letter;
use super::serving::server::ServerInput;
use super::swarm::Horizon;
use super::{Violation, WorldConfig, WorldReport};

/// What goes over a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    ToCoordinator(ToCoordinator),
    ToRank(ToRank),
}

impl Packet {
    pub(super) fn beat(incarnation: Incarnation) -> Self {
        Packet::ToCoordinator(ToCoordinator {
            incarnation,
            body: RankSays::Heartbeat,
        })
    }
}

/// What is yet to happen.
#[derive(Debug)]
pub(super) enum Event {
    /// In the network.
    Wire(Wire),
    /// To a rank's process.
    Rank {
        rank: Rank,
        life: u64,
        input: RankInput,
    },
    /// To the coordinator's process.
    Coordinator { life: u64, input: CoordinatorInput },
    /// A collective's result.
    Result(Receiver),
    /// A rank's process begins.
    Start(Rank),
    /// The coordinator's process begins.
    StartCoordinator,
    /// A fault of the plan.
    Fault(usize),
    /// A path is mended.
    Mend { from: Place, to: Place },
    /// A stopped process goes on.
    Thaw { place: Place, life: u64 },
    /// A slow rank is as fast as before.
    Hurry(Rank),
    /// There is room again for a rank's traces.
    DiskFree(Rank),
    /// A message between an agent and the server arrives.
    Letter(Letter),
    /// An agent does what it has planned.
    Agent { agent: u32, timer: u64 },
    /// An agent reads again.
    Reads(u32),
    /// To the server's process.
    Server { life: u64, input: ServerInput },
    /// The server's process begins.
    StartServer,
    /// Nothing goes wrong from here on.
    Calm,
    /// What went wrong should be over with by now.
    Settle,
    /// The run should be over by now.
    Limit,
}

/// One run.
#[derive(Debug)]
pub(super) struct Simulation {
    pub(super) config: WorldConfig,
    pub(super) plan: Plan,
    pub(super) genesis: CommitRecord,
    clock: VirtualClock,
    pub(super) now: Instant,
    pub(super) queue: EventQueue<Event>,
    chain: Chain,
    events: u64,
    pub(super) probes: Probes,
    pub(super) network: Network<Packet>,
    pub(super) collectives: Collectives,
    pub(super) schedule: Stream,
    pub(super) workload: Stream,
    pub(super) guard_work: Stream,
    pub(super) rares: Stream,
    pub(super) serving: Serving,
    /// By rank; none where there are no guards.
    pub(super) guards: Vec<GuardNode>,
    pub(super) ranks: Vec<RankNode>,
    pub(super) coordinator: CoordinatorNode,
    pub(super) checks: Checks,
    /// How often each moment has come up.
    moments: [u32; Moment::ALL.len()],
    pub(super) calm: bool,
    /// The coordinator died in a flush that nobody has ended yet.
    pub(super) died_in_flush: bool,
    violation: Option<Violation>,
    /// What each rank said it has; kept for the mutant that needs it only.
    pub(super) said: BTreeMap<Rank, Held>,
    /// Buffers, to be used again.
    pub(super) rank_actions: Vec<RankAction>,
    pub(super) coordinator_actions: Vec<CoordinatorAction>,
}

impl Simulation {
    pub(super) fn new(config: WorldConfig) -> Self {
        let phase = config.fault_phase();
        let plan = match &config.faults {
            Faults::None => Plan::calm(),
            Faults::Plan(plan) => plan.clone(),
            Faults::Swarm => Plan::draw(
                config.seed,
                Horizon {
                    ranks: config.ranks,
                    epochs: config.epochs,
                    agents: config.agents,
                    turns: config.turns,
                    parts: config.parts,
                    phase,
                },
            ),
        };
        let genesis = genesis();
        let stream = |concern| Stream::new(config.seed, concern);
        let disk = Durable {
            view: View(0),
            members: Vec::new(),
            lives: Vec::new(),
            record: genesis.clone(),
            aborted: None,
        };
        let latency = stream(Concern::Latency);
        let mut simulation = Simulation {
            clock: VirtualClock::default(),
            now: Instant::ZERO,
            queue: EventQueue::new(),
            chain: Chain::new(config.record),
            events: 0,
            probes: Probes::default(),
            network: Network::new(config.ranks, plan.latency, latency),
            collectives: Collectives::default(),
            schedule: stream(Concern::Schedule),
            workload: stream(Concern::Workload),
            guard_work: stream(Concern::Guards),
            rares: stream(Concern::Rare),
            serving: Serving::new(&config, &plan),
            guards: match config.parts.guards && config.parts.training {
                true => (0..config.ranks).map(|_| GuardNode::default()).collect(),
                false => Vec::new(),
            },
            ranks: (0..config.ranks).map(|_| RankNode::new()).collect(),
            coordinator: CoordinatorNode {
                life: 0,
                process: None,
                disk,
                machine_down: false,
                starts: 0,
                ahead: Duration::ZERO,
                stepped: None,
            },
            checks: Checks::new(config.ranks, config.min_world, &genesis),
            moments: [0; Moment::ALL.len()],
            calm: false,
            died_in_flush: false,
            violation: None,
            said: BTreeMap::new(),
            rank_actions: Vec::new(),
            coordinator_actions: Vec::new(),
            genesis,
            plan,
            config,
        };
        simulation.begin(phase);
        simulation
    }

    fn begin(&mut self, phase: Duration) {
        if self.config.parts.training {
            self.begin_training();
        }
        self.begin_serving();
        for (place, fault) in self.plan.faults.iter().enumerate() {
            if let When::At(after) = fault.when {
                self.queue.push(self.now + after, Event::Fault(place));
            }
        }
        let calm = self.now + phase;
        self.queue.push(calm, Event::Calm);
        self.queue
            .push(calm + self.config.timing.settle(), Event::Settle);
        self.queue.push(calm + self.config.limit(), Event::Limit);
    }

    fn begin_training(&mut self) {
        self.queue.push(self.now, Event::StartCoordinator);
        for rank in (0..self.config.ranks).map(Rank) {
            let after = self
                .workload
                .between(Duration::ZERO, self.config.timing.redial);
            self.restart_rank(rank, after);
        }
    }

    pub(super) fn run(mut self) -> WorldReport {
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            self.clock.advance_to(at);
            self.events += 1;
            self.chain.fold(at.as_nanos());
            self.dispatch(event);
            self.take_planned();
            if self.violation.is_some() || self.is_over() {
                break;
            }
        }
        self.report()
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Wire(wire) => self.wire(wire),
            Event::Rank { rank, life, input } => self.rank_input(rank, life, input),
            Event::Coordinator { life, input } => self.coordinator_input(life, input),
            Event::Result(receiver) => self.result(receiver),
            Event::Start(rank) => self.start_rank(rank),
            Event::StartCoordinator => self.start_coordinator(),
            Event::Fault(place) => self.fault(place),
            Event::Mend { from, to } => match from {
                Place::Coordinator | Place::Rank(_) => self.mend(from, to),
                Place::Server | Place::Agent(_) => self.mend_mail(from, to),
            },
            Event::Thaw { place, life } => match place {
                Place::Coordinator => self.thaw_coordinator(life),
                Place::Rank(rank) => self.thaw_rank(rank, life),
                Place::Server => self.thaw_server(life),
                Place::Agent(agent) => self.read_again(agent),
            },
            Event::Hurry(rank) => self.node(rank).slow = 1,
            Event::DiskFree(rank) => self.disk_is_full(rank, false),
            Event::Letter(letter) => self.letter(letter),
            Event::Agent { agent, timer } => self.agent_wakes(agent, timer),
            Event::Reads(agent) => self.read_again(agent),
            Event::Server { life, input } => self.server_input(life, input),
            Event::StartServer => self.start_server(),
            Event::Calm => self.becomes_calm(),
            Event::Settle => self.settle(),
            Event::Limit => self.limit(),
        }
    }

    /// What the network has planned goes into the one queue.
    pub(super) fn take_planned(&mut self) {
        for (at, wire) in self.network.planned.drain(..) {
            self.queue.push(at, Event::Wire(wire));
        }
    }

    fn wire(&mut self, wire: Wire) {
        let now = self.now;
        let told = match wire {
            Wire::Syn { from, to } => return self.syn(from, to),
            Wire::SynAck { id } => self.network.syn_ack(id, now),
            Wire::Refused { from } => Some((from, Told::Refused)),
            Wire::Arrival { id, to } => self.network.arrive(id, to, now),
            Wire::GiveUp { id, from } => self.network.give_up(id, from, now),
            Wire::Loss { id, at } => self.network.lose(id, at, now),
            Wire::Drained { id, at } => {
                self.network.drained(id, at);
                None
            }
        };
        if let Some((endpoint, told)) = told {
            self.deliver(endpoint, told);
        }
    }

    fn syn(&mut self, from: Endpoint, to: Place) {
        let listener = self.coordinator.endpoint();
        let place = match (listener, self.coordinator.machine_down) {
            (None, true) => return self.network.unanswered(from, self.now),
            (listener, _) => listener,
        };
        if let Some(id) = self.network.syn(from, place, to, self.now)
            && let Some(listener) = place
        {
            self.deliver(listener, Told::Opened { id, with: from });
        }
    }

    fn deliver(&mut self, to: Endpoint, told: Told<Packet>) {
        let life = to.life;
        match to.place {
            Place::Coordinator => self.coordinator_input(life, CoordinatorInput::Told(told)),
            Place::Rank(rank) => self.rank_input(rank, life, RankInput::Told(told)),
            // They have a network of their own.
            Place::Server | Place::Agent(_) => {}
        }
    }

    fn result(&mut self, to: Receiver) {
        let place = Place::Rank(to.rank);
        let network = &self.network;
        let blocked = |member| network.has_cuts() && network.is_cut(Place::Rank(member), place);
        if let Some(outcome) = self.collectives.result(to, blocked) {
            let (view, seq) = (to.view, to.seq);
            let input = RankInput::Reduced { view, seq, outcome };
            self.rank_input(to.rank, to.life, input);
        }
    }

    pub(super) fn mend(&mut self, from: Place, to: Place) {
        self.note_world(What::Mends, [from.index() as u64, to.index() as u64, 0]);
        self.network.mend(from, to, self.now);
        for receiver in self.collectives.unstick() {
            self.probes.reach(Probe::Unstuck);
            let at = self.now + self.network.delay();
            self.queue.push(at, Event::Result(receiver));
        }
    }

    /// Something comes up that a fault may wait for.
    pub(super) fn moment(&mut self, moment: Moment) {
        let count = &mut self.moments[moment as usize];
        let now = *count;
        *count += 1;
        if self.calm {
            return;
        }
        for (place, fault) in self.plan.faults.iter().enumerate() {
            if let When::After {
                moment: of,
                nth,
                plus,
            } = fault.when
                && (of, nth) == (moment, now)
            {
                self.queue.push(self.now + plus, Event::Fault(place));
            }
        }
    }

    fn settle(&mut self) {
        let Some(process) = &self.coordinator.process else {
            return;
        };
        if process.state.is_over() {
            return;
        }
        let live = |member: &Member| {
            let node = &self.ranks[member.rank.0 as usize];
            node.is_live() && node.life == member.incarnation.0
        };
        let members = process.state.durable().members.iter().copied();
        let core: Vec<Member> = members.filter(live).collect();
        if core.len() >= self.config.min_world as usize {
            self.checks.liveness.settles(core);
        }
    }

    fn limit(&mut self) {
        let waiting = (self.ranks.iter().enumerate())
            .find(|(_, node)| node.is_live())
            .map(|(rank, node)| {
                let waits = node.running().and_then(|process| process.state.wait());
                (Rank(rank as u32), format!("{waits:?}"))
            });
        if let Some((rank, waits)) = waiting {
            let kept = self.checks.liveness.hangs(rank, &waits);
            self.hold(kept);
        }
        if let Some(waits) = self.serving_waits() {
            let kept = self.checks.liveness.is_not_served(&waits);
            self.hold(kept);
        }
    }

    /// What a rank's end says about the run.
    pub(super) fn judge_end(&mut self, rank: Rank, end: End) -> Kept {
        let incarnation = Incarnation(self.ranks[rank.0 as usize].life);
        if let End::Failed(failure) = end {
            no_false_alarm::fails(rank, failure)?;
            let formed = self.checks.one_life.formed();
            let up = self.coordinator.process.is_some();
            self.checks.blame.fails(rank, failure, formed, up)?;
        }
        let member = Member { rank, incarnation };
        self.checks.liveness.ends(member, end)
    }

    /// Whether nobody is left who could get on, and nobody will be.
    fn is_over(&self) -> bool {
        let ended = |node: &RankNode| node.starts == 0 && !node.is_live();
        self.serving.over && self.ranks.iter().all(ended)
    }

    pub(super) fn note(&mut self, place: Place, what: What, numbers: [u64; 3]) {
        self.chain.add(Happened {
            at: self.now,
            place: Some(place),
            what,
            numbers,
        });
    }

    pub(super) fn note_world(&mut self, what: What, numbers: [u64; 3]) {
        self.chain.add(Happened {
            at: self.now,
            place: None,
            what,
            numbers,
        });
    }

    /// Notes what is broken, if it is the first thing that is.
    pub(super) fn hold(&mut self, kept: Kept) {
        if let Err(broken) = kept
            && self.violation.is_none()
        {
            self.violation = Some(Violation {
                signature: broken.signature,
                message: broken.message,
                at: self.now,
                event: self.events,
            });
        }
    }

    fn report(mut self) -> WorldReport {
        let first_done = |node: &RankNode| node.end == Some(End::Done) && node.life == 1;
        if self.ranks.iter().all(first_done) {
            self.probes.reach(Probe::AllDone);
        }
        let ends = self.ranks.iter().map(|node| {
            let stuck = node.running().map(|_| End::Stuck);
            stuck.or(node.end)
        });
        let (hash, happened) = self.chain.finish();
        WorldReport {
            ends: ends.collect(),
            epochs: self.checks.decided().0,
            violation: self.violation,
            events: self.events,
            virtual_time: self.clock.now().saturating_since(Instant::ZERO),
            hash,
            probes: self.probes,
            happened,
            plan: self.plan,
            config: self.config,
        }
    }
}

/// What a run begins from: seeds at several stages, with rules that differ, so that alphas move
/// at nearly every boundary, questions come up and the votes decide them.
fn genesis() -> CommitRecord {
    let rules = |reduction, blend_steps| SlotRules {
        strictness: Strictness::Permissive,
        auto_g1: true,
        auto_g2: true,
        auto_g3: true,
        reduction,
        blend_steps,
        blend_curve: AlphaCurve::Linear,
        embargo_epochs: 2,
        ..SlotRules::default()
    };
    let slots = [
        (0, rules(Reduction::All, 4)),
        (1, rules(Reduction::Majority, 50)),
        (2, rules(Reduction::Any, 7)),
    ];
    let slots = slots.map(|(id, rules)| SeedSlot::new(SlotId(id), rules));
    let mut schedule = Schedule::new(slots).expect("INVARIANT: the ids differ");
    for slot in 0..3 {
        let germinate = SlotCommand::Germinate {
            slot: SlotId(slot),
            seed: SeedId(u64::from(slot) + 1),
            blueprint: BlueprintId(1),
        };
        schedule
            .command(&germinate)
            .expect("INVARIANT: the slot is empty");
    }
    CommitRecord::genesis(RunId(7), Epoch(0), 0, schedule)
}
