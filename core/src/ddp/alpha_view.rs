//! Evaluation with another alpha than a slot has, such as the host without its seed.
//!
//! The origin did that by a context that wrote the alpha and wrote the old one back at its end
//! (`E-FORCE-ALPHA`). Two of them at once leave what one of them forced, and a tick between the
//! two is undone while its count stays. Here nothing is written: what is forced is part of the
//! view that the pass is made with.

use thiserror::Error;

use super::alpha::AlphaLevel;
use super::ids::SlotId;
use super::schedule::Schedule;

/// The alphas of one forward pass: the schedule's, but for those that are forced.
///
/// **It only reads. Any number of them may be there at once, on any thread**, and the schedule
/// cannot change while one of them looks at it.
///
/// ```
/// use selvedge_core::ddp::{
///     AlphaLevel, BlueprintId, Schedule, SeedId, SeedSlot, SlotId, SlotRules,
/// };
///
/// let mut slot = SeedSlot::new(SlotId(0), SlotRules::default());
/// slot.germinate(SeedId(7), BlueprintId(1))?;
/// let schedule = Schedule::new([slot])?;
///
/// let with_it = schedule.alphas().force(SlotId(0), AlphaLevel::ONE)?;
/// assert_eq!(with_it.of(SlotId(0)), Some(1.0));
/// assert_eq!(schedule.alphas().of(SlotId(0)), Some(0.0), "nobody else sees it");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlphaView<'a> {
    schedule: &'a Schedule,
    /// At most one for a slot.
    forced: Vec<(SlotId, AlphaLevel)>,
}

impl<'a> AlphaView<'a> {
    pub(super) fn new(schedule: &'a Schedule) -> Self {
        AlphaView {
            schedule,
            forced: Vec::new(),
        }
    }

    /// The same, but with the slot at `level`; what was forced for it before counts no more.
    ///
    /// # Errors
    /// Each of [`ForceError`].
    pub fn force(mut self, slot: SlotId, level: AlphaLevel) -> Result<Self, ForceError> {
        match self.schedule.slot(slot) {
            None => return Err(ForceError::UnknownSlot { slot }),
            Some(found) if found.alpha().is_none() => return Err(ForceError::NoSeed { slot }),
            Some(_) => {}
        }
        self.forced.retain(|&(other, _)| other != slot);
        self.forced.push((slot, level));
        Ok(self)
    }

    /// The slot's alpha in this pass; `None` if it is no slot or has no seed.
    #[must_use]
    pub fn of(&self, slot: SlotId) -> Option<f64> {
        let forced = self.forced.iter().find(|(other, _)| *other == slot);
        match forced {
            Some((_, level)) => Some(level.as_f64()),
            None => Some(self.schedule.slot(slot)?.alpha()?.alpha()),
        }
    }
}

/// Why no alpha was forced.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ForceError {
    /// There is no such slot.
    #[error("there is no {slot} whose alpha could be forced")]
    UnknownSlot {
        /// The slot it named.
        slot: SlotId,
    },
    /// The slot is empty.
    #[error("{slot} has no seed, and so no alpha; germinate one first")]
    NoSeed {
        /// The slot.
        slot: SlotId,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddp::ids::{BlueprintId, SeedId};
    use crate::ddp::slot::{SeedSlot, SlotRules};

    #[test]
    fn what_is_forced_is_forced_for_its_slot_and_its_view_alone() {
        let seeded = |id| {
            let mut slot = SeedSlot::new(SlotId(id), SlotRules::default());
            slot.germinate(SeedId(1), BlueprintId(1)).unwrap();
            slot
        };
        let empty = SeedSlot::new(SlotId(3), SlotRules::default());
        let schedule = Schedule::new([seeded(1), seeded(2), empty]).unwrap();
        let digest = schedule.digest();
        let level = |level| AlphaLevel::from_f64(level).unwrap();

        let one = schedule.alphas().force(SlotId(1), level(0.3)).unwrap();
        let inner = one.clone().force(SlotId(1), level(0.7)).unwrap();
        let of = |view: &AlphaView<'_>| [1, 2, 3, 4].map(|slot| view.of(SlotId(slot)));
        assert_eq!(of(&inner), [Some(0.7), Some(0.0), None, None]);
        assert_eq!(of(&one), [Some(0.3), Some(0.0), None, None]);
        assert_eq!(of(&schedule.alphas()), [Some(0.0), Some(0.0), None, None]);
        assert_eq!(schedule.digest(), digest);

        let slot = SlotId(3);
        let refused = schedule.alphas().force(slot, AlphaLevel::ONE);
        assert_eq!(refused, Err(ForceError::NoSeed { slot }));
        let slot = SlotId(4);
        let refused = schedule.alphas().force(slot, AlphaLevel::ONE);
        assert_eq!(refused, Err(ForceError::UnknownSlot { slot }));
    }
}
