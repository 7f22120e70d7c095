//! What a session holds in memory, measured by counting every byte: events that wait are bounded in
//! bytes whatever they say, and a flush does not hold them several times over.
#![cfg(feature = "profiler")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod counting;

use std::io;

use counting::{LIVE, PEAK};
use selvedge_core::Std;
use selvedge_core::time::SystemClock;
use selvedge_core::train::profiler::{
    Args, EVENT_ROOM, ProfilerSession, Schedule, SessionConfig, Spans, TraceNaming, TraceSink,
};

/// Keeps nothing.
struct Nowhere;

impl TraceSink for Nowhere {
    fn create(&mut self, _: &str, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn write_at(&mut self, _: u64, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn truncate(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn close(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open(room: usize) -> ProfilerSession<Std, Nowhere> {
    let config = SessionConfig {
        schedule: Schedule::always(),
        naming: TraceNaming {
            host: "host".to_owned(),
            pid: 1,
            process: String::new(),
            origin_unix_ns: 0,
        },
        queue_room: room,
    };
    ProfilerSession::open(config, Nowhere, Box::new(SystemClock::new()))
}

const ROOM: usize = 1_000;

/// 100 MB of names, and arguments as large as they may be.
#[test]
fn events_that_wait_are_bounded_in_bytes() {
    let session = open(ROOM);
    let profiler = session.profiler();
    let text = "x".repeat(8 << 10);
    let before = LIVE.get();
    for _ in 0..100 {
        profiler.instant("m".repeat(1 << 20), Args::new());
    }
    for _ in 0..100 {
        let args = Args::new()
            .with("a", &text)
            .with("b", &text)
            .with("c", &text);
        profiler.instant("step", args);
    }
    let held = LIVE.get() - before;
    // A string may have room for more than it holds, and so may the queue.
    let most = 2 * (ROOM * EVENT_ROOM).cast_signed();
    assert!((most / 4..most).contains(&held), "{held}");
    let closed = session.close().unwrap();
    assert!(closed.dropped > 50 && closed.written > 50, "{closed:?}");
}

/// Once as events that wait, and once as the bytes that are written.
#[test]
fn a_flush_holds_what_it_writes_once() {
    let session = open(ROOM);
    let profiler = session.profiler();
    let text = "x".repeat(700);
    let before = LIVE.get();
    for _ in 0..ROOM {
        profiler.instant("step", Args::new().with("text", &text));
    }
    let waiting = LIVE.get() - before;
    PEAK.set(LIVE.get());
    let _ = profiler.step();
    let more = PEAK.get() - before - waiting;
    assert!(more < waiting * 11 / 10, "{more} beside {waiting}");
    assert_eq!(session.close().unwrap().written, ROOM as u64);
}

/// What is told of a tensor with a million numbers is cut as it comes.
#[test]
fn a_long_message_is_cut_before_it_waits() {
    let (dir, spans) = (tempfile::tempdir().unwrap(), Spans::new());
    use selvedge_core::train::profiler::ProfilerConfig;
    use tracing_subscriber::layer::SubscriberExt;
    let subscriber = tracing_subscriber::registry().with(spans.layer());
    let _present = tracing::subscriber::set_default(subscriber);
    let config = ProfilerConfig::new(dir.path())
        .schedule(Schedule::always())
        .spans(&spans);
    let tensor = vec![0.5; 1_000_000];
    let profiled = ProfilerSession::run(config, |_| {
        tracing::info!("{}", 1);
        let before = LIVE.get();
        PEAK.set(before);
        tracing::info!("{tensor:?}");
        tracing::info!(of = ?tensor, "told");
        PEAK.get() - before
    });
    let profiled = profiled.unwrap();
    assert!(profiled.training < 256 << 10, "{}", profiled.training);
    assert_eq!(profiled.trace.unwrap().written, 3);
}
