//! Who held what, who waited for whom: worked out from a trace, so that it is the same for
//! every engine.
//!
//! ```
//! use selvedge_sim::trace::{Blocked, Operation, Site, Trace, waits};
//!
//! // Each waits for the other to end.
//! let joins = |task, peer| Blocked {
//!     task,
//!     operation: Operation::Join,
//!     object: None,
//!     peer: Some(peer),
//!     site: Site::default(),
//!     since: 0,
//! };
//! let trace = Trace { blocked: vec![joins(0, 1), joins(1, 0)], ..Trace::default() };
//! let waits = waits::at_end(&trace);
//! assert_eq!(waits::cycle(&waits), Some(vec![0, 1]));
//! ```

use super::{Blocked, ObjectKind, Operation, Trace};

/// One task waits for another, or for nobody that could be named.
///
/// ```
/// use selvedge_sim::trace::{Operation, waits::Waits};
///
/// let waits = Waits { task: 1, operation: Operation::Join, object: None, on: vec![0] };
/// assert_eq!(waits.on, [0]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Who waits.
    pub task: u32,
    /// For what.
    pub operation: Operation,
    /// On which object.
    pub object: Option<u32>,
    /// Who would have to do something first: the holders of a lock, the task to be joined.
    pub on: Vec<u32>,
}

/// For each event, and once more for the end: which locks are held by whom, as
/// `(object, task)` pairs, just before it.
///
/// ```
/// use selvedge_sim::trace::{Trace, waits};
///
/// // Before the first event, which is the end as well, nobody holds anything.
/// assert_eq!(waits::holders(&Trace::default()), [vec![]]);
/// ```
#[must_use]
pub fn holders(trace: &Trace) -> Vec<Vec<(u32, u32)>> {
    let mut held: Vec<(u32, u32)> = Vec::new();
    let mut all = Vec::with_capacity(trace.events.len() + 1);
    for event in &trace.events {
        all.push(held.clone());
        let Some(object) = event.object else {
            continue;
        };
        let pair = (object, event.task);
        match event.operation {
            Operation::Lock | Operation::ReadLock | Operation::WriteLock => held.push(pair),
            Operation::TryLock if event.ok => held.push(pair),
            Operation::Unlock | Operation::ReadUnlock | Operation::WriteUnlock => {
                if let Some(place) = held.iter().position(|&one| one == pair) {
                    held.remove(place);
                }
            }
            _ => {}
        }
    }
    all.push(held);
    all
}

/// Who waits for whom at the end of the trace.
///
/// ```
/// use selvedge_sim::trace::{Blocked, Operation, Site, Trace, waits};
///
/// // Each waits for the other to end.
/// let joins = |task, peer| Blocked {
///     task,
///     operation: Operation::Join,
///     object: None,
///     peer: Some(peer),
///     site: Site::default(),
///     since: 0,
/// };
/// let trace = Trace { blocked: vec![joins(0, 1), joins(1, 0)], ..Trace::default() };
/// assert_eq!(waits::at_end(&trace)[0].on, [1]);
/// ```
#[must_use]
pub fn at_end(trace: &Trace) -> Vec<Waits> {
    let held = holders(trace).pop().unwrap_or_default();
    let waits = |blocked: &Blocked| {
        let is_lock = blocked.object.is_some_and(|object| {
            (trace.objects.get(object as usize))
                .is_some_and(|it| matches!(it.kind, ObjectKind::Mutex | ObjectKind::RwLock))
        });
        let on = match (blocked.object, blocked.peer) {
            (Some(object), _) if is_lock => (held.iter())
                .filter(|&&(it, _)| it == object)
                .map(|&(_, task)| task)
                .collect(),
            (_, Some(peer)) if blocked.operation == Operation::Join => vec![peer],
            _ => Vec::new(),
        };
        Waits {
            task: blocked.task,
            operation: blocked.operation,
            object: blocked.object,
            on,
        }
    };
    trace.blocked.iter().map(waits).collect()
}

/// Tasks each of which waits for the next, and the last for the first; `None` where there is
/// no such circle.
///
/// ```
/// use selvedge_sim::trace::{Operation, waits::{self, Waits}};
///
/// let joins = |task, on| Waits { task, operation: Operation::Join, object: None, on: vec![on] };
/// assert_eq!(waits::cycle(&[joins(0, 1), joins(1, 2)]), None);
/// assert_eq!(waits::cycle(&[joins(0, 1), joins(1, 2), joins(2, 1)]), Some(vec![1, 2]));
/// ```
#[must_use]
pub fn cycle(waits: &[Waits]) -> Option<Vec<u32>> {
    let next = |task: u32| {
        (waits.iter().find(|waits| waits.task == task)).and_then(|waits| waits.on.first().copied())
    };
    for start in waits {
        let mut path = vec![start.task];
        while let Some(task) = path.last().and_then(|&task| next(task)) {
            if let Some(place) = path.iter().position(|&one| one == task) {
                return Some(path.split_off(place));
            }
            path.push(task);
        }
    }
    None
}
