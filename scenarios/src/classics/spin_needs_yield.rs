//! A thread spins until another raises a flag. On a real machine the other gets its turn
//! sooner or later; a checker that lets the spinning thread go on for ever finds a livelock.
//! Both are right: without a yield the loop asks the scheduler for a fairness that nothing
//! promises, and a real-time scheduler on one processor does not give.
//!
//! Right with `yield_now` in the loop, which is also what tells the checkers to look elsewhere.

use selvedge_core::platform::{Atomic, JoinHandle, Ordering, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach};

use crate::registry::{Expect, Scenario, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "spin-needs-yield",
    ticket: "classic",
    summary: "a spin loop without a yield may never let the other thread run",
    source: include_str!("spin_needs_yield.rs"),
    twin: bodies!(never_yields),
    shipped: bodies!(yields),
    signature: "livelock",
    must_reach: &["flag-seen"],
    engines: &[
        native(Expect::Misses("the kernel preempts a spinning thread")),
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
    for _ in 0..cx.rounds() {
        let flag = P::Arc::new(P::AtomicBool::new(false));
        let spinner = flag.clone();
        let spinner = P::spawn(move || {
            // ORDERING: Acquire, with the release below, as if there were a message.
            while !spinner.load(Ordering::Acquire) {
                meanwhile();
            }
            reach("flag-seen");
        });
        // ORDERING: Release, as above.
        flag.store(true, Ordering::Release);
        spinner.join();
    }
    Observation::none()
}
