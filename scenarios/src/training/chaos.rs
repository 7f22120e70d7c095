//! What is done to the processes of a run, and when: a plan drawn from a seed.
//!
//! A plan is a pure function of its arguments and names epochs, not times, so the same seed
//! gives the same plan on any machine. What comes of it is timing's: that is the point.

use std::fmt;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use selvedge_core::ddp::Rank;
use serde::Serialize;

use super::data::stream;

/// Which of a rank's connections are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// The one to the coordinator.
    Coordinator,
    /// Those to other ranks.
    Peers,
    /// All.
    All,
}

/// One thing that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL; the rank is started again so many epochs later.
    Kill {
        /// Whom.
        rank: u32,
        /// Epochs until its next life.
        back_after: u64,
    },
    /// SIGKILL, and at once its next life.
    Restart {
        /// Whom.
        rank: u32,
    },
    /// SIGSTOP, and SIGCONT later: too late, where that is longer than others wait.
    Stop {
        /// Whom.
        rank: u32,
        /// How long.
        ms: u64,
    },
    /// Its sockets are shut down.
    CutOff {
        /// Whose.
        rank: u32,
        /// Which of them.
        cut: Cut,
    },
    /// SIGKILL to the coordinator, which is started again later.
    KillCoordinator {
        /// How much later.
        ms: u64,
    },
}

impl Fault {
    /// The rank that it takes out of the run for a while.
    #[must_use]
    pub fn takes_out(self) -> Option<Rank> {
        match self {
            Fault::Kill { rank, .. } | Fault::Restart { rank } | Fault::Stop { rank, .. } => {
                Some(Rank(rank))
            }
            // Who is cut off may have to go, too.
            Fault::CutOff { rank, .. } => Some(Rank(rank)),
            Fault::KillCoordinator { .. } => None,
        }
    }

    /// Whether it is this rank that it is done to.
    #[must_use]
    pub fn hits(self, rank: u32) -> bool {
        self.takes_out() == Some(Rank(rank))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Fault::Kill { rank, back_after } => {
                write!(f, "kill rank {rank}, back {back_after} epochs later")
            }
            Fault::Restart { rank } => write!(f, "kill rank {rank} and start it again"),
            Fault::Stop { rank, ms } => write!(f, "stop rank {rank} for {ms} ms"),
            Fault::CutOff { rank, cut } => {
                let what = match cut {
                    Cut::Coordinator => "connection to the coordinator",
                    Cut::Peers => "connections to the other ranks",
                    Cut::All => "connections",
                };
                write!(f, "cut rank {rank}'s {what}")
            }
            Fault::KillCoordinator { ms } => {
                write!(f, "kill the coordinator, back {ms} ms later")
            }
        }
    }
}

/// A fault, and the epoch at whose end it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// The epoch.
    pub epoch: u64,
    /// The fault.
    #[serde(flatten)]
    pub fault: Fault,
}

/// What the plan is drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PlanFor {
    /// What it is drawn from.
    pub seed: u64,
    /// Ranks.
    pub world: u32,
    /// Epochs of the run.
    pub epochs: u64,
    /// How many faults.
    pub faults: u32,
    /// How long a silent rank is borne with: stops are drawn around it.
    pub patience: Duration,
}

/// How often each kind comes in a deck. Decks are dealt one after the other, so that a plan of
/// a deck or more has all kinds.
const DECK: [Card; 10] = [
    Card::Kill,
    Card::Kill,
    Card::Restart,
    Card::Restart,
    Card::ShortStop,
    Card::LongStop,
    Card::CutPeers,
    Card::CutCoordinator,
    Card::CutAll,
    Card::Coordinator,
];

#[derive(Clone, Copy)]
enum Card {
    Kill,
    Restart,
    ShortStop,
    LongStop,
    CutPeers,
    CutCoordinator,
    CutAll,
    Coordinator,
}

/// The plan, by epoch. Nothing is due in the first epochs, nor in the last three tenths: a fault
/// waits until the run can bear it, and a run that is over cannot show that it goes on.
///
/// ```
/// use std::time::Duration;
/// use selvedge_scenarios::training::chaos::{PlanFor, plan};
///
/// let patience = Duration::from_secs(1);
/// let of = |seed| plan(&PlanFor { seed, world: 4, epochs: 200, faults: 20, patience });
/// assert_eq!(of(1), of(1));
/// assert_ne!(of(1), of(2));
/// assert!(of(1).iter().all(|planned| (2..=140).contains(&planned.epoch)));
/// ```
#[must_use]
pub fn plan(of: &PlanFor) -> Vec<Planned> {
    let mut rng = stream(of.seed, 0xc4a0);
    let mut epochs: Vec<u64> = (0..of.faults).map(|n| due(n, of, &mut rng)).collect();
    epochs.sort_unstable();
    let mut deck: Vec<Card> = Vec::new();
    let mut deal = |rng: &mut ChaCha8Rng| {
        if deck.is_empty() {
            deck.extend(DECK);
            for at in (1..deck.len()).rev() {
                deck.swap(at, below(rng, at as u64 + 1) as usize);
            }
        }
        deck.pop().unwrap_or(Card::Kill)
    };
    let patience = u64::try_from(of.patience.as_millis()).unwrap_or(u64::MAX / 4);
    let mut draw = |epoch| {
        let card = deal(&mut rng);
        let rank = below(&mut rng, u64::from(of.world)) as u32;
        let cut = |cut| Fault::CutOff { rank, cut };
        let fault = match card {
            Card::Kill => Fault::Kill {
                rank,
                back_after: 1 + below(&mut rng, 8),
            },
            Card::Restart => Fault::Restart { rank },
            Card::ShortStop => Fault::Stop {
                rank,
                ms: 20 + below(&mut rng, patience / 2 + 1),
            },
            Card::LongStop => Fault::Stop {
                rank,
                ms: patience + 200 + below(&mut rng, patience + 1),
            },
            Card::CutPeers => cut(Cut::Peers),
            Card::CutCoordinator => cut(Cut::Coordinator),
            Card::CutAll => cut(Cut::All),
            Card::Coordinator => Fault::KillCoordinator {
                ms: 20 + below(&mut rng, patience / 2 + 1),
            },
        };
        Planned { epoch, fault }
    };
    epochs.into_iter().map(&mut draw).collect()
}

/// The epoch of the `n`th fault: one in each of as many equal parts of the time there is.
fn due(n: u32, of: &PlanFor, rng: &mut ChaCha8Rng) -> u64 {
    let first = 2.min(of.epochs);
    let last = (of.epochs - of.epochs / 10 * 3).max(first);
    let (span, faults) = (last - first, u64::from(of.faults));
    let part = |n: u64| {
        // No more than the span, so it fits again.
        let share = u128::from(span) * u128::from(n) / u128::from(faults.max(1));
        first + u64::try_from(share).unwrap_or(span)
    };
    let (from, to) = (part(u64::from(n)), part(u64::from(n) + 1));
    from + below(rng, (to - from).max(1))
}

/// A whole number below `end`. That the lowest come a little more often is no matter here.
fn below(rng: &mut ChaCha8Rng, end: u64) -> u64 {
    rng.next_u64() % end.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seed: u64, world: u32, epochs: u64, faults: u32) -> PlanFor {
        PlanFor {
            seed,
            world,
            epochs,
            faults,
            patience: Duration::from_millis(800),
        }
    }

    #[test]
    fn a_plan_of_twenty_has_every_kind_and_is_in_order() {
        for seed in 0..20 {
            let plan = plan(&of(seed, 4, 200, 20));
            assert_eq!(plan.len(), 20);
            assert!(plan.is_sorted_by_key(|planned| planned.epoch));
            let has = |kind: fn(&Fault) -> bool| plan.iter().any(|planned| kind(&planned.fault));
            assert!(has(|f| matches!(f, Fault::Kill { .. })));
            assert!(has(|f| matches!(f, Fault::Restart { .. })));
            assert!(has(|f| matches!(f, Fault::Stop { ms, .. } if *ms < 500)));
            assert!(has(|f| matches!(f, Fault::Stop { ms, .. } if *ms > 900)));
            assert!(has(|f| matches!(f, Fault::KillCoordinator { .. })));
            for cut in [Cut::Peers, Cut::Coordinator, Cut::All] {
                assert!(
                    plan.iter().any(
                        |p| matches!(p.fault, Fault::CutOff { cut: other, .. } if other == cut)
                    )
                );
            }
            let ranks = plan.iter().filter_map(|planned| planned.fault.takes_out());
            assert!(ranks.clone().all(|rank| rank.0 < 4));
            assert!(
                ranks
                    .map(|rank| rank.0)
                    .collect::<std::collections::BTreeSet<_>>()
                    .len()
                    > 2
            );
        }
    }

    #[test]
    fn odd_sizes_give_plans_too() {
        for (world, epochs, faults) in [(1, 1, 1), (2, 1, 7), (2, 3, 0), (3, 4, 50), (1, 0, 3)] {
            let plan = plan(&of(1, world, epochs, faults));
            assert_eq!(plan.len(), faults as usize);
            assert!(plan.iter().all(|planned| planned.epoch <= epochs.max(1)));
        }
    }

    #[test]
    fn a_run_of_any_length_has_a_plan() {
        for epochs in [u64::MAX, u64::MAX - 1, u64::MAX / 20] {
            let plan = plan(&of(1, 4, epochs, 20));
            assert_eq!(plan.len(), 20);
            assert!(plan.is_sorted_by_key(|planned| planned.epoch));
            let last = plan[19].epoch;
            assert!(last > epochs / 2 && last <= epochs - epochs / 10, "{last}");
        }
    }

    /// The plan of a seed is the same anywhere and for ever, as long as this test stands.
    #[test]
    fn a_seeds_plan_is_known() {
        let plan = plan(&of(1, 4, 100, 3));
        let told: Vec<String> = plan
            .iter()
            .map(|p| format!("{}: {}", p.epoch, p.fault))
            .collect();
        let known = [
            "15: kill rank 3 and start it again",
            "46: stop rank 0 for 367 ms",
            "65: kill the coordinator, back 337 ms later",
        ];
        assert_eq!(told, known);
    }
}
