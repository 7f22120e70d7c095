//! What one rank trains: the model's state, its shard, and what it tells of its seeds' gates.
//!
//! What every rank must have alike comes out of sums over all ranks and out of records, and
//! nothing else. A rank's own shard is only in what it contributes, and in its votes.
//!
//! Alphas come through an [`AlphaCache`], and gradients through a [`CompiledStep`]: whoever drives
//! the worker tells both of each record ([`Worker::guards`]).

use std::time::Duration;

use selvedge_core::ddp::{CommitRecord, Epoch, GateMetrics, Rank, SlotId};
use selvedge_core::time::SystemClock;
use selvedge_core::train::compiled_step::ConfigError;
use selvedge_core::train::{
    AlphaCache, AlphaKey, AlphaWorker, CompileConfig, CompiledStep, Dtype, StepHandle,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::data::{FEATURES, Row, Shard};
use super::kernel::{Kernels, Shape, StepInput};
use super::model::{Blend, PARAMETERS, SLOTS, Sums, seed_range};

/// How far a step goes.
const RATE: f64 = 0.05;
/// How much of the last step is in the next.
const MOMENTUM: f64 = 0.9;

/// How an epoch went, over all ranks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochLoss {
    /// The mean cross-entropy of its rows, each as the model was at its step.
    pub loss: f64,
    /// The share of its rows that were put into the right class.
    pub accuracy: f64,
}

/// All that a rank must copy to go on where another is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    /// The epoch of the last record it has applied.
    epoch: u64,
    /// How many steps were applied.
    applied: u64,
    parameters: Vec<f64>,
    velocity: Vec<f64>,
    /// Loss, rows in the right class and rows of the epoch so far.
    sums: [f64; 3],
    last: Option<EpochLoss>,
    /// By slot: the seed in it (0: none), its stage's number, the accuracy when it began.
    seeds: [(u64, u8, Option<f64>); SLOTS.len()],
}

/// One rank's model and data.
#[derive(Debug)]
pub struct Worker {
    shard: Shard,
    state: State,
    blend: Blend,
    /// The last record applied: what was copied may be older.
    record: Option<CommitRecord>,
    /// What a batch takes at least, as one of a larger model would.
    batch_time: Duration,
    cache: AlphaCache,
    /// By slot.
    alphas: [AlphaWorker<f64>; SLOTS.len()],
    steps: CompiledStep<Kernels>,
    /// Of the present blend.
    step: StepHandle<Kernels>,
}

impl Worker {
    /// Values in what it contributes to a step: the gradient, then loss, right rows and rows.
    pub const BUCKET: usize = PARAMETERS + 3;

    /// The rank's data, and a model that has learned nothing.
    #[must_use]
    pub fn new(seed: u64, rank: Rank, batch_time: Duration) -> Self {
        let blend = Blend::of(&Default::default());
        let cache =
            AlphaCache::new(SLOTS.len() as u32).expect("INVARIANT: a model has slots for seeds");
        let alphas = SLOTS.map(|_| {
            cache
                .join()
                .expect("INVARIANT: the cache has a place for each slot")
        });
        let steps = compiled(CompileConfig::default())
            .expect("INVARIANT: the default configuration is a valid one");
        Worker {
            shard: Shard::draw(seed, rank),
            state: State {
                epoch: 0,
                applied: 0,
                parameters: vec![0.0; PARAMETERS],
                velocity: vec![0.0; PARAMETERS],
                sums: [0.0; 3],
                last: None,
                seeds: [(0, 0, None); SLOTS.len()],
            },
            step: steps.handle(shape_of(&blend)),
            blend,
            record: None,
            batch_time,
            cache,
            alphas,
            steps,
        }
    }

    /// The same, compiling by another configuration.
    ///
    /// # Errors
    /// Each of [`ConfigError`].
    pub fn compiling_by(self, config: CompileConfig) -> Result<Self, ConfigError> {
        let steps = compiled(config)?;
        Ok(Worker {
            step: steps.handle(shape_of(&self.blend)),
            steps,
            ..self
        })
    }

    /// What must be told of each record that was applied.
    #[must_use]
    pub fn guards(&self) -> (AlphaCache, CompiledStep<Kernels>) {
        (self.cache.clone(), self.steps.clone())
    }

    /// Adds the gradient of step `step` of an epoch to `bucket`; `None` where the loader is
    /// exhausted, else whether it has more.
    pub fn gradient(&mut self, step: u64, bucket: &mut [f64]) -> Option<bool> {
        let rows = self.shard.batch(step)?;
        let shares = self.alphas.iter_mut().zip(self.blend.alphas());
        let mut alphas = [0.0; SLOTS.len()];
        for ((worker, alpha), into) in shares.zip(&mut alphas) {
            *into = *worker.get_or_insert_with(AlphaKey::new(CPU, Dtype::F64, alpha), || alpha);
        }
        let (Sums { loss, right, rows }, gradient) = self.step.run(&StepInput {
            blend: &self.blend,
            alphas,
            parameters: &self.state.parameters,
            rows,
        });
        let given = gradient.into_iter().chain([loss, right, rows]);
        for (into, of) in bucket.iter_mut().zip(given) {
            *into += of;
        }
        std::thread::sleep(self.batch_time);
        Some(self.shard.batch(step + 1).is_some())
    }

    /// Applies the sum of what the ranks gave to a step.
    pub fn apply_step(&mut self, sum: &[f64], active: u32, applied: u64) {
        self.state.applied = applied;
        let (gradient, sums) = sum.split_at(PARAMETERS);
        let rows = sums[2];
        if active == 0 || rows == 0.0 {
            return;
        }
        for (into, of) in self.state.sums.iter_mut().zip(sums) {
            *into += of;
        }
        let moved = self
            .state
            .velocity
            .iter_mut()
            .zip(&mut self.state.parameters);
        for ((velocity, parameter), slope) in moved.zip(gradient) {
            *velocity = MOMENTUM * *velocity + slope / rows;
            *parameter -= RATE * *velocity;
        }
    }

    /// Takes a record's stages and alphas, and closes the epoch that it ends.
    pub fn apply_epoch(&mut self, record: &CommitRecord) {
        self.record = Some(record.clone());
        self.blend = Blend::of(&record.schedule);
        let shape = shape_of(&self.blend);
        if *self.step.key() != shape {
            self.step = self.steps.handle(shape);
        }
        self.state.close(record);
    }

    /// What it has measured of a slot, on its own shard.
    #[must_use]
    pub fn measure(&self, slot: SlotId) -> GateMetrics {
        let Some(place) = SLOTS.iter().position(|(id, _)| *id == slot) else {
            return GateMetrics::default();
        };
        let (parameters, rows) = (&self.state.parameters, self.shard.rows());
        let mut gradient = vec![0.0; PARAMETERS];
        self.blend.gradient(parameters, rows, &mut gradient);
        let norm = |part: &[f64]| part.iter().map(|slope| slope * slope).sum::<f64>().sqrt();
        let host = norm(&gradient[..seed_range(0).start]);
        let seed = norm(&gradient[seed_range(place)]);
        let healthy = gradient[seed_range(place)]
            .iter()
            .all(|slope| slope.is_finite());
        let points = |blend: &Blend| accuracy_points(blend, parameters, rows);
        let improvement = (self.state.last.zip(self.state.seeds[place].2))
            .map(|(last, begun)| (last.accuracy - begun) * 100.0);
        GateMetrics {
            improvement,
            // A host that is quite still has no gradient to be compared with.
            gradient_ratio: (host > 0.0).then(|| seed / host),
            gradient_health: Some(f64::from(u8::from(healthy))),
            contribution: Some(points(&self.blend) - points(&self.blend.without(place))),
        }
    }

    /// How the last closed epoch went.
    #[must_use]
    pub fn last(&self) -> Option<EpochLoss> {
        self.state.last
    }

    /// How many steps its parameters have seen.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.state.applied
    }

    /// The alpha that a slot's seed is really blended in with.
    #[must_use]
    pub fn alpha(&self, slot: SlotId) -> f64 {
        let place = SLOTS.iter().position(|(id, _)| *id == slot);
        place.map_or(0.0, |place| self.blend.alpha(place))
    }

    /// One number for all that ranks must have alike: those with the same have the same
    /// parameters, bit for bit.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let state = &self.state;
        let words = state
            .parameters
            .iter()
            .chain(&state.velocity)
            .chain(&state.sums);
        words.fold(0xcbf2_9ce4_8422_2325, |digest: u64, word| {
            (digest ^ word.to_bits())
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(23)
        })
    }

    /// What another rank needs to go on from here.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        postcard::to_allocvec(&self.state).expect("INVARIANT: numbers in vectors have a form")
    }

    /// Goes on from what another rank has saved.
    ///
    /// # Errors
    /// [`LoadError`]; nothing has changed then.
    pub fn load(&mut self, saved: &[u8]) -> Result<(), LoadError> {
        let mut state: State = postcard::from_bytes(saved).map_err(LoadError::Form)?;
        for part in [&state.parameters, &state.velocity] {
            if part.len() != PARAMETERS {
                return Err(LoadError::OtherModel {
                    parameters: part.len(),
                });
            }
        }
        if let Some(record) = &self.record {
            let (has, wants) = (state.epoch, record.epoch.0);
            match wants.checked_sub(has) {
                Some(0) => {}
                // Who saved it had not heard of the last record yet.
                Some(1) => state.close(record),
                _ => return Err(LoadError::OtherEpoch { has, wants }),
            }
        }
        self.state = state;
        Ok(())
    }
}

/// The device that everything here is on.
const CPU: u32 = 0;

fn compiled(config: CompileConfig) -> Result<CompiledStep<Kernels>, ConfigError> {
    CompiledStep::new(Kernels, config, Box::new(SystemClock::new()))
}

fn shape_of(blend: &Blend) -> Shape {
    Shape {
        features: FEATURES,
        parts: blend.kinds(),
    }
}

impl State {
    /// Closes the epoch that a record ends: what is left of it follows from the record.
    fn close(&mut self, record: &CommitRecord) {
        let Epoch(epoch) = record.epoch;
        self.epoch = epoch;
        let [loss, right, rows] = core::mem::take(&mut self.sums);
        if rows > 0.0 {
            self.last = Some(EpochLoss {
                loss: loss / rows,
                accuracy: right / rows,
            });
        }
        for (place, (id, blueprint)) in SLOTS.iter().enumerate() {
            let slot = record.schedule.slot(*id);
            let seed = slot.and_then(|slot| slot.seed()).map_or(0, |seed| seed.0);
            let stage = slot.map_or(0, |slot| slot.stage() as u8);
            let (old_seed, old_stage, _) = self.seeds[place];
            if seed != old_seed {
                let range = seed_range(place);
                let parameters = match seed {
                    0 => vec![0.0; range.len()],
                    seed => blueprint.begin(seed),
                };
                self.parameters[range.clone()].copy_from_slice(&parameters);
                self.velocity[range].fill(0.0);
            }
            if (seed, stage) != (old_seed, old_stage) {
                let begun = self.last.map(|last| last.accuracy);
                self.seeds[place] = (seed, stage, begun);
            }
        }
    }
}

/// The share of rows in the right class, in points.
fn accuracy_points(blend: &Blend, parameters: &[f64], rows: &[Row]) -> f64 {
    let sums = blend.judge(parameters, rows);
    100.0 * sums.right / sums.rows.max(1.0)
}

/// Why another rank's state was not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LoadError {
    /// It is damaged, or no such state.
    #[error("what was sent is no state of this model: {0}")]
    Form(postcard::Error),
    /// It is of another model.
    #[error("a state of {parameters} parameters is of another model; this one has {PARAMETERS}")]
    OtherModel {
        /// How many it has.
        parameters: usize,
    },
    /// It is of another epoch.
    #[error("a state after epoch {has} cannot go on after epoch {wants}")]
    OtherEpoch {
        /// Its epoch.
        has: u64,
        /// The epoch of this rank's record.
        wants: u64,
    },
}
