//! What happened to seeds, for whoever wants to see it. It is no part of what ranks agree on:
//! it follows from the records.

use std::collections::VecDeque;

use super::PruneReason;
use crate::ddp::ids::{SeedId, SlotId};
use crate::ddp::stage::SeedStage;

/// A change of stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transition {
    /// The slot.
    pub slot: SlotId,
    /// The seed.
    pub seed: SeedId,
    /// The stage it left.
    pub from: SeedStage,
    /// The stage it entered.
    pub to: SeedStage,
    /// Epochs it had been in the stage it left.
    pub epochs: u32,
    /// Why it was removed, if it was.
    pub pruned: Option<PruneReason>,
}

/// The last changes of stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct History(VecDeque<Transition>);

impl History {
    /// How many changes are kept.
    pub const KEPT: usize = 100;

    /// Notes a change, and forgets the oldest if there are too many.
    pub fn note(&mut self, transition: Transition) {
        if self.0.len() == Self::KEPT {
            self.0.pop_front();
        }
        self.0.push_back(transition);
    }

    /// The changes, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Transition> {
        self.0.iter()
    }
}
