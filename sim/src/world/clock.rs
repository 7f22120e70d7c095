//! Virtual time, and the queue of what is yet to happen in it.
//!
//! Nothing here waits: time jumps to the next event. Where two events are due at one instant the
//! one that was planned first comes first, so a run is the same every time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use selvedge_core::time::{Clock, Instant};

/// A clock that stands still until it is told.
///
/// ```
/// use selvedge_core::time::{Clock, Instant};
/// use selvedge_sim::world::VirtualClock;
///
/// let clock = VirtualClock::default();
/// let seen_elsewhere = clock.clone();
/// clock.advance_to(Instant::from_nanos(7));
/// clock.advance_to(Instant::from_nanos(3));
/// assert_eq!(seen_elsewhere.now(), Instant::from_nanos(7), "it never goes back");
/// ```
#[derive(Clone, Debug, Default)]
pub struct VirtualClock(Arc<AtomicU64>);

impl VirtualClock {
    /// Makes it `now`, unless it is later already.
    pub fn advance_to(&self, now: Instant) {
        // ORDERING: Relaxed, for the one number is all there is to see.
        self.0.fetch_max(now.as_nanos(), Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Instant {
        // ORDERING: as above.
        Instant::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// What is yet to happen, by time and then by the order in which it was planned.
#[derive(Debug)]
pub(super) struct EventQueue<E> {
    due: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    /// The events by place: the heap moves numbers only.
    events: Vec<Option<E>>,
    vacant: Vec<u32>,
    planned: u64,
}

impl<E> EventQueue<E> {
    pub(super) fn new() -> Self {
        EventQueue {
            due: BinaryHeap::new(),
            events: Vec::new(),
            vacant: Vec::new(),
            planned: 0,
        }
    }

    pub(super) fn push(&mut self, at: Instant, event: E) {
        let place = match self.vacant.pop() {
            Some(place) => {
                self.events[place as usize] = Some(event);
                place
            }
            None => {
                self.events.push(Some(event));
                self.events.len() as u32 - 1
            }
        };
        self.planned += 1;
        self.due.push(Reverse((at, self.planned, place)));
    }

    pub(super) fn pop(&mut self) -> Option<(Instant, E)> {
        let Reverse((at, _, place)) = self.due.pop()?;
        self.vacant.push(place);
        let event = self.events[place as usize].take();
        Some((
            at,
            event.expect("INVARIANT: each place is in the heap once"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_as_they_were_planned() {
        let at = Instant::from_nanos;
        let mut queue = EventQueue::new();
        for (time, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b')] {
            queue.push(at(time), event);
        }
        let first = [queue.pop(), queue.pop()];
        assert_eq!(first, [Some((at(1), 'a')), Some((at(1), 'b'))]);
        queue.push(at(5), 'e');
        let rest: String = std::iter::from_fn(|| queue.pop()).map(|(_, e)| e).collect();
        assert_eq!(rest, "cde");
    }
}
