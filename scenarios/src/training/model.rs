//! A small real model: logistic regression with a linear host, and seeds blended in with alpha.
//!
//! ```text
//! logit(x) = host(x) + Σ over slots of alpha(slot) · seed(x)
//! ```
//!
//! Alpha is in the forward pass and in every gradient: ranks with different alphas would sum
//! gradients of different models. What a seed's stage means for its gradient:
//!
//! | stage | seed learns | host learns |
//! |---|---|---|
//! | training | at alpha 1, with the host held fast | without the seed |
//! | blending, holding | at alpha | at alpha |
//! | any, while alpha falls | not at all | at alpha |

use selvedge_core::ddp::{AlphaMode, Schedule, SeedStage, SlotId};

use super::data::{FEATURES, Row, bell, stream};

/// Units of the hidden layer of a seed of blueprint 2.
pub(super) const HIDDEN: usize = 8;
/// Parameters of the host: a weight a feature, and one for all.
pub(super) const HOST: usize = FEATURES + 1;
/// Parameters of a seed of blueprint 1: one for each product of two features.
pub(super) const PRODUCTS: usize = FEATURES * (FEATURES + 1) / 2;
/// Parameters of a seed of blueprint 2: each unit's weights, and what it counts for.
const HINGES: usize = HIDDEN * (FEATURES + 2);

/// What a seed is built from. Its number in a run's records is the blueprint's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blueprint {
    /// Weighted products of two features.
    Products = 1,
    /// A layer of rectified units.
    Hinges = 2,
}

impl Blueprint {
    /// How many parameters a seed of it has.
    #[must_use]
    pub const fn parameters(self) -> usize {
        match self {
            Blueprint::Products => PRODUCTS,
            Blueprint::Hinges => HINGES,
        }
    }

    /// The parameters a seed begins with, drawn from its id: the same on every rank. What it
    /// adds to the logit is 0 at first.
    #[must_use]
    pub fn begin(self, seed: u64) -> Vec<f64> {
        let mut parameters = vec![0.0; self.parameters()];
        if self == Blueprint::Hinges {
            let mut rng = stream(seed, u64::MAX);
            for unit in parameters.chunks_mut(FEATURES + 2) {
                // All but the last, which says what the unit counts for. Were that not 0, the
                // seed would be a stranger's word in the logit.
                unit[..=FEATURES].fill_with(|| bell(&mut rng));
            }
        }
        parameters
    }

    /// What it adds to the logit.
    fn forward(self, parameters: &[f64], x: &[f64; FEATURES]) -> f64 {
        match self {
            Blueprint::Products => products(x).zip(parameters).map(|(x, w)| x * w).sum(),
            Blueprint::Hinges => (parameters.chunks(FEATURES + 2))
                .map(|unit| hinge(unit, x).max(0.0) * unit[FEATURES + 1])
                .sum(),
        }
    }

    /// Adds the gradient, for one of `slope` with respect to what it adds to the logit.
    fn backward(self, parameters: &[f64], x: &[f64; FEATURES], slope: f64, into: &mut [f64]) {
        match self {
            Blueprint::Products => {
                for (x, into) in products(x).zip(into) {
                    *into += slope * x;
                }
            }
            Blueprint::Hinges => {
                let units = parameters.chunks(FEATURES + 2);
                for (unit, into) in units.zip(into.chunks_mut(FEATURES + 2)) {
                    let height = hinge(unit, x);
                    if height > 0.0 {
                        let inward = slope * unit[FEATURES + 1];
                        for (x, into) in x.iter().chain(&[1.0]).zip(into.iter_mut()) {
                            *into += inward * x;
                        }
                        into[FEATURES + 1] += slope * height;
                    }
                }
            }
        }
    }
}

pub(super) fn products(x: &[f64; FEATURES]) -> impl Iterator<Item = f64> {
    (0..FEATURES).flat_map(move |i| (i..FEATURES).map(move |j| x[i] * x[j]))
}

fn hinge(unit: &[f64], x: &[f64; FEATURES]) -> f64 {
    let weighted: f64 = x.iter().zip(unit).map(|(x, w)| x * w).sum();
    weighted + unit[FEATURES]
}

/// A place for a seed: its blueprint is the same whichever seed is in it.
pub const SLOTS: [(SlotId, Blueprint); 2] = [
    (SlotId(0), Blueprint::Products),
    (SlotId(1), Blueprint::Hinges),
];

/// Parameters of the model, of all slots, empty or not.
pub const PARAMETERS: usize = HOST + PRODUCTS + HINGES;

/// Where the parameters of the seed in place `slot` of [`SLOTS`] stand.
pub(super) fn seed_range(slot: usize) -> core::ops::Range<usize> {
    let before: usize = SLOTS[..slot]
        .iter()
        .map(|(_, blueprint)| blueprint.parameters())
        .sum();
    let start = HOST + before;
    start..start + SLOTS[slot].1.parameters()
}

/// What a seed does at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    /// Nothing.
    Out,
    /// It learns by itself, and adds nothing.
    Apart,
    /// It adds this share of itself.
    Blended { alpha: f64, learns: bool },
}

/// What a seed does, whatever its alpha.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// Nothing.
    Out,
    /// It learns by itself.
    Apart,
    /// It is blended in, and does not learn.
    Frozen,
    /// It is blended in, and learns.
    Learns,
}

/// What a model makes of some rows. All are sums, so that those of several ranks add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Of the cross-entropy.
    pub loss: f64,
    /// Rows that were put into the right class.
    pub right: f64,
    /// Rows.
    pub rows: f64,
}

/// How a model is put together in one epoch: a pure function of the record's schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Blend {
    parts: [Part; SLOTS.len()],
}

impl Blend {
    /// The parts that the seeds of a schedule have.
    #[must_use]
    pub fn of(schedule: &Schedule) -> Self {
        let part = |(id, _): &(SlotId, Blueprint)| {
            let Some(slot) = schedule.slot(*id) else {
                return Part::Out;
            };
            let Some(alpha) = slot.alpha() else {
                return Part::Out;
            };
            match slot.stage() {
                SeedStage::Training => Part::Apart,
                SeedStage::Blending | SeedStage::Holding | SeedStage::Fossilized => Part::Blended {
                    alpha: alpha.alpha(),
                    learns: alpha.mode() != AlphaMode::Down,
                },
                _ => Part::Out,
            }
        };
        let mut parts = [Part::Out; SLOTS.len()];
        for (slot, into) in SLOTS.iter().zip(&mut parts) {
            *into = part(slot);
        }
        Blend { parts }
    }

    /// The share of the seed in place `slot` of [`SLOTS`] that is in the logit.
    #[must_use]
    pub fn alpha(&self, slot: usize) -> f64 {
        match self.parts[slot] {
            Part::Blended { alpha, .. } => alpha,
            _ => 0.0,
        }
    }

    /// Every slot's share, by its place in [`SLOTS`].
    #[must_use]
    pub fn alphas(&self) -> [f64; SLOTS.len()] {
        core::array::from_fn(|slot| self.alpha(slot))
    }

    /// What every slot's seed does, by its place in [`SLOTS`].
    #[must_use]
    pub fn kinds(&self) -> [PartKind; SLOTS.len()] {
        self.parts.map(|part| match part {
            Part::Out => PartKind::Out,
            Part::Apart => PartKind::Apart,
            Part::Blended { learns: false, .. } => PartKind::Frozen,
            Part::Blended { learns: true, .. } => PartKind::Learns,
        })
    }

    /// The blend without the seed in place `slot`.
    #[must_use]
    pub fn without(&self, slot: usize) -> Self {
        let mut blend = self.clone();
        blend.parts[slot] = Part::Out;
        blend
    }

    /// Adds the gradient over `rows` to `into`, and says what the model makes of them.
    pub fn gradient(&self, parameters: &[f64], rows: &[Row], into: &mut [f64]) -> Sums {
        self.gradient_with(&self.alphas(), parameters, rows, into)
    }

    /// The same, with alphas that a cache has.
    pub fn gradient_with(
        &self,
        alphas: &[f64; SLOTS.len()],
        parameters: &[f64],
        rows: &[Row],
        into: &mut [f64],
    ) -> Sums {
        let mut sums = Sums::default();
        for row in rows {
            let x = &row.features;
            let seeds: [f64; SLOTS.len()] = core::array::from_fn(|slot| match self.parts[slot] {
                Part::Out => 0.0,
                _ => SLOTS[slot].1.forward(&parameters[seed_range(slot)], x),
            });
            let logit = host(parameters, x) + added(alphas, &seeds);
            let slope = sums.take(logit, row.positive);
            for (x, into) in x.iter().chain(&[1.0]).zip(into.iter_mut()) {
                *into += slope * x;
            }
            for (slot, part) in self.parts.iter().enumerate() {
                let slope = match *part {
                    Part::Blended { learns: true, .. } => alphas[slot] * slope,
                    // As if it were blended in, but nobody else hears of it.
                    Part::Apart => probability(logit + seeds[slot]) - f64::from(row.positive),
                    _ => continue,
                };
                let range = seed_range(slot);
                let (of, into) = (&parameters[range.clone()], &mut into[range]);
                SLOTS[slot].1.backward(of, x, slope, into);
            }
        }
        sums
    }

    /// What the model makes of `rows`.
    #[must_use]
    pub fn judge(&self, parameters: &[f64], rows: &[Row]) -> Sums {
        let mut sums = Sums::default();
        for row in rows {
            let seeds: [f64; SLOTS.len()] = core::array::from_fn(|slot| match self.parts[slot] {
                Part::Blended { .. } => SLOTS[slot]
                    .1
                    .forward(&parameters[seed_range(slot)], &row.features),
                _ => 0.0,
            });
            let logit = host(parameters, &row.features) + added(&self.alphas(), &seeds);
            sums.take(logit, row.positive);
        }
        sums
    }
}

impl Sums {
    /// Counts one row, and gives the loss's slope at its logit.
    pub(super) fn take(&mut self, logit: f64, positive: bool) -> f64 {
        let toward = if positive { logit } else { -logit };
        // ln(1 + e^-t) without an overflow.
        self.loss += (-toward.abs()).exp().ln_1p() + (-toward).max(0.0);
        self.right += f64::from(toward > 0.0);
        self.rows += 1.0;
        probability(logit) - f64::from(positive)
    }
}

/// What the seeds add to the logit.
fn added(alphas: &[f64; SLOTS.len()], seeds: &[f64; SLOTS.len()]) -> f64 {
    alphas
        .iter()
        .zip(seeds)
        .map(|(alpha, seed)| alpha * seed)
        .sum()
}

fn host(parameters: &[f64], x: &[f64; FEATURES]) -> f64 {
    hinge(&parameters[..HOST], x)
}

pub(super) fn probability(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
impl Blend {
    /// One of every kind of both parts, with these alphas where they are blended in.
    pub(super) fn of_every_kind(alphas: [f64; SLOTS.len()]) -> Vec<Blend> {
        let kinds = |alpha| {
            let blended = |learns| Part::Blended { alpha, learns };
            [Part::Out, Part::Apart, blended(false), blended(true)]
        };
        let pairs = kinds(alphas[0]).map(|first| kinds(alphas[1]).map(|second| [first, second]));
        pairs
            .concat()
            .into_iter()
            .map(|parts| Blend { parts })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::data::Shard;
    use selvedge_core::ddp::Rank;

    fn blend(first: Part, second: Part) -> Blend {
        Blend {
            parts: [first, second],
        }
    }

    fn parameters() -> Vec<f64> {
        let mut rng = stream(3, 9);
        (0..PARAMETERS).map(|_| 0.3 * bell(&mut rng)).collect()
    }

    /// The gradient is that of the loss: checked against differences, parameter by parameter.
    #[test]
    fn the_gradient_is_the_losss() {
        let (shard, parameters) = (Shard::draw(1, Rank(0)), parameters());
        let learns = true;
        let blend = blend(
            Part::Blended { alpha: 0.7, learns },
            Part::Blended { alpha: 0.2, learns },
        );
        let mut gradient = vec![0.0; PARAMETERS];
        blend.gradient(&parameters, shard.rows(), &mut gradient);
        for at in 0..PARAMETERS {
            let loss = |by: f64| {
                let mut moved = parameters.clone();
                moved[at] += by;
                blend.judge(&moved, shard.rows()).loss
            };
            let slope = (loss(1e-6) - loss(-1e-6)) / 2e-6;
            assert!(
                (slope - gradient[at]).abs() < 1e-4 * (1.0 + slope.abs()),
                "parameter {at}: {slope} and {}",
                gradient[at]
            );
        }
    }

    #[test]
    fn alpha_is_in_the_gradient() {
        let (shard, parameters) = (Shard::draw(1, Rank(0)), parameters());
        let of = |alpha| {
            let part = Part::Blended {
                alpha,
                learns: true,
            };
            let mut gradient = vec![0.0; PARAMETERS];
            blend(part, Part::Out).gradient(&parameters, shard.rows(), &mut gradient);
            gradient
        };
        let (one, other) = (of(0.5), of(0.5 + 1e-9));
        assert_ne!(one[..HOST], other[..HOST]);
        assert_ne!(one[seed_range(0)], other[seed_range(0)]);
    }

    #[test]
    fn who_trains_apart_changes_nothing_for_the_host() {
        let (shard, parameters) = (Shard::draw(1, Rank(2)), parameters());
        let of = |part| {
            let mut gradient = vec![0.0; PARAMETERS];
            let sums = blend(part, Part::Out).gradient(&parameters, shard.rows(), &mut gradient);
            (sums, gradient)
        };
        let (out, apart) = (of(Part::Out), of(Part::Apart));
        assert_eq!(out.0, apart.0);
        assert_eq!(out.1[..HOST], apart.1[..HOST]);
        assert!(out.1[seed_range(0)].iter().all(|slope| *slope == 0.0));
        assert!(apart.1[seed_range(0)].iter().any(|slope| *slope != 0.0));
        let frozen = Part::Blended {
            alpha: 0.5,
            learns: false,
        };
        assert!(
            of(frozen).1[seed_range(0)]
                .iter()
                .all(|slope| *slope == 0.0)
        );
    }

    #[test]
    fn a_new_seed_adds_nothing_yet() {
        for blueprint in [Blueprint::Products, Blueprint::Hinges] {
            let seed = blueprint.begin(5);
            assert_eq!(seed, blueprint.begin(5));
            let x = Shard::draw(1, Rank(0)).rows()[0].features;
            assert_eq!(blueprint.forward(&seed, &x), 0.0);
        }
        assert_ne!(Blueprint::Hinges.begin(5), Blueprint::Hinges.begin(6));
    }
}
