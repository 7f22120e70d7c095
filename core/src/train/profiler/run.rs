//! The session as a program uses it: a configuration, a closure, and what came of both.

use std::fs::{self, OpenOptions};
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::call::TraceNaming;
use super::error::{CloseError, Closed, OpenError};
use super::exits::{self, OnSignals};
use super::schedule::Schedule;
use super::session::{Profiler, ProfilerSession, SessionConfig};
use super::sink::FileSink;
use super::spans::Spans;
use crate::platform::Std;
use crate::time::{Clock, SystemClock};

/// Events that may wait for the end of a step, if not said otherwise. Of the usual size they
/// take 20 MB; of whatever size, 64 MiB ([`EVENT_ROOM`](super::EVENT_ROOM) each).
pub const QUEUE_ROOM: usize = 1 << 16;

/// How a session is to be.
#[derive(Debug)]
#[must_use = "`ProfilerSession::run` takes it"]
pub struct ProfilerConfig {
    /// `None`: switched off.
    dir: Option<PathBuf>,
    schedule: Schedule,
    queue_room: usize,
    spans: Option<Spans>,
    signals: OnSignals,
    clock: Option<Box<dyn Clock>>,
    process: String,
}

impl ProfilerConfig {
    /// Traces go to `dir`, which is made where it is not there.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        ProfilerConfig {
            dir: Some(dir.into()),
            ..Self::off()
        }
    }

    /// No profiler: no directory, no handler, no cost.
    pub fn off() -> Self {
        ProfilerConfig {
            dir: None,
            schedule: Schedule::default(),
            queue_room: QUEUE_ROOM,
            spans: None,
            signals: OnSignals::CloseAndEnd,
            clock: None,
            process: String::new(),
        }
    }

    /// Which steps are recorded; if not said, torch's wait 1, warm up 1, record 3, once.
    pub fn schedule(self, schedule: Schedule) -> Self {
        ProfilerConfig { schedule, ..self }
    }

    /// How many events may wait for the end of a step (1 at least). More are dropped and counted,
    /// and so are those for which there is no memory left: all together have
    /// [`EVENT_ROOM`](super::EVENT_ROOM) bytes for each.
    pub fn queue_room(self, queue_room: usize) -> Self {
        ProfilerConfig { queue_room, ..self }
    }

    /// Records the spans of `tracing` that come this way. The session takes their clock.
    pub fn spans(self, spans: &Spans) -> Self {
        ProfilerConfig {
            spans: Some(spans.clone()),
            ..self
        }
    }

    /// Leaves SIGINT and SIGTERM alone: for a program that asks its loops to leave by itself.
    pub fn without_signals(self) -> Self {
        ProfilerConfig {
            signals: OnSignals::Nothing,
            ..self
        }
    }

    /// Leaves it to the program's own handlers what SIGINT and SIGTERM end: for a program that
    /// has any **after this session was opened**, such as `tokio::signal::ctrl_c` for a graceful
    /// shutdown. The first signal asks the loop to leave and the second closes the trace, but
    /// neither ends the process, in this session or ever after: it is told of the program.
    ///
    /// Without it, a signal ends the process as it would have without handlers: the second one
    /// within a session, and the first where there is none. Handlers that were there before the
    /// process's first session are found; of those that come later nobody can tell us.
    ///
    /// ```
    /// use selvedge_core::train::profiler::{ProfilerConfig, ProfilerSession};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let warm_up = ProfilerConfig::new(dir.path()).without_default_action();
    /// let profiled = ProfilerSession::run(warm_up, |profiler| profiler.step().is_continue())?;
    /// assert!(profiled.training);
    /// // From here on `tokio::signal::ctrl_c().await` is all that Ctrl-C does.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn without_default_action(self) -> Self {
        ProfilerConfig {
            signals: OnSignals::Close,
            ..self
        }
    }

    /// What the process is called where its traces are drawn: `rank 3`.
    pub fn process(self, name: impl Into<String>) -> Self {
        ProfilerConfig {
            process: name.into(),
            ..self
        }
    }

    /// Tells the time, where no spans do.
    pub fn clock(self, clock: Box<dyn Clock>) -> Self {
        ProfilerConfig {
            clock: Some(clock),
            ..self
        }
    }
}

/// What the training came to, and what became of its trace.
///
/// ```
/// use selvedge_core::train::profiler::{ProfilerConfig, ProfilerSession, RunError};
///
/// let profiled = ProfilerSession::run(ProfilerConfig::off(), |profiler| {
///     let _ = profiler.step();
///     Err::<(), _>("the loss is NaN")
/// })?;
/// match profiled.into_result() {
///     Err(RunError::Training { error, trace }) => {
///         assert_eq!(error, "the loss is NaN");
///         assert!(trace.is_ok(), "of that, one would be told as well");
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), selvedge_core::train::profiler::OpenError>(())
/// ```
#[derive(Debug)]
#[must_use = "the trace may not be complete"]
pub struct Profiled<R> {
    /// What the closure returned.
    pub training: R,
    /// What became of the trace.
    pub trace: Result<Closed, CloseError>,
}

impl<T, E> Profiled<Result<T, E>> {
    /// Both, if both went well and no signal has cut the training short.
    ///
    /// # Errors
    /// The training's error, with what became of the trace; or the trace's alone; or that a
    /// signal has asked the loop to leave, though nothing failed.
    pub fn into_result(self) -> Result<(T, Closed), RunError<T, E>> {
        match (self.training, self.trace) {
            (Ok(trained), Ok(closed)) => match closed.signal {
                None => Ok((trained, closed)),
                Some(signal) => Err(RunError::Interrupted {
                    signal,
                    trained,
                    closed: Box::new(closed),
                }),
            },
            (Ok(trained), Err(error)) => Err(RunError::Trace { trained, error }),
            (Err(error), trace) => Err(RunError::Training {
                error,
                trace: Box::new(trace),
            }),
        }
    }
}

/// Why a training with a profiler is not all that it was to be.
#[derive(Debug, Error)]
pub enum RunError<T, E> {
    /// The training failed.
    #[error("{error}{}", and_trace(trace))]
    Training {
        /// Its error.
        error: E,
        /// What became of the trace.
        trace: Box<Result<Closed, CloseError>>,
    },
    /// A signal has asked the loop to leave. The trace is closed; what was to come after the
    /// training most likely is not to come. See [`end_as_signalled`](super::end_as_signalled).
    #[error("interrupted by signal {signal}")]
    Interrupted {
        /// Its number.
        signal: i32,
        /// What the training came to until then.
        trained: T,
        /// What became of the trace.
        closed: Box<Closed>,
    },
    /// Only the trace did.
    #[error("{error}")]
    Trace {
        /// What the training came to.
        trained: T,
        /// What is wrong with the trace.
        error: CloseError,
    },
}

fn and_trace(trace: &Result<Closed, CloseError>) -> String {
    let error = trace.as_ref().err();
    error.map_or(String::new(), |error| format!("; besides, {error}"))
}

impl ProfilerSession<Std, FileSink> {
    /// Runs `body` with a profiler, and closes it whichever way the body ends.
    ///
    /// | the body | what happens |
    /// |---|---|
    /// | returns, `?` | the session is closed, and both results are returned |
    /// | panics | the session is closed, and the panic goes on; an error of the trace goes to standard error |
    /// | is told by a first SIGINT or SIGTERM | [`Profiler::step`] breaks; what it returns then is as any other, and [`Closed::signal`] tells |
    /// | does not leave, and a second comes | all sessions are closed at once, and the process ends by that signal; within two seconds, whatever the disk does |
    /// | ends the process, or aborts | what was written by then is a closed array, as it is after every write |
    /// | panics under `panic = "abort"`, on any thread | the panic hook closes the session first |
    ///
    /// One session may be within another: the inner one's closure ends first, so it is closed
    /// first, and neither's failure is any matter to the other's closing. One that is opened
    /// when another was asked to leave is asked as well.
    ///
    /// What [`Closed::warning`] has to say goes to standard error as well: whoever finds no trace
    /// looks there.
    ///
    /// # Errors
    /// [`OpenError`], before the body was called.
    ///
    /// # Panics
    /// As `body` does.
    pub fn run<R>(
        config: ProfilerConfig,
        body: impl FnOnce(&Profiler) -> R,
    ) -> Result<Profiled<R>, OpenError> {
        let Some(dir) = &config.dir else {
            return Ok(Profiled {
                training: body(&Profiler::off()),
                trace: Ok(Closed::default()),
            });
        };
        let naming = naming(&config);
        let clock = match (&config.spans, config.clock) {
            (Some(spans), _) => spans.clock(),
            (None, Some(clock)) => clock,
            (None, None) => Box::new(SystemClock::new()),
        };
        make_ready(dir, &naming).map_err(|error| OpenError::Directory {
            dir: dir.clone(),
            error,
        })?;
        let session_config = SessionConfig {
            schedule: config.schedule,
            naming,
            queue_room: config.queue_room,
        };
        let watch = (config.spans.as_ref()).map_or_else(|| Box::new(|_| ()) as _, Spans::watch);
        let session = Self::watched(session_config, FileSink::new(dir), clock, watch);
        let desk = session.desk().clone();
        let enlisted = exits::enlist(desk.clone(), config.signals);
        let enlisted = enlisted.map_err(OpenError::Signals)?;
        let listed = config.spans.map(|spans| spans.add(desk.clone()));

        let mut driven = session.drive(body);
        drop((listed, enlisted));
        // From here on a signal finds no session. One that came before, however late, is told.
        let closed = match &mut driven.trace {
            Ok(closed) => closed,
            Err(error) => &mut error.closed,
        };
        closed.signal = desk.stop_requested().map(|stop| stop.signal);
        if let Some(warning) = driven.trace.as_ref().ok().and_then(Closed::warning) {
            // Not by `tracing`: no session records, so `Spans` alone would hide it.
            eprintln!("profiler: {warning}");
        }
        match driven.body {
            Ok(training) => Ok(Profiled {
                training,
                trace: driven.trace,
            }),
            Err(panic) => {
                if let Err(error) = driven.trace {
                    // The panic goes on, and takes nothing along.
                    eprintln!("profiler: {error}");
                }
                resume_unwind(panic)
            }
        }
    }
}

/// Makes the directory, and sees that files can be made in it: now, not when there is something
/// to be lost.
fn make_ready(dir: &Path, naming: &TraceNaming) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let number = crate::platform::std::process_unique();
    let probe = dir.join(format!(".{}_{}.{number}.probe", naming.host, naming.pid));
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe)?;
    fs::remove_file(&probe)
}

fn naming(config: &ProfilerConfig) -> TraceNaming {
    let now = match (&config.spans, &config.clock) {
        (Some(spans), _) => spans.clock().now(),
        (None, Some(clock)) => clock.now(),
        (None, None) => crate::time::Instant::ZERO,
    };
    TraceNaming {
        host: host(),
        pid: std::process::id(),
        process: config.process.clone(),
        origin_unix_ns: unix_ns().saturating_sub(now.as_nanos()),
    }
}

/// The machine's name, as far as it tells one.
fn host() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let told = kernel.or_else(|| std::env::var("HOSTNAME").ok());
    let host: String = (told.unwrap_or_default().trim().chars())
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        .collect();
    match host.is_empty() {
        true => "localhost".to_owned(),
        false => host,
    }
}

#[allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "files are named after the date, and traces of several machines are laid side by \
              side by it; nothing is decided on it"
)]
fn unix_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}
