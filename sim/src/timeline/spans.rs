//! Spans and arrows: how long a lock was held, how long a task waited, which event of one task
//! let which event of another happen.

use std::collections::HashMap;

use crate::trace::{Event, Lasting, LastingKind, Operation, Timed, Trace};

use super::scene::lane_of;

/// Something that lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) kind: SpanKind,
    /// Whose.
    pub(super) task: u32,
    pub(super) operation: Operation,
    /// Which lock is held, what is waited on.
    pub(super) object: Option<u32>,
    /// Which task is waited for, where it is one.
    pub(super) peer: Option<u32>,
    /// The event it begins at.
    pub(super) from: usize,
    /// The event it ends with; the number of events where it does not end.
    pub(super) to: usize,
    /// Whether it goes on past the last event.
    pub(super) open: bool,
    /// What is said of it, where that does not follow from the rest.
    pub(super) said: Option<String>,
}

/// What lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpanKind {
    /// A lock is held.
    Held,
    /// A lock is held together with other readers.
    Shared,
    /// A task waits.
    Waiting,
    /// What lasts in a world.
    Lasting(LastingKind),
}

/// One event lets another one happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrow {
    pub(super) kind: ArrowKind,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// How one event lets another happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArrowKind {
    Spawn,
    Join,
    Unpark,
    Notify,
}

impl SpanKind {
    pub(super) fn word(self) -> &'static str {
        match self {
            SpanKind::Held => "held",
            SpanKind::Shared => "shared",
            SpanKind::Waiting => "waiting",
            SpanKind::Lasting(kind) => kind.word(),
        }
    }
}

impl ArrowKind {
    pub(super) fn word(self) -> &'static str {
        match self {
            ArrowKind::Spawn => "spawn",
            ArrowKind::Join => "join",
            ArrowKind::Unpark => "unpark",
            ArrowKind::Notify => "notify",
        }
    }
}

/// A lock was busy so long: from the event that took it to the one that released it.
struct Hold {
    task: u32,
    shared: bool,
    from: usize,
    to: Option<usize>,
}

/// How far back to look for who kept a lock busy; reached only where hundreds of others took it
/// in the meantime.
const LOOK_BACK: usize = 256;

/// What lasts in a world, between the events that come next to its beginning and its end.
fn lasting(timed: &Timed) -> Vec<Span> {
    let span = |it: &Lasting| {
        let from = timed.at.partition_point(|&at| at < it.from);
        let to = timed.at.partition_point(|&at| at <= it.to);
        Span {
            kind: SpanKind::Lasting(it.kind),
            task: it.task,
            operation: Operation::Act,
            object: None,
            peer: None,
            from: from.min(timed.at.len()),
            to: to.saturating_sub(1).max(from),
            open: it.open,
            said: Some(it.text.clone()),
        }
    };
    timed.lasting.iter().map(span).collect()
}

/// Every span, in the order in which they end.
pub(super) fn spans(trace: &Trace) -> Vec<Span> {
    if let Some(timed) = &trace.timed {
        return lasting(timed);
    }
    let end = trace.events.len();
    let lane = |task: u32| lane_of(trace, task);
    let mut spans = Vec::new();
    let mut holds: HashMap<u32, Vec<Hold>> = HashMap::new();
    // The last event of each lane, by place.
    let mut last: HashMap<usize, usize> = HashMap::new();
    let mut unparked: HashMap<u32, usize> = HashMap::new();
    for (place, event) in trace.events.iter().enumerate() {
        let own = last.get(&lane(event.task)).copied();
        let begun = (event.since as usize)
            .max(own.map_or(0, |own| own + 1))
            .min(place);
        let waited = match event.operation {
            Operation::Lock | Operation::ReadLock | Operation::WriteLock => {
                busy_since(&holds, event, begun)
            }
            // Whom it waited for ended only after it began to wait, or never said so.
            Operation::Join => {
                let ended = event.peer.and_then(|peer| last.get(&lane(peer)));
                Some(begun).filter(|_| ended.is_none_or(|&ended| ended >= begun))
            }
            Operation::Park => {
                let token = unparked.remove(&event.task);
                Some(begun).filter(|_| token.is_none_or(|token| token >= begun))
            }
            // It has done nothing since it got in line.
            Operation::Wake => own.map(|own| own + 1),
            _ => None,
        };
        if let Some(from) = waited.filter(|&from| from < place) {
            spans.push(Span {
                kind: SpanKind::Waiting,
                task: event.task,
                operation: event.operation,
                object: event.object,
                peer: event.peer,
                from,
                to: place,
                open: false,
                said: None,
            });
        }
        if let (Operation::Unpark, Some(peer)) = (event.operation, event.peer) {
            unparked.entry(peer).or_insert(place);
        }
        hold(&mut holds, event, place, &mut spans);
        last.insert(lane(event.task), place);
    }
    for (object, hold) in holds
        .iter()
        .flat_map(|(object, all)| all.iter().map(move |h| (object, h)))
    {
        if hold.to.is_none() {
            spans.push(held(*object, hold, end));
        }
    }
    for blocked in &trace.blocked {
        let own = last.get(&lane(blocked.task)).map_or(0, |own| own + 1);
        spans.push(Span {
            kind: SpanKind::Waiting,
            task: blocked.task,
            operation: blocked.operation,
            object: blocked.object,
            peer: blocked.peer,
            from: (blocked.since as usize).max(own).min(end),
            to: end,
            open: true,
            said: None,
        });
    }
    spans.sort_by_key(|span| (span.to, span.from, span.task, span.object));
    spans
}

/// From which event on a lock was kept busy for the one that now got it; `None` if it was free
/// all the time.
fn busy_since(holds: &HashMap<u32, Vec<Hold>>, event: &Event, begun: usize) -> Option<usize> {
    let reads = event.operation == Operation::ReadLock;
    let others = holds.get(&event.object?)?.iter().rev().take(LOOK_BACK);
    let in_the_way =
        others.filter(|hold| hold.to.is_some_and(|to| to >= begun) && !(reads && hold.shared));
    in_the_way.map(|hold| hold.from.max(begun)).min()
}

/// Takes down who takes and releases locks; a release ends a span.
fn hold(holds: &mut HashMap<u32, Vec<Hold>>, event: &Event, place: usize, spans: &mut Vec<Span>) {
    let Some(object) = event.object else {
        return;
    };
    let all = holds.entry(object).or_default();
    match event.operation {
        Operation::Lock | Operation::ReadLock | Operation::WriteLock => {}
        Operation::TryLock if event.ok => {}
        Operation::Unlock | Operation::ReadUnlock | Operation::WriteUnlock => {
            let mine = |hold: &&mut Hold| hold.task == event.task && hold.to.is_none();
            if let Some(hold) = all.iter_mut().rev().find(mine) {
                hold.to = Some(place);
                spans.push(held(object, hold, place));
            }
            return;
        }
        _ => return,
    }
    all.push(Hold {
        task: event.task,
        shared: event.operation == Operation::ReadLock,
        from: place,
        to: None,
    });
}

fn held(object: u32, hold: &Hold, to: usize) -> Span {
    let (kind, operation) = match hold.shared {
        true => (SpanKind::Shared, Operation::ReadLock),
        false => (SpanKind::Held, Operation::Lock),
    };
    Span {
        kind,
        task: hold.task,
        operation,
        object: Some(object),
        peer: None,
        from: hold.from,
        to,
        open: hold.to.is_none(),
        said: None,
    }
}

/// Every arrow whose two ends are known.
pub(super) fn arrows(trace: &Trace) -> Vec<Arrow> {
    let mut arrows = Vec::new();
    let mut spawns: HashMap<u32, usize> = HashMap::new();
    let mut unparks: HashMap<u32, usize> = HashMap::new();
    let mut last: HashMap<u32, usize> = HashMap::new();
    // Per condition variable: since when each task waits, and who was notified by what.
    let mut waiting: HashMap<u32, Vec<(u32, Option<usize>)>> = HashMap::new();
    for (place, event) in trace.events.iter().enumerate() {
        let mut arrow = |kind, from: Option<usize>| {
            arrows.extend(from.map(|from| Arrow {
                kind,
                from,
                to: place,
            }));
        };
        // A task's first event is where its spawn leads.
        arrow(ArrowKind::Spawn, spawns.remove(&event.task));
        let line = event
            .object
            .map(|object| waiting.entry(object).or_default());
        match (event.operation, event.peer, line) {
            (Operation::Spawn, Some(child), _) if !last.contains_key(&child) => {
                spawns.insert(child, place);
            }
            (Operation::Join, Some(child), _) => arrow(ArrowKind::Join, last.get(&child).copied()),
            (Operation::Unpark, Some(peer), _) => {
                unparks.entry(peer).or_insert(place);
            }
            (Operation::Park, _, _) => {
                arrow(
                    ArrowKind::Unpark,
                    unparks.remove(&event.task).filter(|_| event.ok),
                );
            }
            (Operation::Wait, _, Some(line)) => line.push((event.task, None)),
            (Operation::NotifyOne, Some(peer), Some(line)) => {
                notify(
                    line.iter_mut().filter(|(task, _)| *task == peer).take(1),
                    place,
                );
            }
            // One of several: whoever wakes next was meant, but only with a single one in line
            // is that sure.
            (Operation::NotifyOne, None, Some(line)) => {
                let free = line.iter().filter(|(_, by)| by.is_none()).count();
                if free == 1 {
                    notify(line.iter_mut(), place);
                }
            }
            (Operation::NotifyAll, _, Some(line)) => notify(line.iter_mut(), place),
            (Operation::Wake, _, Some(line)) => {
                if let Some(at) = line.iter().position(|(task, _)| *task == event.task) {
                    arrow(ArrowKind::Notify, line.remove(at).1.filter(|_| event.ok));
                }
            }
            _ => {}
        }
        last.insert(event.task, place);
    }
    arrows
}

fn notify<'a>(line: impl Iterator<Item = &'a mut (u32, Option<usize>)>, by: usize) {
    for (_, notified) in line {
        notified.get_or_insert(by);
    }
}
