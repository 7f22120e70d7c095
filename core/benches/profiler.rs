//! What a span costs that no profiler records: the same work with spans around it and without, in
//! turns. One line of JSON a row on stdout, as `block_pool` prints them.
//!
//! | row | what is compared | limit |
//! |---|---|---|
//! | `no_session` | work in a span, with the layer installed and no session, against bare work | 1.02 |
//! | `waiting` | the same within a session that waits for its first active step | 1.02 |
//! | `off` | work, and a step of a profiler that is off, against bare work | 1.02 |
//! | `span` | an empty span that is not recorded, against one that is | 0.05 |
//! | `recording` | work in a span that is recorded, against bare work | |
//!
//! The work of the first three is a dot product of 1,024 numbers, a small part of what anybody
//! would put into a span. A row fails if its limit is not kept. `--quick` or
//! `SELVEDGE_BENCH_QUICK=1` runs a fiftieth, which is held to limits that a busy machine keeps, too:
//! 1.5 to bare work, and 0.2 for an empty span. A span that is made when nobody records it is beyond
//! either.

mod measure;

use std::env;
use std::hint::black_box;
use std::process::ExitCode;

use selvedge_core::train::profiler::{Profiler, ProfilerConfig, ProfilerSession, Schedule, Spans};
use tracing::{Dispatch, info_span};
use tracing_subscriber::layer::SubscriberExt;

use self::measure::{Row, Size, median, time};

fn main() -> ExitCode {
    let size = match Size::from_args("profiler", env::args().skip(1)) {
        Ok(size) => size,
        Err(exit) => return exit,
    };
    let full = size.rounds == Size::FULL.rounds;
    let spans = Spans::new();
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(spans.layer()));
    let limits = if full { Limits::FULL } else { Limits::QUICK };
    let within = tracing::dispatcher::with_default(&dispatch, || rows(size, limits, &spans));
    match within || cfg!(debug_assertions) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Ratios that are kept.
#[derive(Clone, Copy)]
struct Limits {
    /// Of work that nobody records to bare work.
    idle: f64,
    /// Of an empty span that nobody records to one that is recorded.
    span: f64,
}

impl Limits {
    const FULL: Limits = Limits {
        idle: 1.02,
        span: 0.05,
    };
    const QUICK: Limits = Limits {
        idle: 1.5,
        span: 0.2,
    };
}

fn rows(size: Size, limits: Limits, spans: &Spans) -> bool {
    let work = Work::new();
    let mut within = row("no_session", Some(limits.idle)).compare(
        size,
        || work.in_span(),
        "bare",
        || work.bare(),
    );
    within &= never(spans, |_| {
        row("waiting", Some(limits.idle)).compare(size, || work.in_span(), "bare", || work.bare())
    });
    let off = Profiler::<selvedge_core::Std>::off();
    let stepping = || {
        work.bare();
        let _ = black_box(off.step());
    };
    within &= row("off", Some(limits.idle)).compare(size, stepping, "bare", || work.bare());
    within &= empty(size, limits.span, spans);
    recording(size, spans, &work);
    within
}

/// What is done in a span.
struct Work([Vec<f32>; 2]);

impl Work {
    fn new() -> Self {
        Work([0.5, 2.0].map(|x| vec![x; 1_024]))
    }

    #[inline(never)]
    fn dot(&self) -> f32 {
        let [a, b] = &self.0;
        black_box(a)
            .iter()
            .zip(black_box(b))
            .map(|(a, b)| a * b)
            .sum()
    }

    fn bare(&self) {
        black_box(self.dot());
    }

    fn in_span(&self) {
        info_span!("dot", n = 1_024).in_scope(|| self.bare());
    }
}

fn row(name: &'static str, limit: Option<f64>) -> Row {
    Row {
        bench: "profiler",
        name,
        n: 1,
        limit,
    }
}

/// Within a session whose first active step never comes.
fn never<R>(spans: &Spans, f: impl FnOnce(&Profiler) -> R) -> R {
    let schedule = Schedule::new(u32::MAX, 0, 1, 1).expect("a step is active");
    session(spans, schedule, f)
}

fn session<R>(spans: &Spans, schedule: Schedule, f: impl FnOnce(&Profiler) -> R) -> R {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = ProfilerConfig::new(dir.path())
        .schedule(schedule)
        .spans(spans);
    let profiled = ProfilerSession::run(config, f).expect("there is a directory");
    profiled.trace.expect("there is room");
    profiled.training
}

/// An empty span: not recorded it must be a small part of one that is.
fn empty(size: Size, limit: f64, spans: &Spans) -> bool {
    let mut span = || info_span!("empty", n = 1).in_scope(|| ());
    let mut ratios = Vec::new();
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..size.rounds {
        let idle = time(size.ops, &mut span);
        let recorded = session(spans, Schedule::always(), |_| time(size.ops, &mut span));
        ratios.push(idle / recorded);
        ours.push(idle);
        peers.push(recorded);
    }
    let ratio = median(ratios);
    println!(
        r#"{{"bench":"profiler","row":"span","n":1,"ours_ns":{:.2},"peer":"recorded","peer_ns":{:.2},"ratio":{ratio:.4},"limit":{limit},"within":{}}}"#,
        median(ours),
        median(peers),
        ratio <= limit,
    );
    ratio <= limit
}

fn recording(size: Size, spans: &Spans, work: &Work) {
    session(spans, Schedule::always(), |profiler| {
        let mut spans = 0_u32;
        let recorded = || {
            work.in_span();
            spans += 1;
            if spans.is_multiple_of(10_000) {
                let _ = black_box(profiler.step());
            }
        };
        row("recording", None).compare(size, recorded, "bare", || work.bare());
    });
}
