//! Chance, in separate streams: what one concern draws changes nothing of what another does, so
//! a run with one fault less is still much the same run.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What is drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Concern {
    /// Which of several possible things happens.
    Schedule = 1,
    /// How long work takes.
    Workload = 2,
    /// What goes wrong.
    Faults = 3,
    /// How long messages take.
    Latency = 4,
    /// What becomes of messages between agents and server.
    Mail = 5,
    /// What agents do.
    Agents = 6,
    /// What goes wrong where requests are served.
    ServingFaults = 7,
    /// What workers and compilers do.
    Guards = 8,
    /// What goes wrong with the guards.
    GuardFaults = 9,
    /// What drivers do rarely.
    Rare = 10,
}

/// One stream of chance.
#[derive(Clone, Debug)]
pub(super) struct Stream(ChaCha8Rng);

impl Stream {
    pub(super) fn new(seed: u64, concern: Concern) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(concern as u64);
        Stream(rng)
    }

    /// A number below `bound`; 0 if that is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product: no division, and a bias below 2^-32 for small bounds.
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        (wide >> 64) as u64
    }

    /// Whether something happens that does so `per_mille` times out of a thousand.
    pub(super) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// A duration in `[least, most]`; `least` if that is none.
    pub(super) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = most.saturating_sub(least).as_nanos() as u64;
        least + Duration::from_nanos(self.below(span.saturating_add(1)))
    }

    /// One of these; the first if there is only one.
    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = self.below(from.len() as u64);
        from.get(at as usize)
    }
}

/// A number that depends on these only: for what must come out the same however often it is
/// asked, such as how many batches a loader has.
pub(super) fn hash(words: &[u64]) -> u64 {
    words
        .iter()
        .fold(0x243f_6a88_85a3_08d3, |sum, &word| mix(sum, word))
}

/// One more word into a digest (the finaliser of splitmix64).
pub(super) const fn mix(digest: u64, word: u64) -> u64 {
    let mut z = digest.rotate_left(5) ^ word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_differ_and_each_is_the_same_again() {
        let draw = |seed, concern| {
            let mut stream = Stream::new(seed, concern);
            [0; 8].map(|_| stream.below(1 << 40))
        };
        let one = draw(7, Concern::Faults);
        assert_eq!(one, draw(7, Concern::Faults));
        assert_ne!(one, draw(7, Concern::Latency));
        assert_ne!(one, draw(8, Concern::Faults));
    }

    #[test]
    fn draws_stay_in_their_bounds_and_reach_both_ends() {
        let mut stream = Stream::new(1, Concern::Schedule);
        let seen: Vec<u64> = (0..200).map(|_| stream.below(4)).collect();
        assert!((0..4).all(|n| seen.contains(&n)) && seen.iter().all(|&n| n < 4));
        assert_eq!(stream.below(0), 0);
        assert!(!stream.chance(0) && stream.chance(1000));
        let short = Duration::from_nanos(3);
        assert_eq!(stream.between(short, short), short);
        assert_eq!(stream.between(short, Duration::ZERO), short);
        assert_eq!(stream.pick::<u8>(&[]), None);
    }
}
