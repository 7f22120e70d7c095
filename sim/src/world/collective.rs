//! The simulated collective: the contract of [`Collective`](selvedge_core::ddp::Collective) in
//! virtual time, kept to the letter and no further. It does not implement that trait, whose
//! `all_reduce` blocks its caller, which nothing does here.
//!
//! Where all members of a view have contributed, each is to get the result, in its own time. A
//! member that dies before all have it, or a path that is cut, leaves some without: they are
//! told that the step has failed, or time out. That is the contract's "not uniform".

use std::collections::BTreeMap;
use std::sync::Arc;

use selvedge_core::ddp::{Contribution, Rank, Reduced, View};
use selvedge_core::time::Instant;

use super::random::{hash, mix};

/// What a rank gave, with what no machine sees.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) contribution: Contribution,
    /// Ghost: the parameters that the gradient is of.
    pub(super) parameters: u64,
    /// The members, as this rank was told.
    pub(super) members: Arc<[Rank]>,
    life: u64,
    at: Instant,
    served: Served,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// Not all have contributed.
    Waits,
    /// The result is on its way.
    Coming,
    /// It was, but the path is cut.
    Stuck,
    /// It has it, or never will.
    Over,
}

/// What a completed collective came to.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) reduced: Reduced,
    /// Ghost: the same for the same contributions.
    pub(super) digest: u64,
}

#[derive(Clone, Debug)]
struct Round {
    given: BTreeMap<Rank, Given>,
    outcome: Option<Outcome>,
}

/// Who is to get a result, and in which life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receiver {
    pub(super) rank: Rank,
    pub(super) life: u64,
    pub(super) view: View,
    pub(super) seq: u64,
}

/// The collectives of all views, by what contributions meet by.
#[derive(Debug, Default)]
pub(super) struct Collectives {
    rounds: BTreeMap<(View, u64), Round>,
}

impl Collectives {
    /// Takes a contribution. If it was the last of its members, who is to get the result.
    pub(super) fn contribute(
        &mut self,
        rank: Rank,
        life: u64,
        contribution: Contribution,
        parameters: u64,
        members: &Arc<[Rank]>,
        now: Instant,
    ) -> Vec<Receiver> {
        let tag = contribution.tag;
        let key = (tag.view, tag.seq);
        let round = self.rounds.entry(key).or_insert_with(|| Round {
            given: BTreeMap::new(),
            outcome: None,
        });
        let given = Given {
            contribution,
            parameters,
            members: members.clone(),
            life,
            at: now,
            served: Served::Waits,
        };
        round.given.insert(rank, given);
        let given = &round.given;
        let complete =
            given.len() >= members.len() && members.iter().all(|member| given.contains_key(member));
        if !complete || round.outcome.is_some() {
            return Vec::new();
        }
        let of = members.iter().filter_map(|member| round.given.get(member));
        let Some(reduced) = Reduced::of(of.clone().map(|given| &given.contribution)) else {
            return Vec::new();
        };
        let gradient = |sum, (rank, given): (&Rank, &Given)| match given.contribution.active {
            true => mix(mix(sum, u64::from(rank.0)), given.parameters),
            false => sum,
        };
        let begin = hash(&[key.0.0, key.1]);
        let digest = members.iter().zip(of).fold(begin, gradient);
        round.outcome = Some(Outcome { reduced, digest });
        let mut receivers = Vec::new();
        for (&rank, given) in &mut round.given {
            if given.served == Served::Waits {
                given.served = Served::Coming;
                let (view, seq) = key;
                let life = given.life;
                receivers.push(Receiver {
                    rank,
                    life,
                    view,
                    seq,
                });
            }
        }
        receivers
    }

    /// What all have given to a collective, once it is complete.
    pub(super) fn contributions(
        &self,
        view: View,
        seq: u64,
    ) -> impl Iterator<Item = (Rank, &Given)> {
        let round = self.rounds.get(&(view, seq));
        let given = round.into_iter().flat_map(|round| &round.given);
        given.map(|(&rank, given)| (rank, given))
    }

    /// A result is due. `None` if it never comes; `blocked` tells whether nothing gets from a
    /// member to the receiver.
    pub(super) fn result(
        &mut self,
        to: Receiver,
        blocked: impl Fn(Rank) -> bool,
    ) -> Option<Outcome> {
        let round = self.rounds.get_mut(&(to.view, to.seq))?;
        let given = round.given.get(&to.rank)?;
        if given.life != to.life || given.served != Served::Coming {
            return None;
        }
        let stuck = given.members.iter().any(|&member| blocked(member));
        let outcome = round.outcome.clone()?;
        let given = round.given.get_mut(&to.rank)?;
        if stuck {
            given.served = Served::Stuck;
            return None;
        }
        given.served = Served::Over;
        self.sweep(to.view, to.seq);
        Some(outcome)
    }

    /// A path is mended: who was stuck may get its result now.
    pub(super) fn unstick(&mut self) -> Vec<Receiver> {
        let mut receivers = Vec::new();
        for (&(view, seq), round) in &mut self.rounds {
            for (&rank, given) in &mut round.given {
                if given.served == Served::Stuck {
                    given.served = Served::Coming;
                    let life = given.life;
                    receivers.push(Receiver {
                        rank,
                        life,
                        view,
                        seq,
                    });
                }
            }
        }
        receivers
    }

    /// Since when a rank waits for a result, and of what.
    pub(super) fn waits_since(&self, rank: Rank, view: View) -> Option<(Receiver, Instant)> {
        let mut of_view = self.rounds.range((view, 0)..=(view, u64::MAX)).rev();
        of_view.find_map(|(&(view, seq), round)| {
            let given = round.given.get(&rank)?;
            let receiver = Receiver {
                rank,
                life: given.life,
                view,
                seq,
            };
            (given.served != Served::Over).then_some((receiver, given.at))
        })
    }

    /// Whether a collective is complete and not all have its result yet.
    pub(super) fn is_half_told(&self, view: View, seq: u64) -> bool {
        self.rounds.get(&(view, seq)).is_some_and(|round| {
            let over = |given: &Given| given.served == Served::Over;
            round.outcome.is_some()
                && round.given.values().any(over)
                && !round.given.values().all(over)
        })
    }

    /// A rank gets nothing of a collective any more. What it has given stays given.
    pub(super) fn abandon(&mut self, rank: Rank, view: View, seq: u64) {
        if let Some(given) =
            (self.rounds.get_mut(&(view, seq))).and_then(|round| round.given.get_mut(&rank))
        {
            given.served = Served::Over;
            self.sweep(view, seq);
        }
    }

    /// A rank leaves a view.
    pub(super) fn leave(&mut self, rank: Rank, view: View) {
        if let Some((receiver, _)) = self.waits_since(rank, view) {
            self.abandon(rank, receiver.view, receiver.seq);
        }
        // Of views before the one that is left nobody gets anything who is not behind.
        while let Some((&(old, seq), round)) = self.rounds.first_key_value() {
            let over = |given: &Given| given.served == Served::Over;
            if old >= view || !round.given.values().all(over) {
                break;
            }
            self.rounds.remove(&(old, seq));
        }
    }

    /// A life is over. The collectives it was in, and who still waits in each.
    pub(super) fn bury(&mut self, rank: Rank, life: u64) -> Vec<(Receiver, bool)> {
        let mut touched = Vec::new();
        for (&(view, seq), round) in &mut self.rounds {
            let mut given = round.given.values();
            if !given.any(|given| given.members.contains(&rank)) {
                continue;
            }
            if let Some(own) = round.given.get_mut(&rank)
                && own.life == life
            {
                own.served = Served::Over;
            }
            let complete = round.outcome.is_some();
            let waiting = (round.given.iter()).filter(|(_, given)| given.served != Served::Over);
            touched.extend(waiting.map(|(&rank, given)| {
                let life = given.life;
                let receiver = Receiver {
                    rank,
                    life,
                    view,
                    seq,
                };
                (receiver, complete)
            }));
        }
        touched
    }

    /// Forgets a collective that everybody has done with.
    fn sweep(&mut self, view: View, seq: u64) {
        let done = self.rounds.get(&(view, seq)).is_some_and(|round| {
            let over = |given: &Given| given.served == Served::Over;
            round.outcome.is_some() && round.given.values().all(over)
        });
        if done {
            self.rounds.remove(&(view, seq));
        }
    }
}

#[cfg(test)]
mod tests {
    use selvedge_core::ddp::{Epoch, RunId, StepTag};

    use super::*;

    const MEMBERS: [Rank; 3] = [Rank(0), Rank(1), Rank(2)];

    fn contribution(seq: u64) -> Contribution {
        let tag = StepTag {
            run: RunId(1),
            view: View(1),
            seq,
            epoch: Epoch(1),
            schedule: 0,
            applied: 0,
        };
        Contribution {
            tag,
            active: true,
            more: false,
        }
    }

    fn give(collectives: &mut Collectives, rank: u32, seq: u64) -> Vec<Receiver> {
        let (now, give) = (Instant::ZERO, contribution(seq));
        collectives.contribute(Rank(rank), 1, give, 7, &Arc::from(MEMBERS), now)
    }

    #[test]
    fn nobody_gets_a_result_before_all_have_given_and_all_get_the_same() {
        let mut all = Collectives::default();
        assert!(give(&mut all, 2, 0).is_empty() && give(&mut all, 0, 0).is_empty());
        let receivers = give(&mut all, 1, 0);
        let ranks: Vec<Rank> = receivers.iter().map(|to| to.rank).collect();
        assert_eq!(ranks, MEMBERS);
        let mut results = receivers
            .iter()
            .map(|&to| all.result(to, |_| false).unwrap());
        let first = results.next().unwrap();
        assert_eq!(first.reduced.active, 3);
        assert!(
            results.all(|other| (other.reduced, other.digest) == (first.reduced, first.digest))
        );
        assert!(all.result(receivers[0], |_| false).is_none(), "once each");
        assert!(all.rounds.is_empty());
    }

    #[test]
    fn who_is_cut_off_gets_it_when_the_path_is_mended_and_who_left_never_does() {
        let mut all = Collectives::default();
        let receivers: Vec<Receiver> = (0..3).flat_map(|rank| give(&mut all, rank, 0)).collect();
        assert!(
            all.result(receivers[0], |member| member == Rank(2))
                .is_none()
        );
        assert!(all.result(receivers[1], |_| false).is_some());
        assert!(all.is_half_told(View(1), 0));
        all.leave(Rank(2), View(1));
        assert!(all.result(receivers[2], |_| false).is_none());
        assert_eq!(all.unstick(), [receivers[0]]);
        assert!(all.result(receivers[0], |_| false).is_some());
    }

    #[test]
    fn a_death_names_who_still_waits() {
        let mut all = Collectives::default();
        give(&mut all, 0, 0);
        give(&mut all, 1, 0);
        let waiting = all.bury(Rank(1), 1);
        let waiting: Vec<(Rank, bool)> = waiting.iter().map(|(to, c)| (to.rank, *c)).collect();
        assert_eq!(waiting, [(Rank(0), false)]);
        assert!(all.bury(Rank(3), 1).is_empty(), "it was no member");
    }
}
