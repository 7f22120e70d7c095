//! The session as plain state: which file is open, where its array ends, what failed first.

use std::collections::VecDeque;
use std::io;

use super::call::{Batch, Io, IoEnd, TAIL, TraceNaming};
use super::error::{CloseError, Closed, SinkCall, SinkFailure};
use super::event::{Args, EventKind, TraceEvent};
use super::schedule::{Action, Op, Schedule, ScheduleState};
use crate::time::Instant;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Todo {
    Create {
        name: String,
    },
    Write(Batch),
    /// What was written and what was not, as the trace's last event.
    Totals,
    Restore,
    Close {
        announce: bool,
    },
}

/// Not the bytes: those are handed out, and are many.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Doing {
    todo: Todo,
    call: SinkCall,
    /// How many bytes.
    len: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OpenFile {
    name: String,
    /// Where the array's end stands.
    tail: u64,
    /// It was not made, or its end could not be put back: nothing more is written to it.
    broken: bool,
}

/// A session. **After each call that changes it, do what [`poll`](Self::poll) says and tell
/// [`done`](Self::done) how it went, until there is nothing left; then make the next.**
///
/// Errors are latched: the first is kept, all are counted, and none stops anything but what it
/// was about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionState {
    naming: TraceNaming,
    schedule: ScheduleState,
    step_began: Instant,
    todo: VecDeque<Todo>,
    /// What was handed out and is not done.
    doing: Option<Doing>,
    file: Option<OpenFile>,
    traces: Vec<String>,
    torn: Vec<String>,
    recorded: bool,
    written: u64,
    dropped: u64,
    lost: u64,
    first: Option<SinkFailure>,
    failures: u64,
    sink_dead: bool,
    over: bool,
}

impl SessionState {
    /// A session whose first step begins at `now`.
    #[must_use]
    pub fn new(schedule: Schedule, naming: TraceNaming, now: Instant) -> Self {
        let mut state = SessionState {
            naming,
            schedule: ScheduleState::new(schedule),
            step_began: now,
            todo: VecDeque::new(),
            doing: None,
            file: None,
            traces: Vec::new(),
            torn: Vec::new(),
            recorded: false,
            written: 0,
            dropped: 0,
            lost: 0,
            first: None,
            failures: 0,
            sink_dead: false,
            over: false,
        };
        let ops = state.schedule.enter();
        state.carry_out(ops, now);
        state
    }

    /// Whether events are wanted: in warm-up, too, whose events are thrown away.
    #[must_use]
    pub fn wants_events(&self) -> bool {
        !self.over && self.schedule.action() != Action::None
    }

    /// What is done in the present step.
    #[must_use]
    pub fn action(&self) -> Action {
        self.schedule.action()
    }

    /// A step is over, on thread `tid`; these are the events that came in it, and so many were
    /// dropped.
    pub fn step(&mut self, mut batch: Batch, dropped: u64, tid: u32, now: Instant) {
        if self.over {
            return;
        }
        if self.action().records() {
            let step = TraceEvent {
                name: format!("ProfilerStep#{}", self.schedule.steps()).into(),
                category: "profiler".into(),
                at: self.step_began,
                kind: EventKind::Complete {
                    took_ns: now.as_nanos().saturating_sub(self.step_began.as_nanos()),
                },
                tid,
                args: Args::new(),
            };
            batch.line(self.naming.pid, &step);
        }
        self.flush(batch, dropped, now);
        self.step_began = now;
        let ops = self.schedule.step();
        self.carry_out(ops, now);
    }

    /// Writes events. Those that no trace wants are thrown away.
    pub fn flush(&mut self, mut batch: Batch, dropped: u64, now: Instant) {
        if self.over || !self.action().records() {
            return;
        }
        if dropped > 0 {
            self.dropped += dropped;
            let counter = TraceEvent {
                name: "events dropped".into(),
                category: "profiler".into(),
                at: now,
                kind: EventKind::Counter,
                tid: 0,
                args: Args::new().with("dropped", self.dropped),
            };
            batch.line(self.naming.pid, &counter);
        }
        if !batch.body.is_empty() {
            self.todo.push_back(Todo::Write(batch));
        }
    }

    /// The session ends, in whatever step it is. A second time changes nothing.
    pub fn close(&mut self, batch: Batch, dropped: u64, now: Instant) {
        if self.over {
            return;
        }
        self.flush(batch, dropped, now);
        let ops = self.schedule.exit();
        self.carry_out(ops, now);
        self.over = true;
    }

    /// What the sink is to do next.
    #[must_use]
    pub fn poll(&mut self) -> Option<Io> {
        debug_assert!(self.doing.is_none(), "the one before is not done");
        loop {
            let mut todo = self.todo.pop_front()?;
            if let Some(io) = self.begin(&mut todo) {
                self.doing = Some(Doing {
                    todo,
                    call: io.call(),
                    len: io.len(),
                });
                return Some(io);
            }
            self.skip(todo);
        }
    }

    /// How what [`poll`](Self::poll) said went.
    pub fn done(&mut self, end: IoEnd) {
        let Some(doing) = self.doing.take() else {
            return;
        };
        let failed = match end {
            IoEnd::Done => None,
            IoEnd::Failed { kind, text } => Some((kind, text)),
            IoEnd::Panicked(text) => {
                self.sink_dead = true;
                Some((io::ErrorKind::Other, format!("the sink panicked: {text}")))
            }
        };
        match failed {
            None => self.went_well(doing),
            Some((kind, text)) => self.went_wrong(doing, kind, text),
        }
    }

    /// What became of the session, once it is closed; before that, what has become of it so far.
    ///
    /// # Errors
    /// [`CloseError`] if any call of the sink failed.
    pub fn report(&self, signal: Option<i32>) -> Result<Closed, CloseError> {
        let closed = Closed {
            enabled: true,
            steps: self.schedule.steps(),
            traces: self.traces.clone(),
            torn: self.torn.clone(),
            written: self.written,
            dropped: self.dropped,
            lost: self.lost,
            signal,
            none_before: (!self.recorded).then(|| self.schedule.schedule().first_recorded()),
        };
        match &self.first {
            None => Ok(closed),
            Some(first) => Err(CloseError {
                closed: Box::new(closed),
                first: Box::new(first.clone()),
                failures: self.failures,
            }),
        }
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What always holds.
    ///
    /// # Errors
    /// The sentence that does not.
    pub fn validate(&self) -> Result<(), &'static str> {
        let idle = self.todo.is_empty() && self.doing.is_none();
        let checks = [
            (
                !idle || !self.over || self.file.is_none(),
                "a closed session has no open file",
            ),
            (
                self.lost == 0 || self.first.is_some(),
                "what is lost has a reason",
            ),
            (
                (self.failures == 0) == self.first.is_none(),
                "failures are counted from the first",
            ),
            (
                !idle || self.over || self.file.is_none() || self.action().records(),
                "a file is open only while steps are recorded",
            ),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, sentence)) => Err(sentence),
            None => Ok(()),
        }
    }

    fn carry_out(&mut self, ops: &'static [Op], now: Instant) {
        for (at, op) in ops.iter().enumerate() {
            match op {
                // The shell looks at `wants_events`.
                Op::Prepare | Op::TraceReady => {}
                // Started only to be stopped: torch has no trace of it, and here is no file.
                Op::Start if ops.get(at + 1) == Some(&Op::Stop) => {}
                Op::Start => {
                    self.recorded = true;
                    let name = self.naming.name(now);
                    self.todo.push_back(Todo::Create { name });
                }
                Op::Stop => {
                    let announce = ops.get(at + 1) == Some(&Op::TraceReady);
                    self.todo.push_back(Todo::Totals);
                    self.todo.push_back(Todo::Close { announce });
                }
            }
        }
    }

    /// The call for it; `None` where there is nothing to call.
    fn begin(&mut self, todo: &mut Todo) -> Option<Io> {
        if self.sink_dead {
            return None;
        }
        match todo {
            Todo::Create { name } => {
                let (name, head) = (name.clone(), self.head());
                Some(Io::Create { name, head })
            }
            Todo::Write(batch) => self.write(batch),
            Todo::Totals => {
                let mut batch = Batch::new();
                batch.line(self.naming.pid, &self.totals());
                self.write(&mut batch)
            }
            Todo::Restore => {
                let offset = self.file.as_ref()?.tail;
                let bytes = TAIL.to_vec();
                Some(Io::Restore { offset, bytes })
            }
            Todo::Close { .. } => self.file.is_some().then_some(Io::Close),
        }
    }

    /// There was nobody to do it.
    fn skip(&mut self, todo: Todo) {
        match todo {
            Todo::Write(batch) => self.lost += batch.events,
            Todo::Close { announce } => self.ended(announce),
            Todo::Restore => self.is_broken(),
            Todo::Create { .. } | Todo::Totals => {}
        }
    }

    fn went_well(&mut self, Doing { todo, len, .. }: Doing) {
        match todo {
            Todo::Create { name } => {
                self.file = Some(OpenFile {
                    name,
                    tail: len - TAIL.len() as u64,
                    broken: false,
                });
            }
            Todo::Write(Batch { events, .. }) => {
                self.written += events;
                self.has_grown(len);
            }
            Todo::Totals => self.has_grown(len),
            Todo::Close { announce } => self.ended(announce),
            Todo::Restore => {}
        }
    }

    fn went_wrong(&mut self, doing: Doing, kind: io::ErrorKind, text: String) {
        let Doing { todo, call, .. } = doing;
        self.failures += 1;
        let named = match &todo {
            Todo::Create { name } => Some(name.clone()),
            _ => self.file.as_ref().map(|file| file.name.clone()),
        };
        self.first.get_or_insert_with(|| SinkFailure {
            call,
            file: named.unwrap_or_default(),
            kind,
            text,
        });
        match todo {
            Todo::Create { .. } => {}
            Todo::Write(batch) => {
                self.lost += batch.events;
                self.todo.push_front(Todo::Restore);
            }
            Todo::Totals => self.todo.push_front(Todo::Restore),
            Todo::Restore => self.is_broken(),
            Todo::Close { announce } => self.ended(announce),
        }
    }

    /// The open file is no longer ours.
    fn ended(&mut self, announce: bool) {
        if let Some(file) = self.file.take() {
            if file.broken {
                self.torn.push(file.name.clone());
            }
            if announce {
                self.traces.push(file.name);
            }
        }
    }

    /// Nobody knows how the open file ends.
    fn is_broken(&mut self) {
        if let Some(file) = &mut self.file {
            file.broken = true;
        }
    }

    fn has_grown(&mut self, written: u64) {
        if let Some(file) = &mut self.file {
            file.tail += written - TAIL.len() as u64;
        }
    }

    /// Of the batch its count stays.
    fn write(&self, batch: &mut Batch) -> Option<Io> {
        let file = self.file.as_ref().filter(|file| !file.broken)?;
        let mut bytes = core::mem::take(&mut batch.body).into_bytes();
        bytes.extend_from_slice(TAIL);
        let offset = file.tail;
        Some(Io::Write { offset, bytes })
    }

    fn totals(&self) -> TraceEvent {
        TraceEvent {
            name: "profiler_totals".into(),
            category: "".into(),
            at: Instant::ZERO,
            kind: EventKind::Metadata,
            tid: 0,
            args: Args::new()
                .with("steps", self.schedule.steps())
                .with("written", self.written)
                .with("dropped", self.dropped)
                .with("lost", self.lost),
        }
    }

    /// A closed array with one event in it.
    fn head(&self) -> Vec<u8> {
        let origin = self.naming.origin_unix_ns;
        let process = match self.naming.process.is_empty() {
            true => format!("{} {}", self.naming.host, self.naming.pid),
            false => self.naming.process.clone(),
        };
        let event = TraceEvent {
            name: "process_name".into(),
            category: "".into(),
            at: Instant::ZERO,
            kind: EventKind::Metadata,
            tid: 0,
            args: Args::new()
                .with("name", &process)
                // What ties the times of one trace to those of another.
                .with("origin_unix_ns", &origin.to_string()),
        };
        let mut head = String::from("[\n");
        event.write_json(self.naming.pid, &mut head);
        [head.as_bytes(), TAIL].concat()
    }
}
