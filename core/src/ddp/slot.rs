//! A slot and the seed in it: stages, alpha, the embargo, all in integers. Every change is
//! either a [`SlotCommand`] or the step of an epoch, and both come out of a commit record.
//!
//! **One call of [`SeedSlot::step_epoch`] an epoch; nothing else counts epochs.** In the origin
//! two callers did, and an embargo of five epochs lasted three (`E-EMBARGO-DOUBLE`).
//!
//! What a slot does with floats is nothing: it takes decisions, never measurements.

use super::alpha::{AlphaController, AlphaCurve, AlphaLevel, AlphaMode, Steepness};
use super::digest::Digest;
use super::gates::{Decision, MIN_EPOCHS, Question, Reduction, Strictness};
use super::ids::{BlueprintId, SeedId, SlotId};
use super::stage::SeedStage;

mod command;
mod error;
mod history;

pub use command::SlotCommand;
pub use error::{
    AdvanceError, AlphaTargetError, CommandError, GerminateError, PruneError, SchedulePruneError,
};
pub use history::{History, Transition};

/// Epochs a seed should have lived before a policy prunes it.
pub const MIN_PRUNE_AGE: u32 = 5;

/// How a slot is run: the same on every rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub struct SlotRules {
    /// How much its gates ask.
    pub strictness: Strictness,
    /// Whether it asks to enter training by itself.
    pub auto_g1: bool,
    /// Whether it asks to begin blending by itself.
    pub auto_g2: bool,
    /// Whether it asks to hold by itself, once blended in.
    pub auto_g3: bool,
    /// How votes on its gates are reduced.
    pub reduction: Reduction,
    /// Epochs the slot stays empty after a seed was removed.
    pub embargo_epochs: u32,
    /// Epochs that blending in takes.
    pub blend_steps: u32,
    /// The shape of blending in.
    pub blend_curve: AlphaCurve,
    /// Whether a blending seed's gradient stays apart from the host's (as for convolutions).
    pub isolate_blending: bool,
}

impl Default for SlotRules {
    /// Strict, nothing by itself, all ranks must agree, five epochs of embargo and of blending.
    fn default() -> Self {
        SlotRules {
            strictness: Strictness::Strict,
            auto_g1: false,
            auto_g2: false,
            auto_g3: false,
            reduction: Reduction::All,
            embargo_epochs: 5,
            blend_steps: 5,
            blend_curve: AlphaCurve::Sigmoid(Steepness::DEFAULT),
            isolate_blending: false,
        }
    }
}

/// Why a seed was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PruneReason {
    /// A policy or a user said so.
    Requested,
    /// Alpha has reached the 0 that was scheduled.
    Scheduled,
}

/// The seed in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Seed {
    pub(super) id: SeedId,
    pub(super) blueprint: BlueprintId,
    pub(super) stage: SeedStage,
    /// Epochs since the stage began. The embargo is counted by it too: there is one clock.
    pub(super) epochs_in_stage: u32,
    pub(super) epochs: u32,
    pub(super) alpha: AlphaController,
    /// Its gradient is kept from the host's.
    pub(super) isolated: bool,
    /// Asked for by a command, and not decided yet.
    pub(super) requested: Option<SeedStage>,
}

/// One slot. The same on every rank that has applied the same record.
///
/// ```
/// use selvedge_core::ddp::{BlueprintId, SeedId, SeedSlot, SeedStage, SlotId, SlotRules};
///
/// let mut slot = SeedSlot::new(SlotId(0), SlotRules { auto_g1: true, ..SlotRules::default() });
/// slot.germinate(SeedId(7), BlueprintId(1))?;
/// let question = slot.question().expect("it wants to train");
/// let vote = slot.evaluate(question, &Default::default()).vote(question);
/// let decision = slot.rules().reduction.decide(question, &[vote]);
/// let change = slot.step_epoch(Some(&decision)).expect("all voters passed");
/// assert_eq!((change.from, change.to), (SeedStage::Germinated, SeedStage::Training));
/// # Ok::<(), selvedge_core::ddp::GerminateError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "net", serde(try_from = "super::net::SlotParts"))]
pub struct SeedSlot {
    pub(super) id: SlotId,
    pub(super) rules: SlotRules,
    pub(super) seed: Option<Seed>,
}

impl SeedSlot {
    /// An empty slot.
    #[must_use]
    pub const fn new(id: SlotId, rules: SlotRules) -> Self {
        SeedSlot {
            id,
            rules,
            seed: None,
        }
    }

    /// Puts a seed into an empty slot, through gate G0.
    ///
    /// # Errors
    /// Each of [`GerminateError`]; nothing has changed then.
    pub fn germinate(
        &mut self,
        seed: SeedId,
        blueprint: BlueprintId,
    ) -> Result<Transition, GerminateError> {
        if let Some(old) = &self.seed {
            return Err(GerminateError::Occupied { stage: old.stage });
        }
        if seed == SeedId(0) || blueprint == BlueprintId(0) {
            return Err(GerminateError::MissingId);
        }
        self.seed = Some(Seed {
            id: seed,
            blueprint,
            stage: SeedStage::Germinated,
            epochs_in_stage: 0,
            epochs: 0,
            alpha: AlphaController::held(AlphaLevel::ZERO, self.rules.blend_curve),
            isolated: false,
            requested: None,
        });
        Ok(Transition {
            slot: self.id,
            seed,
            from: SeedStage::Dormant,
            to: SeedStage::Germinated,
            epochs: 0,
            pruned: None,
        })
    }

    /// Asks that the seed go on to `target`, or to whatever comes next. It is put to the vote
    /// at the next boundary: [`Self::question`].
    ///
    /// # Errors
    /// Each of [`AdvanceError`]; nothing has changed then.
    pub fn advance_stage(&mut self, target: Option<SeedStage>) -> Result<Question, AdvanceError> {
        let Some(seed) = &mut self.seed else {
            return Err(AdvanceError::NoSeed);
        };
        let stage = seed.stage;
        if target.is_some_and(SeedStage::is_failure) {
            return Err(AdvanceError::Failure { stage });
        }
        let onward = (!stage.is_failure()).then(|| stage.onward()).flatten();
        let Some(target) = target.or(onward) else {
            return Err(AdvanceError::NoSuccessor { stage });
        };
        if !stage.may_become(target) {
            return Err(AdvanceError::NotASuccessor { stage, target });
        }
        let Some(gate) = target.gate() else {
            return Err(AdvanceError::NotASuccessor { stage, target });
        };
        seed.requested = Some(target);
        Ok(Question {
            slot: self.id,
            gate,
            target,
        })
    }

    /// What the next epoch step has to know: the stage that was asked for, or the one that the
    /// slot would go to by itself. It is a pure function of the slot, so all ranks ask the
    /// same.
    #[must_use]
    pub fn question(&self) -> Option<Question> {
        let seed = self.at_gate().seed?;
        let old_enough = seed.epochs_in_stage >= MIN_EPOCHS;
        let permissive = self.rules.strictness == Strictness::Permissive;
        let by_itself = match seed.stage {
            SeedStage::Germinated => self.rules.auto_g1.then_some(SeedStage::Training),
            SeedStage::Training => {
                (self.rules.auto_g2 && old_enough).then_some(SeedStage::Blending)
            }
            SeedStage::Blending => {
                let there = seed.alpha.mode() == AlphaMode::Hold && !seed.alpha.target().is_off();
                (there && self.rules.auto_g3 && (permissive || old_enough))
                    .then_some(SeedStage::Holding)
            }
            _ => None,
        };
        let target = seed.requested.or(by_itself)?;
        Some(Question {
            slot: self.id,
            gate: target.gate()?,
            target,
        })
    }

    /// The slot as its gates see it in the next epoch step: one epoch older, and one tick on
    /// if it blends.
    #[must_use]
    pub fn at_gate(&self) -> SeedSlot {
        let mut slot = *self;
        if let Some(seed) = &mut slot.seed {
            seed.epochs_in_stage = seed.epochs_in_stage.saturating_add(1);
            seed.epochs = seed.epochs.saturating_add(1);
            if seed.stage == SeedStage::Blending {
                seed.alpha.step();
            }
        }
        slot
    }

    /// What this rank makes of the gate in `question`.
    #[must_use]
    pub fn evaluate(
        &self,
        question: Question,
        metrics: &super::gates::GateMetrics,
    ) -> super::gates::GateResult {
        super::gates::evaluate(question.gate, &self.at_gate(), metrics)
    }

    /// The step of one epoch: counts it, ticks alpha, and goes to another stage if that was
    /// decided, or if the time has come. At most one stage a call. A decision that answers
    /// anything but this slot's own question is not taken.
    pub fn step_epoch(&mut self, decision: Option<&Decision>) -> Option<Transition> {
        let question = self.question();
        *self = self.at_gate();
        let seed = self.seed.as_mut()?;
        if decision.is_some_and(|decision| Some(decision.question) == question) {
            seed.requested = None;
        }
        let settled = seed.alpha.mode() == AlphaMode::Hold;
        let target_off = seed.alpha.target().is_off();
        let decided = decision
            .filter(|decision| decision.passed && Some(decision.question) == question)
            .map(|decision| decision.question.target);
        match seed.stage {
            SeedStage::Blending if settled && target_off => {
                Some(self.remove(PruneReason::Scheduled))
            }
            SeedStage::Pruned => Some(self.enter(SeedStage::Embargoed)),
            SeedStage::Embargoed if seed.epochs_in_stage >= self.rules.embargo_epochs => {
                Some(self.enter(SeedStage::Resetting))
            }
            SeedStage::Resetting => Some(self.enter(SeedStage::Dormant)),
            _ => decided.map(|stage| self.enter(stage)),
        }
    }

    /// Removes the seed at once.
    ///
    /// # Errors
    /// Each of [`PruneError`]; nothing has changed then.
    pub fn prune(&mut self) -> Result<Transition, PruneError> {
        let stage = self.stage();
        match stage {
            SeedStage::Dormant => Err(PruneError::NoSeed),
            SeedStage::Fossilized => Err(PruneError::Fossilized),
            _ if stage.is_failure() => Err(PruneError::Removed { stage }),
            _ => Ok(self.remove(PruneReason::Requested)),
        }
    }

    /// Takes the seed out over `steps` epochs: alpha goes to 0, and then it is pruned. At once
    /// if `steps` is 0, if alpha is 0, or if it does not blend or hold.
    ///
    /// # Errors
    /// Each of [`SchedulePruneError`]; nothing has changed then.
    pub fn schedule_prune(&mut self, steps: u32) -> Result<Option<Transition>, SchedulePruneError> {
        let stage = self.stage();
        let Some(seed) = &mut self.seed else {
            return Err(PruneError::NoSeed.into());
        };
        let instant = steps == 0
            || seed.alpha.is_zero()
            || !matches!(stage, SeedStage::Blending | SeedStage::Holding);
        if instant || stage == SeedStage::Fossilized {
            return Ok(Some(self.prune()?));
        }
        let curve = seed.alpha.curve();
        seed.alpha.retarget(AlphaLevel::ZERO, steps, curve)?;
        seed.requested = None;
        Ok((stage == SeedStage::Holding).then(|| self.enter(SeedStage::Blending)))
    }

    /// Sends alpha to another level than it has, above 0. A seed that holds blends again if
    /// the level is below 1.
    ///
    /// # Errors
    /// Each of [`AlphaTargetError`]; nothing has changed then.
    pub fn set_alpha_target(
        &mut self,
        target: AlphaLevel,
        steps: u32,
        curve: Option<AlphaCurve>,
    ) -> Result<Option<Transition>, AlphaTargetError> {
        let stage = self.stage();
        let Some(seed) = &mut self.seed else {
            return Err(AlphaTargetError::NotBlending { stage });
        };
        if !matches!(stage, SeedStage::Blending | SeedStage::Holding) {
            return Err(AlphaTargetError::NotBlending { stage });
        }
        if target == AlphaLevel::ZERO {
            return Err(AlphaTargetError::Zero);
        }
        let curve = curve.unwrap_or(seed.alpha.curve());
        seed.alpha.retarget(target, steps, curve)?;
        seed.requested = None;
        let leaves = stage == SeedStage::Holding && target < AlphaLevel::ONE;
        Ok(leaves.then(|| self.enter(SeedStage::Blending)))
    }

    /// The slot.
    #[must_use]
    pub const fn id(&self) -> SlotId {
        self.id
    }

    /// How it is run.
    #[must_use]
    pub const fn rules(&self) -> &SlotRules {
        &self.rules
    }

    /// Where its seed stands; dormant if it has none.
    #[must_use]
    pub fn stage(&self) -> SeedStage {
        self.seed.map_or(SeedStage::Dormant, |seed| seed.stage)
    }

    /// Epochs since the stage began; 0 without a seed.
    #[must_use]
    pub fn epochs_in_stage(&self) -> u32 {
        self.seed.map_or(0, |seed| seed.epochs_in_stage)
    }

    /// Epochs since the seed was put in; 0 without one.
    #[must_use]
    pub fn epochs(&self) -> u32 {
        self.seed.map_or(0, |seed| seed.epochs)
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> Option<SeedId> {
        self.seed.map(|seed| seed.id)
    }

    /// Alpha's ramp, if there is a seed.
    #[must_use]
    pub fn alpha(&self) -> Option<&AlphaController> {
        self.seed.as_ref().map(|seed| &seed.alpha)
    }

    /// Whether its parameters are frozen: they are while alpha falls.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.alpha().is_some_and(|a| a.mode() == AlphaMode::Down)
    }

    /// Whether its gradient is kept from the host's.
    #[must_use]
    pub fn is_isolated(&self) -> bool {
        self.seed.is_some_and(|seed| seed.isolated)
    }

    /// Whether alpha holds; who holds is at the target.
    pub(super) fn is_settled(&self) -> bool {
        self.alpha().is_some_and(|a| a.mode() == AlphaMode::Hold)
    }

    pub(super) fn has_ids(&self) -> bool {
        let named = |seed: Seed| seed.id != SeedId(0) && seed.blueprint != BlueprintId(0);
        self.seed.is_some_and(named)
    }

    /// Goes to `stage`, with what comes with it.
    fn enter(&mut self, stage: SeedStage) -> Transition {
        let (id, rules) = (self.id, self.rules);
        let seed = (self.seed.as_mut()).expect("INVARIANT: only an occupied slot changes stage");
        let from = seed.stage;
        debug_assert!(from.may_become(stage), "{from} to {stage}");
        let transition = Transition {
            slot: id,
            seed: seed.id,
            from,
            to: stage,
            epochs: seed.epochs_in_stage,
            pruned: None,
        };
        seed.stage = stage;
        seed.epochs_in_stage = 0;
        seed.requested = None;
        match stage {
            SeedStage::Training => seed.isolated = true,
            SeedStage::Blending if from == SeedStage::Training => {
                seed.isolated = rules.isolate_blending;
                // It holds: nothing moves alpha before it blends.
                let begun =
                    (seed.alpha).retarget(AlphaLevel::ONE, rules.blend_steps, rules.blend_curve);
                debug_assert_eq!(begun, Ok(()));
            }
            SeedStage::Holding => {
                seed.alpha = AlphaController::held(AlphaLevel::ONE, seed.alpha.curve());
            }
            SeedStage::Dormant => self.seed = None,
            _ => {}
        }
        transition
    }

    fn remove(&mut self, reason: PruneReason) -> Transition {
        let mut transition = self.enter(SeedStage::Pruned);
        transition.pruned = Some(reason);
        if let Some(seed) = &mut self.seed {
            seed.alpha = AlphaController::held(AlphaLevel::ZERO, seed.alpha.curve());
            seed.isolated = false;
        }
        transition
    }

    pub(super) fn fold(&self, digest: &mut Digest) {
        digest.words(&[u64::from(self.id.0)]);
        let Some(seed) = &self.seed else {
            return digest.words(&[0]);
        };
        let counts = [seed.epochs_in_stage, seed.epochs, u32::from(seed.isolated)];
        digest.words(&[seed.id.0, u64::from(seed.blueprint.0), seed.stage as u64]);
        digest.words(&counts.map(u64::from));
        digest.words(&[seed.requested.map_or(0, |stage| stage as u64)]);
        seed.alpha.fold(digest);
    }
}

#[cfg(test)]
mod tests;
