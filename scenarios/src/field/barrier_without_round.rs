//! uccl PR 1052: a barrier between devices had one counter for each pair of ranks. Whoever
//! arrives adds to its own and takes from the other's, and waits until its own is not above
//! zero. Which round an addition is of, the counter does not say. With two rounds under way at
//! once, as of two micro-batches, the arrival of one was taken for the arrival of the other.
//!
//! Two ranks, two rounds. One makes them one after the other; to the other the second comes
//! first. Nobody may be through a round before the other has come to it.
//!
//! What ships is asked by round: who comes to another than its next is told so, and nobody
//! hears of it.

use selvedge_core::ddp::{InProcess, RoundError};
use selvedge_core::platform::{Atomic, AtomicInt, JoinHandle, Ordering, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::ranks::collective::{FOREVER, given, pair, reduce};
use crate::bed::in_rounds;
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "barrier-without-round",
    ticket: "uccl PR 1052",
    summary: "barrier counters that do not say which round they count",
    source: concat!(
        include_str!("barrier_without_round.rs"),
        include_str!("ranks/collective.rs")
    ),
    twin: bodies!(rounds_overlap, Counters),
    shipped: bodies!(rounds_overlap, Shipped),
    signature: "released-early",
    must_reach: &["out-of-turn", "met-twice"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// One rank's side of a barrier for two.
trait Barrier<P: Platform>: Send + Sized + 'static {
    fn pair() -> [Self; 2];
    /// Comes to these rounds, in this order, and waits for all of them; how many came to
    /// something.
    fn meet(&mut self, rounds: &[u64], coming_to: impl Fn(u64)) -> u64;
}

fn rounds_overlap<P: Platform, T: Barrier<P>>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let [mut ours, mut theirs] = T::pair();
        let has_come = P::Arc::new([P::AtomicBool::new(false), P::AtomicBool::new(false)]);
        let flags = has_come.clone();
        let other = P::spawn(move || {
            let met = theirs.meet(&[1, 0], |round| {
                // ORDERING: Relaxed. It is for the barrier to order it.
                flags[round as usize].store(true, Ordering::Relaxed);
            });
            // Its side comes back as well: to be gone is a step, and for another time.
            (met, theirs)
        });
        let mut met = 0;
        for round in [0, 1] {
            met += ours.meet(&[round], |_| {});
            // ORDERING: Relaxed, as above.
            if !has_come[round as usize].load(Ordering::Relaxed) {
                violation!(
                    "released-early",
                    "from round {round}, to which one has come"
                );
            }
        }
        let (other, _theirs) = other.join();
        if met != other {
            violation!("not-uniform", "{met} rounds for one, {other} for the other");
        }
        if met == 2 {
            reach("met-twice");
        }
        format!("{met} rounds")
    })
}

/// The code that ships.
struct Shipped<P: Platform>(InProcess<f64, P>);

impl<P: Platform> Barrier<P> for Shipped<P> {
    fn pair() -> [Self; 2] {
        pair(FOREVER).map(Shipped)
    }

    fn meet(&mut self, rounds: &[u64], coming_to: impl Fn(u64)) -> u64 {
        let mut refused: Vec<u64> = Vec::new();
        let mut met = 0;
        let mut rounds: Vec<u64> = rounds.iter().rev().copied().collect();
        while let Some(round) = rounds.pop() {
            coming_to(round);
            match reduce(&mut self.0, &given(round), 1.0) {
                Ok((reduced, sum)) if reduced.active == 2 && sum == 2.0 => met += 1,
                Ok(other) => violation!("wrong-sum", "{other:?}"),
                Err(RoundError::OutOfTurn { .. }) => {
                    reach("out-of-turn");
                    refused.push(round);
                }
                Err(other) => violation!("wrong-error", "{other}"),
            }
            if rounds.is_empty() {
                rounds.append(&mut refused);
            }
        }
        met
    }
}

/// As reported.
struct Counters<P: Platform> {
    me: usize,
    counters: P::Arc<[P::AtomicU32; 2]>,
}

impl<P: Platform> Barrier<P> for Counters<P> {
    fn pair() -> [Self; 2] {
        let counters = P::Arc::new([P::AtomicU32::new(0), P::AtomicU32::new(0)]);
        [0, 1].map(|me| Counters {
            me,
            counters: counters.clone(),
        })
    }

    fn meet(&mut self, rounds: &[u64], coming_to: impl Fn(u64)) -> u64 {
        let [own, theirs] = [self.me, 1 - self.me].map(|rank| &self.counters[rank]);
        for &round in rounds {
            coming_to(round);
            // ORDERING: AcqRel and Acquire, so that what was done before an arrival is seen
            // after it. The bug is in the counting.
            own.fetch_add(1, Ordering::AcqRel);
            theirs.fetch_sub(1, Ordering::AcqRel);
        }
        while own.load(Ordering::Acquire).cast_signed() > 0 {
            P::yield_now();
        }
        rounds.len() as u64
    }
}
