//! `selvedge replay`: runs one failure again, draws it, and says plainly when it cannot.

use std::time::Duration;

use selvedge_sim::child::Request;
use selvedge_sim::trace::Trace;
use selvedge_sim::unit::{End, Task};
use selvedge_sim::{DecisionLog, Failure, Seed};

use super::check::{INTERRUPTED, NATIVE_ROUNDS, on_ctrl_c, own_children};
use super::{Exit, ReplayArgs, Stop, drawing, given, say};

const LIMIT: Duration = Duration::from_secs(120);

pub(super) fn replay(args: &ReplayArgs) -> Result<Exit, Stop> {
    let (seed, _) = given::seed(&args.seed)?;
    let mut target = drawing::target(&seed, args)?;
    on_ctrl_c()?;
    // Where the drawing goes to standard output, nothing else does.
    let alone = target
        .as_ref()
        .is_some_and(drawing::Target::is_standard_output);
    if !alone {
        say(&given::headline(&seed))?;
    }
    let again = run(&seed)?;
    let Again::Violated {
        failure,
        executions,
        trace,
    } = again
    else {
        if let Again::NotReproduced(why) = again {
            say(&format!("not reproduced: {why}"))?;
        }
        return Ok(Exit::Ok);
    };
    if !alone {
        say(&reproduced(&failure, executions))?;
    }
    if let Some(target) = &mut target {
        let trace = trace.ok_or_else(|| {
            Stop::usage("what happens on real threads cannot be taken down; find the failure under another engine to see it drawn")
        })?;
        target.draw(&trace, &given::headline(&seed))?;
    }
    Ok(failure.kind.into())
}

/// What a replay came to.
pub(super) enum Again {
    /// The same failure, with the same trace.
    Violated {
        failure: Failure,
        executions: u64,
        trace: Option<Trace>,
    },
    /// All went well, for this reason.
    NotReproduced(String),
}

/// Runs the seed's execution again.
pub(super) fn run(seed: &Seed) -> Result<Again, Stop> {
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
            let hash = outcome.trace.as_ref().map(Trace::hash);
            if let (Some(wanted), Some(got)) = (seed.trace, hash)
                && wanted != got
            {
                return stale(format!(
                    "it fails as it did, by other steps (trace {got:016x}, not {wanted:016x}): \
                     the code has changed since"
                ));
            }
            Ok(Again::Violated {
                failure,
                executions: outcome.executions,
                trace: outcome.trace,
            })
        }
        Some(End::Violated { failure, .. }) => stale(format!(
            "it violates '{}' now, where it violated '{}'",
            failure.signature, seed.signature
        )),
        Some(End::NotReproduced { stale: true, why }) => stale(why),
        Some(End::NotReproduced { stale: false, why }) => Ok(Again::NotReproduced(why)),
        // A checkpoint of other code makes loom itself fail.
        Some(End::Failed { what }) if matches!(seed.log, DecisionLog::Checkpoint(_)) => stale(what),
        Some(End::Failed { what }) => Err(Stop::harness("the engine failed", what)),
        Some(End::Complete { .. } | End::Shrunk { .. } | End::Estimated { .. }) => {
            Err(Stop::harness("the engine failed", "it did something else"))
        }
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

fn reproduced(failure: &Failure, executions: u64) -> String {
    let location = match failure.location.is_empty() {
        true => String::new(),
        false => format!("at {}, ", failure.location),
    };
    format!(
        "violated: {}\n  {}\n  {location}execution {executions}",
        failure.signature,
        failure.detail.replace('\n', "\n  "),
    )
}
