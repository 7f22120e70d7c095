//! What a trace has besides where there is time in it: in a run of the simulated world.

use serde::{Deserialize, Serialize};

use super::Trace;

/// When everything happened, what lasted, and what went wrong.
///
/// ```
/// use selvedge_sim::world::{World, WorldConfig};
///
/// let config = WorldConfig { ranks: 2, epochs: 3, record: true, ..WorldConfig::default() };
/// let report = World::new(config)?.run();
/// let trace = report.trace();
/// let timed = trace.timed.as_ref().expect("a world has time");
/// assert_eq!((timed.digest, timed.at.len()), (report.hash, trace.events.len()));
/// assert_eq!(trace.hash(), report.hash);
/// # Ok::<(), selvedge_sim::world::WorldError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// The digest that was made as it ran, of everything: it stands for the trace's hash.
    pub digest: u64,
    /// When each of [`Trace::events`] happened, in nanoseconds after the beginning.
    pub at: Vec<u64>,
    /// What lasted.
    pub lasting: Vec<Lasting>,
    /// Which of the events are faults of the plan.
    pub faults: Vec<FaultMark>,
    /// Events that are not in the trace: signs of life and timers, and what came before the last
    /// hundred thousand.
    pub left_out: u64,
}

/// Something that lasted, from an instant to another.
///
/// ```
/// use selvedge_sim::trace::{Lasting, LastingKind};
///
/// let life = Lasting { task: 1, kind: LastingKind::Life, from: 0, to: 7_000, open: true, text: "life 1".to_owned() };
/// assert_eq!((life.kind.word(), life.to - life.from), ("life", 7_000));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lasting {
    /// Whose: a place in [`Trace::tasks`].
    pub task: u32,
    /// What.
    pub kind: LastingKind,
    /// From when, in nanoseconds after the beginning.
    pub from: u64,
    /// Until when.
    pub to: u64,
    /// Whether it had not ended by then.
    pub open: bool,
    /// What is said of it.
    pub text: String,
}

/// What lasts.
///
/// ```
/// assert_eq!(selvedge_sim::trace::LastingKind::Stopped.word(), "stopped");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastingKind {
    /// A process lives.
    Life,
    /// It is stopped.
    Stopped,
    /// A fault has its effect.
    Fault,
}

impl LastingKind {
    /// It in a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            LastingKind::Life => "life",
            LastingKind::Stopped => "stopped",
            LastingKind::Fault => "fault",
        }
    }
}

/// An event that is a fault.
///
/// ```
/// use selvedge_sim::trace::{FaultMark, Timed, Trace};
///
/// let mark = FaultMark { event: 3, number: 0, critical: None };
/// let timed = Timed { faults: vec![mark], ..Timed::default() };
/// let mut trace = Trace { timed: Some(Box::new(timed)), ..Trace::default() };
/// trace.mark_faults(&[Some(true)]);
/// assert_eq!(trace.timed.expect("it has").faults[0].critical, Some(true));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultMark {
    /// Which event: a place in [`Trace::events`].
    pub event: u32,
    /// Its place in the plan.
    pub number: u32,
    /// Whether the failure vanishes without it; `None` where that was not tried.
    pub critical: Option<bool>,
}

impl Trace {
    /// Whether it is of a run of the simulated world, where everything has its time.
    #[must_use]
    pub fn is_of_world(&self) -> bool {
        self.timed.is_some()
    }

    /// Writes down which faults the failure needs, in the order of the plan.
    pub fn mark_faults(&mut self, critical: &[Option<bool>]) {
        for fault in self.timed.iter_mut().flat_map(|timed| &mut timed.faults) {
            fault.critical = critical.get(fault.number as usize).copied().flatten();
        }
    }
}
