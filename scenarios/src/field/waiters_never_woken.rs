//! torchft, manager: every local rank asks for the quorum and waits for the answer on a channel.
//! The last one to come starts the call that gets it. Where that call failed, its error was
//! thrown away and nothing was sent: all of them waited on (a comment beside the code said so).
//!
//! Three ranks, two rounds. In the second one, the third rank's part is what fails: its handle
//! is dropped, or it leaves, or it gives what does not fit. The others must hear of it.
//!
//! What ships ends the view by whatever makes a round impossible, and wakes all who wait, who
//! all get the same reason.

use selvedge_core::ddp::{Collective, InProcess, Rank, RoundError};
use selvedge_core::platform::{Condvar, JoinHandle, Mutex, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::ranks::collective::{FOREVER, VIEW, given, reduce, seats};
use crate::registry::{Expect, Scenario, explorer, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "waiters-never-woken",
    ticket: "torchft manager, quorum",
    summary: "the call that all wait for fails, and nobody is told",
    source: concat!(
        include_str!("waiters_never_woken.rs"),
        include_str!("ranks/collective.rs")
    ),
    twin: bodies!(one_fails, ErrorIsDropped),
    shipped: bodies!(one_fails, Shipped),
    signature: "deadlock",
    must_reach: &["told-gone", "told-left", "told-lengths"],
    // Not on real threads, which would hang.
    engines: &[
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// One rank's side of a round for all.
trait Seat<P: Platform>: Send + Sized + 'static {
    fn seats(ranks: u32) -> Vec<Self>;
    fn meet(&mut self, round: u64) -> Result<(), RoundError>;
    /// What this rank does to the round makes it impossible.
    fn fail(self, round: u64, how: How) -> Option<Self>;
}

#[derive(Clone, Copy, Debug)]
enum How {
    Drops,
    Leaves,
    GivesMore,
}

fn one_fails<P: Platform, T: Seat<P>>(cx: &Cx) -> Observation {
    let how = [How::Drops, How::Leaves, How::GivesMore][cx.choose(3) as usize];
    // Loom does not come to the end of three that wait for each other.
    let ranks = if P::NAME == "loom" { 2 } else { 3 };
    let mut seats = T::seats(ranks);
    let Some(mut failing) = seats.pop() else {
        violation!("bad-configuration", "there are ranks");
    };
    let others: Vec<_> = seats
        .into_iter()
        .map(|mut seat| {
            // The seat comes back as well: to be gone is a step, and for another time.
            P::spawn(move || {
                if let Err(other) = seat.meet(0) {
                    violation!("wrong-error", "{other}, and nobody had failed");
                }
                (seat.meet(1), seat)
            })
        })
        .collect();
    if let Err(other) = failing.meet(0) {
        violation!("wrong-error", "{other}");
    }
    let failed = failing.fail(1, how);
    let mut seats = Vec::new();
    for other in others {
        let (last, seat) = other.join();
        seats.push(seat);
        let culprit = Rank(ranks - 1);
        match (how, last) {
            (How::Drops, Err(RoundError::Gone { rank, .. })) if rank == culprit => {
                reach("told-gone");
            }
            (How::Leaves, Err(RoundError::Left { rank, .. })) if rank == culprit => {
                reach("told-left");
            }
            (How::GivesMore, Err(RoundError::LengthsDiffer { rank, .. })) if rank == culprit => {
                reach("told-lengths");
            }
            (how, Err(other)) => violation!("wrong-error", "{other}; of one that {how:?}"),
            (_, Ok(())) => violation!("success-without-all", "of a round that one has failed"),
        }
    }
    drop((failed, seats));
    Observation::of(format!("{how:?}"))
}

/// The code that ships.
struct Shipped<P: Platform>(InProcess<f64, P>);

impl<P: Platform> Seat<P> for Shipped<P> {
    fn seats(ranks: u32) -> Vec<Self> {
        seats(ranks, FOREVER).into_iter().map(Shipped).collect()
    }

    fn meet(&mut self, round: u64) -> Result<(), RoundError> {
        reduce(&mut self.0, &given(round), 1.0).map(drop)
    }

    fn fail(mut self, round: u64, how: How) -> Option<Self> {
        match how {
            How::Drops => return None,
            How::Leaves => self.0.leave(VIEW),
            How::GivesMore => match self.0.all_reduce(&given(round), &mut [1.0, 1.0]) {
                Err(RoundError::LengthsDiffer { .. }) => {}
                other => violation!("wrong-error", "{other:?}"),
            },
        }
        Some(self)
    }
}

/// As reported.
struct ErrorIsDropped<P: Platform>(P::Arc<Manager<P>>);

struct Manager<P: Platform> {
    ranks: u32,
    state: P::Mutex<State>,
    answered: P::Condvar,
}

struct State {
    joined: u32,
    /// How many quorums there were.
    answers: u64,
    /// Whether the service that is asked is well.
    is_well: bool,
}

impl<P: Platform> Manager<P> {
    fn quorum(&self, round: u64) {
        let mut state = self.state.lock();
        state.joined += 1;
        if state.joined == self.ranks {
            state.joined = 0;
            // An error goes no further than this.
            let _ = self.ask(&mut state);
        }
        while state.answers <= round {
            state = self.answered.wait(state);
        }
    }

    fn ask(&self, state: &mut State) -> Result<(), ()> {
        if !state.is_well {
            return Err(());
        }
        state.answers += 1;
        self.answered.notify_all();
        Ok(())
    }
}

impl<P: Platform> Seat<P> for ErrorIsDropped<P> {
    fn seats(ranks: u32) -> Vec<Self> {
        let manager = P::Arc::new(Manager::<P> {
            ranks,
            state: P::Mutex::new(State {
                joined: 0,
                answers: 0,
                is_well: true,
            }),
            answered: P::Condvar::new(),
        });
        (0..ranks)
            .map(|_| ErrorIsDropped(manager.clone()))
            .collect()
    }

    fn meet(&mut self, round: u64) -> Result<(), RoundError> {
        self.0.quorum(round);
        Ok(())
    }

    fn fail(self, round: u64, _: How) -> Option<Self> {
        self.0.state.lock().is_well = false;
        self.0.quorum(round);
        None
    }
}
