//! The driver of the coordinator in virtual time: what a real one does, around the
//! [`CoordinatorState`] that ships, with a disk that takes its time.

use std::collections::VecDeque;
use std::time::Duration;

use selvedge_core::ddp::{
    BlueprintId, CoordinatorAction, CoordinatorEvent, CoordinatorState, CoordinatorWait, Due,
    Durable, Incarnation, Member, Rank, RankSays, RankWait, RunConfig, SeedId, SlotCommand, SlotId,
    ToCoordinator, Watch,
};
use selvedge_core::time::Instant;

use super::chain::What;
use super::faults::Moment;
use super::mutants::Mutant;
use super::network::{ConnectionId, Endpoint, Place, Side, Told};
use super::probes::Probe;
use super::run::{Event, Packet, Simulation};

/// The coordinator, through all of its lives.
#[derive(Debug)]
pub(super) struct CoordinatorNode {
    /// The number of its last life.
    pub(super) life: u64,
    pub(super) process: Option<CoordinatorProcess>,
    /// What is written down.
    pub(super) disk: Durable,
    /// Its machine is down: it does not even refuse.
    pub(super) machine_down: bool,
    /// Lives that are to begin.
    pub(super) starts: u32,
    /// How far its clock is ahead.
    pub(super) ahead: Duration,
    /// When its clock jumped last.
    pub(super) stepped: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct CoordinatorProcess {
    pub(super) state: CoordinatorState,
    watch: Watch<CoordinatorWait>,
    armed: Option<Instant>,
    pub(super) frozen: bool,
    /// What has come while it could not be looked at.
    inbox: VecDeque<CoordinatorInput>,
    /// What is still to be done of the last event.
    todo: VecDeque<CoordinatorAction>,
    /// What is being written down.
    writing: Option<Durable>,
    /// By rank, its latest connection.
    links: Vec<Option<Link>>,
    /// When it last looked around.
    looked: Instant,
}

/// A connection from a rank.
#[derive(Clone, Copy, Debug)]
struct Link {
    /// `None` once it is lost.
    id: Option<ConnectionId>,
    incarnation: Incarnation,
    heard: Instant,
    /// The machine was told that its rank is lost.
    told: bool,
}

/// What may happen to the coordinator's process.
#[derive(Clone, Debug)]
pub(super) enum CoordinatorInput {
    /// From the network.
    Told(Told<Packet>),
    /// Time to look who is silent.
    Tick,
    /// Time to look at the deadlines.
    Look,
    /// A write is done.
    Written,
    /// A lost connection had its time to be replaced.
    GraceOver { member: Member },
    /// A live rank is taken for lost.
    Suspect { rank: Rank },
}

impl CoordinatorNode {
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        self.process.as_ref().map(|_| Endpoint {
            place: Place::Coordinator,
            life: self.life,
        })
    }
}

impl Simulation {
    pub(super) fn run_config(&self) -> RunConfig {
        self.config.run_config(self.genesis.run)
    }

    /// What the coordinator's clock says.
    fn coordinator_now(&mut self) -> Instant {
        let now = self.now + self.coordinator.ahead;
        let life = self.coordinator.life;
        let kept = self.checks.clock.reads(Place::Coordinator, life, now);
        self.hold(kept);
        now
    }

    /// Another life of the coordinator begins, from what is written down.
    pub(super) fn start_coordinator(&mut self) {
        let node = &mut self.coordinator;
        node.starts = node.starts.saturating_sub(1);
        if node.process.is_some() {
            return;
        }
        node.life += 1;
        node.machine_down = false;
        let disk = node.disk.clone();
        let (epoch, view) = (disk.record.epoch, disk.view);
        let config = self.run_config();
        let mut out = Vec::new();
        let state = CoordinatorState::restore(config, disk, &mut out);
        let state = state.expect("INVARIANT: it was written down by a coordinator of this run");
        self.coordinator.process = Some(CoordinatorProcess {
            state,
            watch: Watch::new(self.config.timing.coordinator),
            armed: None,
            frozen: false,
            inbox: VecDeque::new(),
            todo: VecDeque::new(),
            writing: None,
            links: vec![None; self.ranks.len()],
            looked: self.now + self.coordinator.ahead,
        });
        let life = self.coordinator.life;
        self.note(Place::Coordinator, What::Starts, [life, epoch.0, view.0]);
        self.plan_coordinator(self.config.timing.beat, CoordinatorInput::Tick);
        self.coordinator_todo(out);
        self.look_coordinator();
    }

    fn plan_coordinator(&mut self, after: Duration, input: CoordinatorInput) {
        let life = self.coordinator.life;
        let event = Event::Coordinator { life, input };
        self.queue.push(self.now + after, event);
    }

    /// Something happens to the coordinator's process, if that life of it is still there. While
    /// it writes it looks at nothing else.
    pub(super) fn coordinator_input(&mut self, life: u64, input: CoordinatorInput) {
        if self.coordinator.life != life {
            return;
        }
        let Some(process) = &mut self.coordinator.process else {
            return;
        };
        let busy = process.writing.is_some() && !matches!(input, CoordinatorInput::Written);
        if process.frozen || busy {
            process.inbox.push_back(input);
            return;
        }
        self.handle_coordinator(input);
        self.drain_inbox();
        self.look_coordinator();
    }

    pub(super) fn thaw_coordinator(&mut self, life: u64) {
        let node = &mut self.coordinator;
        let Some(process) = node.process.as_mut().filter(|_| node.life == life) else {
            return;
        };
        if !std::mem::replace(&mut process.frozen, false) {
            return;
        }
        self.note(Place::Coordinator, What::Thaws, [0; 3]);
        // Its write was done without it.
        let written = |input: &CoordinatorInput| matches!(input, CoordinatorInput::Written);
        let at = (self.coordinator.process.as_ref())
            .and_then(|process| process.inbox.iter().position(written));
        if let (Some(at), Some(process)) = (at, &mut self.coordinator.process) {
            process.inbox.remove(at);
            self.handle_coordinator(CoordinatorInput::Written);
        }
        self.drain_inbox();
        self.look_coordinator();
    }

    fn drain_inbox(&mut self) {
        while let Some(process) = &mut self.coordinator.process
            && process.writing.is_none()
            && !process.frozen
            && let Some(input) = process.inbox.pop_front()
        {
            self.handle_coordinator(input);
        }
    }

    fn handle_coordinator(&mut self, input: CoordinatorInput) {
        match input {
            CoordinatorInput::Told(told) => self.told_coordinator(told),
            CoordinatorInput::Tick => self.tick(),
            CoordinatorInput::Look => {
                self.note(Place::Coordinator, What::Timer, [0; 3]);
                if let Some(process) = &mut self.coordinator.process {
                    process.armed = None;
                }
            }
            CoordinatorInput::Written => {
                self.written();
                self.do_coordinator();
            }
            CoordinatorInput::GraceOver { member } => {
                let back = self.link(member.rank).is_some_and(|link| {
                    link.incarnation == member.incarnation && (link.id.is_some() || link.told)
                });
                if !back {
                    self.lost(member);
                }
            }
            CoordinatorInput::Suspect { rank } => {
                if let Some(link) = self.link(rank) {
                    let incarnation = link.incarnation;
                    self.lost(Member { rank, incarnation });
                }
            }
        }
    }

    fn link(&self, rank: Rank) -> Option<Link> {
        let process = self.coordinator.process.as_ref()?;
        *process.links.get(rank.0 as usize)?
    }

    fn link_mut(&mut self, rank: Rank) -> Option<&mut Link> {
        let process = self.coordinator.process.as_mut()?;
        process.links.get_mut(rank.0 as usize)?.as_mut()
    }

    fn told_coordinator(&mut self, told: Told<Packet>) {
        let now = self.coordinator_now();
        match told {
            Told::Opened { id, with } => {
                self.note(Place::Coordinator, What::Connected, [id.0, 0, 0]);
                let Place::Rank(rank) = with.place else {
                    return;
                };
                let Some(process) = &mut self.coordinator.process else {
                    return;
                };
                process.links[rank.0 as usize] = Some(Link {
                    id: Some(id),
                    incarnation: Incarnation(with.life),
                    heard: now,
                    told: false,
                });
            }
            Told::Lost { id } => {
                self.note(Place::Coordinator, What::ConnectionLost, [id.0, 0, 0]);
                self.link_lost(id);
            }
            Told::Message { id, message } => {
                if let (Packet::ToCoordinator(message), Some(from)) = (message, self.peer(id)) {
                    self.hear_rank(id, from, message);
                }
            }
            Told::Refused => {}
        }
    }

    /// The rank at the other end of a connection.
    fn peer(&self, id: ConnectionId) -> Option<Rank> {
        match self.network.peer(id, Side::Listener)?.place {
            Place::Rank(rank) => Some(rank),
            _ => None,
        }
    }

    fn link_lost(&mut self, id: ConnectionId) {
        let Some(process) = &mut self.coordinator.process else {
            return;
        };
        let mut links = process.links.iter_mut().enumerate();
        let found = links.find_map(|(rank, link)| {
            let link = link.as_mut().filter(|link| link.id == Some(id))?;
            link.id = None;
            let incarnation = link.incarnation;
            let rank = Rank(rank as u32);
            Some(Member { rank, incarnation })
        });
        // Else it was replaced before it was lost.
        let Some(member) = found else {
            return;
        };
        match self.plan.grace.is_zero() {
            true => self.lost(member),
            false => {
                let grace = self.plan.grace;
                self.plan_coordinator(grace, CoordinatorInput::GraceOver { member });
            }
        }
    }

    fn lost(&mut self, member: Member) {
        if let Some(link) = self.link_mut(member.rank)
            && link.incarnation == member.incarnation
        {
            link.told = true;
        }
        let numbers = [u64::from(member.rank.0), member.incarnation.0, 0];
        self.note(Place::Coordinator, What::GetsLost, numbers);
        self.tell_coordinator(CoordinatorEvent::Lost(vec![member]));
    }

    /// Who was not heard of for too long is taken for lost. **A driver that has slept itself
    /// cannot tell who was silent**: what they said waits behind this.
    fn tick(&mut self) {
        let (now, timing) = (self.coordinator_now(), self.config.timing);
        self.note(Place::Coordinator, What::Timer, [1, 0, 0]);
        self.plan_coordinator(timing.beat, CoordinatorInput::Tick);
        let Some(process) = &mut self.coordinator.process else {
            return;
        };
        let slept = now.saturating_since(process.looked) > timing.beat * 2;
        process.looked = now;
        let mut silent = Vec::new();
        for (rank, link) in process.links.iter_mut().enumerate() {
            let Some(link) = link else {
                continue;
            };
            if slept {
                link.heard = now;
            }
            let late = now.saturating_since(link.heard) > timing.silence;
            if late && !link.told && link.id.is_some() {
                silent.push(Member {
                    rank: Rank(rank as u32),
                    incarnation: link.incarnation,
                });
            }
        }
        self.policy();
        for member in silent {
            if process_has(&self.coordinator, member) {
                self.probes.reach(Probe::SilentEvicted);
            }
            self.lost(member);
        }
    }

    /// A policy that now and then wants something done with a slot.
    fn policy(&mut self) {
        if !self.schedule.chance(150) {
            return;
        }
        let drawn = self.schedule.below(1 << 32);
        let slot = SlotId(drawn as u32 % 3);
        let command = match drawn / 3 % 4 {
            0 => SlotCommand::Prune { slot },
            1 => SlotCommand::SchedulePrune { slot, steps: 3 },
            2 => SlotCommand::Advance { slot, target: None },
            _ => SlotCommand::Germinate {
                slot,
                seed: SeedId(1 + drawn),
                blueprint: BlueprintId(2),
            },
        };
        self.tell_coordinator(CoordinatorEvent::Command(command));
    }

    fn hear_rank(&mut self, id: ConnectionId, from: Rank, message: ToCoordinator) {
        let now = self.coordinator_now();
        let life = message.incarnation;
        if let Some(link) = self.link_mut(from) {
            if link.id == Some(id) {
                link.heard = now;
            } else {
                self.probes.reach(Probe::LateMessage);
            }
        }
        if self.link(from).is_some_and(|link| link.incarnation != life) {
            self.probes.reach(Probe::FormerLife);
        }
        let (rank, life) = (u64::from(from.0), life.0);
        let (what, numbers) = match &message.body {
            RankSays::Join { .. } => (What::GetsJoin, [rank, life, 0]),
            RankSays::Hello => (What::GetsHello, [rank, life, 0]),
            RankSays::Heartbeat => (What::GetsBeat, [rank, life, 0]),
            RankSays::StepFailed { view, .. } => (What::GetsStepFailed, [rank, life, view.0]),
            RankSays::Arrive { view, epoch, .. } => (What::GetsArrive, [rank, epoch.0, view.0]),
            RankSays::ViewAck { view, .. } => (What::GetsAck, [rank, life, view.0]),
        };
        self.note(Place::Coordinator, what, numbers);
        self.mutant_to_coordinator(from, message);
    }

    /// Gives the machine an event and begins to do what it wants done.
    pub(super) fn tell_coordinator(&mut self, event: CoordinatorEvent) {
        let Some(process) = &mut self.coordinator.process else {
            return;
        };
        let flushing = matches!(process.state.wait(), Some(CoordinatorWait::Acks { .. }));
        let view = process.state.durable().view;
        let mut out = std::mem::take(&mut self.coordinator_actions);
        process.state.on(event, &mut out);
        let resumed = flushing
            && process.state.durable().view == view
            && !matches!(process.state.wait(), Some(CoordinatorWait::Acks { .. }));
        if resumed && std::mem::take(&mut self.died_in_flush) {
            self.probes.reach(Probe::RestartInFlush);
        }
        let valid = super::properties::valid(process.state.validate());
        self.hold(valid);
        self.coordinator_todo(out.drain(..));
        self.coordinator_actions = out;
    }

    /// Queues actions behind those that are not done yet.
    pub(super) fn coordinator_todo(&mut self, out: impl IntoIterator<Item = CoordinatorAction>) {
        let early = self.config.mutant == Mutant::TellsBeforeItWrites;
        if let Some(process) = &mut self.coordinator.process {
            process.todo.extend(out);
            if early {
                let write = |action: &CoordinatorAction| *action == CoordinatorAction::Persist;
                (process.todo.make_contiguous()).sort_by_key(write);
            }
        }
        self.do_coordinator();
    }

    fn do_coordinator(&mut self) {
        while let Some(process) = &mut self.coordinator.process
            && process.writing.is_none()
            && let Some(action) = process.todo.pop_front()
        {
            match action {
                CoordinatorAction::Persist => {
                    let durable = process.state.durable().clone();
                    let numbers = [durable.record.epoch.0, durable.view.0, 0];
                    process.writing = Some(durable);
                    self.note(Place::Coordinator, What::Writes, numbers);
                    let (least, most) = self.config.timing.write;
                    let takes = self.workload.between(least, most);
                    self.plan_coordinator(takes, CoordinatorInput::Written);
                    self.moment(Moment::Writes);
                }
                CoordinatorAction::Send { to, message } => {
                    let now = self.now;
                    if let Some(id) = self.link(to).and_then(|link| link.id) {
                        let packet = Packet::ToRank(message);
                        self.network.send(id, Side::Listener, packet, now);
                    }
                }
            }
        }
    }

    /// What was being written is there.
    fn written(&mut self) {
        let Some(process) = &mut self.coordinator.process else {
            return;
        };
        let Some(durable) = process.writing.take() else {
            return;
        };
        let numbers = [durable.record.epoch.0, durable.view.0, 0];
        self.note(Place::Coordinator, What::Written, numbers);
        self.on_disk(durable);
    }

    pub(super) fn on_disk(&mut self, durable: Durable) {
        let kept = self.checks.written(&durable);
        self.hold(kept);
        if self.config.mutant != Mutant::DiskForgets {
            self.coordinator.disk = durable;
        }
    }

    /// The coordinator's process is gone. What it was writing is there or not.
    pub(super) fn bury_coordinator(&mut self, kept: bool, fin: bool) {
        let Some(endpoint) = self.coordinator.endpoint() else {
            return;
        };
        let Some(process) = self.coordinator.process.take() else {
            return;
        };
        self.coordinator.machine_down = !fin;
        self.died_in_flush = matches!(process.state.wait(), Some(CoordinatorWait::Acks { .. }));
        self.note(Place::Coordinator, What::Dies, [0; 3]);
        if let Some(durable) = process.writing {
            match kept {
                true => {
                    self.probes.reach(Probe::WriteKept);
                    self.on_disk(durable);
                }
                false => self.probes.reach(Probe::WriteLost),
            }
        }
        let mutant = self.config.mutant;
        mutant.forget(&mut self.coordinator.disk);
        self.network.bury(endpoint, fin, self.now);
    }

    fn look_coordinator(&mut self) {
        let now = self.coordinator_now();
        let Some(process) = &mut self.coordinator.process else {
            return;
        };
        if process.frozen || process.writing.is_some() {
            return;
        }
        match process.watch.observe(process.state.wait(), now) {
            Some(Due::Soft(_)) => {
                self.note(Place::Coordinator, What::SoftDeadline, [0; 3]);
            }
            Some(Due::Hard(wait)) => {
                self.note(Place::Coordinator, What::Deadline, [0; 3]);
                self.probes.reach(Probe::CoordinatorDeadline);
                self.check_circle(&wait);
                self.tell_coordinator(CoordinatorEvent::HardDeadline(wait));
            }
            None => {}
        }
        let Some(process) = &mut self.coordinator.process else {
            return;
        };
        if let Some(next) = process.watch.next()
            && process.armed.is_none_or(|armed| next < armed)
        {
            process.armed = Some(next);
            self.plan_coordinator(next.saturating_since(now), CoordinatorInput::Look);
        }
    }
}

impl Simulation {
    /// At a hard deadline: is anybody waited for who himself waits for the coordinator, and
    /// could be heard the whole time?
    fn check_circle(&mut self, wait: &CoordinatorWait) {
        let (CoordinatorWait::Acks { view } | CoordinatorWait::Arrivals { view, .. }) = wait else {
            return;
        };
        let Some(process) = &self.coordinator.process else {
            return;
        };
        // Whose clock has jumped has not waited.
        let patience = self.config.timing.coordinator.hard;
        let jumped = |at: Instant| self.now.saturating_since(at) <= patience;
        if self.coordinator.stepped.is_some_and(jumped) {
            return;
        }
        let now = self.now + self.coordinator.ahead;
        let missing = process.state.missing();
        let members = process.state.durable().members.iter();
        let mut missing = members.filter(|member| missing.contains(&member.rank));
        let circle = missing.find_map(|member| {
            let node = &self.ranks[member.rank.0 as usize];
            let process = node.running().filter(|process| process.stopped.is_none())?;
            let link = self.link(member.rank)?;
            // It has been heard of, and so has what it said before.
            let connected = link.id.is_some()
                && link.id == process.connection
                && now.saturating_since(link.heard) < self.config.timing.beat * 3;
            let theirs = process.state.wait()?;
            let waits = match theirs {
                RankWait::Resume { view: theirs } | RankWait::Commit { view: theirs } => {
                    theirs == *view
                }
                _ => false,
            };
            let alive = node.life == member.incarnation.0;
            (alive && connected && waits).then_some((member.rank, theirs))
        });
        if let Some((rank, theirs)) = circle {
            let kept = self.checks.liveness.waits_for_each_other(rank, theirs);
            self.hold(kept);
        }
    }
}

/// Whether a life is a member, as far as the coordinator knows.
fn process_has(node: &CoordinatorNode, member: Member) -> bool {
    let process = node.process.as_ref();
    process.is_some_and(|process| process.state.durable().members.contains(&member))
}
