//! One training with a profiler, ended in the way that the command line names: what the test
//! `profiler_exits` starts, once unwinding and once aborting on a panic.
//!
//! ```text
//! profiler-exits DIR return|error|panic|worker-panic|signal|nested|late|stuck|hung|afterwards|graceful
//!                |exit|abort|no-room|close-fails|sink-panics|forget|torn|too-short
//! ```
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this is a program, not the library: it has real threads and sleeps"
)]

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use selvedge_core::Std;
use selvedge_core::time::{Clock, Instant, SystemClock};
use selvedge_core::train::profiler::{
    Args, FileSink, Profiler, ProfilerConfig, ProfilerSession, Schedule, SessionConfig, Spans,
    TraceNaming, TraceSink, end_as_signalled,
};
use signal_hook::consts::{SIGINT, SIGKILL, SIGTERM};
use signal_hook::low_level::raise;
use tracing::{info_span, trace};

/// Events that may wait.
const ROOM: usize = 8;
/// So many more come in the first step.
const TOO_MANY: usize = 5;

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let (Some(dir), Some(exit), None) = (args.next(), args.next(), args.next()) else {
        eprintln!("usage: profiler-exits DIR EXIT");
        return ExitCode::from(2);
    };
    match exit.as_str() {
        "forget" => {
            let session = by_hand(FileSink::new(&dir));
            steps(&session.profiler());
            std::mem::forget(session);
            ExitCode::SUCCESS
        }
        "torn" => {
            let session = by_hand(Faulty::new(&dir, |write, _| match write {
                2 => Fault::Killed,
                _ => Fault::None,
            }));
            steps(&session.profiler());
            ExitCode::SUCCESS
        }
        "sink-panics" => closed_by_hand(Faulty::new(&dir, |write, _| match write {
            3 => Fault::Panics,
            _ => Fault::None,
        })),
        "close-fails" => closed_by_hand(Faulty::new(&dir, |_, closing| match closing {
            true => Fault::Fails,
            false => Fault::None,
        })),
        exit => profiled(&dir, exit),
    }
}

/// The exits that are a program's own.
fn profiled(dir: &str, exit: &str) -> ExitCode {
    let spans = Spans::with_clock(Box::new(Misled(SystemClock::new())));
    if let Err(error) = spans.install() {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    let config = ProfilerConfig::new(dir)
        .schedule(Schedule::always())
        .queue_room(ROOM);
    let config = match exit {
        "graceful" => config.without_default_action(),
        // Its first active step is the third.
        "too-short" => config.schedule(Schedule::default()),
        _ => config,
    };
    let inner = format!("{dir}-inner");
    let profiled = ProfilerSession::run(config.spans(&spans), |profiler| match exit {
        "nested" => {
            train(profiler, "return")?;
            let inner = ProfilerConfig::new(inner).schedule(Schedule::always());
            let inner = ProfilerSession::run(inner, until_asked);
            let inner = inner.map_err(|error| error.to_string())?;
            let closed = inner.trace.map_err(|error| error.to_string())?;
            end_as_signalled(closed.signal.unwrap_or_default())
        }
        "too-short" => {
            let _ = profiler.step();
            Ok(())
        }
        exit => train(profiler, exit),
    });
    let profiled = match profiled {
        Ok(profiled) => profiled,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = &profiled.trace {
        eprintln!("trace: {error}");
    }
    if exit == "afterwards" {
        tell("ready");
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    }
    if exit == "graceful" {
        // Here the program begins to handle its signals.
        let asked = Arc::new(AtomicBool::new(false));
        if let Err(error) = signal_hook::flag::register(SIGINT, Arc::clone(&asked)) {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
        tell("ready");
        while !asked.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(2));
        }
        // Its requests are answered.
        thread::sleep(Duration::from_millis(300));
        return ExitCode::SUCCESS;
    }
    match (profiled.training, profiled.trace) {
        (Err(error), _) => {
            eprintln!("training: {error}");
            ExitCode::from(1)
        }
        (Ok(()), Err(_)) => ExitCode::from(4),
        (Ok(()), Ok(closed)) => match closed.signal {
            Some(signal) => end_as_signalled(signal),
            None => ExitCode::SUCCESS,
        },
    }
}

fn train(profiler: &Profiler, exit: &str) -> Result<(), String> {
    steps(profiler);
    info_span!("unflushed").in_scope(|| ());
    match exit {
        "return" | "afterwards" => {}
        "error" => return Err("the loss is NaN".to_owned()),
        "panic" => panic!("out of memory"),
        "worker-panic" => {
            let worker = thread::spawn(|| {
                info_span!("doomed").in_scope(|| ());
                panic!("the loader is gone");
            });
            if worker.join().is_err() {
                eprintln!("training goes on without the loader");
            }
        }
        "signal" => until_asked(profiler),
        "late" => {
            let _ = ASKED.set(profiler.clone());
            PRANK.store(RAISES, Ordering::SeqCst);
        }
        "stuck" | "hung" => {
            tell("ready");
            while profiler.stop_requested().is_none() {
                thread::sleep(Duration::from_millis(2));
            }
            if exit == "hung" {
                PRANK.store(HANGS, Ordering::SeqCst);
            }
            tell("asked to leave");
            loop {
                thread::sleep(Duration::from_secs(1));
            }
        }
        "exit" => std::process::exit(3),
        "abort" => std::process::abort(),
        "no-room" => {
            // More than the limit that the test sets.
            let long = "x".repeat(8 << 10);
            for _ in 0..4 {
                trace!(one = long, two = long, "fill");
                let _ = profiler.step();
            }
        }
        other => return Err(format!("there is no exit '{other}'")),
    }
    Ok(())
}

fn until_asked(profiler: &Profiler) {
    tell("ready");
    while profiler.step().is_continue() {
        thread::sleep(Duration::from_millis(2));
    }
}

/// Three steps. After each it is told how many events must be in the trace by now.
fn steps(profiler: &Profiler<Std, impl TraceSink>) {
    for step in 0..3_u64 {
        profiler.instant(format!("step {step}"), Args::new().with("n", step));
        if step == 0 {
            for _ in 1..ROOM + TOO_MANY {
                profiler.instant("flood", Args::new());
            }
        }
        let _ = profiler.step();
        tell(&format!("flushed {}", step + 1));
    }
}

fn by_hand<S: TraceSink>(sink: S) -> ProfilerSession<Std, S> {
    let config = SessionConfig {
        schedule: Schedule::always(),
        naming: TraceNaming {
            host: "localhost".to_owned(),
            pid: std::process::id(),
            process: String::new(),
            origin_unix_ns: 0,
        },
        queue_room: ROOM,
    };
    ProfilerSession::open(config, sink, Box::new(SystemClock::new()))
}

/// What is recorded at last is in no step.
fn closed_by_hand(sink: impl TraceSink) -> ExitCode {
    let session = by_hand(sink);
    let profiler = session.profiler();
    steps(&profiler);
    profiler.instant("unflushed", Args::new());
    match session.close() {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trace: {error}");
            ExitCode::from(4)
        }
    }
}

#[derive(Clone, Copy)]
enum Fault {
    None,
    Fails,
    Panics,
    /// The process is killed, and half of it is written.
    Killed,
}

/// A directory that does wrong in the write of this number, or in closing.
struct Faulty {
    sink: FileSink,
    writes: u32,
    plan: fn(u32, bool) -> Fault,
}

impl Faulty {
    fn new(dir: &str, plan: fn(u32, bool) -> Fault) -> Self {
        Faulty {
            sink: FileSink::new(dir),
            writes: 0,
            plan,
        }
    }

    fn meet(&mut self, fault: Fault) -> io::Result<()> {
        match fault {
            Fault::None => Ok(()),
            Fault::Fails => Err(io::Error::other("the disk did not take it")),
            Fault::Panics => panic!("the sink has a bug"),
            Fault::Killed => {
                raise(SIGKILL)?;
                unreachable!("nobody survives it")
            }
        }
    }
}

impl TraceSink for Faulty {
    fn create(&mut self, name: &str, head: &[u8]) -> io::Result<()> {
        self.sink.create(name, head)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let fault = (self.plan)(self.writes, false);
        self.writes += 1;
        if matches!(fault, Fault::Killed) {
            self.sink.write_at(offset, &bytes[..bytes.len() / 2])?;
        }
        self.meet(fault)?;
        self.sink.write_at(offset, bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.sink.truncate(len)
    }

    fn close(&mut self) -> io::Result<()> {
        let fault = (self.plan)(self.writes, true);
        self.sink.close()?;
        self.meet(fault)
    }
}

/// What the clock does when it is next asked: closing a session asks it once.
static PRANK: AtomicU8 = AtomicU8::new(0);
/// It raises SIGTERM, and waits until the session has been told.
const RAISES: u8 = 1;
/// It never answers, as a disk that is gone.
const HANGS: u8 = 2;
static ASKED: OnceLock<Profiler> = OnceLock::new();

#[derive(Debug)]
struct Misled(SystemClock);

impl Clock for Misled {
    fn now(&self) -> Instant {
        match PRANK.swap(0, Ordering::SeqCst) {
            RAISES => {
                let _ = raise(SIGTERM);
                while ASKED.get().is_some_and(|p| p.stop_requested().is_none()) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            HANGS => loop {
                thread::sleep(Duration::from_secs(1));
            },
            _ => {}
        }
        self.0.now()
    }
}

fn tell(line: &str) {
    println!("{line}");
    // Whoever reads it waits for it; where nobody does there is nobody to tell.
    let _ = io::stdout().flush();
}
