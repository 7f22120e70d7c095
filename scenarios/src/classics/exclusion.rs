//! What the classic locks are tested by: two threads that each count up once under the lock,
//! in two steps. If both are in at once, or if one does not see what the other did, a count is
//! lost.

use selvedge_core::platform::{Atomic, Ordering, Platform};
use selvedge_sim::{Cx, Observation, reach, violation};

use super::race::{observe, race};

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
    let fresh = || (L::new(), P::AtomicU32::new(0));
    let rounds = race::<P, _, _>(cx, 2, fresh, |(lock, count), me| {
        count_up::<P, L>(lock, count, me)
    });
    for counted_from in &rounds {
        match counted_from[..] {
            [0, 1] => reach("main-came-first"),
            [1, 0] => reach("other-came-first"),
            _ => violation!(SIGNATURE, "they counted on from {counted_from:?}"),
        }
    }
    observe(&rounds, |from| format!("counted on from {from:?}"))
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
