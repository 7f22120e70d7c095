//! Reads of the past: what weak memory allows and nobody expects.
//!
//! Under sequential consistency a load gives the last value written before it. Under weak memory
//! it may give an older one, and such a load looks like any other in a list of events. Here it
//! is told apart. A stale read of the very value that was written last cannot be told from a
//! fresh one, and does no harm.
//!
//! ```
//! use selvedge_sim::trace::{Trace, stale};
//!
//! assert!(stale::reads(&Trace::default()).is_empty());
//! ```

use super::{ObjectKind, Operation, Trace};

/// A read of an atomic that gave another value than the last one written to it in the order of
/// events.
///
/// ```
/// use selvedge_sim::trace::stale::StaleRead;
///
/// // Event 5 read something else than the 7 that event 3 had written.
/// let read = StaleRead { event: 5, write: 3, latest: 7 };
/// assert!(read.write < read.event);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleRead {
    /// Which event reads: a place in [`Trace::events`].
    pub event: u32,
    /// Which event wrote last: a place in [`Trace::events`].
    pub write: u32,
    /// What it wrote.
    pub latest: u64,
}

/// The stale reads of a trace, in the order of events. What an atomic began with is not in a
/// trace, so nothing is said of reads before its first write.
///
/// ```
/// use selvedge_sim::TaskName;
/// use selvedge_sim::trace::{Event, Object, ObjectKind, Operation, Site, Trace, stale};
///
/// let event = |operation, read, wrote| Event {
///     task: 0,
///     operation,
///     object: Some(0),
///     peer: None,
///     read,
///     wrote,
///     ok: true,
///     text: String::new(),
///     site: Site::default(),
///     since: 0,
///     step: 0,
/// };
/// let flag = Object {
///     creator: 0,
///     ordinal: 0,
///     kind: ObjectKind::Atomic,
///     of: String::new(),
///     site: Site::default(),
/// };
/// let trace = Trace {
///     tasks: vec![TaskName { parent: 0, child: 0 }],
///     objects: vec![flag],
///     events: vec![
///         event(Operation::Store, None, Some(1)),
///         event(Operation::Load, Some(0), None),
///     ],
///     ..Trace::default()
/// };
/// let reads = stale::reads(&trace);
/// assert_eq!((reads[0].event, reads[0].write, reads[0].latest), (1, 0, 1));
/// ```
#[must_use]
pub fn reads(trace: &Trace) -> Vec<StaleRead> {
    let mut last: Vec<Option<(u32, u64)>> = vec![None; trace.objects.len()];
    let mut found = Vec::new();
    for (event, place) in trace.events.iter().zip(0_u32..) {
        let Some(object) = event.object.map(|object| object as usize) else {
            continue;
        };
        let is_atomic = |object: &super::Object| object.kind == ObjectKind::Atomic;
        if !trace.objects.get(object).is_some_and(is_atomic) {
            continue;
        }
        if let (Some(read), Some((write, latest))) = (event.read, last[object])
            && read != latest
        {
            found.push(StaleRead {
                event: place,
                write,
                latest,
            });
        }
        let exchanged = event.ok || event.operation != Operation::CompareExchange;
        if let Some(wrote) = event.wrote.filter(|_| exchanged) {
            last[object] = Some((place, wrote));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Event, Object, Site};

    fn event(operation: Operation, read: Option<u64>, wrote: Option<u64>, ok: bool) -> Event {
        Event {
            task: 0,
            operation,
            object: Some(0),
            peer: None,
            read,
            wrote,
            ok,
            text: String::new(),
            site: Site::default(),
            since: 0,
            step: 0,
        }
    }

    fn stale(events: Vec<Event>) -> Vec<(u32, u32, u64)> {
        let trace = Trace {
            objects: vec![Object {
                creator: 0,
                ordinal: 0,
                kind: ObjectKind::Atomic,
                of: "u64".to_owned(),
                site: Site::default(),
            }],
            events,
            ..Trace::default()
        };
        let all = reads(&trace);
        all.iter().map(|s| (s.event, s.write, s.latest)).collect()
    }

    #[test]
    fn a_load_of_an_older_value_is_stale() {
        let events = vec![
            event(Operation::Load, Some(7), None, true),
            event(Operation::Store, None, Some(1), true),
            event(Operation::Load, Some(7), None, true),
            event(Operation::Load, Some(1), None, true),
        ];
        assert_eq!(stale(events), [(2, 1, 1)]);
    }

    #[test]
    fn an_exchange_that_failed_wrote_nothing() {
        let events = vec![
            event(Operation::FetchAdd, Some(0), Some(5), true),
            event(Operation::CompareExchange, Some(5), Some(9), false),
            event(Operation::Load, Some(5), None, true),
            event(Operation::CompareExchange, Some(0), None, false),
            event(Operation::CompareExchange, Some(5), Some(6), true),
            event(Operation::Load, Some(5), None, true),
        ];
        assert_eq!(stale(events), [(3, 0, 5), (5, 4, 6)]);
    }
}
