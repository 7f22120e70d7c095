//! Strategies without reduction: every schedule, every schedule with few preemptions, and a
//! schedule that was written down.

use super::access::Kind;
use super::record::{NO_CHOICE, Record};
use super::runtime::{Pick, Strategy};
use crate::Schedule;

/// Everything that can be picked now: a task, and a waiter where it chooses one.
fn options(record: &Record, enabled: &[u32]) -> Vec<(u32, u32)> {
    let mut options = Vec::with_capacity(enabled.len());
    for &task in enabled {
        match record.choices(task) {
            [] => options.push((task, NO_CHOICE)),
            choices => options.extend(choices.iter().map(|&choice| (task, choice))),
        }
    }
    options
}

/// Every schedule, depth first, with at most so many preemptions if there is a bound. Nothing
/// is left out as equivalent to something else: a bound and a reduction do not go together
/// without care, because what a sleeping step stands for may be past the bound.
#[derive(Debug, Default)]
pub(super) struct DepthFirst {
    preemptions: Option<u32>,
    nodes: Vec<Level>,
    used: u32,
    /// Whether the bound ever kept it from a schedule.
    pub(super) left_out: bool,
}

#[derive(Debug)]
struct Level {
    fingerprint: u64,
    options: Vec<(u32, u32)>,
    at: usize,
}

impl DepthFirst {
    pub(super) fn new(preemptions: Option<u32>) -> Self {
        DepthFirst {
            preemptions,
            ..DepthFirst::default()
        }
    }

    /// Goes on to the next schedule; whether there is one.
    pub(super) fn advance(&mut self) -> bool {
        self.used = 0;
        while let Some(level) = self.nodes.last_mut() {
            level.at += 1;
            if level.at < level.options.len() {
                return true;
            }
            self.nodes.pop();
        }
        false
    }
}

impl Strategy for DepthFirst {
    fn pick(&mut self, record: &Record, enabled: &[u32], current: u32) -> Pick {
        let depth = record.events.len();
        let fingerprint = record.fingerprint();
        // To leave a task that could go on and did not offer to is a preemption.
        let stays = enabled.contains(&current) && !record.task(current).yielding;
        if self.nodes.len() == depth {
            let mut options = options(record, enabled);
            // The running task first: the first execution has few switches.
            options.sort_by_key(|&(task, _)| task != current || !stays);
            if stays && self.preemptions.is_some_and(|bound| self.used >= bound) {
                let all = options.len();
                options.retain(|&(task, _)| task == current);
                self.left_out |= options.len() < all;
            }
            self.nodes.push(Level {
                fingerprint,
                options,
                at: 0,
            });
        }
        let level = &self.nodes[depth];
        if level.fingerprint != fingerprint {
            return Pick::Diverged(format!(
                "after the same {depth} steps something else could come next"
            ));
        }
        let (task, choice) = level.options[level.at];
        if stays && task != current {
            self.used += 1;
        }
        Pick::Run(task, choice)
    }
}

/// Follows a written schedule to the letter.
pub(super) struct Follow {
    wanted: Schedule,
    at: (usize, u32),
    draws: usize,
}

impl Follow {
    pub(super) fn new(wanted: Schedule) -> Self {
        Follow {
            wanted,
            at: (0, 0),
            draws: 0,
        }
    }

    fn next_wanted(&mut self) -> Option<String> {
        let &(place, count) = self.wanted.steps.get(self.at.0)?;
        self.at.1 += 1;
        if self.at.1 >= count {
            self.at = (self.at.0 + 1, 0);
        }
        Some(self.wanted.path(place))
    }
}

impl Strategy for Follow {
    fn pick(&mut self, record: &Record, enabled: &[u32], _current: u32) -> Pick {
        let steps = record.events.len();
        let Some(path) = self.next_wanted() else {
            return Pick::Diverged(format!(
                "the log's {steps} steps were not all: the code has changed since"
            ));
        };
        let found = enabled
            .iter()
            .find(|&&task| record.names.path(task) == path);
        let Some(&task) = found else {
            return Pick::Diverged(format!(
                "the log wants task {path}, which cannot go on after {steps} steps: the code has \
                 changed since"
            ));
        };
        let choices = record.choices(task);
        if choices.is_empty() {
            return Pick::Run(task, NO_CHOICE);
        }
        let draw = self.wanted.draws.get(self.draws).copied();
        self.draws += 1;
        let draw = draw.and_then(|draw| u32::try_from(draw).ok());
        let chosen = match record.task(task).pending.kind {
            // Waiters are written down by their place among the log's tasks.
            Kind::NotifyOne => {
                let waiter = draw.map(|place| self.wanted.path(place));
                let is_it = |id: &&u32| Some(record.names.path(**id)) == waiter;
                choices.iter().find(is_it)
            }
            _ => choices.iter().find(|&&way| Some(way) == draw),
        };
        match chosen {
            Some(&choice) => Pick::Run(task, choice),
            None => Pick::Diverged(format!(
                "the log makes a choice that is none after {steps} steps: the code has changed since"
            )),
        }
    }
}
