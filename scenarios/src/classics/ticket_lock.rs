//! A ticket lock: whoever comes draws the next ticket and waits until it is served. Drawn with
//! a load and a store instead of one `fetch_add`, the same ticket goes to two threads, and
//! both are served at once.

use selvedge_core::platform::{Atomic, AtomicInt, Ordering, Platform};
use selvedge_sim::bodies;

use super::exclusion::{self, Lock, both_count};
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "ticket-lock",
    ticket: "classic",
    summary: "ticket drawn by a load and a store: two threads hold the same one",
    source: concat!(
        include_str!("ticket_lock.rs"),
        include_str!("exclusion.rs"),
        include_str!("race.rs")
    ),
    twin: bodies!(both_count, DrawnInTwoSteps),
    shipped: bodies!(both_count, TicketLock),
    signature: exclusion::SIGNATURE,
    must_reach: &["main-came-first"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

struct TicketLock<P: Platform> {
    next: P::AtomicU32,
    serving: P::AtomicU32,
}

impl<P: Platform> TicketLock<P> {
    fn wait_for(&self, ticket: u32) {
        // ORDERING: Acquire, with the release in `unlock`: what was done under the lock before
        // is seen. A ticket passed over may go in too: the second holder of a doubled ticket
        // is to break in, not to wait for ever.
        while self.serving.load(Ordering::Acquire) < ticket {
            P::yield_now();
        }
    }
}

impl<P: Platform> Lock for TicketLock<P> {
    fn new() -> Self {
        TicketLock {
            next: P::AtomicU32::new(0),
            serving: P::AtomicU32::new(0),
        }
    }

    fn lock(&self, _me: usize) {
        // ORDERING: Relaxed. That no two draw the same needs only that it is one step.
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        self.wait_for(ticket);
    }

    fn unlock(&self, _me: usize) {
        // ORDERING: Relaxed. Only the holder stores it, and this thread is the holder.
        let served = self.serving.load(Ordering::Relaxed);
        // ORDERING: Release, with the acquire in `wait_for`.
        self.serving.store(served + 1, Ordering::Release);
    }
}

struct DrawnInTwoSteps<P: Platform>(TicketLock<P>);

impl<P: Platform> Lock for DrawnInTwoSteps<P> {
    fn new() -> Self {
        DrawnInTwoSteps(TicketLock::new())
    }

    fn lock(&self, _me: usize) {
        // ORDERING: no order makes one step of these two.
        let ticket = self.0.next.load(Ordering::Acquire);
        self.0.next.store(ticket + 1, Ordering::Release);
        self.0.wait_for(ticket);
    }

    fn unlock(&self, me: usize) {
        self.0.unlock(me);
    }
}
