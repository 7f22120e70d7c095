//! The mesh as it is fed, without a connection: whatever the order in which contributions come,
//! the sums are those that [`Reduced::of`] and addition by rank give.

use std::io;

use proptest::prelude::*;
use tokio::io::DuplexStream;
use tokio::runtime::Builder;

use super::*;
use crate::ddp::ids::{Epoch, RunId};
use crate::ddp::tag::StepTag;

/// Where nobody is ever reached.
#[derive(Clone)]
struct Nowhere;

impl Network for Nowhere {
    type Stream = DuplexStream;
    type Listener = ();

    async fn connect(&self, _: SocketAddr) -> io::Result<DuplexStream> {
        core::future::pending().await
    }

    async fn bind(&self, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    async fn accept(&self, (): &()) -> io::Result<(DuplexStream, SocketAddr)> {
        core::future::pending().await
    }

    fn local_addr(&self, (): &()) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
    }
}

const BUCKET: usize = 3;

fn mesh(me: u32) -> Mesh<Nowhere> {
    let (inbox, _) = mpsc::channel(1);
    let who = Who::Peer {
        view: View(1),
        from: Rank(me),
        to: Rank(me),
        bucket: BUCKET as u64,
    };
    let door = Door {
        run: RunId(1),
        token: vec![7; 8],
        who,
    };
    Mesh::new(Nowhere, Rank(me), door, BUCKET, Timing::default(), inbox)
}

fn members(n: u32) -> Vec<Rank> {
    (0..n).map(Rank).collect()
}

fn somewhere(_: Rank) -> Option<SocketAddr> {
    Some(SocketAddr::from(([127, 0, 0, 1], 1)))
}

/// What `rank` gives to a step: values whose sum depends on the order.
fn gift(view: u64, rank: u32, seq: u64) -> Gift {
    let given = Contribution {
        tag: StepTag {
            run: RunId(1),
            view: View(view),
            seq,
            epoch: Epoch(1),
            // One in a while differs.
            schedule: u64::from(rank == 2 && seq == 3),
            applied: seq,
        },
        active: !(u64::from(rank) + seq).is_multiple_of(3),
        more: seq < 2,
    };
    let value = |at: usize| {
        let big = [1e16, 1.0, -1e16, 0.1, 3.0][(rank as usize + at) % 5];
        big + seq as f64
    };
    (given, (0..BUCKET).map(value).collect())
}

fn expected(view: u64, n: u32, seq: u64) -> (Reduced, Vec<u64>) {
    let gifts: Vec<Gift> = (0..n).map(|rank| gift(view, rank, seq)).collect();
    let reduced = Reduced::of(gifts.iter().map(|(given, _)| given)).unwrap();
    let mut sum = gifts[0].1.clone();
    for (_, bucket) in &gifts[1..] {
        sum.iter_mut().zip(bucket).for_each(|(sum, v)| *sum += v);
    }
    (reduced, sum.into_iter().map(f64::to_bits).collect())
}

fn inside<R>(test: impl FnOnce() -> R) -> R {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { test() })
}

#[test]
fn the_order_of_addition_can_be_seen() {
    let forth = (0..4).fold(0.0, |sum, rank| sum + gift(1, rank, 0).1[0]);
    let back = (0..4)
        .rev()
        .fold(0.0, |sum, rank| sum + gift(1, rank, 0).1[0]);
    assert_ne!(forth, back, "or the property below would hold of any");
}

proptest! {
    #[test]
    fn sums_are_by_rank_whatever_the_order_of_arrival(
        n in 2_u32..6,
        me in 0_u32..6,
        early in any::<bool>(),
        turns in proptest::collection::vec(0_u32..6, 0..120),
    ) {
        const STEPS: u64 = 6;
        let me = me % n;
        inside(|| {
            let mut mesh = mesh(me);
            if !early {
                mesh.enter(View(1), members(n), somewhere);
            }
            // By rank: what it gave so far.
            let mut gave = vec![0_u64; n as usize];
            let mut done = 0_u64;
            // Drawn turns first; then each in turn, until all is done.
            let turns = turns.into_iter().chain((0..n).cycle());
            for (at, rank) in turns.enumerate() {
                let rank = rank % n;
                if early && at == 5 {
                    mesh.enter(View(1), members(n), somewhere);
                }
                let entered = !early || at >= 5;
                let seq = gave[rank as usize];
                // Nobody is ahead of whoever is last by more than the contract lets him.
                let behind = gave.iter().copied().min().unwrap();
                if seq > behind || seq == STEPS || (rank == me && (!entered || seq > done)) {
                    if done == STEPS {
                        break;
                    }
                    continue;
                }
                gave[rank as usize] += 1;
                let (given, bucket) = gift(1, rank, seq);
                let outcome = match rank == me {
                    true => mesh.contribute(given, bucket),
                    false => mesh.take(Rank(rank), given, bucket).expect("INVARIANT: it may"),
                };
                let complete = gave.iter().all(|&gave| gave > done);
                match outcome {
                    Some(Outcome::Done { view, seq, reduced, sum }) => {
                        assert!(complete, "{gave:?}");
                        assert_eq!((view, seq), (View(1), done));
                        let bits = sum.into_iter().map(f64::to_bits).collect();
                        assert_eq!((reduced, bits), expected(1, n, seq));
                        done += 1;
                    }
                    Some(failed) => panic!("{failed:?}"),
                    None => assert!(!complete, "{gave:?} at {done}"),
                }
            }
            assert_eq!(done, STEPS);
        });
    }
}

/// A mesh of three whose own contribution to the first step is made.
fn waiting() -> Mesh<Nowhere> {
    let mut mesh = mesh(0);
    mesh.enter(View(1), members(3), somewhere);
    let (given, bucket) = gift(1, 0, 0);
    assert!(mesh.contribute(given, bucket).is_none());
    mesh
}

fn give(mesh: &mut Mesh<Nowhere>, view: u64, rank: u32, seq: u64) -> Result<Option<Outcome>, ()> {
    let (given, bucket) = gift(view, rank, seq);
    mesh.take(Rank(rank), given, bucket)
}

#[test]
fn a_loss_fails_what_is_incomplete_and_nothing_else() {
    inside(|| {
        let mut mesh = waiting();
        assert_eq!(mesh.missing(), [Rank(1), Rank(2)]);
        // Its contribution is here: that it is gone now fails the step only for want of another.
        assert!(give(&mut mesh, 1, 1, 0).unwrap().is_none());
        assert!(matches!(
            mesh.lose(View(1), Rank(1), None),
            Some(Outcome::Failed { seq: 0, .. })
        ));
        let mut mesh = waiting();
        assert!(give(&mut mesh, 1, 1, 0).unwrap().is_none());
        assert!(matches!(
            give(&mut mesh, 1, 2, 0),
            Ok(Some(Outcome::Done { seq: 0, .. }))
        ));
        assert!(mesh.lose(View(1), Rank(2), None).is_none(), "it is over");
        let (given, bucket) = gift(1, 0, 1);
        let next = mesh.contribute(given, bucket);
        assert!(matches!(next, Some(Outcome::Failed { seq: 1, .. })));
    });
}

#[test]
fn of_several_connections_only_the_newest_can_lose_a_member() {
    inside(|| {
        let mut mesh = waiting();
        mesh.heard_from(View(1), Rank(1), 4);
        mesh.heard_from(View(1), Rank(1), 9);
        assert!(
            mesh.lose(View(1), Rank(1), Some(4)).is_none(),
            "a stale one"
        );
        mesh.heard_from(View(1), Rank(1), 7);
        assert!(mesh.lose(View(1), Rank(1), Some(7)).is_none());
        let lost = mesh.lose(View(1), Rank(1), Some(9));
        assert!(matches!(lost, Some(Outcome::Failed { .. })));
        // One that is newer takes the place of one that was lost.
        mesh.heard_from(View(1), Rank(1), 12);
        let (given, bucket) = gift(1, 0, 0);
        assert!(mesh.contribute(given, bucket).is_none());
    });
}

#[test]
fn nothing_comes_of_a_view_that_was_left_and_what_is_early_waits() {
    inside(|| {
        let mut mesh = waiting();
        assert!(give(&mut mesh, 1, 1, 0).unwrap().is_none());
        assert!(give(&mut mesh, 2, 1, 0).unwrap().is_none(), "early");
        mesh.leave(View(1));
        assert!(give(&mut mesh, 1, 2, 0).unwrap().is_none());
        assert!(mesh.lose(View(1), Rank(1), None).is_none());
        let (given, bucket) = gift(1, 0, 0);
        assert!(mesh.contribute(given, bucket).is_none());
        mesh.enter(View(2), members(2), somewhere);
        let (given, bucket) = gift(2, 0, 0);
        assert!(matches!(
            mesh.contribute(given, bucket),
            Some(Outcome::Done { view: View(2), .. })
        ));
    });
}

#[test]
fn whoever_is_too_far_ahead_or_goes_back_is_refused() {
    inside(|| {
        let mut mesh = waiting();
        assert!(give(&mut mesh, 1, 1, 0).is_ok());
        assert!(give(&mut mesh, 1, 1, 0).is_err(), "twice");
        assert!(give(&mut mesh, 1, 1, 1).is_ok());
        assert!(give(&mut mesh, 1, 1, 2).is_err(), "it has no result of 0");
    });
}
