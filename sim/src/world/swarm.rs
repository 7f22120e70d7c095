//! What goes wrong in a run whose faults are drawn: **swarm**.
//!
//! Each part of the world has a stream of its own, so that a run with one part more is, as to the
//! others, much the same run.

use std::time::Duration;

use selvedge_core::ddp::Rank;

use super::faults::{Fault, FaultKind, Moment, Plan, When};
use super::network::{Latency, Place};
use super::random::{Concern, Stream};

/// What is known about a run before its faults are drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    pub(super) ranks: u32,
    pub(super) epochs: u64,
    /// How long faults may come.
    pub(super) phase: Duration,
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Plan {
    /// What the seed draws.
    pub(super) fn draw(seed: u64, horizon: Horizon) -> Plan {
        let mut swarm = Swarm {
            stream: Stream::new(seed, Concern::Faults),
            horizon,
        };
        swarm.plan()
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
