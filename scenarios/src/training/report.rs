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

mod account;

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
    /// States of the parameters that were compared, over all lives.
    pub parameters_compared: usize,
    /// Whatever must not be.
    pub violations: Vec<Violation>,
    /// Each rank's lives.
    pub ranks: Vec<RankReport>,
    /// Lives that were taken for lost though nothing had been done to their rank. A machine that
    /// is slow for longer than the patience does that; it is no violation, and is said.
    pub false_suspicions: Vec<FalseSuspicion>,
    /// Starts of the coordinator.
    pub coordinator_lives: u32,
    /// How each of its lives ended.
    pub coordinator_ends: Vec<End>,
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

/// A life that was evicted, of a rank to which nothing had been done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FalseSuspicion {
    /// The rank.
    pub rank: u32,
    /// Which life.
    pub life: usize,
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
        /// How the coordinator's last life ended, if it has.
        coordinator: Option<End>,
    },
    /// A life of the coordinator ended otherwise than it may.
    WrongCoordinatorEnd {
        /// Which life.
        life: usize,
        /// How; not at all, perhaps.
        end: Option<End>,
    },
    /// The coordinator has had other lives than the plan gave it.
    WrongCoordinatorLives {
        /// How many.
        lives: u32,
        /// How often the plan has killed it.
        killed: u32,
    },
    /// The run was over before this was done to it: it has not shown that it bears it.
    NotDone {
        /// What.
        planned: Planned,
    },
    /// A process has panicked, however it ended.
    Panicked {
        /// In which file it complained.
        file: String,
        /// What of.
        line: String,
    },
    /// Nobody got anywhere by the deadlines.
    Stuck {
        /// How far it came.
        epoch: u64,
    },
    /// The model has learned nothing, or nobody knows.
    LossDidNotFall {
        /// Of the first epoch.
        first: Option<f64>,
        /// Of the last.
        last: Option<f64>,
    },
    /// Somebody who was there to the end has not written down what he should have.
    Unwritten {
        /// The coordinator's log, or whose life.
        who: String,
        /// The epochs that should be there.
        should: (u64, u64),
        /// The first and the last that are.
        has: Option<(u64, u64)>,
    },
}

impl Violation {
    /// Whether it is that the run was too short for its plan.
    #[must_use]
    pub const fn is_not_done(&self) -> bool {
        matches!(self, Violation::NotDone { .. })
    }

    /// Whether it is that somebody hangs.
    #[must_use]
    pub const fn is_hang(&self) -> bool {
        match self {
            Violation::Stuck { .. } => true,
            Violation::WrongEnd { end, .. } => end.is_hang(),
            Violation::WrongCoordinatorEnd { end: Some(end), .. } => end.is_hang(),
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
                end_of(coordinator)
            ),
            Violation::WrongCoordinatorEnd { life, end } => {
                write!(f, "the coordinator's life {life} {}", end_of(end))
            }
            Violation::WrongCoordinatorLives { lives, killed } => write!(
                f,
                "the coordinator was started {lives} times, and killed {killed} times by the plan"
            ),
            Violation::NotDone { planned } => write!(
                f,
                "the run was over before this was done, due at epoch {}: {}",
                planned.epoch, planned.fault
            ),
            Violation::Panicked { file, line } => write!(f, "{file}: {line}"),
            Violation::Stuck { epoch } => {
                write!(
                    f,
                    "nobody got anywhere after epoch {epoch}, until all deadlines had passed"
                )
            }
            Violation::LossDidNotFall { first, last } => {
                let said = |loss: &Option<f64>| match loss {
                    Some(loss) => format!("{loss:.4}"),
                    None => "not known".to_owned(),
                };
                write!(
                    f,
                    "the model has learned nothing: its loss was {} in the first epoch, and in the \
                     last it is {}",
                    said(first),
                    said(last)
                )
            }
            Violation::Unwritten { who, should, has } => {
                let (from, to) = should;
                write!(f, "{who} should hold epochs {from} to {to}, and holds ")?;
                match has {
                    Some((from, to)) => write!(f, "{from} to {to}"),
                    None => f.write_str("none"),
                }
            }
        }
    }
}

fn end_of(coordinator: &Option<End>) -> String {
    match coordinator {
        Some(end) => end.sentence(),
        None => "has not ended".to_owned(),
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
    let mut report = weigh(config, outcome, took, &written);
    report.violations.extend(account::panics(&config.dir)?);
    Ok(report)
}

/// What it comes to, where this was written down.
fn weigh(
    config: &FleetConfig,
    outcome: &Outcome,
    took: Duration,
    written: &[(Author, Vec<Line>)],
) -> DdpReport {
    // The coordinator's log is no life: that a record was made does not say that anybody has it.
    let lives = (written.iter()).filter(|(author, _)| matches!(author, Author::Life(..)));
    let newest = lives
        .clone()
        .filter_map(|(_, lines)| lines.last())
        .map(|line| line.epoch)
        .max();
    let epoch = newest.unwrap_or(0);
    let losses = losses(written);
    let to_the_end = !outcome.interrupted && outcome.over && epoch == config.epochs;
    let mut violations: Vec<Violation> = disagreements(written, epoch)
        .into_iter()
        .map(Violation::Disagreement)
        .collect();
    let blame = account::Blame::of(outcome);
    violations.extend(account::wrong_ends(config, outcome, &blame));
    violations.extend(account::wrong_coordinator(outcome, &blame));
    violations.extend(account::not_done(outcome));
    violations.extend(account::unwritten(config, outcome, written));
    if outcome.stuck {
        violations.push(Violation::Stuck { epoch });
    } else if !outcome.interrupted && (!outcome.over || epoch != config.epochs) {
        violations.push(Violation::NotOver {
            epoch,
            coordinator: outcome.coordinator_ends.last().cloned(),
        });
    }
    if to_the_end && epoch > 1 {
        let [first, last] = [1, epoch].map(|epoch| losses.get(&epoch).copied());
        // What is not a number has not fallen either.
        let fell = first.zip(last).is_some_and(|(first, last)| last < first);
        if !fell {
            violations.push(Violation::LossDidNotFall { first, last });
        }
    }
    DdpReport {
        seed: config.seed,
        world: config.world,
        min_world: config.min_world,
        epochs: config.epochs,
        batches: (0..config.world).map(|rank| batches(Rank(rank))).collect(),
        over: outcome.over,
        interrupted: outcome.interrupted,
        records_compared: written.iter().map(|(_, lines)| records(lines)).sum(),
        parameters_compared: lives.map(|(_, lines)| parameters(lines)).sum(),
        violations,
        ranks: ranks(outcome, written),
        false_suspicions: account::false_suspicions(outcome, &blame),
        coordinator_lives: outcome.coordinator_lives,
        coordinator_ends: outcome.coordinator_ends.clone(),
        faults: (outcome.faults.iter())
            .map(|&(planned, done_at)| FaultReport { planned, done_at })
            .collect(),
        losses: losses.into_values().collect(),
        alpha_moves: alpha_moves(written),
        commit_ms: latency(outcome.commits.values()),
        step_ms: latency(outcome.steps.values()),
        took_s: took.as_secs_f64(),
    }
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
            // Who was killed at once has none; that others have theirs is looked at later.
            let lines = match path.exists() {
                true => read(&path)?,
                false => Vec::new(),
            };
            written.push((Author::Life(Rank(rank), life), lines));
        }
    }
    Ok(written)
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

/// How many records they are: one that was completed later is one.
fn records(lines: &[Line]) -> usize {
    let again = lines.windows(2).filter(|pair| pair[1].completes(&pair[0]));
    lines.len() - again.count()
}

fn parameters(lines: &[Line]) -> usize {
    lines.iter().filter(|line| line.model.is_some()).count()
}

/// The mean loss by epoch, from the first, where anybody knew it.
fn losses(written: &[(Author, Vec<Line>)]) -> BTreeMap<u64, f64> {
    let lines = written.iter().flat_map(|(_, lines)| lines);
    let known = lines.filter(|line| line.epoch > 0);
    let known = known.filter_map(|line| Some((line.epoch, line.loss?.loss)));
    known.collect()
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
mod tests;
