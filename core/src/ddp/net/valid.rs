//! What is read from bytes is checked: none of these can be made with values that no machine
//! would have made. Each is the shape that serde reads, and a `TryFrom` into the real one.

use serde::Deserialize;
use thiserror::Error;

use crate::ddp::alpha::{AlphaController, AlphaCurve, AlphaError, AlphaLevel, Steepness};
use crate::ddp::coordinator::{Durable, Member};
use crate::ddp::gates::Decision;
use crate::ddp::ids::{BlueprintId, Epoch, RunId, SeedId, SlotId, View};
use crate::ddp::invariants::check_slot;
use crate::ddp::message::AbortReason;
use crate::ddp::record::{Ballot, CommitRecord};
use crate::ddp::schedule::Schedule;
use crate::ddp::slot::{Seed, SeedSlot, SlotCommand, SlotRules};
use crate::ddp::stage::SeedStage;

/// What was read cannot be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub(in crate::ddp) struct Invalid(&'static str);

fn hold(what: &'static str, holds: bool) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid(what)) }
}

impl TryFrom<u32> for AlphaLevel {
    type Error = AlphaError;

    fn try_from(billionths: u32) -> Result<Self, AlphaError> {
        AlphaLevel::from_billionths(billionths)
    }
}

impl TryFrom<u32> for Steepness {
    type Error = AlphaError;

    fn try_from(thousandths: u32) -> Result<Self, AlphaError> {
        Steepness::from_thousandths(thousandths)
    }
}

#[derive(Deserialize)]
pub(in crate::ddp) struct AlphaParts {
    start: AlphaLevel,
    target: AlphaLevel,
    curve: AlphaCurve,
    steps_total: u32,
    steps_done: u32,
}

impl TryFrom<AlphaParts> for AlphaController {
    type Error = AlphaError;

    fn try_from(parts: AlphaParts) -> Result<Self, AlphaError> {
        let (done, total) = (parts.steps_done, parts.steps_total);
        AlphaController::from_parts(parts.start, parts.target, parts.curve, done, total)
    }
}

#[derive(Deserialize)]
pub(in crate::ddp) struct SlotParts {
    id: SlotId,
    rules: SlotRules,
    seed: Option<Seed>,
}

impl TryFrom<SlotParts> for SeedSlot {
    type Error = Invalid;

    fn try_from(parts: SlotParts) -> Result<Self, Invalid> {
        let SlotParts { id, rules, seed } = parts;
        if let Some(seed) = &seed {
            let named = seed.id != SeedId(0) && seed.blueprint != BlueprintId(0);
            hold("a seed without an id", named)?;
            let older = seed.epochs >= seed.epochs_in_stage;
            hold("a seed younger than its stage", older)?;
            let fits = |target: SeedStage| {
                seed.stage.may_become(target) && target.gate().is_some() && !target.is_failure()
            };
            let asked = seed.requested.is_none_or(fits);
            hold("a stage is asked for that cannot follow", asked)?;
        }
        let slot = SeedSlot { id, rules, seed };
        hold(
            "a stage that does not fit its alpha",
            check_slot(&slot).is_ok(),
        )?;
        Ok(slot)
    }
}

#[derive(Deserialize)]
pub(in crate::ddp) struct ScheduleParts(Vec<SeedSlot>);

impl TryFrom<ScheduleParts> for Schedule {
    type Error = Invalid;

    fn try_from(ScheduleParts(slots): ScheduleParts) -> Result<Self, Invalid> {
        let in_order = slots.is_sorted_by(|a, b| a.id() < b.id());
        hold("slots out of order, or twice", in_order)?;
        Schedule::new(slots).map_err(|_| Invalid("a slot twice"))
    }
}

#[derive(Deserialize)]
pub(in crate::ddp) struct RecordParts {
    run: RunId,
    epoch: Epoch,
    view: View,
    ballots: Vec<Ballot>,
    decisions: Vec<Decision>,
    commands: Vec<SlotCommand>,
    applied: u64,
    schedule: Schedule,
}

impl TryFrom<RecordParts> for CommitRecord {
    type Error = Invalid;

    fn try_from(parts: RecordParts) -> Result<Self, Invalid> {
        let ballots = &parts.ballots;
        let in_order = ballots.is_sorted_by(|a, b| a.voter < b.voter);
        hold("ballots out of order, or twice", in_order)?;
        let mut decisions = parts.decisions.iter();
        let counted = decisions.all(|decision| decision.passes <= decision.voters);
        hold("more passes than voters", counted)?;
        Ok(CommitRecord {
            run: parts.run,
            epoch: parts.epoch,
            view: parts.view,
            ballots: parts.ballots,
            decisions: parts.decisions,
            commands: parts.commands,
            applied: parts.applied,
            schedule: parts.schedule,
        })
    }
}

#[derive(Deserialize)]
pub(in crate::ddp) struct DurableParts {
    view: View,
    members: Vec<Member>,
    lives: Vec<Member>,
    record: CommitRecord,
    aborted: Option<AbortReason>,
}

impl TryFrom<DurableParts> for Durable {
    type Error = Invalid;

    fn try_from(parts: DurableParts) -> Result<Self, Invalid> {
        let one_each = |lives: &[Member]| lives.is_sorted_by(|a, b| a.rank < b.rank);
        let each = one_each(&parts.members) && one_each(&parts.lives);
        hold("a rank out of order, or twice", each)?;
        let mut members = parts.members.iter();
        let known = members.all(|member| parts.lives.contains(member));
        hold("a member whose life is not known", known)?;
        Ok(Durable {
            view: parts.view,
            members: parts.members,
            lives: parts.lives,
            record: parts.record,
            aborted: parts.aborted,
        })
    }
}
