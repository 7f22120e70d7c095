//! `selvedge check`: plans units, runs them in children, reports.

use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_sim::child::{Children, Launcher, Request};
use selvedge_sim::model::available_bytes;
use selvedge_sim::reduce::Shrinking;
use selvedge_sim::unit::Task;
use selvedge_sim::{Class, Engine, Seed, Variant};

use super::{CheckArgs, Exit, Stop, complain, input, say};
use crate::report::cross::Comparison;
use crate::report::{self, LeftOut, RunReport, ShrunkSizes, UnitReport, seeds};
use crate::{Expect, Scenario};

pub(super) mod progress;
pub(super) mod schedule;

use progress::Progress;
use schedule::{Machine, Planned, Share};

/// Executions that shuttle draws a unit in the default budget; longer budgets draw more.
pub(super) const SHUTTLE_EXECUTIONS: u64 = 6_000;
/// Executions on real threads, each of this many rounds.
const NATIVE_EXECUTIONS: u64 = 50;
/// Seeds of the world that each scenario of it runs: each has others.
const WORLD_SEEDS: u64 = 150;
/// A twin of the world must be found by then.
const WORLD_SEEDS_OF_TWIN: u64 = 1_000;
/// A workload is the same only with the same rounds, so a replay has as many.
pub(super) const NATIVE_ROUNDS: u32 = 200;
/// `check` spends no more than this on making one seed smaller; `selvedge shrink` may.
const SHRINK_LIMIT: Duration = Duration::from_millis(1_500);
pub(super) const DEFAULT_BUDGET: Duration = Duration::from_secs(60);

/// Set by Ctrl-C; everything that takes long looks at it.
pub(super) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

pub(super) fn check(args: &CheckArgs) -> Result<Exit, Stop> {
    let scenarios = input::select(&args.filters)?;
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let jobs = args.jobs.unwrap_or(cores);
    let mut machine = Machine {
        budget: args.budget,
        started: Instant::now(),
        jobs,
        threads: jobs.min(cores),
        bytes: available_bytes(),
    };
    let (planned, left_out) = plan(&scenarios, &args.engines, &Variant::ALL, &machine)?;
    let json = args.json.as_deref().map(input::output).transpose()?;
    let junit = args.junit.as_deref().map(input::output).transpose()?;
    input::distinct(&[
        ("--json", args.json.as_deref()),
        ("--junit", args.junit.as_deref()),
    ])?;
    on_ctrl_c()?;

    machine.started = Instant::now();
    let mut units = run_all(args, &planned, &machine)?;
    for unit in &mut units {
        unit.require(args.require);
    }
    let cross = report::cross::compare(&units);
    let report = RunReport {
        exit: match exit_code(&units, &cross) {
            Exit::Ok if is_missed(&left_out, args) => Exit::Budget,
            exit => exit,
        },
        interrupted: interrupted(),
        budget: args.budget,
        took: machine.started.elapsed(),
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
pub(super) fn plan(
    scenarios: &[&'static Scenario],
    engines: &[Engine],
    variants: &[Variant],
    machine: &Machine,
) -> Result<(Vec<Planned>, Vec<LeftOut>), Stop> {
    let (mut planned, mut left_out) = (Vec::new(), Vec::new());
    let mut taken = Duration::ZERO;
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
                for &variant in variants {
                    let needs = plan.needs(variant, machine.threads);
                    // All that need minutes run in turn.
                    let with_it = taken + needs;
                    if !needs.is_zero() && with_it > machine.budget {
                        left_out.push(LeftOut {
                            scenario,
                            variant,
                            engine,
                            needs: with_it,
                        });
                        continue;
                    }
                    taken = with_it;
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

/// Runs all units and returns their reports in the order of the plan.
pub(super) fn run_all(
    args: &CheckArgs,
    planned: &[Planned],
    machine: &Machine,
) -> Result<Vec<UnitReport>, Stop> {
    let children = own_children()?;
    let progress = Progress::new(planned.len());
    let for_the_rest = schedule::time_for_the_rest(planned, machine.budget);
    let minutes = (for_the_rest.as_secs() / DEFAULT_BUDGET.as_secs()).max(1);
    let effort = args.effort.unwrap_or(minutes);
    let run = |unit: Planned, share| {
        let (executions, rounds) = drawn_by(unit.scenario, unit.engine, unit.variant, effort);
        let draws = Draws {
            seed: args.seed,
            executions,
            rounds,
            shrinks: true,
        };
        run_one(draws, &children, unit, share, &progress)
    };
    let tell = |report: Option<&UnitReport>| match report {
        Some(report) => progress.finished(report),
        None => progress.skip(),
    };
    let mut done = schedule::run_all(planned, machine, &run, &tell);
    progress.clear();
    let report_of =
        |unit: &Planned| (done.remove(&unit.place)).unwrap_or_else(|| not_started(unit));
    Ok(planned.iter().map(report_of).collect())
}

/// Whether somebody misses what was left out: who names a scenario wants to know of it, and so does
/// who asks for more than samples.
fn is_missed(left_out: &[LeftOut], args: &CheckArgs) -> bool {
    !left_out.is_empty() && (!args.filters.is_empty() || args.require > Class::Sampled)
}

fn not_started(unit: &Planned) -> UnitReport {
    let why = match interrupted() {
        true => "not started: interrupted",
        false => "not started: time ran out",
    };
    UnitReport::not_started(unit.scenario, unit.variant, unit.engine, why)
}

/// What one unit draws, and from what.
#[derive(Clone, Copy)]
pub(super) struct Draws {
    pub(super) seed: u64,
    pub(super) executions: u64,
    pub(super) rounds: u32,
    /// Whether a failure is made as small as a moment allows.
    pub(super) shrinks: bool,
}

/// How many executions an engine draws, and of how many rounds.
pub(crate) fn drawn_by(
    scenario: &Scenario,
    engine: Engine,
    variant: Variant,
    effort: u64,
) -> (u64, u32) {
    match (engine, variant) {
        (Engine::Native, _) => (NATIVE_EXECUTIONS.saturating_mul(effort), NATIVE_ROUNDS),
        (Engine::World, Variant::AsReported) => match scenario.expectation(engine) {
            Expect::Misses(_) => (WORLD_SEEDS, 1),
            // However often it is looked for, it must be found among so many.
            _ => (WORLD_SEEDS_OF_TWIN, 1),
        },
        (Engine::World, Variant::Shipped) => (WORLD_SEEDS.saturating_mul(effort), 1),
        _ => (SHUTTLE_EXECUTIONS.saturating_mul(effort), 1),
    }
}

/// Runs one unit in a child. One that cannot be run has a report that says so.
pub(super) fn run_one(
    draws: Draws,
    children: &Children,
    unit: Planned,
    share: Share,
    progress: &Progress,
) -> UnitReport {
    try_one(draws, children, unit, share, progress).unwrap_or_else(|error| {
        UnitReport::failed(unit.scenario, unit.variant, unit.engine, &error)
    })
}

fn try_one(
    draws: Draws,
    children: &Children,
    unit: Planned,
    share: Share,
    progress: &Progress,
) -> io::Result<UnitReport> {
    let started = Instant::now();
    let Draws {
        seed,
        executions,
        rounds,
        shrinks,
    } = draws;
    let request = Request {
        scenario: unit.scenario.id.to_owned(),
        variant: unit.variant,
        engine: unit.engine,
        task: Task::Search { seed, executions },
        rounds,
        workers: share.threads,
        most_bytes: share.most_bytes,
        limit: share.limit,
    };
    progress.running(&unit);
    let outcome = children.run(&request, &INTERRUPTED, |n| progress.executions(&unit, n))?;
    let seed = children.seed_of(&request, &outcome, &unit.scenario.revision(), &INTERRUPTED)?;
    let (seed, shrunk) = match seed {
        Some(seed) if shrinks => shrunk(children, seed, share.limit)?,
        seed => (seed, None),
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
        Shrinking::World(smaller) => (Some(smaller.seed), None),
        // The seed as it was found is still good.
        Shrinking::Least(_)
        | Shrinking::Impossible(_)
        | Shrinking::Stale(_)
        | Shrinking::Failed(_)
        | Shrinking::Stopped => (Some(seed), None),
    })
}

/// The worst of what happened: first what says most about the shipped code.
pub(crate) fn exit_code(units: &[UnitReport], cross: &[Comparison]) -> Exit {
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

#[cfg(test)]
mod tests {
    use selvedge_sim::model::{ModelBody, ModelEnd, Walk, WalkEnd};
    use selvedge_sim::{Bodies, Verdict};

    use super::*;
    use crate::registry::{self, stateright};

    const NOTHING: Bodies = Bodies::of_model(ModelBody {
        search: |_| ModelEnd::Cut { states: 0 },
        walk: |_| Walk {
            columns: Vec::new(),
            rows: Vec::new(),
            end: WalkEnd::Well,
        },
    });

    /// A model of five states that takes twenty minutes.
    static COUNTER: Scenario = Scenario {
        id: "counter",
        ticket: "none",
        summary: "counts to five",
        source: "counts to five",
        twin: NOTHING,
        shipped: NOTHING,
        signature: "small",
        must_reach: &[],
        engines: &[stateright(Expect::Finds).states(5).needs_minutes(20)],
    };

    fn machine(minutes: u64, threads: usize) -> Machine {
        Machine {
            budget: Duration::from_secs(60 * minutes),
            started: Instant::now(),
            jobs: threads,
            threads,
            bytes: 0,
        }
    }

    #[test]
    fn another_number_of_states_than_is_pinned_is_no_pass() {
        let unit = |executions| {
            let (variant, engine) = (Variant::Shipped, Engine::Stateright);
            let bound = "counts to five".to_owned();
            let verdict = Verdict::Bounded { bound, executions };
            UnitReport {
                surprise: COUNTER.surprise(variant, engine, &verdict, &[]),
                verdict,
                started: true,
                ..UnitReport::not_started(&COUNTER, variant, engine, "not yet")
            }
        };
        assert_eq!(exit_code(&[unit(5)], &[]), Exit::Ok);
        for other in [4, 6] {
            let unit = unit(other);
            let said = unit.surprise.as_deref().unwrap();
            assert!(said.contains("states where there were 5"), "{said}");
            assert_eq!(exit_code(&[unit], &[]), Exit::Harness);
        }
    }

    #[test]
    fn what_needs_minutes_is_planned_as_long_as_all_of_it_fits_in_turn() {
        let of = |minutes, threads| {
            let machine = machine(minutes, threads);
            let (planned, left_out) = plan(&[&COUNTER, &COUNTER], &[], &Variant::ALL, &machine)
                .ok()
                .unwrap();
            let minutes = |needs: Duration| needs.as_secs() / 60;
            let long = planned.iter().filter(|unit| !unit.needs.is_zero());
            (
                long.count(),
                (left_out.iter().map(|left| minutes(left.needs))).collect::<Vec<_>>(),
            )
        };
        assert_eq!(of(19, 2), (0, vec![20, 20]));
        // With what is told there is room, for the first and then for both.
        assert_eq!(of(20, 2), (1, vec![40]));
        assert_eq!(of(40, 2), (2, vec![]));
        // One thread takes twice as long.
        assert_eq!(of(40, 1), (1, vec![80]));
        assert_eq!(of(80, 1), (2, vec![]));
    }

    #[test]
    fn what_was_left_out_is_missed_by_whoever_asked_for_it() {
        let args = |filters: &[&str], require| CheckArgs {
            filters: filters.iter().map(|&filter| filter.to_owned()).collect(),
            engines: Vec::new(),
            budget: DEFAULT_BUDGET,
            effort: None,
            seed: 1,
            jobs: None,
            require,
            json: None,
            junit: None,
        };
        let (_, left_out) = plan(&[&COUNTER], &[], &Variant::ALL, &machine(1, 2))
            .ok()
            .unwrap();
        assert!(!is_missed(&left_out, &args(&[], Class::Sampled)));
        assert!(is_missed(&left_out, &args(&["count"], Class::Sampled)));
        for class in [Class::Bounded, Class::Exhausted] {
            assert!(is_missed(&left_out, &args(&[], class)));
            assert!(!is_missed(&[], &args(&["count"], class)));
        }
    }

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
