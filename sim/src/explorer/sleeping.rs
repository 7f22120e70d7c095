//! The sleep-set tree: every schedule, but for those that differ from an earlier one only in
//! the order of independent steps.
//!
//! **At a node the steps that do not sleep are taken one after the other; while one is looked
//! into, those before it sleep, until something that depends on them is done.** What would
//! begin with a sleeping step was seen where that step was taken (Godefroid: "Partial-order
//! methods", 1996). So of all schedules that are equivalent just one gets to its end; the rest
//! of the tree are ways on which everybody who could go on sleeps in the end.
//!
//! The [reduction](super::reduction) needs far fewer of those ways, but where it goes is known
//! only once it went. This tree is fixed from the start: it can be sampled and divided.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::access::{Access, Kind, NO_OBJECT, dependent};
use super::record::{NO_CHOICE, Record};
use super::runtime::{Pick, Strategy};

/// A step that need not be taken, and what it would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asleep {
    pub(super) task: u32,
    pub(super) access: Access,
}

/// Who sleeps at the node where a walk through the tree is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sleep(pub(super) Vec<Asleep>);

impl Sleep {
    /// Wakes those who depend on the step that led to this node.
    pub(super) fn wake(&mut self, record: &Record) {
        let Some(event) = record.events.last() else {
            return;
        };
        self.0.retain(|sleeper| {
            debug_assert!(
                sleeper.task == event.task || !record.task(sleeper.task).finished,
                "a sleeping task goes no further"
            );
            sleeper.task != event.task && !sleeper.access.depends_on(event.access)
        });
    }

    /// The steps to take at this node: a task, and a choice where it makes one.
    pub(super) fn options(&self, record: &Record, enabled: &[u32]) -> Vec<(u32, u32)> {
        let awake = |task: &&u32| !self.0.iter().any(|sleeper| sleeper.task == **task);
        // A step that depends on nothing would be woken by nothing: no way on which it sleeps
        // gets to its end, so it is the only one worth taking.
        let alone = (enabled.iter()).find(|&&id| record.task(id).pending.object == NO_OBJECT);
        let tasks = match alone {
            Some(task) => std::slice::from_ref(task),
            None => enabled,
        };
        let mut options = Vec::with_capacity(tasks.len());
        for &task in tasks.iter().filter(awake) {
            match record.choices(task) {
                [] => options.push((task, NO_CHOICE)),
                choices => options.extend(choices.iter().map(|&choice| (task, choice))),
            }
        }
        options
    }

    /// Puts those before the option taken to sleep.
    pub(super) fn fall_asleep(&mut self, record: &Record, options: &[(u32, u32)], taken: usize) {
        let (me, _) = options[taken];
        for &(task, _) in &options[..taken] {
            // Other choices of the same task end with its step.
            if task != me && !self.0.iter().any(|sleeper| sleeper.task == task) {
                let access = record.next_access(task);
                self.0.push(Asleep { task, access });
            }
        }
    }
}

/// The whole tree, depth first. It gives up far more executions than the reduction, and is
/// for bodies that the reduction cannot see through: see [`Record::is_open_to_any`].
#[derive(Debug, Default)]
pub(super) struct Tree {
    levels: Vec<Level>,
    resumes: bool,
}

#[derive(Debug)]
struct Level {
    fingerprint: u64,
    sleep: Sleep,
    options: Vec<(u32, u32)>,
    at: usize,
    /// Who sleeps once the step under way is taken.
    after: Sleep,
}

impl Level {
    fn take(&mut self, record: &Record) -> Pick {
        self.after.clone_from(&self.sleep);
        (self.after).fall_asleep(record, &self.options, self.at);
        let (task, choice) = self.options[self.at];
        Pick::Run(task, choice)
    }
}

impl Tree {
    /// Goes on to the next schedule; whether there is one.
    pub(super) fn advance(&mut self) -> bool {
        self.resumes = true;
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

impl Strategy for Tree {
    fn pick(&mut self, record: &Record, enabled: &[u32], _current: u32) -> Pick {
        let depth = record.events.len();
        let fingerprint = record.fingerprint();
        let known = self.levels.len();
        if let Some(level) = self.levels.get_mut(depth) {
            if level.fingerprint != fingerprint {
                return diverged(depth);
            }
            if depth + 1 == known && std::mem::take(&mut self.resumes) {
                return level.take(record);
            }
            let (task, choice) = level.options[level.at];
            return Pick::Run(task, choice);
        }
        let mut sleep = (self.levels.last()).map_or_else(Sleep::default, |up| up.after.clone());
        sleep.wake(record);
        let options = sleep.options(record, enabled);
        if options.is_empty() {
            return Pick::GiveUp;
        }
        let mut level = Level {
            fingerprint,
            after: Sleep::default(),
            sleep,
            options,
            at: 0,
        };
        let pick = level.take(record);
        self.levels.push(level);
        pick
    }
}

fn diverged(steps: usize) -> Pick {
    Pick::Diverged(format!(
        "after the same {steps} steps something else could come next: the body depends on time, \
         chance, addresses or state outside of the platform"
    ))
}

/// The beginning of a schedule: all that go on from it are a subtree.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefix {
    pub(super) steps: Vec<Step>,
    /// Who sleeps at its end, but for those whom the last step wakes.
    pub(super) sleep: Sleep,
    /// Whether it is a whole schedule.
    pub(super) ends: bool,
}

/// A step of a prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) task: u32,
    pub(super) choice: u32,
    /// What could come next before it: a body that does the same thing twice has this again.
    pub(super) fingerprint: u64,
}

impl Prefix {
    /// What to do at a depth within the prefix; `None` past it.
    pub(super) fn follow(&self, record: &Record, enabled: &[u32]) -> Option<Pick> {
        let step = self.steps.get(record.events.len())?;
        let same = step.fingerprint == record.fingerprint() && enabled.contains(&step.task);
        Some(match same {
            true => Pick::Run(step.task, step.choice),
            false => diverged(record.events.len()),
        })
    }

    fn then(&mut self, record: &Record, (task, choice): (u32, u32)) {
        self.steps.push(Step {
            task,
            choice,
            fingerprint: record.fingerprint(),
        });
    }
}

/// Goes to the end of a prefix, on to where there is a choice, and tells the subtrees there.
pub(super) struct Split {
    pub(super) prefix: Prefix,
    pub(super) children: Vec<Prefix>,
}

impl Split {
    pub(super) fn new(prefix: Prefix) -> Self {
        Split {
            prefix,
            children: Vec::new(),
        }
    }
}

impl Strategy for Split {
    fn pick(&mut self, record: &Record, enabled: &[u32], _current: u32) -> Pick {
        if let Some(pick) = self.prefix.follow(record, enabled) {
            return pick;
        }
        self.prefix.sleep.wake(record);
        let options = self.prefix.sleep.options(record, enabled);
        if let [(task, choice)] = options[..] {
            self.prefix.then(record, (task, choice));
            return Pick::Run(task, choice);
        }
        for (place, &option) in options.iter().enumerate() {
            let mut child = self.prefix.clone();
            child.sleep.fall_asleep(record, &options, place);
            child.then(record, option);
            self.children.push(child);
        }
        Pick::GiveUp
    }
}

/// What tasks were seen to do, and until when: by this a probe guesses who may still wake a
/// sleeping step.
#[derive(Debug, Default)]
pub(super) struct Habits {
    /// By object: who accessed it how, and the last event of the task that did.
    of: Vec<Vec<(u32, Kind, u32)>>,
}

impl Habits {
    /// Learns from an execution.
    pub(super) fn learn(&mut self, record: &Record) {
        for event in &record.events {
            let object = event.access.object as usize;
            if event.access.object == NO_OBJECT {
                continue;
            }
            if self.of.len() <= object {
                self.of.resize_with(object + 1, Vec::new);
            }
            let known = (self.of[object].iter_mut())
                .find(|(task, kind, _)| *task == event.task && *kind == event.access.kind);
            match known {
                Some((_, _, last)) => *last = event.seq.max(*last),
                None => self.of[object].push((event.task, event.access.kind, event.seq)),
            }
        }
    }

    /// Whether somebody is known who could wake this step from here on.
    fn may_wake(&self, record: &Record, sleeper: Asleep) -> bool {
        let Some(seen) = self.of.get(sleeper.access.object as usize) else {
            return false;
        };
        seen.iter().any(|&(task, kind, last)| {
            let done = (record.tasks.get(task as usize).and_then(Option::as_ref))
                .map_or(0, |task| task.events);
            task != sleeper.task && last > done && dependent(kind, sleeper.access.kind)
        })
    }
}

/// How often a probe goes where it believes that nobody gets to an end. Never would be wrong:
/// what was not seen so far may be there.
const DOUBT: f64 = 0.1;
/// How much less often each option is drawn than the one before it.
const LATER: f64 = 0.7;

/// One way down the tree drawn at random, and how many it stands for.
pub(super) struct Probe {
    pub(super) rng: ChaCha8Rng,
    pub(super) habits: Habits,
    /// Natural logarithm of the number of ways this one stands for: one over its chance.
    pub(super) log_width: f64,
    prefix: Prefix,
    sleep: Sleep,
}

impl Probe {
    /// A way that begins like this.
    pub(super) fn new(rng: ChaCha8Rng, habits: Habits, prefix: &Prefix) -> Self {
        Probe {
            rng,
            habits,
            log_width: 0.0,
            prefix: prefix.clone(),
            sleep: prefix.sleep.clone(),
        }
    }

    /// How many of the options, which are in order, could lead to an end as far as is known:
    /// each puts more to sleep than the one before.
    fn viable(&self, record: &Record, options: &[(u32, u32)]) -> usize {
        let lost = |task: u32| {
            let access = record.next_access(task);
            !self.habits.may_wake(record, Asleep { task, access })
        };
        let first_lost = options.iter().position(|&(task, _)| lost(task));
        match first_lost {
            Some(place) => {
                let (task, _) = options[place];
                // It sleeps only where another task goes before it.
                let its_last = options.iter().rposition(|&(other, _)| other == task);
                its_last.map_or(options.len(), |place| place + 1)
            }
            None => options.len(),
        }
    }

    /// Draws an option: the first ones rather than the later, because the more sleep, the
    /// less is left; and hardly ever one that is past the viable.
    fn draw(&mut self, viable: usize, all: usize) -> usize {
        let weight = |place: usize| {
            let doubt = if place < viable { 1.0 } else { DOUBT };
            doubt * LATER.powi(i32::try_from(place).unwrap_or(i32::MAX))
        };
        let sum: f64 = (0..all).map(weight).sum();
        let mut at = (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 * sum;
        let mut taken = 0;
        while taken + 1 < all && at >= weight(taken) {
            at -= weight(taken);
            taken += 1;
        }
        self.log_width -= (weight(taken) / sum).ln();
        taken
    }
}

impl Strategy for Probe {
    fn pick(&mut self, record: &Record, enabled: &[u32], _current: u32) -> Pick {
        if let Some(pick) = self.prefix.follow(record, enabled) {
            return pick;
        }
        self.sleep.wake(record);
        let options = self.sleep.options(record, enabled);
        if options.is_empty() {
            return Pick::GiveUp;
        }
        let viable = self.viable(record, &options);
        let taken = self.draw(viable, options.len());
        self.sleep.fall_asleep(record, &options, taken);
        let (task, choice) = options[taken];
        Pick::Run(task, choice)
    }
}
