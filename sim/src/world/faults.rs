//! What goes wrong in a run: a plan, drawn from the seed before it begins, or given.
//!
//! **Swarm**: each run draws which kinds of fault there are at all, and how many. A run with
//! everything at once reaches less than many runs with a few kinds each (Groce et al., 2012).
//!
//! A fault comes at a time, or a little after the n-th time that something happens
//! ([`Moment`]): a death that is to fall between a write and its message would never do so by
//! the clock alone.

use std::fmt;
use std::time::Duration;

use selvedge_core::ddp::Rank;

use super::network::{Latency, Place};
use super::random::{Concern, Stream};

/// What goes wrong in a run.
///
/// ```
/// use selvedge_sim::world::{Faults, WorldConfig};
///
/// assert_eq!(WorldConfig::default().faults, Faults::None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Nothing.
    None,
    /// What the seed draws.
    Swarm,
    /// This.
    Plan(Plan),
}

/// All that goes wrong in one run.
///
/// ```
/// use selvedge_sim::world::{World, WorldConfig};
///
/// let config = WorldConfig { epochs: 3, ..WorldConfig::default() };
/// let report = World::new(config)?.run();
/// assert!(report.plan.faults.is_empty());
/// # Ok::<(), selvedge_sim::world::WorldError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How the network is on the whole.
    pub latency: Latency,
    /// How long a lost connection may be replaced before the coordinator takes its rank for
    /// lost.
    pub grace: Duration,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

/// One thing that goes wrong.
///
/// ```
/// use std::time::Duration;
/// use selvedge_core::ddp::Rank;
/// use selvedge_sim::world::{Fault, FaultKind, Moment, When};
///
/// let when = When::After { moment: Moment::Votes, nth: 1, plus: Duration::from_millis(2) };
/// let restart = Some(Duration::from_secs(1));
/// let kind = FaultKind::Crash { rank: Rank(2), restart, machine: false };
/// let fault = Fault { when, kind };
/// assert_eq!(fault.when, when);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub when: When,
    /// What.
    pub kind: FaultKind,
}

/// When a fault comes. Whatever the plan says, none comes after the faults' phase.
///
/// ```
/// use std::time::Duration;
/// use selvedge_core::ddp::Rank;
/// use selvedge_sim::world::{Fault, FaultKind, Moment, When};
///
/// let when = When::After { moment: Moment::Votes, nth: 1, plus: Duration::from_millis(2) };
/// let restart = Some(Duration::from_secs(1));
/// let kind = FaultKind::Crash { rank: Rank(2), restart, machine: false };
/// let fault = Fault { when, kind };
/// assert_eq!(fault.when, when);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// So long after the beginning.
    At(Duration),
    /// So long after the n-th time (from 0) of a moment.
    After {
        /// What happens.
        moment: Moment,
        /// Which time.
        nth: u32,
        /// How long after.
        plus: Duration,
    },
}

/// What may be interrupted.
///
/// ```
/// use std::time::Duration;
/// use selvedge_core::ddp::Rank;
/// use selvedge_sim::world::{Fault, FaultKind, Moment, When};
///
/// let when = When::After { moment: Moment::Votes, nth: 1, plus: Duration::from_millis(2) };
/// let restart = Some(Duration::from_secs(1));
/// let kind = FaultKind::Crash { rank: Rank(2), restart, machine: false };
/// let fault = Fault { when, kind };
/// assert_eq!(fault.when, when);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// A rank gives to a collective.
    Contributes,
    /// A collective is complete; nobody has its result yet.
    Completes,
    /// A rank evaluates its gates.
    Votes,
    /// A rank has told its votes.
    Arrives,
    /// The coordinator begins to write something down.
    Writes,
    /// A rank leaves its view.
    Flushes,
    /// A rank copies parameters.
    Heals,
    /// A rank asks to be admitted after the run has begun.
    Rejoins,
}

impl Moment {
    /// All of them.
    pub const ALL: [Moment; 8] = [
        Moment::Contributes,
        Moment::Completes,
        Moment::Votes,
        Moment::Arrives,
        Moment::Writes,
        Moment::Flushes,
        Moment::Heals,
        Moment::Rejoins,
    ];

    /// How often it comes up in a run, roughly, in an epoch; so that the n-th time is drawn
    /// from times that there are. 0 where it comes only after something else has gone wrong.
    const fn an_epoch(self, ranks: u64) -> u64 {
        match self {
            Moment::Contributes => 3 * ranks,
            Moment::Completes => 3,
            Moment::Votes | Moment::Arrives => ranks,
            Moment::Writes => 1,
            Moment::Flushes | Moment::Heals | Moment::Rejoins => 0,
        }
    }
}

/// What may go wrong.
///
/// ```
/// use std::time::Duration;
/// use selvedge_core::ddp::Rank;
/// use selvedge_sim::world::{Fault, FaultKind, Moment, When};
///
/// let when = When::After { moment: Moment::Votes, nth: 1, plus: Duration::from_millis(2) };
/// let restart = Some(Duration::from_secs(1));
/// let kind = FaultKind::Crash { rank: Rank(2), restart, machine: false };
/// let fault = Fault { when, kind };
/// assert_eq!(fault.when, when);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A rank's process dies.
    Crash {
        /// Which.
        rank: Rank,
        /// When another life of it begins, if one does.
        restart: Option<Duration>,
        /// Its machine dies with it: nobody is told, and its checkpoint is gone.
        machine: bool,
    },
    /// The coordinator's process dies. What it was just writing is kept whole or not at all.
    CrashCoordinator {
        /// When another life of it begins, if one does.
        restart: Option<Duration>,
        /// Whether a write under way is kept.
        kept: bool,
        /// Its machine dies with it: nobody is told.
        machine: bool,
    },
    /// A process is stopped and goes on later (`SIGSTOP`); its machine answers for it.
    Freeze {
        /// Which.
        place: Place,
        /// How long.
        lasts: Duration,
    },
    /// A rank's loop gets stuck for good, with its connections open.
    Stick {
        /// Which.
        rank: Rank,
    },
    /// A rank's work takes so many times as long.
    Slow {
        /// Which.
        rank: Rank,
        /// How many times.
        factor: u32,
        /// How long.
        lasts: Duration,
    },
    /// The connection of a rank to the coordinator breaks.
    Break {
        /// Which.
        rank: Rank,
    },
    /// Nothing gets from a place to another.
    Cut {
        /// From where.
        from: Place,
        /// To where.
        to: Place,
        /// How long.
        lasts: Duration,
    },
    /// Nothing gets from these ranks to the others and the coordinator, or back.
    Partition {
        /// The ranks: bit n for rank n.
        side: u64,
        /// How long.
        lasts: Duration,
    },
    /// The coordinator takes a live rank for lost.
    Suspect {
        /// Which.
        rank: Rank,
    },
    /// A rank's collective comes to nothing, though nobody has died.
    FailStep {
        /// Which.
        rank: Rank,
    },
}

impl FaultKind {
    /// A word for the kind.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            FaultKind::Crash { .. } => "crash",
            FaultKind::CrashCoordinator { .. } => "coordinator-crash",
            FaultKind::Freeze { .. } => "freeze",
            FaultKind::Stick { .. } => "stick",
            FaultKind::Slow { .. } => "slow",
            FaultKind::Break { .. } => "break",
            FaultKind::Cut { .. } => "cut",
            FaultKind::Partition { .. } => "partition",
            FaultKind::Suspect { .. } => "suspect",
            FaultKind::FailStep { .. } => "fail-step",
        }
    }
}

impl FaultKind {
    /// The places that it names; a partition's are many.
    pub(super) fn places(&self) -> [Option<Place>; 2] {
        match *self {
            FaultKind::Crash { rank, .. }
            | FaultKind::Stick { rank }
            | FaultKind::Slow { rank, .. }
            | FaultKind::Break { rank }
            | FaultKind::Suspect { rank }
            | FaultKind::FailStep { rank } => [Some(Place::Rank(rank)), None],
            FaultKind::CrashCoordinator { .. } => [Some(Place::Coordinator), None],
            FaultKind::Freeze { place, .. } => [Some(place), None],
            FaultKind::Cut { from, to, .. } => [Some(from), Some(to)],
            // Bits past the last rank are nobody's.
            FaultKind::Partition { .. } => [None, None],
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.when {
            When::At(at) => write!(f, "at {at:.3?}: ")?,
            When::After { moment, nth, plus } => {
                write!(f, "{plus:.3?} after {moment:?} number {nth}: ")?;
            }
        }
        write!(f, "{:?}", self.kind)
    }
}

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
    /// Nothing goes wrong, in a good network.
    #[must_use]
    pub const fn calm() -> Plan {
        Plan {
            latency: Latency {
                least: Duration::from_micros(200),
                most: ms(2),
                spikes: 0,
                spike: ms(2),
                give_up: ms(1_500),
                notice: ms(2),
                linger: Duration::ZERO,
            },
            grace: Duration::ZERO,
            faults: Vec::new(),
        }
    }

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
        let moment = *(self.stream.pick(&Moment::ALL)).unwrap_or(&Moment::Completes);
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
                        Place::Rank(_) => Place::Coordinator,
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
