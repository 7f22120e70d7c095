//! marin PR 8538: after a restart all ranks met at a barrier without a limit. One rank of 704
//! stalled as it read its checkpoint; the others waited for four and a half hours, without an
//! error or a line in a log, and nothing could be told of who was missing.
//!
//! Two ranks meet once; then one stalls in its read, until the other has given up.
//!
//! What ships waits for as long as its group's patience, and then fails for all, by the names
//! of those who are missing.

use selvedge_core::ddp::{InProcess, Rank, RoundError};
use selvedge_core::platform::{Condvar, JoinHandle, Mutex, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::ranks::collective::{PATIENCE, Unbounded, given, pair, reduce};
use crate::registry::{Expect, Scenario, explorer, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "unbounded-barrier",
    ticket: "marin PR 8538",
    summary: "a barrier without a limit: one rank stalls, all wait and nothing is said",
    source: concat!(
        include_str!("unbounded_barrier.rs"),
        include_str!("ranks/collective.rs")
    ),
    twin: bodies!(one_stalls, WithoutLimit),
    shipped: bodies!(one_stalls, Shipped),
    signature: "deadlock",
    must_reach: &["named-the-missing"],
    // Not on real threads, which would hang; not under loom, where no time passes.
    engines: &[explorer(Expect::Finds), shuttle(Expect::Finds)],
};

/// One rank's side of a barrier for two.
trait Barrier<P: Platform>: Send + Sized + 'static {
    fn pair() -> [Self; 2];
    /// Whom it, or who waited with it, has waited for in vain.
    fn meet(&mut self, round: u64) -> Result<(), Vec<Rank>>;
}

fn one_stalls<P: Platform, T: Barrier<P>>(_: &Cx) -> Observation {
    let [mut punctual, mut late] = T::pair();
    let read = P::Arc::new((P::Mutex::new(false), P::Condvar::new()));
    let reading = read.clone();
    let late = P::spawn(move || {
        late.meet(0).map_err(|missing| (0, missing))?;
        let (is_over, ended) = &*reading;
        let mut is_read = is_over.lock();
        while !*is_read {
            is_read = ended.wait(is_read);
        }
        drop(is_read);
        late.meet(1).map_err(|missing| (1, missing))
    });
    let first = punctual.meet(0).map_err(|missing| (0, missing));
    let end = first.and_then(|()| punctual.meet(1).map_err(|missing| (1, missing)));
    drop(punctual);
    *read.0.lock() = true;
    read.1.notify_all();
    let late = late.join();
    if late != end {
        violation!("two-ends", "{end:?} and {late:?}");
    }
    match &end {
        // Time is a choice of the checker's: it may be up before both have met at all.
        Err((0, missing)) if missing.len() == 1 => {}
        Err((1, missing)) if *missing == [Rank(1)] => reach("named-the-missing"),
        other => violation!("wrong-end", "one stalls in the second round: {other:?}"),
    }
    Observation::of(format!("{end:?}"))
}

/// The code that ships.
struct Shipped<P: Platform>(InProcess<f64, P>);

impl<P: Platform> Barrier<P> for Shipped<P> {
    fn pair() -> [Self; 2] {
        pair(PATIENCE).map(Shipped)
    }

    fn meet(&mut self, round: u64) -> Result<(), Vec<Rank>> {
        match reduce(&mut self.0, &given(round), 0.0) {
            Ok(_) => Ok(()),
            Err(RoundError::Deadline { missing, .. }) => Err(missing),
            Err(other) => violation!("wrong-error", "{other}"),
        }
    }
}

/// As reported.
struct WithoutLimit<P: Platform>(u32, P::Arc<Unbounded<P>>);

impl<P: Platform> Barrier<P> for WithoutLimit<P> {
    fn pair() -> [Self; 2] {
        let barrier = P::Arc::new(Unbounded::new(2));
        [0, 1].map(|rank| WithoutLimit(rank, barrier.clone()))
    }

    fn meet(&mut self, _: u64) -> Result<(), Vec<Rank>> {
        self.1.meet("barrier", self.0, 0.0);
        Ok(())
    }
}
