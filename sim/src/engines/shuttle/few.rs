//! Every schedule with few preemptions under shuttle, depth first: what proves that a shrunk
//! failure cannot be made smaller.

use std::sync::{Arc, Mutex};

use ::shuttle::scheduler::{Schedule as ShuttleSchedule, Scheduler, Task, TaskId};

use crate::lock;

/// Where the search stands between two executions.
pub(super) struct Few {
    bound: u64,
    levels: Vec<Level>,
    /// The body did not do the same thing twice, so that nothing is known.
    pub(super) broken: bool,
    /// Some schedules were passed over: those in which a task that yields goes on itself, or a
    /// loop that waits would have no end; and those with other random values.
    pub(super) passed_over: bool,
}

/// One step with a choice of tasks.
struct Level {
    options: Vec<TaskId>,
    at: usize,
}

impl Few {
    pub(super) fn new(bound: u64) -> Self {
        Few {
            bound,
            levels: Vec::new(),
            broken: false,
            passed_over: false,
        }
    }

    /// Goes on to the next schedule; whether there is one.
    pub(super) fn advance(&mut self) -> bool {
        while let Some(level) = self.levels.last_mut() {
            level.at += 1;
            if level.at < level.options.len() {
                return true;
            }
            self.levels.pop();
        }
        false
    }
}

/// Runs one execution of the search.
pub(super) struct FewPreemptions {
    state: Arc<Mutex<Few>>,
    begun: bool,
    depth: usize,
    used: u64,
    draws: Vec<u64>,
    drawn: usize,
}

impl FewPreemptions {
    pub(super) fn new(state: Arc<Mutex<Few>>, draws: Vec<u64>) -> Self {
        FewPreemptions {
            state,
            begun: false,
            depth: 0,
            used: 0,
            draws,
            drawn: 0,
        }
    }
}

impl Scheduler for FewPreemptions {
    fn new_execution(&mut self) -> Option<ShuttleSchedule> {
        (!std::mem::replace(&mut self.begun, true)).then(|| ShuttleSchedule::new(0))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let mut state = lock(&self.state);
        let stays = current.filter(|id| !is_yielding && runnable.iter().any(|t| t.id() == *id));
        if state.levels.len() == self.depth {
            let mut options: Vec<TaskId> = runnable.iter().map(|task| task.id()).collect();
            // Whoever runs goes on first: the first execution has few switches.
            options.sort_by_key(|&id| (Some(id) != stays, Some(id) == current));
            if is_yielding && options.len() > 1 {
                options.retain(|&id| Some(id) != current);
                state.passed_over = true;
            }
            if stays.is_some() && self.used >= state.bound {
                options.truncate(1);
            }
            state.levels.push(Level { options, at: 0 });
        }
        let level = &state.levels[self.depth];
        let chosen = level.options[level.at];
        if !runnable.iter().any(|task| task.id() == chosen) {
            state.broken = true;
            return None;
        }
        self.depth += 1;
        self.used += u64::from(stays.is_some_and(|stays| stays != chosen));
        Some(chosen)
    }

    /// The failure's own draws: only the order is searched.
    fn next_u64(&mut self) -> u64 {
        lock(&self.state).passed_over = true;
        let draw = self.draws.get(self.drawn).copied();
        self.drawn += 1;
        draw.unwrap_or(0)
    }
}
