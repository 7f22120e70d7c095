//! A thread spins until another raises a flag. On a real machine the other gets its turn
//! sooner or later; a checker that lets the spinning thread go on for ever finds a livelock.
//! Both are right: without a yield the loop asks the scheduler for a fairness that nothing
//! promises, and a real-time scheduler on one processor does not give.
//!
//! Right with `yield_now` in the loop, which is also what tells the checkers to look elsewhere.

use selvedge_core::platform::{Atomic, Ordering, Platform};
use selvedge_sim::{Cx, Observation, bodies, reach};

use super::race::race;
use crate::registry::{Expect, Scenario, explorer, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "spin-needs-yield",
    ticket: "classic",
    summary: "a spin loop without a yield may never let the other thread run",
    source: concat!(include_str!("spin_needs_yield.rs"), include_str!("race.rs")),
    twin: bodies!(never_yields),
    shipped: bodies!(yields),
    signature: "livelock",
    must_reach: &["flag-seen"],
    // Not on real threads: the kernel preempts a spinning thread, milliseconds later.
    engines: &[
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

fn never_yields<P: Platform>(cx: &Cx) -> Observation {
    spin::<P>(cx, || {})
}

fn yields<P: Platform>(cx: &Cx) -> Observation {
    spin::<P>(cx, P::yield_now)
}

fn spin<P: Platform>(cx: &Cx, meanwhile: fn()) -> Observation {
    let fresh = || P::AtomicBool::new(false);
    race::<P, _, _>(cx, 2, fresh, move |flag, me| {
        if me == 0 {
            // ORDERING: Release, with the acquire below, as if there were a message.
            flag.store(true, Ordering::Release);
            return;
        }
        // ORDERING: Acquire, as above.
        while !flag.load(Ordering::Acquire) {
            meanwhile();
        }
        reach("flag-seen");
    });
    Observation::none()
}
