//! The collective between threads: on real threads what its shell does, and step by step what
//! its state does where threads cannot be made to stand still.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the shell is tested on `Std`, with std's threads"
)]

use std::thread;
use std::time::{Duration, Instant};

use selvedge_core::ddp::{
    Collective, Contribution, Epoch, InProcess, InProcessGroup, Rank, Reduced, RoundError,
    RoundState, RunId, Seat, StepTag, View,
};
use selvedge_core::time::SystemClock;

const V1: View = View(1);
/// Longer than any test takes: whoever is not woken fails the test by it.
const LONG: Duration = Duration::from_secs(10);

fn group(patience: Duration) -> InProcessGroup<f64> {
    InProcessGroup::new(patience, Box::new(SystemClock::new()))
}

fn ranks<const N: usize>(ranks: [u32; N]) -> [Rank; N] {
    ranks.map(Rank)
}

/// A contribution of a rank with a batch and more to come.
fn give(view: View, seq: u64) -> Contribution {
    let tag = StepTag {
        run: RunId(1),
        view,
        seq,
        epoch: Epoch(1),
        schedule: 0,
        applied: seq,
    };
    Contribution {
        tag,
        active: true,
        more: true,
    }
}

/// The handles of `N` ranks that are all in view 1.
fn entered<const N: usize>(group: &InProcessGroup<f64>) -> [InProcess<f64>; N] {
    let members: [Rank; N] = std::array::from_fn(|rank| Rank(rank as u32));
    members.map(|rank| {
        let mut handle = group.join(rank).expect("nobody has it");
        handle.enter(V1, &members).expect("it is a member");
        handle
    })
}

/// Until the view's present round waits for exactly these.
fn until_missing(group: &InProcessGroup<f64>, missing: &[Rank]) {
    let begun = Instant::now();
    while group.missing(V1) != missing {
        assert!(begun.elapsed() < LONG, "{:?}", group.missing(V1));
        thread::yield_now();
    }
}

#[test]
fn whatever_the_order_of_arrival_all_get_the_sum_by_rank() {
    // By rank: ((1e16 + 1) - 1e16) + 1 = 1, because 1e16 + 1 rounds to 1e16. Other orders
    // come to 0 or 2.
    let values = [1e16, 1.0, -1e16, 1.0];
    let mut orders = 0;
    for order in 0..256_usize {
        let order: [usize; 4] = std::array::from_fn(|i| (order >> (2 * i)) & 3);
        let arrived = order.iter().fold(0, |all, rank| all | (1 << rank));
        if arrived != 0b1111 {
            continue;
        }
        orders += 1;
        let group = group(LONG);
        let mut handles: [Option<InProcess<f64>>; 4] = entered(&group).map(Some);
        let mut threads = Vec::new();
        let mut missing = vec![Rank(0), Rank(1), Rank(2), Rank(3)];
        for (turn, &rank) in order.iter().enumerate() {
            let mut handle = handles[rank].take().expect("each comes once");
            threads.push(thread::spawn(move || {
                let mut bucket = [values[rank], 0.25];
                let reduced = handle.all_reduce(&give(V1, 0), &mut bucket);
                (reduced, bucket)
            }));
            missing.retain(|&other| other != Rank(rank as u32));
            if turn < 3 {
                until_missing(&group, &missing);
            }
        }
        for thread in threads {
            let (reduced, bucket) = thread.join().expect("it does not panic");
            let expected = Reduced {
                tags_equal: true,
                active: 4,
                more: true,
            };
            assert_eq!(reduced, Ok(expected));
            assert_eq!(bucket, [1.0, 1.0], "{order:?}");
        }
    }
    assert_eq!(orders, 24);
}

#[test]
fn uneven_loaders_end_their_epoch_in_the_same_step() {
    let loaders = [1_u64, 2, 4];
    let group = group(LONG);
    let handles: [InProcess<f64>; 3] = entered(&group);
    let threads: Vec<_> = (handles.into_iter().zip(loaders))
        .map(|(mut handle, batches)| {
            thread::spawn(move || {
                let mut seen = Vec::new();
                for seq in 0.. {
                    let contribution = Contribution {
                        active: seq < batches,
                        more: seq + 1 < batches,
                        ..give(V1, seq)
                    };
                    let mut bucket = [if seq < batches { 1.5 } else { 0.0 }];
                    let reduced = handle.all_reduce(&contribution, &mut bucket)?;
                    seen.push((reduced.active, bucket[0], reduced.more));
                    if !reduced.more {
                        break;
                    }
                }
                Ok::<_, RoundError>(seen)
            })
        })
        .collect();
    let begun = Instant::now();
    let expected = vec![
        (3, 4.5, true),
        (2, 3.0, true),
        (1, 1.5, true),
        (1, 1.5, false),
    ];
    for thread in threads {
        let seen = thread.join().expect("it does not panic");
        assert_eq!(seen, Ok(expected.clone()));
    }
    assert!(begun.elapsed() < LONG, "somebody was not woken");
}

#[test]
fn one_other_tag_is_seen_by_all() {
    let group = group(LONG);
    let handles: [InProcess<f64>; 3] = entered(&group);
    let threads = handles.into_iter().enumerate().map(|(rank, mut handle)| {
        let mut contribution = give(V1, 0);
        contribution.tag.schedule = u64::from(rank == 1);
        thread::spawn(move || handle.all_reduce(&contribution, &mut [0.0]))
    });
    for thread in threads.collect::<Vec<_>>() {
        let reduced = thread.join().expect("it does not panic");
        assert!(!reduced.expect("all contributed").tags_equal);
    }
}

/// Lets ranks 0 and 1 of three wait, does `end` to the third, and returns what the two got.
fn while_two_wait(
    patience: Duration,
    end: impl FnOnce(InProcess<f64>) -> Option<InProcess<f64>>,
) -> [Result<Reduced, RoundError>; 2] {
    let group = group(patience);
    let [first, second, third] = entered(&group);
    let threads = [first, second].map(|mut handle| {
        // The handle comes back, so that only the third's end can be what ends the wait.
        thread::spawn(move || (handle.all_reduce(&give(V1, 0), &mut [1.0]), handle))
    });
    until_missing(&group, &[Rank(2)]);
    let ending = Instant::now();
    let third = end(third);
    let ended = threads.map(|thread| thread.join().expect("it does not panic"));
    assert!(ending.elapsed() < LONG / 2, "nobody woke them");
    drop(third);
    ended.map(|(result, _handle)| result)
}

#[test]
fn who_is_dropped_in_mid_round_fails_it_for_all() {
    let gone = RoundError::Gone {
        view: V1,
        rank: Rank(2),
    };
    let dropped = while_two_wait(LONG, |third| {
        drop(third);
        None
    });
    assert_eq!(dropped, [Err(gone.clone()), Err(gone.clone())]);
    // A thread that panics is gone in the same way.
    let panicked = while_two_wait(LONG, |third| {
        let thread = thread::spawn(move || {
            let _third = third;
            std::panic::resume_unwind(Box::new("the thread's end"));
        });
        assert!(thread.join().is_err());
        None
    });
    assert_eq!(panicked, [Err(gone.clone()), Err(gone.clone())]);
    assert_eq!(
        gone.to_string(),
        "rank 2 of view 1 is gone: its handle was dropped"
    );
}

#[test]
fn who_leaves_by_another_thread_wakes_all_who_wait() {
    let left = |rank| RoundError::Left { view: V1, rank };
    let others = while_two_wait(LONG, |mut third| {
        third.leave(V1);
        Some(third)
    });
    assert_eq!(others, [Err(left(Rank(2))), Err(left(Rank(2)))]);
    // Also the one that waits itself.
    let group = group(LONG);
    let [mut first, _second] = entered(&group);
    let exit = first.exit();
    let thread = thread::spawn(move || first.all_reduce(&give(V1, 0), &mut [1.0]));
    until_missing(&group, &[Rank(1)]);
    let leaving = Instant::now();
    exit.leave(V1);
    let ended = thread.join().expect("it does not panic");
    assert_eq!(ended, Err(left(Rank(0))));
    assert!(leaving.elapsed() < LONG / 2, "nobody woke it");
}

#[test]
fn the_deadline_names_who_is_missing_and_ends_the_round_for_all() {
    let patience = Duration::from_millis(100);
    let group = group(patience);
    let [first, second, third, fourth] = entered(&group);
    let begun = Instant::now();
    let threads = [first, third].map(|mut handle| {
        thread::spawn(move || (handle.all_reduce(&give(V1, 0), &mut [1.0]), handle))
    });
    let ended = threads.map(|thread| thread.join().expect("it does not panic"));
    let took = begun.elapsed();
    let missed = RoundError::Deadline {
        view: V1,
        seq: 0,
        missing: vec![Rank(1), Rank(3)],
    };
    for (result, _) in &ended {
        assert_eq!(*result, Err(missed.clone()));
    }
    assert_eq!(
        missed.to_string(),
        "round 0 of view 1 was not complete in time; missing: rank 1, rank 3"
    );
    assert!(took >= patience && took < LONG, "{took:?}");
    // Who comes late is told the same at once.
    for mut late in [second, fourth] {
        let result = late.all_reduce(&give(V1, 0), &mut [1.0]);
        assert_eq!(result, Err(missed.clone()));
    }
}

#[test]
fn the_first_deadline_wakes_who_came_later() {
    let patience = Duration::from_secs(1);
    let group = group(patience);
    let [mut first, mut second, _third] = entered(&group);
    let early = thread::spawn(move || (first.all_reduce(&give(V1, 0), &mut [1.0]), first));
    until_missing(&group, &ranks([1, 2]));
    thread::sleep(patience * 7 / 10);
    let begun = Instant::now();
    let late = second.all_reduce(&give(V1, 0), &mut [1.0]);
    assert!(begun.elapsed() < patience, "it ended by its own deadline");
    let (early, _first) = early.join().expect("it does not panic");
    assert!(matches!(early, Err(RoundError::Deadline { .. })));
    assert_eq!(late, early);
}

#[test]
fn thousands_of_rounds_by_threads_of_uneven_speed_never_mix() {
    const ROUNDS: u64 = 3_000;
    let group = group(LONG);
    let handles: [InProcess<f64>; 4] = entered(&group);
    let threads = handles.into_iter().enumerate().map(|(rank, mut handle)| {
        thread::spawn(move || {
            for seq in 0..ROUNDS {
                // Each is slow in its turn.
                if (seq / 7) % 4 == rank as u64 {
                    thread::yield_now();
                }
                let mut bucket = [seq as f64, (rank as f64) * (seq as f64)];
                let reduced = handle.all_reduce(&give(V1, seq), &mut bucket)?;
                assert_eq!((reduced.active, reduced.tags_equal), (4, true), "{seq}");
                assert_eq!(bucket, [4.0 * seq as f64, 6.0 * seq as f64], "{seq}");
            }
            Ok::<_, RoundError>(())
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        assert_eq!(thread.join().expect("every sum is of one round"), Ok(()));
    }
}

#[test]
fn who_is_done_and_gone_takes_no_result_from_the_slow() {
    for _ in 0..300 {
        let group = group(LONG);
        let handles: [InProcess<f64>; 3] = entered(&group);
        // Each drops its handle the moment it has its result.
        let threads = handles
            .map(|mut handle| thread::spawn(move || handle.all_reduce(&give(V1, 0), &mut [1.0])));
        for thread in threads {
            let result = thread.join().expect("it does not panic");
            assert_eq!(result.map(|reduced| reduced.active), Ok(3));
        }
    }
}

/// A state with the ranks `0..n` in view 1.
fn state(n: u32) -> (RoundState, Vec<Seat>) {
    let mut state = RoundState::default();
    let members: Vec<Rank> = (0..n).map(Rank).collect();
    let seats = members.iter().map(|&rank| {
        let seat = state.sit(rank).expect("nobody has it");
        state.enter(seat, V1, &members).expect("it is a member");
        seat
    });
    let seats = seats.collect();
    (state, seats)
}

#[test]
fn a_fast_rank_enters_the_next_round_while_a_slow_one_still_leaves_this() {
    let (mut state, seats) = state(2);
    let (fast, slow) = (seats[0], seats[1]);
    let quiet = Contribution {
        active: false,
        more: false,
        ..give(V1, 0)
    };
    assert_eq!(state.contribute(slow, &quiet, 1), Ok(false));
    assert_eq!(state.contribute(fast, &give(V1, 0), 1), Ok(true));
    let first = Reduced {
        tags_equal: true,
        active: 1,
        more: true,
    };
    assert_eq!(state.result(fast, V1, 0), Ok(Some(first)));
    // The fast one is in round 1 already, and round 1 is not complete by round 0's presence.
    assert_eq!(state.contribute(fast, &give(V1, 1), 1), Ok(false));
    assert_eq!(state.result(fast, V1, 1), Ok(None));
    assert_eq!(state.missing(V1), [Rank(1)]);
    // The slow one's deadline for round 0 is no deadline of round 1.
    let before = state.clone();
    state.expire(slow, V1, 0);
    assert_eq!(state, before);
    // Even when round 1 has failed, round 0 is there.
    state.expire(fast, V1, 1);
    let missed = RoundError::Deadline {
        view: V1,
        seq: 1,
        missing: vec![Rank(1)],
    };
    assert_eq!(state.result(fast, V1, 1), Err(missed.clone()));
    assert_eq!(state.result(slow, V1, 0), Ok(Some(first)));
    assert_eq!(state.contribute(slow, &give(V1, 1), 1), Err(missed));
}

#[test]
fn after_leaving_nothing_of_the_view_is_delivered() {
    let (mut state, seats) = state(2);
    for &seat in &seats {
        let complete = state.contribute(seat, &give(V1, 0), 1);
        assert_eq!(complete, Ok(seat == seats[1]));
    }
    state.leave(seats[0], V1);
    let left = RoundError::Left {
        view: V1,
        rank: Rank(0),
    };
    assert_eq!(state.result(seats[0], V1, 0), Err(left.clone()));
    assert_eq!(
        state.contribute(seats[0], &give(V1, 1), 1),
        Err(left.clone())
    );
    // The other still has its result, and no round after it.
    assert!(
        state
            .result(seats[1], V1, 0)
            .is_ok_and(|result| result.is_some())
    );
    assert_eq!(state.contribute(seats[1], &give(V1, 1), 1), Err(left));
    state.leave(seats[1], V1);
    assert!(
        !state.is_open(V1),
        "nothing is kept of a view that nobody is in"
    );
}

#[test]
fn a_view_that_somebody_will_never_be_in_fails_at_its_first_round() {
    let two = ranks([0, 1]);
    let mut state = RoundState::default();
    let seats = two.map(|rank| state.sit(rank).expect("nobody has it"));
    // Rank 0 has left view 1 before rank 1 comes.
    state.enter(seats[0], V1, &two).expect("it is a member");
    state.leave(seats[0], V1);
    state.enter(seats[1], V1, &two).expect("it is a member");
    let left = RoundError::Left {
        view: V1,
        rank: Rank(0),
    };
    assert_eq!(state.contribute(seats[1], &give(V1, 0), 1), Err(left));
    // Rank 0 is gone before rank 1 enters view 2, which it leaves view 1 by.
    state.stand_up(seats[0]);
    state
        .enter(seats[1], View(2), &two)
        .expect("it is a member");
    let gone = |view| RoundError::Gone {
        view,
        rank: Rank(0),
    };
    let result = state.contribute(seats[1], &give(View(2), 0), 1);
    assert_eq!(result, Err(gone(View(2))));
    // A new life of rank 0 is no life of view 2, and its former seat is worth nothing.
    let again = state.sit(Rank(0)).expect("the former life has ended");
    state.enter(again, View(2), &two).expect("it is a member");
    assert_eq!(
        state.contribute(again, &give(View(2), 0), 1),
        Err(gone(View(2)))
    );
    state.leave(seats[0], View(2));
    state.stand_up(seats[0]);
    for seat in [again, seats[1]] {
        state.enter(seat, View(3), &two).expect("it is a member");
    }
    assert_eq!(state.contribute(again, &give(View(3), 0), 1), Ok(false));
    assert_eq!(state.contribute(seats[1], &give(View(3), 0), 1), Ok(true));
}

#[test]
fn a_new_view_goes_on_with_who_is_left() {
    let group = group(LONG);
    let [first, second, third] = entered(&group);
    drop(third);
    let left = ranks([0, 1]);
    let threads = [first, second].map(|mut handle| {
        thread::spawn(move || {
            let lost = handle.all_reduce(&give(V1, 0), &mut [1.0]);
            handle.enter(View(2), &left).expect("it is a member");
            let mut bucket = [2.0];
            let reduced = handle.all_reduce(&give(View(2), 0), &mut bucket);
            (lost, reduced.map(|reduced| reduced.active), bucket)
        })
    });
    for thread in threads {
        let (lost, active, bucket) = thread.join().expect("it does not panic");
        // The one that is first in view 2 has left view 1, but that is not why it failed.
        let gone = RoundError::Gone {
            view: V1,
            rank: Rank(2),
        };
        assert_eq!((lost, active, bucket), (Err(gone), Ok(2), [4.0]));
    }
}

#[test]
fn wrong_calls_are_refused_by_name_and_change_nothing() {
    let (mut state, seats) = state(2);
    let rank = Rank(0);
    let before = state.clone();
    let mut refused = Vec::new();
    for members in [&ranks([0, 1, 1])[..], &ranks([1]), &[]] {
        refused.push(
            state
                .enter(seats[0], View(2), members)
                .expect_err("bad members"),
        );
    }
    refused.push(
        state
            .enter(seats[0], V1, &ranks([0, 1]))
            .expect_err("it is in it"),
    );
    refused.push((state.contribute(seats[0], &give(View(2), 0), 1)).expect_err("not its view"));
    refused.push(
        state
            .contribute(seats[0], &give(V1, 5), 1)
            .expect_err("too far"),
    );
    refused.push(state.sit(rank).expect_err("it has a seat"));
    assert_eq!(state, before);
    let said: Vec<String> = refused.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "view 2 was entered by rank 0 with the members rank 0, rank 1, rank 1; each must be named once, the caller among them",
            "view 2 was entered by rank 0 with the members rank 1; each must be named once, the caller among them",
            "view 2 was entered by rank 0 with the members nobody; each must be named once, the caller among them",
            "rank 0 cannot enter view 1: it has been in view 1 already; enter a newer one",
            "rank 0 is not in view 2; enter it first",
            "rank 0 contributed to round 5 of view 1; its next is round 0",
            "rank 0 has a handle already; drop that one first",
        ]
    );
    // Another list of members than the first who entered.
    state
        .enter(seats[0], View(2), &ranks([1, 0]))
        .expect("the order does not matter");
    let before = state.clone();
    let differ = state.enter(seats[1], View(2), &ranks([1, 2]));
    assert_eq!(
        differ.expect_err("other members").to_string(),
        "view 2 has the members rank 0, rank 1, but rank 1 entered it with rank 1, rank 2"
    );
    assert_eq!(state, before);
    // Twice to one round.
    assert_eq!(state.contribute(seats[0], &give(View(2), 0), 1), Ok(false));
    let twice = RoundError::StillWaiting {
        view: View(2),
        rank,
        seq: 0,
    };
    assert_eq!(state.contribute(seats[0], &give(View(2), 0), 1), Err(twice));
}

#[test]
fn buckets_of_two_lengths_fail_the_round_for_all_and_stay_as_they_are() {
    let group = group(LONG);
    let begun = Instant::now();
    let handles: [InProcess<f64>; 3] = entered(&group);
    let threads = handles.into_iter().enumerate().map(|(rank, mut handle)| {
        thread::spawn(move || {
            let mut bucket = vec![1.0; 2 + usize::from(rank == 1)];
            let result = handle.all_reduce(&give(V1, 0), &mut bucket);
            (result, bucket, handle)
        })
    });
    let ended = threads.collect::<Vec<_>>().into_iter();
    let ended: Vec<_> = ended
        .map(|thread| thread.join().expect("it does not panic"))
        .collect();
    assert!(begun.elapsed() < LONG / 2, "nobody woke them");
    for (result, bucket, _) in ended {
        let error = result.expect_err("they differ").to_string();
        assert_eq!(
            error,
            "in round 0 of view 1, rank 1 gave 3 values and rank 0 gave 2"
        );
        assert!(bucket.iter().all(|&value| value == 1.0));
    }
}
