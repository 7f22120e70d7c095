//! The bounded queue between whoever records and whoever writes.

use std::collections::VecDeque;

use super::{MOST_ARGS, MOST_TEXT, TraceEvent};

/// For each event that a queue has room for, it has so many bytes, for all of its events
/// together.
pub const EVENT_ROOM: usize = 1 << 10;
/// And so many at least: more than any one event has.
const LEAST_BYTES: usize = MOST_ARGS + 4 * MOST_TEXT;

/// Events that wait to be written. One that finds it full is dropped and counted: to wait for
/// the disk is not what instrumentation may do to a program.
///
/// ```
/// use selvedge_core::time::Instant;
/// use selvedge_core::train::profiler::{Args, QueueState, TraceEvent};
///
/// let mut queue = QueueState::new(1);
/// let event = |name| TraceEvent::instant(name, Instant::ZERO, Args::new());
/// assert_eq!(queue.push(event("first")), None);
/// assert_eq!(queue.push(event("second")).unwrap().name, "second", "it is handed back");
/// assert_eq!(queue.dropped(), 1);
/// assert_eq!(queue.take().len(), 1);
/// assert_eq!(queue.push(event("third")), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueueState {
    events: VecDeque<TraceEvent>,
    /// What they take.
    bytes: usize,
    room: usize,
    dropped: u64,
}

impl QueueState {
    /// An empty one with room for so many events, 1 at least, and for [`EVENT_ROOM`] bytes for
    /// each; for 64 KiB at least, so that one which is alone has always room.
    #[must_use]
    pub fn new(room: usize) -> Self {
        let room = room.max(1);
        QueueState {
            events: VecDeque::new(),
            bytes: 0,
            room,
            dropped: 0,
        }
    }

    /// Puts an event in. One that finds no room comes back, so that the caller drops it once no
    /// lock is held. Text that is too long to be written is cut, here or before.
    #[must_use = "what comes back is dropped after the lock"]
    pub fn push(&mut self, event: TraceEvent) -> Option<TraceEvent> {
        let event = event.cut();
        let bytes = self.bytes.saturating_add(event.size());
        let most = self.room.saturating_mul(EVENT_ROOM).max(LEAST_BYTES);
        if self.events.len() >= self.room || bytes > most {
            self.dropped += 1;
            return Some(event);
        }
        self.bytes = bytes;
        self.events.push_back(event);
        None
    }

    /// Takes all events out.
    #[must_use]
    pub fn take(&mut self) -> VecDeque<TraceEvent> {
        self.bytes = 0;
        core::mem::take(&mut self.events)
    }

    /// How many were dropped since the beginning, or since [`forget`](Self::forget).
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Begins anew: what was dropped was not to be kept.
    pub fn forget(&mut self) {
        self.dropped = 0;
    }
}
