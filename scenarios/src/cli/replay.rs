//! `selvedge replay`: runs one failure again, draws it, and says plainly when it cannot.

use std::time::Duration;

use selvedge_sim::child::Children;
use selvedge_sim::replay::Replayed;
use selvedge_sim::trace::Trace;
use selvedge_sim::{DecisionLog, Failure, Seed, timeline};

use super::check::{INTERRUPTED, NATIVE_ROUNDS, on_ctrl_c, own_children};
use super::{Exit, ReplayArgs, Stop, drawing, given, say};

const LIMIT: Duration = Duration::from_secs(120);
/// How long a drawing may wait to be told which switches or faults are critical.
const SWITCHES_LIMIT: Duration = Duration::from_secs(5);

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
    let children = own_children()?;
    let is_model = matches!(seed.log, DecisionLog::Path { .. });
    let is_world = matches!(seed.log, DecisionLog::World(_));
    let again = run(&children, &seed)?;
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
        say(&reproduced(
            &failure,
            (!is_model && !is_world).then_some(executions),
        ))?;
    }
    if let (true, None, Some(trace)) = (is_model, &target, &trace) {
        // A path says more than its list of actions, and is short.
        let options = drawing::options(args.all, false);
        let text = timeline::text(trace, &given::headline(&seed), options);
        say(&format!("\n{}", text.trim_end()))?;
    }
    if let Some(target) = &mut target {
        let mut trace = trace.unwrap_or_default();
        let tried = (children.switches_of(&seed, SWITCHES_LIMIT, &INTERRUPTED))
            .map_err(|error| Stop::harness("cannot try the switches", error))?;
        trace.mark(&tried);
        mark_faults(&children, &seed, &mut trace)?;
        target.draw(&trace, &given::headline(&seed))?;
    }
    Ok(failure.kind.into())
}

/// Marks which faults of a world's plan the failure needs.
fn mark_faults(children: &Children, seed: &Seed, trace: &mut Trace) -> Result<(), Stop> {
    let tried = (children.faults_of(seed, SWITCHES_LIMIT, &INTERRUPTED))
        .map_err(|error| Stop::harness("cannot try the faults", error))?;
    let critical: Vec<Option<bool>> = tried.iter().map(|fault| fault.critical).collect();
    trace.mark_faults(&critical);
    Ok(())
}

/// What a replay came to, where the seed still fits.
#[allow(
    clippy::large_enum_variant,
    reason = "it is looked at once and thrown away"
)]
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
pub(super) fn run(children: &Children, seed: &Seed) -> Result<Again, Stop> {
    let replayed = (children.replay(seed, NATIVE_ROUNDS, LIMIT, &INTERRUPTED))
        .map_err(|error| Stop::harness("cannot run the replay", error))?;
    match replayed {
        Replayed::Violated {
            failure,
            executions,
            trace,
        } => Ok(Again::Violated {
            failure,
            executions,
            trace,
        }),
        Replayed::NotReproduced(why) => Ok(Again::NotReproduced(why)),
        Replayed::Stale(why) => Err(Stop::usage(format!("the seed is stale: {why}"))),
        Replayed::Failed(what) => Err(Stop::harness("the engine failed", what)),
        Replayed::Cut => Err(Stop {
            exit: Exit::Budget,
            message: format!("not reproduced within {} s", LIMIT.as_secs()),
        }),
        Replayed::Interrupted => Err(Stop {
            exit: Exit::Interrupted,
            message: "interrupted".to_owned(),
        }),
    }
}

fn reproduced(failure: &Failure, executions: Option<u64>) -> String {
    let mut text = format!(
        "violated: {}\n  {}",
        failure.signature,
        failure.detail.replace('\n', "\n  "),
    );
    // A model has neither lines of source nor executions.
    if let Some(executions) = executions {
        let location = match failure.location.is_empty() {
            true => String::new(),
            false => format!("at {}, ", failure.location),
        };
        text += &format!("\n  {location}execution {executions}");
    }
    text
}
