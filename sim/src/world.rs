//! A whole run of data-parallel training in virtual time, with everything going wrong that may:
//! the machines of [`selvedge_core::ddp`] that ship, driven by one event loop.
//!
//! **A run is a pure function of its [`WorldConfig`].** Time is virtual, chance comes from the
//! seed in separate streams (schedule, workload, faults, latency), and every event goes into a
//! hash: the same configuration gives the same hash, on any machine.
//!
//! ```
//! use selvedge_sim::world::{Faults, World, WorldConfig};
//!
//! let config = WorldConfig { faults: Faults::Swarm, seed: 7, ..WorldConfig::default() };
//! let report = World::new(config.clone())?.run();
//! assert_eq!(report.violation, None);
//! assert_eq!(report.hash, World::new(config)?.run().hash);
//! # Ok::<(), selvedge_sim::world::WorldError>(())
//! ```
//!
//! # What is checked, after every event
//! | signature | property |
//! |---|---|
//! | `agreement` | what any rank applies for an epoch, alive or dead, is what was decided and written |
//! | `no-mix` | no collective adds up different epochs, alphas or (a ghost) parameters |
//! | `monotone` | views, epochs and versions never go back |
//! | `gate-symmetry` | whoever votes on an epoch asks the same |
//! | `one-life` | no life takes what was meant for another, or is a member again |
//! | `collective-use` | ranks contribute as the collective asks: in the view entered, in order |
//! | `false-alarm` | no machine reports damage where there is none |
//! | `blameless` | who had no part in any fault is not left behind |
//! | `core-invariants` | what the machines say of themselves |
//! | `liveness` | no wait outlives its deadline; after the faults everybody ends, and the healthy core is done |
//!
//! # What goes wrong
//! [`FaultKind`] and [`Latency`] list it: deaths of ranks and of the
//! coordinator in every place, writes kept or lost as a whole, processes stopped, stuck and slow,
//! connections broken, half-open and replaced, paths cut one way or both. **Not**: Byzantine
//! ranks, disks that lie.
//!
//! # Limits
//! Faults come in a first phase, and then no more: else nothing could be said about an end.
//! A run without a violation has shown nothing about what it has not reached: add up
//! [`WorldReport::probes`] over the runs and look at [`Probes::missed`].

mod chain;
mod clock;
mod collective;
mod coordinator;
mod disrupt;
mod faults;
mod mutants;
mod network;
mod probes;
mod properties;
mod random;
mod ranks;
mod run;
mod shrink;
mod timeline;
mod training;

use std::fmt;
use std::time::Duration;

use selvedge_core::ddp::{Deadlines, Epoch, Rank, RunConfig, RunId};
use selvedge_core::time::Instant;
use thiserror::Error;

pub use chain::{Happened, What, first_difference};
pub use clock::VirtualClock;
pub use faults::{Fault, FaultKind, Faults, Moment, Plan, When};
pub use mutants::Mutant;
pub use network::{Latency, Place};
pub use probes::{Probe, Probes};
pub use ranks::End;
pub use shrink::ShrunkWorld;

/// A run to be made.
///
/// ```
/// use selvedge_sim::world::WorldConfig;
///
/// let config = WorldConfig::default();
/// assert_eq!((config.ranks, config.min_world), (4, 2));
/// assert_ne!(WorldConfig::swarm(1), WorldConfig::swarm(2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldConfig {
    /// Ranks that begin it, 1 to 256.
    pub ranks: u32,
    /// With fewer it is given up; at most `ranks`.
    pub min_world: u32,
    /// Its epochs, at least 1.
    pub epochs: u64,
    /// Where all chance comes from.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// What is broken on purpose.
    pub mutant: Mutant,
    /// Whether [`WorldReport::happened`] is wanted: about 48 bytes an event.
    pub record: bool,
    /// How long everything takes.
    pub timing: Timing,
}

impl Default for WorldConfig {
    /// Four ranks, of which two must live, for 60 epochs, with nothing going wrong.
    fn default() -> Self {
        WorldConfig {
            ranks: 4,
            min_world: 2,
            epochs: 60,
            seed: 0,
            faults: Faults::None,
            mutant: Mutant::None,
            record: false,
            timing: Timing::default(),
        }
    }
}

/// How long everything takes, from the least to the most where it is drawn.
///
/// ```
/// use selvedge_sim::world::Timing;
///
/// let timing = Timing::default();
/// assert!(timing.compute.0 <= timing.compute.1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A gradient.
    pub compute: (Duration, Duration),
    /// The evaluation of the gates.
    pub vote: (Duration, Duration),
    /// A copy of the parameters.
    pub copy: (Duration, Duration),
    /// A write of the coordinator.
    pub write: (Duration, Duration),
    /// The most batches of a loader in an epoch; how many it has differs by rank and epoch.
    pub batches: u64,
    /// Between two signs of life.
    pub beat: Duration,
    /// Without one for so long, a rank is taken for lost.
    pub silence: Duration,
    /// After so long a rank looks whether its collective is cut off.
    pub collective: Duration,
    /// At most so long after a lost connection a rank asks for another.
    pub redial: Duration,
    /// So long after a rank failed another life of it begins.
    pub revive: Duration,
    /// Epochs between two checkpoints of a rank.
    pub checkpoint_every: u64,
    /// Deadlines of the waits of a rank.
    pub rank: Deadlines,
    /// Deadlines of the waits of the coordinator: shorter, so that it has left behind whom all
    /// wait for before they give up.
    pub coordinator: Deadlines,
}

impl Default for Timing {
    fn default() -> Self {
        const fn ms(ms: u64) -> Duration {
            Duration::from_millis(ms)
        }
        Timing {
            compute: (ms(5), ms(40)),
            vote: (ms(1), ms(6)),
            copy: (ms(5), ms(60)),
            write: (Duration::from_micros(100), ms(4)),
            batches: 4,
            beat: ms(250),
            silence: ms(1_200),
            collective: ms(1_000),
            redial: ms(200),
            revive: ms(700),
            checkpoint_every: 3,
            rank: Deadlines {
                soft: ms(2_000),
                hard: ms(12_000),
            },
            coordinator: Deadlines {
                soft: ms(2_000),
                hard: ms(5_000),
            },
        }
    }
}

impl Timing {
    /// So long after the last fault everything that it led to should be over.
    #[must_use]
    pub fn settle(&self) -> Duration {
        self.rank.hard + self.coordinator.hard + self.silence + self.collective
    }
}

impl WorldConfig {
    /// A run in which everything is drawn: 2 to 6 ranks, how many must live, 20 to 99 epochs, and
    /// what goes wrong.
    #[must_use]
    pub fn swarm(seed: u64) -> Self {
        let drawn = random::hash(&[seed, 0x5377_6172]);
        let ranks = 2 + (drawn % 5) as u32;
        WorldConfig {
            ranks,
            min_world: 1 + (drawn >> 16) as u32 % (ranks / 2 + 1),
            epochs: 20 + (drawn >> 32) % 80,
            seed,
            faults: Faults::Swarm,
            ..WorldConfig::default()
        }
    }

    fn run_config(&self, run: RunId) -> RunConfig {
        RunConfig {
            run,
            world: self.ranks,
            min_world: self.min_world,
            last_epoch: Epoch(self.epochs),
        }
    }

    /// How long faults may come: about half of the run.
    #[must_use]
    pub fn fault_phase(&self) -> Duration {
        // Four steps an epoch or fewer, each as long as its slowest gradient.
        let epochs = u32::try_from(self.epochs).unwrap_or(u32::MAX);
        self.timing.compute.1 * self.timing.batches as u32 / 2 * epochs
    }

    /// So long after the last fault the run must be over, however slowly it goes.
    fn limit(&self) -> Duration {
        let epochs = u32::try_from(self.epochs).unwrap_or(u32::MAX);
        let step = self.timing.compute.1 * self.timing.batches as u32 + Duration::from_secs(2);
        self.timing.settle() * 4 + step * epochs
    }
}

/// What is wrong with a configuration.
///
/// ```
/// use selvedge_sim::world::{World, WorldConfig};
///
/// let nobody = WorldConfig { ranks: 0, ..WorldConfig::default() };
/// assert!(World::new(nobody).is_err());
/// ```
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WorldError {
    /// Too few ranks, or too many.
    #[error("{0} ranks; a world has 1 to 256")]
    Ranks(u32),
    /// It would be given up before it began, or never.
    #[error("min_world is {min_world}; it must be 1 to {ranks}, the number of ranks")]
    MinWorld {
        /// The least.
        min_world: u32,
        /// All.
        ranks: u32,
    },
    /// Nothing to do.
    #[error("0 epochs; a run has at least 1")]
    NoEpoch,
    /// A fault names a rank that there is not.
    #[error("fault {fault} is about {rank}, but the world has only {ranks} ranks")]
    NoSuchRank {
        /// Its place in the plan.
        fault: usize,
        /// Whom it names.
        rank: Rank,
        /// How many there are.
        ranks: u32,
    },
}

/// A run that is ready to be made.
///
/// ```
/// use selvedge_sim::world::{World, WorldConfig};
///
/// let config = WorldConfig { epochs: 3, ..WorldConfig::default() };
/// let report = World::new(config)?.run();
/// assert_eq!(report.epochs, 3);
/// # Ok::<(), selvedge_sim::world::WorldError>(())
/// ```
#[derive(Clone, Debug)]
pub struct World(WorldConfig);

impl World {
    /// A run, not begun.
    ///
    /// # Errors
    /// Each of [`WorldError`].
    pub fn new(config: WorldConfig) -> Result<Self, WorldError> {
        let WorldConfig {
            ranks, min_world, ..
        } = config;
        if !(1..=256).contains(&ranks) {
            return Err(WorldError::Ranks(ranks));
        }
        if !(1..=ranks).contains(&min_world) {
            return Err(WorldError::MinWorld { min_world, ranks });
        }
        if config.epochs == 0 {
            return Err(WorldError::NoEpoch);
        }
        if let Faults::Plan(plan) = &config.faults {
            for (fault, planned) in plan.faults.iter().enumerate() {
                for place in planned.kind.places().into_iter().flatten() {
                    if let Place::Rank(rank) = place
                        && rank.0 >= ranks
                    {
                        return Err(WorldError::NoSuchRank { fault, rank, ranks });
                    }
                }
            }
        }
        Ok(World(config))
    }

    /// Makes the run, to its end or to the first violation.
    #[must_use]
    pub fn run(self) -> WorldReport {
        run::Simulation::new(self.0).run()
    }
}

/// A property that does not hold.
///
/// ```
/// use selvedge_sim::world::{World, WorldConfig};
///
/// let config = WorldConfig { epochs: 3, ..WorldConfig::default() };
/// let report = World::new(config)?.run();
/// assert_eq!(report.violation.map(|violation| violation.signature), None);
/// # Ok::<(), selvedge_sim::world::WorldError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which: the same for the same fault, whatever the seed.
    pub signature: &'static str,
    /// What was found.
    pub message: String,
    /// When, in virtual time.
    pub at: Instant,
    /// After how many events.
    pub event: u64,
}

/// What a run came to.
///
/// ```
/// use selvedge_sim::world::{World, WorldConfig};
///
/// let config = WorldConfig { epochs: 3, ..WorldConfig::default() };
/// let report = World::new(config)?.run();
/// assert!(report.events > 0 && !report.virtual_time.is_zero());
/// # Ok::<(), selvedge_sim::world::WorldError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldReport {
    /// The run.
    pub config: WorldConfig,
    /// What went wrong in it: with [`Faults::Plan`] of this it is made again.
    pub plan: Plan,
    /// The first property that did not hold.
    pub violation: Option<Violation>,
    /// How each rank ended, by rank; `None` where it never ended.
    pub ends: Vec<Option<End>>,
    /// Epochs that were decided.
    pub epochs: u64,
    /// Events processed.
    pub events: u64,
    /// How long it took in its own time.
    pub virtual_time: Duration,
    /// A digest of everything that happened.
    pub hash: u64,
    /// What it has been through.
    pub probes: Probes,
    /// Everything that happened, if it was wanted.
    pub happened: Vec<Happened>,
}

impl fmt::Display for WorldReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WorldConfig {
            ranks,
            epochs,
            seed,
            mutant,
            ..
        } = self.config;
        write!(f, "seed {seed}, {ranks} ranks, {}", self.epochs)?;
        write!(f, " of {epochs} epochs, mutant {mutant:?}: ")?;
        match &self.violation {
            None => writeln!(f, "every property held")?,
            Some(Violation {
                signature,
                message,
                at,
                event,
            }) => {
                let seconds = at.as_nanos() as f64 / 1e9;
                writeln!(f, "VIOLATED {signature}: {message}")?;
                writeln!(f, "  after {event} events, at {seconds:.6} s")?;
            }
        }
        for (place, fault) in self.plan.faults.iter().enumerate() {
            writeln!(f, "  fault {place} {fault}")?;
        }
        write!(f, "  {} events, {:.1?}", self.events, self.virtual_time)?;
        writeln!(f, ", hash {:016x}", self.hash)
    }
}
