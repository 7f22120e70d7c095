//! Shrinking: from a schedule that fails to one that fails in the same way with fewer context
//! switches, until what is left is the cause.
//!
//! **A candidate counts only if it fails with the same signature and is cheaper: fewer
//! preemptions, or as many and fewer switches.** Candidates are followed leniently: a task that
//! cannot go on is passed over, and past the end whoever runs goes on. What really ran is
//! written down, so the result replays to the letter.
//!
//! The moves: leave out runs of steps (ddmin: Zeller, Hildebrandt, 2002), let a task go on with
//! its next run at once, let it go on until it cannot.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Schedule;
use crate::trace::Trace;

/// One lenient run.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// How it failed, if it did.
    pub(crate) signature: Option<String>,
    /// What really ran.
    pub(crate) schedule: Schedule,
    /// The steps, counted from 0, at which a task took over from one that could have gone on
    /// and had not offered to wait.
    pub(crate) preemptions: Vec<u64>,
}

/// What a search for the same failure with few preemptions came to.
pub(crate) enum Fewest {
    /// This schedule fails so.
    Found(Schedule),
    /// None does.
    None,
    /// Time ran out.
    NotAll,
}

/// How large a schedule is.
///
/// ```
/// use selvedge_sim::Size;
///
/// let before = Size { preemptions: 3, switches: 7, steps: 24 };
/// let after = Size { preemptions: 1, switches: 9, steps: 24 };
/// assert!(after < before, "preemptions count first");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Size {
    /// Switches away from a task that could have gone on and had not offered to wait.
    pub preemptions: u64,
    /// Switches of all kinds.
    pub switches: u64,
    /// Steps altogether.
    pub steps: u64,
}

/// What shrinking came to.
///
/// ```
/// use std::time::Duration;
/// use selvedge_sim::explorer::{Explorer, SearchEnd};
/// use selvedge_sim::{Observation, violation};
///
/// let body = || -> Observation { violation!("always", "whatever the order") };
/// let explorer = Explorer::default();
/// let SearchEnd::Violated { schedule, .. } = explorer.run(body).end else { panic!() };
/// let limit = Duration::from_secs(1);
/// let shrunk = explorer.shrink(&schedule, "always", limit, body).expect("it fails");
/// assert_eq!((shrunk.after.preemptions, shrunk.least), (0, true));
/// let (_, mut trace) = explorer.trace(&shrunk.schedule, body);
/// shrunk.mark(&mut trace);
/// assert!(trace.switches.is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shrunk {
    /// The schedule that is left.
    pub schedule: Schedule,
    /// The size at first.
    pub before: Size,
    /// The size now.
    pub after: Size,
    /// Executions it took.
    pub replays: u64,
    /// Whether every schedule with fewer preemptions was tried, and none fails so. Without it
    /// there may be a smaller one.
    pub least: bool,
    /// Whether time ran out before no move was left.
    pub cut: bool,
    /// Every switch that is left, by its first step, and whether the failure vanishes without
    /// it.
    pub switches: Vec<Flip>,
}

/// A switch, tried without.
///
/// ```
/// use selvedge_sim::Flip;
///
/// let needed = Flip { step: 9, critical: Some(true) };
/// assert_ne!(needed, Flip { critical: None, ..needed });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// The first step of the task that takes over, counted from 1.
    pub step: u64,
    /// Whether the failure vanishes where another task goes on instead; `None` where no other
    /// could, or where a preemption is critical and this is none: then who goes next matters
    /// only because of that preemption.
    pub critical: Option<bool>,
}

impl Shrunk {
    /// Writes into the trace of its execution which switches are critical.
    pub fn mark(&self, trace: &mut Trace) {
        trace.mark(&self.switches);
    }
}

impl Attempt {
    fn size(&self) -> Size {
        Size {
            preemptions: self.preemptions.len() as u64,
            switches: self.schedule.switches() as u64,
            steps: self.schedule.len(),
        }
    }

    fn cost(&self) -> (u64, u64) {
        let Size {
            preemptions,
            switches,
            ..
        } = self.size();
        (preemptions, switches)
    }
}

type Blocks = Vec<(u32, u32)>;

/// How much of the time goes to making it smaller; the rest is for trying its switches.
const SHARE_OF_MOVES: f64 = 0.75;

/// As long as it can go on.
const ON_AND_ON: u32 = u32::MAX;

/// The search for a cheaper schedule.
pub(crate) struct Shrinker<'a> {
    run: &'a mut dyn FnMut(&Schedule) -> Attempt,
    signature: &'a str,
    /// The moves end here, so that there is time to try the switches that are left.
    moves_until: Option<Instant>,
    deadline: Option<Instant>,
    replays: u64,
    first: Size,
    best: Attempt,
}

impl<'a> Shrinker<'a> {
    /// `None` where the schedule does not fail with this signature.
    pub(crate) fn new(
        run: &'a mut dyn FnMut(&Schedule) -> Attempt,
        schedule: &Schedule,
        signature: &'a str,
        limit: Duration,
    ) -> Option<Self> {
        let started = Instant::now();
        let best = run(schedule);
        (best.signature.as_deref() == Some(signature)).then(|| Shrinker {
            run,
            signature,
            // A limit past what a clock can tell is none.
            moves_until: started.checked_add(limit.mul_f64(SHARE_OF_MOVES)),
            deadline: started.checked_add(limit),
            replays: 1,
            first: best.size(),
            best,
        })
    }

    /// Makes it as cheap as the moves can.
    fn shrink(&mut self) {
        loop {
            let before = self.best.cost();
            self.leave_out();
            self.go_on_at_once();
            self.go_on_and_on();
            if self.best.cost() >= before || self.is_late() {
                return;
            }
        }
    }

    /// The same, and then every schedule with fewer preemptions, by `search`, until it is known
    /// that none fails so. Whether it is.
    /// `search` is told how many preemptions there may be, and until when to look.
    pub(crate) fn shrink_to_least(
        &mut self,
        mut search: impl FnMut(u64, Option<Instant>) -> Fewest,
    ) -> bool {
        loop {
            self.shrink();
            let Some(fewer) = self.best.size().preemptions.checked_sub(1) else {
                return true;
            };
            match search(fewer, self.moves_until) {
                Fewest::None => return true,
                Fewest::NotAll => return false,
                Fewest::Found(schedule) => self.offer(&schedule),
            }
            if self.best.size().preemptions > fewer {
                // It does not fail so when followed leniently.
                return false;
            }
        }
    }

    /// Takes this schedule, found by other means, if it is cheaper.
    fn offer(&mut self, schedule: &Schedule) {
        let blocks = schedule.steps.clone();
        let tasks = schedule.tasks.clone();
        self.attempt_with(blocks, tasks, schedule.draws.clone());
    }

    pub(crate) fn result(mut self, least: bool) -> Shrunk {
        let switches = self.flips();
        Shrunk {
            before: self.first,
            after: self.best.size(),
            replays: self.replays,
            least,
            cut: self.is_late(),
            switches,
            schedule: self.best.schedule,
        }
    }

    fn is_late(&self) -> bool {
        is_past(self.moves_until)
    }

    fn blocks(&self) -> Blocks {
        self.best.schedule.steps.clone()
    }

    fn candidate(&self, blocks: Blocks) -> Schedule {
        Schedule {
            steps: blocks,
            ..self.best.schedule.clone()
        }
    }

    /// Whether this is a cheaper schedule that fails in the same way; if so, it is the best.
    fn attempt(&mut self, blocks: Blocks) -> bool {
        let (tasks, draws) = (
            self.best.schedule.tasks.clone(),
            self.best.schedule.draws.clone(),
        );
        self.attempt_with(blocks, tasks, draws)
    }

    fn attempt_with(
        &mut self,
        blocks: Blocks,
        tasks: Vec<crate::TaskName>,
        draws: Vec<u64>,
    ) -> bool {
        let candidate = Schedule {
            tasks,
            draws,
            ..self.candidate(blocks)
        };
        self.replays += 1;
        let attempt = (self.run)(&candidate);
        let better = attempt.signature.as_deref() == Some(self.signature)
            && attempt.cost() < self.best.cost();
        if better {
            self.best = attempt;
        }
        better
    }

    /// ddmin: leaves out halves, quarters, ... single runs.
    fn leave_out(&mut self) {
        let mut size = self.blocks().len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            let mut any = false;
            while at < self.blocks().len() {
                if self.is_late() {
                    return;
                }
                let mut blocks = self.blocks();
                blocks.drain(at..(at + size).min(blocks.len()));
                match self.attempt(blocks) {
                    true => any = true,
                    false => at += size,
                }
            }
            if size == 1 && !any {
                return;
            }
            size = match any {
                true => size.min(self.blocks().len().div_ceil(2)).max(1),
                false => size / 2,
            };
        }
    }

    /// A task goes on with its next run of steps at once: one switch there and back is saved.
    fn go_on_at_once(&mut self) {
        let mut at = 0;
        while at < self.blocks().len() {
            if self.is_late() {
                return;
            }
            let mut blocks = self.blocks();
            let task = blocks[at].0;
            let next = (blocks.iter().enumerate().skip(at + 1)).find(|(_, block)| block.0 == task);
            let Some((next, _)) = next else {
                at += 1;
                continue;
            };
            let block = blocks.remove(next);
            blocks.insert(at + 1, block);
            if !self.attempt(blocks) {
                at += 1;
            }
        }
    }

    /// A task goes on until it cannot: the others make do with what is left of their runs.
    fn go_on_and_on(&mut self) {
        let mut at = 0;
        while at < self.blocks().len() {
            if self.is_late() {
                return;
            }
            let mut blocks = self.blocks();
            blocks[at].1 = ON_AND_ON;
            if !self.attempt(blocks) {
                at += 1;
            }
        }
    }

    /// For each switch: does the failure vanish if another task goes on instead? Preemptions
    /// come first, and the others are asked only where no preemption is the cause.
    fn flips(&mut self) -> Vec<Flip> {
        let blocks = self.blocks();
        let mut flips = Vec::new();
        let mut steps = 0;
        for block in &blocks[..blocks.len().saturating_sub(1)] {
            steps += u64::from(block.1);
            flips.push(Flip {
                step: steps + 1,
                critical: None,
            });
        }
        let preemptions = self.best.preemptions.clone();
        for of_preemptions in [true, false] {
            for (flip, at) in flips.iter_mut().zip(1..) {
                let steps = flip.step - 1;
                if preemptions.contains(&steps) == of_preemptions && !is_past(self.deadline) {
                    flip.critical = self.is_critical(&blocks, at, steps);
                }
            }
            if flips.iter().any(|flip| flip.critical == Some(true)) {
                break;
            }
        }
        flips
    }

    fn is_critical(&mut self, blocks: &Blocks, at: usize, steps: u64) -> Option<bool> {
        let mut others: Vec<u32> = vec![blocks[at - 1].0];
        others.extend(blocks.iter().map(|block| block.0));
        let mut tried = Vec::new();
        let mut critical = None;
        for other in others {
            if other == blocks[at].0 || tried.contains(&other) {
                continue;
            }
            tried.push(other);
            let mut instead = blocks.clone();
            instead.insert(at, (other, ON_AND_ON));
            let candidate = self.candidate(instead);
            self.replays += 1;
            let attempt = (self.run)(&candidate);
            // Where the other could not go on, it was passed over, and nothing was tried.
            let differs = task_at(&attempt.schedule, steps)
                .is_some_and(|task| task != self.best.schedule.path(blocks[at].0));
            if differs {
                if attempt.signature.as_deref() == Some(self.signature) {
                    return Some(false);
                }
                critical = Some(true);
            }
        }
        critical
    }
}

/// Whether it is this late; there may be no end.
pub(crate) fn is_past(until: Option<Instant>) -> bool {
    until.is_some_and(|until| Instant::now() >= until)
}

/// The creation path of the task that makes the step at this place, counted from 0.
fn task_at(schedule: &Schedule, step: u64) -> Option<String> {
    let mut left = step;
    for &(task, count) in &schedule.steps {
        if left < u64::from(count) {
            return Some(schedule.path(task));
        }
        left -= u64::from(count);
    }
    None
}
