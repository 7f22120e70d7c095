//! One training with a profiler, ended in the way that the command line names: what the test
//! `profiler_exits` starts, once unwinding and once aborting on a panic.
//!
//! ```text
//! profiler-exits DIR return|error|panic|worker-panic|signal|stuck|afterwards|exit|abort|disk-full|forget|torn
//! ```
#![allow(
    clippy::disallowed_methods,
    reason = "this is a program, not the library: it has real threads and sleeps"
)]

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use selvedge_core::Std;
use selvedge_core::time::SystemClock;
use selvedge_core::train::profiler::{
    Args, FileSink, Profiler, ProfilerConfig, ProfilerSession, Schedule, SessionConfig, Spans,
    TraceNaming, TraceSink, end_as_signalled,
};
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
            let session = by_hand(KilledInTheMidst(FileSink::new(&dir), 0));
            steps(&session.profiler());
            ExitCode::SUCCESS
        }
        exit => profiled(&dir, exit),
    }
}

/// The exits that are a program's own.
fn profiled(dir: &str, exit: &str) -> ExitCode {
    let spans = Spans::new();
    if let Err(error) = spans.install() {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    let config = ProfilerConfig::new(dir)
        .schedule(Schedule::always())
        .queue_room(ROOM);
    let profiled = ProfilerSession::run(config.spans(&spans), |profiler| train(profiler, exit));
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
        "signal" => {
            tell("ready");
            while profiler.step().is_continue() {
                thread::sleep(Duration::from_millis(2));
            }
        }
        "stuck" => {
            tell("ready");
            while profiler.stop_requested().is_none() {
                thread::sleep(Duration::from_millis(2));
            }
            tell("asked to leave");
            loop {
                thread::sleep(Duration::from_secs(1));
            }
        }
        "exit" => std::process::exit(3),
        "abort" => std::process::abort(),
        "disk-full" => {
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

/// The process is killed in the midst of the last write.
struct KilledInTheMidst(FileSink, u32);

impl TraceSink for KilledInTheMidst {
    fn create(&mut self, name: &str, head: &[u8]) -> io::Result<()> {
        self.0.create(name, head)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.1 += 1;
        if self.1 < 3 {
            return self.0.write_at(offset, bytes);
        }
        self.0.write_at(offset, &bytes[..bytes.len() / 2])?;
        signal_hook::low_level::raise(signal_hook::consts::SIGKILL)?;
        unreachable!("nobody survives it")
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }

    fn close(&mut self) -> io::Result<()> {
        self.0.close()
    }
}

fn tell(line: &str) {
    println!("{line}");
    // Whoever reads it waits for it; where nobody does there is nobody to tell.
    let _ = io::stdout().flush();
}
