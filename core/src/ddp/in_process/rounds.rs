//! [`RoundState`]: who is in which view, and what the rounds there have come to. No lock, no
//! clock, no float: buckets and their sums are the shell's.
//!
//! Every contribution names its round, and every wait asks for its own. So a rank that is
//! slow to pick up round `k` finds it, whatever a fast one does with round `k + 1`.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::ddp::collective::{Contribution, Reduced};
use crate::ddp::ids::{Rank, View};

/// Why a round came to nothing, or why a call was refused. All who wait in the view get the
/// same one.
#[derive(Clone, Debug, Error, PartialEq, Eq, Hash)]
pub enum RoundError {
    /// The list of members is empty or names a rank twice, or misses the caller.
    #[error(
        "{view} was entered by {rank} with the members {}; each must be named once, the caller among them",
        names(members)
    )]
    BadMembers {
        /// The view.
        view: View,
        /// Who entered.
        rank: Rank,
        /// The list as given.
        members: Vec<Rank>,
    },
    /// Another member entered the view with another list.
    #[error(
        "{view} has the members {}, but {rank} entered it with {}",
        names(members),
        names(given)
    )]
    MembersDiffer {
        /// The view.
        view: View,
        /// Who entered with another list.
        rank: Rank,
        /// The members by the first who entered.
        members: Vec<Rank>,
        /// The members by `rank`.
        given: Vec<Rank>,
    },
    /// The caller is in this view already, in a newer one, or has left it: views only grow.
    #[error("{rank} cannot enter {view}: it has been in {newest} already; enter a newer one")]
    OldView {
        /// The view.
        view: View,
        /// Who entered.
        rank: Rank,
        /// The newest view it has been in.
        newest: View,
    },
    /// The contribution is to a view that the caller is not in.
    #[error("{rank} is not in {view}; enter it first")]
    NotEntered {
        /// The view.
        view: View,
        /// Who contributed.
        rank: Rank,
    },
    /// The contribution is to another round than the caller's next.
    #[error("{rank} contributed to round {given} of {view}; its next is round {expected}")]
    OutOfTurn {
        /// The view.
        view: View,
        /// Who contributed.
        rank: Rank,
        /// The round that it named.
        given: u64,
        /// The round that is next.
        expected: u64,
    },
    /// The caller has contributed to the present round already and must ask for its result.
    #[error("{rank} has not had the result of round {seq} of {view} yet; one round at a time")]
    StillWaiting {
        /// The view.
        view: View,
        /// Who contributed twice.
        rank: Rank,
        /// The round.
        seq: u64,
    },
    /// Two buckets of one round are not equally long.
    #[error("in round {seq} of {view}, {rank} gave {length} values and {first} gave {expected}")]
    LengthsDiffer {
        /// The view.
        view: View,
        /// The round.
        seq: u64,
        /// The lowest rank.
        first: Rank,
        /// How many values the lowest rank gave.
        expected: usize,
        /// The lowest rank that gave another number of values.
        rank: Rank,
        /// How many it gave.
        length: usize,
    },
    /// A member left the view, or entered a newer one without it, so that no further round of it can be complete.
    #[error("{rank} has left {view}")]
    Left {
        /// The view.
        view: View,
        /// Who left first.
        rank: Rank,
    },
    /// A member's handle was dropped: its thread has ended or panicked.
    #[error("{rank} of {view} is gone: its handle was dropped")]
    Gone {
        /// The view.
        view: View,
        /// Who is gone.
        rank: Rank,
    },
    /// Some did not contribute in time.
    #[error(
        "round {seq} of {view} was not complete in time; missing: {}",
        names(missing)
    )]
    Deadline {
        /// The view.
        view: View,
        /// The round.
        seq: u64,
        /// Who had not contributed.
        missing: Vec<Rank>,
    },
    /// The rank has a handle already: one life of a rank at a time.
    #[error("{rank} has a handle already; drop that one first")]
    Taken {
        /// The rank.
        rank: Rank,
    },
}

fn names(ranks: &[Rank]) -> String {
    let names: Vec<String> = ranks.iter().map(ToString::to_string).collect();
    match names.is_empty() {
        true => "nobody".to_owned(),
        false => names.join(", "),
    }
}

/// One life of a rank in a group: what its handle shows when it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seat {
    /// The rank.
    pub rank: Rank,
    life: u64,
}

/// The rounds of all views of a group of ranks.
///
/// **After a call that returned or may have caused a failure, wake everybody; whoever waits
/// then asks [`result`](Self::result) for his own round.**
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RoundState {
    /// Every rank that ever had a handle.
    ranks: BTreeMap<Rank, Life>,
    /// Those views that somebody is in.
    views: BTreeMap<View, Rounds>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Life {
    number: u64,
    present: bool,
    inside: Option<View>,
    /// The newest view that it left.
    left: Option<View>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Rounds {
    /// In order.
    members: Vec<Rank>,
    /// The round that is gathered now.
    seq: u64,
    given: BTreeMap<Rank, (Contribution, usize)>,
    /// The last complete round. An older one is not needed: each member asked for its result
    /// before it contributed to this one.
    done: Option<(u64, Reduced)>,
    failed: Option<RoundError>,
}

impl RoundState {
    /// Begins a life of `rank`.
    ///
    /// # Errors
    /// [`RoundError::Taken`] while another lives.
    pub fn sit(&mut self, rank: Rank) -> Result<Seat, RoundError> {
        let life = self.ranks.entry(rank).or_insert(Life {
            number: 0,
            present: false,
            inside: None,
            left: None,
        });
        if life.present {
            return Err(RoundError::Taken { rank });
        }
        (life.present, life.number) = (true, life.number + 1);
        let life = life.number;
        Ok(Seat { rank, life })
    }

    /// Ends a life: no round of a view that it is a member of will be complete any more.
    pub fn stand_up(&mut self, seat: Seat) {
        let Some(life) = self.life(seat) else { return };
        life.left = life.left.max(life.inside.take());
        life.present = false;
        let rank = seat.rank;
        for (&view, rounds) in &mut self.views {
            if rounds.members.contains(&rank) {
                rounds.fail(RoundError::Gone { view, rank });
            }
        }
        self.forget_empty_views();
    }

    /// Enters a view, whose rounds begin at 0, and leaves any older one. That somebody else is
    /// gone already is no error here: the view's first round fails.
    ///
    /// # Errors
    /// `BadMembers`, `OldView`, `MembersDiffer`, `NotEntered` of a life that has ended; nothing
    /// has changed then.
    pub fn enter(&mut self, seat: Seat, view: View, members: &[Rank]) -> Result<(), RoundError> {
        let rank = seat.rank;
        let Some(&mut life) = self.life(seat) else {
            return Err(RoundError::NotEntered { view, rank });
        };
        let sorted: BTreeSet<Rank> = members.iter().copied().collect();
        if sorted.len() != members.len() || !sorted.contains(&rank) {
            let members = members.to_vec();
            return Err(RoundError::BadMembers {
                view,
                rank,
                members,
            });
        }
        if let Some(newest) = life.inside.max(life.left)
            && view <= newest
        {
            return Err(RoundError::OldView { view, rank, newest });
        }
        let sorted: Vec<Rank> = sorted.into_iter().collect();
        if let Some(rounds) = self.views.get(&view)
            && rounds.members != sorted
        {
            return Err(RoundError::MembersDiffer {
                view,
                rank,
                members: rounds.members.clone(),
                given: sorted,
            });
        }
        if let Some(life) = self.life(seat) {
            (life.inside, life.left) = (Some(view), life.left.max(life.inside));
        }
        self.pass_by(rank, |older| older < view);
        let lost = self.lost(view, &sorted);
        let rounds = self.views.entry(view).or_insert(Rounds {
            members: sorted,
            seq: 0,
            given: BTreeMap::new(),
            done: None,
            failed: None,
        });
        if let Some(lost) = lost {
            rounds.fail(lost);
        }
        self.forget_empty_views();
        Ok(())
    }

    /// Leaves a view. Its rounds that are not complete fail for everybody; who leaves gets
    /// nothing of it any more, not even what is complete.
    pub fn leave(&mut self, seat: Seat, view: View) {
        let Some(life) = self.life(seat) else { return };
        if life.inside != Some(view) {
            return;
        }
        (life.inside, life.left) = (None, life.left.max(Some(view)));
        self.pass_by(seat.rank, |other| other <= view);
        self.forget_empty_views();
    }

    /// Takes a contribution of `length` values, and says whether it has completed the round.
    ///
    /// # Errors
    /// What the view has failed with; `Left`, `NotEntered`, `StillWaiting`, `OutOfTurn`, `LengthsDiffer`.
    /// The last of them fails the round for everybody.
    pub fn contribute(
        &mut self,
        seat: Seat,
        contribution: &Contribution,
        length: usize,
    ) -> Result<bool, RoundError> {
        let (view, given) = (contribution.tag.view, contribution.tag.seq);
        let rank = seat.rank;
        let rounds = self.inside(seat, view)?;
        if let Some(failed) = &rounds.failed {
            return Err(failed.clone());
        }
        let expected = rounds.seq;
        if rounds.given.contains_key(&rank) {
            let seq = expected;
            return Err(RoundError::StillWaiting { view, rank, seq });
        }
        if given != expected {
            return Err(RoundError::OutOfTurn {
                view,
                rank,
                given,
                expected,
            });
        }
        rounds.given.insert(rank, (*contribution, length));
        if rounds.given.len() < rounds.members.len() {
            return Ok(false);
        }
        rounds.complete(view)
    }

    /// What the round came to for the caller; `None` while it must wait.
    ///
    /// # Errors
    /// What the view has failed with; `Left` or `NotEntered` if the caller is not in it.
    pub fn result(
        &mut self,
        seat: Seat,
        view: View,
        seq: u64,
    ) -> Result<Option<Reduced>, RoundError> {
        let rounds = self.inside(seat, view)?;
        match (&rounds.done, &rounds.failed) {
            (Some((done, reduced)), _) if *done == seq => Ok(Some(*reduced)),
            (_, Some(failed)) => Err(failed.clone()),
            _ => Ok(None),
        }
    }

    /// The caller's hard deadline for the round has passed. Where the round is complete or has
    /// failed, it changes nothing.
    pub fn expire(&mut self, seat: Seat, view: View, seq: u64) {
        let missing = self.missing(view);
        if let Ok(rounds) = self.inside(seat, view)
            && rounds.seq == seq
            && rounds.given.contains_key(&seat.rank)
        {
            rounds.fail(RoundError::Deadline { view, seq, missing });
        }
    }

    /// Whom the present round of the view waits for, in order; nobody if none has contributed,
    /// or if it has failed.
    #[must_use]
    pub fn missing(&self, view: View) -> Vec<Rank> {
        let Some(rounds) = self.views.get(&view) else {
            return Vec::new();
        };
        if rounds.given.is_empty() || rounds.failed.is_some() {
            return Vec::new();
        }
        let missing = |rank: &&Rank| !rounds.given.contains_key(rank);
        rounds.members.iter().filter(missing).copied().collect()
    }

    /// Whether a bucket for the view's present round may still be needed.
    #[must_use]
    pub fn is_gathering(&self, view: View) -> bool {
        let rounds = self.views.get(&view);
        rounds.is_some_and(|rounds| rounds.failed.is_none() && !rounds.given.is_empty())
    }

    /// Whether anybody is in the view.
    #[must_use]
    pub fn is_open(&self, view: View) -> bool {
        self.views.contains_key(&view)
    }

    fn life(&mut self, seat: Seat) -> Option<&mut Life> {
        let life = self.ranks.get_mut(&seat.rank)?;
        (life.present && life.number == seat.life).then_some(life)
    }

    fn inside(&mut self, seat: Seat, view: View) -> Result<&mut Rounds, RoundError> {
        let rank = seat.rank;
        let life = self.life(seat).map(|life| *life);
        if life.is_some_and(|life| life.left >= Some(view)) {
            return Err(RoundError::Left { view, rank });
        }
        let inside = life.is_some_and(|life| life.inside == Some(view));
        let rounds = self.views.get_mut(&view).filter(|_| inside);
        rounds.ok_or(RoundError::NotEntered { view, rank })
    }

    /// Fails those views that the rank will not be in any more: also one that it never entered,
    /// but is past.
    fn pass_by(&mut self, rank: Rank, is_past: impl Fn(View) -> bool) {
        for (&view, rounds) in &mut self.views {
            if is_past(view) && rounds.members.contains(&rank) {
                rounds.fail(RoundError::Left { view, rank });
            }
        }
    }

    /// The first member that will never contribute to the view.
    fn lost(&self, view: View, members: &[Rank]) -> Option<RoundError> {
        members.iter().find_map(|&rank| {
            let life = self.ranks.get(&rank)?;
            if life.left >= Some(view) || life.inside > Some(view) {
                return Some(RoundError::Left { view, rank });
            }
            (!life.present).then_some(RoundError::Gone { view, rank })
        })
    }

    fn forget_empty_views(&mut self) {
        let inside: BTreeSet<View> = self.ranks.values().filter_map(|life| life.inside).collect();
        self.views.retain(|view, _| inside.contains(view));
    }
}

impl Rounds {
    fn complete(&mut self, view: View) -> Result<bool, RoundError> {
        let given = core::mem::take(&mut self.given);
        let mut lengths = given.iter().map(|(&rank, &(_, length))| (rank, length));
        if let Some((first, expected)) = lengths.next()
            && let Some((rank, length)) = lengths.find(|&(_, length)| length != expected)
        {
            let error = RoundError::LengthsDiffer {
                view,
                seq: self.seq,
                first,
                expected,
                rank,
                length,
            };
            self.fail(error.clone());
            return Err(error);
        }
        let reduced = Reduced::of(given.values().map(|(contribution, _)| contribution));
        let reduced = reduced.expect("INVARIANT: a view has members, and all have contributed");
        self.done = Some((self.seq, reduced));
        self.seq += 1;
        Ok(true)
    }

    /// Ends all rounds but the complete one. The first reason stays.
    fn fail(&mut self, error: RoundError) {
        self.given.clear();
        self.failed.get_or_insert(error);
    }
}
