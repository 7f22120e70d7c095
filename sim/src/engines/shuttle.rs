//! `shuttle`: schedules drawn at random, by three strategies, every decision written down.
//!
//! Shuttle's own schedule strings break across its versions, and its persistence is fixed by
//! the first test of a process. So the scheduler here is wrapped twice over: [`Recorder`]
//! writes down what any scheduler chose, [`Replayer`] follows what was written.

mod few;
mod guide;

use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ::shuttle::scheduler::{
    PctScheduler, RandomScheduler, Schedule as ShuttleSchedule, Scheduler, Task as ShuttleTask,
    TaskId, UrwRandomScheduler,
};
use ::shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use self::few::{Few, FewPreemptions};
use self::guide::Guide;
use super::Strategy;
use crate::body::Choices;
use crate::host::Host;
use crate::platforms::shuttle_task;
use crate::shrink::{Attempt, Fewest, Shrinker, Shrunk, is_past};
use crate::unit::{End, Task, UnitSpec};
use crate::{BodyFn, Cx, DecisionLog, Observation, Schedule, TaskName, lock, panics, trace};

/// Shuttle's default of 60 KiB is short for a body that formats messages.
const STACK_BYTES: usize = 512 << 10;
/// Past this many steps an execution is taken to spin.
const MAX_STEPS: usize = 100_000;
/// PCT places this many priority changes: nearly all known bugs need fewer.
const PCT_DEPTH: usize = 3;

pub(crate) fn execute(host: &Arc<Host>, spec: &UnitSpec, strategy: Strategy, body: BodyFn) -> End {
    let log = Arc::new(Mutex::new(Log::default()));
    let told = Arc::clone(&log);
    host.tell_log_by(move || Some(DecisionLog::Schedule(lock(&told).schedule.clone())));
    match &spec.task {
        Task::Search { seed, executions } => {
            let mut drawn = Vec::new();
            for (scheduler, name, executions) in schedulers(strategy, *seed, *executions) {
                if name == Strategy::Pct && !lock(&log).saw_choice {
                    // PCT refuses a body in which there is never a choice.
                    drawn.push("no PCT: the body never has a choice".to_owned());
                    continue;
                }
                let recorder = Recorder::new(scheduler, Arc::clone(&log));
                run(recorder, searching(host, body, *seed, &log));
                drawn.push(format!("{executions} {}", name.word()));
            }
            End::Complete {
                drawn: format!("{}; SC", drawn.join(" + ")),
            }
        }
        Task::Replay {
            log: DecisionLog::Schedule(schedule),
        } => {
            let outcome = Arc::new(Mutex::new(None));
            let replayer = Replayer::new(schedule.clone(), Arc::clone(&outcome));
            let recorder = Recorder::new(Box::new(replayer), Arc::clone(&log));
            let one = one(body, schedule, &log, true);
            let inner = Arc::clone(host);
            run(recorder, move || {
                inner.begin();
                one();
            });
            let diverged = lock(&outcome).take();
            match diverged {
                Some(why) => End::NotReproduced { stale: true, why },
                None => End::NotReproduced {
                    stale: false,
                    why: "the schedule was followed to its end, and all was well".to_owned(),
                },
            }
        }
        Task::Follow {
            log: DecisionLog::Schedule(wanted),
        } => {
            let guide = Guide::new(wanted.clone(), Arc::default());
            let recorder = Recorder::new(Box::new(guide), Arc::clone(&log));
            let one = one(body, wanted, &log, true);
            let inner = Arc::clone(host);
            run(recorder, move || {
                inner.begin();
                one();
            });
            End::Followed {
                kept: wanted.kept_by(&lock(&log).schedule),
                of: wanted.len(),
            }
        }
        Task::Shrink {
            log: DecisionLog::Schedule(wanted),
            signature,
            smaller,
        } => match shrink(host, body, wanted, signature, *smaller, &log) {
            Some(shrunk) => match traced(body, &shrunk.schedule, signature, &log) {
                Some(trace) => End::Shrunk { shrunk, trace },
                None => End::Failed {
                    what: "what shrinking left does not fail again".to_owned(),
                },
            },
            None => End::no_longer_fails(),
        },
        Task::Replay { .. }
        | Task::Campaign(_)
        | Task::Shrink { .. }
        | Task::Follow { .. }
        | Task::Capture { .. }
        | Task::Estimate { .. } => End::Failed {
            what: "shuttle follows a schedule, nothing else".to_owned(),
        },
    }
}

/// Makes the schedule smaller, if that is wanted, and tries its switches. Each attempt is a run of shuttle's of its own, whose panic is
/// caught.
fn shrink(
    host: &Arc<Host>,
    body: BodyFn,
    wanted: &Schedule,
    signature: &str,
    smaller: bool,
    log: &Arc<Mutex<Log>>,
) -> Option<Shrunk> {
    let limit = host.time_for_work();
    let mut attempt = |wanted: &Schedule| {
        host.tick();
        let preemptions = Arc::new(Mutex::new(Vec::new()));
        let guide = Guide::new(wanted.clone(), Arc::clone(&preemptions));
        let recorder = Recorder::new(Box::new(guide), Arc::clone(log));
        let signature = run_caught(recorder, one(body, wanted, log, false));
        let preemptions = lock(&preemptions).clone();
        Attempt {
            signature,
            schedule: lock(log).schedule.clone(),
            preemptions,
        }
    };
    panics::quietly(|| {
        let mut shrinker = Shrinker::new(&mut attempt, wanted, signature, limit)?;
        let search = |fewer, until| fewest(host, body, wanted, signature, fewer, until, log);
        let least = smaller && shrinker.shrink_to_least(search);
        Some(shrinker.result(least))
    })
}

/// Looks for a failure of this signature among all schedules with at most `bound` preemptions.
fn fewest(
    host: &Arc<Host>,
    body: BodyFn,
    wanted: &Schedule,
    signature: &str,
    bound: u64,
    until: Option<Instant>,
    log: &Arc<Mutex<Log>>,
) -> Fewest {
    let state = Arc::new(Mutex::new(Few::new(bound)));
    loop {
        if is_past(until) {
            return Fewest::NotAll;
        }
        host.tick();
        let few = FewPreemptions::new(Arc::clone(&state), wanted.draws.clone());
        let recorder = Recorder::new(Box::new(few), Arc::clone(log));
        if run_caught(recorder, one(body, wanted, log, false)).as_deref() == Some(signature) {
            return Fewest::Found(lock(log).schedule.clone());
        }
        let mut state = lock(&state);
        if state.broken {
            return Fewest::NotAll;
        }
        if !state.advance() {
            return match state.passed_over {
                true => Fewest::NotAll,
                false => Fewest::None,
            };
        }
    }
}

/// The hash of this schedule's trace; `None` where it does not fail with this signature.
fn traced(
    body: BodyFn,
    schedule: &Schedule,
    signature: &str,
    log: &Arc<Mutex<Log>>,
) -> Option<u64> {
    let replayer = Replayer::new(schedule.clone(), Arc::default());
    let recorder = Recorder::new(Box::new(replayer), Arc::clone(log));
    let failed = panics::quietly(|| run_caught(recorder, one(body, schedule, log, true)));
    let trace = trace::take()?;
    (failed.as_deref() == Some(signature)).then(|| trace.hash())
}

/// A search's executions, one after the other.
fn searching(
    host: &Arc<Host>,
    body: BodyFn,
    seed: u64,
    log: &Arc<Mutex<Log>>,
) -> impl Fn() + Send + Sync + 'static {
    let (host, log) = (Arc::clone(host), Arc::clone(log));
    move || {
        let execution = host.begin();
        host.observe(&execute_one(body, seed, execution, &log));
    }
}

/// The one execution of a schedule.
fn one(
    body: BodyFn,
    schedule: &Schedule,
    log: &Arc<Mutex<Log>>,
    traced: bool,
) -> impl Fn() + Send + Sync + 'static {
    let (seed, execution, log) = (schedule.seed, schedule.execution, Arc::clone(log));
    move || {
        if traced {
            // One step brought us here.
            trace::start(shuttle_task(), 1);
        }
        execute_one(body, seed, execution, &log);
        trace::finished(shuttle_task);
    }
}

fn execute_one(body: BodyFn, seed: u64, execution: u64, log: &Mutex<Log>) -> Observation {
    {
        let mut log = lock(log);
        (log.schedule.seed, log.schedule.execution) = (seed, execution);
    }
    body(&Cx::new(seed, execution, 1).choosing(Choices::Shuttle))
}

/// Runs it, and catches its panic: how it failed, if it did.
fn run_caught(scheduler: Recorder, body: impl Fn() + Send + Sync + 'static) -> Option<String> {
    panics::forget();
    // What panicked is given up whole: nothing of it is looked at again.
    let result = panic::catch_unwind(AssertUnwindSafe(|| run(scheduler, body)));
    match (result, panics::first()) {
        (Err(_), Some(Ok(failure))) => Some(failure.signature),
        _ => None,
    }
}

fn run(scheduler: Recorder, body: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(MAX_STEPS);
    config.max_time = None;
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(body);
}

type AnyScheduler = Box<dyn Scheduler + Send>;

fn schedulers(
    strategy: Strategy,
    seed: u64,
    executions: u64,
) -> Vec<(AnyScheduler, Strategy, usize)> {
    let executions = usize::try_from(executions).unwrap_or(usize::MAX);
    // One stream of the root seed for schedules; the workload has others.
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::MAX);
    let mut make = |strategy, n: usize| {
        let seed = rng.next_u64();
        let scheduler: AnyScheduler = match strategy {
            Strategy::Pct => Box::new(PctScheduler::new_from_seed(seed, PCT_DEPTH, n)),
            Strategy::Urw => Box::new(UrwRandomScheduler::new_from_seed(seed, n)),
            _ => Box::new(RandomScheduler::new_from_seed(seed, n)),
        };
        (scheduler, strategy, n)
    };
    match strategy {
        Strategy::Portfolio => {
            let third = executions / 3;
            vec![
                make(Strategy::Random, executions - 2 * third),
                make(Strategy::Pct, third),
                make(Strategy::Urw, third),
            ]
        }
        // Whether there is a choice at all is seen by a few random executions first.
        Strategy::Pct => vec![
            make(Strategy::Random, 3.min(executions)),
            make(Strategy::Pct, executions.saturating_sub(3)),
        ],
        one => vec![make(one, executions)],
    }
}

/// The running execution's log, and what is needed to name its tasks.
#[derive(Default)]
struct Log {
    schedule: Schedule,
    places: HashMap<TaskId, u32>,
    children: HashMap<u32, u32>,
    /// Whether any execution so far had more than one runnable task.
    saw_choice: bool,
}

impl Log {
    fn restart(&mut self) {
        self.schedule = Schedule::default();
        self.places.clear();
        self.children.clear();
    }

    /// The creation paths of these tasks.
    fn paths(&mut self, tasks: &[&ShuttleTask]) -> Vec<String> {
        let path = |task: &&ShuttleTask| {
            let place = self.place(task);
            self.schedule.path(place)
        };
        tasks.iter().map(path).collect()
    }

    /// The task's place in the log, which names it by its creation path.
    fn place(&mut self, task: &ShuttleTask) -> u32 {
        if let Some(&place) = self.places.get(&task.id()) {
            return place;
        }
        // A parent ran, and so was named, before it could create a child.
        let parent = (task.parent_task_id()).and_then(|id| self.places.get(&id).copied());
        let name = match parent {
            None => TaskName {
                parent: 0,
                child: 0,
            },
            Some(parent) => {
                let next = self.children.entry(parent).or_default();
                let child = *next;
                *next += 1;
                TaskName { parent, child }
            }
        };
        let place = u32::try_from(self.schedule.tasks.len()).unwrap_or(u32::MAX);
        self.schedule.tasks.push(name);
        self.places.insert(task.id(), place);
        place
    }
}

/// Writes down what the scheduler inside chooses.
struct Recorder {
    inner: AnyScheduler,
    log: Arc<Mutex<Log>>,
}

impl Recorder {
    fn new(inner: AnyScheduler, log: Arc<Mutex<Log>>) -> Self {
        Recorder { inner, log }
    }
}

impl Scheduler for Recorder {
    fn new_execution(&mut self) -> Option<ShuttleSchedule> {
        let next = self.inner.new_execution()?;
        // The log of the last execution stays.
        lock(&self.log).restart();
        Some(next)
    }

    fn next_task(
        &mut self,
        runnable: &[&ShuttleTask],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        // Tasks are named in the order of their numbers, which is that of their creation.
        {
            let mut log = lock(&self.log);
            for task in runnable {
                log.place(task);
            }
            log.saw_choice |= runnable.len() > 1;
        }
        let chosen = self.inner.next_task(runnable, current, is_yielding)?;
        trace::step();
        if let Some(current) = current.filter(|&current| current != chosen) {
            let could_go_on = runnable.iter().any(|task| task.id() == current);
            trace::switched(could_go_on && !is_yielding);
        }
        let mut log = lock(&self.log);
        if let Some(&place) = log.places.get(&chosen) {
            log.schedule.push_step(place);
        }
        Some(chosen)
    }

    fn next_u64(&mut self) -> u64 {
        let value = self.inner.next_u64();
        lock(&self.log).schedule.draws.push(value);
        value
    }
}

/// Follows a written schedule once, to the letter. Where it cannot, it says so and stops.
struct Replayer {
    wanted: Schedule,
    /// Where in `wanted` we are: the run of steps, and how many of it are done.
    at: (usize, u32),
    draws: usize,
    begun: bool,
    names: Log,
    diverged: Arc<Mutex<Option<String>>>,
}

impl Replayer {
    fn new(wanted: Schedule, diverged: Arc<Mutex<Option<String>>>) -> Self {
        Replayer {
            wanted,
            at: (0, 0),
            draws: 0,
            begun: false,
            names: Log::default(),
            diverged,
        }
    }

    fn diverge(&self, why: String) {
        lock(&self.diverged).get_or_insert(why);
    }

    /// The creation path of the next task of the log; `None` at its end.
    fn next_wanted(&mut self) -> Option<String> {
        let &(place, count) = self.wanted.steps.get(self.at.0)?;
        self.at.1 += 1;
        if self.at.1 == count {
            self.at = (self.at.0 + 1, 0);
        }
        Some(self.wanted.path(place))
    }
}

impl Scheduler for Replayer {
    fn new_execution(&mut self) -> Option<ShuttleSchedule> {
        (!std::mem::replace(&mut self.begun, true)).then(|| ShuttleSchedule::new(0))
    }

    fn next_task(
        &mut self,
        runnable: &[&ShuttleTask],
        _current: Option<TaskId>,
        _is_yielding: bool,
    ) -> Option<TaskId> {
        let paths = self.names.paths(runnable);
        let step = self.wanted.len();
        let Some(wanted) = self.next_wanted() else {
            self.diverge(format!(
                "the log's {step} steps were not all: the code has changed since"
            ));
            return None;
        };
        match paths.iter().position(|path| *path == wanted) {
            Some(index) => Some(runnable[index].id()),
            None => {
                self.diverge(format!(
                    "the log wants task {wanted} where only {} can run: the code has changed since",
                    paths.join(", ")
                ));
                None
            }
        }
    }

    fn next_u64(&mut self) -> u64 {
        let draw = self.wanted.draws.get(self.draws).copied();
        self.draws += 1;
        draw.unwrap_or_else(|| {
            self.diverge("the body draws more random values than the log holds".to_owned());
            0
        })
    }
}
