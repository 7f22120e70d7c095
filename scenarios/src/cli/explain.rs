//! `selvedge explain`: the smallest execution that fails in the same way, which of its switches
//! the failure needs, and a drawing of it.

use std::time::Duration;

use selvedge_sim::child::{Children, Request};
use selvedge_sim::reduce::SmallerWorld;
use selvedge_sim::unit::{End, Task};
use selvedge_sim::{Engine, Seed, explain, timeline};

use super::check::{INTERRUPTED, on_ctrl_c, own_children};
use super::replay::{self, Again};
use super::shrink::Smallest;
use super::{Exit, ExplainArgs, Stop, complain, drawing, given, say, shrink};
use crate::Scenario;
use crate::report::seeds;

pub(super) fn explain(args: &ExplainArgs) -> Result<Exit, Stop> {
    let (seed, scenario) = given::seed(&args.seed)?;
    on_ctrl_c()?;
    say(&given::headline(&seed))?;
    let children = own_children()?;
    if let Some(least) = shrink::already_least(&children, &seed)? {
        let options = drawing::options(args.all, false);
        let text = timeline::text(&least.trace, &given::headline(&seed), options);
        say(&format!("as small as can be: {}", least.why))?;
        say(&format!(
            "No path with fewer actions violates anything.\n\n{}",
            text.trim_end()
        ))?;
        return Ok(Exit::Ok);
    }
    let smaller = match shrink::smaller(&children, &seed, args.limit)? {
        Smallest::Schedule(smaller) => smaller,
        Smallest::World(smaller) => return world(&children, &smaller, args.all),
    };
    say(&shrink::before_and_after(&smaller))?;
    let again = replay::run(&children, &smaller.seed)?;
    let Again::Violated { failure, trace, .. } = again else {
        return Err(Stop::usage("the seed is stale: its execution is well now"));
    };
    let mut trace = trace.unwrap_or_default();
    smaller.mark(&mut trace);
    say(&format!("\n{}", explain::cause(&trace)))?;
    if matches!(seed.engine, Engine::Loom { .. }) {
        say(&without_weak_memory(
            &children, &seed, scenario, args.limit,
        )?)?;
    }
    let text = timeline::text(
        &trace,
        &given::headline(&smaller.seed),
        drawing::options(args.all, false),
    );
    say(&format!("\n{}\n", text.trim_end()))?;
    let text = smaller.seed.to_string();
    if let Err(problem) = seeds::keep_one(&text) {
        complain(&problem);
    }
    say(&seeds::replay_command(&text))?;
    Ok(failure.kind.into())
}

/// A run of the world: which faults it needs, and its drawing with those marked.
fn world(children: &Children, smaller: &SmallerWorld, all: bool) -> Result<Exit, Stop> {
    say(&shrink::world_before_and_after(smaller))?;
    say(&shrink::faults(smaller))?;
    let again = replay::run(children, &smaller.seed)?;
    let Again::Violated { failure, trace, .. } = again else {
        return Err(Stop::usage("the seed is stale: every property holds now"));
    };
    let mut trace = trace.unwrap_or_default();
    let critical: Vec<Option<bool>> = smaller.faults.iter().map(|it| it.critical).collect();
    trace.mark_faults(&critical);
    let title = given::headline(&smaller.seed);
    let text = timeline::text(&trace, &title, drawing::options(all, false));
    say(&format!("\n{}\n", text.trim_end()))?;
    let text = smaller.seed.to_string();
    if let Err(problem) = seeds::keep_one(&text) {
        complain(&problem);
    }
    say(&seeds::replay_command(&text))?;
    Ok(failure.kind.into())
}

/// Whether the failure needs weak memory: the explorer, which has none, is asked.
fn without_weak_memory(
    children: &Children,
    seed: &Seed,
    scenario: &Scenario,
    limit: Duration,
) -> Result<String, Stop> {
    let engine = Engine::Explorer { preemptions: None };
    if scenario.plan(engine).is_none() {
        return Ok(String::new());
    }
    let request = Request {
        scenario: seed.scenario.clone(),
        variant: seed.variant,
        engine,
        task: Task::Search {
            seed: 0,
            executions: u64::MAX,
        },
        rounds: 1,
        workers: 1,
        most_bytes: u64::MAX,
        limit,
    };
    let cannot = |error| Stop::harness("cannot search", error);
    let outcome = (children.run(&request, &INTERRUPTED, |_| ())).map_err(cannot)?;
    let executions = outcome.executions;
    Ok(match &outcome.end {
        Some(End::Complete { .. }) => format!(
            "It needs weak memory: the explorer tried every order of steps ({executions} \
             executions), and under sequential consistency none fails."
        ),
        Some(End::Violated { failure, .. }) if failure.signature == seed.signature => {
            let found = (children.seed_of(&request, &outcome, &seed.revision, &INTERRUPTED))
                .map_err(cannot)?;
            match found {
                Some(found) => format!(
                    "It needs no weak memory: an order of steps is enough, and the explorer can \
                     tell which switches matter:\nselvedge explain {found}"
                ),
                None => "It needs no weak memory: an order of steps is enough.".to_owned(),
            }
        }
        _ => format!(
            "Whether it needs weak memory is not known: the explorer did not end within {}.",
            humantime::format_duration(limit)
        ),
    })
}
