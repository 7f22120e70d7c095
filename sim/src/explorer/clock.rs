//! Vector clocks: which events of which task happen before.

use smallvec::SmallVec;

/// For each task, how many of its events are known. Tasks past the end have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock(SmallVec<[u32; 8]>);

impl Clock {
    /// Events of `task` that are known.
    pub(super) fn get(&self, task: u32) -> u32 {
        self.0.get(task as usize).copied().unwrap_or(0)
    }

    /// Knows `events` events of `task` from now on.
    pub(super) fn set(&mut self, task: u32, events: u32) {
        let place = task as usize;
        if place >= self.0.len() {
            self.0.resize(place + 1, 0);
        }
        self.0[place] = events;
    }

    /// Knows only what `other` knows too.
    pub(super) fn meet(&mut self, other: &Clock) {
        self.0.truncate(other.0.len());
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).min(*theirs);
        }
    }

    /// Knows what `other` knows as well.
    pub(super) fn join(&mut self, other: &Clock) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).max(*theirs);
        }
    }
}
