//! What a session installs in its process, and whom it leaves in peace: one test, because there is
//! one panic hook, and one handler of a signal, for all.
#![cfg(all(feature = "profiler", target_os = "linux"))]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test has real threads, and what fails here fails the test"
)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use selvedge_core::train::profiler::{Args, ProfilerConfig, ProfilerSession, Schedule, check};
use signal_hook::consts::SIGTERM;
use signal_hook::low_level::raise;

#[test]
fn hook_and_handlers_flush_ask_and_leave_others_in_peace() {
    let (panics, terminated) = (
        Arc::new(AtomicU32::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let counted = Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    }));
    // A handler that is there before ours: so it is for this one to end the process, or not to.
    signal_hook::flag::register(SIGTERM, Arc::clone(&terminated)).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let config = || ProfilerConfig::new(dir.path()).schedule(Schedule::always());
    let profiled = ProfilerSession::run(config(), |profiler| {
        profiler.instant("before the panic", Args::new());
        assert!(
            !holds(dir.path(), "before the panic"),
            "it waits for the step's end"
        );
        let panicked = std::thread::spawn(|| panic!("planned")).join();
        assert!(panicked.is_err());
        assert!(
            holds(dir.path(), "before the panic"),
            "the hook has flushed"
        );
        assert_eq!(
            panics.load(Ordering::SeqCst),
            1,
            "the former hook was called"
        );

        raise(SIGTERM).unwrap();
        until(|| profiler.stop_requested().is_some());
        assert!(
            terminated.swap(false, Ordering::SeqCst),
            "the former handler was called"
        );
        profiler.instant("after the first", Args::new());
        assert!(profiler.step().is_break());
        // One that is opened now is asked as well.
        let inside = tempfile::tempdir().unwrap();
        let inner = ProfilerConfig::new(inside.path()).schedule(Schedule::always());
        let inner = ProfilerSession::run(inner, |profiler| profiler.step().is_break()).unwrap();
        assert!(inner.training);
        assert_eq!(inner.trace.unwrap().signal, Some(SIGTERM));

        profiler.instant("after the step", Args::new());
        raise(SIGTERM).unwrap();
        until(|| holds(dir.path(), "profiler_totals"));
        assert!(terminated.load(Ordering::SeqCst));
        assert!(holds(dir.path(), "after the step"));
        profiler.instant("too late", Args::new());
        7
    })
    .unwrap();
    assert_eq!(profiled.training, 7, "the former handler let it live");
    let closed = profiled.trace.unwrap();
    assert_eq!(
        (closed.signal, closed.steps, closed.traces.len()),
        (Some(SIGTERM), 1, 1)
    );
    assert_eq!(closed.written, 3);

    // No session lives: others get what is theirs, and we do nothing.
    terminated.store(false, Ordering::SeqCst);
    raise(SIGTERM).unwrap();
    until(|| terminated.load(Ordering::SeqCst));
    assert!(std::thread::spawn(|| panic!("planned")).join().is_err());
    assert_eq!(panics.load(Ordering::SeqCst), 2);

    // The next session has heard of no signal, and one that does not want any is not told.
    let profiled = ProfilerSession::run(config(), |profiler| profiler.step().is_continue());
    assert!(profiled.unwrap().training);
    let profiled = ProfilerSession::run(config().without_signals(), |profiler| {
        raise(SIGTERM).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        profiler.step().is_continue()
    });
    assert!(profiled.unwrap().training);
    let _ = std::panic::take_hook();
}

/// Whether the first trace in the directory is valid and holds an event of this name. While it
/// is being written a reader may see part of that.
fn holds(dir: &Path, name: &str) -> bool {
    let first = fs::read_dir(dir).unwrap().next().expect("a trace");
    let bytes = fs::read(first.unwrap().path()).unwrap();
    let named = format!("\"name\":\"{name}\"");
    check(&bytes[..]).is_ok() && String::from_utf8_lossy(&bytes).contains(&named)
}

#[track_caller]
fn until(holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}
