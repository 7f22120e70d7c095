//! All of core in one run in virtual time, with everything going wrong that may: a training job,
//! driven by the machines of [`selvedge_core::ddp`] that ship; its ranks' training guards
//! ([`selvedge_core::train`]); and agents that ask a server, which is the batch engine that ships
//! on the pool that ships. There is one clock, one queue of events and one digest for all of them.
//! [`Parts`] says who takes part.
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
//! | `liveness` | no wait outlives its deadline; after the faults everybody ends, the healthy core is done, and every turn of every agent is over |
//! | `right-tokens` | what the engine says and what an agent has is what the model comes to from nothing |
//! | `right-content` | no backend finds in a block what should not be there |
//! | `ends-once` | an accepted request ends once, a key is executed once a life of the server |
//! | `conservation` | engine and pool agree on every block, and whoever is over has none |
//! | `drain` | a drain ends by its deadline, and what is drained is empty |
//! | `bounded-bypass` | nobody is overtaken more often than may be |
//! | `no-stall` | the engine is stepped when it has something to do |
//! | `refused` | no request is refused for good, and no cache that is given back |
//! | `stale-alpha` | what a worker reads is the alpha of the record its rank has applied |
//! | `live-entries` | there are no more values of alpha than workers |
//! | `never-for-ever` | a step whose compile failed is compiled again when it can be |
//! | `attempts-bounded` | and no more often than an epoch allows |
//! | `first-execution` | what was compiled is used after it was run through once |
//! | `profile-kept` | a trace is valid or can be repaired, with all that was written |
//! | `clock` | no process's time goes back |
//!
//! # What goes wrong
//! [`FaultKind`], [`Latency`], [`Mail`], [`BackendFault`] and [`CompileFaults`] list it: deaths of
//! ranks, of the coordinator and of the server in every place, writes kept or lost as a whole,
//! processes stopped, stuck and slow, connections broken, half-open and replaced, paths cut one
//! way or both, messages lost, doubled and overtaken, clients that do not read, backends that fail,
//! panic and say what they must not, compiles that fail, disks that are full, clocks that jump.
//! And, where a run has them switched on ([`Rares`]), drivers that take a seldom way. **Not**:
//! Byzantine ranks, disks that lie.
//!
//! # Limits
//! Faults come in a first phase, and then no more: else nothing could be said about an end.
//! A run without a violation has shown nothing about what it has not reached: add up
//! [`WorldReport::probes`] over the runs and look at [`Probes::missed`].

mod chain;
mod clock;
mod collective;
mod config;
mod coordinator;
mod disrupt;
mod faults;
mod guards;
mod mirrors;
mod mutants;
mod network;
mod probes;
mod properties;
mod random;
mod ranks;
mod rare;
mod run;
mod serving;
mod shrink;
mod swarm;
mod timeline;
mod training;

use std::fmt;
use std::time::Duration;

use selvedge_core::time::Instant;

pub use chain::{Happened, What, first_difference};
pub use clock::VirtualClock;
pub use config::{Parts, ServingTiming, Timing, WorldConfig, WorldError};
pub use faults::{
    BackendFault, CompileFaults, Fault, FaultKind, Faults, Mail, Moment, Plan, Rares, When,
};
pub use mutants::Mutant;
pub use network::{Latency, Place};
pub use probes::{Probe, Probes};
pub use ranks::End;
pub use shrink::ShrunkWorld;

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
        config.check()?;
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
            parts,
            agents,
            turns,
            ..
        } = self.config;
        write!(f, "seed {seed}, ")?;
        if parts.training {
            write!(f, "{ranks} ranks, {} of {epochs} epochs, ", self.epochs)?;
        }
        if parts.serving {
            write!(f, "{agents} agents of {turns} turns, ")?;
        }
        write!(f, "mutant {mutant:?}: ")?;
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
        for fault in &self.plan.backend {
            writeln!(f, "  backend: {fault}")?;
        }
        if self.plan.mail != Mail::default() {
            writeln!(f, "  {:?}", self.plan.mail)?;
        }
        if self.plan.compile != CompileFaults::default() {
            writeln!(f, "  {:?}", self.plan.compile)?;
        }
        if self.plan.rare.sites != 0 {
            writeln!(f, "  {:?}", self.plan.rare)?;
        }
        write!(f, "  {} events, {:.1?}", self.events, self.virtual_time)?;
        writeln!(f, ", hash {:016x}", self.hash)
    }
}
