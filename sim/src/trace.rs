//! What one execution did, event by event: the one stream that every drawing, every hash and
//! every explanation is made from.
//!
//! **Platforms report to the recorder as they go; whoever wants to see an execution starts the
//! recorder, runs it, and takes the [`Trace`].** An operation is an event once it is done, so
//! the order of events is the order in which things took effect; what was never done is in
//! [`Trace::blocked`].
//!
//! Tasks and objects are named by how they came to be, never by an engine's numbers, so the
//! same execution has the same trace under any engine that can run it.
//!
//! ```
//! use selvedge_sim::explorer::{Explorer, SearchEnd};
//! use selvedge_sim::trace::Operation;
//! use selvedge_sim::{Observation, violation};
//!
//! let body = || -> Observation { violation!("always", "whatever the order") };
//! let explorer = Explorer::default();
//! let SearchEnd::Violated { schedule, .. } = explorer.run(body).end else { panic!() };
//! let (_, trace) = explorer.trace(&schedule, body);
//! let last = trace.events.last().expect("it failed");
//! assert_eq!((last.operation, &*last.text), (Operation::Fail, "always"));
//! ```

mod recorder;
pub mod stale;
mod timed;
pub mod waits;

use serde::{Deserialize, Serialize};

use crate::log::path_of;
use crate::{Failure, TaskName};

pub use self::timed::{FaultMark, Lasting, LastingKind, Timed};

pub(crate) use self::recorder::{
    Pending, Place, Word, chose, created, finished, note, place_of, resumed, spawned, start,
    started, step, stop, switched, take,
};

/// One execution.
///
/// ```
/// use selvedge_sim::TaskName;
/// use selvedge_sim::trace::{Object, ObjectKind, Site, Trace};
///
/// let object = |kind, ordinal| Object {
///     creator: 0,
///     ordinal,
///     kind,
///     of: String::new(),
///     site: Site::default(),
/// };
/// let trace = Trace {
///     tasks: [0, 1].map(|child| TaskName { parent: 0, child }).to_vec(),
///     objects: vec![object(ObjectKind::Mutex, 0), object(ObjectKind::Condvar, 1)],
///     ..Trace::default()
/// };
/// assert_eq!((trace.task_path(1), trace.object_name(1)), ("0.1".to_owned(), "C1".to_owned()));
/// // What was not done does not count: to be there is no event.
/// assert_eq!(trace.hash(), Trace::default().hash());
/// assert!(trace.hashes().is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The tasks in the order in which they were created; the first is the root.
    pub tasks: Vec<TaskName>,
    /// What the tasks are called in drawings, where they are not called by their creation paths:
    /// in a model, whose tasks are no threads.
    #[serde(default)]
    pub names: Vec<String>,
    /// The objects in the order in which they were created.
    pub objects: Vec<Object>,
    /// What was done, in the order in which it took effect.
    pub events: Vec<Event>,
    /// What was begun and never done.
    pub blocked: Vec<Blocked>,
    /// Where another task took over.
    pub switches: Vec<Switch>,
    /// How it failed, if it did.
    pub failure: Option<Failure>,
    /// When what happened, where there is time: in a run of the simulated world.
    #[serde(default)]
    pub timed: Option<Box<Timed>>,
}

/// Something that tasks share.
///
/// ```
/// use selvedge_sim::trace::{Object, ObjectKind, Site};
///
/// let queue = Object {
///     creator: 0,
///     ordinal: 0,
///     kind: ObjectKind::Mutex,
///     of: "VecDeque<u32>".to_owned(),
///     site: Site { file: "src/queue.rs".to_owned(), line: 30 },
/// };
/// assert_eq!(queue.kind.word(), "mutex");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// The task that made it: its place in [`Trace::tasks`].
    pub creator: u32,
    /// Which object of that task it is, counted from 0.
    pub ordinal: u32,
    /// What it is.
    pub kind: ObjectKind,
    /// The type inside, as `PoolState`; empty where there is none.
    pub of: String,
    /// Where it was made.
    pub site: Site,
}

/// What an object is.
///
/// ```
/// assert_eq!(selvedge_sim::trace::ObjectKind::RwLock.word(), "rwlock");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// A mutex.
    Mutex,
    /// A readers-writer lock.
    RwLock,
    /// A condition variable.
    Condvar,
    /// An atomic.
    Atomic,
}

/// A place in a source file.
///
/// ```
/// use selvedge_sim::trace::Site;
///
/// let site = Site { file: "src/queue.rs".to_owned(), line: 30 };
/// assert_eq!(site.text(), "src/queue.rs:30");
/// assert_eq!(Site::default().text(), "");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Site {
    /// The file, as the compiler was told it; empty where it is not known.
    pub file: String,
    /// The line, counted from 1; 0 where it is not known.
    pub line: u32,
}

/// One thing that a task did.
///
/// ```
/// use selvedge_sim::platform::{Atomic, Ordering, Platform};
/// use selvedge_sim::trace::Operation;
/// # use selvedge_sim::explorer::{Explorer, SearchEnd};
/// # use selvedge_sim::{ExplorerPlatform as P, Observation, violation};
///
/// let body = || -> Observation {
///     let n = <P as Platform>::AtomicU32::new(5);
///     n.swap(7, Ordering::SeqCst);
///     violation!("always", "whatever the order")
/// };
/// # let explorer = Explorer::default();
/// # let SearchEnd::Violated { schedule, .. } = explorer.run(body).end else { panic!() };
/// # let (_, trace) = explorer.trace(&schedule, body);
/// let swap = trace.events.iter().find(|event| event.operation == Operation::Swap).expect("one");
/// assert_eq!((swap.read, swap.wrote), (Some(5), Some(7)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Who: a place in [`Trace::tasks`].
    pub task: u32,
    /// What.
    pub operation: Operation,
    /// On what: a place in [`Trace::objects`].
    pub object: Option<u32>,
    /// Another task that it is about: the child of a spawn or a join, whom an unpark wakes.
    pub peer: Option<u32>,
    /// What an atomic held; booleans are 0 and 1.
    pub read: Option<u64>,
    /// What an atomic holds now.
    pub wrote: Option<u64>,
    /// Whether it did what it was to do: a `try_lock` that got the lock, a `compare_exchange`
    /// that exchanged, a timed wait that was notified. True for all else.
    pub ok: bool,
    /// The words of a note.
    pub text: String,
    /// Where in the source.
    pub site: Site,
    /// How many events there were when it began: more than its own place says that it waited,
    /// or that others were let go first.
    pub since: u32,
    /// How many steps the scheduler had granted when it was done, counted from 1; a place in
    /// the steps of [`Schedule`](crate::Schedule). 0 where the engine does not tell.
    pub step: u64,
}

/// Something begun that was never done.
///
/// ```
/// use selvedge_sim::trace::{Blocked, Operation, Site};
///
/// let waits = Blocked {
///     task: 1,
///     operation: Operation::Lock,
///     object: Some(0),
///     peer: None,
///     site: Site::default(),
///     since: 4,
/// };
/// assert_eq!(waits.operation.word(), "lock");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// Who.
    pub task: u32,
    /// What.
    pub operation: Operation,
    /// On what.
    pub object: Option<u32>,
    /// Another task that it is about.
    pub peer: Option<u32>,
    /// Where in the source.
    pub site: Site,
    /// How many events there were when it began.
    pub since: u32,
}

/// One task takes over from another: drawn before the first event of this step or a later one.
///
/// ```
/// use selvedge_sim::explain;
/// use selvedge_sim::trace::{Switch, Trace};
///
/// let mut trace = Trace::default();
/// trace.switches.push(Switch { step: 9, preemption: true, critical: Some(true) });
/// assert!(explain::cause(&trace).starts_with("It needs one switch"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// The first step of the task that takes over, counted from 1, as [`Event::step`].
    pub step: u64,
    /// Whether the one before could have gone on and had not offered to wait.
    pub preemption: bool,
    /// Whether the failure vanishes without it; `None` where that was not tried.
    pub critical: Option<bool>,
}

/// What a task does.
///
/// ```
/// assert_eq!(selvedge_sim::trace::Operation::NotifyOne.word(), "notify_one");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// It begins.
    Start,
    /// It returns.
    Finish,
    /// It starts a task.
    Spawn,
    /// It waits for a task's end.
    Join,
    /// It acquires a mutex.
    Lock,
    /// It tries to.
    TryLock,
    /// It releases a mutex.
    Unlock,
    /// It acquires a readers-writer lock as a reader.
    ReadLock,
    /// It releases it.
    ReadUnlock,
    /// It acquires a readers-writer lock as the writer.
    WriteLock,
    /// It releases it.
    WriteUnlock,
    /// It gets in line at a condition variable.
    Wait,
    /// It was woken, or timed out; it has yet to lock the mutex again.
    Wake,
    /// It wakes one waiter.
    NotifyOne,
    /// It wakes all.
    NotifyAll,
    /// It waits to be unparked.
    Park,
    /// It unparks a task.
    Unpark,
    /// It lets others go first.
    Yield,
    /// It reads an atomic.
    Load,
    /// It writes an atomic.
    Store,
    /// It exchanges an atomic's value.
    Swap,
    /// It exchanges an atomic's value if that is the expected one.
    CompareExchange,
    /// It adds to an atomic.
    FetchAdd,
    /// It subtracts from one.
    FetchSub,
    /// Bitwise and.
    FetchAnd,
    /// Bitwise or.
    FetchOr,
    /// The greater of two.
    FetchMax,
    /// It makes one of several choices.
    Choose,
    /// The body says something: a probe reached, a note.
    Note,
    /// It panics, or says that a property does not hold.
    Fail,
    /// An action of a model.
    Act,
}

impl Operation {
    /// Its name, as a reader of Rust expects it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Operation::Start => "start",
            Operation::Finish => "finish",
            Operation::Spawn => "spawn",
            Operation::Join => "join",
            Operation::Lock => "lock",
            Operation::TryLock => "try_lock",
            Operation::Unlock => "unlock",
            Operation::ReadLock => "read",
            Operation::ReadUnlock => "read unlock",
            Operation::WriteLock => "write",
            Operation::WriteUnlock => "write unlock",
            Operation::Wait => "wait",
            Operation::Wake => "wake",
            Operation::NotifyOne => "notify_one",
            Operation::NotifyAll => "notify_all",
            Operation::Park => "park",
            Operation::Unpark => "unpark",
            Operation::Yield => "yield",
            Operation::Load => "load",
            Operation::Store => "store",
            Operation::Swap => "swap",
            Operation::CompareExchange => "compare_exchange",
            Operation::FetchAdd => "fetch_add",
            Operation::FetchSub => "fetch_sub",
            Operation::FetchAnd => "fetch_and",
            Operation::FetchOr => "fetch_or",
            Operation::FetchMax => "fetch_max",
            Operation::Choose => "choose",
            Operation::Note => "note",
            Operation::Fail => "FAIL",
            Operation::Act => "act",
        }
    }
}

impl ObjectKind {
    /// What it is, in a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            ObjectKind::Mutex => "mutex",
            ObjectKind::RwLock => "rwlock",
            ObjectKind::Condvar => "condvar",
            ObjectKind::Atomic => "atomic",
        }
    }
}

impl From<&std::panic::Location<'_>> for Site {
    fn from(location: &std::panic::Location<'_>) -> Self {
        // A method called by way of the standard library: whence is not known.
        if location.file().contains("/library/core/src/") {
            return Site::default();
        }
        // Of a dependency's file, which folder of which machine it lies in is of no use.
        let file = location.file();
        let file = match file.split_once("/registry/src/") {
            Some((_, within)) => within.split_once('/').map_or(within, |(_, file)| file),
            None => file,
        };
        Site {
            file: file.to_owned(),
            line: location.line(),
        }
    }
}

impl Site {
    /// `file:line`; empty where it is not known.
    #[must_use]
    pub fn text(&self) -> String {
        match self.file.is_empty() {
            true => String::new(),
            false => format!("{}:{}", self.file, self.line),
        }
    }
}

impl Trace {
    /// The creation path of a task: `0` is the root, `0.1` its second child.
    #[must_use]
    pub fn task_path(&self, task: u32) -> String {
        path_of(&self.tasks, task)
    }

    /// What a task is called in drawings: its name, or else its creation path.
    #[must_use]
    pub fn task_name(&self, task: u32) -> String {
        let name = self.names.get(task as usize);
        name.cloned().unwrap_or_else(|| self.task_path(task))
    }

    /// Whether it is of a model, whose tasks are no threads and take no turns.
    #[must_use]
    pub fn is_of_model(&self) -> bool {
        !self.names.is_empty()
    }

    /// What an object is called in drawings: a letter for its kind and a number, as `M1`.
    #[must_use]
    pub fn object_name(&self, object: u32) -> String {
        let Some(it) = self.objects.get(object as usize) else {
            return "?".to_owned();
        };
        let number = (self.objects.iter().take(object as usize + 1))
            .filter(|other| other.kind == it.kind)
            .count();
        let letter = match it.kind {
            ObjectKind::Mutex => 'M',
            ObjectKind::RwLock => 'R',
            ObjectKind::Condvar => 'C',
            ObjectKind::Atomic => 'A',
        };
        format!("{letter}{number}")
    }

    /// Writes down which switches the failure needs.
    ///
    /// ```
    /// use selvedge_sim::Flip;
    /// use selvedge_sim::trace::{Switch, Trace};
    ///
    /// let switch = Switch { step: 3, preemption: true, critical: None };
    /// let mut trace = Trace { switches: vec![switch], ..Trace::default() };
    /// trace.mark(&[Flip { step: 3, critical: Some(true) }]);
    /// assert_eq!(trace.switches[0].critical, Some(true));
    /// ```
    pub fn mark(&mut self, tried: &[crate::Flip]) {
        for switch in &mut self.switches {
            let flip = tried.iter().find(|flip| flip.step == switch.step);
            switch.critical = flip.and_then(|flip| flip.critical);
        }
    }

    /// Tells this execution apart from others: equal for equal executions on any machine. It
    /// covers who did what to what in which order and what atomics held, not lines of source. Of a
    /// run of the world it is [`Timed::digest`].
    #[must_use]
    pub fn hash(&self) -> u64 {
        if let Some(timed) = &self.timed {
            return timed.digest;
        }
        self.hashes().last().copied().unwrap_or(CHAIN_START)
    }

    /// [`Trace::hash`] of each prefix: where two executions first differ, theirs do.
    #[must_use]
    pub fn hashes(&self) -> Vec<u64> {
        let mut hash = CHAIN_START;
        let mut chain = Vec::with_capacity(self.events.len() + self.blocked.len());
        let done = self.events.iter().map(|e| {
            let bytes = [e.read, e.wrote].map(|value| value.map_or(u64::MAX, |v| v ^ 1 << 63));
            (e.task, e.operation, e.object, e.peer, e.ok, bytes)
        });
        let left = (self.blocked.iter())
            .map(|b| (b.task, b.operation, b.object, b.peer, false, [u64::MAX; 2]));
        for (task, operation, object, peer, ok, values) in done.chain(left) {
            let mut mix = |value: u64| {
                for byte in value.to_le_bytes() {
                    hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
            };
            for word in [
                self.task_path(task),
                peer.map_or_else(String::new, |p| self.task_path(p)),
            ] {
                word.bytes().for_each(|byte| mix(u64::from(byte)));
            }
            mix(operation as u64);
            if let Some(object) = object.and_then(|object| self.objects.get(object as usize)) {
                let creator = self.task_path(object.creator);
                creator.bytes().for_each(|byte| mix(u64::from(byte)));
                mix(u64::from(object.ordinal));
            }
            mix(u64::from(ok));
            values.into_iter().for_each(mix);
            chain.push(hash);
        }
        chain
    }
}

const CHAIN_START: u64 = 0xcbf2_9ce4_8422_2325;
