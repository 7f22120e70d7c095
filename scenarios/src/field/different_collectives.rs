//! horovod#3494: collectives are matched by name, and ranks came to them in different orders.
//! Each waited in its first one for the others, who waited in theirs.
//!
//! Two ranks reduce a gradient and gather a metric, one of them the other way round.
//!
//! What ships has one collective a step and a tag in it that says what it is. Contributions to
//! different things meet, and all who contributed learn that they do not belong together.

use selvedge_core::ddp::{Contribution, InProcess};
use selvedge_core::platform::{JoinHandle, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::ranks::collective::{FOREVER, Unbounded, given, pair, reduce};
use crate::registry::{Expect, Scenario, explorer, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "different-collectives",
    ticket: "horovod#3494",
    summary: "ranks come to two collectives in different orders",
    source: concat!(
        include_str!("different_collectives.rs"),
        include_str!("ranks/collective.rs")
    ),
    twin: bodies!(other_way_round, ByName),
    shipped: bodies!(other_way_round, ByTag),
    signature: "deadlock",
    must_reach: &["told-that-they-differ"],
    // Not on real threads, which would hang.
    engines: &[
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// What is to be done, in the one order or in the other.
const NAMES: [&str; 2] = ["gradient", "metric"];

/// One rank's side of a collective for two.
trait Rank<P: Platform>: Send + Sized + 'static {
    fn pair() -> [Self; 2];
    /// Whether it is taken for one that all ranks did.
    fn collective(&mut self, nth: u64, what: usize) -> bool;
}

fn other_way_round<P: Platform, T: Rank<P>>(_: &Cx) -> Observation {
    let [ours, theirs] = T::pair();
    let both = |mut rank: T, order: [usize; 2]| {
        let done: Vec<bool> = (0..)
            .zip(order)
            .map(|(nth, what)| rank.collective(nth, what))
            .collect();
        (done, rank)
    };
    let other = P::spawn(move || both(theirs, [1, 0]));
    let (ours, _ours) = both(ours, [0, 1]);
    let (theirs, _theirs) = other.join();
    if ours != theirs {
        violation!("not-uniform", "{ours:?} and {theirs:?}");
    }
    if ours.contains(&true) {
        violation!("taken-for-the-same", "{ours:?}");
    }
    reach("told-that-they-differ");
    Observation::of(format!("{ours:?}"))
}

/// The code that ships.
struct ByTag<P: Platform>(InProcess<f64, P>);

impl<P: Platform> Rank<P> for ByTag<P> {
    fn pair() -> [Self; 2] {
        pair(FOREVER).map(ByTag)
    }

    fn collective(&mut self, nth: u64, what: usize) -> bool {
        let mut given: Contribution = given(nth);
        given.tag.schedule = what as u64;
        match reduce(&mut self.0, &given, 1.0) {
            Ok((reduced, _)) => reduced.tags_equal,
            Err(other) => violation!("wrong-error", "{other}"),
        }
    }
}

/// As reported.
struct ByName<P: Platform>(u32, P::Arc<Unbounded<P>>);

impl<P: Platform> Rank<P> for ByName<P> {
    fn pair() -> [Self; 2] {
        let collective = P::Arc::new(Unbounded::new(2));
        [0, 1].map(|rank| ByName(rank, collective.clone()))
    }

    fn collective(&mut self, _: u64, what: usize) -> bool {
        self.1.meet(NAMES[what], self.0, 1.0);
        true
    }
}
