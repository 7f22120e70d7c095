//! sglang PR 26923, also DeepSpeed#8262: a rank looked whether it had anything to do, found that
//! it had not, and returned: before the all-reduce that the others, who had, were in. It was at
//! its next collective by then, and neither could be complete.
//!
//! Two ranks look into their queues of writes under way, which come to be done at any time.
//!
//! What ships has a place for who has nothing: it gives zeros, and says that they are none.

use selvedge_core::ddp::{Contribution, InProcess};
use selvedge_core::platform::{Atomic, JoinHandle, Ordering, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::ranks::collective::{FOREVER, Unbounded, given, pair, reduce};
use crate::registry::{Expect, Scenario, explorer, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "rank-local-return",
    ticket: "sglang PR 26923, DeepSpeed#8262",
    summary: "who has nothing to reduce returns before the all-reduce",
    source: concat!(
        include_str!("rank_local_return.rs"),
        include_str!("ranks/collective.rs")
    ),
    twin: bodies!(look_and_reduce, ReturnsBefore),
    shipped: bodies!(look_and_reduce, GivesNothing),
    signature: "deadlock",
    must_reach: &["one-had-nothing", "both-had-some"],
    // Not on real threads, which would hang.
    engines: &[
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// One rank's side of what two do in turn.
trait Worker<P: Platform>: Send + Sized + 'static {
    fn pair() -> [Self; 2];
    /// How many had something.
    fn check_writes(&mut self, under_way: bool) -> u32;
    /// What comes after.
    fn next_batch(&mut self) {}
}

fn look_and_reduce<P: Platform, T: Worker<P>>(_: &Cx) -> Observation {
    let [mut ours, mut theirs] = T::pair();
    let under_way = P::Arc::new(P::AtomicBool::new(true));
    let device = under_way.clone();
    let other = P::spawn(move || {
        // ORDERING: Relaxed. It is done at any time.
        let had = theirs.check_writes(device.load(Ordering::Relaxed));
        theirs.next_batch();
        // Its side comes back as well: to be gone is a step, and for another time.
        (had, theirs)
    });
    // The other's write is done before this one looks into its own queue, or after.
    // ORDERING: Relaxed, as above.
    under_way.store(false, Ordering::Relaxed);
    let had = ours.check_writes(true);
    ours.next_batch();
    let (they_had, _theirs) = other.join();
    match (had, they_had) {
        (1, 1) => reach("one-had-nothing"),
        (2, 2) => reach("both-had-some"),
        other => violation!("not-the-same", "{other:?}"),
    }
    Observation::of(format!("{had} had some"))
}

/// The code that ships.
struct GivesNothing<P: Platform>(InProcess<f64, P>);

impl<P: Platform> Worker<P> for GivesNothing<P> {
    fn pair() -> [Self; 2] {
        pair(FOREVER).map(GivesNothing)
    }

    fn check_writes(&mut self, under_way: bool) -> u32 {
        let given = Contribution {
            active: under_way,
            ..given(0)
        };
        match reduce(&mut self.0, &given, if under_way { 1.0 } else { 0.0 }) {
            Ok((reduced, sum)) if sum == f64::from(reduced.active) => reduced.active,
            Ok(other) => violation!("wrong-sum", "{other:?}"),
            Err(other) => violation!("wrong-error", "{other}"),
        }
    }
}

/// As reported.
struct ReturnsBefore<P: Platform>(u32, P::Arc<Unbounded<P>>);

impl<P: Platform> Worker<P> for ReturnsBefore<P> {
    fn pair() -> [Self; 2] {
        let collective = P::Arc::new(Unbounded::new(2));
        [0, 1].map(|rank| ReturnsBefore(rank, collective.clone()))
    }

    fn check_writes(&mut self, under_way: bool) -> u32 {
        if !under_way {
            return 0;
        }
        let done = self.1.meet("all-reduce", self.0, 1.0);
        done.len() as u32
    }

    fn next_batch(&mut self) {
        self.1.meet("broadcast", self.0, 0.0);
    }
}
