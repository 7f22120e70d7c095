//! A unit of work: one body of one scenario under one engine, run in a process of its own.
//!
//! This file is what parent and child say to each other: the [`UnitSpec`] one way, [`Record`]
//! lines the other. The child appends each line to a file as things happen, the first before
//! it runs anything, so that whatever kills it, what was known by then is kept.
//!
//! ```
//! use selvedge_sim::platform::Platform;
//! use selvedge_sim::unit::{End, Record, Task, UnitSpec};
//! use selvedge_sim::{Cx, Engine, Observation, Variant, bodies, host};
//!
//! fn idle<P: Platform>(_: &Cx) -> Observation {
//!     Observation::of("nothing happened")
//! }
//!
//! let dir = tempfile::tempdir()?;
//! let spec = UnitSpec {
//!     scenario: "idle".to_owned(),
//!     variant: Variant::Shipped,
//!     engine: Engine::Explorer { preemptions: None },
//!     task: Task::Search { seed: 1, executions: 1 },
//!     rounds: 1,
//!     workers: 1,
//!     most_bytes: u64::MAX,
//!     limit_ms: 10_000,
//!     record: dir.path().join("records"),
//! };
//! host::run(&spec, &bodies!(idle))?;
//! let records = std::fs::read_to_string(&spec.record)?;
//! let last = records.lines().last().expect("at least two");
//! let Record::Ended { end, observations, .. } = serde_json::from_str(last)? else { panic!() };
//! assert!(matches!(end, End::Complete { .. }));
//! assert_eq!(observations, ["nothing happened"]);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::campaign::{Campaign, CampaignFigures, SmallerRun};
use crate::explorer::{Escalation, Estimate};
use crate::model::Figures;
use crate::trace::Trace;
use crate::{DecisionLog, Engine, Failure, Shrunk};

/// Which body of a scenario.
///
/// ```
/// use selvedge_sim::Variant;
///
/// assert_eq!("shipped".parse(), Ok(Variant::Shipped));
/// assert_eq!(Variant::ALL.map(|variant| variant.to_string()), ["as-reported", "shipped"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// The bug resurrected: it must be found.
    AsReported,
    /// The code that ships: it must survive.
    Shipped,
}

impl Variant {
    /// Both, the bug first.
    pub const ALL: [Variant; 2] = [Variant::AsReported, Variant::Shipped];
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Variant::AsReported => "as-reported",
            Variant::Shipped => "shipped",
        })
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = (Variant::ALL.into_iter()).find(|variant| variant.to_string() == text);
        found.ok_or_else(|| {
            format!("there is no variant '{text}'; variants are as-reported and shipped")
        })
    }
}

/// What a child is to do.
///
/// ```
/// use selvedge_sim::unit::{Task, UnitSpec};
/// use selvedge_sim::{Engine, Variant};
///
/// let spec = UnitSpec {
///     scenario: "queue".to_owned(),
///     variant: Variant::Shipped,
///     engine: Engine::Loom { preemptions: Some(2) },
///     task: Task::Capture { execution: 7 },
///     rounds: 1,
///     workers: 1,
///     most_bytes: u64::MAX,
///     limit_ms: 10_000,
///     record: "records".into(),
/// };
/// let text = serde_json::to_string(&spec)?;
/// assert!(text.contains(r#""engine":"loom:2""#));
/// assert_eq!(serde_json::from_str::<UnitSpec>(&text)?, spec);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitSpec {
    /// The scenario's id.
    pub scenario: String,
    /// Which body.
    pub variant: Variant,
    /// Under which engine.
    #[serde(with = "as_text")]
    pub engine: Engine,
    /// To do what.
    pub task: Task,
    /// How often a body repeats what races, on real threads.
    pub rounds: u32,
    /// Threads that may search at a time, where the engine can use several.
    pub workers: usize,
    /// How much memory the search of a model may take, in bytes; never more than is free.
    pub most_bytes: u64,
    /// For how long at most.
    pub limit_ms: u64,
    /// The file that takes the records.
    pub record: PathBuf,
}

/// What to do with the body.
///
/// ```
/// use selvedge_sim::unit::Task;
///
/// let search = Task::Search { seed: 1, executions: 5_000 };
/// assert_ne!(search, Task::Capture { execution: 1 });
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Look for a failure.
    Search {
        /// Everything drawn is drawn from this.
        seed: u64,
        /// How many executions, for the engines that draw them. Loom goes on until done.
        executions: u64,
    },
    /// Run these seeds of a world.
    Campaign(Campaign),
    /// Estimate how many executions the explorer's full search would run.
    Estimate {
        /// What the probes are drawn from.
        seed: u64,
        /// How many.
        probes: u32,
    },
    /// Run up to this execution again, to write down loom's path to it.
    Capture {
        /// The execution, counted from 1.
        execution: u64,
    },
    /// Run the execution of this log again, and take down what happens.
    Replay {
        /// The log.
        log: DecisionLog,
    },
    /// Make the schedule of this log smaller, as far as it still fails in the same way, and try
    /// what happens without each of its switches.
    Shrink {
        /// The log.
        log: DecisionLog,
        /// How it fails.
        signature: String,
        /// Whether to make it smaller; else only its switches are tried.
        smaller: bool,
    },
    /// Run one execution that keeps to this log as far as the code allows.
    Follow {
        /// The log.
        log: DecisionLog,
    },
}

/// One line of what a child has to say.
///
/// ```
/// use selvedge_sim::unit::Record;
///
/// let line = serde_json::to_string(&Record::Progress { executions: 12, campaign: None })?;
/// assert_eq!(line, r#"{"event":"progress","executions":12}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Record {
    /// The child is about to run this.
    Started {
        /// What it was told.
        spec: UnitSpec,
    },
    /// So many executions were begun.
    Progress {
        /// How many.
        executions: u64,
        /// What the runs of a world have been through.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        campaign: Option<CampaignFigures>,
    },
    /// The run is over.
    Ended {
        /// How it ended.
        end: End,
        /// Executions begun.
        executions: u64,
        /// Every probe reached.
        reached: Vec<String>,
        /// Every different observation, up to a bound.
        observations: Vec<String>,
        /// What happened in the execution that failed, where it was taken down.
        trace: Option<Box<Trace>>,
        /// Whether there were more than the bound.
        more_observations: bool,
        /// The bounded searches that took the place of the explorer's full one, if they did.
        #[serde(default)]
        escalation: Option<Escalation>,
        /// What the search of a model cost.
        #[serde(default)]
        figures: Option<Figures>,
        /// What the runs of a world have been through.
        #[serde(default)]
        campaign: Option<CampaignFigures>,
    },
}

/// How a run ended.
///
/// ```
/// use selvedge_sim::unit::End;
///
/// assert_eq!(serde_json::to_string(&End::Cut)?, r#"{"end":"cut"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum End {
    /// By itself: everything the engine was to do is done.
    Complete {
        /// What was really drawn, for the engines that draw; what a model leaves out; empty
        /// for the others.
        drawn: String,
    },
    /// The time limit cut it short.
    Cut,
    /// A property does not hold.
    Violated {
        /// Which.
        failure: Failure,
        /// What leads there, where the engine can tell.
        log: Option<DecisionLog>,
    },
    /// The log could not be followed, or did not lead to a failure.
    NotReproduced {
        /// Whether the log no longer fits the code; else it fits, and all went well.
        stale: bool,
        /// What happened instead.
        why: String,
    },
    /// The schedule was made smaller.
    Shrunk {
        /// What is left of it.
        shrunk: Shrunk,
        /// The hash of what is left's trace.
        trace: u64,
    },
    /// The log was kept to as far as the code allowed, and all was well.
    Followed {
        /// Its first steps that were really made.
        kept: u64,
        /// All of its steps.
        of: u64,
    },
    /// A run of the world was made smaller, or its faults were tried.
    ShrunkWorld {
        /// What is left of it.
        run: Box<SmallerRun>,
    },
    /// The search was estimated.
    Estimated {
        /// To this.
        estimate: Estimate,
    },
    /// The engine failed.
    Failed {
        /// How.
        what: String,
    },
}

impl End {
    /// The schedule that was to be shrunk does not fail.
    pub(crate) fn no_longer_fails() -> End {
        End::NotReproduced {
            stale: true,
            why: "the schedule does not fail in this way: the code has changed since".to_owned(),
        }
    }
}

mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
