//! [`Observer`]: who is told what happens, for logs, metrics and live displays.

use core::time::Duration;
use std::collections::VecDeque;

use super::error::Refusal;
use crate::ddp::coordinator::Member;
use crate::ddp::ids::{Epoch, Rank, SlotId, View};
use crate::ddp::message::AbortReason;
use crate::ddp::rank::Failure;
use crate::ddp::record::CommitRecord;
use crate::ddp::stage::SeedStage;
use crate::time::Instant;

/// A slot as a record leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotAlpha {
    /// The slot.
    pub slot: SlotId,
    /// The bits of alpha, an `f64`: what ranks must have the same of. 0 without a seed.
    pub alpha_bits: u64,
    /// The stage.
    pub stage: SeedStage,
}

impl SlotAlpha {
    /// Every slot of a record.
    #[must_use]
    pub fn of(record: &CommitRecord) -> Vec<SlotAlpha> {
        let slots = record.schedule.slots().iter();
        slots
            .map(|slot| SlotAlpha {
                slot: slot.id(),
                alpha_bits: slot.alpha().map_or(0, |alpha| alpha.alpha().to_bits()),
                stage: slot.stage(),
            })
            .collect()
    }
}

/// Something that happened, at a coordinator or at a rank.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NetEvent {
    /// Coordinator: a rank has a connection. Rank: it has one to the coordinator.
    Connected(Member),
    /// That connection is gone.
    Disconnected(Member),
    /// Another membership.
    ViewChange {
        /// The view.
        view: View,
        /// Who is in it.
        members: Vec<Rank>,
    },
    /// Rank: a step was applied.
    Step {
        /// The epoch.
        epoch: Epoch,
        /// The version of the parameters after it.
        applied: u64,
        /// From the contribution until the sum was there.
        latency: Duration,
    },
    /// An epoch is decided (coordinator), applied (rank).
    Committed {
        /// The epoch.
        epoch: Epoch,
        /// The version of the parameters.
        applied: u64,
        /// The record's digest.
        digest: u64,
        /// Every slot.
        slots: Vec<SlotAlpha>,
        /// Coordinator: from the first rank's arrival. Rank: from its own.
        latency: Duration,
    },
    /// A wait takes long.
    SoftDeadline {
        /// What it is for.
        wait: String,
        /// Who is missing, if that is known.
        missing: Vec<Rank>,
    },
    /// A wait has taken too long.
    HardDeadline {
        /// What it was for.
        wait: String,
        /// Who is missing, if that is known.
        missing: Vec<Rank>,
    },
    /// Coordinator: this life is taken for lost.
    Suspected(Member),
    /// Somebody was not let in, or was cut.
    Refused(Refusal),
    /// Rank: a connection to or from another rank is gone.
    PeerLost {
        /// Which rank.
        rank: Rank,
        /// The view it was for.
        view: View,
    },
    /// Rank: it begins to copy parameters of this version.
    Healing {
        /// The version.
        applied: u64,
    },
    /// Rank: it has a copy.
    Healed {
        /// The version.
        applied: u64,
        /// From whom.
        from: Rank,
    },
    /// Rank: it is out of the run.
    Failed(Failure),
    /// Coordinator: the run is given up.
    Aborted(AbortReason),
    /// The run is over, and all is well.
    Finished,
}

/// An event and when it was noted, on the driver's clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Noted {
    /// When.
    pub at: Instant,
    /// What.
    pub event: NetEvent,
}

/// Is told what happens, from within the driver: it must be quick.
pub trait Observer: Send + 'static {
    /// Something happened.
    fn on(&mut self, noted: &Noted);
}

impl<F: FnMut(&Noted) + Send + 'static> Observer for F {
    fn on(&mut self, noted: &Noted) {
        self(noted);
    }
}

/// The last events, and who is told of them.
pub(super) struct Recorder {
    observer: Option<Box<dyn Observer>>,
    /// Each with its number: what was noted at one time keeps its order.
    recent: VecDeque<(u64, Noted)>,
    /// Of kinds that come in crowds. They must not drive out what led to a failure.
    crowd: VecDeque<(u64, Noted)>,
    next: u64,
}

impl Recorder {
    /// How many events a failure's report has.
    pub(super) const KEPT: usize = 256;
    /// How many of these are refusals and steps, at most.
    pub(super) const KEPT_OF_CROWD: usize = 64;

    pub(super) const fn new() -> Self {
        Recorder {
            observer: None,
            recent: VecDeque::new(),
            crowd: VecDeque::new(),
            next: 0,
        }
    }

    pub(super) fn tell(&mut self, observer: Box<dyn Observer>) {
        self.observer = Some(observer);
    }

    pub(super) fn note(&mut self, at: Instant, event: NetEvent) {
        let noted = Noted { at, event };
        if let Some(observer) = &mut self.observer {
            observer.on(&noted);
        }
        let (kept, most) = match noted.event {
            NetEvent::Refused(_) | NetEvent::Step { .. } => (&mut self.crowd, Self::KEPT_OF_CROWD),
            _ => (&mut self.recent, Self::KEPT - Self::KEPT_OF_CROWD),
        };
        if kept.len() == most {
            kept.pop_front();
        }
        kept.push_back((self.next, noted));
        self.next += 1;
    }

    pub(super) fn take(&mut self) -> Vec<Noted> {
        let kept = self.recent.drain(..).chain(self.crowd.drain(..));
        let mut kept: Vec<_> = kept.collect();
        kept.sort_unstable_by_key(|(number, _)| *number);
        kept.into_iter().map(|(_, noted)| noted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_and_steps_do_not_drive_out_what_led_to_a_failure() {
        let mut recorder = Recorder::new();
        let lost = NetEvent::PeerLost {
            rank: Rank(1),
            view: View(1),
        };
        recorder.note(Instant::ZERO, NetEvent::Refused(Refusal::Token));
        recorder.note(Instant::ZERO, lost.clone());
        for _ in 0..10_000 {
            recorder.note(Instant::ZERO, NetEvent::Refused(Refusal::Crowded));
        }
        recorder.note(Instant::ZERO, NetEvent::Finished);
        let kept = recorder.take();
        assert_eq!(kept.len(), 2 + Recorder::KEPT_OF_CROWD);
        assert_eq!(kept.first().unwrap().event, lost);
        assert_eq!(kept.last().unwrap().event, NetEvent::Finished);
        for epoch in 0..1000 {
            let applied = Epoch(epoch).0;
            recorder.note(Instant::ZERO, NetEvent::Healing { applied });
        }
        let kept = recorder.take();
        assert_eq!(kept.len(), Recorder::KEPT - Recorder::KEPT_OF_CROWD);
    }
}
