//! A seed of a bug that is fixed, tried on the code that has no such bug any more.
//!
//! [`Children::replay`] follows a log to the letter, so to it every change of the code is
//! staleness; and a bug is not fixed without one. **Here the log is kept to as far as the code
//! allows, one execution is run to its end whatever happens, and how far the log was kept to is
//! told**: a task that cannot go on is passed over, and past the end whoever runs goes on.
//!
//! A world is its configuration and its plan, which any code can run: nothing of it is passed over.
//! Loom takes no log but its own, of just this code. There its search with as many preemptions as
//! the failure had stands in.
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//! use std::time::Duration;
//! use selvedge_sim::child::Children;
//! use selvedge_sim::follow::Followed;
//! use selvedge_sim::Seed;
//!
//! fn is_back(children: &Children, seed: &Seed) -> std::io::Result<bool> {
//!     let limit = Duration::from_secs(10);
//!     let followed = children.follow(seed, limit, &AtomicBool::new(false))?;
//!     Ok(matches!(followed, Followed::Violated(failure) if failure.signature == seed.signature))
//! }
//! ```

use std::io;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::child::Children;
use crate::reduce::{request_of, size_of_path};
use crate::unit::{End, Task};
use crate::{DecisionLog, Engine, Failure, Seed};

/// What keeping to a log came to.
///
/// ```
/// use selvedge_sim::follow::Followed;
///
/// let passed = |followed| matches!(followed, Followed::Well { .. } | Followed::Searched { .. });
/// assert!(passed(Followed::Well { kept: 3, of: 9 }));
/// assert!(!passed(Followed::Impossible("real threads are scheduled by the machine".to_owned())));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// It failed: as it did, or in another way.
    Violated(Failure),
    /// All was well.
    Well {
        /// The log's first steps that were really made.
        kept: u64,
        /// All of its steps.
        of: u64,
    },
    /// All was well in every execution with as many preemptions as the log has.
    Searched {
        /// At most so many.
        preemptions: u8,
        /// How many executions.
        executions: u64,
    },
    /// There is nothing to keep to, for this reason.
    Impossible(String),
    /// The engine failed.
    Failed(String),
    /// Time ran out.
    Cut,
    /// Interrupted from outside.
    Interrupted,
}

impl Children {
    /// Keeps to this seed's log as far as the code allows.
    ///
    /// # Errors
    /// As [`Children::run`].
    pub fn follow(
        &self,
        seed: &Seed,
        limit: Duration,
        interrupted: &AtomicBool,
    ) -> io::Result<Followed> {
        let (task, engine) = match &seed.log {
            DecisionLog::Schedule(_) | DecisionLog::Path { .. } | DecisionLog::World(_) => {
                let log = seed.log.clone();
                (Task::Follow { log }, seed.engine)
            }
            DecisionLog::Checkpoint { path, .. } => {
                let bound = size_of_path(path).and_then(|size| u8::try_from(size.preemptions).ok());
                let Some(bound) = bound else {
                    let why = "loom's checkpoint cannot be read";
                    return Ok(Followed::Impossible(why.to_owned()));
                };
                let task = Task::Search {
                    seed: 0,
                    executions: u64::MAX,
                };
                let preemptions = Some(bound);
                (task, Engine::Loom { preemptions })
            }
            DecisionLog::Workload { .. } => {
                let why = "real threads are scheduled by the machine: there is no schedule";
                return Ok(Followed::Impossible(why.to_owned()));
            }
        };
        let seed = Seed {
            engine,
            ..seed.clone()
        };
        let outcome = self.run(&request_of(&seed, task, limit), interrupted, |_| ())?;
        Ok(match (outcome.end, engine) {
            (Some(End::Violated { failure, .. }), _) => Followed::Violated(failure),
            (Some(End::Followed { kept, of }), _) => Followed::Well { kept, of },
            (
                Some(End::Complete { .. }),
                Engine::Loom {
                    preemptions: Some(preemptions),
                },
            ) => Followed::Searched {
                preemptions,
                executions: outcome.executions,
            },
            (Some(End::Failed { what }), _) => Followed::Failed(what),
            (Some(End::Cut), _) => Followed::Cut,
            (None, _) => Followed::Interrupted,
            (
                Some(
                    End::Complete { .. }
                    | End::NotReproduced { .. }
                    | End::Shrunk { .. }
                    | End::ShrunkWorld { .. }
                    | End::Estimated { .. },
                ),
                _,
            ) => Followed::Failed("it did something else than to follow the log".to_owned()),
        })
    }
}
