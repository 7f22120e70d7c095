//! What all drawings of one trace share: lanes, names, who took over from whom, what each task
//! waits for. A trace may have come from a file, so every place in it is looked up with care.

use std::collections::HashMap;

use crate::trace::stale::{self, StaleRead};
use crate::trace::waits::{self, Waits};
use crate::trace::{Event, Operation, Trace};

use super::shape::clean;
use super::spans::{self, Arrow, Span};

/// A trace, made ready to be drawn.
pub(super) struct Scene<'a> {
    pub(super) trace: &'a Trace,
    /// The name of each lane: one a task, and one more where something was done by a task that
    /// the trace does not list.
    pub(super) lanes: Vec<String>,
    /// The short name of each object.
    pub(super) objects: Vec<String>,
    /// What each event, by place, took over from another.
    pub(super) turns: HashMap<usize, Turn>,
    /// Events, by place, that read an older value than the last.
    pub(super) stale: HashMap<usize, StaleRead>,
    pub(super) spans: Vec<Span>,
    pub(super) arrows: Vec<Arrow>,
    /// What each task waits for at the end, in the order of [`Trace::blocked`].
    pub(super) waits: Vec<Waits>,
    /// Tasks each of which waits for the next, if there is such a circle.
    pub(super) cycle: Vec<u32>,
    /// The event at which it failed, where one is.
    pub(super) failed_at: Option<usize>,
}

/// Another task takes over, just before an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// The lane of the event before, where there is one.
    pub(super) from: Option<usize>,
    /// The lane of this event; at the end of the trace there is none.
    pub(super) to: Option<usize>,
    /// Whether one of the switches here is a preemption.
    pub(super) preemption: bool,
    /// Whether the failure vanishes without one of the switches here.
    pub(super) critical: bool,
    /// In a world nobody takes over: it is the fault that is this event.
    pub(super) fault: Option<usize>,
}

impl<'a> Scene<'a> {
    pub(super) fn of(trace: &'a Trace) -> Self {
        let waits = waits::at_end(trace);
        let known = trace.tasks.len() as u32;
        let tasks = (trace.events.iter().map(|event| event.task))
            .chain(trace.blocked.iter().map(|blocked| blocked.task));
        let strangers = tasks.filter(|&task| task >= known).count().min(1) as u32;
        let lanes = (0..known).map(|task| clean(&trace.task_name(task)));
        let failed_at = (trace.failure.is_some())
            .then(|| {
                let failing = |event: &Event| event.operation == Operation::Fail;
                trace.events.iter().position(failing)
            })
            .flatten();
        let stale = stale::reads(trace).into_iter();
        Scene {
            trace,
            lanes: lanes
                .chain((0..strangers).map(|_| "?".to_owned()))
                .collect(),
            objects: (0..trace.objects.len() as u32)
                .map(|object| trace.object_name(object))
                .collect(),
            turns: turns(trace),
            stale: stale.map(|read| (read.event as usize, read)).collect(),
            spans: spans::spans(trace),
            arrows: spans::arrows(trace),
            cycle: waits::cycle(&waits).unwrap_or_default(),
            waits,
            failed_at,
        }
    }

    /// The lane that a task is drawn in.
    pub(super) fn lane(&self, task: u32) -> usize {
        lane_of(self.trace, task)
    }

    /// The name of a task.
    pub(super) fn task(&self, task: u32) -> String {
        match self.trace.tasks.get(task as usize) {
            Some(_) => clean(&self.trace.task_name(task)),
            None => "?".to_owned(),
        }
    }

    /// The short name of an object.
    pub(super) fn object(&self, object: u32) -> &str {
        (self.objects.get(object as usize)).map_or("?", String::as_str)
    }

    /// What an object is: `mutex of PoolState`.
    pub(super) fn object_kind(&self, object: u32) -> String {
        let Some(it) = self.trace.objects.get(object as usize) else {
            return "unknown".to_owned();
        };
        match it.of.is_empty() {
            true => it.kind.word().to_owned(),
            false => format!("{} of {}", it.kind.word(), clean(&it.of)),
        }
    }

    /// When an event happened, where there is time: `1.204317 s`.
    pub(super) fn time(&self, place: usize) -> Option<String> {
        let timed = self.trace.timed.as_ref()?;
        timed.at.get(place).copied().map(seconds)
    }

    /// How many switches there are, how many of them are preemptions, how many critical.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let turns = || self.turns.values();
        (
            turns().count(),
            turns().filter(|turn| turn.preemption).count(),
            turns().filter(|turn| turn.critical).count(),
        )
    }

    /// `3 tasks, 14 events, 5 switches: 2 preemptions, 1 critical`.
    pub(super) fn summary(&self) -> String {
        let many = |n: usize, one: &str, more: &str| match n {
            1 => format!("1 {one}"),
            n => format!("{n} {more}"),
        };
        if let Some(timed) = &self.trace.timed {
            let last = timed.at.last().copied().unwrap_or(0);
            let mut out = format!(
                "{}, {}, {} of virtual time",
                many(self.lanes.len().saturating_sub(1), "place", "places"),
                many(self.trace.events.len(), "event", "events"),
                seconds(last),
            );
            if timed.left_out > 0 {
                out += &format!(" ({} more, beats and timers, left out)", timed.left_out);
            }
            let critical = self.counts().2;
            out += &format!(", {}", many(timed.faults.len(), "fault", "faults"));
            if critical > 0 {
                out += &format!(", {critical} critical");
            }
            return out;
        }
        if self.trace.is_of_model() {
            let actions = self.trace.events.len();
            return format!("a path of {}", many(actions, "action", "actions"));
        }
        let (turns, preemptions, critical) = self.counts();
        let mut out = format!(
            "{}, {}, {}",
            many(self.lanes.len(), "task", "tasks"),
            many(self.trace.events.len(), "event", "events"),
            many(turns, "switch", "switches"),
        );
        if preemptions > 0 {
            out += &format!(": {}", many(preemptions, "preemption", "preemptions"));
        }
        if critical > 0 {
            out += &format!(", {critical} critical");
        }
        out
    }
}

/// Nanoseconds as seconds, to the microsecond.
pub(super) fn seconds(nanos: u64) -> String {
    format!("{:.6} s", nanos as f64 / 1e9)
}

/// The lane that a task is drawn in: its place, or the one behind them all.
pub(super) fn lane_of(trace: &Trace, task: u32) -> usize {
    (task as usize).min(trace.tasks.len())
}

/// Where tasks take over: where the engine said so, and wherever the next event is another
/// task's, as not every engine says so.
fn turns(trace: &Trace) -> HashMap<usize, Turn> {
    let mut turns = HashMap::<usize, Turn>::new();
    for fault in trace.timed.iter().flat_map(|timed| &timed.faults) {
        let place = fault.event as usize;
        if fault.critical == Some(true) && place < trace.events.len() {
            let critical = Turn {
                critical: true,
                fault: Some(place),
                ..Turn::default()
            };
            turns.insert(place, critical);
        }
    }
    if trace.is_of_model() {
        return turns;
    }
    let lane = |place: usize| (trace.events.get(place)).map(|event| lane_of(trace, event.task));
    let at = |place: usize| Turn {
        from: place.checked_sub(1).and_then(lane),
        to: lane(place),
        ..Turn::default()
    };
    // Events in the order of steps, to look up the first of a step or a later one. They are in
    // that order already, unless the trace is not an engine's.
    let mut latest = 0;
    let reached: Vec<u64> = (trace.events.iter())
        .map(|event| {
            latest = latest.max(event.step);
            latest
        })
        .collect();
    for switch in &trace.switches {
        let place = reached.partition_point(|&step| step < switch.step);
        let turn = turns.entry(place).or_insert_with(|| at(place));
        turn.preemption |= switch.preemption;
        turn.critical |= switch.critical == Some(true);
    }
    for place in 1..trace.events.len() {
        if lane(place) != lane(place - 1) {
            turns.entry(place).or_insert_with(|| at(place));
        }
    }
    turns
}
