//! A run of the world for trace viewers, in its own time: what happened are instants, and what
//! lasted are slices.
//!
//! A place is a thread, with its lives and, within them, when it was stopped. Faults overlap as
//! they like and slices of one thread must nest, so in a second process each has the first thread
//! that is free.

use serde_json::{Value, json};

use crate::timeline::scene::{Scene, seconds};
use crate::timeline::shape::clean;
use crate::trace::{Lasting, LastingKind, Operation, Timed};

use super::{TASKS, meta, names, thread};

/// The process of what goes wrong.
const FAULTS: u32 = 2;

pub(super) fn draw(scene: &Scene<'_>, timed: &Timed, title: &str) -> String {
    let mut events = names(scene, title);
    for it in timed
        .lasting
        .iter()
        .filter(|it| it.kind != LastingKind::Fault)
    {
        events.push(slice(it, TASKS, thread(scene, it.task), json!({})));
    }
    for (place, event) in scene.trace.events.iter().enumerate() {
        let at = timed.at.get(place).copied().unwrap_or(0);
        let (scope, category, name) = match event.operation {
            Operation::Fail => ("g", "failure", format!("FAILED: {}", clean(&event.text))),
            _ => ("t", "event", scene.phrase(event)),
        };
        let mut args = json!({"at": seconds(at), "number": (place + 1).to_string()});
        if let (Operation::Fail, Some(failure)) = (event.operation, &scene.trace.failure) {
            args["detail"] = Value::String(failure.detail.clone());
        }
        events.push(json!({
            "ph": "i", "s": scope, "cat": category, "name": name,
            "pid": TASKS, "tid": thread(scene, event.task), "ts": micros(at), "args": args,
        }));
    }
    events.extend(faults(scene, timed));
    let whole = json!({
        "displayTimeUnit": "ms",
        "otherData": {"title": title, "note": "virtual time, from the beginning of the run"},
        "traceEvents": events,
    });
    format!("{whole}\n")
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

fn slice(it: &Lasting, pid: u32, tid: u32, more: Value) -> Value {
    let mut args = json!({"ends": !it.open, "from": seconds(it.from)});
    if let (Value::Object(args), Value::Object(more)) = (&mut args, more) {
        args.extend(more);
    }
    // Who dies while it is stopped ends both at once. Viewers add up times in floating point, so
    // the inner one ends a nanosecond earlier, or it might not lie within.
    let inner = u64::from(it.kind == LastingKind::Stopped);
    let lasts = it.to.saturating_sub(it.from).saturating_sub(inner);
    json!({
        "ph": "X", "cat": it.kind.word(), "name": clean(&it.text), "pid": pid, "tid": tid,
        "ts": micros(it.from), "dur": micros(lasts), "args": args,
    })
}

/// Each fault on the first thread that is free, marked where the failure needs it.
fn faults(scene: &Scene<'_>, timed: &Timed) -> Vec<Value> {
    let mut lasting: Vec<&Lasting> = (timed.lasting.iter())
        .filter(|it| it.kind == LastingKind::Fault)
        .collect();
    if lasting.is_empty() {
        return Vec::new();
    }
    lasting.sort_by_key(|it| it.from);
    let process = json!({"name": "faults"});
    let mut events = vec![
        meta("process_name", FAULTS, 0, process),
        meta("process_sort_index", FAULTS, 0, json!({"sort_index": 0})),
    ];
    // Until when each thread is taken.
    let mut threads: Vec<u64> = Vec::new();
    for it in lasting {
        let place = (threads.iter().position(|&until| until < it.from)).unwrap_or(threads.len());
        let tid = place as u32 + 1;
        if place == threads.len() {
            threads.push(it.to);
            let name = json!({"name": format!("fault lane {tid}")});
            events.push(meta("thread_name", FAULTS, tid, name));
        }
        threads[place] = it.to;
        let critical = timed.faults.iter().find(|mark| {
            let event = scene.trace.events.get(mark.event as usize);
            event.is_some_and(|event| event.text == it.text)
        });
        let critical = critical.and_then(|mark| mark.critical);
        events.push(slice(it, FAULTS, tid, json!({"critical": critical})));
    }
    events
}
