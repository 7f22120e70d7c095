//! What the tests of both machines share: a schedule that asks a question, and records of it.
#![allow(dead_code, reason = "each test file uses its part")]

use selvedge_core::ddp::{
    Ballot, BlueprintId, CommitRecord, CoordinatorAction, CoordinatorSays, Epoch, GateMetrics,
    Incarnation, Member, Rank, RunId, Schedule, SeedId, SeedSlot, SlotId, SlotRules, View, Vote,
};

pub(crate) const RUN: RunId = RunId(7);
pub(crate) const SLOT: SlotId = SlotId(4);

/// One slot with a seed that asks to train.
pub(crate) fn schedule() -> Schedule {
    let rules = SlotRules {
        auto_g1: true,
        ..SlotRules::default()
    };
    let mut slot = SeedSlot::new(SLOT, rules);
    slot.germinate(SeedId(1), BlueprintId(1))
        .expect("the slot is empty");
    Schedule::new([slot]).expect("it is one slot")
}

pub(crate) fn genesis() -> CommitRecord {
    CommitRecord::genesis(RUN, Epoch(0), 0, schedule())
}

pub(crate) fn votes(record: &CommitRecord) -> Vec<Vote> {
    record.schedule.vote(|_| GateMetrics::default())
}

/// The record after `record`, by the votes of ranks 0 and 1 in `view`.
pub(crate) fn next(record: &CommitRecord, view: u64, applied: u64) -> CommitRecord {
    let ballot = |rank| Ballot {
        voter: Rank(rank),
        votes: votes(record),
    };
    record
        .next(View(view), vec![ballot(0), ballot(1)], &[], applied)
        .expect("they vote on what is asked")
}

pub(crate) fn member(rank: u32, life: u64) -> Member {
    Member {
        rank: Rank(rank),
        incarnation: Incarnation(life),
    }
}

/// What was said, to which rank; and that nothing was before it was written down.
#[track_caller]
pub(crate) fn said(out: &mut Vec<CoordinatorAction>) -> Vec<(u32, CoordinatorSays)> {
    let persist = out
        .iter()
        .position(|action| *action == CoordinatorAction::Persist);
    assert!(
        persist.is_none_or(|at| at == 0),
        "said before it was written down: {out:?}"
    );
    let send = |action: CoordinatorAction| match action {
        CoordinatorAction::Send { to, message } => Some((to.0, message.body)),
        CoordinatorAction::Persist => None,
    };
    out.drain(..).filter_map(send).collect()
}
