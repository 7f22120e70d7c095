//! What a run is made of: who takes part, how long, what goes wrong, and how long everything
//! takes.

use std::time::Duration;

use selvedge_core::ddp::{Deadlines, Epoch, Rank, RunConfig, RunId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::faults::{FaultKind, Faults, Plan};
use super::mirrors::DeadlinesMirror;
use super::mutants::Mutant;
use super::network::{MOST_RANKS, Place};
use super::random;
use crate::faulty::{FaultPlan, FaultPlanError};

/// A run to be made.
///
/// ```
/// use selvedge_sim::world::WorldConfig;
///
/// let config = WorldConfig::default();
/// assert_eq!((config.ranks, config.min_world), (4, 2));
/// assert_ne!(WorldConfig::swarm(1), WorldConfig::swarm(2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Whether [`WorldReport::happened`](super::WorldReport::happened) is wanted: about 48 bytes an event.
    pub record: bool,
    /// How long everything takes.
    pub timing: Timing,
    /// Who takes part.
    pub parts: Parts,
    /// Agents that have something to ask, at most 64. Only where requests are served.
    pub agents: u32,
    /// Turns of each agent, at least 1 where requests are served.
    pub turns: u32,
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
            parts: Parts::default(),
            agents: 3,
            turns: 4,
        }
    }
}

/// Who takes part in a run: all in one virtual time, one queue of events and one digest.
///
/// ```
/// use selvedge_sim::world::{Parts, World, WorldConfig};
///
/// assert_eq!(WorldConfig::default().parts, Parts::TRAINING);
/// let config = WorldConfig { parts: Parts::ALL, epochs: 3, turns: 2, ..WorldConfig::default() };
/// assert_eq!(World::new(config)?.run().violation, None);
/// # Ok::<(), selvedge_sim::world::WorldError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// A training job: ranks and their coordinator.
    pub training: bool,
    /// A server, which is the batch engine on a pool, and agents that ask it.
    pub serving: bool,
    /// The training guards, on each rank; nothing where nobody trains.
    pub guards: bool,
}

impl Parts {
    /// The training job alone.
    pub const TRAINING: Parts = Parts {
        training: true,
        serving: false,
        guards: false,
    };

    /// The server and its agents alone.
    pub const SERVING: Parts = Parts {
        training: false,
        serving: true,
        guards: false,
    };

    /// Everybody.
    pub const ALL: Parts = Parts {
        training: true,
        serving: true,
        guards: true,
    };
}

impl Default for Parts {
    fn default() -> Self {
        Parts::TRAINING
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    #[serde(with = "DeadlinesMirror")]
    pub rank: Deadlines,
    /// Deadlines of the waits of the coordinator: shorter, so that it has left behind whom all
    /// wait for before they give up.
    #[serde(with = "DeadlinesMirror")]
    pub coordinator: Deadlines,
    /// How long everything takes where requests are served.
    pub serving: ServingTiming,
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
            serving: ServingTiming::default(),
        }
    }
}

/// How long everything takes where requests are served.
///
/// ```
/// use selvedge_sim::world::ServingTiming;
///
/// let timing = ServingTiming::default();
/// assert!(timing.think.0 <= timing.think.1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServingTiming {
    /// A step of the model, whatever it computes.
    pub step: Duration,
    /// For each token of a prompt besides.
    pub prefill_token: Duration,
    /// For each sequence that produces a token.
    pub decode: Duration,
    /// From an agent's answer to its next turn.
    pub think: (Duration, Duration),
    /// An agent that has heard nothing for so long asks again.
    pub retry: Duration,
    /// A front end whose engine died has another after so long.
    pub rebuild: Duration,
    /// Tokens of a stream that its client has not confirmed, at most; with more it is cut.
    pub room: u32,
}

impl Default for ServingTiming {
    fn default() -> Self {
        const fn ms(ms: u64) -> Duration {
            Duration::from_millis(ms)
        }
        ServingTiming {
            step: ms(12),
            prefill_token: Duration::from_micros(150),
            decode: Duration::from_micros(300),
            think: (ms(50), ms(1_200)),
            retry: ms(300),
            rebuild: ms(120),
            room: 12,
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

    /// As [`Self::swarm`], with everybody taking part: 1 to 5 agents of 2 to 6 turns, and a third
    /// of the epochs, so that neither half waits long for the other.
    ///
    /// ```
    /// use selvedge_sim::world::{Parts, WorldConfig};
    ///
    /// assert_eq!(WorldConfig::whole(1).parts, Parts::ALL);
    /// ```
    #[must_use]
    pub fn whole(seed: u64) -> Self {
        let drawn = random::hash(&[seed, 0x5768_6f6c]);
        let training = WorldConfig::swarm(seed);
        WorldConfig {
            epochs: training.epochs.div_ceil(3),
            parts: Parts::ALL,
            agents: 1 + (drawn % 5) as u32,
            turns: 2 + ((drawn >> 16) % 5) as u32,
            ..training
        }
    }

    /// Whether a run can be made of it.
    pub(super) fn check(&self) -> Result<(), WorldError> {
        let WorldConfig {
            ranks,
            min_world,
            parts,
            ..
        } = *self;
        if !(1..=MOST_RANKS as u32).contains(&ranks) {
            return Err(WorldError::Ranks(ranks));
        }
        if !(1..=ranks).contains(&min_world) {
            return Err(WorldError::MinWorld { min_world, ranks });
        }
        if self.epochs == 0 {
            return Err(WorldError::NoEpoch);
        }
        if !parts.training && !parts.serving {
            return Err(WorldError::NoPart);
        }
        if parts.serving && !(1..=64).contains(&self.agents) {
            return Err(WorldError::Agents(self.agents));
        }
        if parts.serving && self.turns == 0 {
            return Err(WorldError::NoTurn);
        }
        match &self.faults {
            Faults::Plan(plan) => self.check_plan(plan),
            Faults::None | Faults::Swarm => Ok(()),
        }
    }

    fn check_plan(&self, plan: &Plan) -> Result<(), WorldError> {
        for (fault, planned) in plan.faults.iter().enumerate() {
            for place in planned.kind.places().into_iter().flatten() {
                let ranks = self.ranks;
                match place {
                    Place::Rank(rank) if self.parts.training && rank.0 >= ranks => {
                        return Err(WorldError::NoSuchRank { fault, rank, ranks });
                    }
                    _ if self.takes_part(place) => {}
                    _ => return Err(WorldError::Absent { fault, place }),
                }
            }
            if let FaultKind::Cut { from, to, .. } = planned.kind
                && serves(from) != serves(to)
            {
                return Err(WorldError::NoPath { fault, from, to });
            }
        }
        for (fault, planned) in plan.backend.iter().enumerate() {
            let planned = vec![planned.planned];
            FaultPlan::try_from(planned).map_err(|why| WorldError::Backend { fault, why })?;
        }
        Ok(())
    }

    fn takes_part(&self, place: Place) -> bool {
        match place {
            Place::Coordinator | Place::Rank(_) => self.parts.training,
            Place::Server => self.parts.serving,
            Place::Agent(agent) => self.parts.serving && agent < self.agents,
        }
    }

    pub(super) fn run_config(&self, run: RunId) -> RunConfig {
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
    pub(super) fn limit(&self) -> Duration {
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
    /// Nobody takes part.
    #[error("nobody takes part; turn on parts.training or parts.serving")]
    NoPart,
    /// Nobody asks, or too many do.
    #[error("{0} agents; where requests are served there are 1 to 64")]
    Agents(u32),
    /// Nothing to ask.
    #[error("0 turns; where requests are served an agent has at least 1")]
    NoTurn,
    /// A fault is about somebody who does not take part.
    #[error("fault {fault} is about {place}, which does not take part; see `parts` and `agents`")]
    Absent {
        /// Its place in the plan.
        fault: usize,
        /// Whom it names.
        place: Place,
    },
    /// A fault cuts a path that there is not.
    #[error("fault {fault} cuts the path from {from} to {to}, and there is none")]
    NoPath {
        /// Its place in the plan.
        fault: usize,
        /// From where.
        from: Place,
        /// To where.
        to: Place,
    },
    /// A fault of the backend that cannot be.
    #[error("backend fault {fault}: {why}")]
    Backend {
        /// Its place in the plan.
        fault: usize,
        /// What is wrong with it.
        why: FaultPlanError,
    },
}

/// Whether a place is on the side of those who serve and ask: no path leads to those who train.
fn serves(place: Place) -> bool {
    matches!(place, Place::Server | Place::Agent(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Fault, Moment, When};

    #[test]
    fn a_configuration_is_the_same_after_it_was_written_down() {
        let kind = FaultKind::Cut {
            from: Place::Agent(1),
            to: Place::Server,
            lasts: Duration::from_millis(30),
        };
        let moment = Moment::Tells;
        let (nth, plus) = (3, Duration::ZERO);
        let when = When::After { moment, nth, plus };
        let crash = FaultKind::Freeze {
            place: Place::Rank(Rank(2)),
            lasts: Duration::from_millis(7),
        };
        let config = WorldConfig {
            mutant: Mutant::NoFlush,
            faults: Faults::Plan(Plan {
                faults: vec![Fault { when, kind }, Fault { when, kind: crash }],
                ..Plan::calm()
            }),
            ..WorldConfig::whole(3)
        };
        let bytes = postcard::to_stdvec(&config).unwrap();
        assert_eq!(postcard::from_bytes::<WorldConfig>(&bytes), Ok(config));
    }
}
