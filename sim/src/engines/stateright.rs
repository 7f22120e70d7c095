//! `stateright`: every state of a model, until done. The checker itself is in the body, which
//! comes from a crate that depends on it; here is what makes a unit of it.
//!
//! A model has no executions: what is counted are different states.

use std::sync::Arc;

use crate::host::Host;
use crate::model::{self, Figures, ModelBody, ModelEnd, ModelRun, WalkEnd};
use crate::unit::{End, Task, UnitSpec};
use crate::{DecisionLog, panics};

pub(crate) fn execute(host: &Arc<Host>, spec: &UnitSpec, body: ModelBody) -> End {
    match &spec.task {
        Task::Search { .. } => search(host, spec, body),
        Task::Replay {
            log: DecisionLog::Path { actions, .. },
        } => replay(host, body, actions),
        Task::Follow {
            log: DecisionLog::Path { actions, .. },
        } => follow(host, body, actions),
        Task::Replay { .. }
        | Task::Campaign(_)
        | Task::Shrink { .. }
        | Task::Follow { .. }
        | Task::Capture { .. }
        | Task::Estimate { .. } => End::Failed {
            what: "a model replays a path of actions, nothing else".to_owned(),
        },
    }
}

fn search(host: &Arc<Host>, spec: &UnitSpec, body: ModelBody) -> End {
    let progress = |states| {
        host.set_executions(states);
        host.beat();
    };
    let (processor_ms, peak) = (model::processor_ms(), model::peak_bytes());
    let mut run = ModelRun::new(host.time_for_work(), &progress);
    run.threads = spec.workers.max(1);
    // Its share, and no more than there is by now, less a tenth for what grows between two looks.
    let share = spec.most_bytes.min(model::available_bytes());
    run.most_bytes = peak.saturating_add(share / 10 * 9);
    let end = (body.search)(&run);
    let states = match &end {
        ModelEnd::Complete { states, .. }
        | ModelEnd::Cut { states }
        | ModelEnd::OutOfMemory { states, .. }
        | ModelEnd::Failed { states, .. }
        | ModelEnd::Violated { states, .. } => *states,
    };
    host.set_executions(states);
    host.set_figures(Figures {
        states,
        processor_ms: model::processor_ms().saturating_sub(processor_ms),
        bytes: model::peak_bytes().saturating_sub(peak),
    });
    match end {
        ModelEnd::Complete { boundary, .. } => End::Complete { drawn: boundary },
        ModelEnd::Cut { .. } => End::Cut,
        ModelEnd::Failed { what, .. } => End::Failed {
            what: match panics::location() {
                at if at.is_empty() => what,
                at => format!("{what}; at {at}"),
            },
        },
        ModelEnd::OutOfMemory { states, bytes } => End::Failed {
            what: format!(
                "memory ran out: the search was stopped after {states} states, when the process \
                 held {} MB and might hold {}; run it alone with `--jobs 1`, or on a larger machine",
                bytes >> 20,
                run.most_bytes >> 20,
            ),
        },
        ModelEnd::Violated {
            failure,
            path,
            shortest,
            ..
        } => {
            let trace = (body.walk)(&path).into_trace();
            let log = Some(DecisionLog::Path {
                actions: path,
                shortest,
            });
            host.end_with(End::Violated { failure, log }, trace)
        }
    }
}

fn replay(host: &Arc<Host>, body: ModelBody, actions: &[u32]) -> End {
    let walk = (body.walk)(actions);
    host.set_executions(1);
    match walk.end.clone() {
        WalkEnd::Violated(failure) => {
            host.end_with(End::Violated { failure, log: None }, walk.into_trace())
        }
        // A path was kept because it leads to a violation.
        WalkEnd::Well => End::NotReproduced {
            stale: true,
            why: "the path leads to a state in which all properties hold: the model has changed \
                  since"
                .to_owned(),
        },
        WalkEnd::Stale(why) => End::NotReproduced { stale: true, why },
    }
}

/// Goes along the path as far as there are such actions.
fn follow(host: &Arc<Host>, body: ModelBody, actions: &[u32]) -> End {
    let walk = (body.walk)(actions);
    host.set_executions(1);
    let kept = walk.rows.len() as u64;
    match walk.end.clone() {
        WalkEnd::Violated(failure) => {
            host.end_with(End::Violated { failure, log: None }, walk.into_trace())
        }
        WalkEnd::Well | WalkEnd::Stale(_) => End::Followed {
            kept,
            // The first says which initial state.
            of: (actions.len() as u64).saturating_sub(1),
        },
    }
}
