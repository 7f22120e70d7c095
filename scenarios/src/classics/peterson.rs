//! Peterson's lock for two threads, out of loads and stores alone: I want in, but you go
//! first; I wait while you want in and it is your turn. Right where memory is sequentially
//! consistent; wrong with relaxed accesses, because a store may still be on its way while the
//! loads behind it are done, and then neither sees that the other wants in.
//!
//! Right again with two sequentially consistent fences: one before the loads, and one between
//! the two stores, which must not change places either.

use selvedge_core::platform::{Atomic, Ordering, Platform};
use selvedge_sim::bodies;

use super::exclusion::{self, Lock, both_count};
use crate::registry::{Expect, SC_ONLY, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "peterson",
    ticket: "classic",
    summary: "Peterson's lock without fences: right under SC, wrong when relaxed",
    source: concat!(
        include_str!("peterson.rs"),
        include_str!("exclusion.rs"),
        include_str!("race.rs")
    ),
    twin: bodies!(both_count, Unfenced),
    shipped: bodies!(both_count, Fenced),
    signature: exclusion::SIGNATURE,
    must_reach: &["main-came-first"],
    engines: &[
        native(Expect::May("processors buffer stores, x86 too")),
        explorer(SC_ONLY),
        loom(Expect::Finds),
        shuttle(Expect::Misses(
            "every atomic is sequentially consistent there",
        )),
    ],
};

struct Peterson<P: Platform> {
    wants: [P::AtomicBool; 2],
    turn: P::AtomicUsize,
}

impl<P: Platform> Peterson<P> {
    fn new() -> Self {
        Peterson {
            wants: [P::AtomicBool::new(false), P::AtomicBool::new(false)],
            turn: P::AtomicUsize::new(0),
        }
    }

    fn lock(&self, me: usize, fence: fn()) {
        let other = 1 - me;
        // ORDERING: Relaxed, both stores. The fences order them, or nothing does.
        self.wants[me].store(true, Ordering::Relaxed);
        fence();
        self.turn.store(other, Ordering::Relaxed);
        fence();
        // ORDERING: Acquire, both loads. Whichever lets this thread in, it then sees what the
        // other did under the lock.
        while self.wants[other].load(Ordering::Acquire)
            && self.turn.load(Ordering::Acquire) == other
        {
            P::yield_now();
        }
    }

    fn unlock(&self, me: usize) {
        // ORDERING: Release, with the acquiring loads in `lock`.
        self.wants[me].store(false, Ordering::Release);
    }
}

struct Fenced<P: Platform>(Peterson<P>);

impl<P: Platform> Lock for Fenced<P> {
    fn new() -> Self {
        Fenced(Peterson::new())
    }

    fn lock(&self, me: usize) {
        // ORDERING: SeqCst. Of two such fences one comes first, and what was stored before it
        // is seen after the other.
        self.0.lock(me, || P::fence(Ordering::SeqCst));
    }

    fn unlock(&self, me: usize) {
        self.0.unlock(me);
    }
}

struct Unfenced<P: Platform>(Peterson<P>);

impl<P: Platform> Lock for Unfenced<P> {
    fn new() -> Self {
        Unfenced(Peterson::new())
    }

    fn lock(&self, me: usize) {
        self.0.lock(me, || {});
    }

    fn unlock(&self, me: usize) {
        self.0.unlock(me);
    }
}
