//! [`Awake`]: the time that a driver's loop was there to see.

use core::time::Duration;

use tokio::time::Instant as Now;

use crate::time::Instant;

/// Counts the time in which its driver ran. A process that was stopped (SIGSTOP, a sleeping
/// machine) would otherwise find on waking that all its deadlines have passed and everybody was
/// silent for too long, before it has read a single message that says otherwise.
#[derive(Debug)]
pub(super) struct Awake {
    origin: Now,
    last: Now,
    asleep: Duration,
    most: Duration,
}

impl Awake {
    /// A clock whose driver looks at it at least every `tick`.
    pub(super) fn new(tick: Duration) -> Self {
        let now = Now::now();
        Awake {
            origin: now,
            last: now,
            asleep: Duration::ZERO,
            most: tick * 4,
        }
    }

    pub(super) fn now(&mut self) -> Instant {
        let now = Now::now();
        let gap = now.saturating_duration_since(self.last);
        self.last = now;
        self.asleep += gap.saturating_sub(self.most);
        let awake = now.saturating_duration_since(self.origin);
        Instant::ZERO + awake.saturating_sub(self.asleep)
    }

    /// How long from now until `at`, for a driver that looks again by then.
    pub(super) fn until(&mut self, at: Instant) -> Duration {
        at.saturating_since(self.now())
    }
}
