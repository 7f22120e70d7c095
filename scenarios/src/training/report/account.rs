//! Whether everybody has accounted for himself: what is not written down cannot be compared, and
//! a comparison of nothing holds.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::{FalseSuspicion, Violation};
use crate::training::chaos::Fault;
use crate::training::fleet::{End, FleetConfig, Outcome};
use crate::training::trajectory::{Author, Line};

/// To whom something was really done: what fails there has an excuse.
pub(super) struct Blame {
    /// Ranks that were killed, stopped or cut off.
    hit: BTreeSet<u32>,
    /// Ranks that were stopped, or cut off: they may lose the coordinator by it.
    deaf: BTreeSet<u32>,
    /// How often the coordinator was killed.
    coordinator: u32,
}

impl Blame {
    pub(super) fn of(outcome: &Outcome) -> Self {
        let mut blame = Blame {
            hit: BTreeSet::new(),
            deaf: BTreeSet::new(),
            coordinator: 0,
        };
        for (planned, done_at) in &outcome.faults {
            if done_at.is_none() {
                continue;
            }
            match planned.fault {
                Fault::KillCoordinator { .. } => blame.coordinator += 1,
                Fault::Kill { rank, .. } | Fault::Restart { rank } => {
                    blame.hit.insert(rank);
                }
                Fault::Stop { rank, .. } | Fault::CutOff { rank, .. } => {
                    blame.hit.insert(rank);
                    blame.deaf.insert(rank);
                }
            }
        }
        blame
    }

    /// Whether what was done explains that this rank fails so. The run keeps a quorum, so nobody
    /// may fail for want of one; and that tags or records do not fit is no fault's doing.
    fn explains(&self, rank: u32, reason: &str) -> bool {
        match reason {
            "coordinator-lost" => self.coordinator > 0 || self.deaf.contains(&rank),
            // Where nothing was done to it, that is a suspicion, and false: see
            // `false_suspicions`.
            "evicted" => true,
            "state-lost" | "stalled" => self.hit.contains(&rank),
            _ => false,
        }
    }
}

/// Every life that has ended: whose, which, how.
fn ends(outcome: &Outcome) -> impl Iterator<Item = (u32, usize, &End)> {
    (0..).zip(&outcome.ranks).flat_map(|(rank, status)| {
        let ends = (1..).zip(&status.ends);
        ends.map(move |(life, end)| (rank, life, end))
    })
}

/// Lives that ended as none may; and, where nothing was done to them, as none should.
pub(super) fn wrong_ends(config: &FleetConfig, outcome: &Outcome, blame: &Blame) -> Vec<Violation> {
    let calm = config.plan.is_empty();
    let wrong = |rank: u32, end: &End| match end {
        End::Done | End::Interrupted => false,
        End::Killed => !blame.hit.contains(&rank),
        End::Failed { reason, .. } => calm || !blame.explains(rank, reason),
        End::Died { .. } | End::Hung { .. } => true,
    };
    let wrong = ends(outcome).filter(|(rank, _, end)| wrong(*rank, end));
    let wrong = wrong.map(|(rank, life, end)| Violation::WrongEnd {
        rank,
        life,
        end: end.clone(),
    });
    wrong.collect()
}

/// Evictions of ranks to which nothing was done.
pub(super) fn false_suspicions(outcome: &Outcome, blame: &Blame) -> Vec<FalseSuspicion> {
    let evicted = ends(outcome).filter(|(rank, _, end)| {
        matches!(end, End::Failed { reason, .. } if reason == "evicted")
            && !blame.hit.contains(rank)
    });
    evicted
        .map(|(rank, life, _)| FalseSuspicion { rank, life })
        .collect()
}

/// Each life of the coordinator but the last must have ended by a kill of the plan, and the last
/// with the run.
pub(super) fn wrong_coordinator(outcome: &Outcome, blame: &Blame) -> Vec<Violation> {
    let lives = outcome.coordinator_lives;
    let mut found = Vec::new();
    for life in 1..=lives as usize {
        let end = outcome.coordinator_ends.get(life - 1);
        let last = life == lives as usize;
        let right = match end {
            Some(End::Killed) => !last && life <= blame.coordinator as usize,
            Some(End::Done) => last,
            Some(End::Interrupted) => last && outcome.interrupted,
            // A run that is given up has ended otherwise, and that is told of the run.
            Some(End::Failed { .. } | End::Hung { .. }) => last && !outcome.over,
            Some(End::Died { .. }) => false,
            None => last && !outcome.over,
        };
        if !right {
            found.push(Violation::WrongCoordinatorEnd {
                life,
                end: end.cloned(),
            });
        }
    }
    let whole = outcome.over && !outcome.interrupted && !outcome.stuck;
    if whole && lives != 1 + blame.coordinator {
        found.push(Violation::WrongCoordinatorLives {
            lives,
            killed: blame.coordinator,
        });
    }
    found
}

/// What was not done to a run that went on to its end.
pub(super) fn not_done(outcome: &Outcome) -> Vec<Violation> {
    if !outcome.over || outcome.interrupted {
        return Vec::new();
    }
    let left = outcome.faults.iter().filter(|(_, done)| done.is_none());
    left.map(|(planned, _)| Violation::NotDone { planned: *planned })
        .collect()
}

/// Panics that any process has complained of.
pub(super) fn panics(dir: &Path) -> io::Result<Vec<Violation>> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(dir)? {
        let path = file?.path();
        if path.extension().is_none_or(|ending| ending != "err") {
            continue;
        }
        let text = std::fs::read(&path)?;
        let text = String::from_utf8_lossy(&text);
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let lines = text.lines().filter(|line| line.contains("panicked at"));
        found.extend(lines.map(|line| Violation::Panicked {
            file: file.clone().into_owned(),
            line: line.to_owned(),
        }));
    }
    Ok(found)
}

/// Lives that were there to the end, and the coordinator, that have not written down what they
/// must: all epochs, or, of a life in a run to which something was done, those to the last.
pub(super) fn unwritten(
    config: &FleetConfig,
    outcome: &Outcome,
    written: &[(Author, Vec<Line>)],
) -> Vec<Violation> {
    let (calm, last) = (config.plan.is_empty(), config.epochs);
    let mut found = Vec::new();
    let mut must = |who: Author, from_the_first: bool| {
        let lines = written.iter().find(|(author, _)| *author == who);
        let lines = lines.map_or(&[][..], |(_, lines)| lines);
        let has = lines.first().zip(lines.last());
        let has = has.map(|(first, last)| (first.epoch, last.epoch));
        let begins = has.map_or(0, |(first, _)| if from_the_first { 0 } else { first });
        if has != Some((begins, last)) {
            found.push(Violation::Unwritten {
                who: who.to_string(),
                should: (begins, last),
                has,
            });
        }
    };
    for (rank, status) in (0..).zip(&outcome.ranks) {
        for (life, end) in (1..).zip(&status.ends) {
            if *end == End::Done {
                must(Author::Life(selvedge_core::ddp::Rank(rank), life), calm);
            }
        }
    }
    if outcome.over && !outcome.interrupted {
        must(Author::Log, true);
    }
    found
}
