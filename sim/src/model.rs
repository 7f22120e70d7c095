//! Models: bodies that are not run but searched. A checker goes through every state of a state
//! machine, and what it finds is a path of actions.
//!
//! **This crate knows no model checker.** A [`ModelBody`] is two functions, and whoever has a
//! checker fills them in; the engine `stateright` runs them in a child like any body, with its
//! limit, its progress, its seeds and its drawings.
//!
//! ```
//! use selvedge_sim::model::{ModelBody, ModelEnd, ModelRun, Row, Walk, WalkEnd};
//! use selvedge_sim::{Bodies, Engine};
//!
//! // The model of a counter that goes to 3 and stops, searched by hand.
//! fn search(_: &ModelRun<'_>) -> ModelEnd {
//!     ModelEnd::Complete { boundary: "counts to 3".to_owned(), states: 4 }
//! }
//! fn walk(path: &[u32]) -> Walk {
//!     let row = |at: usize| Row { column: 0, text: "adds one".to_owned(), state: at as u64 };
//!     Walk {
//!         columns: vec!["counter".to_owned()],
//!         rows: (0..path.len().min(3)).map(row).collect(),
//!         end: WalkEnd::Well,
//!     }
//! }
//! const COUNTER: Bodies = Bodies::of_model(ModelBody { search, walk });
//! assert!(COUNTER.runs_under(Engine::Stateright) && !COUNTER.runs_under(Engine::Native));
//! ```

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::trace::{Event, Operation, Site, Trace};
use crate::{Failure, TaskName};

mod system;

pub use system::available_bytes;
use system::resident_bytes;
pub(crate) use system::{peak_bytes, processor_ms};

/// A model with its search: see the [module](self).
///
/// ```
/// use selvedge_sim::model::{ModelBody, ModelEnd, Walk, WalkEnd};
///
/// const TRIVIAL: ModelBody = ModelBody {
///     search: |_| ModelEnd::Complete { boundary: "nothing happens".to_owned(), states: 1 },
///     walk: |_| Walk { columns: Vec::new(), rows: Vec::new(), end: WalkEnd::Well },
/// };
/// assert_eq!((TRIVIAL.walk)(&[0]).end, WalkEnd::Well);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ModelBody {
    /// Goes through the model's states. Called in a process of its own: where it returns before
    /// its checker is done, the checker's threads may go on until the process ends.
    pub search: fn(&ModelRun<'_>) -> ModelEnd,
    /// Goes along one path.
    pub walk: fn(&[u32]) -> Walk,
}

/// What a search may use, and whom it tells how far it is.
///
/// ```
/// use std::time::Duration;
/// use selvedge_sim::model::ModelRun;
///
/// let run = ModelRun::new(Duration::from_secs(5), &|states| assert!(states < 1_000));
/// assert_eq!((run.threads, run.most_bytes), (1, u64::MAX));
/// assert_eq!(run.check_in(12), Ok(()), "there is time left");
/// ```
#[derive(Clone, Copy)]
pub struct ModelRun<'a> {
    /// Threads that may search at a time.
    pub threads: usize,
    /// How much memory the process may hold, in bytes.
    pub most_bytes: u64,
    began: Instant,
    limit: Duration,
    progress: &'a dyn Fn(u64),
}

/// Why a search must stop.
///
/// ```
/// use std::time::Duration;
/// use selvedge_sim::model::{Halt, ModelRun};
///
/// let over = ModelRun::new(Duration::ZERO, &|_| ());
/// assert_eq!(over.check_in(12), Err(Halt::Time));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Time ran out.
    Time,
    /// Memory ran out.
    Memory {
        /// What the process holds, in bytes.
        bytes: u64,
    },
}

impl<'a> ModelRun<'a> {
    /// One thread, as much memory as there is, from now on for at most `limit`; `progress` is
    /// told the number of different states seen.
    #[must_use]
    pub fn new(limit: Duration, progress: &'a dyn Fn(u64)) -> Self {
        ModelRun {
            threads: 1,
            most_bytes: u64::MAX,
            began: Instant::now(),
            limit,
            progress,
        }
    }

    /// Says how far the search is, and learns whether it may go on: to be called often.
    ///
    /// # Errors
    /// What has run out.
    pub fn check_in(&self, states: u64) -> Result<(), Halt> {
        (self.progress)(states);
        if self.began.elapsed() >= self.limit {
            return Err(Halt::Time);
        }
        if self.most_bytes == u64::MAX {
            return Ok(());
        }
        match resident_bytes() {
            bytes if bytes > self.most_bytes => Err(Halt::Memory { bytes }),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for ModelRun<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelRun")
            .field("threads", &self.threads)
            .field("limit", &self.limit)
            .field("most_bytes", &self.most_bytes)
            .finish_non_exhaustive()
    }
}

/// What a search came to. **Only one that went through every state within the model's boundary
/// is complete.**
///
/// ```
/// use selvedge_sim::model::ModelEnd;
///
/// let cut = ModelEnd::Cut { states: 10_000 };
/// assert_ne!(cut, ModelEnd::Complete { boundary: String::new(), states: 10_000 });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelEnd {
    /// Every state within the boundary was looked at, and all properties hold.
    Complete {
        /// What the model leaves out, in words.
        boundary: String,
        /// Different states.
        states: u64,
    },
    /// Time ran out.
    Cut {
        /// Different states by then.
        states: u64,
    },
    /// Memory ran out.
    OutOfMemory {
        /// Different states by then.
        states: u64,
        /// Bytes that the process held.
        bytes: u64,
    },
    /// The checker contradicts itself: what it found is not there.
    Failed {
        /// Different states by then.
        states: u64,
        /// What is wrong.
        what: String,
    },
    /// A property does not hold.
    Violated {
        /// Which.
        failure: Failure,
        /// What leads there: which of the initial states, then of each state's actions, which.
        path: Vec<u32>,
        /// Whether no path is shorter.
        shortest: bool,
        /// Different states by then.
        states: u64,
    },
}

/// What happens along one path.
///
/// ```
/// use selvedge_sim::model::{Row, Walk, WalkEnd};
///
/// let row = Row { column: 0, text: "issues => waits".to_owned(), state: 7 };
/// let columns = vec!["rank 0".to_owned()];
/// let trace = Walk { columns, rows: vec![row], end: WalkEnd::Well }.into_trace();
/// assert!(trace.is_of_model());
/// assert_eq!((trace.task_name(0), trace.events.len()), ("rank 0".to_owned(), 1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Who acts: each has a column in drawings.
    pub columns: Vec<String>,
    /// What was done, an action a row.
    pub rows: Vec<Row>,
    /// How it ended.
    pub end: WalkEnd,
}

/// One action of a path.
///
/// ```
/// let row = selvedge_sim::model::Row { column: 1, text: "CRASHES => dead".to_owned(), state: 9 };
/// assert!(row.text.ends_with("dead"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose: a place in [`Walk::columns`].
    pub column: u32,
    /// What, and what it changed.
    pub text: String,
    /// A digest of the state that it led to, the same on any machine.
    pub state: u64,
}

/// How a path ends.
///
/// ```
/// use selvedge_sim::model::WalkEnd;
///
/// assert_ne!(WalkEnd::Stale("there is no such action".to_owned()), WalkEnd::Well);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalkEnd {
    /// In a state in which a property does not hold.
    Violated(Failure),
    /// In a state in which all hold.
    Well,
    /// Nowhere: one of its actions cannot be done where it stands, for this reason.
    Stale(String),
}

impl Walk {
    /// The walk as a trace, for its drawings and its hash.
    #[must_use]
    pub fn into_trace(self) -> Trace {
        let failure = match self.end {
            WalkEnd::Violated(failure) => Some(failure),
            WalkEnd::Well | WalkEnd::Stale(_) => None,
        };
        let count = u32::try_from(self.columns.len()).unwrap_or(u32::MAX);
        let event = |(at, row): (u32, Row)| Event {
            task: row.column,
            operation: Operation::Act,
            object: None,
            peer: None,
            read: None,
            wrote: Some(row.state),
            ok: true,
            text: row.text,
            site: Site::default(),
            since: at,
            step: 0,
        };
        Trace {
            tasks: (0..count)
                .map(|child| TaskName { parent: 0, child })
                .collect(),
            names: self.columns,
            events: (0..).zip(self.rows).map(event).collect(),
            failure,
            ..Trace::default()
        }
    }
}

/// What a search cost.
///
/// ```
/// use selvedge_sim::model::Figures;
///
/// let long = Figures { states: 1_000_000, processor_ms: 4_000, bytes: 64_000_000 };
/// assert_eq!((long.rate(), long.bytes_per_state()), (Some(250_000), Some(64)));
/// // What is measured of a short one is the beginning of a process and nothing else.
/// let short = Figures { states: 400, processor_ms: 10, bytes: 3_000_000 };
/// assert_eq!((short.rate(), short.bytes_per_state()), (None, None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Different states.
    pub states: u64,
    /// Processor time of all threads, in milliseconds.
    pub processor_ms: u64,
    /// What the search added to the memory that the process held at most, in bytes.
    pub bytes: u64,
}

impl Figures {
    /// With less processor time, which is told in hundredths of a second, there is no rate.
    const LEAST_MS: u64 = 500;
    /// With fewer states, most of the memory is the checker's own.
    const LEAST_STATES: u64 = 100_000;

    /// States a second of one core; `None` after a search too short to say.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        let long = self.processor_ms >= Self::LEAST_MS;
        long.then(|| self.states.saturating_mul(1_000) / self.processor_ms)
    }

    /// Bytes a state, what waits to be looked at included; `None` after a search of too few.
    #[must_use]
    pub fn bytes_per_state(&self) -> Option<u64> {
        let many = self.states >= Self::LEAST_STATES;
        many.then(|| self.bytes / self.states)
    }
}
