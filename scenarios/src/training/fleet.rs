//! All processes of a run on this machine: started, watched, killed, stopped, cut off and started
//! again, by plan, and each of them waited for.
//!
//! **It keeps a quorum**: no fault takes a rank out while fewer of the others than the run needs
//! are known to be in. A fault that must wait for that is done as soon as it may.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use super::chaos::Planned;
use super::trajectory::Line;

mod drive;
mod process;
mod slot;

pub use drive::run;

/// The coordinator's store, in a run's directory.
pub const STORE: &str = "run.redb";

/// What processes that say why they failed may exit with: wrong input, something that must not
/// be, out of the run. `selvedge --help` has the list.
pub const FAILED_EXITS: [i32; 3] = [2, 10, 15];

/// What a life of a rank has applied, in a run's directory.
#[must_use]
pub fn journal(rank: u32, life: u32) -> String {
    format!("rank-{rank}.life-{life}.jsonl")
}

/// What is to be run.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// The `selvedge` program.
    pub program: PathBuf,
    /// Where journals, the coordinator's store and complaints go.
    pub dir: PathBuf,
    /// The run's name.
    pub run: String,
    /// The secret of all its processes.
    pub token: String,
    /// Ranks.
    pub world: u32,
    /// With fewer the run is given up.
    pub min_world: u32,
    /// Epochs.
    pub epochs: u64,
    /// What data and model are drawn from.
    pub seed: u64,
    /// What a batch takes at least.
    pub batch_time: Duration,
    /// How long a silence is borne with.
    pub patience: Duration,
    /// When a wait ends in a failure.
    pub deadline: Duration,
    /// Beyond its deadlines a process has this long to end.
    pub grace: Duration,
    /// Where the ranks' profilers write; they have none, if nowhere.
    pub profile: Option<PathBuf>,
    /// What is done to them.
    pub plan: Vec<Planned>,
}

/// Where a rank stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Its process runs; whether it is a member is not known yet, or not any more.
    Joining,
    /// It applies records, and has the parameters that go with them.
    In,
    /// It got SIGSTOP.
    Stopped,
    /// It has no process now.
    Down,
    /// Its run is over, and all was well.
    Done,
}

impl Standing {
    /// In one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Standing::Joining => "joining",
            Standing::In => "in",
            Standing::Stopped => "stopped",
            Standing::Down => "down",
            Standing::Done => "done",
        }
    }
}

/// How one life of a rank ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum End {
    /// At the end of the run.
    Done,
    /// By SIGKILL, as planned.
    Killed,
    /// It said why it is out of the run.
    Failed {
        /// In one word.
        reason: String,
        /// In a sentence.
        detail: String,
        /// What happened before.
        before: Vec<String>,
    },
    /// Otherwise: no rank may end so.
    Died {
        /// How, and what it complained of.
        how: String,
    },
    /// Not within its deadlines: no rank may hang.
    Hung {
        /// The last that it said.
        last: String,
    },
    /// Whoever watched has ended the run.
    Interrupted,
}

impl End {
    /// In few words.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            End::Done => "done",
            End::Killed => "killed",
            End::Failed { reason, .. } => reason,
            End::Died { .. } => "DIED",
            End::Hung { .. } => "HUNG",
            End::Interrupted => "interrupted",
        }
    }

    /// What is said after who it is.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            End::Done => "was done".to_owned(),
            End::Killed => "was killed".to_owned(),
            End::Failed { reason, detail, .. } => format!("failed ({reason}): {detail}"),
            End::Died { how } => format!("died: {how}"),
            End::Hung { last } => format!("hung; the last it said: {last}"),
            End::Interrupted => "was interrupted".to_owned(),
        }
    }

    /// Whether it did not end by itself.
    #[must_use]
    pub const fn is_hang(&self) -> bool {
        matches!(self, End::Hung { .. })
    }
}

/// A rank, as far as it has told.
#[derive(Clone, Debug)]
pub struct RankStatus {
    /// Where it stands.
    pub standing: Standing,
    /// Which start of it this is, counted from 1.
    pub life: u32,
    /// The last record it has applied.
    pub line: Option<Line>,
    /// The view it is in.
    pub view: u64,
    /// How its lives ended.
    pub ends: Vec<End>,
    /// How long the ends of its epochs took.
    pub commits: Vec<Duration>,
    /// The last that it said.
    pub last: String,
}

/// All of it, as it is now.
#[derive(Clone, Debug)]
pub struct Status {
    /// The newest epoch that any rank has applied.
    pub epoch: u64,
    /// By rank.
    pub ranks: Vec<RankStatus>,
    /// What was done, and between what epochs, since the last look.
    pub news: Vec<String>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// By rank.
    pub ranks: Vec<RankStatus>,
    /// Starts of the coordinator.
    pub coordinator_lives: u32,
    /// How each of its lives ended.
    pub coordinator_ends: Vec<End>,
    /// The plan, and at what epoch each fault was done, if it was.
    pub faults: Vec<(Planned, Option<u64>)>,
    /// The run came to its last epoch.
    pub over: bool,
    /// Nobody got anywhere for too long.
    pub stuck: bool,
    /// By whoever watched.
    pub interrupted: bool,
    /// By epoch: of each rank how long its end took.
    pub commits: BTreeMap<u64, Vec<Duration>>,
    /// By epoch and step: of each rank how long the sum took.
    pub steps: BTreeMap<(u64, usize), Vec<Duration>>,
}

/// What this machine did not give.
#[derive(Debug, Error)]
#[error("{what}: {error}")]
pub struct FleetError {
    what: String,
    error: io::Error,
}

#[cfg(test)]
mod tests;
