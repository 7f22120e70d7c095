//! What can go wrong with a trace, and what is told of it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// What the sink was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SinkCall {
    /// Making a file.
    Create,
    /// Writing events.
    Write,
    /// Closing the array again after a write that failed.
    Restore,
    /// Handing the file to the disk, and closing it.
    Close,
}

impl fmt::Display for SinkCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SinkCall::Create => "cannot make",
            SinkCall::Write => "cannot write to",
            SinkCall::Restore => "cannot restore the end of",
            SinkCall::Close => "cannot close",
        })
    }
}

/// A call of the sink that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
#[error("{call} the trace {file}: {text}")]
pub struct SinkFailure {
    /// Which call.
    pub call: SinkCall,
    /// The file's name.
    pub file: String,
    /// What kind of error it was; [`io::ErrorKind::Other`] of a panic.
    pub kind: io::ErrorKind,
    /// What was said.
    pub text: String,
}

/// What became of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Closed {
    /// Whether there was a profiler at all.
    pub enabled: bool,
    /// Steps that were over.
    pub steps: u64,
    /// The traces, in order, by name.
    pub traces: Vec<String>,
    /// Those whose array could not be closed again after a write that failed:
    /// [`repair`](super::repair) does it.
    pub torn: Vec<String>,
    /// Events that are in them, those of the session itself not counted.
    pub written: u64,
    /// Events for which the queue had no room.
    pub dropped: u64,
    /// Events that the sink did not take.
    pub lost: u64,
    /// The signal that asked the loop to leave.
    pub signal: Option<i32>,
    /// Steps until the first that would have been recorded, where none was.
    pub none_before: Option<u64>,
}

impl Closed {
    /// What the user should hear of, though nothing failed.
    ///
    /// ```
    /// use selvedge_core::train::profiler::Closed;
    ///
    /// let closed = Closed { enabled: true, steps: 1, none_before: Some(2), ..Closed::default() };
    /// assert_eq!(
    ///     closed.warning().as_deref(),
    ///     Some("no trace: the session ended after 1 of the 2 steps before the first active one"),
    /// );
    /// assert_eq!(Closed::default().warning(), None);
    /// ```
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        if let Some(before) = self.none_before {
            return Some(format!(
                "no trace: the session ended after {} of the {before} steps before the first \
                 active one",
                self.steps
            ));
        }
        (self.dropped > 0).then(|| {
            format!(
                "{} events found the queue full and are not in the trace: give it more room, or \
                 flush more often",
                self.dropped
            )
        })
    }
}

/// The trace is not complete. What there is of it is valid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
#[error("the profile is not complete: {first}{}; {} events are lost", further(self.failures), self.closed.lost)]
pub struct CloseError {
    /// What there is.
    pub closed: Box<Closed>,
    /// What went wrong first.
    pub first: Box<SinkFailure>,
    /// How many calls went wrong.
    pub failures: u64,
}

fn further(failures: u64) -> String {
    match failures {
        0 | 1 => String::new(),
        n => format!(", and {} failures after it", n - 1),
    }
}

/// Why there is no session.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The directory is not there and cannot be made, or nothing can be written in it.
    #[error("cannot write traces in the directory {}: {error}", dir.display())]
    Directory {
        /// Which.
        dir: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The system refused to tell of signals.
    #[error("cannot watch for signals: {0}")]
    Signals(io::Error),
}
