//! The file for trace viewers keeps to the rules of its format.
#![cfg(not(loom_run))]
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

mod traces;

use std::collections::BTreeMap;

use proptest::prelude::*;
use selvedge_sim::timeline;
use selvedge_sim::trace::{ObjectKind, Operation};
use serde_json::{Value, json};
use traces::arbitrary::{any_trace, words};

/// The rules of the Trace Event Format, as far as they concern what is written here. Returns
/// the events.
fn assert_trace_events(json: &str) -> Vec<Value> {
    let whole: Value = serde_json::from_str(json).unwrap();
    let events = whole["traceEvents"].as_array().unwrap().clone();
    let mut open = BTreeMap::new();
    let mut flows = BTreeMap::<u64, Vec<(String, f64)>>::new();
    let mut slices = BTreeMap::<(u64, u64), Vec<(f64, f64)>>::new();
    for event in &events {
        // Every event has a phase, a process, a thread, a time and a name.
        let ph = event["ph"].as_str().unwrap();
        let thread = (
            event["pid"].as_u64().unwrap(),
            event["tid"].as_u64().unwrap(),
        );
        let ts = event["ts"].as_f64().unwrap();
        assert!(ts >= 0.0 && event["name"].is_string(), "{event}");
        match ph {
            // A name is a name, and a place in the order is a number.
            "M" => {
                let args = &event["args"];
                assert!(
                    args["name"].is_string() || args["sort_index"].is_u64(),
                    "{event}"
                );
            }
            // A complete event lasts.
            "X" => {
                let dur = event["dur"].as_f64().unwrap();
                assert!(dur >= 0.0, "{event}");
                slices.entry(thread).or_default().push((ts, ts + dur));
            }
            // What begins ends, on the same thread.
            "B" => *open.entry(thread).or_insert(0) += 1,
            "E" => *open.entry(thread).or_insert(0) -= 1,
            // An instant says how far it reaches.
            "i" => assert!(
                ["t", "p", "g"].contains(&event["s"].as_str().unwrap()),
                "{event}"
            ),
            "s" | "f" => {
                let id = event["id"].as_u64().unwrap();
                flows.entry(id).or_default().push((ph.to_owned(), ts));
            }
            other => panic!("no phase {other} is written here: {event}"),
        }
    }
    assert!(open.values().all(|&left| left == 0), "{open:?}");
    for (id, ends) in flows {
        // A flow has one start and one end, in this order of time.
        let phases: Vec<&str> = ends.iter().map(|(ph, _)| ph.as_str()).collect();
        assert_eq!(phases, ["s", "f"], "flow {id}");
        assert!(ends[0].1 <= ends[1].1, "flow {id} leads back in time");
    }
    for event in &events {
        // Both ends of a flow lie within a slice of their thread, or viewers drop it.
        if event["ph"] == "s" || event["ph"] == "f" {
            let thread = (
                event["pid"].as_u64().unwrap(),
                event["tid"].as_u64().unwrap(),
            );
            let ts = event["ts"].as_f64().unwrap();
            let within = |&(from, to): &(f64, f64)| from <= ts && ts <= to;
            let note = slices
                .get(&thread)
                .is_none_or(|all| !all.iter().any(within));
            assert!(!note, "{event}");
        }
    }
    for (thread, mut all) in slices {
        // Slices of a thread nest or are apart.
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let mut outer: Vec<f64> = Vec::new();
        for (from, to) in all {
            while outer.last().is_some_and(|&end| end <= from) {
                outer.pop();
            }
            assert!(
                outer.last().is_none_or(|&end| to <= end),
                "{thread:?}: {from} to {to}"
            );
            outer.push(to);
        }
    }
    events
}

fn count(events: &[Value], key: &str, value: &str) -> usize {
    events.iter().filter(|event| event[key] == value).count()
}

#[test]
fn trace_viewers_get_slices_flows_and_instants() {
    let events = assert_trace_events(&timeline::perfetto(&traces::deadlock(), "abba-3"));
    assert_eq!(count(&events, "cat", "operation"), 9);
    assert_eq!(count(&events, "cat", "held"), 3);
    assert_eq!(count(&events, "cat", "waiting"), 4);
    assert_eq!(count(&events, "ph", "s"), 3);
    assert_eq!(
        count(&events, "name", "CRITICAL switch: 0.1 preempts 0.0"),
        1
    );
    let failure = events.iter().find(|event| event["s"] == "g").unwrap();
    assert_eq!(failure["name"], "FAILED: deadlock");
    let names = events.iter().filter(|event| event["name"] == "thread_name");
    let names: Vec<&str> = names
        .map(|event| event["args"]["name"].as_str().unwrap())
        .collect();
    let tasks = ["task 0", "task 0.0", "task 0.1", "task 0.2"];
    let locks = [
        "M1, mutex of Account",
        "M2, mutex of Account",
        "M3, mutex of Account",
    ];
    assert_eq!(names, [&tasks[..], &locks[..]].concat());
}

#[test]
fn flows_lead_from_what_lets_go_to_who_goes_on() {
    let events = assert_trace_events(&timeline::perfetto(&traces::everything(), "everything"));
    let flows = |name: &str| -> Vec<(f64, f64)> {
        let ends = |ph: &str| {
            let it = events.iter().filter(|e| e["ph"] == ph && e["name"] == name);
            it.map(|e| e["ts"].as_f64().unwrap().floor())
                .collect::<Vec<_>>()
        };
        ends("s").into_iter().zip(ends("f")).collect()
    };
    assert_eq!(flows("spawn"), [(0.0, 2.0), (1.0, 6.0)]);
    assert_eq!(flows("notify"), [(11.0, 13.0)]);
    assert_eq!(flows("unpark"), [(23.0, 24.0)]);
    assert_eq!(flows("join"), [(30.0, 32.0), (31.0, 33.0)]);
    // The two readers of R1 at the same time, each on a thread of its own.
    let readers = events
        .iter()
        .filter(|e| e["args"]["name"] == "R1, rwlock of Vec<u8>");
    assert_eq!(readers.count(), 2);
    let waiting: Vec<&str> = (events.iter())
        .filter(|e| e["cat"] == "waiting")
        .map(|e| e["name"].as_str().unwrap())
        .collect();
    let wanted = [
        "waits on C1",
        "waits to write-lock R1",
        "is parked",
        "waits to join 0.0",
    ];
    assert_eq!(waiting, wanted);
}

#[test]
fn readers_wait_for_writers_alone() {
    let mut b = traces::Builder::new("src/table.rs");
    let table = b.object(0, ObjectKind::RwLock, "Vec<u8>", 1);
    let other = b.spawn(0, 2);
    b.on(other, Operation::ReadLock, table, 3);
    b.on(other, Operation::ReadUnlock, table, 4);
    // Begun before the other reader came, done after it went.
    b.event(0, Operation::ReadLock, Some(table), 5, |e| e.since = 1);
    b.on(0, Operation::ReadUnlock, table, 6);
    b.on(0, Operation::WriteLock, table, 7);
    b.on(0, Operation::WriteUnlock, table, 8);
    b.event(other, Operation::ReadLock, Some(table), 9, |e| e.since = 3);
    let events = assert_trace_events(&timeline::perfetto(&b.trace, "a title"));
    let waits: Vec<&Value> = events.iter().filter(|e| e["cat"] == "waiting").collect();
    assert_eq!(waits.len(), 1, "{waits:?}");
    // From when the writer had it, not from when it was asked for.
    assert_eq!((&waits[0]["ts"], &waits[0]["dur"]), (&json!(5), &json!(2)));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn any_trace_keeps_to_the_format(trace in any_trace(), title in words()) {
        assert_trace_events(&timeline::perfetto(&trace, &title));
    }
}

#[test]
fn a_run_of_the_world_keeps_its_time() {
    use selvedge_sim::world::{World, WorldConfig};

    let mut stopped = 0;
    for seed in 0..30 {
        let config = WorldConfig {
            record: true,
            ..WorldConfig::swarm(seed)
        };
        let report = World::new(config).unwrap().run();
        let trace = report.trace();
        let events = assert_trace_events(&timeline::perfetto(&trace, "a world"));
        let of = |category: &'static str| events.iter().filter(move |it| it["cat"] == category);
        assert_eq!(of("event").count(), trace.events.len());
        let timed = trace.timed.as_ref().unwrap();
        // Of each fault a slice as long as its effect, with a microsecond for a unit.
        assert_eq!(of("fault").count(), timed.faults.len(), "seed {seed}");
        let longest = of("life")
            .map(|it| it["dur"].as_f64().unwrap())
            .fold(0.0, f64::max);
        let whole = report.virtual_time.as_secs_f64() * 1e6;
        assert!(
            longest > 0.02 * whole && longest <= whole + 1e-3,
            "{longest} of {whole}"
        );
        stopped += of("stopped").count();
        let names = events.iter().filter(|it| it["name"] == "thread_name");
        let names: Vec<&str> = names.filter_map(|it| it["args"]["name"].as_str()).collect();
        assert!(
            names.starts_with(&["world", "coordinator", "rank 0"]),
            "{names:?}"
        );
    }
    assert!(stopped > 0, "no process was ever stopped");
}
