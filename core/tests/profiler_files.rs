//! Profiled runs whose traces are files: what `tracing` brings into them, and what is told of them.
#![cfg(feature = "profiler")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test has real threads, and what fails here fails the test"
)]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use selvedge_core::train::profiler::{
    Args, Closed, OpenError, ProfilerConfig, ProfilerSession, RunError, Schedule, Spans, check,
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
