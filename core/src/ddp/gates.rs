//! The gates before the stages: what each asks of a rank's own measurements, and how the ranks'
//! votes become one decision.
//!
//! A gate is evaluated locally, on floats that differ from rank to rank, and ends in a [`Vote`]
//! of integers. **No rank acts on its own vote.** It acts on the [`Decision`] that the
//! coordinator reduces from all of them, which names slot, gate and stage: it can be applied to
//! nothing else (the origin's D4 and D5 swapped decisions between slots and stages).

use super::digest::Digest;
use super::ids::SlotId;
use super::slot::SeedSlot;
use super::stage::SeedStage;

/// A gate. The numbers are the origin's; 4 is retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub enum GateLevel {
    /// Into germinated.
    G0 = 0,
    /// Into training.
    G1 = 1,
    /// Into blending.
    G2 = 2,
    /// Into holding.
    G3 = 3,
    /// Into fossilized.
    G5 = 5,
}

/// How much a gate asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub enum Strictness {
    /// All that is written.
    Strict,
    /// Only that nothing is wrong: a policy decides what is good.
    Permissive,
}

/// What one rank has measured. A value that is absent, NaN or infinite counts as not measured,
/// and what is not measured fails (`KTS-001`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GateMetrics {
    /// Points of accuracy won since the stage began.
    pub improvement: Option<f64>,
    /// The seed's gradient, as a share of the host's.
    pub gradient_ratio: Option<f64>,
    /// How healthy the seed's gradients are, 0 to 1.
    pub gradient_health: Option<f64>,
    /// Points of accuracy that the seed contributes, against the host without it.
    pub contribution: Option<f64>,
}

/// Something a gate looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// The seed and its blueprint are named.
    IdsPresent,
    /// The seed is germinated.
    Germinated,
    /// At least [`MIN_EPOCHS`] epochs in the stage.
    EnoughEpochs,
    /// At least [`MIN_IMPROVEMENT`] points were won.
    Improved,
    /// The gradient was measured.
    GradientMeasured,
    /// It is at least [`MIN_GRADIENT_RATIO`] of the host's.
    GradientActive,
    /// It is at most [`MAX_GRADIENT_RATIO`] times the host's.
    NotExploding,
    /// The gradients are healthy to at least [`MIN_HEALTH`].
    Healthy,
    /// Alpha's target is 1.
    TargetFull,
    /// Alpha holds, at its target.
    AlphaSettled,
    /// The contribution was measured.
    ContributionMeasured,
    /// It is at least [`MIN_CONTRIBUTION`] points.
    Contributes,
}

/// Epochs in a stage before it may be left through a gate.
pub const MIN_EPOCHS: u32 = 10;
/// Points of accuracy before a seed may blend in.
pub const MIN_IMPROVEMENT: f64 = 0.5;
/// The least share of the host's gradient.
pub const MIN_GRADIENT_RATIO: f64 = 0.10;
/// The greatest.
pub const MAX_GRADIENT_RATIO: f64 = 10.0;
/// The least health.
pub const MIN_HEALTH: f64 = 0.7;
/// Points of accuracy before a seed may stay for good.
pub const MIN_CONTRIBUTION: f64 = 1.0;

/// What one rank makes of a gate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GateResult {
    /// The gate.
    pub gate: GateLevel,
    /// What held.
    pub passed: Vec<Check>,
    /// What did not.
    pub failed: Vec<Check>,
    /// How good, 0 to 1, in millionths.
    pub score: u32,
}

impl GateResult {
    /// Whether all held.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.failed.is_empty()
    }

    /// This rank's vote on `question`.
    #[must_use]
    pub fn vote(&self, question: Question) -> Vote {
        Vote {
            question,
            passed: self.is_passed() && self.gate == question.gate,
            score: self.score,
        }
    }
}

/// What is to be decided about a slot: every rank asks the same at the same boundary, because
/// each derives it from the same record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub struct Question {
    /// The slot.
    pub slot: SlotId,
    /// The gate to pass.
    pub gate: GateLevel,
    /// The stage behind it.
    pub target: SeedStage,
}

impl Question {
    pub(super) fn fold(self, digest: &mut Digest) {
        let numbers = [u64::from(self.slot.0), self.gate as u64, self.target as u64];
        digest.words(&numbers);
    }
}

/// One rank's answer to one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub struct Vote {
    /// What was asked.
    pub question: Question,
    /// Whether its gate passed.
    pub passed: bool,
    /// Its score in millionths.
    pub score: u32,
}

/// How votes become a decision. It is over exactly the votes of the record's voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub enum Reduction {
    /// Every voter passed.
    All,
    /// At least one did.
    Any,
    /// At least so many did.
    AtLeast(u32),
    /// More than half did.
    Majority,
    /// The scores' sum, in millionths, is at least this.
    SumAtLeast(u64),
}

/// What all ranks do about a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub struct Decision {
    /// What was asked.
    pub question: Question,
    /// The answer.
    pub passed: bool,
    /// Voters whose gate passed.
    pub passes: u32,
    /// All voters.
    pub voters: u32,
    /// The sum of their scores in millionths.
    pub score: u64,
}

impl Reduction {
    /// The decision on `question`. Without a voter nothing passes.
    ///
    /// ```
    /// use selvedge_core::ddp::{GateLevel, Question, Reduction, SeedStage, SlotId, Vote};
    ///
    /// let question = Question {
    ///     slot: SlotId(0),
    ///     gate: GateLevel::G2,
    ///     target: SeedStage::Blending,
    /// };
    /// let votes = [true, true, false].map(|passed| Vote { question, passed, score: 0 });
    /// assert!(Reduction::Majority.decide(question, &votes).passed);
    /// assert!(!Reduction::All.decide(question, &votes).passed);
    /// ```
    #[must_use]
    pub fn decide(self, question: Question, votes: &[Vote]) -> Decision {
        let voters = votes.len();
        let passes = votes.iter().filter(|vote| vote.passed).count();
        let score = votes.iter().map(|vote| u64::from(vote.score)).sum();
        let passed = match self {
            Reduction::All => passes == voters,
            Reduction::Any => passes > 0,
            Reduction::AtLeast(least) => passes >= least as usize,
            Reduction::Majority => 2 * passes > voters,
            Reduction::SumAtLeast(least) => score >= least,
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Decision {
            question,
            passed: passed && voters > 0,
            passes: count(passes),
            voters: count(voters),
            score,
        }
    }
}

/// What one rank makes of `gate` for the seed in `slot`, which must already have done what its
/// epoch step does before the gate ([`SeedSlot::at_gate`]).
#[must_use]
pub fn evaluate(gate: GateLevel, slot: &SeedSlot, metrics: &GateMetrics) -> GateResult {
    let strict = slot.rules().strictness == Strictness::Strict;
    let measured = |value: Option<f64>| value.filter(|v| v.is_finite());
    let [improvement, ratio] = [metrics.improvement, metrics.gradient_ratio].map(measured);
    let [health, contribution] = [metrics.gradient_health, metrics.contribution].map(measured);
    let least = |value: Option<f64>, least: f64| value.is_some_and(|v| v >= least);
    let enough_epochs = slot.epochs_in_stage() >= MIN_EPOCHS;
    let alpha = slot.alpha();

    let mut checks: Vec<(Check, bool)> = Vec::new();
    let mut score = 1.0;
    match gate {
        GateLevel::G0 => checks.push((Check::IdsPresent, slot.has_ids())),
        GateLevel::G1 => {
            let germinated = slot.stage() == SeedStage::Germinated;
            checks.push((Check::Germinated, germinated));
        }
        GateLevel::G2 => {
            checks.push((Check::EnoughEpochs, enough_epochs));
            checks.push((Check::GradientMeasured, ratio.is_some()));
            if strict {
                checks.push((Check::Improved, least(improvement, MIN_IMPROVEMENT)));
                checks.push((Check::GradientActive, least(ratio, MIN_GRADIENT_RATIO)));
            } else {
                let calm = ratio.is_some_and(|v| v <= MAX_GRADIENT_RATIO);
                checks.push((Check::NotExploding, calm));
                checks.push((Check::Healthy, least(health, MIN_HEALTH)));
            }
            score = improvement.unwrap_or(0.0) / 5.0;
        }
        GateLevel::G3 => {
            let full = alpha.is_some_and(|alpha| alpha.target().is_full());
            let settled = slot.is_settled();
            checks.push((Check::TargetFull, full));
            checks.push((Check::AlphaSettled, settled));
            if strict {
                checks.push((Check::EnoughEpochs, enough_epochs));
            }
        }
        GateLevel::G5 => {
            checks.push((Check::ContributionMeasured, contribution.is_some()));
            checks.push((Check::Healthy, least(health, MIN_HEALTH)));
            if strict {
                checks.push((Check::Contributes, least(contribution, MIN_CONTRIBUTION)));
            }
            score = contribution.unwrap_or(0.0) / 10.0;
        }
    }
    let of = |held: bool| {
        let chosen = checks.iter().filter(move |check| check.1 == held);
        chosen.map(|check| check.0).collect()
    };
    GateResult {
        gate,
        passed: of(true),
        failed: of(false),
        // Between 0 and 10^6: it fits.
        score: (score.clamp(0.0, 1.0) * 1e6).round() as u32,
    }
}
