//! A seed's execution, run once more: the parent's side of replaying.
//!
//! **A replay meets the same failure by the same steps, or says why not; what fails in another
//! way, or by other steps, is stale.**
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//! use std::time::Duration;
//! use selvedge_sim::child::Children;
//! use selvedge_sim::replay::Replayed;
//! use selvedge_sim::Seed;
//!
//! fn is_still_there(children: &Children, seed: &Seed) -> std::io::Result<bool> {
//!     let limit = Duration::from_secs(10);
//!     let replayed = children.replay(seed, 1, limit, &AtomicBool::new(false))?;
//!     Ok(matches!(replayed, Replayed::Violated { .. }))
//! }
//! ```

use std::io;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::child::{Children, Request};
use crate::trace::Trace;
use crate::unit::{End, Task};
use crate::{DecisionLog, Engine, Failure, Seed};

/// What a replay came to.
///
/// ```
/// use selvedge_sim::replay::Replayed;
///
/// let replayed = Replayed::Stale("the code has changed since".to_owned());
/// assert!(!matches!(replayed, Replayed::Violated { .. } | Replayed::NotReproduced(_)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is looked at once and thrown away"
)]
pub enum Replayed {
    /// The same failure, by the same steps as far as the engine can tell.
    Violated {
        /// The failure.
        failure: Failure,
        /// Executions it took: more than one only on real threads.
        executions: u64,
        /// What happened; `None` on real threads.
        trace: Option<Trace>,
    },
    /// The log was followed, and all went well, for this reason.
    NotReproduced(String),
    /// The seed no longer fits the code, for this reason.
    Stale(String),
    /// The engine failed.
    Failed(String),
    /// Time ran out.
    Cut,
    /// Interrupted from outside.
    Interrupted,
}

impl Children {
    /// Runs the execution of this seed again. `rounds` counts on real threads only, where it
    /// must be what it was when the seed was made.
    ///
    /// # Errors
    /// As [`Children::run`].
    pub fn replay(
        &self,
        seed: &Seed,
        rounds: u32,
        limit: Duration,
        interrupted: &AtomicBool,
    ) -> io::Result<Replayed> {
        let request = Request {
            scenario: seed.scenario.clone(),
            variant: seed.variant,
            engine: seed.engine,
            task: Task::Replay {
                log: seed.log.clone(),
            },
            rounds: match seed.log {
                DecisionLog::Workload { .. } => rounds,
                _ => 1,
            },
            workers: 1,
            most_bytes: u64::MAX,
            limit,
        };
        let outcome = self.run(&request, interrupted, |_| ())?;
        Ok(match outcome.end {
            Some(End::Violated { failure, .. }) => {
                let hash = outcome.trace.as_ref().map(Trace::hash);
                match stale(seed, &failure, hash) {
                    Some(why) => Replayed::Stale(why),
                    None => Replayed::Violated {
                        failure,
                        executions: outcome.executions,
                        trace: outcome.trace,
                    },
                }
            }
            Some(End::NotReproduced { stale: true, why }) => Replayed::Stale(why),
            Some(End::NotReproduced { stale: false, why }) => Replayed::NotReproduced(why),
            // A checkpoint of other code makes loom itself fail.
            Some(End::Failed { what }) if matches!(seed.log, DecisionLog::Checkpoint { .. }) => {
                Replayed::Stale(what)
            }
            Some(End::Failed { what }) => Replayed::Failed(what),
            Some(
                End::Complete { .. }
                | End::Shrunk { .. }
                | End::Followed { .. }
                | End::ShrunkWorld { .. }
                | End::Estimated { .. },
            ) => Replayed::Failed("it did something else than to replay".to_owned()),
            Some(End::Cut) => Replayed::Cut,
            None => Replayed::Interrupted,
        })
    }
}

/// Why this failure is not the seed's, if it is not.
fn stale(seed: &Seed, failure: &Failure, hash: Option<u64>) -> Option<String> {
    if failure.signature != seed.signature {
        return Some(format!(
            "it violates '{}' now, where it violated '{}'",
            failure.signature, seed.signature
        ));
    }
    match (seed.trace, hash) {
        (Some(wanted), Some(got)) if wanted != got && seed.engine == Engine::World => {
            Some(format!(
                "it fails as it did, after other events (hash {got:016x}, not {wanted:016x}): the \
                 code has changed since; a seed holds no record of the events as they were, so \
                 which one differs first is not known"
            ))
        }
        (Some(wanted), Some(got)) if wanted != got => Some(format!(
            "it fails as it did, by other steps (trace {got:016x}, not {wanted:016x}): \
             the code has changed since"
        )),
        _ => None,
    }
}
