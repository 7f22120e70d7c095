//! The contract of a collective over whatever ranks may do: enter, contribute, give up, leave,
//! go and come back, in any order and with any view.
#![allow(clippy::disallowed_types, reason = "proptest's macros name std's Arc")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use selvedge_core::ddp::{Contribution, Epoch, Rank, RoundState, RunId, Seat, StepTag, View};

const RANKS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Act {
    Sit,
    StandUp,
    /// A view of all, or of all but the last.
    Enter(u64),
    Leave,
    Contribute,
    Expire,
}

fn act() -> impl Strategy<Value = (usize, Act)> {
    let act = prop_oneof![
        2 => Just(Act::Sit),
        1 => Just(Act::StandUp),
        4 => (1..5_u64).prop_map(Act::Enter),
        1 => Just(Act::Leave),
        12 => Just(Act::Contribute),
        1 => Just(Act::Expire),
    ];
    (0..RANKS, act)
}

fn members(view: u64) -> Vec<Rank> {
    let count = if view % 2 == 1 { 3 } else { 2 };
    (0..count).map(Rank).collect()
}

/// A rank as its driver would keep it.
#[derive(Clone, Copy, Debug, Default)]
struct Driver {
    seat: Option<Seat>,
    inside: Option<View>,
    seq: u64,
    waits: bool,
    /// The newest view that it has left in any life.
    left: u64,
}

impl Driver {
    fn leave(&mut self) {
        self.left = self.left.max(self.inside.map_or(0, |view| view.0));
        (self.inside, self.seq, self.waits) = (None, 0, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 1_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_round_is_of_all_the_same_for_all_and_nobody_waits_for_who_cannot_come(
        acts in prop::collection::vec(act(), 1..120),
    ) {
        let mut state = RoundState::default();
        let mut drivers = [Driver::default(); RANKS];
        let mut gone = BTreeSet::new();
        let mut given: BTreeMap<(View, u64), BTreeSet<usize>> = BTreeMap::new();
        let mut results = BTreeMap::new();
        for (rank, act) in acts {
            let driver = &mut drivers[rank];
            match (act, driver.seat) {
                (Act::Sit, seat) => {
                    let sat = state.sit(Rank(rank as u32));
                    prop_assert_eq!(sat.is_ok(), seat.is_none());
                    driver.seat = seat.or(sat.ok());
                    gone.remove(&rank);
                }
                (_, None) => {}
                (Act::StandUp, Some(seat)) => {
                    state.stand_up(seat);
                    driver.leave();
                    driver.seat = None;
                    gone.insert(rank);
                }
                (Act::Enter(view), Some(seat)) => {
                    let entered = state.enter(seat, View(view), &members(view));
                    let newest = driver.inside.map_or(0, |view| view.0).max(driver.left);
                    let may = view > newest && members(view).contains(&Rank(rank as u32));
                    prop_assert_eq!(entered.is_ok(), may, "{:?}", entered);
                    if may {
                        driver.leave();
                        driver.inside = Some(View(view));
                    }
                }
                (Act::Leave, Some(seat)) => {
                    if let Some(view) = driver.inside {
                        state.leave(seat, view);
                        driver.leave();
                        prop_assert!(state.result(seat, view, 0).is_err());
                    }
                }
                (Act::Contribute, Some(seat)) => {
                    if let Some(view) = driver.inside && !driver.waits {
                        let seq = driver.seq;
                        let tag = StepTag {
                            run: RunId(1), view, seq, epoch: Epoch(1), schedule: 0, applied: 0,
                        };
                        let active = (rank as u64 + seq).is_multiple_of(2);
                        let more = seq.is_multiple_of(3) && rank == 0;
                        let contribution = Contribution { tag, active, more };
                        if state.contribute(seat, &contribution, 1).is_ok() {
                            driver.waits = true;
                            given.entry((view, seq)).or_default().insert(rank);
                        }
                    }
                }
                (Act::Expire, Some(seat)) => {
                    if let Some(view) = driver.inside && driver.waits {
                        state.expire(seat, view, driver.seq);
                        prop_assert!(!matches!(state.result(seat, view, driver.seq), Ok(None)));
                    }
                }
            }
            // Only the one that acted asks, so the others are slow to pick up.
            let driver = &mut drivers[rank];
            if let (Some(seat), Some(view), true) = (driver.seat, driver.inside, driver.waits) {
                match state.result(seat, view, driver.seq) {
                    Ok(Some(reduced)) => {
                        let round = (view, driver.seq);
                        prop_assert_eq!(given[&round].len(), members(view.0).len());
                        prop_assert_eq!(*results.entry(round).or_insert(reduced), reduced);
                        (driver.waits, driver.seq) = (false, driver.seq + 1);
                    }
                    Err(_) => driver.leave_failed(&mut state),
                    Ok(None) => {
                        let missing = state.missing(view);
                        prop_assert!(!missing.is_empty());
                        for other in missing {
                            let id = other.0 as usize;
                            prop_assert!(!gone.contains(&id), "{} is gone", other);
                            let newest = drivers[id].inside.map_or(0, |view| view.0);
                            let past = drivers[id].left >= view.0 || newest > view.0;
                            prop_assert!(!past, "{} is past it", other);
                        }
                    }
                }
            }
        }
    }
}

impl Driver {
    /// A driver leaves a view that has failed.
    fn leave_failed(&mut self, state: &mut RoundState) {
        if let (Some(seat), Some(view)) = (self.seat, self.inside) {
            state.leave(seat, view);
        }
        self.leave();
    }
}
