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
            most: tick.saturating_mul(4),
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

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;
    use tokio::time::advance;

    use super::*;

    #[test]
    fn time_in_which_its_driver_did_not_run_is_hardly_counted() {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let millis = |n| Instant::ZERO + Duration::from_millis(n);
            let mut clock = Awake::new(Duration::from_millis(100));
            advance(Duration::from_millis(90)).await;
            assert_eq!(clock.now(), millis(90));
            // A machine that is busy makes a driver late; that is counted.
            advance(Duration::from_millis(390)).await;
            assert_eq!(clock.until(millis(500)), Duration::from_millis(20));
            advance(Duration::from_secs(3600)).await;
            assert_eq!(clock.now(), millis(480 + 400));
            advance(Duration::from_millis(50)).await;
            assert_eq!(clock.now(), millis(480 + 450));
        });
    }
}
