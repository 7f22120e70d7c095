//! sleap-nn PR 471: a command to stop reaches rank 0, which sets its own flag. Then all ranks
//! met at a barrier, so that they be of one mind. A barrier makes them agree on the time, not on
//! the value: rank 0 left the loop, the others went on into the next step, and each waited for
//! the other in another collective.
//!
//! Two ranks, two steps; the command comes before any of them, or too late.
//!
//! What is right is to reduce the value, as one more lane of the step that all make anyhow.

use selvedge_core::ddp::InProcess;
use selvedge_core::platform::{JoinHandle, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::ranks::collective::{FOREVER, Unbounded, given, pair, reduce};
use crate::registry::{Expect, Scenario, explorer, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "agreed-on-time",
    ticket: "sleap-nn PR 471",
    summary: "a barrier where the value of a flag was to be agreed on",
    source: concat!(
        include_str!("agreed_on_time.rs"),
        include_str!("ranks/collective.rs")
    ),
    twin: bodies!(told_to_stop, MeetsInTime),
    shipped: bodies!(told_to_stop, ReducesTheValue),
    signature: "deadlock",
    must_reach: &["stopped-early", "came-too-late"],
    // Not on real threads, which would hang.
    engines: &[
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const STEPS: u64 = 2;

/// One rank's side of the training of two.
trait Trainer<P: Platform>: Send + Sized + 'static {
    fn pair() -> [Self; 2];
    /// Makes a step and says whether to stop after it.
    fn step(&mut self, step: u64, told_to_stop: bool) -> bool;
    fn end(&mut self) {}
}

fn told_to_stop<P: Platform, T: Trainer<P>>(cx: &Cx) -> Observation {
    // Before which step the command reaches rank 0; past the last, it comes too late.
    let comes_before = u64::from(cx.choose(3));
    let [ours, theirs] = T::pair();
    let other = P::spawn(move || train(theirs, |_| false));
    let (ours, _ours) = train(ours, |step| step >= comes_before);
    let (theirs, _theirs) = other.join();
    match [ours, theirs] {
        [1, 1] => reach("stopped-early"),
        [STEPS, STEPS] => reach("came-too-late"),
        other => violation!("steps-differ", "{other:?}"),
    }
    Observation::of(format!("{ours} steps"))
}

fn train<P: Platform, T: Trainer<P>>(mut rank: T, told: impl Fn(u64) -> bool) -> (u64, T) {
    let mut made = 0;
    for step in 0..STEPS {
        made += 1;
        if rank.step(step, told(step)) {
            break;
        }
    }
    rank.end();
    (made, rank)
}

/// The code that ships, with the flag in the bucket.
struct ReducesTheValue<P: Platform>(InProcess<f64, P>);

impl<P: Platform> Trainer<P> for ReducesTheValue<P> {
    fn pair() -> [Self; 2] {
        pair(FOREVER).map(ReducesTheValue)
    }

    fn step(&mut self, step: u64, told_to_stop: bool) -> bool {
        let stop = if told_to_stop { 1.0 } else { 0.0 };
        match reduce(&mut self.0, &given(step), stop) {
            Ok((_, wish)) => wish > 0.0,
            Err(other) => violation!("wrong-error", "{other}"),
        }
    }
}

/// As reported.
struct MeetsInTime<P: Platform>(u32, P::Arc<Unbounded<P>>);

impl<P: Platform> Trainer<P> for MeetsInTime<P> {
    fn pair() -> [Self; 2] {
        let collective = P::Arc::new(Unbounded::new(2));
        [0, 1].map(|rank| MeetsInTime(rank, collective.clone()))
    }

    fn step(&mut self, _: u64, told_to_stop: bool) -> bool {
        self.1.meet("step", self.0, 1.0);
        self.1.meet("barrier", self.0, 0.0);
        told_to_stop
    }

    fn end(&mut self) {
        self.1.meet("end of training", self.0, 0.0);
    }
}
