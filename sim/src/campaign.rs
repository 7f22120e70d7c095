//! Campaigns: many seeds of the simulated [`world`](crate::world) as one unit of work.
//!
//! **To a scenario a world is a function from a seed to a [`WorldConfig`].** The engine `world`
//! makes one run a seed, in a child like any other body, with its limit, its progress, its seeds
//! and its drawings. An execution is a run, and what a violation leaves is the configuration with
//! the plan of everything that went wrong: the same run on any machine.
//!
//! ```
//! use selvedge_sim::campaign::WorldBody;
//! use selvedge_sim::world::{Mutant, WorldConfig};
//! use selvedge_sim::{Bodies, Engine};
//!
//! const SHIPPED: WorldBody = WorldBody::drawn_by(WorldConfig::swarm);
//! const TWIN: Bodies = Bodies::of_world(SHIPPED.but(Mutant::NoFlush));
//! assert!(TWIN.runs_under(Engine::World) && !TWIN.runs_under(Engine::Native));
//! assert_eq!(SHIPPED.config(7), WorldConfig::swarm(7));
//! ```

mod sources;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::world::{Faults, Mutant, Probe, WorldConfig, WorldReport};

pub use self::sources::world_revision;

/// A world for each seed: see the [module](self).
///
/// ```
/// use selvedge_sim::campaign::WorldBody;
/// use selvedge_sim::world::{Mutant, WorldConfig};
///
/// let small = WorldBody::drawn_by(|seed| WorldConfig { seed, epochs: 5, ..WorldConfig::default() });
/// let broken = small.but(Mutant::NoFlush);
/// assert_eq!((broken.config(3).seed, broken.config(3).mutant), (3, Mutant::NoFlush));
/// assert_eq!(broken.mutant(), Mutant::NoFlush);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct WorldBody {
    draw: fn(u64) -> WorldConfig,
    mutant: Mutant,
    symptom: Option<&'static str>,
}

impl WorldBody {
    /// The world that this function has for a seed. What it draws it must draw from the seed.
    #[must_use]
    pub const fn drawn_by(draw: fn(u64) -> WorldConfig) -> Self {
        WorldBody {
            draw,
            mutant: Mutant::None,
            symptom: None,
        }
    }

    /// The same, broken in this way.
    #[must_use]
    pub const fn but(self, mutant: Mutant) -> Self {
        WorldBody {
            draw: self.draw,
            mutant,
            symptom: self.symptom,
        }
    }

    /// The same, whose search is for this signature: one thing done wrong may show in several
    /// ways, and which comes first is luck. A run that is violated otherwise is passed over, unless
    /// none is violated so.
    #[must_use]
    pub const fn found_by(self, symptom: &'static str) -> Self {
        WorldBody {
            draw: self.draw,
            mutant: self.mutant,
            symptom: Some(symptom),
        }
    }

    pub(crate) fn is_symptom(&self, signature: &str) -> bool {
        self.symptom.is_none_or(|symptom| symptom == signature)
    }

    /// How it is broken.
    #[must_use]
    pub const fn mutant(&self) -> Mutant {
        self.mutant
    }

    /// The run of a seed.
    #[must_use]
    pub fn config(&self, seed: u64) -> WorldConfig {
        WorldConfig {
            mutant: self.mutant,
            record: false,
            ..(self.draw)(seed)
        }
    }
}

/// Which seeds to run, and in what the worlds differ from what the body draws.
///
/// ```
/// use selvedge_sim::campaign::{Campaign, WorldBody};
/// use selvedge_sim::world::{Faults, WorldConfig};
///
/// let calm = Campaign { swarm: Some(false), ranks: Some(1), ..Campaign::of(40, 100) };
/// let config = calm.config(&WorldBody::drawn_by(WorldConfig::swarm), 41);
/// assert_eq!((config.seed, config.ranks, config.min_world), (41, 1, 1));
/// assert_eq!(config.faults, Faults::None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    /// The first seed.
    pub from: u64,
    /// How many; they follow one another.
    pub seeds: u64,
    /// Whether things go wrong; as the body has it if not given.
    pub swarm: Option<bool>,
    /// Ranks that begin; as the body has it if not given.
    pub ranks: Option<u32>,
    /// Epochs; as the body has it if not given.
    pub epochs: Option<u64>,
    /// Every so many seeds, beginning with the first, one is run twice and both runs must be the
    /// same. 0 means none.
    pub twice_every: u64,
    /// Whether [`CampaignFigures::hashes`] is wanted.
    pub hashes: bool,
    /// Whether what happens in the last run is to be taken down, though all was well.
    pub record: bool,
    /// Plants what must not be: no two runs of a seed take the same time. For a campaign that is
    /// to find it.
    pub canary: bool,
}

impl Campaign {
    /// So many seeds from this one, as the body draws them, with a look now and then at whether
    /// the same seed is the same run.
    #[must_use]
    pub fn of(from: u64, seeds: u64) -> Self {
        Campaign {
            from,
            seeds,
            twice_every: LOOK_EVERY,
            ..Campaign::default()
        }
    }

    /// The run of a seed.
    #[must_use]
    pub fn config(&self, body: &WorldBody, seed: u64) -> WorldConfig {
        let mut config = body.config(seed);
        match self.swarm {
            None => {}
            Some(true) => config.faults = Faults::Swarm,
            Some(false) => config.faults = Faults::None,
        }
        if let Some(ranks) = self.ranks {
            config.ranks = ranks;
            config.min_world = config.min_world.min(ranks);
        }
        config.epochs = self.epochs.unwrap_or(config.epochs);
        if self.canary {
            crate::engines::world::plant(&mut config);
        }
        config
    }
}

/// One run of so many is made twice, unless somebody asks for more.
const LOOK_EVERY: u64 = 16;

/// What a campaign has been through, so far.
///
/// ```
/// use selvedge_sim::campaign::CampaignFigures;
/// use selvedge_sim::world::{World, WorldConfig};
///
/// let report = World::new(WorldConfig { epochs: 3, ..WorldConfig::default() })?.run();
/// let mut figures = CampaignFigures::default();
/// figures.count(&report);
/// let once = figures.clone();
/// figures.add(&once);
/// assert_eq!((figures.seeds, figures.events), (2, 2 * report.events));
/// assert_eq!(figures.virtual_time(), 2 * report.virtual_time);
/// assert!(figures.missed().contains(&"rejoin at a boundary"));
/// # Ok::<(), selvedge_sim::world::WorldError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignFigures {
    /// Runs made.
    pub seeds: u64,
    /// Events processed.
    pub events: u64,
    /// How long they took in their own time, in nanoseconds.
    pub virtual_ns: u64,
    /// The sum of the digests of the runs, whatever their order: two campaigns over the same seeds
    /// with another one were not the same, on whichever machine or build.
    pub digest: u64,
    /// How often each probe was reached, those that never were included.
    pub probes: BTreeMap<String, u64>,
    /// The digest of each run, in the order of the seeds, where they are wanted.
    pub hashes: Vec<u64>,
}

impl CampaignFigures {
    /// Adds a run.
    pub fn count(&mut self, report: &WorldReport) {
        self.seeds += 1;
        self.events += report.events;
        self.digest = self.digest.wrapping_add(report.hash);
        let nanos = u64::try_from(report.virtual_time.as_nanos()).unwrap_or(u64::MAX);
        self.virtual_ns = self.virtual_ns.saturating_add(nanos);
        for &probe in Probe::ALL {
            let more = report.probes.count(probe);
            match self.probes.get_mut(probe.words()) {
                Some(sum) => *sum += more,
                None => {
                    self.probes.insert(probe.words().to_owned(), more);
                }
            }
        }
    }

    /// Adds another campaign's.
    pub fn add(&mut self, other: &CampaignFigures) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.digest = self.digest.wrapping_add(other.digest);
        self.virtual_ns = self.virtual_ns.saturating_add(other.virtual_ns);
        for (probe, more) in &other.probes {
            *self.probes.entry(probe.clone()).or_default() += more;
        }
        self.hashes.extend(&other.hashes);
    }

    pub(crate) fn without_hashes(&self) -> CampaignFigures {
        CampaignFigures {
            seeds: self.seeds,
            events: self.events,
            virtual_ns: self.virtual_ns,
            digest: self.digest,
            probes: self.probes.clone(),
            hashes: Vec::new(),
        }
    }

    /// How long the runs took in their own time, together.
    #[must_use]
    pub fn virtual_time(&self) -> Duration {
        Duration::from_nanos(self.virtual_ns)
    }

    /// The probes that no run has reached: what the campaign has not tested.
    #[must_use]
    pub fn missed(&self) -> Vec<&'static str> {
        let never = |words: &&str| self.probes.get(*words).is_none_or(|&count| count == 0);
        (Probe::ALL.iter().map(|probe| probe.words()))
            .filter(never)
            .collect()
    }
}

/// How large a run is.
///
/// ```
/// use selvedge_sim::campaign::WorldSize;
/// use selvedge_sim::world::{World, WorldConfig};
///
/// let report = World::new(WorldConfig { epochs: 3, ..WorldConfig::default() })?.run();
/// let size = WorldSize::of(&report);
/// assert_eq!((size.faults, size.ranks, size.epochs), (0, 4, 3));
/// # Ok::<(), selvedge_sim::world::WorldError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldSize {
    /// Faults of the plan, those of the backend among them.
    pub faults: u64,
    /// Ranks that begin; 0 where nobody trains.
    pub ranks: u32,
    /// Epochs to do.
    pub epochs: u64,
    /// Agents that ask; 0 where nobody serves.
    pub agents: u32,
    /// Turns of each.
    pub turns: u32,
    /// Events processed.
    pub events: u64,
    /// How long it took in its own time, in nanoseconds.
    pub virtual_ns: u64,
}

impl WorldSize {
    /// That of a run.
    #[must_use]
    pub fn of(report: &WorldReport) -> Self {
        let config = &report.config;
        let (training, serving) = (config.parts.training, config.parts.serving);
        WorldSize {
            faults: (report.plan.faults.len() + report.plan.backend.len()) as u64,
            ranks: if training { config.ranks } else { 0 },
            epochs: if training { config.epochs } else { 0 },
            agents: if serving { config.agents } else { 0 },
            turns: if serving { config.turns } else { 0 },
            events: report.events,
            virtual_ns: u64::try_from(report.virtual_time.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

/// One fault of a plan, tried without and at another moment.
///
/// ```
/// use selvedge_sim::campaign::FaultTried;
///
/// let fault = FaultTried { text: "at 1s: a crash".to_owned(), critical: Some(true), timed: Some(false) };
/// assert_eq!(fault.words(), "critical: without it the failure vanishes; it may come at another moment");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultTried {
    /// When it comes and what it is.
    pub text: String,
    /// Whether the failure vanishes without it; `None` where there was no time to try.
    pub critical: Option<bool>,
    /// Whether the failure vanishes where it comes a little earlier or later.
    pub timed: Option<bool>,
}

impl FaultTried {
    /// What was found out about it.
    #[must_use]
    pub fn words(&self) -> String {
        let needed = match self.critical {
            None => return "not tried: time ran out".to_owned(),
            Some(true) => "critical: without it the failure vanishes",
            Some(false) => "not needed by itself: it fails in the same way without it",
        };
        match self.timed {
            None => needed.to_owned(),
            Some(true) => format!("{needed}, and also where it comes at another moment"),
            Some(false) => format!("{needed}; it may come at another moment"),
        }
    }
}

/// A run made smaller.
///
/// ```
/// use selvedge_sim::campaign::{SmallerRun, WorldSize};
/// use selvedge_sim::world::{World, WorldConfig};
///
/// let report = World::new(WorldConfig { epochs: 3, ..WorldConfig::default() })?.run();
/// let size = WorldSize::of(&report);
/// let same = SmallerRun {
///     config: report.config.clone(),
///     before: size,
///     after: size,
///     runs: 1,
///     cut: false,
///     faults: Vec::new(),
///     hash: report.hash,
/// };
/// assert_eq!(same.after, same.before);
/// # Ok::<(), selvedge_sim::world::WorldError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmallerRun {
    /// What is left, with its plan.
    pub config: WorldConfig,
    /// The size at first.
    pub before: WorldSize,
    /// The size now.
    pub after: WorldSize,
    /// Runs it took.
    pub runs: u64,
    /// Whether there was no time for more.
    pub cut: bool,
    /// Every fault that is left.
    pub faults: Vec<FaultTried>,
    /// The digest of what is left.
    pub hash: u64,
}
