//! Who held what, who waited for whom: worked out from a trace, so that it is the same for
//! every engine.

use super::{Blocked, ObjectKind, Operation, Trace};

/// One task waits for another, or for nobody that could be named.
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
