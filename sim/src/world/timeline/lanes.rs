//! A run as a [`Trace`], which the drawings of [`crate::timeline`] are made from: each place is a
//! lane, and what goes wrong has one of its own.
//!
//! Nothing here knows the places by name: who takes part is read from what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::chain::{Happened, What};
use super::super::faults::FaultKind;
use super::super::network::Place;
use super::super::{Violation, WorldReport};
use super::is_noise;
use crate::trace::{Event, FaultMark, Lasting, LastingKind, Operation, Site, Timed, Trace};
use crate::{Failure, FailureKind, TaskName};

/// No trace has more events: of a longer run it is the last.
const MOST_EVENTS: usize = 100_000;
/// The lane of what concerns nobody alone.
const WORLD: u32 = 0;

impl Happened {
    /// When, who and what, on a line.
    ///
    /// ```
    /// use selvedge_sim::world::{World, WorldConfig};
    ///
    /// let config = WorldConfig { epochs: 1, record: true, ..WorldConfig::default() };
    /// let report = World::new(config)?.run();
    /// assert_eq!(report.happened[0].line(), "0.000000 s, coordinator: starts: life 1, version 0");
    /// # Ok::<(), selvedge_sim::world::WorldError>(())
    /// ```
    #[must_use]
    pub fn line(&self) -> String {
        let who = self.place.map_or("world".to_owned(), |it| it.to_string());
        let seconds = self.at.as_nanos() as f64 / 1e9;
        format!("{seconds:.6} s, {who}: {self}")
    }
}

impl WorldReport {
    /// The run as drawings want it, without signs of life and timers. It needs
    /// [`WorldConfig::record`](crate::world::WorldConfig::record); without it nothing is there.
    ///
    /// ```
    /// use selvedge_sim::timeline::{self, TextOptions};
    /// use selvedge_sim::world::{World, WorldConfig};
    ///
    /// let config = WorldConfig { ranks: 2, epochs: 3, record: true, ..WorldConfig::default() };
    /// let trace = World::new(config)?.run().trace();
    /// assert_eq!(trace.names, ["world", "coordinator", "rank 0", "rank 1"]);
    /// let drawn = timeline::text(&trace, "three epochs", TextOptions::default());
    /// assert!(drawn.contains("contributes to"));
    /// # Ok::<(), selvedge_sim::world::WorldError>(())
    /// ```
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.drawn(|what| !is_noise(what))
    }

    /// The same, with all that happened, as two runs are compared by.
    pub(crate) fn trace_of_all(&self) -> Trace {
        self.drawn(|_| true)
    }

    fn drawn(&self, shown: impl Fn(What) -> bool) -> Trace {
        let places: BTreeSet<Place> = self.happened.iter().filter_map(|it| it.place).collect();
        let lanes: BTreeMap<Place, u32> = places.into_iter().zip(1..).collect();
        let lane = |it: &Happened| it.place.and_then(|place| lanes.get(&place).copied());
        let kept: Vec<&Happened> = self.happened.iter().filter(|it| shown(it.what)).collect();
        let kept = &kept[kept.len().saturating_sub(MOST_EVENTS)..];
        let mut timed = Timed {
            digest: self.hash,
            at: kept.iter().map(|it| it.at.as_nanos()).collect(),
            left_out: (self.happened.len() - kept.len()) as u64,
            ..Timed::default()
        };
        let mut events: Vec<Event> = (0..)
            .zip(kept)
            .map(|(place, it)| {
                let task = lane(it).unwrap_or(WORLD);
                event(place, task, Operation::Act, self.words(it))
            })
            .collect();
        for (event, it) in (0..).zip(kept) {
            if it.what == What::Fault {
                timed.faults.push(FaultMark {
                    event,
                    number: u32::try_from(it.numbers[0]).unwrap_or(u32::MAX),
                    critical: None,
                });
            }
        }
        timed.lasting = self.lasting(&lane);
        if let Some(violation) = &self.violation {
            let task = kept.last().and_then(|it| lane(it)).unwrap_or(WORLD);
            let place = u32::try_from(events.len()).unwrap_or(u32::MAX);
            let text = violation.signature.to_owned();
            events.push(event(place, task, Operation::Fail, text));
            timed.at.push(violation.at.as_nanos());
        }
        let names = lanes.keys().map(ToString::to_string);
        Trace {
            tasks: (0..=lanes.len() as u32)
                .map(|child| TaskName { parent: 0, child })
                .collect(),
            names: std::iter::once("world".to_owned()).chain(names).collect(),
            events,
            failure: self.violation.as_ref().map(failure),
            timed: Some(Box::new(timed)),
            ..Trace::default()
        }
    }

    /// What happened, in words; a fault by its name.
    fn words(&self, it: &Happened) -> String {
        if it.what != What::Fault {
            return it.to_string();
        }
        let number = it.numbers[0] as usize;
        match self.plan.faults.get(number) {
            Some(fault) => format!("FAULT {number}: {}", in_words(&fault.kind)),
            None => it.to_string(),
        }
    }

    /// Lives, from their beginning to their end; when they were stopped; and faults that last.
    fn lasting(&self, lane: &dyn Fn(&Happened) -> Option<u32>) -> Vec<Lasting> {
        let end = self.happened.last().map_or(0, |it| it.at.as_nanos());
        let mut lasting = Vec::new();
        let mut begun: BTreeMap<(u32, u8), Lasting> = BTreeMap::new();
        for it in &self.happened {
            let at = it.at.as_nanos();
            if it.what == What::Fault {
                lasting.extend(self.effect(it, end));
                continue;
            }
            let Some(task) = lane(it) else { continue };
            let begins = |kind, text| Lasting {
                task,
                kind,
                from: at,
                to: end,
                open: true,
                text,
            };
            let mut ends = |which: u8| {
                lasting.extend(begun.remove(&(task, which)).map(|it| Lasting {
                    to: at,
                    open: false,
                    ..it
                }));
            };
            match it.what {
                What::Starts => {
                    ends(0);
                    ends(1);
                    let life = begins(LastingKind::Life, format!("life {}", it.numbers[0]));
                    begun.insert((task, 0), life);
                }
                What::Dies | What::Done | What::Fails => (ends(1), ends(0)).1,
                What::Freezes => {
                    ends(1);
                    let stopped = begins(LastingKind::Stopped, "is stopped".to_owned());
                    begun.insert((task, 1), stopped);
                }
                What::Thaws => ends(1),
                _ => {}
            }
        }
        lasting.extend(begun.into_values());
        lasting
    }

    /// How long a fault has its effect; of one that is over at once, an instant.
    fn effect(&self, it: &Happened, end: u64) -> Option<Lasting> {
        let fault = self.plan.faults.get(it.numbers[0] as usize)?;
        let from = it.at.as_nanos();
        let lasts = match fault.kind {
            FaultKind::Freeze { lasts, .. }
            | FaultKind::Slow { lasts, .. }
            | FaultKind::Cut { lasts, .. }
            | FaultKind::Partition { lasts, .. }
            | FaultKind::SlowClient { lasts, .. }
            | FaultKind::FullDisk { lasts, .. } => lasts,
            FaultKind::CrashServer { restart } => restart,
            FaultKind::Drain { closed, .. } => closed,
            FaultKind::Crash { restart, .. } | FaultKind::CrashCoordinator { restart, .. } => {
                restart.unwrap_or(Duration::MAX)
            }
            FaultKind::Stick { .. } => Duration::MAX,
            _ => Duration::ZERO,
        };
        let until = u64::try_from(lasts.as_nanos()).unwrap_or(u64::MAX);
        let until = from.saturating_add(until);
        Some(Lasting {
            task: WORLD,
            kind: LastingKind::Fault,
            from,
            to: until.min(end),
            open: until > end,
            text: self.words(it),
        })
    }
}

/// A fault without braces: `crash: rank 2, restart 50ms, machine false`.
fn in_words(kind: &FaultKind) -> String {
    let written = format!("{kind:?}");
    let inside = written.split_once('{').map_or("", |(_, rest)| rest);
    let inside = inside.trim_end_matches('}').trim();
    let mut words = String::new();
    for part in inside.split(", ").filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once(": ").unwrap_or(("", part));
        // `Some(50ms)` is 50ms, and `rank: Rank(2)` says it twice.
        let pieces = value
            .split('(')
            .map(|it| it.trim_end_matches(')').to_lowercase());
        let mut pieces: Vec<String> = pieces.filter(|it| it != "some").collect();
        pieces.dedup();
        if pieces.len() > 1 && pieces[0] == name {
            pieces.remove(0);
        }
        words += match words.is_empty() {
            true => ": ",
            false => ", ",
        };
        words += &format!("{name} {}", pieces.join(" "));
    }
    format!("{}{words}", kind.word())
}

fn event(place: u32, task: u32, operation: Operation, text: String) -> Event {
    Event {
        task,
        operation,
        object: None,
        peer: None,
        read: None,
        wrote: None,
        ok: true,
        text,
        site: Site::default(),
        since: place,
        step: 0,
    }
}

fn failure(violation: &Violation) -> Failure {
    Failure {
        kind: FailureKind::Property,
        signature: violation.signature.to_owned(),
        detail: violation.message.clone(),
        location: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use selvedge_core::ddp::Rank;

    use super::*;

    #[test]
    fn a_fault_is_told_in_words() {
        let crash = FaultKind::Crash {
            rank: Rank(2),
            restart: Some(Duration::from_millis(50)),
            machine: false,
        };
        assert_eq!(
            in_words(&crash),
            "crash: rank 2, restart 50ms, machine false"
        );
        let cut = FaultKind::Cut {
            from: Place::Coordinator,
            to: Place::Rank(Rank(1)),
            lasts: Duration::from_secs(2),
        };
        assert_eq!(in_words(&cut), "cut: from coordinator, to rank 1, lasts 2s");
    }
}
