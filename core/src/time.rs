//! Time as an argument.
//!
//! **State machines take `now`; only drivers hold a [`Clock`].** So a simulator can run a day
//! in a second, and a test never waits.

use core::fmt::Debug;
use core::ops::Add;
use core::time::Duration;

/// Nanoseconds since an origin that the [`Clock`] chose. Never wall-clock time.
///
/// ```
/// use core::time::Duration;
/// use selvedge_core::time::Instant;
///
/// let start = Instant::from_nanos(5);
/// let deadline = start + Duration::from_nanos(10);
/// assert_eq!(deadline.saturating_since(start), Duration::from_nanos(10));
/// assert_eq!(start.saturating_since(deadline), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The clock's origin.
    pub const ZERO: Instant = Instant(0);

    /// The instant `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Instant(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub const fn saturating_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Saturates at the end of time (584 years after the origin).
    fn add(self, rhs: Duration) -> Instant {
        let nanos = u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(nanos))
    }
}

/// Tells the time. Object-safe, so that a driver can be handed any of them.
pub trait Clock: Debug + Send + Sync {
    /// The present instant. Never goes back.
    fn now(&self) -> Instant;
}

/// The machine's monotonic clock; its origin is the moment it was made.
///
/// ```
/// use selvedge_core::time::{Clock, SystemClock};
///
/// let clock = SystemClock::new();
/// assert!(clock.now() <= clock.now());
/// ```
#[derive(Clone, Debug)]
#[allow(
    clippy::disallowed_types,
    reason = "the one clock that reads the machine's"
)]
pub struct SystemClock {
    origin: std::time::Instant,
}

impl SystemClock {
    /// A clock that starts at [`Instant::ZERO`] now.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "the one clock that reads the machine's"
    )]
    pub fn new() -> Self {
        SystemClock {
            origin: std::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }
}
