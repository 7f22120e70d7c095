//! The session's shell: a queue that any thread fills, and a driver that one at a time takes out.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::call::{Batch, Io, IoEnd, TraceNaming};
use super::error::{CloseError, Closed};
use super::event::{Args, TraceEvent};
use super::exits::Deadline;
use super::queue::QueueState;
use super::schedule::Schedule;
use super::sink::TraceSink;
use super::state::SessionState;
use crate::panic_text::text_of;
use crate::platform::std::panicking;
use crate::platform::{Atomic, Condvar, Mutex, Ordering, Platform, Shared, Std};
use crate::time::{Clock, Instant};

/// What a session is made of, wherever its traces go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionConfig {
    /// Which steps are recorded.
    pub schedule: Schedule,
    /// What traces are named after.
    pub naming: TraceNaming,
    /// Events that may wait to be written.
    pub queue_room: usize,
}

/// The signal that a session was told of: its loop is to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StopRequested {
    /// Its number.
    pub signal: i32,
}

/// A session that owns its traces. It closes exactly once: by [`close`](Self::close), or when it
/// is dropped.
///
/// [`run`](Self::run) is how it is used; the rest is what that is made of, for sinks and
/// platforms of one's own.
///
/// ```
/// use selvedge_core::platform::Std;
/// use selvedge_core::time::SystemClock;
/// use selvedge_core::train::profiler::{
///     Args, FileSink, ProfilerSession, Schedule, SessionConfig, TraceNaming,
/// };
///
/// let dir = tempfile::tempdir()?;
/// let config = SessionConfig {
///     schedule: Schedule::always(),
///     naming: TraceNaming { host: "here".into(), pid: 1, process: "".into(), origin_unix_ns: 0 },
///     queue_room: 100,
/// };
/// let clock = Box::new(SystemClock::new());
/// let session = ProfilerSession::<Std, _>::open(config, FileSink::new(dir.path()), clock);
/// let profiler = session.profiler();
/// profiler.instant("begun", Args::new());
/// assert!(profiler.step().is_continue());
/// let closed = session.close()?;
/// assert_eq!((closed.steps, closed.written), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ProfilerSession<P: Platform = Std, S: TraceSink = super::FileSink> {
    shared: P::Arc<Desk<P, S>>,
    closed: bool,
}

impl<P: Platform, S: TraceSink> ProfilerSession<P, S> {
    /// Opens it: the first step has begun. That the sink cannot make a file is told when it
    /// closes.
    #[must_use]
    pub fn open(config: SessionConfig, sink: S, clock: Box<dyn Clock>) -> Self {
        Self::watched(config, sink, clock, Box::new(|_| ()))
    }

    /// The same; `watch` is told, with no lock held, whenever recording begins or ends.
    pub(super) fn watched(
        config: SessionConfig,
        sink: S,
        clock: Box<dyn Clock>,
        watch: Box<dyn Fn(bool) + Send + Sync>,
    ) -> Self {
        let pid = config.naming.pid;
        let state = SessionState::new(config.schedule, config.naming, clock.now());
        let shared = P::Arc::new(Desk {
            recording: P::AtomicBool::new(false),
            signal: P::AtomicU64::new(0),
            queue: P::Mutex::new(QueueState::new(config.queue_room)),
            driver: P::Mutex::new(Slot {
                driver: Some(Driver {
                    state,
                    sink,
                    told: false,
                }),
                holder: 0,
            }),
            back: P::Condvar::new(),
            clock,
            pid,
            watch,
        });
        // The first trace may begin at once.
        shared.work(|_, _, _, _| ());
        ProfilerSession {
            shared,
            closed: false,
        }
    }

    /// What is handed to whoever records.
    #[must_use]
    pub fn profiler(&self) -> Profiler<P, S> {
        Profiler {
            desk: Some(self.shared.clone()),
        }
    }

    /// Runs `body`, and closes however it ends. What the body came to and what became of the
    /// trace are told side by side: neither takes the other's place.
    pub fn drive<R>(self, body: impl FnOnce(&Profiler<P, S>) -> R) -> Driven<R> {
        let profiler = self.profiler();
        // The session is closed before anybody can see what the body left half-done.
        let body = catch_unwind(AssertUnwindSafe(|| body(&profiler)));
        Driven {
            body,
            trace: self.close(),
        }
    }

    /// Closes it: what waits is written, in whatever step it is.
    ///
    /// # Errors
    /// [`CloseError`] if the sink failed in this or any call before. It is closed all the same.
    pub fn close(mut self) -> Result<Closed, CloseError> {
        self.closed = true;
        self.shared.close()
    }

    pub(super) fn desk(&self) -> &P::Arc<Desk<P, S>> {
        &self.shared
    }
}

impl<P: Platform, S: TraceSink> Drop for ProfilerSession<P, S> {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        match catch_unwind(AssertUnwindSafe(|| self.shared.close())) {
            Ok(Ok(_)) => {}
            // There is nobody to return it to.
            Ok(Err(error)) => eprintln!("profiler: {error}"),
            // A second one at once would end the process.
            Err(_) if panicking() => {}
            Err(payload) => resume_unwind(payload),
        }
    }
}

/// How a body ended, and what became of its trace.
#[derive(Debug)]
#[must_use = "the trace may not be complete"]
pub struct Driven<R> {
    /// What the body returned, or what it panicked with.
    pub body: Result<R, Box<dyn Any + Send>>,
    /// What became of the trace.
    pub trace: Result<Closed, CloseError>,
}

/// Records, and is told of each step. Clones are the same; one that outlives its session, and
/// that of a profiler which is switched off, does nothing.
pub struct Profiler<P: Platform = Std, S: TraceSink = super::FileSink> {
    desk: Option<P::Arc<Desk<P, S>>>,
}

impl<P: Platform, S: TraceSink> Profiler<P, S> {
    /// One that does nothing.
    #[must_use]
    pub const fn off() -> Self {
        Profiler { desk: None }
    }

    /// A step is over: what it recorded is written, and the next begins. Call it once a step.
    ///
    /// It breaks if a signal has asked the loop to leave: leave it, and the session closes.
    #[must_use = "a signal asks the loop to leave here"]
    pub fn step(&self) -> core::ops::ControlFlow<StopRequested> {
        if let Some(desk) = &self.desk {
            desk.work(|state, batch, dropped, now| {
                state.step(batch, dropped, super::thread_number(), now);
            });
        }
        match self.stop_requested() {
            Some(stop) => core::ops::ControlFlow::Break(stop),
            None => core::ops::ControlFlow::Continue(()),
        }
    }

    /// Writes what waits, within a step that is long.
    pub fn flush(&self) {
        if let Some(desk) = &self.desk {
            desk.work(SessionState::flush);
        }
    }

    /// The signal that asks the loop to leave, if there was one.
    #[must_use]
    pub fn stop_requested(&self) -> Option<StopRequested> {
        self.desk.as_ref().and_then(|desk| desk.stop_requested())
    }

    /// Asks the loop to leave, as this signal would: for a program that catches its signals by
    /// itself. The first to ask is the one that is told.
    pub fn request_stop(&self, signal: i32) {
        if let Some(desk) = &self.desk {
            desk.request_stop(signal);
        }
    }

    /// Something happened now, on this thread.
    pub fn instant(&self, name: impl Into<std::borrow::Cow<'static, str>>, args: Args) {
        if let Some(desk) = self.desk.as_ref().filter(|desk| desk.is_recording()) {
            desk.record(TraceEvent::instant(name, desk.clock.now(), args));
        }
    }

    /// Records an event, if the present step is recorded. It never waits for the sink.
    pub fn record(&self, event: TraceEvent) {
        if let Some(desk) = self.desk.as_ref().filter(|desk| desk.is_recording()) {
            desk.record(event);
        }
    }

    /// Whether the present step is recorded, or warms up for one that will be.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.desk.as_ref().is_some_and(|desk| desk.is_recording())
    }
}

impl<P: Platform, S: TraceSink> Clone for Profiler<P, S> {
    fn clone(&self) -> Self {
        Profiler {
            desk: self.desk.clone(),
        }
    }
}

impl<P: Platform, S: TraceSink> core::fmt::Debug for Profiler<P, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Profiler")
            .field("recording", &self.is_recording())
            .finish_non_exhaustive()
    }
}

/// What a session and its profilers share.
pub(super) struct Desk<P: Platform, S: TraceSink> {
    recording: P::AtomicBool,
    /// [`ASKED`] and the signal's number; 0: none came.
    signal: P::AtomicU64,
    queue: P::Mutex<QueueState>,
    driver: P::Mutex<Slot<S>>,
    /// The driver is back.
    back: P::Condvar,
    clock: Box<dyn Clock>,
    pid: u32,
    watch: Box<dyn Fn(bool) + Send + Sync>,
}

/// Nobody's signal has it, so that 0 may be one.
const ASKED: u64 = 1 << 32;

struct Slot<S> {
    /// `None` while somebody works with it.
    driver: Option<Driver<S>>,
    /// The thread that does.
    holder: u32,
}

struct Driver<S> {
    state: SessionState,
    sink: S,
    /// What `watch` was told last. In an emergency it is not called: it runs code of others.
    told: bool,
}

impl<P: Platform, S: TraceSink> Desk<P, S> {
    pub(super) fn is_recording(&self) -> bool {
        // ORDERING: Relaxed. Whether an event at the edge of a step is in the trace is nobody's
        // business; all else is behind the queue's lock.
        self.recording.load(Ordering::Relaxed)
    }

    pub(super) fn record(&self, event: TraceEvent) {
        // What is cut off, and what found no room, is dropped with no lock held.
        let event = event.cut();
        let refused = self.queue.lock().push(event);
        drop(refused);
    }

    pub(super) fn stop_requested(&self) -> Option<StopRequested> {
        // ORDERING: Relaxed. It says nothing about anything else.
        let signal = self.signal.load(Ordering::Relaxed);
        (signal & ASKED != 0).then_some(StopRequested {
            // Its lower half.
            signal: (signal as u32).cast_signed(),
        })
    }

    /// Asks the loop to leave. The first to ask is the one that is told.
    pub(super) fn request_stop(&self, signal: i32) {
        let signal = ASKED | u64::from(signal.cast_unsigned());
        // ORDERING: Relaxed, as above.
        let _ = (self.signal).compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn close(&self) -> Result<Closed, CloseError> {
        self.work(|state, batch, dropped, now| {
            state.close(batch, dropped, now);
        });
        let mut driver = self.take();
        // Not before: one may come while the sink closes.
        let signal = self.stop_requested().map(|stop| stop.signal);
        driver.get().state.report(signal)
    }

    /// What is done when the process may end at any moment: what waits is written, and, if
    /// `close`, the session is closed. Whoever holds the driver is waited for, but not for ever;
    /// not at all by that same thread. Returns whether it was done.
    pub(super) fn emergency(&self, close: bool, panicking: bool, deadline: &Deadline) -> bool {
        let Some(mut out) = self.take_within(deadline) else {
            return false;
        };
        if panicking && !out.get().sink.may_run_in_panic_hook() {
            return false;
        }
        let (batch, dropped) = self.drain();
        let (state, now) = (&mut out.get().state, self.clock.now());
        match close {
            true => state.close(batch, dropped, now),
            false => state.flush(batch, dropped, now),
        }
        let not_ours = out.get().run();
        if close {
            // ORDERING: Relaxed, as in `is_recording`.
            self.recording.store(false, Ordering::Relaxed);
        }
        drop(out);
        go_on(not_ours.filter(|_| !panicking));
        true
    }

    /// Takes the driver out, lets `f` change the state, and does what comes of it.
    fn work(&self, f: impl FnOnce(&mut SessionState, Batch, u64, Instant)) {
        let mut out = self.take();
        let (batch, dropped) = self.drain();
        f(&mut out.get().state, batch, dropped, self.clock.now());
        let not_ours = out.get().run();
        let wants = out.get().state.wants_events();
        debug_assert_eq!(out.get().state.validate(), Ok(()));
        // ORDERING: Relaxed, as in `is_recording`; only who has the driver writes it.
        self.recording.store(wants, Ordering::Relaxed);
        let told = core::mem::replace(&mut out.get().told, wants);
        drop(out);
        if wants != told {
            (self.watch)(wants);
        }
        go_on(not_ours);
    }

    fn drain(&self) -> (Batch, u64) {
        let (events, dropped) = {
            let mut queue = self.queue.lock();
            let dropped = queue.dropped();
            queue.forget();
            (queue.take(), dropped)
        };
        let mut batch = Batch::with_room(events.iter().map(TraceEvent::size).sum());
        // Each goes as soon as it is written down.
        for event in events {
            batch.push(self.pid, &event);
        }
        (batch, dropped)
    }

    fn take(&self) -> Out<'_, P, S> {
        let mut slot = self.driver.lock();
        loop {
            if let Some(driver) = slot.driver.take() {
                slot.holder = super::thread_number();
                return Out {
                    desk: self,
                    driver: Some(driver),
                };
            }
            slot = self.back.wait::<Slot<S>>(slot);
        }
    }

    fn take_within(&self, deadline: &Deadline) -> Option<Out<'_, P, S>> {
        let mut slot = self.driver.lock();
        loop {
            if let Some(driver) = slot.driver.take() {
                slot.holder = super::thread_number();
                return Some(Out {
                    desk: self,
                    driver: Some(driver),
                });
            }
            let left = deadline.left();
            if left.is_zero() || slot.holder == super::thread_number() {
                return None;
            }
            (slot, _) = self.back.wait_timeout::<Slot<S>>(slot, left);
        }
    }
}

/// The driver, until it is put back.
struct Out<'a, P: Platform, S: TraceSink> {
    desk: &'a Desk<P, S>,
    driver: Option<Driver<S>>,
}

impl<P: Platform, S: TraceSink> Out<'_, P, S> {
    fn get(&mut self) -> &mut Driver<S> {
        (self.driver.as_mut()).expect("INVARIANT: it is put back when this is dropped")
    }
}

impl<P: Platform, S: TraceSink> Drop for Out<'_, P, S> {
    fn drop(&mut self) {
        self.desk.driver.lock().driver = self.driver.take();
        self.desk.back.notify_one();
    }
}

impl<S: TraceSink> Driver<S> {
    /// Does what the state says, until there is nothing left. No lock is held.
    ///
    /// A sink that panics is told of as one that fails. A payload that is no text is how
    /// coroutines and threads are cancelled: the caller has it go on, once all is in order.
    fn run(&mut self) -> Option<NotOurs> {
        let mut not_ours = None;
        while let Some(io) = self.state.poll() {
            let sink = &mut self.sink;
            let end = match catch_unwind(AssertUnwindSafe(|| call(sink, &io))) {
                Ok(Ok(())) => IoEnd::Done,
                Ok(Err(error)) => IoEnd::Failed {
                    kind: error.kind(),
                    text: error.to_string(),
                },
                Err(payload) => match text_of(&*payload) {
                    Some(text) => IoEnd::Panicked(text),
                    None => {
                        not_ours = Some(payload);
                        IoEnd::Panicked("it was cancelled".to_owned())
                    }
                },
            };
            self.state.done(end);
        }
        not_ours
    }
}

type NotOurs = Box<dyn Any + Send>;

fn go_on(not_ours: Option<NotOurs>) {
    if let Some(payload) = not_ours {
        resume_unwind(payload);
    }
}

fn call(sink: &mut impl TraceSink, io: &Io) -> io::Result<()> {
    match io {
        Io::Create { name, head } => sink.create(name, head),
        Io::Write { offset, bytes } => write_all(sink, *offset, bytes),
        Io::Restore { offset, bytes } => {
            write_all(sink, *offset, bytes)?;
            sink.truncate(offset + bytes.len() as u64)
        }
        Io::Close => sink.close(),
    }
}

/// A write that ends early is not yet a full disk: that is told by the one for the rest.
fn write_all(sink: &mut impl TraceSink, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match sink.write_at(offset + done as u64, &bytes[done..]) {
            Ok(0) => {
                let (all, kind) = (bytes.len(), io::ErrorKind::StorageFull);
                let text = format!("only {done} of {all} bytes found room");
                return Err(io::Error::new(kind, text));
            }
            Ok(written) => done += written.min(bytes.len() - done),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
