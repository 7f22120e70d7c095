//! Sessions on a disk that fails in every way, and what they tell of it.
#![cfg(feature = "profiler")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test has real threads, and what fails here fails the test"
)]

#[path = "profiler/disk.rs"]
mod disk;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock};

use disk::{Disk, Faults, event, names, open};
use selvedge_core::Std;
use selvedge_core::train::profiler::{
    CloseError, Closed, Profiler, ProfilerSession, Schedule, SinkCall, TraceSink, check,
};

fn schedule(wait: u32, warmup: u32, active: u32, repeat: u32) -> Schedule {
    Schedule::new(wait, warmup, active, repeat).unwrap()
}

/// Four steps of two events each; then one more event, and the end.
fn script(session: ProfilerSession<Std, impl TraceSink>) -> Result<Closed, CloseError> {
    let profiler = session.profiler();
    for step in 0..4 {
        profiler.record(event(&format!("{step}a")));
        profiler.record(event(&format!("{step}b")));
        assert!(profiler.step().is_continue());
    }
    profiler.record(event("last"));
    session.close()
}

#[test]
fn a_trace_is_what_was_recorded_in_the_active_steps() {
    let cases: [(_, &[&[&str]]); 5] = [
        (schedule(1, 1, 1, 1), &[&["2a", "2b"]]),
        (
            schedule(0, 0, 2, 0),
            &[
                &["0a", "0b", "1a", "1b"],
                &["2a", "2b", "3a", "3b"],
                &["last"],
            ],
        ),
        (schedule(1, 1, 3, 1), &[&["2a", "2b", "3a", "3b", "last"]]),
        // It ends in warm-up, and before anything.
        (schedule(2, 3, 1, 1), &[]),
        (schedule(9, 0, 1, 1), &[]),
    ];
    for (schedule, expected) in cases {
        let disk = Disk::default();
        let closed = script(open(&disk, schedule, 100)).unwrap();
        assert_eq!(disk.names(), expected, "{schedule:?}");
        assert_eq!(closed.traces.len(), expected.len());
        assert_eq!(
            closed.written,
            expected.iter().map(|names| names.len() as u64).sum::<u64>()
        );
        assert_eq!((closed.steps, closed.dropped, closed.lost), (4, 0, 0));
        let warned = closed
            .warning()
            .is_some_and(|text| text.starts_with("no trace"));
        assert_eq!(warned, expected.is_empty(), "{closed:?}");
        for bytes in disk.0.lock().unwrap().files.values() {
            check(&bytes[..]).unwrap();
        }
    }
}

#[test]
fn steps_are_in_the_trace_with_their_times() {
    let disk = Disk::default();
    let _ = script(open(&disk, schedule(1, 1, 1, 1), 100)).unwrap();
    let inside = disk.0.lock().unwrap();
    let (name, bytes) = inside.files.first_key_value().unwrap();
    let parsed: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let step = parsed
        .as_array()
        .unwrap()
        .iter()
        .find(|e| e["name"] == "ProfilerStep#2");
    let step = step.unwrap();
    assert_eq!((&step["ph"], &step["pid"]), (&"X".into(), &7.into()));
    assert!(step["dur"].as_f64().unwrap() > 0.0);
    let began = step["ts"].as_f64().unwrap() * 1_000.0;
    assert_eq!(
        *name,
        format!("host_7.{}.trace.json", 1_000_000_000 + began as u64)
    );
}

#[test]
fn a_full_queue_drops_the_newest_and_says_so_in_the_trace() {
    let disk = Disk::default();
    let session = open(&disk, schedule(0, 0, 1, 0), 3);
    let profiler = session.profiler();
    for n in 0..10 {
        profiler.record(event(&format!("{n}")));
    }
    let _ = profiler.step();
    profiler.record(event("next"));
    let closed = session.close().unwrap();
    assert_eq!((closed.written, closed.dropped), (4, 7));
    assert!(
        closed
            .warning()
            .unwrap()
            .starts_with("7 events found the queue full")
    );
    assert_eq!(disk.names(), [vec!["0", "1", "2"], vec!["next"]]);
    let inside = disk.0.lock().unwrap();
    let first: serde_json::Value =
        serde_json::from_slice(inside.files.first_key_value().unwrap().1).unwrap();
    let told = |name: &str| {
        let events = first.as_array().unwrap();
        events.iter().find(|e| e["name"] == name).unwrap()["args"]["dropped"].clone()
    };
    assert_eq!(
        (told("events dropped"), told("profiler_totals")),
        (7.into(), 7.into())
    );
}

#[test]
fn what_warms_up_is_thrown_away_and_not_counted() {
    let disk = Disk::default();
    let session = open(&disk, schedule(0, 1, 1, 1), 2);
    let profiler = session.profiler();
    for n in 0..10 {
        assert!(profiler.is_recording());
        profiler.record(event(&format!("{n}")));
    }
    let _ = profiler.step();
    profiler.record(event("real"));
    let _ = profiler.step();
    assert!(!profiler.is_recording());
    profiler.record(event("late"));
    let closed = session.close().unwrap();
    assert_eq!((closed.written, closed.dropped), (1, 0));
    assert_eq!(disk.names(), [["real"]]);
}

/// The disk is full at each byte of all that would be written.
#[test]
fn a_disk_that_is_full_at_any_byte_leaves_closed_arrays_and_is_told_of() {
    let whole = Disk::default();
    let all = script(open(&whole, schedule(0, 0, 2, 0), 100)).unwrap();
    let size: usize = whole.0.lock().unwrap().files.values().map(Vec::len).sum();
    assert!(size > 1_000);
    let mut kept = Vec::new();
    for room in 0..=size {
        let disk = Disk::with(Faults {
            room: Some(room),
            ..Faults::default()
        });
        let ended = script(open(&disk, schedule(0, 0, 2, 0), 100));
        let in_files: usize = disk.names().iter().map(Vec::len).sum();
        match ended {
            Ok(closed) => {
                assert_eq!(room, size, "{closed:?}");
                assert_eq!(closed, all);
            }
            Err(error) => {
                assert!(room < size);
                assert_eq!(error.first.kind, std::io::ErrorKind::StorageFull, "{error}");
                assert_eq!(error.closed.written, in_files as u64, "{error}");
                assert_eq!(error.closed.written + error.closed.lost, 9, "{error}");
                assert!(error.closed.torn.is_empty());
                assert_eq!(error.closed.steps, 4, "the training went on");
            }
        }
        kept.push(in_files);
        for bytes in disk.0.lock().unwrap().files.values() {
            check(&bytes[..]).unwrap();
        }
    }
    assert!(
        (0..=9).all(|n| n == 1 || n == 3 || n == 5 || n == 7 || kept.contains(&n)),
        "{kept:?}"
    );
}

#[test]
fn a_sink_that_panics_in_any_call_ends_nothing_but_itself() {
    let calls = {
        let disk = Disk::default();
        let _ = script(open(&disk, schedule(0, 0, 2, 0), 100)).unwrap();
        disk.0.lock().unwrap().calls
    };
    for at in 0..calls {
        let disk = Disk::with(Faults {
            panic_at: Some(at),
            ..Faults::default()
        });
        let error = script(open(&disk, schedule(0, 0, 2, 0), 100)).unwrap_err();
        assert!(
            error.first.text.contains("the sink panicked: planned"),
            "{error}"
        );
        assert_eq!(
            disk.0.lock().unwrap().calls,
            at + 1,
            "it is not called again"
        );
        assert_eq!(error.closed.written + error.closed.lost, 9);
        // Nothing of ours was cut off.
        let _ = disk.names();
    }
}

#[test]
fn an_error_of_close_comes_out_and_masks_nothing() {
    let faults = Faults {
        close: true,
        ..Faults::default()
    };
    let disk = Disk::with(faults);
    let session = open(&disk, Schedule::always(), 100);
    let driven = session.drive(|profiler| {
        profiler.record(event("a"));
        Err::<(), _>("the loss is NaN")
    });
    assert_eq!(driven.body.unwrap(), Err("the loss is NaN"));
    let error = driven.trace.unwrap_err();
    assert_eq!((error.first.call, error.failures), (SinkCall::Close, 1));
    assert!(
        error.to_string().contains("the disk did not take it"),
        "{error}"
    );
    assert_eq!(disk.names(), [["a"]], "and what could be written is there");
}

#[test]
fn a_panic_closes_and_goes_on() {
    let disk = Disk::with(Faults {
        close: true,
        ..Faults::default()
    });
    let session = open(&disk, Schedule::always(), 100);
    let driven = session.drive(|profiler| {
        profiler.record(event("a"));
        resume_unwind(Box::new("out of memory"))
    });
    let body: Result<(), _> = driven.body;
    let payload = body.unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"out of memory"));
    assert!(driven.trace.is_err());
    assert_eq!(disk.names(), [["a"]]);
}

#[test]
fn a_file_whose_end_cannot_be_put_back_is_told_and_left_alone() {
    let whole = Disk::default();
    let _ = script(open(&whole, Schedule::always(), 100)).unwrap();
    let size = whole.0.lock().unwrap().files.values().next().unwrap().len();
    let disk = Disk::with(Faults {
        room: Some(size / 2),
        truncate: true,
        ..Faults::default()
    });
    let error = script(open(&disk, Schedule::always(), 100)).unwrap_err();
    assert_eq!(error.closed.torn, error.closed.traces);
    assert_eq!(error.closed.torn.len(), 1);
    assert_eq!(
        error.failures, 2,
        "the write, and the restoring: nothing was tried after that"
    );
    assert_eq!(error.closed.written + error.closed.lost, 9);
}

/// Asks its own session's loop to leave, in the midst of what it is called for.
struct Asks {
    disk: Disk,
    signal: i32,
    profiler: Arc<OnceLock<Profiler<Std, Asks>>>,
}

impl TraceSink for Asks {
    fn create(&mut self, name: &str, head: &[u8]) -> io::Result<()> {
        self.disk.create(name, head)
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.disk.write_at(offset, bytes)
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.disk.truncate(len)
    }
    fn close(&mut self) -> io::Result<()> {
        self.profiler.get().unwrap().request_stop(self.signal);
        self.disk.close()
    }
}

#[test]
fn a_signal_that_comes_while_the_sink_closes_is_told() {
    for fails in [false, true] {
        let disk = Disk::with(Faults {
            close: fails,
            ..Faults::default()
        });
        let profiler = Arc::new(OnceLock::new());
        let sink = Asks {
            disk,
            signal: 15,
            profiler: Arc::clone(&profiler),
        };
        let config = disk::config(Schedule::always(), 10);
        let session =
            ProfilerSession::<Std, _>::open(config, sink, Box::new(disk::Ticking::default()));
        assert!(profiler.set(session.profiler()).is_ok());
        let closed = match session.close() {
            Ok(closed) => closed,
            Err(error) => *error.closed,
        };
        assert_eq!(closed.signal, Some(15), "{fails}");
    }
}

#[test]
fn any_number_asks_the_loop_to_leave() {
    for signal in [0, 15, -1, i32::MAX, i32::MIN] {
        let session = open(&Disk::default(), Schedule::always(), 10);
        let profiler = session.profiler();
        assert!(profiler.step().is_continue());
        profiler.request_stop(signal);
        profiler.request_stop(7);
        assert!(profiler.step().is_break(), "{signal}");
        assert_eq!(session.close().unwrap().signal, Some(signal));
    }
}

/// Takes a few bytes at a time, and is interrupted before each of them.
struct Sips {
    disk: Disk,
    interrupted: bool,
}

impl TraceSink for Sips {
    fn create(&mut self, name: &str, head: &[u8]) -> io::Result<()> {
        self.disk.create(name, head)
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.disk.write_at(offset, &bytes[..bytes.len().min(7)])
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.disk.truncate(len)
    }
    fn close(&mut self) -> io::Result<()> {
        self.disk.close()
    }
}

#[test]
fn a_write_that_ends_early_is_no_full_disk() {
    let (disk, whole) = (Disk::default(), Disk::default());
    let sink = Sips {
        disk: disk.clone(),
        interrupted: false,
    };
    let clock = Box::new(disk::Ticking::default());
    let config = disk::config(schedule(0, 0, 2, 0), 100);
    let session = ProfilerSession::<Std, _>::open(config, sink, clock);
    let closed = script(session).unwrap();
    let expected = script(open(&whole, schedule(0, 0, 2, 0), 100)).unwrap();
    assert_eq!(closed, expected);
    assert_eq!(disk.0.lock().unwrap().files, whole.0.lock().unwrap().files);
}

/// What is no text, such as a coroutine's cancellation, is none of ours: it goes on, once.
struct Cancelled;

struct Cancels(Disk);

impl TraceSink for Cancels {
    fn create(&mut self, name: &str, head: &[u8]) -> io::Result<()> {
        self.0.create(name, head)
    }
    fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<usize> {
        resume_unwind(Box::new(Cancelled))
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
    fn close(&mut self) -> io::Result<()> {
        self.0.close()
    }
}

#[test]
fn a_cancellation_goes_through_and_leaves_the_session_in_order() {
    let disk = Disk::default();
    let config = disk::config(Schedule::always(), 10);
    let clock = Box::new(disk::Ticking::default());
    let session = ProfilerSession::<Std, _>::open(config, Cancels(disk.clone()), clock);
    let profiler = session.profiler();
    profiler.record(event("a"));
    let step = catch_unwind(AssertUnwindSafe(|| profiler.step()));
    assert!(step.unwrap_err().is::<Cancelled>());
    assert!(profiler.step().is_continue(), "the driver is back");
    let error = session.close().unwrap_err();
    assert_eq!((error.closed.lost, error.closed.steps), (1, 2), "{error}");
    let [left] = &disk.names()[..] else {
        panic!("one trace")
    };
    assert!(left.is_empty());
}

#[test]
fn nested_sessions_close_from_the_inside_and_each_by_itself() {
    for inner_panics in [false, true] {
        let (outer_disk, inner_disk) = (
            Disk::default(),
            Disk::with(Faults {
                close: true,
                panic_at: inner_panics.then_some(1),
                ..Faults::default()
            }),
        );
        let outer = open(&outer_disk, Schedule::always(), 100);
        let outcome = outer.drive(|outside| {
            let inner = open(&inner_disk, Schedule::always(), 100);
            outside.record(event("outside"));
            let inner = inner.drive(|inside| {
                inside.record(event("inside"));
                resume_unwind(Box::new("NaN"))
            });
            assert!(inner.trace.is_err());
            let body: Result<(), _> = inner.body;
            resume_unwind(body.unwrap_err())
        });
        let body: Result<(), _> = outcome.body;
        assert_eq!(
            body.unwrap_err().downcast_ref(),
            Some(&"NaN"),
            "the first cause"
        );
        let closed = outcome.trace.unwrap();
        assert_eq!((closed.written, closed.traces.len()), (1, 1));
        assert_eq!(outer_disk.names(), [["outside"]]);
    }
}

#[test]
fn a_profiler_that_outlives_its_session_does_nothing() {
    let disk = Disk::default();
    let session = open(&disk, Schedule::always(), 100);
    let profiler = session.profiler();
    let closed = session.close().unwrap();
    assert_eq!(closed.written, 0);
    profiler.record(event("late"));
    profiler.flush();
    assert!(profiler.step().is_continue());
    assert!(!profiler.is_recording());
    assert_eq!(disk.names(), [Vec::<String>::new()]);
}

#[test]
fn a_session_that_is_dropped_is_closed_and_one_that_is_forgotten_is_a_closed_array() {
    let disk = Disk::default();
    let session = open(&disk, Schedule::always(), 100);
    session.profiler().record(event("a"));
    drop(session);
    assert_eq!(disk.names(), [["a"]]);

    let disk = Disk::default();
    let session = open(&disk, Schedule::always(), 100);
    let profiler = session.profiler();
    profiler.record(event("a"));
    let _ = profiler.step();
    profiler.record(event("b"));
    std::mem::forget(session);
    assert_eq!(disk.names(), [["a"]], "up to the last flush");
}

/// Threads record while the loop steps: nothing is lost but what was dropped, and nothing waits.
#[test]
fn threads_record_while_the_loop_steps() {
    let disk = Disk::default();
    let session = open(&disk, Schedule::always(), 50);
    let profiler = session.profiler();
    let workers: Vec<_> = (0..3)
        .map(|worker| {
            let profiler = profiler.clone();
            std::thread::spawn(move || {
                for n in 0..1_000 {
                    profiler.record(event(&format!("{worker}-{n}")));
                }
            })
        })
        .collect();
    for _ in 0..50 {
        let _ = profiler.step();
    }
    for worker in workers {
        worker.join().unwrap();
    }
    let closed = session.close().unwrap();
    assert_eq!(closed.written + closed.dropped, 3_000);
    let names = disk.names().concat();
    assert_eq!(names.len() as u64, closed.written);
    for worker in 0..3 {
        let of = |name: &&String| name.starts_with(&format!("{worker}-"));
        let numbers = names
            .iter()
            .filter(of)
            .map(|name| name[2..].parse::<u32>().unwrap());
        assert!(
            numbers.is_sorted(),
            "in the order in which its thread recorded them"
        );
    }
}

/// What is torn is only what a write was cut off in, and the tear is within that write.
#[test]
fn each_write_leaves_a_closed_array_and_touches_no_event_before_it() {
    let disk = Disk::default();
    let _ = script(open(&disk, schedule(0, 0, 2, 0), 100)).unwrap();
    let inside = disk.0.lock().unwrap();
    assert!(inside.writes.len() > 5);
    for (offset, bytes, before) in &inside.writes {
        let _ = names(before);
        assert_eq!(&before[*offset as usize..], b"\n]");
        assert!(bytes.starts_with(b",\n") && bytes.ends_with(b"\n]"));
    }
    let caught = catch_unwind(AssertUnwindSafe(|| names(b"[{},]")));
    assert!(caught.is_err(), "this helper can fail");
}
