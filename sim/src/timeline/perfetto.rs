//! The timeline for trace viewers: JSON in the Trace Event Format.
//!
//! Two processes are drawn. In the first each task is a thread, with what it did and what it
//! waited for; in the second each lock is one, with who held it. Two locks may be released in
//! any order, and slices of one thread must nest: on a thread of their own they always do.
//!
//! An operation is a slice of one microsecond and no instant, because viewers tie the ends of a
//! flow to slices and drop a flow that ends on none. Switches and the failure are instants.
//!
//! A run of the world has time, so there it is the other way round: see `world`.

mod world;

use serde_json::{Map, Value, json};

use crate::trace::Event;

use super::scene::Scene;
use super::shape::clean;
use super::spans::{Span, SpanKind};

const TASKS: u32 = 1;
const LOCKS: u32 = 2;

pub(super) fn draw(scene: &Scene<'_>, title: &str) -> String {
    if let Some(timed) = &scene.trace.timed {
        return world::draw(scene, timed, title);
    }
    let mut events = names(scene, title);
    for (place, event) in scene.trace.events.iter().enumerate() {
        if let Some(turn) = scene.turns.get(&place) {
            let mark = match (turn.critical, turn.preemption) {
                (true, _) => "CRITICAL switch: ",
                (false, true) => "preemption: ",
                (false, false) => "",
            };
            let args = json!({"preemption": turn.preemption, "critical": turn.critical});
            let name = format!("{mark}{}", scene.turning(turn));
            let thread = thread(scene, event.task);
            events.push(instant("switch", &name, thread, place, args));
        }
        events.push(operation(scene, event, place));
    }
    for span in scene
        .spans
        .iter()
        .filter(|span| span.kind == SpanKind::Waiting)
    {
        let thread = thread(scene, span.task);
        events.push(slice(
            "waiting",
            &scene.lasting(span),
            (TASKS, thread),
            span,
        ));
    }
    events.extend(locks(scene));
    for (arrow, id) in scene.arrows.iter().zip(1_u64..) {
        let end = |ph: &str, place: usize| {
            let task = scene.trace.events.get(place).map_or(0, |event| event.task);
            json!({
                "ph": ph, "id": id, "cat": "flow", "name": arrow.kind.word(), "bp": "e",
                "pid": TASKS, "tid": thread(scene, task),
                // In the middle of the slice, so that there is no doubt which one is meant.
                "ts": place as f64 + 0.5,
            })
        };
        events.extend([end("s", arrow.from), end("f", arrow.to)]);
    }
    events.extend(failure(scene));
    let whole = json!({
        "displayTimeUnit": "ns",
        "otherData": {"title": title, "note": "one microsecond an event: order, not duration"},
        "traceEvents": events,
    });
    format!("{whole}\n")
}

/// Threads are numbered from 1: viewers take 0 for the idle one.
fn thread(scene: &Scene<'_>, task: u32) -> u32 {
    scene.lane(task) as u32 + 1
}

fn meta(what: &str, pid: u32, tid: u32, args: Value) -> Value {
    json!({"ph": "M", "name": what, "pid": pid, "tid": tid, "ts": 0, "args": args})
}

/// What processes and threads are called, and in which order they stand.
fn names(scene: &Scene<'_>, title: &str) -> Vec<Value> {
    let title = json!({"name": clean(title)});
    let mut names = vec![
        meta("process_name", TASKS, 0, title),
        meta("process_sort_index", TASKS, 0, json!({"sort_index": 1})),
    ];
    for (name, tid) in scene.lanes.iter().zip(1..) {
        let name = match scene.trace.is_of_world() {
            true => json!({"name": name}),
            false => json!({"name": format!("task {name}")}),
        };
        names.push(meta("thread_name", TASKS, tid, name));
        names.push(meta(
            "thread_sort_index",
            TASKS,
            tid,
            json!({"sort_index": tid}),
        ));
    }
    names
}

fn instant(cat: &str, name: &str, tid: u32, place: usize, args: Value) -> Value {
    json!({
        "ph": "i", "s": "t", "cat": cat, "name": name,
        "pid": TASKS, "tid": tid, "ts": place, "args": args,
    })
}

fn operation(scene: &Scene<'_>, event: &Event, place: usize) -> Value {
    let mut args = Map::new();
    let mut say = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            args.insert(name.to_owned(), Value::String(value));
        }
    };
    let object = |object| format!("{}, {}", scene.object(object), scene.object_kind(object));
    say("object", event.object.map(object));
    say("source", Some(clean(&event.site.text())));
    // As words: viewers read numbers as floating point, which holds 53 bits.
    say("read", event.read.map(|value| value.to_string()));
    say("wrote", event.wrote.map(|value| value.to_string()));
    say("stale", scene.remark(place));
    say("number", Some((place + 1).to_string()));
    let name = scene.phrase(event);
    let tid = thread(scene, event.task);
    json!({
        "ph": "X", "cat": "operation", "name": name,
        "pid": TASKS, "tid": tid, "ts": place, "dur": 1, "args": args,
    })
}

fn slice(cat: &str, name: &str, (pid, tid): (u32, u32), span: &Span) -> Value {
    // What never ends is drawn a little past the last event.
    let to = span.to + usize::from(span.open);
    json!({
        "ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid,
        "ts": span.from, "dur": to - span.from, "args": {"ends": !span.open},
    })
}

/// Who held which lock. Readers overlap, so a lock has as many threads as it had at once.
fn locks(scene: &Scene<'_>) -> Vec<Value> {
    let mut held: Vec<&Span> = (scene.spans.iter())
        .filter(|span| span.kind != SpanKind::Waiting)
        .collect();
    held.sort_by_key(|span| (span.object, span.from));
    // Each thread: which lock, and until when it is taken.
    let mut threads: Vec<(Option<u32>, usize)> = Vec::new();
    let mut events = Vec::new();
    for span in held {
        let until = if span.open { usize::MAX } else { span.to };
        let free =
            |&(object, taken): &(Option<u32>, usize)| object == span.object && taken <= span.from;
        let place = threads.iter().position(free).unwrap_or(threads.len());
        let tid = place as u32 + 1;
        if place == threads.len() {
            let object = span.object.unwrap_or(u32::MAX);
            let name = format!("{}, {}", scene.object(object), scene.object_kind(object));
            events.push(meta("thread_name", LOCKS, tid, json!({"name": name})));
            events.push(meta(
                "thread_sort_index",
                LOCKS,
                tid,
                json!({"sort_index": tid}),
            ));
            threads.push((span.object, until));
        } else {
            threads[place].1 = until;
        }
        let name = format!("held by {}", scene.task(span.task));
        events.push(slice("held", &name, (LOCKS, tid), span));
    }
    if !events.is_empty() {
        events.push(meta("process_name", LOCKS, 0, json!({"name": "locks"})));
        events.push(meta(
            "process_sort_index",
            LOCKS,
            0,
            json!({"sort_index": 2}),
        ));
    }
    events
}

/// The failure, across all threads.
fn failure(scene: &Scene<'_>) -> Option<Value> {
    let failure = scene.trace.failure.as_ref()?;
    let place = scene.failed_at.unwrap_or(scene.trace.events.len());
    Some(json!({
        "ph": "i", "s": "g", "cat": "failure", "name": format!("FAILED: {}", clean(&failure.signature)),
        "pid": TASKS, "tid": 1, "ts": place,
        "args": {"detail": failure.detail, "location": clean(&failure.location)},
    }))
}
