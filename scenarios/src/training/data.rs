//! The data that the ranks train on: drawn from a seed, in shards of different sizes.
//!
//! Every number comes out of additions and multiplications alone, so a shard has the same bits
//! on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use selvedge_core::ddp::Rank;

/// Features of a row.
pub const FEATURES: usize = 6;
/// Rows of a batch.
pub const BATCH_ROWS: usize = 64;
/// Batches that the ranks' loaders have an epoch, over and over.
const BATCHES: [u64; 4] = [1, 2, 1, 3];

/// One row: what is known, and what is to be predicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// What is known.
    pub features: [f64; FEATURES],
    /// Which of the two classes it is of.
    pub positive: bool,
}

/// How many batches the loader of `rank` has an epoch. They are uneven: who has fewer gives
/// zeros until the others are through.
///
/// ```
/// use selvedge_core::ddp::Rank;
/// use selvedge_scenarios::training::data::batches;
///
/// let uneven: Vec<u64> = (0..5).map(|rank| batches(Rank(rank))).collect();
/// assert_eq!(uneven, [1, 2, 1, 3, 1]);
/// ```
#[must_use]
pub fn batches(rank: Rank) -> u64 {
    BATCHES[rank.0 as usize % BATCHES.len()]
}

/// A rank's part of the data.
///
/// ```
/// use selvedge_core::ddp::Rank;
/// use selvedge_scenarios::training::data::{BATCH_ROWS, Shard};
///
/// let shard = Shard::draw(7, Rank(3));
/// assert_eq!(shard.rows().len(), 3 * BATCH_ROWS);
/// assert_eq!(shard, Shard::draw(7, Rank(3)), "a pure function of seed and rank");
/// assert_ne!(shard.rows()[..64], Shard::draw(7, Rank(0)).rows()[..64]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Shard {
    rows: Vec<Row>,
}

impl Shard {
    /// The shard of `rank`.
    #[must_use]
    pub fn draw(seed: u64, rank: Rank) -> Self {
        let teacher = Teacher::draw(seed);
        let mut rng = stream(seed, 1 + u64::from(rank.0));
        let rows = (0..batches(rank) as usize * BATCH_ROWS).map(|_| teacher.row(&mut rng));
        Shard {
            rows: rows.collect(),
        }
    }

    /// All of it.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows of step `step` of an epoch; `None` where the loader is exhausted.
    #[must_use]
    pub fn batch(&self, step: u64) -> Option<&[Row]> {
        self.rows
            .chunks(BATCH_ROWS)
            .nth(usize::try_from(step).ok()?)
    }
}

/// What the labels follow: a line, which the host can learn, and two bends, each of which one
/// kind of seed can.
struct Teacher {
    line: [f64; FEATURES],
}

impl Teacher {
    fn draw(seed: u64) -> Self {
        let mut rng = stream(seed, 0);
        Teacher {
            line: core::array::from_fn(|_| bell(&mut rng)),
        }
    }

    fn row(&self, rng: &mut ChaCha8Rng) -> Row {
        let features: [f64; FEATURES] = core::array::from_fn(|_| bell(rng));
        let line: f64 = (self.line.iter().zip(&features)).map(|(w, x)| w * x).sum();
        let bends = 2.0 * features[0] * features[1] + 1.5 * (features[2].abs() - 0.8);
        let noise = 0.3 * bell(rng);
        Row {
            features,
            positive: line + bends + noise > 0.0,
        }
    }
}

/// A stream of chance of its own for each concern.
pub(super) fn stream(seed: u64, concern: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(concern);
    rng
}

/// From 0 to 1, 1 left out.
pub(super) fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    // 53 bits: each of them is exact.
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Near to a normal distribution of variance 1.
pub(super) fn bell(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| uniform(rng)).sum::<f64>() - 6.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_the_shard_in_order_and_end() {
        let shard = Shard::draw(1, Rank(1));
        let all: Vec<Row> = (0..)
            .map_while(|step| shard.batch(step))
            .flatten()
            .copied()
            .collect();
        assert_eq!(all, shard.rows());
        assert!(shard.batch(2).is_none() && shard.batch(u64::MAX).is_none());
    }

    #[test]
    fn both_classes_are_there() {
        let shard = Shard::draw(1, Rank(3));
        let positive = shard.rows().iter().filter(|row| row.positive).count();
        assert!((shard.rows().len() / 5..shard.rows().len() * 4 / 5).contains(&positive));
    }
}
