//! The collective that ships, as the scenarios use it, and the one of the twins.

use std::collections::BTreeMap;
use std::time::Duration;

use selvedge_core::ddp::{
    Collective, Contribution, Epoch, InProcess, InProcessGroup, Rank, Reduced, RoundError, RunId,
    StepTag, View,
};
use selvedge_core::platform::{Condvar, Mutex, Platform};
use selvedge_core::time::{Clock, Instant, SystemClock};
use selvedge_sim::violation;

/// Long enough for any machine. Checkers do not measure it: there a time-out is a choice.
pub(in crate::field) const PATIENCE: Duration = Duration::from_secs(60);

/// Where time-outs are not what a scenario is about.
pub(in crate::field) const FOREVER: Duration = Duration::MAX;

/// The view of those scenarios that have one only.
pub(in crate::field) const VIEW: View = View(1);

/// A clock that stands: what a checker does must not hang on the machine's.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::ZERO
    }
}

/// A group without anybody in it.
pub(in crate::field) fn group<P: Platform>(patience: Duration) -> InProcessGroup<f64, P> {
    let clock: Box<dyn Clock> = match P::NAME {
        "std" => Box::new(SystemClock::new()),
        _ => Box::new(Still),
    };
    InProcessGroup::new(patience, clock)
}

pub(in crate::field) fn join<P: Platform>(
    group: &InProcessGroup<f64, P>,
    rank: Rank,
) -> InProcess<f64, P> {
    (group.join(rank)).unwrap_or_else(|refused| violation!("wrong-error", "{refused}"))
}

/// Every rank's handle, each in [`VIEW`].
pub(in crate::field) fn seats<P: Platform>(
    ranks: u32,
    patience: Duration,
) -> Vec<InProcess<f64, P>> {
    let group = group::<P>(patience);
    let members: Vec<Rank> = (0..ranks).map(Rank).collect();
    let seat = |&rank| {
        let mut seat = join(&group, rank);
        if let Err(refused) = seat.enter(VIEW, &members) {
            violation!("wrong-error", "{refused}");
        }
        seat
    };
    members.iter().map(seat).collect()
}

/// Both handles of two ranks, each in [`VIEW`].
pub(in crate::field) fn pair<P: Platform>(patience: Duration) -> [InProcess<f64, P>; 2] {
    let Ok(pair) = seats(2, patience).try_into() else {
        violation!("bad-configuration", "two ranks have two seats");
    };
    pair
}

/// What a rank gives to a round of [`VIEW`] with a batch.
pub(in crate::field) fn given(round: u64) -> Contribution {
    Contribution {
        tag: StepTag {
            run: RunId(1),
            view: VIEW,
            seq: round,
            epoch: Epoch(1),
            schedule: 0,
            applied: round,
        },
        active: true,
        more: false,
    }
}

/// One value a rank in one round of [`VIEW`].
pub(in crate::field) fn reduce<P: Platform>(
    seat: &mut InProcess<f64, P>,
    given: &Contribution,
    value: f64,
) -> Result<(Reduced, f64), RoundError> {
    let mut bucket = [value];
    let reduced = seat.all_reduce(given, &mut bucket)?;
    Ok((reduced, bucket[0]))
}

/// The twins' collective, as the libraries for devices have it: calls of one name meet, the
/// nth of each rank with the nth of the others. It looks at nothing else, and whoever waits
/// waits for as long as it takes.
pub(in crate::field) struct Unbounded<P: Platform> {
    ranks: usize,
    rounds: P::Mutex<BTreeMap<&'static str, Round>>,
    complete: P::Condvar,
}

#[derive(Default)]
struct Round {
    number: u64,
    given: BTreeMap<u32, f64>,
    /// Of the round before, by rank.
    last: Vec<f64>,
}

impl<P: Platform> Unbounded<P> {
    pub(in crate::field) fn new(ranks: usize) -> Self {
        Unbounded {
            ranks,
            rounds: P::Mutex::new(BTreeMap::new()),
            complete: P::Condvar::new(),
        }
    }

    /// Every rank's value, by rank.
    pub(in crate::field) fn meet(&self, name: &'static str, rank: u32, value: f64) -> Vec<f64> {
        let mut rounds = self.rounds.lock();
        let round = rounds.entry(name).or_default();
        let number = round.number;
        round.given.insert(rank, value);
        if round.given.len() == self.ranks {
            round.last = std::mem::take(&mut round.given).into_values().collect();
            round.number += 1;
            self.complete.notify_all();
        }
        loop {
            let round = rounds.entry(name).or_default();
            if round.number > number {
                // The next one cannot be complete without this rank.
                return round.last.clone();
            }
            rounds = self.complete.wait(rounds);
        }
    }
}
