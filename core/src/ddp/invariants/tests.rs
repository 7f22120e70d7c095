//! Each property goes red on a state broken in just its way: a check that cannot fail proves
//! nothing.

use crate::ddp::alpha::{AlphaController, AlphaCurve, AlphaLevel};
use crate::ddp::coordinator::{CoordinatorState, Joiner, Member, Phase, RunConfig};
use crate::ddp::ids::{BlueprintId, Epoch, Incarnation, Rank, RunId, SeedId, SlotId, View};
use crate::ddp::message::AbortReason;
use crate::ddp::rank::{self, RankConfig, RankState};
use crate::ddp::record::CommitRecord;
use crate::ddp::schedule::Schedule;
use crate::ddp::slot::{SeedSlot, SlotRules};
use crate::ddp::stage::SeedStage;
use crate::ddp::{CoordinatorEvent, RankSays, ToCoordinator};

fn genesis() -> CommitRecord {
    CommitRecord::genesis(RunId(1), Epoch(0), 0, Schedule::default())
}

fn member(rank: u32, incarnation: u64) -> Member {
    Member {
        rank: Rank(rank),
        incarnation: Incarnation(incarnation),
    }
}

/// Ranks 0 and 1 of three run; rank 2 was evicted and waits in a new life.
fn coordinator() -> CoordinatorState {
    let config = RunConfig {
        run: RunId(1),
        world: 3,
        min_world: 2,
        last_epoch: Epoch(2),
    };
    let mut state = CoordinatorState::new(config, genesis()).unwrap();
    let mut out = Vec::new();
    let join = |state: &mut CoordinatorState, member: Member, out: &mut Vec<_>| {
        let message = ToCoordinator {
            incarnation: member.incarnation,
            body: RankSays::Join {
                record: None,
                applied: 0,
            },
        };
        let from = member.rank;
        state.on(CoordinatorEvent::Message { from, message }, out);
    };
    (0..3).for_each(|rank| join(&mut state, member(rank, 1), &mut out));
    state.on(CoordinatorEvent::Lost(vec![member(2, 1)]), &mut out);
    join(&mut state, member(2, 2), &mut out);
    state
}

#[track_caller]
fn breaks(property: &str, break_it: impl FnOnce(&mut CoordinatorState)) {
    let mut state = coordinator();
    assert_eq!(state.validate(), Ok(()));
    break_it(&mut state);
    let found: Vec<&str> = (super::COORDINATOR_CHECKS.iter())
        .filter_map(|check| check(&state).err())
        .map(|violation| violation.property)
        .collect();
    assert!(found.contains(&property), "{property} not among {found:?}");
}

#[test]
fn quorum_sees_too_few_and_others_than_the_members() {
    breaks("quorum", |s| {
        s.durable.members.pop();
        s.phase = Phase::Running {
            arrived: vec![None],
        };
    });
    breaks("quorum", |s| {
        s.phase = Phase::Flushing {
            acks: vec![None; 3],
        }
    });
    breaks("quorum", |s| s.phase = Phase::Forming);
}

#[test]
fn one_life_sees_a_rank_twice_and_an_old_life() {
    breaks("one_life", |s| s.durable.members[1] = member(0, 1));
    breaks("one_life", |s| s.durable.members[1] = member(1, 2));
    breaks("one_life", |s| s.durable.lives.swap(0, 1));
    breaks("one_life", |s| {
        s.joiners[0] = Joiner {
            member: member(2, 1),
            holds: true,
        };
    });
}

#[test]
fn over_is_decided_sees_both_ways() {
    breaks("over_is_decided", |s| s.phase = Phase::Over);
    breaks("over_is_decided", |s| s.durable.record.epoch = Epoch(2));
    breaks("over_is_decided", |s| {
        s.durable.aborted = Some(AbortReason::Diverged);
    });
}

#[test]
fn version_after_record_sees_old_parameters_and_a_stranger() {
    let config = RankConfig {
        run: RunId(1),
        rank: Rank(0),
        last_epoch: Epoch(2),
    };
    let mut state = RankState::start(config, Incarnation(1), None, &mut Vec::new());
    state.members = vec![Rank(0), Rank(1)];
    state.record = Some(CommitRecord {
        applied: 3,
        ..genesis()
    });
    (state.applied, state.phase) = (3, rank::Phase::Run);
    assert_eq!(state.validate(), Ok(()));
    let breaks = |break_it: fn(&mut RankState)| {
        let mut state = state.clone();
        break_it(&mut state);
        let found = state.validate().unwrap_err();
        assert_eq!(found.property, "version_after_record");
    };
    breaks(|s| s.applied = 2);
    breaks(|s| s.record = None);
    breaks(|s| s.members = vec![Rank(1)]);
    breaks(|s| s.phase = rank::Phase::Done);
    breaks(|s| {
        s.phase = rank::Phase::Healing {
            applied: 2,
            boundary: false,
            had: None,
        };
    });
    state.view = View(9);
    assert_eq!(state.validate(), Ok(()), "any view will do");
}

fn slot_at(stage: SeedStage, alpha: AlphaController) -> SeedSlot {
    let mut slot = SeedSlot::new(SlotId(0), SlotRules::default());
    slot.germinate(SeedId(1), BlueprintId(1)).unwrap();
    let seed = slot.seed.as_mut().unwrap();
    (seed.stage, seed.alpha) = (stage, alpha);
    slot
}

#[test]
fn stage_fits_alpha_sees_a_seed_that_has_what_it_must_not() {
    let (none, all) = (AlphaLevel::ZERO, AlphaLevel::ONE);
    let held = |level| AlphaController::held(level, AlphaCurve::Linear);
    let mut moving = held(none);
    moving.retarget(all, 4, AlphaCurve::Linear).unwrap();
    assert_eq!(
        super::check_slot(&slot_at(SeedStage::Blending, moving)),
        Ok(())
    );
    for (stage, alpha) in [
        (SeedStage::Training, held(all)),
        (SeedStage::Training, moving),
        (SeedStage::Holding, held(none)),
        (SeedStage::Fossilized, moving),
        (SeedStage::Pruned, held(all)),
        (SeedStage::Dormant, held(none)),
    ] {
        let found = super::check_slot(&slot_at(stage, alpha)).unwrap_err();
        assert_eq!(found.property, "stage_fits_alpha", "{stage}");
    }
}
