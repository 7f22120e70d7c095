//! Dekker's lock for two threads, the first one ever made of loads and stores alone: I say
//! that I want in; if you want in as well and it is your turn, I step back until it is mine.
//! Right where memory is sequentially consistent; wrong with relaxed accesses, because each
//! thread's own wish may still be on its way while it looks for the other's.
//!
//! Right again with a sequentially consistent fence between saying and looking.

use selvedge_core::platform::{Atomic, Ordering, Platform};
use selvedge_sim::bodies;

use super::exclusion::{self, Lock, both_count};
use crate::registry::{Expect, SC_ONLY, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "dekker",
    ticket: "classic",
    summary: "Dekker's lock without fences: right under SC, wrong when relaxed",
    source: concat!(
        include_str!("dekker.rs"),
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

struct Dekker<P: Platform> {
    wants: [P::AtomicBool; 2],
    turn: P::AtomicUsize,
}

impl<P: Platform> Dekker<P> {
    fn new() -> Self {
        Dekker {
            wants: [P::AtomicBool::new(false), P::AtomicBool::new(false)],
            turn: P::AtomicUsize::new(0),
        }
    }

    fn lock(&self, me: usize, fence: fn()) {
        let other = 1 - me;
        // ORDERING: Relaxed. The fence orders it with the load below, or nothing does.
        self.wants[me].store(true, Ordering::Relaxed);
        fence();
        // ORDERING: Acquire, with the release in `unlock`: what the other did under the lock
        // is seen.
        while self.wants[other].load(Ordering::Acquire) {
            // ORDERING: Relaxed, here and below. Whose turn it is decides who waits, not who
            // is in.
            if self.turn.load(Ordering::Relaxed) == other {
                self.wants[me].store(false, Ordering::Relaxed);
                while self.turn.load(Ordering::Relaxed) == other {
                    P::yield_now();
                }
                self.wants[me].store(true, Ordering::Relaxed);
                fence();
            } else {
                P::yield_now();
            }
        }
    }

    fn unlock(&self, me: usize) {
        // ORDERING: Relaxed, as in `lock`.
        self.turn.store(1 - me, Ordering::Relaxed);
        // ORDERING: Release, with the acquire in `lock`.
        self.wants[me].store(false, Ordering::Release);
    }
}

struct Fenced<P: Platform>(Dekker<P>);

impl<P: Platform> Lock for Fenced<P> {
    fn new() -> Self {
        Fenced(Dekker::new())
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

struct Unfenced<P: Platform>(Dekker<P>);

impl<P: Platform> Lock for Unfenced<P> {
    fn new() -> Self {
        Unfenced(Dekker::new())
    }

    fn lock(&self, me: usize) {
        self.0.lock(me, || {});
    }

    fn unlock(&self, me: usize) {
        self.0.unlock(me);
    }
}
