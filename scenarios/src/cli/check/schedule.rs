//! Which unit runs when, for how long, on how many threads and with how much memory.
//!
//! Most units take seconds and run several at a time; each may take its part of the time that is
//! left. One that needed more is run again at the end, with what the quick ones left over, so that
//! on a busy machine a unit is cut short only when the whole budget is used up.
//!
//! Those that *need* minutes, the searches of the largest models, come after them, **one at a time
//! and each with the whole machine**; their time is kept for them from the beginning, so that what
//! draws executions until its time is up cannot take it. What they leave over goes to those that
//! were cut short before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_sim::{Engine, Variant};

use super::interrupted;
use crate::Scenario;
use crate::report::UnitReport;

/// A unit that was cut short is run again at most so often, each time with a larger share.
const MOST_TRIES: u32 = 3;
/// No unit gets less: starting a child takes some of it.
const LEAST_LIMIT: Duration = Duration::from_millis(500);

/// One unit that is to run.
#[derive(Clone, Copy)]
pub(in crate::cli) struct Planned {
    /// Its place in the report.
    pub(in crate::cli) place: usize,
    pub(in crate::cli) scenario: &'static Scenario,
    pub(in crate::cli) variant: Variant,
    pub(in crate::cli) engine: Engine,
    /// The least budget that has room for it beside nothing else; zero where any has.
    pub(in crate::cli) needs: Duration,
    /// How often it was run and cut short before.
    pub(in crate::cli) tries: u32,
}

impl Planned {
    fn is_long(&self) -> bool {
        !self.needs.is_zero()
    }

    /// The time that is kept for it: the rest of what it needs is for the units beside it.
    fn kept(&self) -> Duration {
        self.needs / 10 * 9
    }
}

/// What one unit may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Share {
    pub(in crate::cli) limit: Duration,
    pub(in crate::cli) threads: usize,
    pub(in crate::cli) most_bytes: u64,
}

/// What all of them may use.
#[derive(Clone, Copy)]
pub(in crate::cli) struct Machine {
    pub(in crate::cli) budget: Duration,
    pub(in crate::cli) started: Instant,
    /// Units at a time.
    pub(in crate::cli) jobs: usize,
    /// Threads at a time: no more than units or processors.
    pub(in crate::cli) threads: usize,
    /// Memory for searches.
    pub(in crate::cli) bytes: u64,
}

/// Runs a unit with its share.
type Run<'a> = dyn Fn(Planned, Share) -> UnitReport + Sync + 'a;

/// Is told of each unit that is not run again, or never was.
type Tell<'a> = dyn Fn(Option<&UnitReport>) + Sync + 'a;

/// The time that is not kept for long units.
pub(in crate::cli) fn time_for_the_rest(planned: &[Planned], budget: Duration) -> Duration {
    let kept: Duration = planned.iter().map(Planned::kept).sum();
    budget.saturating_sub(kept)
}

/// Runs all units; returns their reports by their places. Of one that there was no time for there
/// is none.
pub(in crate::cli) fn run_all(
    planned: &[Planned],
    machine: &Machine,
    run: &Run<'_>,
    tell: &Tell<'_>,
) -> BTreeMap<usize, UnitReport> {
    let (mut long, mut short): (Vec<Planned>, Vec<Planned>) =
        planned.iter().partition(|unit| unit.is_long());
    // What takes long comes last, and the longest takes what the others leave.
    long.sort_by_key(|unit| unit.needs);
    short.sort_by_key(|unit| match unit.engine {
        Engine::Native => 0,
        Engine::Explorer { .. } => 1,
        Engine::Stateright => 2,
        Engine::World => 2,
        Engine::Shuttle { .. } => 3,
        Engine::Loom { .. } => 4,
    });
    let all = Together {
        machine,
        run,
        tell,
        done: Mutex::default(),
        cut: Mutex::default(),
    };
    let first = time_for_the_rest(&long, machine.budget);
    all.run(short, first, long.is_empty());
    for (at, unit) in long.iter().enumerate() {
        let later: Duration = long[at + 1..].iter().map(Planned::kept).sum();
        let limit =
            (machine.budget.saturating_sub(later)).saturating_sub(machine.started.elapsed());
        if interrupted() || limit.is_zero() {
            tell(None);
            continue;
        }
        let share = Share {
            limit: limit.max(LEAST_LIMIT),
            threads: machine.threads,
            most_bytes: machine.bytes,
        };
        let report = run(*unit, share);
        tell(Some(&report));
        lock(&all.done).insert(unit.place, report);
    }
    let cut = std::mem::take(&mut *lock(&all.cut));
    all.run(cut, machine.budget, true);
    let mut done = lock(&all.done);
    std::mem::take(&mut *done)
}

/// Units of which several run at a time.
struct Together<'a> {
    machine: &'a Machine,
    run: &'a Run<'a>,
    tell: &'a Tell<'a>,
    done: Mutex<BTreeMap<usize, UnitReport>>,
    /// To be run again when there is time left.
    cut: Mutex<Vec<Planned>>,
}

impl Together<'_> {
    /// Runs them within the first part of the budget. Where that is not the `last` of it, those
    /// that were cut short are left for later.
    fn run(&self, units: Vec<Planned>, part: Duration, last: bool) {
        let workers = self.machine.jobs.min(units.len());
        let queue = Mutex::new(VecDeque::from(units));
        // ORDERING: Relaxed wherever it is used. It only shares out threads.
        let running = AtomicUsize::new(0);
        let work = || {
            while let Some((unit, left)) = next(&queue) {
                let left_over = part.saturating_sub(self.machine.started.elapsed());
                if interrupted() || left_over.is_zero() {
                    self.later(unit, last, None);
                    continue;
                }
                // Those that run already have their threads.
                let busy = running.fetch_add(1, Ordering::Relaxed);
                let report = (self.run)(unit, self.share(left_over, left, busy));
                running.fetch_sub(1, Ordering::Relaxed);
                let time_left = self.machine.started.elapsed() < part && !interrupted();
                let again = report.was_cut() && time_left && unit.tries < MOST_TRIES;
                if again {
                    let tries = unit.tries + 1;
                    lock(&queue).push_back(Planned { tries, ..unit });
                } else {
                    self.later(unit, last || !report.was_cut(), Some(&report));
                }
                // The last try of a unit is the one that counts.
                lock(&self.done).insert(unit.place, report);
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                if let Err(panic) = worker.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        });
    }

    /// The part of one unit of so many that are left, beside so many that run.
    fn share(&self, left_over: Duration, left: usize, busy: usize) -> Share {
        let Machine {
            jobs,
            threads,
            bytes,
            ..
        } = *self.machine;
        let part = left_over.mul_f64((jobs as f64 / left as f64).min(1.0));
        Share {
            limit: part.max(LEAST_LIMIT),
            threads: (threads / (left + busy)).max(1),
            most_bytes: bytes / jobs.max(1) as u64,
        }
    }

    fn later(&self, unit: Planned, last: bool, report: Option<&UnitReport>) {
        match last {
            true => (self.tell)(report),
            false => lock(&self.cut).push(Planned { tries: 0, ..unit }),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next unit, and how many are left with it.
fn next(queue: &Mutex<VecDeque<Planned>>) -> Option<(Planned, usize)> {
    let mut queue = lock(queue);
    let left = queue.len();
    queue.pop_front().map(|unit| (unit, left))
}

#[cfg(test)]
mod tests {
    use selvedge_sim::Verdict;

    use super::*;
    use crate::registry;

    const HOUR: Duration = Duration::from_secs(3_600);
    const MINUTE: Duration = Duration::from_secs(60);

    fn machine(jobs: usize) -> Machine {
        Machine {
            budget: HOUR,
            started: Instant::now(),
            jobs,
            threads: jobs,
            bytes: 1_000,
        }
    }

    /// Units that need so many minutes, in the order of the report.
    fn units(needs: &[u32]) -> Vec<Planned> {
        let unit = |(place, minutes): (usize, &u32)| Planned {
            place,
            scenario: registry::all()[0],
            variant: Variant::Shipped,
            engine: Engine::Stateright,
            needs: MINUTE * *minutes,
            tries: 0,
        };
        needs.iter().enumerate().map(unit).collect()
    }

    fn report(unit: Planned, verdict: Verdict) -> UnitReport {
        UnitReport {
            verdict,
            ..UnitReport::not_started(unit.scenario, unit.variant, unit.engine, "not yet")
        }
    }

    fn well(unit: Planned) -> UnitReport {
        let (strategy, executions) = ("luck".to_owned(), 1);
        let verdict = Verdict::Sampled {
            executions,
            strategy,
        };
        report(unit, verdict)
    }

    #[test]
    fn what_needs_minutes_runs_last_and_alone_with_all_there_is() {
        let planned = units(&[20, 0, 10, 0, 0]);
        let runs = Mutex::new(Vec::new());
        let busy = AtomicUsize::new(0);
        let run = |unit: Planned, share| {
            let beside = busy.fetch_add(1, Ordering::SeqCst);
            lock(&runs).push((unit.place, share, beside));
            busy.fetch_sub(1, Ordering::SeqCst);
            well(unit)
        };
        let told = AtomicUsize::new(0);
        let tell = |report: Option<&UnitReport>| {
            assert!(report.is_some());
            told.fetch_add(1, Ordering::SeqCst);
        };
        let done = run_all(&planned, &machine(4), &run, &tell);
        assert_eq!((done.len(), told.into_inner()), (5, 5));
        let runs = runs.into_inner().unwrap();
        let mut places: Vec<usize> = runs.iter().map(|run| run.0).collect();
        places[..3].sort_unstable();
        assert_eq!(places, [1, 3, 4, 2, 0], "the longest comes last");
        for (_, share, _) in &runs[..3] {
            // 27 of the 60 minutes are kept for the other two.
            assert!(share.limit <= 33 * MINUTE, "{share:?}");
            assert_eq!(share.most_bytes, 250);
        }
        for ((_, share, beside), later) in runs[3..].iter().zip([18, 0]) {
            assert_eq!((share.threads, share.most_bytes, *beside), (4, 1_000, 0));
            // All that is left but what is kept for the one behind.
            let most = HOUR - later * MINUTE;
            assert!(share.limit <= most && share.limit > most - MINUTE);
        }
    }

    #[test]
    fn what_is_always_cut_short_takes_no_time_that_is_kept() {
        let planned = units(&[0, 30, 0]);
        let runs = Mutex::new(Vec::new());
        let run = |unit: Planned, share: Share| {
            lock(&runs).push((unit.place, share.limit));
            match unit.is_long() {
                true => well(unit),
                false => report(unit, Verdict::BudgetEnded { executions: 7 }),
            }
        };
        let done = run_all(&planned, &machine(1), &run, &|_| ());
        let runs = runs.into_inner().unwrap();
        let long = runs.iter().position(|run| run.0 == 1).unwrap();
        // Each of the two is run again and again, within what is not kept, and then once more with
        // what the long one has left over.
        let tries = 2 * (1 + MOST_TRIES as usize);
        assert_eq!((long, runs.len()), (tries, 1 + 2 * tries));
        assert!(runs[..long].iter().all(|run| run.1 <= 33 * MINUTE));
        assert!(runs[long].1 > 59 * MINUTE, "{:?}", runs[long]);
        assert!(runs[long + 1..].iter().any(|run| run.1 > 33 * MINUTE));
        assert!(done[&0].was_cut() && !done[&1].was_cut());
    }

    #[test]
    fn what_there_is_no_time_for_is_told_and_has_no_report() {
        let mut machine = machine(2);
        machine.budget = Duration::ZERO;
        let told = AtomicUsize::new(0);
        let tell = |report: Option<&UnitReport>| {
            assert!(report.is_none());
            told.fetch_add(1, Ordering::SeqCst);
        };
        let run = |unit: Planned, _| panic!("{} runs", unit.place);
        let done = run_all(&units(&[0, 10, 0]), &machine, &run, &tell);
        assert_eq!((done.len(), told.into_inner()), (0, 3));
    }
}
