//! `loom`: every execution that loom's memory model allows, until done.
//!
//! Loom looks at its own limits only now and then and returns as if all were well when one is
//! reached. So none of its limits is ever set here: **when `check` returns, the search is
//! complete; when time runs out, the host ends the process instead.**
//!
//! Of the body's own choices loom knows nothing: one search is run for each combination.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ::loom::model::Builder;

use super::odometer::Odometer;
use crate::body::Choices;
use crate::host::Host;
use crate::platforms::loom_task;
use crate::unit::{End, Task, UnitSpec};
use crate::{BodyFn, Cx, DecisionLog, lock, trace};

/// Loom's limit on the switches of one execution; past it the body is taken to spin.
const MAX_BRANCHES: usize = 10_000;

/// Loom runs the same body each time, so its chance is the same each time.
const SEED: u64 = 0;

pub(crate) fn execute(
    host: &Arc<Host>,
    spec: &UnitSpec,
    preemptions: Option<u8>,
    body: BodyFn,
) -> End {
    let mut builder = Builder::new();
    // Every field that `Builder::new` may have read from the environment is set.
    builder.max_threads = ::loom::MAX_THREADS;
    builder.max_branches = MAX_BRANCHES;
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.preemption_bound = preemptions.map(usize::from);
    builder.checkpoint_file = None;
    builder.checkpoint_interval = usize::MAX;
    builder.location = false;
    builder.log = false;

    let checkpoint = checkpoint_beside(spec);
    // Of the one execution that is of interest, what happens is taken down.
    let traced = match &spec.task {
        Task::Capture { execution } => Some(*execution),
        Task::Replay { .. } => Some(1),
        _ => None,
    };
    let odometer = Arc::new(Mutex::new(Odometer::default()));
    let only_first = match &spec.task {
        Task::Search { .. } => false,
        Task::Capture { .. } => {
            builder.checkpoint_file = Some(checkpoint.clone());
            let odometer = Arc::clone(&odometer);
            host.tell_log_by(move || {
                let path = fs::read_to_string(&checkpoint).ok()?;
                let choices = lock(&odometer).choices();
                Some(DecisionLog::Checkpoint { path, choices })
            });
            false
        }
        Task::Replay {
            log: DecisionLog::Checkpoint { path, choices },
        } => {
            *lock(&odometer) = Odometer::at(choices);
            if let Err(error) = fs::write(&checkpoint, path) {
                return End::Failed {
                    what: format!("cannot write {}: {error}", checkpoint.display()),
                };
            }
            builder.checkpoint_file = Some(checkpoint);
            true
        }
        Task::Replay { .. }
        | Task::Campaign(_)
        | Task::Shrink { .. }
        | Task::Follow { .. }
        | Task::Estimate { .. } => {
            return End::Failed {
                what: "loom follows a checkpoint, nothing else".to_owned(),
            };
        }
    };

    loop {
        if let Task::Capture { execution } = &spec.task {
            // Loom writes its path at the start of every execution whose number divides by the
            // interval: here just the one that fails. Each combination of choices is counted
            // anew.
            let left = execution.saturating_sub(host.executions());
            builder.checkpoint_interval = usize::try_from(left).unwrap_or(usize::MAX).max(1);
        }
        let (inner, chosen) = (Arc::clone(host), Arc::clone(&odometer));
        builder.check(move || {
            let execution = inner.begin();
            if only_first && execution > 1 {
                inner.end(End::NotReproduced {
                    stale: true,
                    why: "the checkpointed execution was well: the code has changed since"
                        .to_owned(),
                });
            }
            if Some(execution) == traced {
                trace::start(loom_task(), 0);
            }
            lock(&chosen).begin();
            let cx = Cx::new(SEED, 0, 1).choosing(Choices::Counted(Arc::clone(&chosen)));
            inner.observe(&body(&cx));
            trace::finished(loom_task);
        });
        if only_first || !lock(&odometer).advance() {
            break;
        }
    }
    match only_first {
        true => End::NotReproduced {
            stale: true,
            why: "the checkpointed execution was well and the last: the code has changed since"
                .to_owned(),
        },
        false => End::Complete {
            drawn: String::new(),
        },
    }
}

fn checkpoint_beside(spec: &UnitSpec) -> PathBuf {
    spec.record.with_extension("loom.json")
}
