//! What is said of an event, a wait, an object: the same words in every drawing.

use crate::trace::waits::Waits;
use crate::trace::{Event, Operation};

use super::scene::{Scene, Turn};
use super::shape::clean;
use super::spans::{Span, SpanKind};

impl Scene<'_> {
    /// What an event does and what came of it: `cas A2 0 -> 1`.
    pub(super) fn phrase(&self, event: &Event) -> String {
        let word = event.operation.word();
        let object = event.object.map(|object| self.object(object));
        let on = |word: &str| match object {
            Some(name) => format!("{word} {name}"),
            None => word.to_owned(),
        };
        let peer = event.peer.map(|peer| self.task(peer));
        let value = |value: Option<u64>| value.map_or("?".to_owned(), |value| value.to_string());
        let change = |word| match (event.read, event.wrote) {
            (None, None) => on(word),
            (read, wrote) => format!("{} {} -> {}", on(word), value(read), value(wrote)),
        };
        match event.operation {
            Operation::Load => format!("{} = {}", on(word), value(event.read)),
            Operation::Store => format!("{} := {}", on(word), value(event.wrote)),
            Operation::CompareExchange if !event.ok => match event.read {
                Some(read) => format!("{} failed: is {read}", on("cas")),
                None => format!("{} failed", on("cas")),
            },
            Operation::CompareExchange => change("cas"),
            Operation::Swap
            | Operation::FetchAdd
            | Operation::FetchSub
            | Operation::FetchAnd
            | Operation::FetchOr
            | Operation::FetchMax => change(word),
            Operation::TryLock if !event.ok => format!("{}: busy", on(word)),
            Operation::Wake | Operation::Park if !event.ok => format!("{}: timed out", on(word)),
            Operation::Spawn | Operation::Join | Operation::Unpark => {
                format!("{word} {}", peer.as_deref().unwrap_or("?"))
            }
            Operation::NotifyOne | Operation::NotifyAll => match peer {
                Some(peer) => format!("{}, wakes {peer}", on(word)),
                None => on(word),
            },
            Operation::Choose => match event.read.or(event.wrote) {
                Some(choice) => format!("{} = {choice}", on(word)),
                None => on(word),
            },
            Operation::Act => clean(&event.text),
            Operation::Note | Operation::Fail => match event.text.is_empty() {
                true => word.to_owned(),
                false => format!("{word} {}", clean(&event.text)),
            },
            _ if !event.ok => format!("{}: failed", on(word)),
            _ => on(word),
        }
    }

    /// What a reader would not see by himself: that the value read is an old one.
    pub(super) fn remark(&self, place: usize) -> Option<String> {
        let read = self.stale.get(&place)?;
        let writer = (self.trace.events.get(read.write as usize)).map(|write| write.task)?;
        Some(format!(
            "(stale: {} was written by {})",
            read.latest,
            self.task(writer)
        ))
    }

    /// What was begun and never done, in few words: `lock M2 ...`.
    pub(super) fn begun(&self, waits: &Waits, peer: Option<u32>) -> String {
        let word = waits.operation.word();
        match (waits.object, peer) {
            (Some(object), _) => format!("{word} {} ...", self.object(object)),
            (None, Some(peer)) => format!("{word} {} ...", self.task(peer)),
            (None, None) => format!("{word} ..."),
        }
    }

    /// What a task waits for, and who would have to do something first: `waits to lock M2, held
    /// by 0.1`.
    pub(super) fn waiting(&self, waits: &Waits, peer: Option<u32>) -> String {
        let object = waits.object.map_or("?", |object| self.object(object));
        let held = match waits.on.as_slice() {
            [] => ", held by nobody".to_owned(),
            on if on.contains(&waits.task) => ", held by itself".to_owned(),
            on => format!(", held by {}", self.all(on)),
        };
        match waits.operation {
            Operation::Lock => format!("waits to lock {object}{held}"),
            Operation::ReadLock => format!("waits to read-lock {object}{held}"),
            Operation::WriteLock => format!("waits to write-lock {object}{held}"),
            Operation::Wait | Operation::Wake => format!("waits on {object} to be notified"),
            Operation::Park => "waits to be unparked".to_owned(),
            Operation::Join => {
                let whom = peer.map_or_else(|| self.all(&waits.on), |peer| self.task(peer));
                format!("waits to join {whom}, which has not finished")
            }
            other => match waits.object {
                Some(_) => format!("had begun: {} {object}", other.word()),
                None => format!("had begun: {}", other.word()),
            },
        }
    }

    /// The locks that a task holds at the end: `M1 and M2`.
    pub(super) fn holds(&self, task: u32) -> Option<String> {
        let mine = self
            .spans
            .iter()
            .filter(|span| span.task == task && span.open && span.kind != SpanKind::Waiting);
        let names: Vec<&str> = mine
            .filter_map(|span| span.object.map(|object| self.object(object)))
            .collect();
        (!names.is_empty()).then(|| names.join(" and "))
    }

    /// How long what lasted: `holds M1`, `waits to lock M1`.
    pub(super) fn lasting(&self, span: &Span) -> String {
        let object = span.object.map_or("", |object| self.object(object));
        if let Some(said) = &span.said {
            return clean(said);
        }
        let words = match (span.kind, span.operation) {
            (SpanKind::Lasting(kind), _) => return kind.word().to_owned(),
            (SpanKind::Held, _) => "holds",
            (SpanKind::Shared, _) => "reads under",
            (SpanKind::Waiting, Operation::Join) => {
                let whom = span.peer.map_or("?".to_owned(), |peer| self.task(peer));
                return format!("waits to join {whom}");
            }
            (SpanKind::Waiting, Operation::Park) => "is parked",
            (SpanKind::Waiting, Operation::Wake | Operation::Wait) => "waits on",
            (SpanKind::Waiting, Operation::ReadLock) => "waits to read-lock",
            (SpanKind::Waiting, Operation::WriteLock) => "waits to write-lock",
            (SpanKind::Waiting, other) => return format!("waits to {} {object}", other.word()),
        };
        format!("{words} {object}").trim_end().to_owned()
    }

    /// What the switch before an event is: `0.1 preempts 0.0`.
    pub(super) fn turning(&self, turn: &Turn) -> String {
        if let Some(event) = turn.fault.and_then(|place| self.trace.events.get(place)) {
            return clean(&event.text);
        }
        let name = |lane: Option<usize>| {
            (lane.and_then(|lane| self.lanes.get(lane))).map_or("another task", String::as_str)
        };
        match (turn.from == turn.to, turn.preemption) {
            (false, true) => format!("{} preempts {}", name(turn.to), name(turn.from)),
            (false, false) => format!("{} goes on after {}", name(turn.to), name(turn.from)),
            (true, true) => format!(
                "a task preempts {}, and does nothing that is seen",
                name(turn.from)
            ),
            (true, false) => format!("{} lets others go first", name(turn.from)),
        }
    }

    fn all(&self, tasks: &[u32]) -> String {
        let names: Vec<String> = tasks.iter().map(|&task| self.task(task)).collect();
        match names.is_empty() {
            true => "?".to_owned(),
            false => names.join(" and "),
        }
    }
}
