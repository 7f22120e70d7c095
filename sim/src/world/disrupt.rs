//! What a fault of the plan does, and the end of all faults.

use std::time::Duration;

use selvedge_core::ddp::{Rank, RankWait};

use super::chain::What;
use super::coordinator::CoordinatorInput;
use super::faults::FaultKind;
use super::mutants::Mutant;
use super::network::{Endpoint, Place};
use super::probes::Probe;
use super::ranks::{End, RankInput, Stop};
use super::run::{Event, Simulation};
use super::serving::server::After;

impl Simulation {
    /// A fault of the plan is due. After the faults' phase it is none.
    pub(super) fn fault(&mut self, place: usize) {
        let Some(fault) = self.plan.faults.get(place).copied() else {
            return;
        };
        if self.calm {
            return;
        }
        self.note_world(What::Fault, [place as u64, 0, 0]);
        self.touch(&fault.kind);
        match fault.kind {
            FaultKind::Crash {
                rank,
                restart,
                machine,
            } => self.crash(rank, restart, machine),
            FaultKind::CrashCoordinator {
                restart,
                kept,
                machine,
            } => self.crash_coordinator(restart, kept, machine),
            FaultKind::Freeze { place, lasts } => self.freeze(place, lasts),
            FaultKind::Stick { rank } => {
                if let Some(process) = &mut self.node(rank).process {
                    process.stopped = Some(Stop::Stuck);
                }
            }
            FaultKind::Slow {
                rank,
                factor,
                lasts,
            } => {
                self.node(rank).slow = factor.max(1);
                self.queue.push(self.now + lasts, Event::Hurry(rank));
            }
            FaultKind::Break { rank } => {
                let place = Place::Rank(rank);
                let life = self.node(rank).life;
                for (id, _) in self.network.of(Endpoint { place, life }) {
                    self.network.cut_connection(id, self.now);
                }
            }
            FaultKind::Cut { from, to, lasts } => self.cut(from, to, lasts),
            FaultKind::Partition { side, lasts } => self.partition(side, lasts),
            FaultKind::Suspect { rank } => {
                let life = self.coordinator.life;
                self.coordinator_input(life, CoordinatorInput::Suspect { rank });
            }
            FaultKind::FailStep { rank } => self.fail_step(rank),
            FaultKind::CrashServer { restart } => self.crash_server(restart),
            FaultKind::CancelTurn { agent } => self.cancel_turn(agent),
            FaultKind::SlowClient { agent, lasts } => self.stop_reading(agent, lasts),
            FaultKind::Drain { within, closed } => self.drain_server(within, After::Opens(closed)),
            FaultKind::Reconfigure { within, model } => {
                self.drain_server(within, After::Changes(model));
            }
            FaultKind::ClockStep { place, by } => self.step_clock(place, by),
            FaultKind::FullDisk { rank, lasts } => self.fill_disk(rank, lasts),
        }
    }

    /// Notes who has an excuse from now on.
    fn touch(&mut self, kind: &FaultKind) {
        let ranks = (0..self.config.ranks).map(Rank);
        match *kind {
            // Everybody has lost sight of somebody, or may be taken for lost.
            FaultKind::Partition { .. }
            | FaultKind::ClockStep {
                place: Place::Coordinator,
                ..
            } => {
                ranks.for_each(|rank| self.checks.blame.touch(Place::Rank(rank), kind));
            }
            _ => {
                for place in kind.places().into_iter().flatten() {
                    self.checks.blame.touch(place, kind);
                }
            }
        }
    }

    fn crash(&mut self, rank: Rank, restart: Option<Duration>, machine: bool) {
        let undead = self.config.mutant == Mutant::FailedStaysMember;
        match &mut self.node(rank).process {
            None => return,
            Some(process) if undead => {
                process.undead = true;
                return;
            }
            Some(_) => {}
        }
        self.note(Place::Rank(rank), What::Dies, [0; 3]);
        self.bury_rank(rank, End::Killed, !machine);
        if machine {
            self.node(rank).forget_disk();
        }
        if let Some(after) = restart {
            self.restart_rank(rank, after);
        }
    }

    fn crash_coordinator(&mut self, restart: Option<Duration>, kept: bool, machine: bool) {
        if self.coordinator.process.is_none() {
            return;
        }
        self.bury_coordinator(kept, !machine);
        if let Some(after) = restart {
            self.coordinator.starts += 1;
            self.queue.push(self.now + after, Event::StartCoordinator);
        }
    }

    fn freeze(&mut self, place: Place, lasts: Duration) {
        let life = match place {
            Place::Coordinator => {
                let Some(process) = &mut self.coordinator.process else {
                    return;
                };
                process.frozen = true;
                self.coordinator.life
            }
            Place::Rank(rank) => {
                let node = self.node(rank);
                let Some(process) = node.process.as_mut().filter(|p| p.stopped.is_none()) else {
                    return;
                };
                process.stopped = Some(Stop::Frozen);
                node.life
            }
            Place::Server => {
                let node = &mut self.serving.server;
                let Some(server) = &mut node.process else {
                    return;
                };
                server.frozen = true;
                self.probes.reach(Probe::ServerFrozen);
                node.life
            }
            Place::Agent(agent) => return self.stop_reading(agent, lasts),
        };
        self.note(place, What::Freezes, [0; 3]);
        self.queue
            .push(self.now + lasts, Event::Thaw { place, life });
    }

    /// A process's clock jumps ahead, and stays there.
    fn step_clock(&mut self, place: Place, by: Duration) {
        match place {
            Place::Coordinator => {
                self.coordinator.ahead += by;
                self.coordinator.stepped = Some(self.now);
                let life = self.coordinator.life;
                self.coordinator_input(life, CoordinatorInput::Look);
            }
            Place::Rank(rank) => {
                self.node(rank).ahead += by;
                let life = self.node(rank).life;
                self.rank_input(rank, life, RankInput::Look);
            }
            Place::Server => {
                self.serving.server.ahead += by;
                self.kick();
            }
            // It looks at no clock.
            Place::Agent(_) => return,
        }
        self.note(place, What::ClockSteps, [by.as_nanos() as u64, 0, 0]);
        self.probes.reach(Probe::ClockStepped);
    }

    fn cut(&mut self, from: Place, to: Place, lasts: Duration) {
        match from {
            Place::Coordinator | Place::Rank(_) => self.network.cut(from, to),
            Place::Server | Place::Agent(_) => self.serving.mail.cut(from, to),
        }
        self.queue.push(self.now + lasts, Event::Mend { from, to });
    }

    fn partition(&mut self, side: u64, lasts: Duration) {
        let ranks: Vec<Rank> = (0..self.config.ranks).map(Rank).collect();
        let inside = |rank: Rank| side.checked_shr(rank.0).is_some_and(|bits| bits & 1 == 1);
        let (inner, outer): (Vec<Rank>, Vec<Rank>) = ranks.into_iter().partition(|&r| inside(r));
        for &rank in &inner {
            let outside = outer.iter().copied().map(Place::Rank);
            for other in outside.chain([Place::Coordinator]) {
                self.cut(Place::Rank(rank), other, lasts);
                self.cut(other, Place::Rank(rank), lasts);
            }
        }
    }

    /// A rank's connections to the other ranks break. What it has given, others may still get.
    fn fail_step(&mut self, rank: Rank) {
        let node = self.node(rank);
        let life = node.life;
        let Some(process) = node.running() else {
            return;
        };
        if let Some(RankWait::Step { view, seq }) = process.state.wait() {
            let given = self.collectives.waits_since(rank, view);
            if given.is_some_and(|(receiver, _)| receiver.seq == seq) {
                self.collectives.abandon(rank, view, seq);
                let lost = Vec::new();
                self.rank_input(rank, life, RankInput::StepFailed { view, seq, lost });
            }
        }
    }

    /// Nothing goes wrong from here on: what is cut is mended, what was stopped goes on.
    pub(super) fn becomes_calm(&mut self) {
        self.note_world(What::Calm, [0; 3]);
        self.calm = true;
        for (from, to) in self.network.all_cut() {
            while self.network.is_cut(from, to) {
                self.mend(from, to);
            }
        }
        self.thaw_coordinator(self.coordinator.life);
        self.serving_calm();
        for rank in (0..self.config.ranks).map(Rank) {
            self.disk_is_full(rank, false);
            self.node(rank).slow = 1;
            let life = self.node(rank).life;
            self.thaw_rank(rank, life);
        }
    }
}
