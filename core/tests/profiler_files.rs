//! Profiled runs whose traces are files: what `tracing` brings into them, what is checked, what
//! is repaired.
#![cfg(feature = "profiler")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test has real threads, and what fails here fails the test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use selvedge_core::train::profiler::{
    Args, Closed, OpenError, ProfilerConfig, ProfilerSession, RULES, RepairError, Repaired,
    RunError, Schedule, Spans, check, repair,
};
use serde_json::Value;
use tempfile::TempDir;
use tracing::{info, info_span, warn_span};
use tracing_subscriber::layer::SubscriberExt;

fn config(dir: &TempDir, spans: &Spans) -> ProfilerConfig {
    ProfilerConfig::new(dir.path().join("traces"))
        .schedule(Schedule::always())
        .spans(spans)
}

/// The events of the one trace.
#[track_caller]
fn events(dir: &TempDir, closed: &Closed) -> Vec<Value> {
    let [name] = &closed.traces[..] else {
        panic!("one trace: {closed:?}")
    };
    let bytes = fs::read(dir.path().join("traces").join(name)).unwrap();
    check(&bytes[..]).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event["name"] == name)
        .collect()
}

#[test]
fn spans_of_all_threads_are_in_the_trace_with_their_fields() {
    let (dir, spans) = (TempDir::new().unwrap(), Spans::new());
    // Beside a layer for which all spans are made, so that not making them is not what hides them.
    let both = tracing_subscriber::registry()
        .with(spans.layer())
        .with(Count::default());
    let dispatch = tracing::Dispatch::new(both);
    let unseen = tracing::dispatcher::with_default(&dispatch, || info_span!("before"));
    let profiled = ProfilerSession::run(config(&dir, &spans), |profiler| {
        let worker = dispatch.clone();
        let worker = std::thread::spawn(move || {
            tracing::dispatcher::with_default(&worker, || {
                let load = info_span!(
                    "load",
                    shard = 3,
                    path = "a\"b",
                    late = tracing::field::Empty
                );
                load.in_scope(|| info!(rows = 64, "loaded"));
                load.record("late", 1.5);
                load.in_scope(|| ());
            });
        });
        tracing::dispatcher::with_default(&dispatch, || {
            unseen.in_scope(|| ());
            let outer = info_span!("forward");
            let _outer = outer.enter();
            warn_span!("layer", n = -1).in_scope(|| ());
        });
        worker.join().unwrap();
        profiler.instant(
            "ApplyEpoch",
            Args::new().with("epoch", 7_u64).with("alpha", 0.25),
        );
        profiler.step().is_continue()
    });
    let profiled = profiled.unwrap();
    assert!(profiled.training);
    let closed = profiled.trace.unwrap();
    let events = events(&dir, &closed);

    let [first, second] = named(&events, "load")[..] else {
        panic!("{events:?}")
    };
    assert_eq!(first["args"].to_string(), r#"{"path":"a\"b","shard":3}"#);
    assert_eq!(second["args"]["late"], 1.5);
    assert_eq!(first["cat"], module_path!());
    let [loaded] = named(&events, "loaded")[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        (&loaded["ph"], &loaded["args"]["rows"]),
        (&"i".into(), &64.into())
    );
    let [forward] = named(&events, "forward")[..] else {
        panic!("{events:?}")
    };
    let [layer] = named(&events, "layer")[..] else {
        panic!("{events:?}")
    };
    assert_ne!(first["tid"], forward["tid"]);
    assert_eq!(layer["tid"], forward["tid"]);
    let ends = |event: &Value| event["ts"].as_f64().unwrap() + event["dur"].as_f64().unwrap();
    assert!(forward["ts"].as_f64() <= layer["ts"].as_f64() && ends(layer) <= ends(forward) + 0.001);
    assert_eq!(named(&events, "ApplyEpoch")[0]["args"]["alpha"], 0.25);
    assert!(
        named(&events, "before").is_empty(),
        "made while nobody recorded"
    );
    let counted = ["load", "loaded", "forward", "layer", "ApplyEpoch"];
    let counted: usize = counted.iter().map(|name| named(&events, name).len()).sum();
    assert_eq!(closed.written as usize, counted);
}

#[test]
fn a_span_that_nobody_records_is_switched_off_where_it_stands() {
    let (dir, spans) = (TempDir::new().unwrap(), Spans::new());
    let subscriber = tracing_subscriber::registry().with(spans.layer());
    tracing::subscriber::with_default(subscriber, || {
        let make = || info_span!("here");
        assert!(make().is_disabled());
        let schedule = Schedule::new(1, 1, 1, 1).unwrap();
        let config = config(&dir, &spans).schedule(schedule);
        let profiled = ProfilerSession::run(config, |profiler| {
            let on: Vec<bool> = (0..5)
                .map(|_| {
                    let on = !make().is_disabled();
                    assert!(profiler.step().is_continue());
                    on
                })
                .collect();
            assert_eq!(
                on,
                [false, true, true, false, false],
                "wait, warm up, record"
            );
        });
        assert!(profiled.unwrap().trace.is_ok());
        assert!(make().is_disabled());
    });
}

#[test]
fn a_field_that_is_recorded_again_has_its_last_value_once() {
    let (dir, first, second) = (TempDir::new().unwrap(), Spans::new(), Spans::new());
    // Two hubs on one registry: both are told of each field.
    let subscriber = tracing_subscriber::registry()
        .with(first.layer())
        .with(second.layer());
    let _present = tracing::subscriber::set_default(subscriber);
    let profiled = ProfilerSession::run(config(&dir, &first), |_| {
        let other = ProfilerConfig::new(dir.path().join("other"))
            .schedule(Schedule::always())
            .spans(&second);
        let other = ProfilerSession::run(other, |_| {
            let span = info_span!(
                "epoch",
                n = 3,
                loss = tracing::field::Empty,
                of = "\"loss\":"
            );
            for step in 0..20_000 {
                span.record("loss", step);
            }
            span.in_scope(|| ());
        });
        assert!(other.unwrap().trace.is_ok());
    });
    let events = events(&dir, &profiled.unwrap().trace.unwrap());
    let bytes = fs::read_dir(dir.path().join("traces")).unwrap().next();
    let text = fs::read_to_string(bytes.unwrap().unwrap().path()).unwrap();
    let [epoch] = named(&events, "epoch")[..] else {
        panic!("{events:?}")
    };
    assert_eq!(epoch["args"]["loss"], 19_999);
    assert_eq!(
        (&epoch["args"]["n"], &epoch["args"]["of"]),
        (&3.into(), &"\"loss\":".into())
    );
    assert_eq!(text.matches(",\"loss\":").count(), 1, "{text}");
}

/// Its `Debug` is the user's code, and may panic.
struct Panics;

impl std::fmt::Debug for Panics {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::panic::resume_unwind(Box::new("planned"))
    }
}

/// Within a span, which is left while that is unwound: were a lock held, that would be the end.
#[test]
fn a_value_that_panics_is_the_users_panic_and_no_more() {
    let (dir, spans) = (TempDir::new().unwrap(), Spans::new());
    let subscriber = tracing_subscriber::registry().with(spans.layer());
    let _present = tracing::subscriber::set_default(subscriber);
    let profiled = ProfilerSession::run(config(&dir, &spans), |_| {
        let span = info_span!("epoch", loss = tracing::field::Empty);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _inside = span.enter();
            span.record("loss", tracing::field::debug(Panics));
        }));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"planned"));
        span.record("loss", 1.5);
        span.in_scope(|| ());
    });
    let events = events(&dir, &profiled.unwrap().trace.unwrap());
    let [first, second] = named(&events, "epoch")[..] else {
        panic!("{events:?}")
    };
    assert_eq!(first["args"]["loss"], Value::Null);
    assert_eq!(second["args"]["loss"], 1.5);
}

#[test]
fn only_the_levels_and_targets_that_are_wanted_are_in_the_trace() {
    let wanted = || "info,mine=trace,noisy=off".parse().unwrap();
    let all = ["debug", "info", "mine", "noisy", "trace"];
    let cases: [(Spans, &[&str]); 4] = [
        (Spans::new(), &all),
        (
            Spans::new().up_to(tracing::Level::DEBUG),
            &["debug", "info", "noisy"],
        ),
        (Spans::new().up_to(tracing::Level::ERROR), &[]),
        (Spans::new().only(wanted()), &["info", "mine"]),
    ];
    for (spans, expected) in cases {
        let dir = TempDir::new().unwrap();
        let subscriber = tracing_subscriber::registry()
            .with(spans.layer())
            .with(Count::default());
        let _present = tracing::subscriber::set_default(subscriber);
        let profiled = ProfilerSession::run(config(&dir, &spans), |_| {
            tracing::trace!("trace");
            tracing::trace!(target: "mine::deep", "mine");
            tracing::debug_span!("debug").in_scope(|| ());
            info!("info");
            tracing::warn!(target: "noisy", "noisy");
        });
        let events = events(&dir, &profiled.unwrap().trace.unwrap());
        let mut found: Vec<&str> = (events.iter())
            .filter(|event| event["ph"] != "M")
            .map(|event| event["name"].as_str().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected);
    }
}

/// A layer that wants everything, at any time.
#[derive(Clone, Default)]
struct Count(Arc<AtomicU32>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Count {
    fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Our filter is our layer's alone.
#[test]
fn other_layers_get_what_they_want() {
    let (spans, count) = (Spans::new(), Count::default());
    let subscriber = tracing_subscriber::registry()
        .with(spans.layer())
        .with(count.clone());
    tracing::subscriber::with_default(subscriber, || info!("for the log"));
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
}

#[test]
fn nested_sessions_each_have_the_spans_and_close_whatever_the_other_does() {
    let (outer_dir, inner_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let spans = Spans::new();
    let subscriber = tracing_subscriber::registry().with(spans.layer());
    let _present = tracing::subscriber::set_default(subscriber);
    let outcome = ProfilerSession::run(config(&outer_dir, &spans), |_| {
        info_span!("setup").in_scope(|| ());
        let inner = ProfilerSession::run(config(&inner_dir, &spans), |_| {
            info_span!("phase").in_scope(|| ());
            Err::<(), _>("NaN")
        });
        let inner = inner.unwrap();
        let closed = inner.trace.unwrap();
        assert_eq!(named(&events(&inner_dir, &closed), "phase").len(), 1);
        assert!(named(&events(&inner_dir, &closed), "setup").is_empty());
        info_span!("after").in_scope(|| ());
        inner.training
    });
    let outcome = outcome.unwrap();
    assert_eq!(outcome.training, Err("NaN"));
    let events = events(&outer_dir, &outcome.trace.unwrap());
    for name in ["setup", "phase", "after"] {
        assert_eq!(named(&events, name).len(), 1, "{name}");
    }
}

#[test]
fn a_profiler_that_is_off_makes_nothing() {
    let profiled = ProfilerSession::run(ProfilerConfig::off(), |profiler| {
        assert!(!profiler.is_recording() && profiler.step().is_continue());
        profiler.instant("nowhere", Args::new());
        Ok::<_, ()>(5)
    });
    let (five, closed) = profiled.unwrap().into_result().unwrap();
    assert_eq!(five, 5);
    assert_eq!(closed, Closed::default());
    assert_eq!(closed.warning(), None);
}

#[test]
fn a_directory_that_cannot_be_is_told_before_the_training_begins() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for bad in [file.join("below"), file] {
        let ran = ProfilerSession::run(ProfilerConfig::new(&bad), |_| panic!("it has begun"));
        let error = ran.map(|profiled| profiled.training).unwrap_err();
        assert!(matches!(&error, OpenError::Directory { dir, .. } if *dir == bad));
        assert!(
            error.to_string().contains(&bad.display().to_string()),
            "{error}"
        );
    }
}

#[test]
fn the_trainings_error_comes_first_and_the_traces_beside_it() {
    let dir = TempDir::new().unwrap();
    let config = ProfilerConfig::new(dir.path()).schedule(Schedule::new(1, 0, 1, 1).unwrap());
    let profiled = ProfilerSession::run(config, |profiler| {
        // From here on no file can be made.
        fs::remove_dir_all(dir.path()).unwrap();
        let _ = profiler.step();
        profiler.instant("lost", Args::new());
        Err::<(), _>("out of memory")
    });
    let error = profiled.unwrap().into_result().unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("out of memory; besides, the profile is not complete: cannot make"),
        "{text}"
    );
    assert!(text.ends_with("1 events are lost"), "{text}");
    let RunError::Training { error, trace } = error else {
        panic!("{error:?}")
    };
    assert_eq!(error, "out of memory");
    assert_eq!(trace.unwrap_err().closed.lost, 1);
}

#[test]
fn a_training_that_was_cut_short_is_no_success() {
    let dir = TempDir::new().unwrap();
    let run = |asked: bool| {
        let config = ProfilerConfig::new(dir.path()).schedule(Schedule::always());
        let profiled = ProfilerSession::run(config, |profiler| {
            if asked {
                profiler.request_stop(15);
            }
            Ok::<_, &str>(profiler.step().is_break())
        });
        profiled.unwrap().into_result()
    };
    assert!(matches!(run(false), Ok((false, closed)) if closed.signal.is_none()));
    let error = run(true).unwrap_err();
    assert_eq!(error.to_string(), "interrupted by signal 15");
    assert!(matches!(
        error,
        RunError::Interrupted { signal: 15, trained: true, closed } if closed.signal == Some(15)
    ));
}

/// The system's own word for a full disk: what the trace is written to has room for nothing.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_the_system_calls_full_is_told_as_one() {
    use selvedge_core::time::SystemClock;
    use selvedge_core::train::profiler::{SessionConfig, SinkCall, TraceNaming, TraceSink};
    use std::io::Write;
    struct Full(fs::File);
    impl TraceSink for Full {
        fn create(&mut self, _: &str, _: &[u8]) -> std::io::Result<()> {
            Ok(())
        }
        fn write_at(&mut self, _: u64, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes)
        }
        fn truncate(&mut self, _: u64) -> std::io::Result<()> {
            Ok(())
        }
        fn close(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let naming = TraceNaming {
        host: "host".to_owned(),
        pid: 1,
        process: String::new(),
        origin_unix_ns: 0,
    };
    let config = SessionConfig {
        schedule: Schedule::always(),
        naming,
        queue_room: 10,
    };
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let session = ProfilerSession::<selvedge_core::Std, _>::open(
        config,
        Full(full),
        Box::new(SystemClock::new()),
    );
    session.profiler().instant("lost", Args::new());
    let error = session.close().unwrap_err();
    assert_eq!(error.first.call, SinkCall::Write);
    assert_eq!(error.first.kind, std::io::ErrorKind::StorageFull, "{error}");
    assert_eq!((error.closed.lost, error.closed.written), (1, 0));
}

#[test]
fn two_traces_of_one_name_are_two_or_an_error_but_never_one() {
    use selvedge_core::train::profiler::{FileSink, TraceSink};
    let dir = TempDir::new().unwrap();
    let mut sink = FileSink::new(dir.path());
    sink.create("a", b"first").unwrap();
    let again = FileSink::new(dir.path())
        .create("a", b"second")
        .unwrap_err();
    assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"first");
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing else is left there"
    );
}

const EVENTS: [&str; 3] = [
    r#"{"name":"a","ph":"X","ts":1,"dur":2,"pid":1,"tid":1,"args":{"text":"]},{\\\"["}}"#,
    r#"{"name":"ä","ph":"i","s":"t","ts":1.5,"pid":1,"tid":1,"args":{"deep":[[{"x":[]}]]}}"#,
    r#"{"name":"c","ph":"C","ts":2,"pid":1,"args":{"n":1}}"#,
];

/// What a flush writes over the end of a trace that has `before` events.
fn torn_at(before: usize, cut: usize) -> Vec<u8> {
    let mut file = format!("[\n{}\n]", EVENTS[..before].join(",\n")).into_bytes();
    let flush = format!(",\n{}\n]", EVENTS[before..].join(",\n")).into_bytes();
    let tail = file.len() - 2;
    let cut = cut.min(flush.len());
    file.resize(file.len().max(tail + cut), 0);
    file[tail..tail + cut].copy_from_slice(&flush[..cut]);
    file
}

/// A write is cut off at each byte, as SIGKILL or a power cut may: what was flushed before stays.
#[test]
fn a_write_that_is_cut_off_at_any_byte_can_be_repaired() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("torn.trace.json");
    let (mut repaired, mut valid, mut kept) = (0, 0, BTreeSet::new());
    for before in 1..=2 {
        for cut in 0..=(EVENTS.join(",\n").len() + 4) {
            let file = torn_at(before, cut);
            fs::write(&path, &file).unwrap();
            let was_json = serde_json::from_slice::<Value>(&file).is_ok();
            let events = match repair(&path, None).unwrap() {
                Repaired::Valid { events } => {
                    assert!(was_json, "{cut}");
                    assert_eq!(fs::read(&path).unwrap(), file, "it was not touched");
                    valid += 1;
                    events
                }
                Repaired::Closed {
                    events,
                    dropped,
                    skipped,
                    original,
                    ..
                } => {
                    assert!(!was_json && skipped == 0, "{cut}");
                    let original = original.unwrap();
                    assert_eq!(original, dir.path().join("torn.trace.json.orig"));
                    assert_eq!(fs::read(&original).unwrap(), file, "it is kept");
                    fs::remove_file(original).unwrap();
                    let now = fs::read(&path).unwrap();
                    assert_eq!(now.len() as u64 + dropped, file.len() as u64 + 2);
                    repaired += 1;
                    events
                }
            };
            let now: Vec<Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let whole: Vec<Value> = EVENTS
                .iter()
                .map(|event| serde_json::from_str(event).unwrap())
                .collect();
            assert!(now.len() >= before && now[..] == whole[..now.len()]);
            assert_eq!(now.len() as u64, events);
            kept.insert(events);
            check(&fs::read(&path).unwrap()[..]).unwrap();
        }
    }
    assert!(repaired > 150 && valid > 3, "{repaired} {valid}");
    assert_eq!(kept, BTreeSet::from([1, 2, 3]));
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
}

#[test]
fn what_a_power_cut_leaves_is_repaired_too() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("t");
    let whole = format!("[\n{}", EVENTS.join(",\n"));
    let cases: [(Vec<u8>, u64); 7] = [
        (b"".to_vec(), 0),
        (b"[".to_vec(), 0),
        (b"[\n{\"name\":\"a".to_vec(), 0),
        ([whole.as_bytes(), &[0; 5_000][..]].concat(), 3),
        ([whole.as_bytes(), b",\n]"].concat(), 3),
        ([whole.as_bytes(), b"\n]\n]"].concat(), 3),
        ([whole.as_bytes(), b",\n\xff\xfe{}]"].concat(), 3),
    ];
    for (file, kept) in cases {
        fs::write(&path, &file).unwrap();
        let _ = fs::remove_file(dir.path().join("t.orig"));
        let done = repair(&path, None).unwrap();
        assert!(
            matches!(done, Repaired::Closed { events, .. } if events == kept),
            "{done:?}"
        );
        assert_eq!(check(&fs::read(&path).unwrap()[..]).unwrap().events, kept);
    }
}

/// Elements that are no JSON, and end where one does: only they are left out.
#[test]
fn an_element_that_is_no_json_costs_no_other() {
    let dir = TempDir::new().unwrap();
    let (path, original) = (dir.path().join("t"), dir.path().join("t.orig"));
    let nan = r#"{"name":"b","ph":"i","ts":1,"pid":1,"tid":1,"args":{"loss":NaN}}"#;
    let deep = format!(
        r#"{{"name":"b","ph":"i","ts":1,"pid":1,"tid":1,"args":{{"a":{}{}}}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    let [a, b, c] = EVENTS;
    let cases: [(&[&str], u64, u64); 7] = [
        (&[a, nan, b, c], 3, 1),
        (&[nan, a, b], 2, 1),
        (&[a, nan], 1, 1),
        (&[nan, nan, a, nan, &deep, nan, b], 2, 5),
        (&[a, &deep, b], 2, 1),
        (&[a, r#"{"name":"\xff","ph":"i",}"#, b, r#"{,}{"#, c], 2, 2),
        (&[a, b, nan, r#"{"name":"to"#], 2, 1),
    ];
    for (elements, kept, left_out) in cases {
        let torn = elements.last().is_some_and(|last| !last.ends_with('}'));
        let ends = if torn { "" } else { "\n]" };
        let text = format!("[\n{}{ends}", elements.join(",\n"));
        fs::write(&path, &text).unwrap();
        let out = dir.path().join("out");
        let aside = repair(&path, Some(&out)).unwrap();
        let Repaired::Closed {
            events,
            skipped,
            original: None,
            dropped,
            ..
        } = aside
        else {
            panic!("{aside:?}")
        };
        assert_eq!((events, skipped), (kept, left_out), "{text}");
        let repaired = fs::read(&out).unwrap();
        assert_eq!(check(&repaired[..]).unwrap().events, kept, "{text}");
        assert!(dropped > 0);
        for event in EVENTS {
            let there = elements.contains(&event) && !elements.contains(&"{,}{");
            let held = String::from_utf8_lossy(&repaired).contains(event);
            assert!(!there || held, "{event} of {text}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        if elements.contains(&"{,}{") {
            // Nobody knows where that one ends.
            let refused = repair(&path, None).unwrap_err();
            assert!(
                matches!(refused, RepairError::EventsAfter { .. }) && !original.exists(),
                "{refused}"
            );
            assert!(refused.to_string().contains("--out"), "{refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            continue;
        }
        let done = repair(&path, None).unwrap();
        assert!(matches!(done, Repaired::Closed { original: Some(at), .. } if at == original));
        assert_eq!(fs::read(&path).unwrap(), repaired);
        assert_eq!(fs::read_to_string(&original).unwrap(), text);
        fs::remove_file(&original).unwrap();
    }
    // None of it is an event.
    fs::write(&path, format!("[{nan}]")).unwrap();
    assert!(matches!(
        repair(&path, None).unwrap_err(),
        RepairError::NotATrace { .. }
    ));
}

#[test]
fn events_after_a_fault_are_not_thrown_away_in_place() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("t");
    let [a, b, c] = EVENTS;
    for text in [
        format!("[{a}{b},{c}]"),
        format!("[{a},{b}],{c}]"),
        format!("[{a},,{b},{c}]"),
        format!("[{a},5,{c}]"),
        format!("[{a},\n{{\"name\":\"to\0\0\0,\n{b},\n{c}\n]"),
    ] {
        fs::write(&path, &text).unwrap();
        let refused = repair(&path, None).unwrap_err();
        assert!(
            matches!(refused, RepairError::EventsAfter { .. }),
            "{text}: {refused}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        // By another name it is the same file.
        let same = dir.path().join(".").join("t");
        assert!(repair(&path, Some(&same)).is_err(), "{text}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let done = repair(&path, Some(&dir.path().join("out"))).unwrap();
        assert!(matches!(done, Repaired::Closed { events: 1 | 2, .. }));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// What an earlier repair has kept is not overwritten.
#[test]
fn what_was_kept_is_kept() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("t");
    let torn = format!("[\n{},\n{{", EVENTS[0]);
    fs::write(&path, &torn).unwrap();
    fs::write(dir.path().join("t.orig"), "kept").unwrap();
    let error = repair(&path, None).unwrap_err().to_string();
    assert!(
        error.contains("cannot keep what was there as") && error.contains("t.orig"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), torn);
    assert_eq!(
        fs::read_to_string(dir.path().join("t.orig")).unwrap(),
        "kept"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// As torch writes it, and Perfetto opens it.
#[test]
fn the_array_may_be_a_member_of_an_object() {
    let a = EVENTS[0];
    for good in [
        format!(r#"{{"traceEvents":[{a}]}}"#),
        format!(r#" {{ "x" : 1 , "traceEvents" : [ {a} , {a} ] , "y" : {{"z":[1,"]}}"]}} }} "#),
        r#"{"deviceProperties":[{"id":0}],"s":"a\"b","n":-1.5e3,"b":true,"traceEvents":[],"e":null}"#
            .to_owned(),
    ] {
        let checked = check(good.as_bytes()).unwrap_or_else(|fault| panic!("{good}: {fault}"));
        assert_eq!(checked.events as usize, good.matches("\"ph\"").count());
    }
    for (bad, why) in [
        (format!(r#"{{"traceEvents":[{a}]"#), "the file ends"),
        (format!(r#"{{"traceEvents":[{a}]}}}}"#), "something follows"),
        (format!(r#"{{"traceEvents":[{a},]}}"#), "a comma before"),
        (format!(r#"{{"traceEvents":[{a}],}}"#), "its name"),
        (format!(r#"{{"traceEvents":[{a}],"x":NaN}}"#), "around"),
        (format!(r#"{{"traceEvents":[{a}],"x" 1}}"#), "no ':'"),
        (format!(r#"{{"traceEvents":[{a}]"x":1}}"#), "neither ','"),
        (r#"{"traceEvents":[],"traceEvents":[]}"#.to_owned(), "twice"),
        (r#"{"traceEvents":5}"#.to_owned(), "no object with"),
        (r#"{"x":1,"y":["#.to_owned(), "the file ends"),
        (r#"{"x"#.to_owned(), "the file ends"),
        (r#"{"traceEvents":[{"ph":"Q"}]}"#.to_owned(), "unknown 'ph'"),
    ] {
        let fault = check(bad.as_bytes()).unwrap_err().to_string();
        assert!(fault.contains(why), "{bad}: {fault}");
    }
}

#[test]
fn what_is_no_trace_is_refused_and_stays_as_it_is() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("t");
    let cases = [
        ("hello", "does not begin with '['"),
        (r#"{"traceEvents":[]}"#, "does not begin with '['"),
        ("[1, 2, 3", "no JSON object"),
        (r#"[{"a": 1}, {"#, "no 'ph'"),
        ("[[]", "no JSON object"),
    ];
    for (text, why) in cases {
        fs::write(&path, text).unwrap();
        let error = repair(&path, None).unwrap_err();
        assert!(matches!(error, RepairError::NotATrace { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    let missing = repair(&dir.path().join("none"), None).unwrap_err();
    assert!(missing.to_string().contains("cannot find"), "{missing}");
    assert!(
        repair(dir.path(), None)
            .unwrap_err()
            .to_string()
            .contains("no file")
    );
}

#[test]
fn a_repaired_trace_may_go_elsewhere_and_a_link_stays_one() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    let torn = format!("[\n{},\n{{", EVENTS[0]);
    fs::write(at("torn"), &torn).unwrap();
    let done = repair(&at("torn"), Some(&at("out"))).unwrap();
    assert!(matches!(done, Repaired::Closed { events: 1, .. }));
    assert_eq!(fs::read_to_string(at("torn")).unwrap(), torn);
    assert_eq!(
        fs::read_to_string(at("out")).unwrap(),
        format!("[\n{}\n]", EVENTS[0])
    );

    let again = repair(&at("out"), Some(&at("copy"))).unwrap();
    assert_eq!(again, Repaired::Valid { events: 1 });
    assert_eq!(fs::read(at("copy")).unwrap(), fs::read(at("out")).unwrap());

    std::os::unix::fs::symlink(at("torn"), at("link")).unwrap();
    repair(&at("link"), None).unwrap();
    assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
    assert!(check(&fs::read(at("torn")).unwrap()[..]).is_ok());
}

/// Each of the rules, broken.
#[test]
fn what_perfetto_would_not_take_is_told_by_place_and_rule() {
    let a = EVENTS[0];
    let cases = [
        ("", "it is empty"),
        ("{}", "does not begin"),
        (&format!("[{a}"), "the file ends before the array does"),
        (&format!("[{a},"), "the file ends before the array does"),
        (&format!("[{a},]"), "a comma before the array's end"),
        (&format!("[{a}{a}]"), "neither ',' nor ']'"),
        (&format!("[{a}]]"), "something follows"),
        (&format!("[,{a}]"), "it begins with ','"),
        ("[5]", "no JSON object"),
        (r#"[{"name":1,}]"#, "no JSON object"),
        (
            r#"[{"name":"a","pid":1,"tid":1,"ts":1}]"#,
            "'ph' \"(none)\"",
        ),
        (
            r#"[{"name":"a","ph":"XX","pid":1,"tid":1,"ts":1}]"#,
            "not one letter",
        ),
        (
            r#"[{"name":"a","ph":"Q","pid":1,"tid":1,"ts":1}]"#,
            "unknown 'ph' 'Q'",
        ),
        (r#"[{"name":"a","ph":"B","tid":1,"ts":1}]"#, "'pid' (none)"),
        (r#"[{"name":"a","ph":"B","pid":1,"ts":1}]"#, "'tid' (none)"),
        (
            r#"[{"name":"a","ph":"B","pid":1,"tid":1.5,"ts":1}]"#,
            "'tid' 1.5",
        ),
        (r#"[{"ph":"B","pid":1,"tid":1,"ts":1}]"#, "'name' (none)"),
        (
            r#"[{"name":"a","ph":"B","pid":1,"tid":1,"ts":"soon"}]"#,
            "'ts' \"soon\"",
        ),
        (
            r#"[{"name":"a","ph":"X","pid":1,"tid":1,"ts":1}]"#,
            "'dur' (none)",
        ),
        (
            r#"[{"name":"a","ph":"X","pid":1,"tid":1,"ts":1,"dur":-1}]"#,
            "'dur' -1",
        ),
        (
            r#"[{"name":"a","ph":"i","s":"x","pid":1,"tid":1,"ts":1}]"#,
            "'s' \"x\"",
        ),
        (
            r#"[{"name":"a","ph":"B","pid":1,"tid":1,"ts":1,"args":[]}]"#,
            "'args' []",
        ),
        (
            r#"[{"name":"a","ph":"C","pid":1,"ts":1,"args":{"n":"many"}}]"#,
            "numbers by name",
        ),
        (
            r#"[{"name":"a","ph":"b","pid":1,"tid":1,"ts":1}]"#,
            "'id' (none)",
        ),
    ];
    for (text, why) in cases {
        let fault = check(text.as_bytes()).unwrap_err();
        assert!(fault.to_string().contains(why), "{text}: {fault}");
    }
    for good in [
        "[]",
        " [ ] \n",
        r#"[{"ph":"E","pid":"p","tid":"t","ts":"1.5"}]"#,
    ] {
        check(good.as_bytes()).unwrap();
    }
    // In the order of the rules, what is told where one is broken.
    const TOLD: [&str; 11] = [
        "a comma before the array's end",
        "no JSON object",
        "unknown 'ph'",
        "'pid'",
        "'tid'",
        "'name'",
        "'ts'",
        "'dur'",
        "'s' ",
        "'args' []",
        "'id'",
    ];
    assert_eq!(RULES.len(), TOLD.len(), "each has its words");
    for (rule, told) in RULES.iter().zip(TOLD) {
        let key = told.split('\'').nth(1).filter(|_| told.starts_with('\''));
        assert!(
            key.is_none_or(|key| rule.contains(&format!("'{key}'"))),
            "{rule}"
        );
        assert!(cases.iter().any(|(_, why)| why.contains(told)), "{rule}");
    }
}

#[test]
fn a_long_trace_is_read_event_by_event() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("long");
    let many = vec![EVENTS[0]; 20_000].join(",\n");
    fs::write(&path, format!("[\n{many},\n{{\"tor")).unwrap();
    let done = repair(&path, None).unwrap();
    assert!(
        matches!(done, Repaired::Closed { events: 20_000, .. }),
        "{done:?}"
    );
    assert_eq!(count(&path), 20_000);
}

fn count(path: &Path) -> u64 {
    check(fs::read(path).unwrap().as_slice()).unwrap().events
}
