//! Follows a schedule under shuttle as far as it fits, for shrinking.

use std::sync::{Arc, Mutex};

use ::shuttle::scheduler::{Schedule as ShuttleSchedule, Scheduler, Task, TaskId};

use super::Log;
use crate::{Schedule, lock};

/// A wanted task that cannot go on is passed over; past the end whoever runs goes on, and when
/// it cannot, the next one in order does.
pub(super) struct Guide {
    wanted: Schedule,
    at: usize,
    done: u32,
    draws: usize,
    begun: bool,
    names: Log,
    /// The steps, counted from 0, at which a preemption took place.
    preemptions: Arc<Mutex<Vec<u64>>>,
}

impl Guide {
    pub(super) fn new(wanted: Schedule, preemptions: Arc<Mutex<Vec<u64>>>) -> Self {
        Guide {
            wanted,
            at: 0,
            done: 0,
            draws: 0,
            begun: false,
            names: Log::default(),
            preemptions,
        }
    }

    fn wanted_task(&mut self, runnable: &[&Task], paths: &[String]) -> Option<TaskId> {
        while let Some(&(place, count)) = self.wanted.steps.get(self.at) {
            let path = self.wanted.path(place);
            if let Some(index) = paths.iter().position(|one| *one == path)
                && self.done < count
            {
                self.done += 1;
                return Some(runnable[index].id());
            }
            self.at += 1;
            self.done = 0;
        }
        None
    }
}

impl Scheduler for Guide {
    fn new_execution(&mut self) -> Option<ShuttleSchedule> {
        (!std::mem::replace(&mut self.begun, true)).then(|| ShuttleSchedule::new(0))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let paths = self.names.paths(runnable);
        let stays = current.filter(|id| !is_yielding && runnable.iter().any(|t| t.id() == *id));
        let wanted = self.wanted_task(runnable, &paths).or(stays);
        let next = || {
            let later = runnable.iter().find(|task| Some(task.id()) > current);
            later.or(runnable.first()).map(|task| task.id())
        };
        let chosen = wanted.or_else(next)?;
        if stays.is_some_and(|stays| stays != chosen) {
            lock(&self.preemptions).push(self.names.schedule.len());
        }
        // Only its length is of interest.
        self.names.schedule.push_step(0);
        Some(chosen)
    }

    fn next_u64(&mut self) -> u64 {
        let draw = self.wanted.draws.get(self.draws).copied();
        self.draws += 1;
        draw.unwrap_or(0)
    }
}
