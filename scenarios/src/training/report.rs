//! What a run came to, as values: whether all that must hold holds, and figures.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

use selvedge_core::ddp::Rank;
use selvedge_core::ddp::net::Store;
use serde::Serialize;

use super::chaos::Planned;
use super::data::batches;
use super::fleet::{End, FleetConfig, Outcome, RankStatus, STORE, journal};
use super::job::run_id;
use super::trajectory::{Author, Disagreement, Line, disagreements, read};
use crate::serving::Percentiles;

/// Why ranks may fail to whom something was done. That tags or records do not fit, say, is no
/// fault's doing.
const BY_FAULTS: [&str; 5] = [
    "evicted",
    "coordinator-lost",
    "quorum-lost",
    "state-lost",
    "stalled",
];

/// How a run of processes went.
#[derive(Clone, Debug, Serialize)]
pub struct DdpReport {
    /// What data and model were drawn from.
    pub seed: u64,
    /// Ranks.
    pub world: u32,
    /// With fewer the run would have been given up.
    pub min_world: u32,
    /// Epochs.
    pub epochs: u64,
    /// Batches an epoch of each rank's loader.
    pub batches: Vec<u64>,
    /// The run came to its last epoch.
    pub over: bool,
    /// It was broken off.
    pub interrupted: bool,
    /// Records that were compared, over all lives and the coordinator's log.
    pub records_compared: usize,
    /// Whatever must not be.
    pub violations: Vec<Violation>,
    /// Each rank's lives.
    pub ranks: Vec<RankReport>,
    /// Starts of the coordinator.
    pub coordinator_lives: u32,
    /// What was done to them.
    pub faults: Vec<FaultReport>,
    /// Mean loss by epoch, from the first.
    pub losses: Vec<f64>,
    /// Changes of any slot's alpha, over all epochs.
    pub alpha_moves: usize,
    /// From a rank's arrival at an epoch's end until it had applied the record.
    pub commit_ms: Latency,
    /// From a rank's contribution to a step until it had the sum: a plain all-reduce.
    pub step_ms: Latency,
    /// Wall-clock time.
    pub took_s: f64,
}

/// How long something took, that all ranks wait in for each other.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// Of all ranks: waiting for those that came later is in it.
    pub all: Percentiles,
    /// Of the rank that waited least, each time: what the network and the coordinator cost.
    pub least: Percentiles,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "violation", rename_all = "kebab-case")]
pub enum Violation {
    /// Ranks have applied different things, or not all of them.
    Disagreement(Disagreement),
    /// A life ended otherwise than it may.
    WrongEnd {
        /// The rank.
        rank: u32,
        /// Which life.
        life: usize,
        /// How.
        end: End,
    },
    /// The run did not come to its last epoch.
    NotOver {
        /// How far it came.
        epoch: u64,
        /// How the coordinator ended.
        coordinator: End,
    },
    /// Nobody got anywhere by the deadlines.
    Stuck {
        /// How far it came.
        epoch: u64,
    },
    /// The model has learned nothing.
    LossDidNotFall {
        /// Of the first epoch.
        first: f64,
        /// Of the last.
        last: f64,
    },
}

impl Violation {
    /// Whether it is that somebody hangs.
    #[must_use]
    pub const fn is_hang(&self) -> bool {
        match self {
            Violation::Stuck { .. } => true,
            Violation::WrongEnd { end, .. } => end.is_hang(),
            _ => false,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Disagreement(what) => what.fmt(f),
            Violation::WrongEnd { rank, life, end } => {
                write!(f, "rank {rank}'s life {life} {}", end.sentence())
            }
            Violation::NotOver { epoch, coordinator } => write!(
                f,
                "the run ended after epoch {epoch}, before its last; the coordinator {}",
                coordinator.sentence()
            ),
            Violation::Stuck { epoch } => {
                write!(
                    f,
                    "nobody got anywhere after epoch {epoch}, until all deadlines had passed"
                )
            }
            Violation::LossDidNotFall { first, last } => {
                write!(
                    f,
                    "the model has learned nothing: its loss was {first:.4} and is {last:.4}"
                )
            }
        }
    }
}

/// One rank's lives.
#[derive(Clone, Debug, Serialize)]
pub struct RankReport {
    /// The rank.
    pub rank: u32,
    /// How each life ended, and which records it had applied.
    pub lives: Vec<LifeReport>,
}

/// One life of a rank.
#[derive(Clone, Debug, Serialize)]
pub struct LifeReport {
    /// The first epoch whose record it applied; none, if it never became a member.
    pub first: Option<u64>,
    /// The last.
    pub last: Option<u64>,
    /// How it ended.
    #[serde(flatten)]
    pub end: End,
}

/// One fault of the plan.
#[derive(Clone, Debug, Serialize)]
pub struct FaultReport {
    /// The fault, and when it was due.
    #[serde(flatten)]
    pub planned: Planned,
    /// At which epoch it was done; none, if the run was over before it could be.
    pub done_at: Option<u64>,
}

/// Reads what everybody has written down, and says what it comes to.
///
/// # Errors
/// When a journal or the coordinator's store cannot be read.
pub fn judge(config: &FleetConfig, outcome: &Outcome, took: Duration) -> io::Result<DdpReport> {
    let written = written(config, outcome)?;
    let newest = written
        .iter()
        .filter_map(|(_, lines)| lines.last())
        .map(|line| line.epoch)
        .max();
    let epoch = newest.unwrap_or(0);
    let losses = losses(&written);
    let mut violations: Vec<Violation> = disagreements(&written, epoch)
        .into_iter()
        .map(Violation::Disagreement)
        .collect();
    violations.extend(wrong_ends(config, outcome));
    if outcome.stuck {
        violations.push(Violation::Stuck { epoch });
    } else if !outcome.interrupted && (!outcome.over || epoch != config.epochs) {
        violations.push(Violation::NotOver {
            epoch,
            coordinator: outcome.coordinator.clone(),
        });
    }
    if let ([first, .., last], false) = (&losses[..], outcome.interrupted)
        && last >= first
    {
        let (first, last) = (*first, *last);
        violations.push(Violation::LossDidNotFall { first, last });
    }
    Ok(DdpReport {
        seed: config.seed,
        world: config.world,
        min_world: config.min_world,
        epochs: config.epochs,
        batches: (0..config.world).map(|rank| batches(Rank(rank))).collect(),
        over: outcome.over,
        interrupted: outcome.interrupted,
        records_compared: written.iter().map(|(_, lines)| lines.len()).sum(),
        violations,
        ranks: ranks(outcome, &written),
        coordinator_lives: outcome.coordinator_lives,
        faults: (outcome.faults.iter())
            .map(|&(planned, done_at)| FaultReport { planned, done_at })
            .collect(),
        losses,
        alpha_moves: alpha_moves(&written),
        commit_ms: latency(outcome.commits.values()),
        step_ms: latency(outcome.steps.values()),
        took_s: took.as_secs_f64(),
    })
}

/// The coordinator's log, and what each life of each rank has applied.
fn written(config: &FleetConfig, outcome: &Outcome) -> io::Result<Vec<(Author, Vec<Line>)>> {
    let mut written = Vec::new();
    let store = config.dir.join(STORE);
    if store.exists() {
        let log = Store::open(&store, run_id(&config.run)).and_then(|store| store.log());
        match log {
            Ok(log) => {
                let lines = log.iter().map(|record| Line::of(record, None, None));
                written.push((Author::Log, lines.collect()));
            }
            // Broken off while it was being made.
            Err(_) if outcome.interrupted => {}
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    for (rank, status) in (0..).zip(&outcome.ranks) {
        for life in 1..=status.life {
            let path = config.dir.join(journal(rank, life));
            // Who was killed at once has none.
            if path.exists() {
                written.push((Author::Life(Rank(rank), life), read(&path)?));
            }
        }
    }
    Ok(written)
}

/// Lives that ended as none may; and, where nothing was done to them, as none should.
fn wrong_ends(config: &FleetConfig, outcome: &Outcome) -> Vec<Violation> {
    let calm = config.plan.is_empty();
    let wrong = |end: &End| match end {
        End::Done | End::Interrupted => false,
        End::Killed => calm,
        End::Failed { reason, .. } => calm || !BY_FAULTS.contains(&&reason[..]),
        End::Died { .. } | End::Hung { .. } => true,
    };
    let ends = (0..).zip(&outcome.ranks).flat_map(|(rank, status)| {
        let ends = status.ends.iter().zip(1..);
        ends.map(move |(end, life)| (rank, life, end))
    });
    let wrong = ends.filter(|(_, _, end)| wrong(end));
    wrong
        .map(|(rank, life, end)| Violation::WrongEnd {
            rank,
            life,
            end: end.clone(),
        })
        .collect()
}

fn ranks(outcome: &Outcome, written: &[(Author, Vec<Line>)]) -> Vec<RankReport> {
    let of = |(rank, status): (u32, &RankStatus)| {
        let lives = (1..).zip(&status.ends).map(|(life, end)| {
            let author = Author::Life(Rank(rank), life);
            let lines = written.iter().find(|(other, _)| *other == author);
            let lines = lines.map_or(&[][..], |(_, lines)| lines);
            LifeReport {
                first: lines.first().map(|line| line.epoch),
                last: lines.last().map(|line| line.epoch),
                end: end.clone(),
            }
        });
        RankReport {
            rank,
            lives: lives.collect(),
        }
    };
    (0..).zip(&outcome.ranks).map(of).collect()
}

/// The mean loss by epoch, from the first, where anybody knew it.
fn losses(written: &[(Author, Vec<Line>)]) -> Vec<f64> {
    let lines = written.iter().flat_map(|(_, lines)| lines);
    let known = lines.filter(|line| line.epoch > 0);
    let known = known.filter_map(|line| Some((line.epoch, line.loss?.loss)));
    known
        .collect::<BTreeMap<u64, f64>>()
        .into_values()
        .collect()
}

/// How often any alpha changed from one epoch to the next.
fn alpha_moves(written: &[(Author, Vec<Line>)]) -> usize {
    let mut by_epoch: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for line in written.iter().flat_map(|(_, lines)| lines) {
        let bits = line.slots.iter().map(|slot| &slot.bits[..]);
        by_epoch.entry(line.epoch).or_insert_with(|| bits.collect());
    }
    let alphas: Vec<Vec<&str>> = by_epoch.into_values().collect();
    let moves = |pair: &[Vec<&str>]| pair[0].iter().zip(&pair[1]).filter(|(a, b)| a != b).count();
    alphas.windows(2).map(moves).sum()
}

fn latency<'a>(times: impl Iterator<Item = &'a Vec<Duration>> + Clone) -> Latency {
    let mut all: Vec<Duration> = times.clone().flatten().copied().collect();
    let mut least: Vec<Duration> = times
        .filter_map(|times| times.iter().min().copied())
        .collect();
    Latency {
        all: Percentiles::of(&mut all),
        least: Percentiles::of(&mut least),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::training::chaos::{PlanFor, plan};
    use crate::training::fleet::Standing;
    use crate::training::job::genesis;
    use crate::training::trajectory::Journal;
    use crate::training::worker::EpochLoss;
    use selvedge_core::ddp::{Epoch, RunId};

    const EPOCHS: u64 = 3;

    /// A run of two ranks with a life each, as it would be written down.
    fn ran(dir: PathBuf, chaos: bool, change: impl Fn(u32, &mut Line)) -> (FleetConfig, Outcome) {
        let of = PlanFor {
            seed: 1,
            world: 2,
            epochs: EPOCHS,
            faults: u32::from(chaos),
            patience: Duration::from_secs(1),
        };
        let config = FleetConfig {
            program: PathBuf::new(),
            dir,
            run: "r".into(),
            token: "t".into(),
            world: 2,
            min_world: 1,
            epochs: EPOCHS,
            seed: 1,
            batch_time: Duration::ZERO,
            patience: Duration::ZERO,
            deadline: Duration::ZERO,
            plan: plan(&of),
        };
        let status = |rank| {
            let mut to = Journal::create(&config.dir.join(journal(rank, 1))).unwrap();
            for epoch in 0..=EPOCHS {
                let mut record = genesis(RunId(1));
                record.epoch = Epoch(epoch);
                let loss = 1.0 / (1.0 + epoch as f64);
                let mut line = Line::of(
                    &record,
                    Some(epoch),
                    Some(EpochLoss {
                        loss,
                        accuracy: 1.0,
                    }),
                );
                change(rank, &mut line);
                to.write(&line).unwrap();
            }
            RankStatus {
                standing: Standing::Done,
                life: 1,
                line: None,
                view: 1,
                ends: vec![End::Done],
                commits: Vec::new(),
                last: String::new(),
            }
        };
        let outcome = Outcome {
            ranks: (0..2).map(status).collect(),
            coordinator_lives: 1,
            coordinator: End::Done,
            faults: Vec::new(),
            over: true,
            stuck: false,
            interrupted: false,
            commits: BTreeMap::new(),
            steps: BTreeMap::new(),
        };
        (config, outcome)
    }

    fn told(config: &FleetConfig, outcome: &Outcome) -> Vec<String> {
        let report = judge(config, outcome, Duration::ZERO).unwrap();
        report.violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_bit_of_one_alpha_of_one_rank_is_a_violation() {
        let dir = tempfile::tempdir().unwrap();
        let (config, outcome) = ran(dir.path().into(), false, |_, _| {});
        let report = judge(&config, &outcome, Duration::ZERO).unwrap();
        assert_eq!(report.violations, []);
        assert_eq!((report.records_compared, report.losses.len()), (8, 3));

        let dir = tempfile::tempdir().unwrap();
        let (config, outcome) = ran(dir.path().into(), false, |rank, line| {
            if (rank, line.epoch) == (1, 2) {
                line.slots[0].bits = "0000000000000001".into();
            }
        });
        let told = told(&config, &outcome);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("epoch 2: alpha of rank 0's life 1 is 0:0000"),
            "{told:?}"
        );
    }

    #[test]
    fn each_way_of_ending_is_judged() {
        let failed = |reason: &str| End::Failed {
            reason: reason.into(),
            detail: String::new(),
            before: Vec::new(),
        };
        let hung = End::Hung {
            last: String::new(),
        };
        let died = End::Died { how: String::new() };
        for (end, calm, chaos) in [
            (failed("evicted"), false, true),
            (failed("tag-mismatch"), false, false),
            (End::Killed, false, true),
            (hung, false, false),
            (died, false, false),
        ] {
            for (wild, right) in [(false, calm), (true, chaos)] {
                let dir = tempfile::tempdir().unwrap();
                let (config, mut outcome) = ran(dir.path().into(), wild, |_, _| {});
                outcome.ranks[1].ends = vec![end.clone()];
                assert_eq!(told(&config, &outcome).is_empty(), right, "{end:?}, {wild}");
            }
        }
    }

    #[test]
    fn a_run_that_stops_early_hangs_or_learns_nothing_is_no_success() {
        let dir = tempfile::tempdir().unwrap();
        let (mut config, mut outcome) = ran(dir.path().into(), true, |_, _| {});
        config.epochs = 4;
        assert!(told(&config, &outcome)[0].starts_with("the run ended after epoch 3"));
        outcome.stuck = true;
        let report = judge(&config, &outcome, Duration::ZERO).unwrap();
        assert!(
            report.violations.iter().all(Violation::is_hang),
            "{:?}",
            report.violations
        );
        let dir = tempfile::tempdir().unwrap();
        let (config, outcome) = ran(dir.path().into(), true, |_, line| {
            line.loss = line.loss.map(|loss| EpochLoss { loss: 0.7, ..loss });
        });
        assert!(told(&config, &outcome)[0].contains("learned nothing"));
    }
}
