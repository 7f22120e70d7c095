//! What goes wrong in a run whose faults are drawn: **swarm**.
//!
//! Each part of the world has a stream of its own, so that a run with one part more is, as to the
//! others, much the same run.

use std::time::Duration;

use selvedge_core::ddp::Rank;

use super::Parts;
use super::faults::{
    BackendFault, CompileFaults, Fault, FaultKind, Mail, Moment, Plan, Rares, When, ms,
};
use super::network::{Latency, Place};
use super::random::{Concern, Stream};
use super::rare::Rare;
use crate::faulty::{Call, Fault as BackendCall, PlannedFault};

/// What is known about a run before its faults are drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    pub(super) ranks: u32,
    pub(super) epochs: u64,
    pub(super) agents: u32,
    pub(super) turns: u32,
    pub(super) parts: Parts,
    /// How long faults may come.
    pub(super) phase: Duration,
}

impl Plan {
    /// What the seed draws.
    pub(super) fn draw(seed: u64, horizon: Horizon) -> Plan {
        let mut plan = Plan::calm();
        if horizon.parts.training {
            let stream = Stream::new(seed, Concern::Faults);
            plan = Swarm { stream, horizon }.plan();
        }
        Rest::new(seed, horizon).draw(&mut plan);
        plan
    }
}

struct Swarm {
    stream: Stream,
    horizon: Horizon,
}

impl Swarm {
    fn plan(&mut self) -> Plan {
        let latency = self.latency();
        let grace = [Duration::ZERO, ms(200), ms(800)];
        let grace = *self.stream.pick(&grace).unwrap_or(&Duration::ZERO);
        let mut faults = Vec::new();
        // Each kind is in every other run, and then between once and a few times.
        for kind in 0..10 {
            if !self.stream.chance(350) {
                continue;
            }
            let most = match self.stream.chance(200) {
                true => 8,
                false => 2,
            };
            for _ in 0..=self.stream.below(most) {
                let kind = self.kind(kind);
                let when = self.when();
                faults.push(Fault { when, kind });
            }
        }
        Plan {
            latency,
            grace,
            faults,
            ..Plan::calm()
        }
    }

    fn latency(&mut self) -> Latency {
        let slow = self.stream.chance(300);
        let most = if slow { ms(40) } else { ms(3) };
        let spikes = *self.stream.pick(&[0, 0, 5, 50]).unwrap_or(&0);
        let spike = *self.stream.pick(&[ms(50), ms(400)]).unwrap_or(&most);
        let linger = *(self.stream.pick(&[ms(0), ms(100), ms(900)])).unwrap_or(&most);
        Latency {
            most,
            spikes,
            spike,
            notice: self.stream.between(ms(10), ms(2_000)),
            linger,
            ..Plan::calm().latency
        }
    }

    fn when(&mut self) -> When {
        let Horizon {
            ranks,
            epochs,
            phase,
            ..
        } = self.horizon;
        let moment = *(self.stream.pick(Moment::of_training())).unwrap_or(&Moment::Completes);
        if self.stream.chance(400) {
            return When::At(self.stream.between(Duration::ZERO, phase));
        }
        let times = match moment.an_epoch(u64::from(ranks)) {
            0 => 4,
            times => times * epochs / 2,
        };
        let nth = self.stream.below(times.max(1)) as u32;
        let far = *(self.stream.pick(&[ms(0), ms(3), ms(30)])).unwrap_or(&ms(0));
        let plus = self.stream.between(Duration::ZERO, far);
        When::After { moment, nth, plus }
    }

    fn rank(&mut self) -> Rank {
        Rank(self.stream.below(u64::from(self.horizon.ranks)) as u32)
    }

    fn place(&mut self) -> Place {
        match self.stream.below(u64::from(self.horizon.ranks) + 1) {
            0 => Place::Coordinator,
            n => Place::Rank(Rank(n as u32 - 1)),
        }
    }

    /// Another life begins a moment after, later than anybody waits, or never.
    fn restart(&mut self) -> Option<Duration> {
        match self.stream.below(10) {
            0 => None,
            1..=3 => Some(self.stream.between(ms(1), ms(20))),
            _ => Some(self.stream.between(ms(20), ms(2_500))),
        }
    }

    /// Short, or longer than anybody waits.
    fn lasts(&mut self) -> Duration {
        match self.stream.chance(500) {
            true => self.stream.between(ms(1), ms(400)),
            false => self.stream.between(ms(400), ms(5_000)),
        }
    }

    fn kind(&mut self, kind: u32) -> FaultKind {
        match kind {
            0 => FaultKind::Crash {
                rank: self.rank(),
                restart: self.restart(),
                machine: self.stream.chance(300),
            },
            1 => FaultKind::CrashCoordinator {
                restart: self.restart(),
                kept: self.stream.chance(500),
                machine: self.stream.chance(300),
            },
            2 => FaultKind::Freeze {
                place: self.place(),
                lasts: self.lasts(),
            },
            3 => FaultKind::Stick { rank: self.rank() },
            4 => FaultKind::Slow {
                rank: self.rank(),
                factor: 2 + self.stream.below(30) as u32,
                lasts: self.lasts(),
            },
            5 => FaultKind::Break { rank: self.rank() },
            6 => {
                let from = self.place();
                let mut to = self.place();
                if from == to {
                    to = match from {
                        Place::Coordinator => Place::Rank(Rank(0)),
                        _ => Place::Coordinator,
                    };
                }
                FaultKind::Cut {
                    from,
                    to,
                    lasts: self.lasts(),
                }
            }
            7 => FaultKind::Partition {
                side: 1 + self.stream.below((1 << self.horizon.ranks.min(63)) - 1),
                lasts: self.lasts(),
            },
            8 => FaultKind::Suspect { rank: self.rank() },
            _ => FaultKind::FailStep { rank: self.rank() },
        }
    }
}

/// What goes wrong where requests are served and with the guards: each kind by a stream of the
/// part that it belongs to.
struct Rest {
    serving: Stream,
    guards: Stream,
    rare: Stream,
    horizon: Horizon,
}

impl Rest {
    fn new(seed: u64, horizon: Horizon) -> Self {
        Rest {
            serving: Stream::new(seed, Concern::ServingFaults),
            guards: Stream::new(seed, Concern::GuardFaults),
            rare: Stream::new(!seed, Concern::Rare),
            horizon,
        }
    }

    fn draw(mut self, plan: &mut Plan) {
        let Horizon { parts, .. } = self.horizon;
        if parts.serving {
            plan.mail = self.mail();
            self.backend(plan);
            self.serving(plan);
        }
        if parts.training && parts.guards {
            plan.compile = self.compile();
            self.disks(plan);
        }
        if parts != Parts::TRAINING {
            self.clocks(plan);
            plan.rare = Rares {
                sites: self.rare.below(1 << Rare::COUNT) & self.rare.below(1 << Rare::COUNT),
                per_mille: 5 + self.rare.below(150),
            };
        }
    }

    fn mail(&mut self) -> Mail {
        let mut per_mille = |most: &[u64]| {
            let most = *self.serving.pick(most).unwrap_or(&0);
            self.serving.below(most + 1)
        };
        Mail {
            loss: per_mille(&[0, 0, 50, 250]),
            duplicate: per_mille(&[0, 0, 100, 400]),
            reorder: per_mille(&[0, 0, 100, 400]),
            late: *self
                .serving
                .pick(&[ms(5), ms(60), ms(900)])
                .unwrap_or(&ms(5)),
        }
    }

    fn backend(&mut self, plan: &mut Plan) {
        if !self.serving.chance(500) {
            return;
        }
        for _ in 0..=self.serving.below(4) {
            let millis = 1 + self.serving.below(700);
            let call = *self.serving.pick(&Call::ALL).unwrap_or(&Call::Step);
            let fits: Vec<BackendCall> = (BackendCall::all(millis).into_iter())
                .filter(|fault| fault.fits(call))
                .collect();
            let Some(&fault) = self.serving.pick(&fits) else {
                continue;
            };
            let often = match call {
                Call::Step => 60,
                Call::Swap => 2,
                _ => 8,
            };
            let planned = PlannedFault {
                call,
                nth: 1 + self.serving.below(often),
                fault,
            };
            let engine = 1 + self.serving.below(2) as u32;
            plan.backend.push(BackendFault { engine, planned });
        }
    }

    fn agent(&mut self) -> u32 {
        self.serving.below(u64::from(self.horizon.agents)) as u32
    }

    fn serving(&mut self, plan: &mut Plan) {
        for kind in 0..7 {
            if !self.serving.chance(350) {
                continue;
            }
            let most = if self.serving.chance(200) { 6 } else { 2 };
            for _ in 0..=self.serving.below(most) {
                let kind = self.kind(kind);
                let when = self.when();
                plan.faults.push(Fault { when, kind });
            }
        }
    }

    fn when(&mut self) -> When {
        if self.serving.chance(500) {
            let phase = self.horizon.phase;
            return When::At(self.serving.between(Duration::ZERO, phase));
        }
        let moments = [Moment::Accepts, Moment::Turns, Moment::Tells];
        let moment = *self.serving.pick(&moments).unwrap_or(&Moment::Turns);
        let turns = u64::from(self.horizon.agents * self.horizon.turns);
        let times = match moment {
            Moment::Accepts => turns,
            _ => turns * 12,
        };
        let nth = self.serving.below(times.max(1)) as u32;
        let far = *(self.serving.pick(&[ms(0), ms(4), ms(40)])).unwrap_or(&ms(0));
        let plus = self.serving.between(Duration::ZERO, far);
        When::After { moment, nth, plus }
    }

    fn kind(&mut self, kind: u32) -> FaultKind {
        let agent = self.agent();
        let (server, client) = (Place::Server, Place::Agent(agent));
        let lasts = match self.serving.chance(500) {
            true => self.serving.between(ms(1), ms(300)),
            false => self.serving.between(ms(300), ms(3_000)),
        };
        match kind {
            0 => FaultKind::CrashServer {
                restart: self.serving.between(ms(1), ms(900)),
            },
            1 => FaultKind::CancelTurn { agent },
            2 => FaultKind::SlowClient { agent, lasts },
            3 => FaultKind::Drain {
                within: self.serving.between(ms(1), ms(900)),
                closed: self.serving.between(ms(1), ms(400)),
            },
            4 => FaultKind::Reconfigure {
                within: self.serving.between(ms(100), ms(2_000)),
                model: self.serving.below(1 << 32),
            },
            5 => FaultKind::Freeze {
                place: server,
                lasts,
            },
            _ => {
                // One way only, or the other.
                let [from, to] = match self.serving.chance(500) {
                    true => [server, client],
                    false => [client, server],
                };
                FaultKind::Cut { from, to, lasts }
            }
        }
    }

    fn clocks(&mut self, plan: &mut Plan) {
        if !self.rare.chance(250) {
            return;
        }
        for _ in 0..=self.rare.below(2) {
            let place = match self.rare.below(4) {
                0 if self.horizon.parts.training => Place::Coordinator,
                1 if self.horizon.parts.training => {
                    Place::Rank(Rank(self.rare.below(self.horizon.ranks.into()) as u32))
                }
                _ if self.horizon.parts.serving => Place::Server,
                _ => Place::Coordinator,
            };
            let by = *(self.rare.pick(&[ms(20), ms(900), ms(8_000)])).unwrap_or(&ms(20));
            let by = self.rare.between(ms(1), by);
            let when = When::At(self.rare.between(Duration::ZERO, self.horizon.phase));
            let kind = FaultKind::ClockStep { place, by };
            plan.faults.push(Fault { when, kind });
        }
    }

    fn compile(&mut self) -> CompileFaults {
        let mut per_mille = |often: u64| match self.guards.chance(often) {
            true => self.guards.below(250),
            false => 0,
        };
        CompileFaults {
            transient: per_mille(400),
            permanent: per_mille(300),
            panicking: per_mille(300),
            lazy: per_mille(300),
            hanging: per_mille(300),
            in_use: per_mille(200) / 10,
        }
    }

    fn disks(&mut self, plan: &mut Plan) {
        if !self.guards.chance(300) {
            return;
        }
        for _ in 0..=self.guards.below(2) {
            let ranks = self.horizon.ranks.into();
            let rank = Rank(self.guards.below(ranks) as u32);
            let lasts = self.guards.between(ms(10), ms(1_500));
            let when = When::At(self.guards.between(Duration::ZERO, self.horizon.phase));
            let kind = FaultKind::FullDisk { rank, lasts };
            plan.faults.push(Fault { when, kind });
        }
        // A death in the midst of a write.
        if self.guards.chance(500) {
            let (ranks, epochs) = (u64::from(self.horizon.ranks), self.horizon.epochs);
            let moment = Moment::Records;
            let nth = self
                .guards
                .below((moment.an_epoch(ranks) * epochs / 2).max(1)) as u32;
            let plus = self.guards.between(Duration::ZERO, ms(3));
            let when = When::After { moment, nth, plus };
            let kind = FaultKind::Crash {
                rank: Rank(self.guards.below(ranks) as u32),
                restart: Some(self.guards.between(ms(20), ms(900))),
                machine: false,
            };
            plan.faults.push(Fault { when, kind });
        }
    }
}
