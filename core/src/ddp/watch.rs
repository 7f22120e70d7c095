//! Soft and hard deadlines of a machine's waits. The machines hold no clock: each says what it
//! waits for, and a [`Watch`] beside it turns the time into at most two events a wait.

use core::hash::Hash;
use core::time::Duration;

use crate::time::Instant;

/// How long a wait may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deadlines {
    /// After this, say so, with the names of who is missing.
    pub soft: Duration,
    /// After this, end it: suspect who is missing, or fail.
    pub hard: Duration,
}

/// A deadline that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Due<W> {
    /// Log it and count it. Once a wait.
    Soft(W),
    /// Give it to the machine. Once a wait.
    Hard(W),
}

/// Watches what a machine waits for, `W`. Another value is another wait.
///
/// **Call [`observe`](Self::observe) after every event and at [`next`](Self::next).**
///
/// ```
/// use core::time::Duration;
/// use selvedge_core::ddp::{Deadlines, Due, Watch};
/// use selvedge_core::time::Instant;
///
/// let second = |n| Instant::ZERO + Duration::from_secs(n);
/// let deadlines = Deadlines { soft: Duration::from_secs(1), hard: Duration::from_secs(3) };
/// let mut watch = Watch::new(deadlines);
/// assert_eq!(watch.observe(Some("rank 2"), second(0)), None);
/// assert_eq!(watch.next(), Some(second(1)));
/// assert_eq!(watch.observe(Some("rank 2"), second(1)), Some(Due::Soft("rank 2")));
/// assert_eq!(watch.observe(Some("rank 2"), second(3)), Some(Due::Hard("rank 2")));
/// assert_eq!(watch.observe(Some("rank 3"), second(3)), None, "another wait");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watch<W> {
    deadlines: Deadlines,
    wait: Option<Waiting<W>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Waiting<W> {
    what: W,
    since: Instant,
    soft_told: bool,
    hard_told: bool,
}

impl<W: Clone + PartialEq> Watch<W> {
    /// A watch with nothing to watch yet.
    #[must_use]
    pub const fn new(deadlines: Deadlines) -> Self {
        Watch {
            deadlines,
            wait: None,
        }
    }

    /// Notes what is waited for now, and says which deadline has passed, if one has that was
    /// not told before. Where both have, the hard one is told.
    pub fn observe(&mut self, what: Option<W>, now: Instant) -> Option<Due<W>> {
        let Some(what) = what else {
            self.wait = None;
            return None;
        };
        let same = self.wait.as_ref().is_some_and(|wait| wait.what == what);
        if !same {
            self.wait = Some(Waiting {
                what: what.clone(),
                since: now,
                soft_told: false,
                hard_told: false,
            });
        }
        let wait = self.wait.as_mut()?;
        let waited = now.saturating_since(wait.since);
        if waited >= self.deadlines.hard && !wait.hard_told {
            (wait.soft_told, wait.hard_told) = (true, true);
            return Some(Due::Hard(what));
        }
        if waited >= self.deadlines.soft && !wait.soft_told {
            wait.soft_told = true;
            return Some(Due::Soft(what));
        }
        None
    }

    /// When there will be something to tell, if nothing happens before.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let wait = self.wait.as_ref()?;
        match (wait.soft_told, wait.hard_told) {
            (_, true) => None,
            (true, false) => Some(wait.since + self.deadlines.hard),
            (false, false) => Some(wait.since + self.deadlines.soft.min(self.deadlines.hard)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_deadline_is_told_once_a_wait_and_the_hard_one_wins() {
        let at = |n| Instant::ZERO + Duration::from_secs(n);
        let mut watch = Watch::new(Deadlines {
            soft: Duration::from_secs(2),
            hard: Duration::from_secs(5),
        });
        assert_eq!(watch.observe(Some(1), at(10)), None);
        assert_eq!(watch.observe(Some(1), at(11)), None);
        assert_eq!(
            (watch.observe(Some(1), at(12)), watch.next()),
            (Some(Due::Soft(1)), Some(at(15)))
        );
        assert_eq!(watch.observe(Some(1), at(14)), None, "told before");
        assert_eq!(
            (watch.observe(Some(1), at(15)), watch.next()),
            (Some(Due::Hard(1)), None)
        );
        assert_eq!(watch.observe(Some(1), at(99)), None, "told before");
        // The clock jumps past both.
        assert_eq!(watch.observe(Some(2), at(100)), None);
        assert_eq!(watch.observe(Some(2), at(200)), Some(Due::Hard(2)));
        assert_eq!(
            watch.observe(Some(2), at(201)),
            None,
            "nor is the soft one told after"
        );
        // Nothing to wait for: what comes after is another wait.
        assert_eq!((watch.observe(None, at(202)), watch.next()), (None, None));
        assert_eq!(watch.observe(Some(2), at(203)), None);
        assert_eq!(watch.next(), Some(at(205)));
    }
}
