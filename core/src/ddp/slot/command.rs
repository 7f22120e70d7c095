//! What a policy may do with a slot, as a value: it goes into a commit record, so that every
//! rank does it, in the same epoch. In the origin these were local calls without any agreement.

use super::{CommandError, SeedSlot, Transition};
use crate::ddp::alpha::{AlphaCurve, AlphaLevel};
use crate::ddp::digest::Digest;
use crate::ddp::ids::{BlueprintId, SeedId, SlotId};
use crate::ddp::stage::SeedStage;

/// One thing to do with one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub enum SlotCommand {
    /// [`SeedSlot::germinate`].
    Germinate {
        /// The slot.
        slot: SlotId,
        /// The seed.
        seed: SeedId,
        /// What it is built from.
        blueprint: BlueprintId,
    },
    /// [`SeedSlot::advance_stage`]: put to the vote at the boundary after.
    Advance {
        /// The slot.
        slot: SlotId,
        /// The stage; what comes next if none.
        target: Option<SeedStage>,
    },
    /// [`SeedSlot::prune`].
    Prune {
        /// The slot.
        slot: SlotId,
    },
    /// [`SeedSlot::schedule_prune`].
    SchedulePrune {
        /// The slot.
        slot: SlotId,
        /// Epochs it takes.
        steps: u32,
    },
    /// [`SeedSlot::set_alpha_target`].
    SetAlphaTarget {
        /// The slot.
        slot: SlotId,
        /// The level.
        target: AlphaLevel,
        /// Epochs it takes.
        steps: u32,
        /// The shape, if another.
        curve: Option<AlphaCurve>,
    },
}

impl SlotCommand {
    /// The slot it is for.
    #[must_use]
    pub const fn slot(&self) -> SlotId {
        match *self {
            SlotCommand::Germinate { slot, .. }
            | SlotCommand::Advance { slot, .. }
            | SlotCommand::Prune { slot }
            | SlotCommand::SchedulePrune { slot, .. }
            | SlotCommand::SetAlphaTarget { slot, .. } => slot,
        }
    }

    pub(in crate::ddp) fn fold(&self, digest: &mut Digest) {
        digest.words(&[u64::from(self.slot().0)]);
        match *self {
            SlotCommand::Germinate {
                seed, blueprint, ..
            } => digest.words(&[1, seed.0, u64::from(blueprint.0)]),
            SlotCommand::Advance { target, .. } => {
                digest.words(&[2, target.map_or(0, |stage| stage as u64)]);
            }
            SlotCommand::Prune { .. } => digest.words(&[3]),
            SlotCommand::SchedulePrune { steps, .. } => digest.words(&[4, u64::from(steps)]),
            SlotCommand::SetAlphaTarget {
                target,
                steps,
                curve,
                ..
            } => {
                let level = u64::from(target.billionths());
                digest.words(&[5, level, u64::from(steps), u64::from(curve.is_some())]);
                if let Some(curve) = curve {
                    curve.fold(digest);
                }
            }
        }
    }
}

impl SeedSlot {
    /// Does what the command says.
    ///
    /// # Errors
    /// [`CommandError`]: it is another slot's, or the call it stands for refuses. Nothing has
    /// changed then.
    pub fn command(&mut self, command: &SlotCommand) -> Result<Option<Transition>, CommandError> {
        if command.slot() != self.id {
            return Err(CommandError::UnknownSlot {
                slot: command.slot(),
            });
        }
        Ok(match *command {
            SlotCommand::Germinate {
                seed, blueprint, ..
            } => Some(self.germinate(seed, blueprint)?),
            SlotCommand::Advance { target, .. } => {
                self.advance_stage(target)?;
                None
            }
            SlotCommand::Prune { .. } => Some(self.prune()?),
            SlotCommand::SchedulePrune { steps, .. } => self.schedule_prune(steps)?,
            SlotCommand::SetAlphaTarget {
                target,
                steps,
                curve,
                ..
            } => self.set_alpha_target(target, steps, curve)?,
        })
    }
}
