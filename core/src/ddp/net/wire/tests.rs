//! Every value survives the way to bytes and back; no damaged frame is a frame; and whatever
//! bytes come, what is made of them is a state that a machine could have made.
#![allow(clippy::disallowed_types, reason = "proptest's macros name std's Arc")]

use core::pin::pin;
use core::task::{Context, Poll, Waker};

use core::future::Future as _;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::ddp::alpha::{AlphaCurve, AlphaLevel, Steepness};
use crate::ddp::coordinator::{CoordinatorState, Durable, RunConfig};
use crate::ddp::gates::{GateMetrics, Reduction, Strictness};
use crate::ddp::ids::{BlueprintId, Incarnation, SeedId, SlotId};
use crate::ddp::invariants::check_slot;
use crate::ddp::message::{AbortReason, EvictReason, Held, RankSays};
use crate::ddp::net::link::{Cut, Frames};
use crate::ddp::net::store::fits;
use crate::ddp::record::{Ballot, CommitRecord};
use crate::ddp::schedule::Schedule;
use crate::ddp::slot::{SeedSlot, SlotCommand, SlotRules};
use crate::ddp::tag::StepTag;

fn level() -> impl Strategy<Value = AlphaLevel> {
    (0..=1_000_000_000_u32).prop_map(|n| AlphaLevel::from_billionths(n).unwrap())
}

fn curve() -> impl Strategy<Value = AlphaCurve> {
    prop_oneof![
        Just(AlphaCurve::Linear),
        Just(AlphaCurve::Cosine),
        (100..=1_000_000_000_u32)
            .prop_map(|n| AlphaCurve::Sigmoid(Steepness::from_thousandths(n).unwrap())),
    ]
}

fn command() -> impl Strategy<Value = SlotCommand> {
    let slot = (0..3_u32).prop_map(SlotId);
    prop_oneof![
        (slot.clone(), 1..9_u64, 1..9_u32).prop_map(|(slot, seed, blueprint)| {
            SlotCommand::Germinate {
                slot,
                seed: SeedId(seed),
                blueprint: BlueprintId(blueprint),
            }
        }),
        slot.clone()
            .prop_map(|slot| SlotCommand::Advance { slot, target: None }),
        slot.clone().prop_map(|slot| SlotCommand::Prune { slot }),
        (slot.clone(), 0..5_u32)
            .prop_map(|(slot, steps)| SlotCommand::SchedulePrune { slot, steps }),
        (slot, level(), 0..9_u32, proptest::option::of(curve())).prop_map(
            |(slot, target, steps, curve)| SlotCommand::SetAlphaTarget {
                slot,
                target,
                steps,
                curve,
            }
        ),
    ]
}

fn rules() -> impl Strategy<Value = SlotRules> {
    let reduction = prop_oneof![
        Just(Reduction::All),
        Just(Reduction::Any),
        Just(Reduction::Majority),
        (0..5_u32).prop_map(Reduction::AtLeast),
        any::<u64>().prop_map(Reduction::SumAtLeast),
    ];
    (any::<[bool; 4]>(), reduction, 0..4_u32, 0..6_u32, curve()).prop_map(
        |([auto_g1, auto_g2, auto_g3, isolate], reduction, embargo_epochs, blend_steps, curve)| {
            SlotRules {
                strictness: Strictness::Permissive,
                auto_g1,
                auto_g2,
                auto_g3,
                reduction,
                embargo_epochs,
                blend_steps,
                blend_curve: curve,
                isolate_blending: isolate,
            }
        },
    )
}

fn votes_of(schedule: &Schedule, rank: u32) -> Vec<crate::ddp::gates::Vote> {
    schedule.vote(|_| GateMetrics {
        improvement: Some(f64::from(rank)),
        gradient_ratio: Some(1.0),
        gradient_health: Some(1.0),
        contribution: Some(f64::from(rank)),
    })
}

/// Records as runs make them: whatever commands come, over as many epochs.
fn record() -> impl Strategy<Value = CommitRecord> {
    (vec(rules(), 1..4), vec(vec(command(), 0..3), 0..40)).prop_map(|(rules, epochs)| {
        let slots = rules.into_iter().enumerate();
        let slots = slots.map(|(id, rules)| SeedSlot::new(SlotId(id as u32), rules));
        let schedule = Schedule::new(slots).unwrap();
        let mut record = CommitRecord::genesis(RunId(7), Epoch(0), 0, schedule);
        for commands in epochs {
            let ballots = (0..3).map(|rank| Ballot {
                voter: Rank(rank),
                votes: votes_of(&record.schedule, rank),
            });
            let ballots = ballots.collect();
            record = record
                .next(View(3), ballots, &commands, record.applied + 4)
                .unwrap();
        }
        record
    })
}

fn durable() -> impl Strategy<Value = Durable> {
    (record(), 0..=3_usize, any::<bool>()).prop_map(|(record, members, aborted)| {
        let life = |rank| Member {
            rank: Rank(rank as u32),
            incarnation: Incarnation(rank as u64 + 1),
        };
        Durable {
            view: View(9),
            members: (0..members).map(life).collect(),
            lives: (0..3).map(life).collect(),
            record,
            aborted: aborted.then_some(AbortReason::StateLost),
        }
    })
}

fn coordinator_says() -> impl Strategy<Value = FromCoordinator> {
    let ranks = || {
        vec(any::<u32>(), 0..5).prop_map(|mut ranks| {
            ranks.sort_unstable();
            ranks.dedup();
            ranks.into_iter().map(Rank).collect::<Vec<_>>()
        })
    };
    let says = prop_oneof![
        (any::<u64>(), ranks(), record(), ranks()).prop_map(|(view, members, record, holders)| {
            CoordinatorSays::Commit {
                view: View(view),
                members,
                record,
                holders,
            }
        }),
        (any::<u64>(), ranks()).prop_map(|(view, members)| CoordinatorSays::NewView {
            view: View(view),
            members
        }),
        (any::<u64>(), record(), any::<u64>(), any::<bool>(), ranks()).prop_map(
            |(view, record, applied, boundary, holders)| CoordinatorSays::Resume {
                view: View(view),
                record,
                applied,
                boundary,
                holders,
            }
        ),
        Just(CoordinatorSays::Evict {
            reason: EvictReason::TooLate
        }),
    ];
    let book = vec((any::<u32>(), any::<(u32, u16)>()), 0..4);
    let message = (any::<u64>(), says, book).prop_map(|(life, body, book)| {
        let address = |(ip, port): (u32, u16)| SocketAddr::from((ip.to_be_bytes(), port));
        FromCoordinator::Says {
            message: ToRank {
                incarnation: Incarnation(life),
                body,
            },
            book: book
                .into_iter()
                .map(|(rank, at)| (Rank(rank), address(at)))
                .collect(),
        }
    });
    prop_oneof![9 => message, 1 => Just(FromCoordinator::Ping)]
}

fn rank_says() -> impl Strategy<Value = FromRank> {
    let held = (any::<Option<u64>>(), any::<u64>(), any::<bool>()).prop_map(
        |(record, applied, boundary)| Held {
            record,
            applied,
            boundary,
        },
    );
    let body = prop_oneof![
        any::<(Option<u64>, u64)>()
            .prop_map(|(record, applied)| RankSays::Join { record, applied }),
        Just(RankSays::Hello),
        Just(RankSays::Heartbeat),
        (any::<u64>(), vec(any::<u32>(), 0..4)).prop_map(|(view, lost)| RankSays::StepFailed {
            view: View(view),
            lost: lost.into_iter().map(Rank).collect()
        }),
        (any::<[u64; 3]>(), record()).prop_map(|([view, epoch, applied], record)| {
            RankSays::Arrive {
                view: View(view),
                epoch: Epoch(epoch),
                applied,
                votes: votes_of(&record.schedule, 2),
            }
        }),
        (any::<u64>(), proptest::option::of(held)).prop_map(|(view, held)| RankSays::ViewAck {
            view: View(view),
            held
        }),
    ];
    prop_oneof![
        9 => (any::<u64>(), body).prop_map(|(life, body)| FromRank::Says(ToCoordinator {
            incarnation: Incarnation(life),
            body
        })),
        1 => any::<bool>().prop_map(|failed| FromRank::Bye { failed }),
    ]
}

fn door() -> impl Strategy<Value = Door> {
    let who = prop_oneof![
        any::<(u32, u64, u32, u64, u16)>().prop_map(|(rank, life, world, last, port)| Who::Rank {
            member: Member {
                rank: Rank(rank),
                incarnation: Incarnation(life)
            },
            world,
            last_epoch: Epoch(last),
            port,
            advertise: (port > 9).then(|| SocketAddr::from(([0_u16; 8], port))),
        }),
        any::<(u64, u32, u32, u64)>().prop_map(|(view, from, to, bucket)| Who::Peer {
            view: View(view),
            from: Rank(from),
            to: Rank(to),
            bucket
        }),
    ];
    (any::<u64>(), vec(any::<u8>(), 8..=64), who).prop_map(|(run, token, who)| Door {
        run: RunId(run),
        token,
        who,
    })
}

fn contributed() -> impl Strategy<Value = (Contribution, Vec<f64>)> {
    (
        any::<[u64; 6]>(),
        any::<[bool; 2]>(),
        vec(any::<f64>(), 0..40),
    )
        .prop_map(
            |([run, view, seq, epoch, schedule, applied], [active, more], bucket)| {
                let tag = StepTag {
                    run: RunId(run),
                    view: View(view),
                    seq,
                    epoch: Epoch(epoch),
                    schedule,
                    applied,
                };
                (Contribution { tag, active, more }, bucket)
            },
        )
}

/// The first frame of these bytes, as a connection would give it that then ends.
fn receive(bytes: &[u8], most: usize) -> Result<BytesMut, Cut> {
    let mut frames = Frames::new(bytes, most);
    let mut next = pin!(frames.next());
    match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(frame) => frame,
        Poll::Pending => panic!("a slice never waits"),
    }
}

/// No frame comes of it, whatever its bytes were damaged to.
fn refused<T: core::fmt::Debug>(
    bytes: &[u8],
    most: usize,
    read: impl Fn(&[u8]) -> Result<T, Refusal>,
) {
    if let Ok(frame) = receive(bytes, most) {
        let read = read(&frame);
        assert!(read.is_err(), "{read:?}");
    }
}

/// Any one byte changed, the frame cut short anywhere, or two of its bytes changed.
fn damage<T: core::fmt::Debug>(
    frame: &[u8],
    at: prop::sample::Index,
    with: u8,
    most: usize,
    read: impl Fn(&[u8]) -> Result<T, Refusal>,
) {
    let at = at.index(frame.len());
    let mut damaged = frame.to_vec();
    damaged[at] ^= with.max(1);
    refused(&damaged, most, &read);
    // And another, far from it.
    let other = (at + damaged.len() / 2) % damaged.len();
    damaged[other] ^= 0x55;
    refused(&damaged, most, &read);
    refused(&frame[..at], most, &read);
}

fn taken(record: &CommitRecord) {
    for slot in record.schedule.slots() {
        check_slot(slot).unwrap();
    }
    // A machine goes on from it; its own checks are on in a test.
    let mut next = record.clone();
    for _ in 0..3 {
        let ballots = vec![Ballot {
            voter: Rank(0),
            votes: votes_of(&next.schedule, 1),
        }];
        next = next.next(View(1), ballots, &record.commands, 0).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn what_the_coordinator_says(says in coordinator_says(), at: prop::sample::Index, with: u8) {
        let frame = control(&says).unwrap();
        let received = receive(&frame, MOST_CONTROL).unwrap();
        prop_assert_eq!(read_from_coordinator(&received), Ok(says));
        damage(&frame, at, with, MOST_CONTROL, read_from_coordinator);
    }

    #[test]
    fn what_a_rank_says(says in rank_says(), at: prop::sample::Index, with: u8) {
        let frame = control(&says).unwrap();
        let received = receive(&frame, MOST_CONTROL).unwrap();
        prop_assert_eq!(read_from_rank(&received), Ok(says));
        damage(&frame, at, with, MOST_CONTROL, read_from_rank);
    }

    #[test]
    fn what_is_said_at_the_door(door in door(), at: prop::sample::Index, with: u8) {
        let frame = first(&door).unwrap();
        prop_assert!(frame.len() <= MOST_DOOR);
        let received = receive(&frame, MOST_DOOR).unwrap();
        prop_assert_eq!(read_first(&received), Ok(door));
        damage(&frame, at, with, MOST_DOOR, read_first::<Door>);
    }

    #[test]
    fn what_a_peer_gives((given, bucket) in contributed(), at: prop::sample::Index, with: u8) {
        let frame = contribution(&given, &bucket).unwrap();
        let most = most_contribution(bucket.len());
        let received = receive(&frame, most).unwrap();
        let Ok(FromPeer::Gives(read, values)) = read_from_peer(&received, bucket.len()) else {
            panic!("not what was given");
        };
        let bits = |bucket: &[f64]| bucket.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!((read, bits(&values)), (given, bits(&bucket)));
        let other = read_from_peer(&received, bucket.len() + 1);
        prop_assert_eq!(other, Err(Refusal::Malformed), "a bucket of another length");
        damage(&frame, at, with, most, |frame| read_from_peer(frame, bucket.len()));
    }

    /// Without the checksum, as if somebody had made a right one for what he made up.
    #[test]
    fn a_record_that_was_tampered_with_is_one_or_none(
        record in record(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = postcard::to_stdvec(&record).unwrap();
        for (at, with) in changes {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        if let Ok(record) = postcard::from_bytes::<CommitRecord>(&bytes) {
            taken(&record);
        }
    }

    #[test]
    fn what_was_written_down_and_tampered_with_restores_or_is_refused(
        durable in durable(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = postcard::to_stdvec(&durable).unwrap();
        for &(at, with) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        let read = postcard::from_bytes::<Durable>(&bytes);
        if changes.is_empty() {
            prop_assert_eq!(read.as_ref(), Ok(&durable));
        }
        let config = RunConfig { run: RunId(7), world: 3, min_world: 2, last_epoch: Epoch(99) };
        if let Ok(durable) = read
            && fits(&durable, &config).is_ok()
        {
            // Its own checks are on in a test.
            drop(CoordinatorState::restore(config, durable, &mut Vec::new()));
        }
    }

    #[test]
    fn bytes_that_nobody_made_are_refused(bytes in vec(any::<u8>(), 0..600)) {
        refused(&bytes, MOST_DOOR, read_first::<Door>);
        refused(&bytes, MOST_CONTROL, read_from_rank);
        refused(&bytes, MOST_CONTROL, read_from_coordinator);
        refused(&bytes, 256, |frame| read_from_peer(frame, 8));
        if let Ok(record) = postcard::from_bytes::<CommitRecord>(&bytes) {
            taken(&record);
        }
    }
}

#[test]
fn a_refusal_has_a_name() {
    let door = Door {
        run: RunId(1),
        token: vec![7; 16],
        who: Who::Peer {
            view: View(1),
            from: Rank(0),
            to: Rank(1),
            bucket: 4,
        },
    };
    let frame = first(&door).unwrap();
    let body = &frame[4..];
    assert_eq!(read_first(body), Ok(door));
    let mut other = body.to_vec();
    other[4] = 9;
    assert_eq!(read_first::<Door>(&other), Err(Refusal::Version));
    other[0] = b'G';
    assert_eq!(read_first::<Door>(&other), Err(Refusal::NotOurs));
    let mut other = body.to_vec();
    other[9] ^= 1;
    assert_eq!(read_first::<Door>(&other), Err(Refusal::Malformed));
    let oversized = [&1_000_000_u32.to_be_bytes()[..], &[0; 64]].concat();
    let cut = receive(&oversized, MOST_DOOR);
    assert!(matches!(cut, Err(Cut::Refused(Refusal::Oversized))));
    assert!(matches!(receive(&[], MOST_DOOR), Err(Cut::Gone)));
    assert!(matches!(
        receive(&frame[..9], MOST_DOOR),
        Err(Cut::Refused(Refusal::Malformed))
    ));
}

#[test]
fn no_value_is_made_that_is_out_of_range() {
    fn refuses<T: DeserializeOwned + core::fmt::Debug>(bytes: &[u8]) {
        let read = postcard::from_bytes::<T>(bytes);
        assert!(read.is_err(), "{read:?}");
    }
    let bytes = |value: &dyn Fn() -> Vec<u8>| value();
    refuses::<AlphaLevel>(&bytes(&|| postcard::to_stdvec(&1_000_000_001_u32).unwrap()));
    refuses::<Steepness>(&bytes(&|| postcard::to_stdvec(&99_u32).unwrap()));
    // Start, target, curve, ticks in all, ticks done.
    let ramp = (0_u32, 9_u32, AlphaCurve::Linear, 4_u32, 5_u32);
    refuses::<crate::ddp::alpha::AlphaController>(&postcard::to_stdvec(&ramp).unwrap());
    let slot = |id| SeedSlot::new(SlotId(id), SlotRules::default());
    let ordered = postcard::to_stdvec(&[slot(1), slot(2)].to_vec()).unwrap();
    assert!(postcard::from_bytes::<Schedule>(&ordered).is_ok());
    refuses::<Schedule>(&postcard::to_stdvec(&[slot(2), slot(1)].to_vec()).unwrap());
    refuses::<Schedule>(&postcard::to_stdvec(&[slot(1), slot(1)].to_vec()).unwrap());
}
