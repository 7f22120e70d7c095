//! The coordinator of a run, event by event.

mod ddp;

use ddp::{RUN, SLOT, genesis, member, next, said, votes};
use selvedge_core::ddp::{
    AbortReason, CommitRecord, CoordinatorAction, CoordinatorEvent, CoordinatorSays,
    CoordinatorState, CoordinatorWait, Epoch, EvictReason, Held, Incarnation, Member, Rank,
    RankSays, RunConfig, RunConfigError, RunId, SeedStage, SlotCommand, SlotId, ToCoordinator,
    View,
};

const CONFIG: RunConfig = RunConfig {
    run: RUN,
    world: 3,
    min_world: 2,
    last_epoch: Epoch(2),
};

struct Driven {
    state: CoordinatorState,
    out: Vec<CoordinatorAction>,
}

fn forming() -> Driven {
    Driven {
        state: CoordinatorState::new(CONFIG, genesis()).expect("the run makes sense"),
        out: Vec::new(),
    }
}

/// Three ranks train in view 1.
fn running() -> Driven {
    let mut driven = forming();
    (0..3).for_each(|rank| drop(driven.join(member(rank, 1))));
    driven
}

impl Driven {
    #[track_caller]
    fn on(&mut self, event: CoordinatorEvent) -> Vec<(u32, CoordinatorSays)> {
        self.state.on(event, &mut self.out);
        said(&mut self.out)
    }

    #[track_caller]
    fn hear(&mut self, from: Member, body: RankSays) -> Vec<(u32, CoordinatorSays)> {
        let message = ToCoordinator {
            incarnation: from.incarnation,
            body,
        };
        let from = from.rank;
        self.on(CoordinatorEvent::Message { from, message })
    }

    #[track_caller]
    fn join(&mut self, member: Member) -> Vec<(u32, CoordinatorSays)> {
        self.hear(
            member,
            RankSays::Join {
                record: None,
                applied: 0,
            },
        )
    }

    #[track_caller]
    fn arrive(&mut self, member: Member, view: u64, applied: u64) -> Vec<(u32, CoordinatorSays)> {
        let record = self.state.durable().record.clone();
        let body = RankSays::Arrive {
            view: View(view),
            epoch: record.epoch.next(),
            applied,
            votes: votes(&record),
        };
        self.hear(member, body)
    }

    #[track_caller]
    fn ack(
        &mut self,
        member: Member,
        view: u64,
        held: Option<Held>,
    ) -> Vec<(u32, CoordinatorSays)> {
        let view = View(view);
        self.hear(member, RankSays::ViewAck { view, held })
    }

    fn ranks(&self) -> Vec<u32> {
        self.state
            .durable()
            .members
            .iter()
            .map(|member| member.rank.0)
            .collect()
    }
}

/// Of one that has applied this record last.
fn held(record: &CommitRecord, applied: u64, boundary: bool) -> Option<Held> {
    Some(Held {
        record: Some(record.digest()),
        applied,
        boundary,
    })
}

fn decided(driven: &Driven) -> CommitRecord {
    driven.state.durable().record.clone()
}

fn evicts(said: &[(u32, CoordinatorSays)]) -> Vec<(u32, EvictReason)> {
    let evict = |(to, body): &(u32, CoordinatorSays)| match body {
        CoordinatorSays::Evict { reason } => Some((*to, *reason)),
        _ => None,
    };
    said.iter().filter_map(evict).collect()
}

#[test]
fn a_run_is_formed_of_all_its_ranks_and_decided_by_all() {
    let mut driven = forming();
    assert_eq!(driven.join(member(2, 1)), []);
    assert_eq!(driven.join(member(0, 1)), []);
    let began = driven.join(member(1, 1));
    let to: Vec<u32> = began.iter().map(|(to, _)| *to).collect();
    assert_eq!((to, driven.ranks()), (vec![0, 1, 2], vec![0, 1, 2]));

    assert_eq!(driven.arrive(member(0, 1), 1, 2), []);
    assert_eq!(driven.arrive(member(2, 1), 1, 2), []);
    let (view, epoch) = (View(1), Epoch(1));
    let wait = Some(CoordinatorWait::Arrivals { view, epoch });
    assert_eq!(
        (driven.state.wait(), driven.state.missing()),
        (wait, vec![Rank(1)])
    );
    let committed = driven.arrive(member(1, 1), 1, 2);
    assert_eq!(committed.len(), 3);
    let record = &driven.state.durable().record;
    assert_eq!(
        (record.epoch, record.applied, record.follows(&genesis())),
        (Epoch(1), 2, Ok(()))
    );
    let voters: Vec<u32> = record.ballots.iter().map(|ballot| ballot.voter.0).collect();
    assert_eq!(voters, [0, 1, 2]);
    let slot = record.schedule.slot(SLOT).unwrap();
    assert_eq!(slot.stage(), SeedStage::Training);
}

#[test]
fn an_arrival_of_another_view_life_or_epoch_is_none() {
    let mut driven = running();
    let before = driven.state.clone();
    driven.arrive(member(0, 1), 0, 2);
    driven.arrive(member(0, 1), 2, 2);
    driven.arrive(member(0, 2), 1, 2);
    driven.hear(
        member(0, 1),
        RankSays::Arrive {
            view: View(1),
            epoch: Epoch(2),
            applied: 2,
            votes: Vec::new(),
        },
    );
    driven.ack(member(0, 1), 1, held(&genesis(), 9, false));
    assert_eq!(driven.state, before);
}

#[test]
fn ranks_with_different_parameters_or_questions_are_stopped() {
    let aborts = |driven: &mut Driven, applied, votes| {
        driven.arrive(member(0, 1), 1, 2);
        driven.arrive(member(1, 1), 1, 2);
        let body = RankSays::Arrive {
            view: View(1),
            epoch: Epoch(1),
            applied,
            votes,
        };
        let reason = AbortReason::Diverged;
        let told = driven.hear(member(2, 1), body);
        assert_eq!(
            told,
            [0, 1, 2].map(|rank| (rank, CoordinatorSays::Abort { reason }))
        );
        assert_eq!(
            driven.state.durable().record,
            genesis(),
            "nothing was decided"
        );
    };
    aborts(&mut running(), 3, votes(&genesis()));
    aborts(&mut running(), 2, Vec::new());
    let mut other = votes(&genesis());
    other[0].question.slot = SlotId(5);
    aborts(&mut running(), 2, other);
}

#[test]
fn a_lost_member_is_evicted_and_the_others_go_on_from_the_newest_step() {
    let mut driven = running();
    let told = driven.on(CoordinatorEvent::Lost(vec![member(1, 1)]));
    assert_eq!(evicts(&told), [(1, EvictReason::Suspected)]);
    assert_eq!(driven.state.durable().view, View(2));
    // Said twice, it is no news.
    let before = driven.state.clone();
    assert_eq!(driven.on(CoordinatorEvent::Lost(vec![member(1, 1)])), []);
    assert_eq!(driven.state, before);

    assert_eq!(driven.ack(member(0, 1), 2, held(&genesis(), 3, false)), []);
    let resumed = driven.ack(member(2, 1), 2, held(&genesis(), 4, true));
    let CoordinatorSays::Resume {
        applied,
        boundary,
        holders,
        ..
    } = &resumed[0].1
    else {
        panic!("{resumed:?}");
    };
    assert_eq!(
        (*applied, *boundary, &holders[..]),
        (4, true, &[Rank(2)][..])
    );
}

#[test]
fn a_step_that_fails_is_tried_again_and_not_for_ever() {
    let mut driven = running();
    let failed = |driven: &mut Driven, view| {
        let view = View(view);
        let lost = Vec::new();
        driven.hear(member(1, 1), RankSays::StepFailed { view, lost })
    };
    let most = u64::from(CoordinatorState::MOST_FUTILE_VIEWS);
    for view in 1..=most {
        assert_eq!(failed(&mut driven, view).len(), 3, "a new view for all");
        let before = driven.state.clone();
        // All members tell of it; once is enough.
        assert_eq!(failed(&mut driven, view), []);
        assert_eq!(driven.state, before);
        (0..3).for_each(|rank| {
            drop(driven.ack(member(rank, 1), view + 1, held(&genesis(), 0, false)));
        });
    }
    let told = failed(&mut driven, most + 1);
    assert_eq!(evicts(&told), [(1, EvictReason::Suspected)]);
}

#[test]
fn the_end_of_the_last_epoch_is_no_end_of_this_one() {
    let mut driven = running();
    (0..3).for_each(|rank| drop(driven.arrive(member(rank, 1), 1, 2)));
    driven.on(CoordinatorEvent::Lost(vec![member(1, 1)]));
    // Rank 0 has not heard of the record: it is where epoch 1 ended.
    driven.ack(member(0, 1), 2, held(&genesis(), 2, true));
    let resumed = driven.ack(member(2, 1), 2, held(&decided(&driven), 2, false));
    let CoordinatorSays::Resume {
        boundary, holders, ..
    } = &resumed[0].1
    else {
        panic!("{resumed:?}");
    };
    assert_eq!((*boundary, holders.len()), (false, 2));
}

#[test]
fn too_few_ranks_end_the_run_for_all() {
    let mut driven = running();
    driven.on(CoordinatorEvent::Lost(vec![member(1, 1)]));
    driven.join(member(1, 2));
    let told = driven.on(CoordinatorEvent::Lost(vec![member(0, 1)]));
    let reason = AbortReason::QuorumLost;
    let abort = CoordinatorSays::Abort { reason };
    assert_eq!(told[..2], [(2, abort.clone()), (1, abort.clone())]);
    assert_eq!(evicts(&told), [(0, EvictReason::Suspected)]);
    assert_eq!(driven.join(member(0, 2)), [(0, abort)]);
}

#[test]
fn where_nobody_has_the_parameters_there_is_nothing_to_go_on_from() {
    let mut driven = running();
    (0..3).for_each(|rank| drop(driven.arrive(member(rank, 1), 1, 2)));
    driven.on(CoordinatorEvent::Lost(vec![member(1, 1)]));
    driven.ack(member(0, 1), 2, None);
    // Fresh ones are older than the record.
    let told = driven.ack(member(2, 1), 2, held(&genesis(), 0, false));
    let reason = AbortReason::StateLost;
    assert_eq!(
        told,
        [0, 2].map(|rank| (rank, CoordinatorSays::Abort { reason }))
    );
}

#[test]
fn who_joins_waits_for_the_boundary() {
    let mut driven = running();
    // A later life of a member: the former is over.
    let told = driven.join(member(1, 2));
    assert_eq!(evicts(&told), [(1, EvictReason::OldIncarnation)]);
    driven.ack(member(0, 1), 2, held(&genesis(), 0, false));
    driven.ack(member(2, 1), 2, held(&genesis(), 0, false));
    assert_eq!(driven.ranks(), [0, 2]);
    driven.arrive(member(0, 1), 2, 1);
    let committed = driven.arrive(member(2, 1), 2, 1);
    assert_eq!((committed.len(), driven.ranks()), (3, vec![0, 1, 2]));
    let CoordinatorSays::Commit { view, holders, .. } = &committed[1].1 else {
        panic!("{committed:?}");
    };
    assert_eq!((*view, &holders[..]), (View(3), &[Rank(0), Rank(2)][..]));
}

#[test]
fn who_may_not_join_is_told_why() {
    let mut driven = running();
    let stranger = driven.join(member(3, 1));
    assert_eq!(evicts(&stranger), [(3, EvictReason::UnknownRank)]);
    driven.on(CoordinatorEvent::Lost(vec![member(1, 1)]));
    let same_life = driven.join(member(1, 1));
    assert_eq!(evicts(&same_life), [(1, EvictReason::OldIncarnation)]);
    let greeted = driven.hear(member(1, 1), RankSays::Hello);
    assert_eq!(evicts(&greeted), [(1, EvictReason::OldIncarnation)]);
    // A life that was lost before it was heard of is over too.
    driven.on(CoordinatorEvent::Lost(vec![member(1, 5)]));
    let lost = driven.join(member(1, 5));
    assert_eq!(evicts(&lost), [(1, EvictReason::OldIncarnation)]);

    driven.ack(member(0, 1), 2, held(&genesis(), 0, false));
    driven.ack(member(2, 1), 2, held(&genesis(), 0, false));
    for _ in 0..2 {
        driven.arrive(member(0, 1), 2, 1);
        driven.arrive(member(2, 1), 2, 1);
    }
    assert!(driven.state.is_over());
    let late = driven.join(member(1, 7));
    assert_eq!(evicts(&late), [(1, EvictReason::TooLate)]);
}

#[test]
fn who_waits_to_join_when_the_last_record_is_made_is_too_late() {
    let config = RunConfig {
        last_epoch: Epoch(1),
        ..CONFIG
    };
    let mut driven = Driven {
        state: CoordinatorState::new(config, genesis()).unwrap(),
        out: Vec::new(),
    };
    (0..3).for_each(|rank| drop(driven.join(member(rank, 1))));
    driven.on(CoordinatorEvent::Lost(vec![member(1, 1)]));
    driven.join(member(1, 2));
    driven.ack(member(0, 1), 2, held(&genesis(), 0, false));
    driven.ack(member(2, 1), 2, held(&genesis(), 0, false));
    driven.arrive(member(0, 1), 2, 1);
    let end = driven.arrive(member(2, 1), 2, 1);
    assert_eq!(evicts(&end), [(1, EvictReason::TooLate)]);
    assert!(driven.state.is_over());
}

#[test]
fn what_a_policy_wants_is_in_the_next_record_if_it_can_be() {
    let mut driven = running();
    let prune = SlotCommand::Prune { slot: SLOT };
    let nowhere = SlotCommand::Prune { slot: SlotId(9) };
    for command in [nowhere, prune, prune] {
        driven.on(CoordinatorEvent::Command(command));
    }
    (0..3).for_each(|rank| drop(driven.arrive(member(rank, 1), 1, 2)));
    let record = &driven.state.durable().record;
    assert_eq!(
        record.commands,
        [prune],
        "a seed is removed once, and only where there is one"
    );
    assert_eq!(
        record.schedule.slot(SLOT).unwrap().stage(),
        SeedStage::Embargoed
    );
    assert_eq!(record.follows(&genesis()), Ok(()));
}

#[test]
fn a_coordinator_that_comes_back_begins_a_new_view() {
    let driven = running();
    let durable = driven.state.durable().clone();
    let mut out = Vec::new();
    let state = CoordinatorState::restore(CONFIG, durable, &mut out).unwrap();
    assert_eq!(out[0], CoordinatorAction::Persist);
    let members = vec![Rank(0), Rank(1), Rank(2)];
    let view = View(2);
    let told = said(&mut out);
    let body = CoordinatorSays::NewView { view, members };
    assert_eq!(told, [0, 1, 2].map(|rank| (rank, body.clone())));
    // Who has not heard it is told again; so is who was admitted and never knew.
    let mut driven = Driven { state, out };
    assert_eq!(
        driven.hear(member(1, 1), RankSays::Hello),
        [(1, body.clone())]
    );
    assert_eq!(driven.join(member(2, 1)), [(2, body)]);
}

#[test]
fn after_the_end_everybody_who_asks_is_told_of_it() {
    let mut driven = running();
    for applied in 1..=2 {
        (0..3).for_each(|rank| drop(driven.arrive(member(rank, 1), 1, applied)));
    }
    let durable = driven.state.durable().clone();
    let mut out = Vec::new();
    let state = CoordinatorState::restore(CONFIG, durable.clone(), &mut out).unwrap();
    assert!(state.is_over());
    let commits = |body: &CoordinatorSays| matches!(body, CoordinatorSays::Commit { record, .. } if *record == durable.record);
    let told = said(&mut out);
    assert!(
        told.len() == 3 && told.iter().all(|(_, body)| commits(body)),
        "{told:?}"
    );
    let mut driven = Driven { state, out };
    let before = driven.state.clone();
    assert_eq!(driven.on(CoordinatorEvent::Lost(vec![member(0, 1)])), []);
    assert_eq!(driven.state, before, "nothing is left to lose");
}

#[test]
fn who_does_not_come_by_the_hard_deadline_is_left_behind() {
    let mut driven = running();
    driven.arrive(member(0, 1), 1, 1);
    driven.arrive(member(2, 1), 1, 1);
    let wait = driven.state.wait().unwrap();
    driven.on(CoordinatorEvent::HardDeadline(wait));
    assert_eq!(driven.ranks(), [0, 2]);
    let before = driven.state.clone();
    driven.on(CoordinatorEvent::HardDeadline(wait));
    assert_eq!(driven.state, before, "that wait is over");

    let mut alone = forming();
    alone.join(member(1, 1));
    let wait = alone.state.wait().unwrap();
    let reason = AbortReason::QuorumLost;
    let told = alone.on(CoordinatorEvent::HardDeadline(wait));
    assert_eq!(told, [(1, CoordinatorSays::Abort { reason })]);
}

#[test]
fn a_run_that_makes_no_sense_is_refused() {
    let refused = |config| CoordinatorState::new(config, genesis()).unwrap_err();
    let none = RunConfig {
        min_world: 0,
        ..CONFIG
    };
    assert_eq!(refused(none), RunConfigError::NoRank);
    let (min_world, world) = (4, 3);
    let many = RunConfig {
        min_world,
        ..CONFIG
    };
    assert_eq!(
        refused(many),
        RunConfigError::MinAboveWorld { min_world, world }
    );
    let other = RunConfig {
        run: RunId(8),
        ..CONFIG
    };
    assert_eq!(refused(other), RunConfigError::OtherRun);
    // A run that is over may be restored, and none begins there.
    for begins_after in [2, 3] {
        let late = CommitRecord {
            epoch: Epoch(begins_after),
            ..genesis()
        };
        let last = 2;
        let error = CoordinatorState::new(CONFIG, late).unwrap_err();
        assert_eq!(error, RunConfigError::NoEpoch { begins_after, last });
    }
    assert_eq!(Incarnation(1).to_string(), "life 1");
}

/// Runs the members of a view through its flush; each has `applied` of the first epoch.
fn resume(driven: &mut Driven, applied: u64) {
    let view = driven.state.durable().view.0;
    for member in driven.state.durable().members.clone() {
        driven.ack(member, view, held(&genesis(), applied, false));
    }
}

/// A connection that is reset again and again, faster than a step takes: every deadline begins
/// anew with each view, and none would ever end this.
#[test]
fn a_rank_that_comes_and_goes_is_left_behind_in_the_end() {
    let mut driven = running();
    let most = CoordinatorState::MOST_FUTILE_VIEWS;
    for _ in 0..most {
        assert_eq!(driven.hear(member(2, 1), RankSays::Hello).len(), 3);
        resume(&mut driven, 0);
    }
    // Rank 0 is unlucky to be connected again just now.
    let told = driven.hear(member(0, 1), RankSays::Hello);
    assert_eq!(evicts(&told), [(2, EvictReason::Suspected)]);
    assert_eq!(driven.ranks(), [0, 1]);
}

#[test]
fn whoever_gets_on_by_a_step_may_come_and_go() {
    let mut driven = running();
    for applied in 0..40 {
        driven.hear(member(2, 1), RankSays::Hello);
        resume(&mut driven, applied);
    }
    assert_eq!(driven.ranks(), [0, 1, 2]);
    // And an answer that is asked for again and again is as little.
    let mut told = Vec::new();
    for _ in 0..=CoordinatorState::MOST_FUTILE_VIEWS {
        let view = driven.state.durable().view.0;
        driven.ack(member(2, 1), view, held(&genesis(), 39, false));
        told = driven.hear(member(2, 1), RankSays::Hello);
    }
    assert_eq!(evicts(&told), [(2, EvictReason::Suspected)]);
}

/// Nobody reaches the port of rank 2, which itself notices nothing: the others are innocent.
#[test]
fn who_cannot_be_reached_is_left_behind_and_not_who_tells_of_it() {
    let failed = |driven: &mut Driven, from: u32, view: u64, lost: &[u32]| {
        let lost = lost.iter().copied().map(Rank).collect();
        let view = View(view);
        driven.hear(member(from, 1), RankSays::StepFailed { view, lost })
    };
    let mut driven = running();
    let mut told = Vec::new();
    for _ in 0..=CoordinatorState::MOST_FUTILE_VIEWS {
        let view = driven.state.durable().view.0;
        told = failed(&mut driven, 1, view, &[2]);
        failed(&mut driven, 0, view, &[2]);
        resume(&mut driven, 0);
    }
    assert_eq!(evicts(&told), [(2, EvictReason::Suspected)]);
    assert_eq!(driven.ranks(), [0, 1]);

    // It is as little to the point who says it first: rank 1 reaches nobody.
    let mut driven = running();
    for _ in 0..=CoordinatorState::MOST_FUTILE_VIEWS {
        let view = driven.state.durable().view.0;
        told = failed(&mut driven, 1, view, &[0, 2, 2, 1, 77]);
        resume(&mut driven, 0);
    }
    assert_eq!(evicts(&told), [(1, EvictReason::Suspected)]);
}

/// The deadline stays where it is: it is one wait, however many have come.
#[test]
fn who_arrives_does_not_put_off_the_others_deadline() {
    let mut driven = running();
    driven.arrive(member(0, 1), 1, 1);
    let wait = driven.state.wait();
    driven.arrive(member(2, 1), 1, 1);
    assert_eq!(driven.state.wait(), wait);
    assert_eq!(driven.state.missing(), [Rank(1)]);

    let mut driven = running();
    driven.hear(member(0, 1), RankSays::Hello);
    let wait = driven.state.wait();
    driven.ack(member(0, 1), 2, held(&genesis(), 0, false));
    assert_eq!(driven.state.wait(), wait);

    // A rank that joins again and again does not keep the others waiting for ever.
    let mut driven = forming();
    driven.join(member(0, 1));
    let wait = driven.state.wait();
    for life in 1..9 {
        driven.join(member(1, life));
        assert_eq!(
            (driven.state.wait(), driven.state.missing()),
            (wait, vec![Rank(2)])
        );
        driven.on(CoordinatorEvent::Lost(vec![member(1, life)]));
        assert_eq!(driven.state.wait(), wait);
    }
}

#[test]
fn those_that_are_lost_together_cost_one_change_of_view() {
    let config = RunConfig { world: 5, ..CONFIG };
    let mut driven = Driven {
        state: CoordinatorState::new(config, genesis()).unwrap(),
        out: Vec::new(),
    };
    (0..5).for_each(|rank| drop(driven.join(member(rank, 1))));
    let lost = vec![member(1, 1), member(3, 1), member(4, 1)];
    let told = driven.on(CoordinatorEvent::Lost(lost));
    assert_eq!(driven.state.durable().view, View(2));
    assert_eq!((told.len(), driven.ranks()), (5, vec![0, 2]));
}

/// All of a run was stopped and began again from an earlier record. Rank 2 has a checkpoint of
/// the future that was given up, and the first record of the new one was lost with its
/// connection.
#[test]
fn parameters_of_a_future_that_was_given_up_are_nobodys() {
    let record = next(&genesis(), 1, 15);
    let abandoned = next(&record, 1, 30);
    let config = RunConfig {
        last_epoch: Epoch(9),
        ..CONFIG
    };
    let again = || Driven {
        state: CoordinatorState::new(config, record.clone()).unwrap(),
        out: Vec::new(),
    };
    let join = |driven: &mut Driven, rank, record: &CommitRecord| {
        let record = (Some(record.digest()), record.applied);
        let (record, applied) = record;
        driven.hear(member(rank, 1), RankSays::Join { record, applied })
    };
    // Of the same version, and another record.
    let other = next(&genesis(), 9, 15);
    for theirs in [&abandoned, &other] {
        let mut driven = again();
        join(&mut driven, 0, &record);
        join(&mut driven, 1, &record);
        let began = join(&mut driven, 2, theirs);
        let CoordinatorSays::Commit { holders, .. } = &began[2].1 else {
            panic!("{began:?}");
        };
        assert_eq!(holders[..], [Rank(0), Rank(1)]);

        let asked = join(&mut driven, 2, theirs);
        assert!(matches!(asked[0].1, CoordinatorSays::NewView { .. }));
        driven.ack(member(2, 1), 2, held(theirs, theirs.applied, false));
        driven.ack(member(0, 1), 2, held(&record, 15, false));
        let resumed = driven.ack(member(1, 1), 2, held(&record, 16, false));
        let CoordinatorSays::Resume {
            applied, holders, ..
        } = &resumed[0].1
        else {
            panic!("{resumed:?}");
        };
        assert_eq!((*applied, &holders[..]), (16, &[Rank(1)][..]));
    }
    // Fresh parameters are those of version 0 only.
    let mut driven = again();
    (0..2).for_each(|rank| drop(driven.join(member(rank, 1))));
    let reason = AbortReason::StateLost;
    let told = driven.join(member(2, 1));
    assert_eq!(told[0], (0, CoordinatorSays::Abort { reason }));
}

#[test]
fn a_policy_that_asks_without_end_costs_no_more_than_so_much() {
    let mut driven = running();
    for _ in 0..CoordinatorState::MOST_COMMANDS {
        let slot = SlotId(9);
        driven.on(CoordinatorEvent::Command(SlotCommand::Prune { slot }));
    }
    let before = driven.state.clone();
    let prune = SlotCommand::Prune { slot: SLOT };
    driven.on(CoordinatorEvent::Command(prune));
    assert_eq!(driven.state, before);
    (0..3).for_each(|rank| drop(driven.arrive(member(rank, 1), 1, 2)));
    assert_eq!(driven.state.durable().record.commands, []);
}
