//! The origin counts the epochs of a slot's embargo in its epoch step. The vectorised trainer
//! also notes the accuracy of every slot that has a state, an embargoed one too, and that counts
//! an epoch as well: the clock has two owners, and an embargo of five epochs lasts three.
//!
//! Two owners of a slot whose seed was pruned: one notes accuracies, one steps epochs.
//!
//! What ships counts in the epoch step alone: to measure takes the schedule to read from, and
//! asks for what is to be decided, which is nothing of a slot under embargo.

use selvedge_core::ddp::{GateMetrics, Schedule, SeedStage, SlotId, SlotRules};
use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::in_rounds;
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};
use crate::slots::{ASKING, schedule_of, seeded};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-EMBARGO-DOUBLE",
    ticket: "esper slot.py, record_accuracy and step_epoch",
    summary: "two callers count the epochs of one embargo",
    source: concat!(
        include_str!("embargo_double.rs"),
        include_str!("../slots.rs")
    ),
    twin: bodies!(note_and_step, TwoOwners),
    shipped: bodies!(note_and_step, OneOwner),
    signature: "embargo-cut-short",
    must_reach: &["measured", "kept-to-the-end"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// Epochs: few, so that a search is short.
const EMBARGO: u32 = 2;

/// The slot beside it.
const OTHER: SlotId = SlotId(1);

/// A slot under embargo.
trait Slot: Send + Sync + 'static {
    fn new() -> Self;
    fn record_accuracy(&self);
    /// Whether the embargo is over.
    fn step_epoch(&self) -> bool;
}

fn note_and_step<P: Platform, T: Slot>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let slot = P::Arc::new(T::new());
        let noting = slot.clone();
        let noter = P::spawn(move || {
            for _ in 0..EMBARGO {
                noting.record_accuracy();
            }
        });
        let over = (1..=EMBARGO).find(|_| slot.step_epoch());
        noter.join();
        match over {
            Some(EMBARGO) => reach("kept-to-the-end"),
            Some(epochs) => violation!("embargo-cut-short", "{epochs} epochs of {EMBARGO}"),
            None => violation!("embargo-too-long", "more than {EMBARGO} epochs"),
        }
        String::new()
    })
}

/// The code that ships.
struct OneOwner<P: Platform>(P::Mutex<Schedule>);

impl<P: Platform> Slot for OneOwner<P> {
    fn new() -> Self {
        let rules = SlotRules {
            embargo_epochs: EMBARGO,
            ..SlotRules::default()
        };
        let mut slot = seeded(ASKING, rules);
        if let Err(refused) = slot.prune() {
            violation!("bad-configuration", "{refused}");
        }
        slot.step_epoch(None);
        if slot.stage() != SeedStage::Embargoed {
            violation!("bad-configuration", "it is {}", slot.stage());
        }
        // Another asks each epoch, so that there is something to measure.
        let rules = SlotRules {
            auto_g1: true,
            ..SlotRules::default()
        };
        let other = seeded(OTHER, rules);
        OneOwner(P::Mutex::new(schedule_of([slot, other])))
    }

    fn record_accuracy(&self) {
        let schedule = self.0.lock();
        let votes = schedule.vote(|slot| {
            if slot != OTHER {
                violation!("measured-under-embargo", "{slot} has nothing to decide");
            }
            reach("measured");
            GateMetrics {
                improvement: Some(1.0),
                ..GateMetrics::default()
            }
        });
        if votes.len() != 1 {
            violation!("not-asked", "{votes:?}");
        }
    }

    fn step_epoch(&self) -> bool {
        let mut schedule = self.0.lock();
        schedule.step_epoch(&[]);
        schedule.slots()[0].stage() == SeedStage::Resetting
    }
}

/// As reported.
struct TwoOwners<P: Platform>(P::Mutex<u32>);

impl<P: Platform> Slot for TwoOwners<P> {
    fn new() -> Self {
        TwoOwners(P::Mutex::new(0))
    }

    fn record_accuracy(&self) {
        *self.0.lock() += 1;
    }

    fn step_epoch(&self) -> bool {
        let mut epochs_in_stage = self.0.lock();
        *epochs_in_stage += 1;
        *epochs_in_stage >= EMBARGO
    }
}
