//! Lost wake-up: the waiter looks at the flag, unlocks, and only then goes to wait. If the
//! flag is raised and the notification sent in between, nobody was there to hear it, and the
//! waiter waits for ever.
//!
//! Right where look and wait are under one lock, which waiting gives up in the same step.

use selvedge_core::platform::{Condvar, JoinHandle, Mutex, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach};

use crate::registry::{Expect, Scenario, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "lost-wakeup",
    ticket: "classic",
    summary: "flag looked at under one lock, waited for under the next",
    source: include_str!("lost_wakeup.rs"),
    twin: bodies!(one_waits, LooksThenWaits),
    shipped: bodies!(one_waits, LooksWhileLocked),
    signature: "deadlock",
    must_reach: &["ready-at-once", "had-to-wait"],
    // Not on real threads, which would hang.
    engines: &[loom(Expect::Finds), shuttle(Expect::Finds)],
};

/// A flag to wait for.
trait Event: Send + Sync + 'static {
    fn new() -> Self;
    fn raise(&self);
    /// Returns once the flag is up; whether it had to wait for that.
    fn wait(&self) -> bool;
}

fn one_waits<P: Platform, T: Event>(_: &Cx) -> Observation {
    let event = P::Arc::new(T::new());
    let waiter = event.clone();
    let waiter = P::spawn(move || waiter.wait());
    event.raise();
    match waiter.join() {
        true => {
            reach("had-to-wait");
            Observation::of("had to wait")
        }
        false => {
            reach("ready-at-once");
            Observation::of("ready at once")
        }
    }
}

struct LooksWhileLocked<P: Platform> {
    raised: P::Mutex<bool>,
    changed: P::Condvar,
}

impl<P: Platform> Event for LooksWhileLocked<P> {
    fn new() -> Self {
        LooksWhileLocked {
            raised: P::Mutex::new(false),
            changed: P::Condvar::new(),
        }
    }

    fn raise(&self) {
        *self.raised.lock() = true;
        self.changed.notify_one();
    }

    fn wait(&self) -> bool {
        let mut raised = self.raised.lock();
        let had_to_wait = !*raised;
        while !*raised {
            raised = self.changed.wait(raised);
        }
        had_to_wait
    }
}

struct LooksThenWaits<P: Platform>(LooksWhileLocked<P>);

impl<P: Platform> Event for LooksThenWaits<P> {
    fn new() -> Self {
        LooksThenWaits(LooksWhileLocked::new())
    }

    fn raise(&self) {
        self.0.raise();
    }

    fn wait(&self) -> bool {
        let had_to_wait = !*self.0.raised.lock();
        if had_to_wait {
            let raised = self.0.raised.lock();
            drop(self.0.changed.wait(raised));
        }
        had_to_wait
    }
}
