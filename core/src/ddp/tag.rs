//! The tag that every contribution to a step's collective carries, and how to see whether all
//! were equal. **The check must be symmetric**: were one rank to compare the others' tags with
//! its own, ranks would come to different answers and be split by the check itself.
//!
//! Two ways, for two kinds of transport:
//! * [`TagMax`]: the maximum over `x` and `!x`, where the transport is ours.
//! * [`TagLanes`]: eight lanes of a bucket that can only sum `f32`, where it is not.

use super::digest::Digest;
use super::ids::{Epoch, RunId, View};

/// What must be the same in every contribution to one collective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub struct StepTag {
    /// The run.
    pub run: RunId,
    /// The membership it is made in.
    pub view: View,
    /// Which collective of that membership it is.
    pub seq: u64,
    /// The epoch trained in.
    pub epoch: Epoch,
    /// The digest of the schedule: of every alpha's ticks, every stage.
    pub schedule: u64,
    /// Which version of the parameters the gradient is of.
    pub applied: u64,
}

impl StepTag {
    /// All of it in one number.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = Digest::new();
        digest.words(&[self.run.0, self.view.0, self.seq, self.epoch.0]);
        digest.words(&[self.schedule, self.applied]);
        digest.finish()
    }
}

/// The maximum over every rank's `x` and over every rank's `!x`: all `x` were equal if and only
/// if the two are each other's complement.
///
/// ```
/// use selvedge_core::ddp::TagMax;
///
/// let reduce = |tags: &[u64]| {
///     let lanes = tags.iter().map(|&tag| TagMax::of(tag));
///     lanes.reduce(TagMax::max).expect("somebody contributed")
/// };
/// assert!(reduce(&[7, 7, 7]).is_equal());
/// assert!(!reduce(&[7, 9, 7]).is_equal());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TagMax {
    greatest: u64,
    greatest_complement: u64,
}

impl TagMax {
    /// One rank's contribution.
    #[must_use]
    pub const fn of(tag: u64) -> Self {
        TagMax {
            greatest: tag,
            greatest_complement: !tag,
        }
    }

    /// Two contributions together. The order does not matter.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        TagMax {
            greatest: self.greatest.max(other.greatest),
            greatest_complement: self.greatest_complement.max(other.greatest_complement),
        }
    }

    /// Whether all tags were equal.
    #[must_use]
    pub const fn is_equal(self) -> bool {
        self.greatest == !self.greatest_complement
    }
}

/// A tag in sixteen lanes of `f32` that are only ever summed: each of its bytes, and each byte's
/// square. All were equal if and only if `n * sum(x^2) == (sum x)^2` for each byte (Cauchy and
/// Schwarz).
///
/// It is exact for up to 256 ranks: the greatest sum is 256 * 255^2 = 16,646,400, and every
/// integer up to 2^24 = 16,777,216 is an `f32`, whatever the order of additions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TagLanes {
    /// The bytes and their squares, in turn.
    pub lanes: [f32; 16],
}

impl TagLanes {
    /// The most ranks for which the sums are exact.
    pub const MOST_RANKS: u32 = 256;

    /// One rank's contribution.
    #[must_use]
    pub fn of(tag: u64) -> Self {
        let mut lanes = [0.0; 16];
        for (pair, byte) in lanes.chunks_exact_mut(2).zip(tag.to_le_bytes()) {
            let byte = f32::from(byte);
            pair.copy_from_slice(&[byte, byte * byte]);
        }
        TagLanes { lanes }
    }

    /// Two contributions together.
    #[must_use]
    pub fn sum(mut self, other: Self) -> Self {
        for (lane, more) in self.lanes.iter_mut().zip(other.lanes) {
            *lane += more;
        }
        self
    }

    /// Whether all of `ranks` contributions were equal; `None` if these can be no sums of so
    /// many: nobody contributed, there are too many ranks, or a lane is no integer that fits.
    #[must_use]
    pub fn is_equal(&self, ranks: u32) -> Option<bool> {
        if ranks == 0 || ranks > Self::MOST_RANKS {
            return None;
        }
        let most = f32::from(u8::MAX) * f32::from(u8::MAX) * ranks as f32;
        let fits = |lane: &f32| lane.fract() == 0.0 && (0.0..=most).contains(lane);
        if !self.lanes.iter().all(fits) {
            return None;
        }
        let equal = |pair: &[f32]| {
            // Both fit, as was just seen.
            let (sum, squares) = (pair[0] as u64, pair[1] as u64);
            u64::from(ranks) * squares == sum * sum
        };
        Some(self.lanes.chunks_exact(2).all(equal))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn max(tags: &[u64]) -> bool {
        let all = tags.iter().map(|&tag| TagMax::of(tag));
        all.reduce(TagMax::max).unwrap().is_equal()
    }

    fn lanes(tags: &[u64]) -> Option<bool> {
        let all = tags.iter().map(|&tag| TagLanes::of(tag));
        let sums = all.reduce(TagLanes::sum).unwrap();
        sums.is_equal(u32::try_from(tags.len()).unwrap())
    }

    #[test]
    fn every_part_of_a_tag_counts() {
        let tag = StepTag {
            run: RunId(1),
            view: View(2),
            seq: 3,
            epoch: Epoch(4),
            schedule: 5,
            applied: 6,
        };
        let others = [
            StepTag {
                run: RunId(9),
                ..tag
            },
            StepTag {
                view: View(9),
                ..tag
            },
            StepTag { seq: 9, ..tag },
            StepTag {
                epoch: Epoch(9),
                ..tag
            },
            StepTag { schedule: 9, ..tag },
            StepTag { applied: 9, ..tag },
        ];
        for other in others {
            assert_ne!(tag.digest(), other.digest(), "{other:?}");
        }
    }

    #[test]
    fn the_sums_are_exact_up_to_256_ranks_and_refused_beyond() {
        // The greatest sums there are, and the least difference from them.
        let mut tags = vec![u64::MAX; 256];
        assert_eq!(lanes(&tags), Some(true));
        tags[255] ^= 1;
        assert_eq!(lanes(&tags), Some(false));
        tags[255] ^= 1 << 56;
        assert_eq!(lanes(&tags), Some(false));
        // One more rank, and a sum could be rounded: an odd one just past 2^24.
        assert_eq!((16_777_217.0_f32) as u64, 16_777_216);
        assert_eq!(lanes(&[7; 257]), None);
    }

    #[test]
    fn what_is_no_sum_of_tags_is_no_answer() {
        let mut sums = TagLanes::of(7);
        assert_eq!(sums.is_equal(0), None);
        for wrong in [f32::NAN, 0.5, -1.0, f32::INFINITY, 65_026.0] {
            sums.lanes[3] = wrong;
            assert_eq!(sums.is_equal(1), None, "{wrong}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Both checks say what comparing the tags says, and do so in every order.
        #[test]
        fn both_checks_say_what_the_tags_say(
            tag in any::<u64>(),
            flips in prop::collection::vec(prop::option::weighted(0.3, 0..64u32), 1..257),
        ) {
            let flip = |bit: &Option<u32>| bit.map_or(tag, |bit| tag ^ (1 << bit));
            let mut tags: Vec<u64> = flips.iter().map(flip).collect();
            let equal = tags.iter().all(|&t| t == tags[0]);
            prop_assert_eq!((max(&tags), lanes(&tags)), (equal, Some(equal)));
            tags.reverse();
            prop_assert_eq!((max(&tags), lanes(&tags)), (equal, Some(equal)));
        }
    }
}
