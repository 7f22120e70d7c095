//! Follows a schedule as far as it fits: what a shrinker tries need not be possible to the
//! letter.

use super::access::Kind;
use super::record::{NO_CHOICE, Record};
use super::runtime::{Pick, Strategy};
use crate::Schedule;

/// A wanted task that cannot go on is passed over; past the end whoever runs goes on, and when
/// it cannot, the next one in order does.
pub(super) struct Guide {
    wanted: Schedule,
    /// Each task of the schedule by its number here, once it is known.
    tasks: Vec<Option<u32>>,
    at: usize,
    done: u32,
    draws: usize,
    /// The steps, counted from 0, at which a preemption took place.
    pub(super) preemptions: Vec<u64>,
}

impl Guide {
    pub(super) fn new(wanted: Schedule) -> Self {
        Guide {
            tasks: vec![None; wanted.tasks.len()],
            wanted,
            at: 0,
            done: 0,
            draws: 0,
            preemptions: Vec::new(),
        }
    }

    fn number(&mut self, record: &Record, place: u32) -> Option<u32> {
        let known = self.tasks.get(place as usize).copied()?;
        if known.is_some() || place == 0 {
            return known.or(Some(0));
        }
        let name = *self.wanted.tasks.get(place as usize)?;
        let parent = self.number(record, name.parent)?;
        let number = record.names.known_child(parent, name.child);
        self.tasks[place as usize] = number;
        number
    }

    fn next(&mut self, record: &Record, enabled: &[u32], current: u32) -> u32 {
        while let Some(&(place, count)) = self.wanted.steps.get(self.at) {
            let number = self.number(record, place);
            if let Some(task) = number.filter(|task| enabled.contains(task))
                && self.done < count
            {
                self.done += 1;
                return task;
            }
            self.at += 1;
            self.done = 0;
        }
        let stays = enabled.contains(&current) && !record.task(current).yielding;
        let later = enabled.iter().find(|&&task| task > current);
        match (stays, later) {
            (true, _) => current,
            (false, Some(&task)) => task,
            (false, None) => enabled[0],
        }
    }

    fn choice(&mut self, record: &Record, task: u32) -> u32 {
        let choices = record.choices(task);
        if choices.is_empty() {
            return NO_CHOICE;
        }
        let draw = self.wanted.draws.get(self.draws).copied();
        self.draws += 1;
        let wanted = draw.and_then(|draw| u32::try_from(draw).ok());
        let wanted = match record.task(task).pending.kind {
            Kind::NotifyOne => wanted.and_then(|place| self.number(record, place)),
            _ => wanted,
        };
        match wanted.filter(|choice| choices.contains(choice)) {
            Some(choice) => choice,
            None => choices[0],
        }
    }
}

impl Strategy for Guide {
    fn pick(&mut self, record: &Record, enabled: &[u32], current: u32) -> Pick {
        let task = self.next(record, enabled, current);
        if task != current && enabled.contains(&current) && !record.task(current).yielding {
            self.preemptions.push(record.events.len() as u64);
        }
        let choice = self.choice(record, task);
        Pick::Run(task, choice)
    }
}
