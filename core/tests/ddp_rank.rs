//! A rank of a run, event by event.

mod ddp;

use ddp::{RUN, genesis, next, votes};
use selvedge_core::ddp::{
    AbortReason, CommitRecord, CoordinatorSays, Epoch, EvictReason, Failure, Held, Incarnation,
    Rank, RankAction, RankCheckpoint, RankConfig, RankEvent, RankSays, RankState, RankWait,
    Reduced, ToRank, View,
};

const LIFE: Incarnation = Incarnation(3);

struct Driven {
    rank: RankState,
    out: Vec<RankAction>,
}

fn start(checkpoint: Option<RankCheckpoint>) -> Driven {
    let config = RankConfig {
        run: RUN,
        rank: Rank(1),
        last_epoch: Epoch(2),
    };
    let mut out = Vec::new();
    let rank = RankState::start(config, LIFE, checkpoint, &mut out);
    Driven { rank, out }
}

impl Driven {
    fn on(&mut self, event: RankEvent) -> Vec<RankAction> {
        self.out.clear();
        self.rank.on(event, &mut self.out);
        self.out.clone()
    }

    fn hear(&mut self, body: CoordinatorSays) -> Vec<RankAction> {
        let incarnation = LIFE;
        self.on(RankEvent::Message(ToRank { incarnation, body }))
    }

    fn step(&mut self, view: u64, seq: u64, more: bool) -> Vec<RankAction> {
        let view = View(view);
        let reduced = Reduced {
            tags_equal: true,
            active: 2,
            more,
        };
        self.on(RankEvent::StepDone { view, seq, reduced })
    }

    fn vote(&mut self, view: u64) -> Vec<RankAction> {
        let votes = self.rank.record().map(votes).unwrap_or_default();
        let (view, epoch) = (View(view), self.rank.epoch().unwrap_or(Epoch(0)));
        self.on(RankEvent::Voted { view, epoch, votes })
    }

    /// Whatever it is given, it changes nothing and does nothing.
    #[track_caller]
    fn ignores(&mut self, event: RankEvent) {
        let before = self.rank.clone();
        assert_eq!(self.on(event), []);
        assert_eq!(self.rank, before);
    }
}

fn commit(view: u64, record: CommitRecord) -> CoordinatorSays {
    CoordinatorSays::Commit {
        view: View(view),
        members: vec![Rank(0), Rank(1)],
        record,
        holders: vec![Rank(0)],
    }
}

fn new_view(view: u64) -> CoordinatorSays {
    CoordinatorSays::NewView {
        view: View(view),
        members: vec![Rank(0), Rank(1)],
    }
}

/// One that trains in epoch 1.
fn training() -> Driven {
    let mut driven = start(None);
    driven.hear(commit(1, genesis()));
    driven
}

#[test]
fn a_run_from_its_first_step_to_its_last() {
    let mut driven = start(None);
    let begun = driven.hear(commit(1, genesis()));
    let [
        RankAction::ApplyEpoch(_),
        RankAction::EnterView { .. },
        RankAction::Contribute { tag, step: 0 },
    ] = &begun[..]
    else {
        panic!("{begun:?}");
    };
    let digest = genesis().schedule.digest();
    assert_eq!(
        (tag.epoch, tag.applied, tag.schedule),
        (Epoch(1), 0, digest)
    );

    let stepped = driven.step(1, 0, true);
    let applied = RankAction::ApplyStep {
        applied: 1,
        active: 2,
    };
    assert_eq!(stepped[0], applied);
    let RankAction::Contribute { tag, step: 1 } = stepped[1] else {
        panic!("{stepped:?}");
    };
    assert_eq!((tag.seq, tag.applied), (1, 1));

    let over = driven.step(1, 1, false);
    assert!(
        matches!(
            over[1],
            RankAction::Vote {
                epoch: Epoch(1),
                ..
            }
        ),
        "{over:?}"
    );
    let arrived = driven.vote(1);
    let RankAction::Send(message) = &arrived[0] else {
        panic!("{arrived:?}");
    };
    let RankSays::Arrive {
        applied: 2, votes, ..
    } = &message.body
    else {
        panic!("{message:?}");
    };
    assert_eq!(votes.len(), 1);

    let record = next(&genesis(), 1, 2);
    let begun = driven.hear(commit(1, record.clone()));
    assert_eq!(begun[0], RankAction::ApplyEpoch(record.clone()));
    let RankAction::Contribute { tag, step: 0 } = begun[1] else {
        panic!("the same view goes on: {begun:?}");
    };
    assert_eq!((tag.seq, tag.schedule), (2, record.schedule.digest()));
    assert_ne!(tag.schedule, digest);

    driven.step(1, 2, false);
    driven.vote(1);
    let last = next(&record, 1, 3);
    let end = driven.hear(commit(1, last.clone()));
    assert_eq!(end, [RankAction::ApplyEpoch(last), RankAction::Finish]);
    assert!(driven.rank.is_done());
    driven.ignores(RankEvent::Reconnected);
}

#[test]
fn of_a_step_with_unequal_tags_nothing_is_applied() {
    let mut driven = training();
    let reduced = Reduced {
        tags_equal: false,
        active: 2,
        more: true,
    };
    let (view, seq) = (View(1), 0);
    let out = driven.on(RankEvent::StepDone { view, seq, reduced });
    assert_eq!(out, [RankAction::Fail(Failure::TagMismatch)]);
    assert_eq!(
        (driven.rank.applied(), driven.rank.failure()),
        (0, Some(Failure::TagMismatch))
    );
    driven.ignores(RankEvent::Beat);
}

#[test]
fn of_a_step_that_fails_the_coordinator_is_told() {
    let mut driven = training();
    let (view, seq) = (View(1), 0);
    driven.ignores(RankEvent::StepFailed {
        view,
        seq: 1,
        lost: Vec::new(),
    });
    let lost = vec![Rank(0)];
    let out = driven.on(RankEvent::StepFailed {
        view,
        seq,
        lost: lost.clone(),
    });
    let RankAction::Send(message) = &out[0] else {
        panic!("{out:?}");
    };
    assert_eq!(message.body, RankSays::StepFailed { view, lost });
    assert_eq!(driven.rank.wait(), Some(RankWait::Step { view, seq }));
}

#[test]
fn what_is_out_of_date_is_ignored() {
    let mut driven = training();
    for (view, seq) in [(0, 0), (2, 0), (1, 1)] {
        let view = View(view);
        let reduced = Reduced {
            tags_equal: false,
            active: 0,
            more: false,
        };
        driven.ignores(RankEvent::StepDone { view, seq, reduced });
    }
    let old = |body| {
        RankEvent::Message(ToRank {
            incarnation: Incarnation(2),
            body,
        })
    };
    let reason = EvictReason::Suspected;
    driven.ignores(old(CoordinatorSays::Evict { reason }));
    driven.ignores(old(new_view(9)));
    driven.ignores(RankEvent::Healed { view: View(1) });
    // It is not at the gate.
    let (view, epoch) = (View(1), Epoch(1));
    driven.ignores(RankEvent::Voted {
        view,
        epoch,
        votes: Vec::new(),
    });
    driven.ignores(RankEvent::HardDeadline(RankWait::Commit { view }));
    driven.ignores(RankEvent::HardDeadline(RankWait::Step { view, seq: 9 }));
    let message = |body| {
        RankEvent::Message(ToRank {
            incarnation: LIFE,
            body,
        })
    };
    driven.ignores(message(new_view(1)));
    driven.ignores(message(commit(1, next(&genesis(), 1, 0))));
}

#[test]
fn a_new_view_stops_it_and_it_goes_on_from_what_all_have() {
    let mut driven = training();
    driven.step(1, 0, true);
    let held = Held {
        record: Some(genesis().digest()),
        applied: 1,
        boundary: false,
    };
    let left = driven.hear(new_view(2));
    assert_eq!(left[0], RankAction::LeaveView(View(1)));
    let RankAction::Send(message) = &left[1] else {
        panic!("{left:?}");
    };
    let ack = RankSays::ViewAck {
        view: View(2),
        held: Some(held),
    };
    assert_eq!(message.body, ack);
    let resume = |view, applied| CoordinatorSays::Resume {
        view: View(view),
        record: genesis(),
        applied,
        boundary: true,
        holders: vec![Rank(0)],
    };
    // Somebody was one step ahead, and that was the last.
    let heals = driven.hear(resume(2, 2));
    assert!(
        matches!(&heals[1], RankAction::Heal { applied: 2, .. }),
        "{heals:?}"
    );
    // In the middle of a copy it has what it had before.
    let left = driven.hear(new_view(3));
    let RankAction::Send(message) = &left[1] else {
        panic!("{left:?}");
    };
    let ack = RankSays::ViewAck {
        view: View(3),
        held: Some(held),
    };
    assert_eq!(message.body, ack);
    driven.hear(resume(3, 2));
    driven.on(RankEvent::Healed { view: View(2) });
    assert_eq!(driven.rank.wait(), Some(RankWait::Copy { view: View(3) }));
    let votes = driven.on(RankEvent::Healed { view: View(3) });
    assert!(matches!(votes[0], RankAction::Vote { .. }), "{votes:?}");
    assert_eq!(driven.rank.applied(), 2);
}

#[test]
fn who_missed_a_record_gets_it_after_the_flush() {
    let mut driven = training();
    driven.step(1, 0, false);
    driven.vote(1);
    driven.hear(new_view(2));
    let record = next(&genesis(), 1, 1);
    let resume = CoordinatorSays::Resume {
        view: View(2),
        record: record.clone(),
        applied: 1,
        boundary: false,
        holders: vec![Rank(0), Rank(1)],
    };
    let out = driven.hear(resume);
    assert_eq!(out[0], RankAction::ApplyEpoch(record));
    let RankAction::Contribute { tag, step: 0 } = out[2] else {
        panic!("{out:?}");
    };
    assert_eq!((tag.view, tag.seq, tag.epoch), (View(2), 0, Epoch(2)));
}

#[test]
fn a_record_that_does_not_follow_is_not_applied() {
    let wrong: [fn(CommitRecord) -> CommitRecord; 3] = [
        |record| CommitRecord {
            applied: 9,
            ..record
        },
        |record| CommitRecord {
            schedule: genesis().schedule,
            ..record
        },
        |mut record| {
            record.decisions[0].passed = false;
            record
        },
    ];
    for change in wrong {
        let mut driven = training();
        driven.step(1, 0, false);
        driven.vote(1);
        let record = change(next(&genesis(), 1, 1));
        let out = driven.hear(commit(1, record));
        assert_eq!(out, [RankAction::Fail(Failure::BadRecord)]);
    }
}

#[test]
fn every_wait_ends_by_its_hard_deadline_in_a_failure_by_name() {
    let view = View(1);
    let mut joining = start(None);
    let mut steps = training();
    let mut votes = training();
    votes.step(1, 0, false);
    let mut gate = training();
    gate.step(1, 0, false);
    gate.vote(1);
    let mut flush = training();
    flush.hear(new_view(2));
    let mut copy = start(None);
    let later = CommitRecord {
        applied: 5,
        ..genesis()
    };
    copy.hear(commit(1, later));
    let lost = Failure::CoordinatorLost;
    for (driven, failure) in [
        (&mut joining, lost(RankWait::Admission)),
        (
            &mut steps,
            Failure::Stalled(RankWait::Step { view, seq: 0 }),
        ),
        (&mut votes, Failure::Stalled(RankWait::Votes { view })),
        (&mut gate, lost(RankWait::Commit { view })),
        (&mut flush, lost(RankWait::Resume { view: View(2) })),
        (&mut copy, Failure::Stalled(RankWait::Copy { view })),
    ] {
        let wait = driven.rank.wait().unwrap();
        let out = driven.on(RankEvent::HardDeadline(wait));
        assert_eq!(out, [RankAction::Fail(failure)]);
        assert_eq!(driven.rank.wait(), None);
    }
}

#[test]
fn the_coordinators_last_word_is_the_reason() {
    let reason = EvictReason::OldIncarnation;
    let out = training().hear(CoordinatorSays::Evict { reason });
    assert_eq!(out, [RankAction::Fail(Failure::Evicted(reason))]);
    for (reason, failure) in [
        (AbortReason::QuorumLost, Failure::QuorumLost),
        (AbortReason::StateLost, Failure::StateLost),
        (AbortReason::Diverged, Failure::Diverged),
    ] {
        let out = training().hear(CoordinatorSays::Abort { reason });
        assert_eq!(out, [RankAction::Fail(failure)]);
    }
}

#[test]
fn a_connection_that_is_back_is_greeted_by_what_the_rank_is() {
    let says = |driven: &mut Driven| {
        let out = driven.on(RankEvent::Reconnected);
        let RankAction::Send(message) = &out[0] else {
            panic!("{out:?}");
        };
        message.body.clone()
    };
    assert_eq!(
        says(&mut start(None)),
        RankSays::Join {
            record: None,
            applied: 0
        }
    );
    assert_eq!(says(&mut training()), RankSays::Hello);
}

/// Found by the simulated world, seed 2110: the first answer was lost with its connection, the
/// coordinator asked again, and both waited for each other until a hard deadline evicted a
/// healthy rank.
#[test]
fn who_is_asked_again_what_it_has_says_it_again() {
    let mut driven = training();
    driven.step(1, 0, true);
    let first = driven.hear(new_view(2));
    let said = first.last().cloned().unwrap();
    assert!(matches!(&said, RankAction::Send(message)
        if matches!(message.body, RankSays::ViewAck { view: View(2), held: Some(_) })));
    assert_eq!(driven.hear(new_view(2)), [said]);
    driven.ignores(RankEvent::Message(ToRank {
        incarnation: LIFE,
        body: new_view(1),
    }));
    driven.hear(CoordinatorSays::Resume {
        view: View(2),
        record: genesis(),
        applied: 1,
        boundary: false,
        holders: vec![Rank(0), Rank(1)],
    });
    // Once it has gone on, there is nothing to be asked any more.
    driven.ignores(RankEvent::Message(ToRank {
        incarnation: LIFE,
        body: new_view(2),
    }));
}

#[test]
fn a_checkpoint_is_of_the_start_of_an_epoch_and_spares_the_copy() {
    let mut driven = training();
    let first = driven.rank.checkpoint().unwrap();
    assert_eq!(first.record, genesis());
    driven.step(1, 0, true);
    assert_eq!(
        driven.rank.checkpoint(),
        None,
        "in mid-epoch nobody agrees on parameters"
    );
    driven.step(1, 1, false);
    driven.vote(1);
    let record = next(&genesis(), 1, 2);
    driven.hear(commit(1, record.clone()));
    let second = driven.rank.checkpoint().unwrap();

    let body = |driven: &Driven| match &driven.out[0] {
        RankAction::Send(message) => message.body.clone(),
        other => panic!("{other:?}"),
    };
    let mut again = start(Some(second));
    let digest = Some(record.digest());
    let join = RankSays::Join {
        record: digest,
        applied: 2,
    };
    assert_eq!(body(&again), join);
    let out = again.hear(commit(5, record.clone()));
    assert!(
        matches!(out[2], RankAction::Contribute { .. }),
        "it has them: {out:?}"
    );
    let mut older = start(Some(first));
    let out = older.hear(commit(5, record));
    assert!(
        matches!(out[2], RankAction::Heal { applied: 2, .. }),
        "{out:?}"
    );
}

/// After a step that only one rank has got, all others copy it; if that one is lost, each still
/// has the version before, and the run goes on from there.
#[test]
fn a_copy_that_comes_to_nothing_leaves_what_was_there() {
    let mut driven = training();
    driven.step(1, 0, true);
    driven.hear(new_view(2));
    let resume = |view, applied, holder| CoordinatorSays::Resume {
        view: View(view),
        record: genesis(),
        applied,
        boundary: false,
        holders: vec![Rank(holder)],
    };
    driven.hear(resume(2, 2, 0));
    assert_eq!(driven.rank.wait(), Some(RankWait::Copy { view: View(2) }));
    driven.hear(new_view(3));
    let out = driven.hear(resume(3, 1, 1));
    assert!(
        matches!(&out[..], [RankAction::EnterView { .. }, RankAction::Contribute { tag, step: 1 }]
            if tag.applied == 1),
        "{out:?}"
    );
}

/// It has a checkpoint of a future that the run has given up, and never heard that it is a
/// member: it takes record and parameters from the run, whatever its own numbers are.
#[test]
fn a_checkpoint_of_another_future_is_replaced() {
    let record = next(&genesis(), 1, 15);
    let later = next(&record, 1, 30);
    let other = next(&genesis(), 9, 15);
    for theirs in [later, other] {
        let digest = Some(theirs.digest());
        let applied = theirs.applied;
        let checkpoint = || {
            Some(RankCheckpoint {
                record: theirs.clone(),
            })
        };
        let mut driven = start(checkpoint());
        let out = driven.hear(new_view(2));
        let RankAction::Send(message) = &out[0] else {
            panic!("{out:?}");
        };
        let held = Some(Held {
            record: digest,
            applied,
            boundary: false,
        });
        let view = View(2);
        assert_eq!(message.body, RankSays::ViewAck { view, held });
        let out = driven.hear(CoordinatorSays::Resume {
            view,
            record: record.clone(),
            applied: 15,
            boundary: false,
            holders: vec![Rank(0)],
        });
        assert_eq!(out[0], RankAction::ApplyEpoch(record.clone()));
        assert!(
            matches!(out[2], RankAction::Heal { applied: 15, .. }),
            "{out:?}"
        );
        // And the same where it does hear that it is one.
        let mut driven = start(checkpoint());
        let out = driven.hear(commit(1, record.clone()));
        assert!(
            matches!(out[2], RankAction::Heal { applied: 15, .. }),
            "{out:?}"
        );
    }
}

#[test]
fn a_coordinator_that_has_forgotten_a_record_is_not_followed() {
    let mut driven = training();
    driven.step(1, 0, false);
    driven.vote(1);
    driven.hear(commit(1, next(&genesis(), 1, 1)));
    driven.hear(new_view(2));
    let out = driven.hear(CoordinatorSays::Resume {
        view: View(2),
        record: genesis(),
        applied: 1,
        boundary: false,
        holders: vec![Rank(1)],
    });
    assert_eq!(out, [RankAction::Fail(Failure::BadRecord)]);
}
