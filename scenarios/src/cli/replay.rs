//! `selvedge replay`: runs one failure again, and says plainly when it cannot.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use selvedge_sim::child::Request;
use selvedge_sim::unit::{End, Task};
use selvedge_sim::{DecisionLog, Failure, Seed};

use super::check::{INTERRUPTED, NATIVE_ROUNDS, on_ctrl_c, own_children};
use super::{Exit, ReplayArgs, Stop, input, say};
use crate::registry;
use crate::report::seeds;

const LIMIT: Duration = Duration::from_secs(120);
/// A file that is longer holds no seed of ours.
const LONGEST_FILE: u64 = 64 << 20;

pub(super) fn replay(args: &ReplayArgs) -> Result<Exit, Stop> {
    let seed = find(&args.seed)?;
    let scenario = registry::find(&seed.scenario).ok_or_else(|| {
        Stop::usage(format!(
            "the seed is stale: {}",
            input::no_such_scenario(&seed.scenario)
        ))
    })?;
    let revision = scenario.revision();
    if seed.revision != revision {
        return Err(Stop::usage(format!(
            "the seed is stale: it was made for revision {} of {}, this is {revision}; run \
             `selvedge check {}` for a new one",
            seed.revision, seed.scenario, seed.scenario
        )));
    }
    on_ctrl_c()?;
    say(&headline(&seed))?;
    let request = Request {
        scenario: seed.scenario.clone(),
        variant: seed.variant,
        engine: seed.engine,
        task: Task::Replay {
            log: seed.log.clone(),
        },
        rounds: match seed.log {
            DecisionLog::Workload { .. } => NATIVE_ROUNDS,
            _ => 1,
        },
        limit: LIMIT,
    };
    let outcome = (own_children()?.run(&request, &INTERRUPTED, |_| ()))
        .map_err(|error| Stop::harness("cannot run the replay", error))?;
    let stale = |why: String| Err(Stop::usage(format!("the seed is stale: {why}")));
    match outcome.end {
        Some(End::Violated { failure, .. }) if failure.signature == seed.signature => {
            say(&reproduced(&failure, outcome.executions))?;
            Ok(failure.kind.into())
        }
        Some(End::Violated { failure, .. }) => stale(format!(
            "it violates '{}' now, where it violated '{}'",
            failure.signature, seed.signature
        )),
        Some(End::NotReproduced { stale: true, why }) => stale(why),
        Some(End::NotReproduced { stale: false, why }) => {
            say(&format!("not reproduced: {why}"))?;
            Ok(Exit::Ok)
        }
        // A checkpoint of other code makes loom itself fail.
        Some(End::Failed { what }) if matches!(seed.log, DecisionLog::Checkpoint(_)) => stale(what),
        Some(End::Failed { what }) => Err(Stop::harness("the engine failed", what)),
        Some(End::Complete { .. }) => Err(Stop::harness("the engine failed", "it searched on")),
        Some(End::Cut) => Err(Stop {
            exit: Exit::Budget,
            message: format!("not reproduced within {} s", LIMIT.as_secs()),
        }),
        None => Err(Stop {
            exit: Exit::Interrupted,
            message: "interrupted".to_owned(),
        }),
    }
}

/// The seed that `text` is, or the file or kept seed that it names holds.
fn find(text: &str) -> Result<Seed, Stop> {
    let looks_like_a_seed = text.trim_start().starts_with("sv") && text.contains('.');
    if looks_like_a_seed && !Path::new(text).exists() {
        return text.parse().map_err(Stop::usage);
    }
    let kept = seeds::path_of(text);
    let path = match kept.as_deref() {
        Some(kept) if kept.exists() => kept,
        _ => Path::new(text),
    };
    let mut content = String::new();
    let read =
        File::open(path).and_then(|file| file.take(LONGEST_FILE).read_to_string(&mut content));
    read.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Stop::usage(format!(
            "'{text}' is no seed (they begin with 'sv1.'), no file, and no seed that `check` kept"
        )),
        _ => Stop::usage(format!("cannot read {}: {error}", path.display())),
    })?;
    (content.parse()).map_err(|error| Stop::usage(format!("{}: {error}", path.display())))
}

fn headline(seed: &Seed) -> String {
    let what = match &seed.log {
        DecisionLog::Schedule(schedule) => format!(
            "{} tasks, {} steps, {} switches",
            schedule.tasks.len(),
            schedule.len(),
            schedule.switches()
        ),
        DecisionLog::Checkpoint(_) => "loom's checkpoint".to_owned(),
        DecisionLog::Workload { execution, .. } => {
            format!("workload of execution {execution} on real threads")
        }
    };
    let Seed {
        scenario,
        variant,
        engine,
        ..
    } = seed;
    format!("{scenario}, {variant}, {engine}: {what}")
}

fn reproduced(failure: &Failure, executions: u64) -> String {
    format!(
        "violated: {}\n  {}\n  at {}, execution {executions}",
        failure.signature,
        failure.detail.replace('\n', "\n  "),
        failure.location
    )
}
