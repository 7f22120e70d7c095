//! `selvedge check`: plans units, runs them in children, reports.
//!
//! The budget is shared as the run goes on: each unit may take its part of what is left. One
//! that needed more is run again at the end, with what the quick ones left over, so that on a
//! busy machine a unit is cut short only when the whole budget is used up.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use selvedge_sim::child::{Children, Launcher, Request};
use selvedge_sim::reduce::Shrinking;
use selvedge_sim::unit::Task;
use selvedge_sim::{Class, Engine, Seed, Variant};

use super::{CheckArgs, Exit, Stop, complain, input, say};
use crate::Scenario;
use crate::report::cross::Comparison;
use crate::report::{self, LeftOut, RunReport, ShrunkSizes, UnitReport, seeds};

/// Executions that shuttle draws a unit in the default budget; longer budgets draw more.
pub(super) const SHUTTLE_EXECUTIONS: u64 = 6_000;
/// Executions on real threads, each of this many rounds.
const NATIVE_EXECUTIONS: u64 = 50;
/// A workload is the same only with the same rounds, so a replay has as many.
pub(super) const NATIVE_ROUNDS: u32 = 200;
/// `check` spends no more than this on making one seed smaller; `selvedge shrink` may.
const SHRINK_LIMIT: Duration = Duration::from_millis(1_500);
pub(super) const DEFAULT_BUDGET: Duration = Duration::from_secs(60);
/// A unit that was cut short is run again at most so often, each time with a larger share.
const MOST_TRIES: u32 = 3;
/// No unit gets less: starting a child takes some of it.
const LEAST_LIMIT: Duration = Duration::from_millis(500);

/// Set by Ctrl-C; everything that takes long looks at it.
pub(super) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// One unit that is to run.
#[derive(Clone, Copy)]
struct Planned {
    /// Its place in the report.
    place: usize,
    scenario: &'static Scenario,
    variant: Variant,
    engine: Engine,
    /// The least budget that has room for it.
    needs: Duration,
    /// How often it was run and cut short before.
    tries: u32,
}

pub(super) fn check(args: &CheckArgs) -> Result<Exit, Stop> {
    let scenarios = input::select(&args.filters)?;
    let (planned, left_out) = plan(&scenarios, &args.engines, args.budget)?;
    let json = args.json.as_deref().map(input::output).transpose()?;
    let junit = args.junit.as_deref().map(input::output).transpose()?;
    input::distinct(
        ("--json", args.json.as_deref()),
        ("--junit", args.junit.as_deref()),
    )?;
    on_ctrl_c()?;

    let started = Instant::now();
    let mut units = run_all(args, &planned, started)?;
    for unit in &mut units {
        unit.require(args.require);
    }
    let cross = report::cross::compare(&units);
    let report = RunReport {
        exit: match exit_code(&units, &cross) {
            // Who names a scenario wants to know of it.
            Exit::Ok if !left_out.is_empty() && !args.filters.is_empty() => Exit::Budget,
            exit => exit,
        },
        interrupted: interrupted(),
        budget: args.budget,
        took: started.elapsed(),
        units,
        cross,
        left_out,
    };
    // First, because the other reports name the files of long seeds.
    for problem in seeds::keep(&report) {
        complain(&problem);
    }

    if let Some(file) = json {
        report::json::write(file, &report)
            .map_err(|e| Stop::harness("cannot write the JSON", e))?;
    }
    if let Some(file) = junit {
        report::junit::write(file, &report)
            .map_err(|e| Stop::harness("cannot write the JUnit XML", e))?;
    }
    say(&report::table::render(&report))?;
    Ok(report.exit)
}

/// What to run, in the order of the report, and what the budget has no room for.
fn plan(
    scenarios: &[&'static Scenario],
    engines: &[Engine],
    budget: Duration,
) -> Result<(Vec<Planned>, Vec<LeftOut>), Stop> {
    let (mut planned, mut left_out) = (Vec::new(), Vec::new());
    for &scenario in scenarios {
        for plan in scenario.engines {
            let chosen: Vec<Engine> = match engines {
                [] => vec![plan.engine],
                _ => (engines.iter().enumerate())
                    .filter(|(i, engine)| {
                        engine.name() == plan.engine.name() && !engines[..*i].contains(engine)
                    })
                    .map(|(_, engine)| *engine)
                    .collect(),
            };
            for engine in chosen {
                for variant in Variant::ALL {
                    let needs = plan.needs(variant);
                    if needs > budget {
                        left_out.push(LeftOut {
                            scenario,
                            variant,
                            engine,
                            needs,
                        });
                        continue;
                    }
                    planned.push(Planned {
                        place: planned.len(),
                        scenario,
                        variant,
                        engine,
                        needs,
                        tries: 0,
                    });
                }
            }
        }
    }
    if planned.is_empty() && left_out.is_empty() {
        let names: Vec<String> = engines.iter().map(ToString::to_string).collect();
        let asked = names.join(", ");
        return Err(Stop::usage(format!(
            "none of the chosen scenarios runs under {asked}; `selvedge list` shows which do"
        )));
    }
    Ok((planned, left_out))
}

/// Runs all units, several at a time, and returns their reports in the order of the plan.
fn run_all(
    args: &CheckArgs,
    planned: &[Planned],
    started: Instant,
) -> Result<Vec<UnitReport>, Stop> {
    let children = own_children()?;
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let jobs = args.jobs.unwrap_or(cores);
    let mut order = planned.to_vec();
    // What takes long comes last, and the longest takes what the others leave.
    order.sort_by_key(|unit| {
        let engine = match unit.engine {
            Engine::Native => 0,
            Engine::Explorer { .. } => 1,
            Engine::Stateright => 2,
            Engine::Shuttle { .. } => 3,
            Engine::Loom { .. } => 4,
        };
        (unit.needs, engine)
    });
    let queue = Mutex::new(VecDeque::from(order));
    let progress = Progress::new(planned.len());
    let done = Mutex::new(BTreeMap::new());
    // ORDERING: Relaxed wherever it is used. It only shares out threads.
    let running = AtomicUsize::new(0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.min(planned.len()))
            .map(|_| {
                scope.spawn(|| {
                    while let Some((unit, left)) = next(&queue) {
                        let left_over = args.budget.saturating_sub(started.elapsed());
                        if interrupted() || left_over.is_zero() {
                            progress.skip();
                            continue;
                        }
                        let share = left_over.mul_f64((jobs as f64 / left as f64).min(1.0));
                        let limit = share.max(LEAST_LIMIT);
                        // Those that run already have their threads.
                        let busy = running.fetch_add(1, Ordering::Relaxed);
                        let threads = (jobs.min(cores) / (left + busy)).max(1);
                        let report = run_one(args, &children, unit, (limit, threads), &progress)
                            .unwrap_or_else(|error| {
                                UnitReport::failed(unit.scenario, unit.variant, unit.engine, &error)
                            });
                        running.fetch_sub(1, Ordering::Relaxed);
                        let cut = report.was_cut();
                        let again =
                            cut && unit.tries < MOST_TRIES && started.elapsed() < args.budget;
                        if again && !interrupted() {
                            let tries = unit.tries + 1;
                            lock(&queue).push_back(Planned { tries, ..unit });
                        } else {
                            progress.finished(&report);
                        }
                        // The last try of a unit is the one that counts.
                        lock(&done).insert(unit.place, report);
                    }
                })
            })
            .collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    progress.clear();
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let report_of =
        |unit: &Planned| (done.remove(&unit.place)).unwrap_or_else(|| not_started(unit));
    Ok(planned.iter().map(report_of).collect())
}

fn not_started(unit: &Planned) -> UnitReport {
    let why = match interrupted() {
        true => "not started: interrupted",
        false => "not started: time ran out",
    };
    UnitReport::not_started(unit.scenario, unit.variant, unit.engine, why)
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

fn run_one(
    args: &CheckArgs,
    children: &Children,
    unit: Planned,
    (limit, threads): (Duration, usize),
    progress: &Progress,
) -> io::Result<UnitReport> {
    let started = Instant::now();
    let minutes = (args.budget.as_secs() / DEFAULT_BUDGET.as_secs()).max(1);
    let effort = args.effort.unwrap_or(minutes);
    let (executions, rounds) = match unit.engine {
        Engine::Native => (NATIVE_EXECUTIONS.saturating_mul(effort), NATIVE_ROUNDS),
        _ => (SHUTTLE_EXECUTIONS.saturating_mul(effort), 1),
    };
    let request = Request {
        scenario: unit.scenario.id.to_owned(),
        variant: unit.variant,
        engine: unit.engine,
        task: Task::Search {
            seed: args.seed,
            executions,
        },
        rounds,
        workers: threads,
        limit,
    };
    progress.running(&unit);
    let outcome = children.run(&request, &INTERRUPTED, |n| progress.executions(&unit, n))?;
    let seed = children.seed_of(&request, &outcome, &unit.scenario.revision(), &INTERRUPTED)?;
    let (seed, shrunk) = match seed {
        Some(seed) => shrunk(children, seed, limit)?,
        None => (None, None),
    };
    let verdict = outcome.verdict(unit.engine);
    Ok(UnitReport {
        scenario: unit.scenario,
        variant: unit.variant,
        engine: unit.engine,
        surprise: (unit.scenario).surprise(unit.variant, unit.engine, &verdict, &outcome.reached),
        verdict,
        started: true,
        below_required: false,
        reached: outcome.reached,
        observations: outcome.observations,
        more_observations: outcome.more_observations,
        escalation: outcome.escalation,
        figures: outcome.figures,
        seed: seed.map(|seed| seed.to_string()),
        shrunk,
        took: started.elapsed(),
    })
}

/// The seed made as small as a part of the time allows; as it was where that does not work.
fn shrunk(
    children: &Children,
    seed: Seed,
    limit: Duration,
) -> io::Result<(Option<Seed>, Option<ShrunkSizes>)> {
    let limit = limit.min(SHRINK_LIMIT);
    Ok(match children.shrink(&seed, limit, &INTERRUPTED)? {
        Shrinking::Done(smaller) => {
            let sizes = ShrunkSizes {
                before: smaller.before,
                after: smaller.after,
                least: smaller.least,
            };
            (Some(smaller.seed), Some(sizes))
        }
        // The seed as it was found is still good.
        Shrinking::Least(_)
        | Shrinking::Impossible(_)
        | Shrinking::Stale(_)
        | Shrinking::Failed(_)
        | Shrinking::Stopped => (Some(seed), None),
    })
}

/// The worst of what happened: first what says most about the shipped code.
fn exit_code(units: &[UnitReport], cross: &[Comparison]) -> Exit {
    let shipped_failure = (units.iter())
        .filter(|unit| unit.variant == Variant::Shipped)
        .find_map(|unit| unit.verdict.failure());
    if let Some(failure) = shipped_failure {
        return failure.kind.into();
    }
    if interrupted() {
        return Exit::Interrupted;
    }
    let surprises = || units.iter().filter(|unit| unit.surprise.is_some());
    let short = |unit: &UnitReport| unit.below_required || unit.was_cut();
    // What is left of a shipped body's surprises is that it proved nothing.
    let broken = |unit: &UnitReport| {
        unit.verdict.class() == Class::EngineError || unit.variant == Variant::Shipped
    };
    if surprises().any(|unit| !short(unit) && broken(unit)) {
        Exit::Harness
    } else if surprises().any(|unit| !short(unit)) || cross.iter().any(|c| c.surprise.is_some()) {
        Exit::Survived
    } else if surprises().next().is_some() {
        Exit::Budget
    } else {
        Exit::Ok
    }
}

/// Children are this very program.
pub(super) fn own_children() -> Result<Children, Stop> {
    let program: PathBuf = std::env::current_exe()
        .map_err(|error| Stop::harness("cannot find this program", error))?;
    Children::by(Launcher::command(&program))
        .map_err(|error| Stop::harness("cannot make a temporary directory", error))
}

pub(super) fn on_ctrl_c() -> Result<(), Stop> {
    // ORDERING: Relaxed. A flag that everybody looks at again soon.
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))
        .map_err(|error| Stop::harness("cannot watch for Ctrl-C", error))
}

pub(super) fn interrupted() -> bool {
    // ORDERING: Relaxed, as above.
    INTERRUPTED.load(Ordering::Relaxed)
}

/// A bar where standard error is a terminal, a line a unit otherwise.
struct Progress {
    bar: ProgressBar,
    total: usize,
    plain: bool,
}

impl Progress {
    fn new(total: usize) -> Self {
        let plain = !io::stderr().is_terminal();
        let target = match plain {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        let style =
            ProgressStyle::with_template("{elapsed:>4} {bar:24} {pos}/{len} units  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { bar, total, plain }
    }

    fn running(&self, unit: &Planned) {
        self.bar.set_message(describe(unit));
    }

    fn executions(&self, unit: &Planned, executions: u64) {
        self.bar.set_message(format!(
            "{}: {executions} {}",
            describe(unit),
            unit.engine.counts()
        ));
    }

    /// A unit that there was no time for.
    fn skip(&self) {
        self.bar.inc(1);
    }

    fn finished(&self, unit: &UnitReport) {
        self.bar.inc(1);
        if self.plain {
            let line = format!(
                "[{}/{}] {} {} {}: {}, {} {}, {:.1} s{}",
                self.bar.position(),
                self.total,
                unit.scenario.id,
                unit.variant,
                unit.engine,
                unit.verdict.class(),
                unit.verdict.executions(),
                unit.engine.counts(),
                unit.took.as_secs_f64(),
                match &unit.surprise {
                    Some(surprise) => format!("  UNEXPECTED: {surprise}"),
                    None => String::new(),
                }
            );
            // Progress that nobody can read is not worth an error.
            let _ = io::Write::write_all(&mut io::stderr(), format!("{line}\n").as_bytes());
        }
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn describe(unit: &Planned) -> String {
    format!("{} {} {}", unit.scenario.id, unit.variant, unit.engine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry;

    #[test]
    fn a_new_difference_between_the_engines_is_no_success() {
        let scenario = registry::all()[0];
        let compared = |surprise: Option<&str>| Comparison {
            scenario,
            variant: Variant::Shipped,
            not_compared: None,
            both: 1,
            only_explorer: Vec::new(),
            only_loom: Vec::new(),
            surprise: surprise.map(str::to_owned),
        };
        assert_eq!(exit_code(&[], &[compared(None)]), Exit::Ok);
        let new = [compared(None), compared(Some("new"))];
        assert_eq!(exit_code(&[], &new), Exit::Survived);
        // Time that ran out elsewhere hides none of it.
        let late = UnitReport::not_started(scenario, Variant::Shipped, Engine::Native, "late");
        assert_eq!(exit_code(&[late], &new), Exit::Survived);
    }
}
