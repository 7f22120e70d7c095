//! What the classic locks are tested by: two threads that each count up once under the lock,
//! in two steps. If both are in at once, or if one does not see what the other did, a count is
//! lost.

use selvedge_core::platform::{Atomic, JoinHandle, Ordering, Platform, Shared};
use selvedge_sim::{Cx, Observation, reach, violation};

/// What a broken lock is found by.
pub(super) const SIGNATURE: &str = "mutual-exclusion";

/// A lock for thread 0 and thread 1.
pub(super) trait Lock: Send + Sync + 'static {
    fn new() -> Self;
    fn lock(&self, me: usize);
    fn unlock(&self, me: usize);
}

/// Both threads count up once under a fresh lock.
pub(super) fn both_count<P: Platform, L: Lock>(cx: &Cx) -> Observation {
    let mut last = (0, 0);
    for _ in 0..cx.rounds() {
        let shared = P::Arc::new((L::new(), P::AtomicU32::new(0)));
        let theirs = shared.clone();
        let other = P::spawn(move || count_up::<P, L>(&theirs.0, &theirs.1, 1));
        let mine = count_up::<P, L>(&shared.0, &shared.1, 0);
        last = (mine, other.join());
        match last {
            (0, 1) => reach("main-came-first"),
            (1, 0) => reach("other-came-first"),
            _ => violation!(SIGNATURE, "both counted on from {}", last.0),
        }
    }
    match cx.rounds() {
        1 => Observation::of(format!("counted on from {} and {}", last.0, last.1)),
        _ => Observation::none(),
    }
}

/// Adds one under the lock; what it was before.
fn count_up<P: Platform, L: Lock>(lock: &L, count: &P::AtomicU32, me: usize) -> u32 {
    lock.lock(me);
    // ORDERING: Relaxed, both. Keeping these two steps together, and in order with those of
    // the other thread, is what the lock is for.
    let before = count.load(Ordering::Relaxed);
    count.store(before + 1, Ordering::Relaxed);
    lock.unlock(me);
    before
}
