//! From a failure to a seed, and from a seed to a smaller one: the parent's side of shrinking.
//!
//! Explorer and shuttle shrink a schedule in one child (`shrink.rs`). Loom takes
//! no schedule from others, so it searches again with at most 0, 1, 2, ... preemptions until it
//! meets the same failure. Real threads cannot be told what to do.
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//! use std::time::Duration;
//! use selvedge_sim::child::Children;
//! use selvedge_sim::reduce::Shrinking;
//! use selvedge_sim::Seed;
//!
//! /// The seed, as small as ten seconds make it.
//! fn smaller(children: &Children, seed: Seed) -> std::io::Result<Seed> {
//!     let limit = Duration::from_secs(10);
//!     Ok(match children.shrink(&seed, limit, &AtomicBool::new(false))? {
//!         Shrinking::Done(smaller) => smaller.seed,
//!         _ => seed,
//!     })
//! }
//! ```

use std::io;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::campaign::{FaultTried, WorldSize};
use crate::child::{Children, Outcome, Request};
use crate::shrink::{Flip, Size};
use crate::trace::Trace;
use crate::unit::{End, Task};
use crate::{DecisionLog, Engine, Seed};

/// Loom is not asked to search with more preemptions than this: what needs more is left as it
/// was found.
const MOST_PREEMPTIONS: u8 = 5;

/// A seed made smaller.
///
/// ```
/// # use selvedge_sim::{DecisionLog, Engine, Schedule, Seed, Variant};
/// # let seed = Seed {
/// #     scenario: "queue".to_owned(),
/// #     variant: Variant::Shipped,
/// #     engine: Engine::Explorer { preemptions: None },
/// #     revision: "00c0ffee".to_owned(),
/// #     signature: "item-lost".to_owned(),
/// #     trace: None,
/// #     log: DecisionLog::Schedule(Schedule::default()),
/// # };
/// use selvedge_sim::reduce::Smaller;
/// use selvedge_sim::{Flip, Size};
/// use selvedge_sim::trace::{Switch, Trace};
///
/// let smaller = Smaller {
///     seed,
///     before: Size { preemptions: 3, switches: 7, steps: 24 },
///     after: Size { preemptions: 1, switches: 5, steps: 24 },
///     replays: 56,
///     least: true,
///     cut: false,
///     switches: vec![Flip { step: 9, critical: Some(true) }],
/// };
/// let mut trace = Trace::default();
/// trace.switches.push(Switch { step: 9, preemption: true, critical: None });
/// smaller.mark(&mut trace);
/// assert_eq!(trace.switches[0].critical, Some(true));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smaller {
    /// The seed that is left.
    pub seed: Seed,
    /// The size at first.
    pub before: Size,
    /// The size now.
    pub after: Size,
    /// Executions it took.
    pub replays: u64,
    /// Whether nothing with fewer preemptions fails so: every schedule with fewer was tried.
    pub least: bool,
    /// Whether time ran out before everything was tried.
    pub cut: bool,
    /// Every switch that is left, and whether the failure needs it; empty under loom.
    pub switches: Vec<Flip>,
}

impl Smaller {
    /// Writes into the trace of its execution which switches are critical.
    pub fn mark(&self, trace: &mut Trace) {
        trace.mark(&self.switches);
    }
}

/// A seed of a run of the world, made smaller.
///
/// ```
/// use selvedge_sim::campaign::FaultTried;
/// use selvedge_sim::reduce::SmallerWorld;
///
/// /// The faults without which it does not fail.
/// fn needed(smaller: &SmallerWorld) -> Vec<&FaultTried> {
///     smaller.faults.iter().filter(|fault| fault.critical == Some(true)).collect()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmallerWorld {
    /// The seed that is left.
    pub seed: Seed,
    /// The size at first.
    pub before: WorldSize,
    /// The size now.
    pub after: WorldSize,
    /// Runs it took.
    pub runs: u64,
    /// Whether there was no time for more.
    pub cut: bool,
    /// Every fault that is left, and whether the failure needs it.
    pub faults: Vec<FaultTried>,
}

/// What became of a wish to make a seed smaller.
///
/// ```
/// use selvedge_sim::reduce::Shrinking;
///
/// let words = match Shrinking::Impossible("there is no schedule") {
///     Shrinking::Done(smaller) => smaller.seed.to_string(),
///     Shrinking::World(smaller) => smaller.seed.to_string(),
///     Shrinking::Least(why) | Shrinking::Impossible(why) => format!("as it was: {why}"),
///     Shrinking::Stale(why) => format!("stale: {why}"),
///     Shrinking::Failed(what) => format!("the engine failed: {what}"),
///     Shrinking::Stopped => "out of time".to_owned(),
/// };
/// assert_eq!(words, "as it was: there is no schedule");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is looked at once and thrown away"
)]
pub enum Shrinking {
    /// It is as small as we could make it.
    Done(Smaller),
    /// The same, of a run of the world.
    World(SmallerWorld),
    /// Nothing smaller fails so, for this reason.
    Least(&'static str),
    /// The engine has nothing that could be made smaller.
    Impossible(&'static str),
    /// The failure did not show again.
    Stale(String),
    /// The engine failed.
    Failed(String),
    /// Interrupted, or out of time before the failure showed again.
    Stopped,
}

impl Children {
    /// The seed of a failure that a search of `request` found; `None` where the engine cannot
    /// reproduce it.
    ///
    /// Loom's path to the failing execution is written down only now: doing so for each
    /// execution of the search would cost more than the search.
    ///
    /// # Errors
    /// As [`Children::run`].
    pub fn seed_of(
        &self,
        request: &Request,
        outcome: &Outcome,
        revision: &str,
        interrupted: &AtomicBool,
    ) -> io::Result<Option<Seed>> {
        let Some(End::Violated { failure, log }) = &outcome.end else {
            return Ok(None);
        };
        let mut trace = outcome.trace.as_ref().map(Trace::hash);
        let log = match (request.engine, log) {
            (Engine::Loom { .. }, None) => {
                let again = Request {
                    task: Task::Capture {
                        execution: outcome.executions,
                    },
                    limit: request.limit.saturating_mul(4),
                    ..request.clone()
                };
                let captured = self.run(&again, interrupted, |_| ())?;
                trace = captured.trace.as_ref().map(Trace::hash);
                match captured.end {
                    Some(End::Violated { failure: same, log })
                        if same.signature == failure.signature =>
                    {
                        log
                    }
                    _ => None,
                }
            }
            (_, log) => log.clone(),
        };
        Ok(log.map(|log| Seed {
            scenario: request.scenario.clone(),
            variant: request.variant,
            engine: request.engine,
            revision: revision.to_owned(),
            signature: failure.signature.clone(),
            trace,
            log,
        }))
    }

    /// Makes the seed's execution smaller: fewer preemptions, then fewer switches, with the same
    /// signature.
    ///
    /// # Errors
    /// As [`Children::run`].
    pub fn shrink(
        &self,
        seed: &Seed,
        limit: Duration,
        interrupted: &AtomicBool,
    ) -> io::Result<Shrinking> {
        match (&seed.log, seed.engine) {
            (DecisionLog::Schedule(_) | DecisionLog::World(_), _) => {
                self.examine(seed, true, limit, interrupted)
            }
            (DecisionLog::Checkpoint { path, .. }, Engine::Loom { .. }) => {
                self.shrink_checkpoint(seed, path, limit, interrupted)
            }
            (DecisionLog::Checkpoint { .. }, _) => {
                Ok(Shrinking::Impossible("only loom can read a checkpoint"))
            }
            (DecisionLog::Path { shortest: true, .. }, _) => Ok(Shrinking::Least(
                "it was found breadth first: no path with fewer actions violates a property",
            )),
            (DecisionLog::Path { .. }, _) => Ok(Shrinking::Impossible(
                "it was found depth first, and there was no time to look for a shorter path; \
                 `selvedge check` with a larger --budget does",
            )),
            (DecisionLog::Workload { .. }, _) => Ok(Shrinking::Impossible(
                "real threads are scheduled by the machine: there is no schedule to make smaller",
            )),
        }
    }

    /// Which of the seed's switches its failure needs: empty where the engine cannot tell.
    ///
    /// # Errors
    /// As [`Children::run`].
    pub fn switches_of(
        &self,
        seed: &Seed,
        limit: Duration,
        interrupted: &AtomicBool,
    ) -> io::Result<Vec<Flip>> {
        if !matches!(seed.log, DecisionLog::Schedule(_)) {
            return Ok(Vec::new());
        }
        Ok(match self.examine(seed, false, limit, interrupted)? {
            Shrinking::Done(examined) => examined.switches,
            _ => Vec::new(),
        })
    }

    /// Which of the faults its plan has a seed's failure needs: empty where it is no run of the
    /// world, or there was no time.
    ///
    /// # Errors
    /// As [`Children::run`].
    pub fn faults_of(
        &self,
        seed: &Seed,
        limit: Duration,
        interrupted: &AtomicBool,
    ) -> io::Result<Vec<FaultTried>> {
        if !matches!(seed.log, DecisionLog::World(_)) {
            return Ok(Vec::new());
        }
        Ok(match self.examine(seed, false, limit, interrupted)? {
            Shrinking::World(examined) => examined.faults,
            _ => Vec::new(),
        })
    }

    fn examine(
        &self,
        seed: &Seed,
        smaller: bool,
        limit: Duration,
        interrupted: &AtomicBool,
    ) -> io::Result<Shrinking> {
        let task = Task::Shrink {
            log: seed.log.clone(),
            signature: seed.signature.clone(),
            smaller,
        };
        let outcome = self.run(&request_of(seed, task, limit), interrupted, |_| ())?;
        Ok(match outcome.end {
            Some(End::Shrunk { shrunk, trace }) => Shrinking::Done(Smaller {
                seed: Seed {
                    trace: Some(trace),
                    log: DecisionLog::Schedule(shrunk.schedule),
                    ..seed.clone()
                },
                before: shrunk.before,
                after: shrunk.after,
                replays: shrunk.replays,
                least: shrunk.least,
                cut: shrunk.cut,
                switches: shrunk.switches,
            }),
            Some(End::ShrunkWorld { run }) => Shrinking::World(SmallerWorld {
                seed: Seed {
                    trace: Some(run.hash),
                    log: DecisionLog::World(Box::new(run.config)),
                    ..seed.clone()
                },
                before: run.before,
                after: run.after,
                runs: run.runs,
                cut: run.cut,
                faults: run.faults,
            }),
            other => unshrunk(other),
        })
    }

    fn shrink_checkpoint(
        &self,
        seed: &Seed,
        path: &str,
        limit: Duration,
        interrupted: &AtomicBool,
    ) -> io::Result<Shrinking> {
        let Some(before) = size_of_path(path) else {
            return Ok(Shrinking::Stale(
                "loom's checkpoint cannot be read".to_owned(),
            ));
        };
        let started = Instant::now();
        let mut replays = 0;
        for bound in 0..MOST_PREEMPTIONS.min(u8::try_from(before.preemptions).unwrap_or(u8::MAX)) {
            let left = limit.saturating_sub(started.elapsed());
            let searched = Seed {
                engine: Engine::Loom {
                    preemptions: Some(bound),
                },
                ..seed.clone()
            };
            let task = Task::Search {
                seed: 0,
                executions: u64::MAX,
            };
            let request = request_of(&searched, task, left);
            let outcome = self.run(&request, interrupted, |_| ())?;
            replays += outcome.executions;
            match &outcome.end {
                Some(End::Violated { failure, .. }) if failure.signature == seed.signature => {
                    let found = self.seed_of(&request, &outcome, &seed.revision, interrupted)?;
                    let smaller = found.and_then(|found| {
                        let DecisionLog::Checkpoint { path, .. } = &found.log else {
                            return None;
                        };
                        Some((size_of_path(path)?, found))
                    });
                    return Ok(match smaller {
                        Some((after, seed)) => Shrinking::Done(Smaller {
                            seed,
                            before,
                            after,
                            replays,
                            least: after.preemptions == 0,
                            cut: false,
                            switches: Vec::new(),
                        }),
                        None => Shrinking::Stopped,
                    });
                }
                Some(End::Complete { .. }) => {}
                // Another failure hides this one within the bound, or time is up: then what we
                // have is the smallest we know.
                Some(End::Violated { .. }) => return Ok(as_it_was(seed, before, replays, false)),
                Some(End::Cut) | None => return Ok(as_it_was(seed, before, replays, true)),
                other => return Ok(unshrunk(other.clone())),
            }
        }
        Ok(as_it_was(seed, before, replays, false))
    }
}

pub(crate) fn request_of(seed: &Seed, task: Task, limit: Duration) -> Request {
    Request {
        scenario: seed.scenario.clone(),
        variant: seed.variant,
        engine: seed.engine,
        task,
        rounds: 1,
        workers: 1,
        most_bytes: u64::MAX,
        limit,
    }
}

/// Loom loses some schedules, so that it found none with fewer preemptions proves nothing.
fn as_it_was(seed: &Seed, size: Size, replays: u64, cut: bool) -> Shrinking {
    Shrinking::Done(Smaller {
        seed: seed.clone(),
        before: size,
        after: size,
        replays,
        least: size.preemptions == 0,
        cut,
        switches: Vec::new(),
    })
}

fn unshrunk(end: Option<End>) -> Shrinking {
    match end {
        Some(End::NotReproduced { why, .. }) => Shrinking::Stale(why),
        Some(End::Failed { what }) => Shrinking::Failed(what),
        Some(End::Cut) | None => Shrinking::Stopped,
        Some(End::Violated { failure, .. }) => Shrinking::Stale(format!(
            "it violates '{}' now, outside of the schedule",
            failure.signature
        )),
        Some(
            End::Complete { .. }
            | End::Shrunk { .. }
            | End::Followed { .. }
            | End::ShrunkWorld { .. }
            | End::Estimated { .. },
        ) => Shrinking::Failed("it did something else than it was asked to".to_owned()),
    }
}

/// What we read of loom's path.
#[derive(Deserialize)]
struct LoomPath {
    branches: Branches,
}

#[derive(Deserialize)]
struct Branches {
    entries: Vec<Branch>,
}

#[derive(Deserialize)]
enum Branch {
    Schedule(LoomSchedule),
    Load(serde::de::IgnoredAny),
    Spurious(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct LoomSchedule {
    preemptions: u64,
    initial_active: Option<usize>,
    threads: Vec<String>,
}

/// How large the execution is to which a checkpoint of loom's leads, as far as it was decided:
/// after it nothing is preempted. `None` where it is no checkpoint.
pub(crate) fn size_of_path(path: &str) -> Option<Size> {
    let path: LoomPath = serde_json::from_str(path).ok()?;
    let mut size = Size {
        preemptions: 0,
        switches: 0,
        steps: 0,
    };
    let mut last = None;
    for branch in path.branches.entries {
        let Branch::Schedule(schedule) = branch else {
            continue;
        };
        let active = schedule.threads.iter().position(|state| state == "Active");
        let preempted = schedule.initial_active.is_some() && schedule.initial_active != active;
        size.preemptions = schedule.preemptions + u64::from(preempted);
        size.switches += u64::from(last.is_some_and(|last| last != active));
        size.steps += 1;
        last = Some(active);
    }
    Some(size)
}
