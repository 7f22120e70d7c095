//! A failure's cause, in words, from the trace of its smallest execution.
//!
//! ```
//! use selvedge_sim::explain;
//! use selvedge_sim::trace::{Blocked, Operation, Site, Trace};
//!
//! let joins = |task, peer| Blocked {
//!     task,
//!     operation: Operation::Join,
//!     object: None,
//!     peer: Some(peer),
//!     site: Site::default(),
//!     since: 0,
//! };
//! let tasks = [0, 0].map(|child| selvedge_sim::TaskName { parent: 0, child }).to_vec();
//! let trace = Trace { tasks, blocked: vec![joins(0, 1), joins(1, 0)], ..Trace::default() };
//! assert!(explain::cause(&trace).ends_with("Each waits for the next: 0 -> 0.0 -> 0."));
//! ```

use crate::trace::{Event, Switch, Trace, waits};

/// What the failure needs: the critical switches, each with what it comes between; and who
/// waits for whom, where nobody can go on.
///
/// ```
/// use selvedge_sim::explain;
/// use selvedge_sim::trace::Trace;
///
/// assert_eq!(
///     explain::cause(&Trace::default()),
///     "It needs no particular order of steps."
/// );
/// ```
#[must_use]
pub fn cause(trace: &Trace) -> String {
    let critical: Vec<&Switch> = (trace.switches.iter())
        .filter(|switch| switch.critical == Some(true))
        .collect();
    let tried = trace
        .switches
        .iter()
        .any(|switch| switch.critical.is_some());
    let untried =
        (trace.switches.iter()).any(|switch| switch.preemption && switch.critical.is_none());
    let told = trace.events.iter().any(|event| event.step > 0);
    let mut lines = Vec::new();
    match (critical.len(), tried) {
        (0, _) if told && untried => {
            lines.push(
                "Which of its switches it needs is not known: not all were tried.".to_owned(),
            );
        }
        (0, true) => lines.push(
            "No single switch is needed: whichever is taken away, it fails in another way round."
                .to_owned(),
        ),
        // Loom does not tell its steps, and follows no other schedule than its own.
        (0, false) if !trace.events.is_empty() && trace.events.iter().all(|e| e.step == 0) => {
            lines.push("Which of its switches it needs, this engine cannot tell.".to_owned());
        }
        (0, false) => lines.push("It needs no particular order of steps.".to_owned()),
        (1, _) => lines.push("It needs one switch; without it, it does not fail:".to_owned()),
        (n, _) => lines.push(format!(
            "It needs {n} switches; without any one, it does not fail:"
        )),
    }
    for switch in critical {
        lines.push(format!("  * {}", words(trace, switch)));
    }
    if let Some(cycle) = waits::cycle(&waits::at_end(trace)) {
        let path: Vec<String> = cycle.iter().map(|&task| trace.task_path(task)).collect();
        lines.push(format!(
            "Each waits for the next: {} -> {}.",
            path.join(" -> "),
            path[0]
        ));
    }
    lines.join("\n")
}

/// Who takes over from whom, and between which two of their operations.
fn words(trace: &Trace, switch: &Switch) -> String {
    let at = (trace.events.iter()).position(|event| event.step >= switch.step);
    let Some((at, event)) = at.and_then(|at| Some((at, trace.events.get(at)?))) else {
        return format!("at step {}", switch.step);
    };
    let to = trace.task_path(event.task);
    let Some(before) = at.checked_sub(1).and_then(|last| trace.events.get(last)) else {
        return format!("{to} begins");
    };
    let from = trace.task_path(before.task);
    let how = match switch.preemption {
        true => "preempted",
        false => "which could not go on or gave way",
    };
    let mut lines = vec![
        format!("{to} takes over from {from}, {how}"),
        format!("after its {}", name(trace, before)),
    ];
    let after = (trace.events[at..].iter()).find(|event| event.task == before.task);
    if let Some(after) = after {
        lines.push(format!("before its {}", name(trace, after)));
    }
    lines.join("\n      ")
}

fn name(trace: &Trace, event: &Event) -> String {
    let object = event.object.map_or_else(String::new, |object| {
        format!(" {}", trace.object_name(object))
    });
    let site = match event.site.text() {
        site if site.is_empty() => String::new(),
        site => format!(" at {site}"),
    };
    format!("`{}{object}`{site}", event.operation.word())
}
