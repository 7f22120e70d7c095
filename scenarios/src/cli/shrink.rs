//! `selvedge shrink`: one seed made smaller, or every twin's, in a table of before and after.

use std::time::{Duration, Instant};

use selvedge_sim::campaign::{FaultTried, WorldSize};
use selvedge_sim::child::{Children, Request};
use selvedge_sim::reduce::{Shrinking, Smaller, SmallerWorld};
use selvedge_sim::trace::Trace;
use selvedge_sim::unit::Task;
use selvedge_sim::{DecisionLog, Engine, Seed, Size, Variant};

use super::check::{INTERRUPTED, SHUTTLE_EXECUTIONS, interrupted, on_ctrl_c, own_children};
use super::replay::{self, Again};
use super::{Exit, ShrinkArgs, Stop, given, input, say};
use crate::report::{seeds, table};
use crate::{Expect, Scenario};

/// How long the search for a twin may take before there is something to shrink.
const SEARCH_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn shrink(args: &ShrinkArgs) -> Result<Exit, Stop> {
    match (&args.seed, args.twins) {
        (Some(seed), false) => one(seed, args.limit),
        (None, true) => twins(&[], args),
        // With --twins, what stands there names scenarios.
        (Some(filter), true) => twins(std::slice::from_ref(filter), args),
        (None, false) => Err(Stop::usage(
            "name a seed to make smaller, or ask for every twin's with --twins",
        )),
    }
}

fn one(text: &str, limit: Duration) -> Result<Exit, Stop> {
    let (seed, _) = given::seed(text)?;
    on_ctrl_c()?;
    say(&given::headline(&seed))?;
    let children = own_children()?;
    if let Some(least) = already_least(&children, &seed)? {
        say(&format!("as small as can be: {}", least.why))?;
        return Ok(Exit::Ok);
    }
    let text = match smaller(&children, &seed, limit)? {
        Smallest::Schedule(smaller) => {
            say(&before_and_after(&smaller))?;
            smaller.seed.to_string()
        }
        Smallest::World(smaller) => {
            say(&world_before_and_after(&smaller))?;
            say(&faults(&smaller))?;
            smaller.seed.to_string()
        }
    };
    if let Err(problem) = seeds::keep_one(&text) {
        super::complain(&problem);
    }
    say(&seeds::replay_command(&text))?;
    Ok(Exit::Ok)
}

/// A failure of which it is known beforehand that nothing smaller fails so.
pub(super) struct Least {
    pub(super) why: &'static str,
    pub(super) trace: Trace,
}

/// Whether the seed is as small as can be, by how it was found. It must still fail.
pub(super) fn already_least(children: &Children, seed: &Seed) -> Result<Option<Least>, Stop> {
    if !matches!(seed.log, DecisionLog::Path { .. }) {
        return Ok(None);
    }
    let shrinking = (children.shrink(seed, Duration::ZERO, &INTERRUPTED))
        .map_err(|error| Stop::harness("cannot shrink the seed", error))?;
    let Shrinking::Least(why) = shrinking else {
        return Ok(None);
    };
    match replay::run(children, seed)? {
        Again::Violated { trace, .. } => Ok(Some(Least {
            why,
            trace: trace.unwrap_or_default(),
        })),
        Again::NotReproduced(why) => Err(Stop::usage(format!("the seed is stale: {why}"))),
    }
}

/// A seed made smaller.
pub(super) enum Smallest {
    /// Of a schedule.
    Schedule(Smaller),
    /// Of a run of the world.
    World(SmallerWorld),
}

/// The seed made smaller, or why not.
pub(super) fn smaller(children: &Children, seed: &Seed, limit: Duration) -> Result<Smallest, Stop> {
    let shrinking = (children.shrink(seed, limit, &INTERRUPTED))
        .map_err(|error| Stop::harness("cannot shrink the seed", error))?;
    done(shrinking, limit)
}

/// What became of shrinking, where there is something smaller; else why not.
pub(super) fn done(shrinking: Shrinking, limit: Duration) -> Result<Smallest, Stop> {
    match shrinking {
        Shrinking::Done(smaller) => Ok(Smallest::Schedule(smaller)),
        Shrinking::World(smaller) => Ok(Smallest::World(smaller)),
        Shrinking::Least(why) | Shrinking::Impossible(why) => Err(Stop::usage(why)),
        Shrinking::Stale(why) => Err(Stop::usage(format!("the seed is stale: {why}"))),
        Shrinking::Failed(what) => Err(Stop::harness("the engine failed", what)),
        Shrinking::Stopped if interrupted() => Err(Stop {
            exit: Exit::Interrupted,
            message: "interrupted".to_owned(),
        }),
        Shrinking::Stopped => Err(Stop {
            exit: Exit::Budget,
            message: format!(
                "not made smaller within {}; give it more with --limit",
                humantime::format_duration(limit)
            ),
        }),
    }
}

pub(super) fn before_and_after(smaller: &Smaller) -> String {
    let mut table = table::new(&["", "preemptions", "switches", "steps"]);
    let row = |name: &str, size: Size| {
        let Size {
            preemptions,
            switches,
            steps,
        } = size;
        [
            name.to_owned(),
            preemptions.to_string(),
            switches.to_string(),
            steps.to_string(),
        ]
    };
    table.add_row(row("before", smaller.before));
    table.add_row(row("after", smaller.after));
    format!("{table}\n{}", how_small(smaller))
}

pub(super) fn world_before_and_after(smaller: &SmallerWorld) -> String {
    let mut table = table::new(&[
        "",
        "faults",
        "ranks",
        "epochs",
        "agents",
        "turns",
        "events",
        "virtual time",
    ]);
    let row = |name: &str, size: WorldSize| {
        [
            name.to_owned(),
            size.faults.to_string(),
            size.ranks.to_string(),
            size.epochs.to_string(),
            size.agents.to_string(),
            size.turns.to_string(),
            size.events.to_string(),
            format!("{:.3} s", size.virtual_ns as f64 / 1e9),
        ]
    };
    table.add_row(row("before", smaller.before));
    table.add_row(row("after", smaller.after));
    let rest = match smaller.cut {
        true => "time ran out, there may be a smaller one.",
        false => "whatever else was left out, it did not fail in this way.",
    };
    format!("{table}\n{} runs; {rest}", smaller.runs)
}

/// The faults that are left, each with what became of the failure without it.
pub(super) fn faults(smaller: &SmallerWorld) -> String {
    if smaller.faults.is_empty() {
        return "\nIt needs no fault.".to_owned();
    }
    let critical = |fault: &&FaultTried| fault.critical == Some(true);
    let mut text = match smaller.faults.iter().filter(critical).count() {
        0 => "\nNo single fault is needed:".to_owned(),
        1 => "\nIt needs one fault; without it, it does not fail:".to_owned(),
        n => format!("\nIt needs {n} faults; without any one, it does not fail:"),
    };
    for fault in &smaller.faults {
        let mark = if critical(&fault) { "*" } else { "-" };
        text += &format!("\n  {mark} {}\n      {}", fault.text, fault.words());
    }
    text
}

fn how_small(smaller: &Smaller) -> String {
    let rest = match (smaller.least, smaller.cut, smaller.seed.engine) {
        (true, _, _) => "no schedule with fewer preemptions fails in this way.",
        (false, true, _) => "time ran out, there may be a smaller one.",
        (false, false, Engine::Loom { .. }) => {
            "loom found none with fewer preemptions; as it loses some schedules, there may be one."
        }
        (false, false, _) => {
            "not every schedule with fewer preemptions was tried; there may be a smaller one."
        }
    };
    format!("{} executions; {rest}", smaller.replays)
}

/// Every twin under every engine that must find it and can shrink.
fn twins(filters: &[String], args: &ShrinkArgs) -> Result<Exit, Stop> {
    let scenarios = input::select(filters)?;
    on_ctrl_c()?;
    let children = own_children()?;
    let mut table = table::new(&[
        "scenario",
        "engine",
        "preemptions",
        "switches",
        "steps",
        "executions",
        "least",
        "time",
    ]);
    let (mut most, mut longest, mut count) = (0, Duration::ZERO, 0);
    for scenario in scenarios {
        for plan in scenario.engines {
            // A world has no preemptions to count.
            let cannot = matches!(
                plan.engine,
                Engine::Native | Engine::Stateright | Engine::World
            );
            if plan.twin != Expect::Finds || cannot {
                continue;
            }
            let named = |stop: Stop| Stop {
                message: format!("{} under {}: {}", scenario.id, plan.engine, stop.message),
                ..stop
            };
            let seed = find(&children, scenario, plan.engine).map_err(named)?;
            let started = Instant::now();
            let Smallest::Schedule(smaller) =
                smaller(&children, &seed, args.limit).map_err(named)?
            else {
                continue;
            };
            let took = started.elapsed();
            let (before, after) = (smaller.before, smaller.after);
            let arrow = |before: u64, after: u64| format!("{before} -> {after}");
            table.add_row([
                scenario.id.to_owned(),
                plan.engine.to_string(),
                arrow(before.preemptions, after.preemptions),
                arrow(before.switches, after.switches),
                arrow(before.steps, after.steps),
                smaller.replays.to_string(),
                match smaller.least {
                    true => "yes".to_owned(),
                    false => "not known".to_owned(),
                },
                format!("{:.2} s", took.as_secs_f64()),
            ]);
            most = most.max(after.preemptions);
            longest = longest.max(took);
            count += 1;
        }
    }
    say(&format!(
        "{table}\n{count} failures: at most {most} preemptions left, at most {:.2} s each.\n\
         least: whether every schedule with fewer preemptions was tried, and none fails so.",
        longest.as_secs_f64()
    ))?;
    Ok(Exit::Ok)
}

/// The first failure of a twin that a search with few executions meets.
pub(super) fn find(children: &Children, scenario: &Scenario, engine: Engine) -> Result<Seed, Stop> {
    let request = Request {
        scenario: scenario.id.to_owned(),
        variant: Variant::AsReported,
        engine,
        task: Task::Search {
            seed: 1,
            executions: SHUTTLE_EXECUTIONS,
        },
        rounds: 1,
        workers: 1,
        most_bytes: u64::MAX,
        limit: SEARCH_LIMIT,
    };
    let cannot = |error| Stop::harness("cannot search", error);
    let outcome = (children.run(&request, &INTERRUPTED, |_| ())).map_err(cannot)?;
    if interrupted() {
        return Err(Stop {
            exit: Exit::Interrupted,
            message: "interrupted".to_owned(),
        });
    }
    let seed = (children.seed_of(&request, &outcome, &scenario.revision(), &INTERRUPTED))
        .map_err(cannot)?;
    seed.ok_or_else(|| Stop {
        exit: Exit::Survived,
        message: format!("the twin of {} was not found under {engine}", scenario.id),
    })
}
