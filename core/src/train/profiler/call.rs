//! What a session has the sink do, and how the bytes of a trace come about.

use std::io;

use super::error::SinkCall;
use super::event::TraceEvent;
use crate::time::Instant;

/// How the array ends. Each write ends with it, and the next begins where it stood: whatever
/// ends the process between two of them, the file is a closed array.
pub(super) const TAIL: &[u8] = b"\n]";

/// What traces are named after: `{host}_{pid}.{time_ns}.trace.json`, as torch names them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceNaming {
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// What the process is called where a trace is drawn; host and pid if it is empty.
    pub process: String,
    /// Nanoseconds from the beginning of 1970 to the session's [`Instant::ZERO`].
    pub origin_unix_ns: u64,
}

impl TraceNaming {
    /// The name of a trace that is begun at `at`.
    ///
    /// ```
    /// use selvedge_core::time::Instant;
    /// use selvedge_core::train::profiler::TraceNaming;
    ///
    /// let naming = TraceNaming { host: "node/7".into(), pid: 12, process: String::new(), origin_unix_ns: 1_000 };
    /// assert_eq!(naming.name(Instant::from_nanos(5)), "node-7_12.1005.trace.json");
    /// ```
    #[must_use]
    pub fn name(&self, at: Instant) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        let host = (self.host.chars().take(64)).map(|c| if plain(c) { c } else { '-' });
        let host: String = host.collect();
        let time = self.origin_unix_ns.saturating_add(at.as_nanos());
        format!("{host}_{}.{time}.trace.json", self.pid)
    }
}

/// Events that are written together, as lines, each after a comma.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Batch {
    pub(super) body: String,
    pub(super) events: u64,
}

impl Batch {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Batch {
            body: String::new(),
            events: 0,
        }
    }

    /// None, with room for so many bytes.
    pub(super) fn with_room(bytes: usize) -> Self {
        Batch {
            body: String::with_capacity(bytes + TAIL.len()),
            events: 0,
        }
    }

    /// Adds an event.
    pub fn push(&mut self, pid: u32, event: &TraceEvent) {
        self.line(pid, event);
        self.events += 1;
    }

    /// Adds one of the session's own, which is not counted.
    pub(super) fn line(&mut self, pid: u32, event: &TraceEvent) {
        // There is an event before the first, always: the head's.
        self.body.push_str(",\n");
        event.write_json(pid, &mut self.body);
    }
}

/// One thing for the sink to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Io {
    /// Make a file.
    Create {
        /// Its name.
        name: String,
        /// What is in it from the first.
        head: Vec<u8>,
    },
    /// Write over the array's end.
    Write {
        /// Where the end stands.
        offset: u64,
        /// Events and a new end.
        bytes: Vec<u8>,
    },
    /// Put the end back where it stood, and cut off what follows.
    Restore {
        /// Where it stood.
        offset: u64,
        /// The end.
        bytes: Vec<u8>,
    },
    /// The file is complete.
    Close,
}

impl Io {
    /// How many bytes it writes.
    pub(super) fn len(&self) -> u64 {
        match self {
            Io::Create { head: bytes, .. }
            | Io::Write { bytes, .. }
            | Io::Restore { bytes, .. } => bytes.len() as u64,
            Io::Close => 0,
        }
    }

    pub(super) fn call(&self) -> SinkCall {
        match self {
            Io::Create { .. } => SinkCall::Create,
            Io::Write { .. } => SinkCall::Write,
            Io::Restore { .. } => SinkCall::Restore,
            Io::Close => SinkCall::Close,
        }
    }
}

/// How a call of the sink ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IoEnd {
    /// It is done, all of it.
    Done,
    /// It is not, or not wholly.
    Failed {
        /// What kind of error it was.
        kind: io::ErrorKind,
        /// What was said.
        text: String,
    },
    /// The sink panicked, saying this. It is not called again.
    Panicked(String),
}
