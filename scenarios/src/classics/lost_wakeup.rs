//! Lost wake-up: the waiter looks at the flag, unlocks, and only then goes to wait. If the
//! flag is raised and the notification sent in between, nobody was there to hear it, and the
//! waiter waits for ever.
//!
//! Right where look and wait are under one lock, which waiting gives up in the same step.

use selvedge_core::platform::{Condvar, Mutex, Platform};
use selvedge_sim::{Cx, Observation, bodies, reach};

use super::race::{observe, race};
use crate::registry::{Expect, Scenario, explorer, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "lost-wakeup",
    ticket: "classic",
    summary: "flag looked at under one lock, waited for under the next",
    source: concat!(include_str!("lost_wakeup.rs"), include_str!("race.rs")),
    twin: bodies!(one_waits, LooksThenWaits),
    shipped: bodies!(one_waits, LooksWhileLocked),
    signature: "deadlock",
    must_reach: &["ready-at-once", "had-to-wait"],
    // Not on real threads, which would hang.
    engines: &[
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// A flag to wait for.
trait Event: Send + Sync + 'static {
    fn new() -> Self;
    fn raise(&self);
    /// Returns once the flag is up; whether it had to wait for that.
    fn wait(&self) -> bool;
}

fn one_waits<P: Platform, T: Event>(cx: &Cx) -> Observation {
    let rounds = race::<P, _, _>(cx, 2, T::new, |event, me| match me {
        0 => {
            event.raise();
            false
        }
        _ => {
            let waited = event.wait();
            reach(if waited {
                "had-to-wait"
            } else {
                "ready-at-once"
            });
            waited
        }
    });
    observe(&rounds, |waited| format!("had to wait: {}", waited[1]))
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
