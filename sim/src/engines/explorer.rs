//! `explorer`: every order of steps that anybody could tell apart, until done; or every schedule
//! with few preemptions.
//!
//! The host holds whichever thread panics, so nothing is caught here: the schedule is written
//! down step by step where the watching thread can read it.

use std::sync::{Arc, Mutex};

use crate::explorer::{Escalation, Explorer, SearchEnd, Watch};
use crate::host::Host;
use crate::unit::{End, Task, UnitSpec};
use crate::{BodyFn, Cx, DecisionLog, Failure, Observation, Schedule, lock};

/// The body's chance is the same in each execution: what differs is the schedule.
const SEED: u64 = 0;

pub(crate) fn execute(
    host: &Arc<Host>,
    spec: &UnitSpec,
    preemptions: Option<u8>,
    body: BodyFn,
) -> End {
    let explorer = Explorer {
        preemptions: preemptions.map(u32::from),
        ..Explorer::default()
    };
    let inner = Arc::clone(host);
    let searched = move || {
        inner.begin();
        body(&Cx::new(SEED, 0, 1))
    };
    let end = match &spec.task {
        Task::Search { .. } => search(host, &explorer, spec, body),
        Task::Replay {
            log: DecisionLog::Schedule(wanted),
        } => match replay(host, &explorer, wanted, searched) {
            SearchEnd::Complete => {
                return End::NotReproduced {
                    stale: false,
                    why: "the schedule was followed to its end, and all was well".to_owned(),
                };
            }
            SearchEnd::NotDeterministic(why) => return End::NotReproduced { stale: true, why },
            end => end,
        },
        Task::Shrink {
            log: DecisionLog::Schedule(wanted),
            signature,
            smaller,
        } => {
            let inner = Arc::clone(host);
            let body = move || {
                inner.tick();
                body(&Cx::new(SEED, 0, 1))
            };
            let limit = host.time_for_work();
            let Some(shrunk) = explorer.examine(wanted, signature, limit, *smaller, body.clone())
            else {
                return End::no_longer_fails();
            };
            let (end, trace) = explorer.trace(&shrunk.schedule, body);
            let same = |failure: &Failure| failure.signature == *signature;
            if !matches!(&end, SearchEnd::Violated { failure, .. } if same(failure)) {
                return End::Failed {
                    what: format!("what shrinking left does not fail again: {end:?}"),
                };
            }
            let trace = trace.hash();
            return End::Shrunk { shrunk, trace };
        }
        Task::Follow {
            log: DecisionLog::Schedule(wanted),
        } => match explorer.follow(wanted, searched) {
            (SearchEnd::Complete, took) => {
                return End::Followed {
                    kept: wanted.kept_by(&took),
                    of: wanted.len(),
                };
            }
            (end, _) => end,
        },
        Task::Estimate { seed, probes } => {
            let estimate = explorer.probe(*probes, *seed, searched);
            return End::Estimated { estimate };
        }
        Task::Replay { .. }
        | Task::Campaign(_)
        | Task::Shrink { .. }
        | Task::Follow { .. }
        | Task::Capture { .. } => {
            return End::Failed {
                what: "the explorer follows a schedule, nothing else".to_owned(),
            };
        }
    };
    match end {
        SearchEnd::Complete => End::Complete {
            drawn: String::new(),
        },
        SearchEnd::BudgetEnded => End::Cut,
        SearchEnd::NotDeterministic(what) => End::Failed { what },
        SearchEnd::Violated { failure, schedule } => End::Violated {
            failure,
            log: Some(DecisionLog::Schedule(schedule)),
        },
    }
}

fn search(host: &Arc<Host>, explorer: &Explorer, spec: &UnitSpec, body: BodyFn) -> SearchEnd {
    let told = Arc::clone(host);
    let watch = Watch::by_host(move |outcome| told.observe(&Observation::of(outcome)));
    let watched = watch.clone();
    host.tell_log_by(move || watched.schedule().map(DecisionLog::Schedule));
    let may_escalate = explorer.preemptions.is_none();
    let explorer = Explorer {
        workers: spec.workers,
        max_time: match may_escalate {
            true => host.time_for_work() / 2,
            false => host.time_for_work(),
        },
        ..explorer.clone()
    };
    let inner = Arc::clone(host);
    let body = move || {
        inner.tick();
        body(&Cx::new(SEED, 0, 1))
    };
    let search = explorer.run_watched(&watch, body.clone());
    // Of several threads, some did more than counts in the end.
    let executions = search.executions + search.abandoned;
    host.set_executions(executions);
    if search.end != SearchEnd::BudgetEnded || !may_escalate {
        return search.end;
    }
    let mut escalation = Escalation {
        full: executions,
        bounds: Vec::new(),
    };
    let end = explorer.escalate_watched(&watch, host.time_for_work(), &mut escalation, body);
    host.set_escalation(escalation);
    end
}

fn replay(
    host: &Arc<Host>,
    explorer: &Explorer,
    wanted: &Schedule,
    body: impl Fn() -> Observation + 'static,
) -> SearchEnd {
    let schedule = Arc::new(Mutex::new(Schedule::default()));
    let told = Arc::clone(&schedule);
    host.tell_log_by(move || Some(DecisionLog::Schedule(lock(&told).clone())));
    explorer.replay_watched(wanted, schedule, true, body)
}
