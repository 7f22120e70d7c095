//! Whether a span is made at all is one cached answer for all subscribers of the process: so this is
//! the only test of its own.
#![cfg(feature = "profiler")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use selvedge_core::train::profiler::{ProfilerConfig, ProfilerSession, Schedule, Spans};
use tempfile::TempDir;
use tracing::info_span;
use tracing_subscriber::layer::SubscriberExt;

#[test]
fn a_span_that_nobody_records_is_switched_off_where_it_stands() {
    let (dir, spans) = (TempDir::new().unwrap(), Spans::new());
    let subscriber = tracing_subscriber::registry().with(spans.layer());
    tracing::subscriber::with_default(subscriber, || {
        let make = || info_span!("here");
        assert!(make().is_disabled());
        let schedule = Schedule::new(1, 1, 1, 1).unwrap();
        let config = ProfilerConfig::new(dir.path())
            .schedule(schedule)
            .spans(&spans);
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
