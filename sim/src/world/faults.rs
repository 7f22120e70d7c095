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
use serde::{Deserialize, Serialize};

use super::mirrors::RankMirror;
use super::network::{Latency, Place};
use crate::faulty::PlannedFault;

/// What goes wrong in a run.
///
/// ```
/// use selvedge_sim::world::{Faults, WorldConfig};
///
/// assert_eq!(WorldConfig::default().faults, Faults::None);
/// ```
#[allow(
    clippy::large_enum_variant,
    reason = "there is one a run, and a box would be in everybody's way"
)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How the network is on the whole.
    pub latency: Latency,
    /// How long a lost connection may be replaced before the coordinator takes its rank for
    /// lost.
    pub grace: Duration,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What becomes of messages between agents and server.
    pub mail: Mail,
    /// What the server's backend does wrong.
    pub backend: Vec<BackendFault>,
    /// What becomes of compiles.
    pub compile: CompileFaults,
    /// What drivers do that they rarely do.
    pub rare: Rares,
}

/// What becomes of messages between agents and server: nothing keeps their order, and each is
/// lost or comes twice by itself. How long they take is [`Latency`]'s.
///
/// ```
/// use selvedge_sim::world::{Mail, Plan};
///
/// assert_eq!(Plan::calm().mail, Mail::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// How many in a thousand are lost.
    pub loss: u64,
    /// How many in a thousand come twice.
    pub duplicate: u64,
    /// How many in a thousand are overtaken by later ones.
    pub reorder: u64,
    /// How much longer those take, at most.
    pub late: Duration,
}

/// Something that the server's backend does wrong.
///
/// ```
/// use selvedge_sim::faulty::{Call, Fault, PlannedFault};
/// use selvedge_sim::world::{BackendFault, Plan};
///
/// let planned = PlannedFault { call: Call::Insert, nth: 2, fault: Fault::OutOfMemory };
/// let plan = Plan { backend: vec![BackendFault { engine: 1, planned }], ..Plan::calm() };
/// assert_eq!(plan.backend[0].engine, 1, "of the first engine of the run");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendFault {
    /// In which engine: the first of a run is 1, and each that takes another's place the next.
    pub engine: u32,
    /// In which call, and what.
    pub planned: PlannedFault,
}

/// What becomes of compiles, each by itself: so many in a thousand fail so.
///
/// ```
/// use selvedge_sim::world::{CompileFaults, Plan};
///
/// assert_eq!(Plan::calm().compile, CompileFaults::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileFaults {
    /// In a way that may pass.
    pub transient: u64,
    /// In a way that will not.
    pub permanent: u64,
    /// By a panic.
    pub panicking: u64,
    /// Only as what was compiled is run for the first time.
    pub lazy: u64,
    /// They do not come back in time.
    pub hanging: u64,
    /// What has passed fails later, in use.
    pub in_use: u64,
}

/// What drivers do that is allowed and rare: which of it there is in a run, and how often.
///
/// ```
/// use selvedge_sim::world::{Plan, Rares};
///
/// assert_eq!(Plan::calm().rare, Rares::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rares {
    /// Which: a bit each, in the order of the probes that tell of them.
    pub sites: u64,
    /// How many times in a thousand.
    pub per_mille: u64,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// The server accepts a request.
    Accepts,
    /// The server's engine has made a turn that nobody was told of yet.
    Turns,
    /// The server has told what came of a turn.
    Tells,
    /// A rank begins to compile its step.
    Compiles,
    /// A rank's trace is written to.
    Records,
}

impl Moment {
    /// All of them.
    pub const ALL: [Moment; 13] = [
        Moment::Contributes,
        Moment::Completes,
        Moment::Votes,
        Moment::Arrives,
        Moment::Writes,
        Moment::Flushes,
        Moment::Heals,
        Moment::Rejoins,
        Moment::Accepts,
        Moment::Turns,
        Moment::Tells,
        Moment::Compiles,
        Moment::Records,
    ];

    /// Those of the training job itself.
    pub(super) const fn of_training() -> &'static [Moment] {
        Moment::ALL.split_at(8).0
    }

    /// How often it comes up in a run, roughly, in an epoch; so that the n-th time is drawn
    /// from times that there are. 0 where it comes only after something else has gone wrong.
    pub(super) const fn an_epoch(self, ranks: u64) -> u64 {
        match self {
            Moment::Contributes | Moment::Records => 3 * ranks,
            Moment::Completes | Moment::Turns | Moment::Tells => 3,
            Moment::Votes | Moment::Arrives => ranks,
            Moment::Writes | Moment::Accepts => 1,
            Moment::Flushes | Moment::Heals | Moment::Rejoins | Moment::Compiles => 0,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// A rank's process dies.
    Crash {
        /// Which.
        #[serde(with = "RankMirror")]
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
        #[serde(with = "RankMirror")]
        rank: Rank,
    },
    /// A rank's work takes so many times as long.
    Slow {
        /// Which.
        #[serde(with = "RankMirror")]
        rank: Rank,
        /// How many times.
        factor: u32,
        /// How long.
        lasts: Duration,
    },
    /// The connection of a rank to the coordinator breaks.
    Break {
        /// Which.
        #[serde(with = "RankMirror")]
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
        #[serde(with = "RankMirror")]
        rank: Rank,
    },
    /// A rank's collective comes to nothing, though nobody has died.
    FailStep {
        /// Which.
        #[serde(with = "RankMirror")]
        rank: Rank,
    },
    /// The server's process dies, with all that it had.
    CrashServer {
        /// When another life of it begins.
        restart: Duration,
    },
    /// An agent has enough of the turn under way.
    CancelTurn {
        /// Which.
        agent: u32,
    },
    /// An agent reads nothing of what it is sent.
    SlowClient {
        /// Which.
        agent: u32,
        /// How long.
        lasts: Duration,
    },
    /// The server is drained, and open again some time after it is empty.
    Drain {
        /// By when it is to be empty.
        within: Duration,
        /// How long it stays closed.
        closed: Duration,
    },
    /// The server is drained, and gets another model if it is empty in time.
    Reconfigure {
        /// By when it is to be empty.
        within: Duration,
        /// What the model is drawn from.
        model: u64,
    },
    /// A process's clock jumps ahead.
    ClockStep {
        /// Which.
        place: Place,
        /// How far.
        by: Duration,
    },
    /// The disk that a rank's traces go to is full.
    FullDisk {
        /// Which.
        #[serde(with = "RankMirror")]
        rank: Rank,
        /// How long.
        lasts: Duration,
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
            FaultKind::CrashServer { .. } => "server-crash",
            FaultKind::CancelTurn { .. } => "cancel",
            FaultKind::SlowClient { .. } => "slow-client",
            FaultKind::Drain { .. } => "drain",
            FaultKind::Reconfigure { .. } => "reconfigure",
            FaultKind::ClockStep { .. } => "clock-step",
            FaultKind::FullDisk { .. } => "full-disk",
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
            | FaultKind::FailStep { rank }
            | FaultKind::FullDisk { rank, .. } => [Some(Place::Rank(rank)), None],
            FaultKind::CrashCoordinator { .. } => [Some(Place::Coordinator), None],
            FaultKind::Freeze { place, .. } | FaultKind::ClockStep { place, .. } => {
                [Some(place), None]
            }
            FaultKind::CrashServer { .. }
            | FaultKind::Drain { .. }
            | FaultKind::Reconfigure { .. } => [Some(Place::Server), None],
            FaultKind::CancelTurn { agent } | FaultKind::SlowClient { agent, .. } => {
                [Some(Place::Agent(agent)), None]
            }
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

impl fmt::Display for BackendFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PlannedFault { call, nth, fault } = self.planned;
        write!(f, "engine {}, {call} number {nth}: {fault:?}", self.engine)
    }
}

pub(super) const fn ms(ms: u64) -> Duration {
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
            mail: Mail {
                loss: 0,
                duplicate: 0,
                reorder: 0,
                late: Duration::ZERO,
            },
            backend: Vec::new(),
            compile: CompileFaults {
                transient: 0,
                permanent: 0,
                panicking: 0,
                lazy: 0,
                hanging: 0,
                in_use: 0,
            },
            rare: Rares {
                sites: 0,
                per_mille: 0,
            },
        }
    }
}
