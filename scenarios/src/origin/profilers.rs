//! What the scenarios about profilers share: a disk in memory, torch's profiler as the origin
//! uses it, and what a caller of the training is told.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use selvedge_core::platform::{Mutex, Platform, Shared};
use selvedge_core::time::{Clock, Instant};
use selvedge_core::train::profiler::{
    Args, Op, Profiler, ProfilerSession, Schedule, ScheduleState, SessionConfig, TraceEvent,
    TraceNaming, TraceSink, check,
};
use selvedge_sim::violation;

/// What ended the training, as its caller is told: an exception of the origin's, an error or a
/// panic of what ships.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raised(pub(crate) &'static str);

pub(crate) const NAN: Raised = Raised("ValueError: the loss is NaN");
pub(crate) const OOM: Raised = Raised("RuntimeError: CUDA out of memory");
pub(crate) const INTERRUPTED: Raised = Raised("KeyboardInterrupt");
/// An error of the disk.
pub(crate) const IO_ERROR: Raised = Raised("OSError: no space left on device");

/// Runs a training, and returns what its caller would be told: an error, or a panic.
pub(crate) fn told(training: impl FnOnce() -> Result<(), Raised>) -> Result<(), Raised> {
    catch_unwind(AssertUnwindSafe(training)).unwrap_or_else(|payload| {
        match payload.downcast::<Raised>() {
            Ok(raised) => Err(*raised),
            // An engine's own way to end an execution is no panic of the training.
            Err(other) => resume_unwind(other),
        }
    })
}

/// Panics by plan: past the panic hook, which would end the unit.
pub(crate) fn panics(raised: Raised) -> ! {
    resume_unwind(Box::new(raised))
}

/// What a disk does wrong when a file is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    Fails,
    Panics,
}

/// A disk.
pub(crate) struct Disk<P: Platform> {
    files: P::Arc<P::Mutex<Vec<Vec<u8>>>>,
    fault: Fault,
}

impl<P: Platform> Clone for Disk<P> {
    fn clone(&self) -> Self {
        Disk {
            files: self.files.clone(),
            fault: self.fault,
        }
    }
}

impl<P: Platform> Disk<P> {
    pub(crate) fn new(fault: Fault) -> Self {
        Disk {
            files: P::Arc::new(P::Mutex::new(Vec::new())),
            fault,
        }
    }

    /// There is one trace, it is valid, and it holds these.
    pub(crate) fn judge(&self, must_hold: &[&str]) {
        let files = self.files.lock().clone();
        let [trace] = &files[..] else {
            violation!("trace-missing", "{} traces", files.len());
        };
        if let Err(fault) = check(&trace[..]) {
            violation!("trace-invalid", "{fault}");
        }
        let text = String::from_utf8_lossy(trace);
        for name in must_hold {
            if !text.contains(&format!("{{\"name\":\"{name}\"")) {
                violation!("event-lost", "{name}");
            }
        }
    }

    /// How many traces there are.
    pub(crate) fn traces(&self) -> usize {
        self.files.lock().len()
    }
}

impl<P: Platform> TraceSink for Disk<P> {
    fn create(&mut self, _: &str, head: &[u8]) -> io::Result<()> {
        self.files.lock().push(head.to_vec());
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut files = self.files.lock();
        let file = (files.last_mut()).expect("INVARIANT: a file was made");
        file.truncate(usize::try_from(offset).unwrap_or(usize::MAX));
        file.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut files = self.files.lock();
        let file = (files.last_mut()).expect("INVARIANT: a file was made");
        file.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        match self.fault {
            Fault::Nothing => Ok(()),
            Fault::Fails => Err(io::ErrorKind::StorageFull.into()),
            // As text, past the panic hook: what is none would be an engine's own, and go on.
            Fault::Panics => resume_unwind(Box::new(IO_ERROR.0)),
        }
    }
}

/// A clock that stands: what a checker does must not hang on the machine's.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::ZERO
    }
}

/// The origin's schedule: wait 1, warm up 1, record 3, once.
pub(crate) fn schedule() -> Schedule {
    Schedule::default()
}

/// A session of what ships.
pub(crate) fn session<P: Platform>(
    disk: &Disk<P>,
    schedule: Schedule,
) -> ProfilerSession<P, Disk<P>> {
    let config = SessionConfig {
        schedule,
        naming: TraceNaming {
            host: "host".to_owned(),
            pid: 1,
            process: String::new(),
            origin_unix_ns: 0,
        },
        queue_room: 16,
    };
    ProfilerSession::open(config, disk.clone(), Box::new(Still))
}

/// Whatever a training loop tells of its steps.
pub(crate) trait Records: Clone + Send + 'static {
    fn note(&self, name: &'static str);
    /// A step is over.
    fn step(&self) -> Result<(), Raised>;
    /// The user wants the training to end, on another thread.
    fn interrupt(&self);
}

impl<P: Platform> Records for Profiler<P, Disk<P>> {
    fn note(&self, name: &'static str) {
        self.instant(name, Args::new());
    }

    fn step(&self) -> Result<(), Raised> {
        match Profiler::step(self).is_break() {
            true => Err(INTERRUPTED),
            false => Ok(()),
        }
    }

    fn interrupt(&self) {
        self.request_stop(2);
    }
}

/// torch's profiler with the origin's trace handler: what it recorded is in memory, and becomes a
/// file when the trace is ready.
pub(crate) struct Torch<P: Platform> {
    inside: P::Arc<P::Mutex<Inside<P>>>,
}

struct Inside<P: Platform> {
    schedule: ScheduleState,
    prepared: bool,
    events: Vec<&'static str>,
    interrupted: bool,
    disk: Disk<P>,
}

impl<P: Platform> Clone for Torch<P> {
    fn clone(&self) -> Self {
        Torch {
            inside: self.inside.clone(),
        }
    }
}

impl<P: Platform> Torch<P> {
    /// `__enter__`
    pub(crate) fn enter(disk: &Disk<P>, schedule: Schedule) -> Self {
        let mut inside = Inside {
            schedule: ScheduleState::new(schedule),
            prepared: false,
            events: Vec::new(),
            interrupted: false,
            disk: disk.clone(),
        };
        let ops = inside.schedule.enter();
        // Nothing is ready that early, so no handler is called.
        let _ = inside.carry_out(ops);
        Torch {
            inside: P::Arc::new(P::Mutex::new(inside)),
        }
    }

    /// `__exit__`
    pub(crate) fn exit(&self) -> Result<(), Raised> {
        let mut inside = self.inside.lock();
        let ops = inside.schedule.exit();
        inside.carry_out(ops)
    }

    /// `key_averages`, for the summary.
    pub(crate) fn key_averages(&self) -> Result<(), Raised> {
        match self.inside.lock().prepared {
            true => Ok(()),
            false => Err(Raised("AssertionError")),
        }
    }
}

impl<P: Platform> Records for Torch<P> {
    fn note(&self, name: &'static str) {
        let mut inside = self.inside.lock();
        if inside.schedule.action().records() {
            inside.events.push(name);
        }
    }

    fn step(&self) -> Result<(), Raised> {
        let mut inside = self.inside.lock();
        if inside.interrupted {
            return Err(INTERRUPTED);
        }
        let ops = inside.schedule.step();
        inside.carry_out(ops)
    }

    fn interrupt(&self) {
        self.inside.lock().interrupted = true;
    }
}

impl<P: Platform> Inside<P> {
    fn carry_out(&mut self, ops: &[Op]) -> Result<(), Raised> {
        for op in ops {
            match op {
                Op::Prepare => self.prepared = true,
                Op::Start => self.events.clear(),
                Op::Stop => {}
                Op::TraceReady => self.export()?,
            }
        }
        Ok(())
    }

    /// The trace handler.
    fn export(&mut self) -> Result<(), Raised> {
        if self.disk.fault != Fault::Nothing {
            return Err(IO_ERROR);
        }
        let events = self.events.iter();
        let events = events.map(|name| TraceEvent::instant(*name, Instant::ZERO, Args::new()));
        let lines: Vec<String> = events.map(|event| event.to_json(1)).collect();
        let text = format!("[\n{}\n]", lines.join(",\n"));
        self.disk.files.lock().push(text.into_bytes());
        Ok(())
    }
}
