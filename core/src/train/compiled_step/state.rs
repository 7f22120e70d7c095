//! [`CompileState`]: every decision of the cache, with no lock, no clock and no artefact.

use core::fmt;
use std::collections::BTreeMap;

use core::time::Duration;
use thiserror::Error;

use super::config::{CompileConfig, ConfigError, Delays, FailureClass, FirstCompile};
use super::counters::CompileCounters;
use super::invariants;
use crate::ddp::{Epoch, RunId};
use crate::pool::InvariantViolation;
use crate::time::Instant;

/// A key of one cache. It is never given twice, so what comes late for a key that was forgotten
/// meets nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(super) u64);

/// One compile of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// Of what.
    pub key: KeyId,
    /// Which; no two attempts of a cache have the same number.
    pub number: u64,
    /// When it should be back.
    pub deadline: Instant,
}

/// Where a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nobody has tried.
    Vacant,
    /// Somebody compiles.
    Compiling {
        /// Which attempt it is.
        attempt: Attempt,
    },
    /// It is compiled, and its first execution has passed.
    Ready {
        /// The number of the attempt that passed.
        number: u64,
    },
    /// It has failed.
    Cooling {
        /// How.
        class: FailureClass,
        /// No new attempt before: always finite.
        not_before: Instant,
    },
}

/// What whoever wants to run a step is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Run what was compiled.
    Use {
        /// By which attempt.
        number: u64,
    },
    /// Run eagerly. Nothing changes until an epoch begins or somebody else's attempt ends.
    Eager,
    /// Compile, run it once, and tell how that went: [`CompileState::passed`] or
    /// [`CompileState::failed`].
    Compile(Attempt),
}

/// What has changed for a key: told once for each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transition {
    /// For which.
    pub key: KeyId,
    /// By which attempt.
    pub number: u64,
    /// What.
    pub kind: TransitionKind,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransitionKind {
    /// It has passed: everybody uses it now.
    Published {
        /// How often the key had failed in a row before. A recovery, unless it is 0.
        failures: u64,
        /// Whether it had been given up already.
        late: bool,
    },
    /// It has failed, or was not back in time.
    Failed {
        /// How.
        class: FailureClass,
        /// How often in a row.
        failures: u64,
        /// Not again before.
        not_before: Instant,
    },
    /// What was published has failed in use.
    Withdrawn {
        /// How.
        class: FailureClass,
        /// How often in a row.
        failures: u64,
        /// Not again before.
        not_before: Instant,
    },
}

/// What an epoch's beginning came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Permits {
    /// Whether the epoch was a new one. If not, nothing has changed.
    pub news: bool,
    /// Keys that may be compiled.
    pub granted: u32,
    /// Attempts that were given up, being overdue.
    pub overdue: Vec<Transition>,
}

/// There is no room for another key: it runs eagerly.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the cache has {max_keys} keys and no room for another; forget one, or raise max_keys")]
pub struct TooManyKeys {
    /// How many there may be.
    pub max_keys: u32,
}

/// A key, as far as decisions go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) phase: Phase,
    /// Failures since the last success.
    pub(super) failures: u64,
    /// Until when an attempt may begin: what an epoch has granted.
    pub(super) permit: Option<Instant>,
}

/// All keys of a cache.
///
/// **Ask, do what it says, tell how it went.** It never waits and never asks for what it did not
/// hear the end of: an attempt that nobody tells of is given up at the first epoch after its
/// deadline.
///
/// ```
/// use core::time::Duration;
/// use selvedge_core::ddp::Epoch;
/// use selvedge_core::time::Instant;
/// use selvedge_core::train::compiled_step::{
///     CompileConfig, CompileState, Decision, FailureClass,
/// };
///
/// let mut state = CompileState::new(CompileConfig::default())?;
/// let key = state.admit()?;
/// let at = |secs| Instant::ZERO + Duration::from_secs(secs);
/// let Some(Decision::Compile(first)) = state.ask(key, at(0)) else { panic!() };
/// assert_eq!(state.ask(key, at(0)), Some(Decision::Eager), "one attempt at a time");
/// state.failed(first, FailureClass::Transient, at(1));
///
/// assert_eq!(state.ask(key, at(60)), Some(Decision::Eager), "no epoch has begun");
/// state.apply_epoch(Epoch(1), at(60), Duration::from_secs(10));
/// let Some(Decision::Compile(second)) = state.ask(key, at(60)) else { panic!() };
/// state.passed(second);
/// assert!(matches!(state.ask(key, at(60)), Some(Decision::Use { .. })));
/// assert_eq!(state.counters().recoveries, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CompileState {
    pub(super) config: CompileConfig,
    pub(super) delays: Delays,
    pub(super) entries: BTreeMap<KeyId, Entry>,
    pub(super) keys_given: u64,
    pub(super) run: Option<RunId>,
    /// The last epoch of the run.
    pub(super) epoch: Option<Epoch>,
    pub(super) counters: CompileCounters,
}

impl CompileState {
    /// A cache with no key.
    ///
    /// # Errors
    /// Each of [`ConfigError`].
    pub fn new(config: CompileConfig) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(CompileState {
            delays: Delays::of(&config),
            config,
            entries: BTreeMap::new(),
            keys_given: 0,
            run: None,
            epoch: None,
            counters: CompileCounters::default(),
        })
    }

    /// Makes room for a new key.
    ///
    /// # Errors
    /// [`TooManyKeys`], which is counted.
    pub fn admit(&mut self) -> Result<KeyId, TooManyKeys> {
        let max_keys = self.config.max_keys;
        if self.entries.len() >= max_keys as usize {
            self.counters.refused_keys += 1;
            return Err(TooManyKeys { max_keys });
        }
        let key = KeyId(self.keys_given);
        self.keys_given += 1;
        let entry = Entry {
            phase: Phase::Vacant,
            failures: 0,
            permit: None,
        };
        self.entries.insert(key, entry);
        Ok(self.checked(key))
    }

    /// Forgets a key; whether there was one. What is still told of it changes nothing.
    pub fn forget(&mut self, key: KeyId) -> bool {
        let entry = self.entries.remove(&key);
        if let Some(Phase::Compiling { .. }) = entry.as_ref().map(|entry| entry.phase) {
            self.counters.superseded += 1;
        }
        self.checked(entry.is_some())
    }

    /// What to do for a key; `None` if there is no such key any more.
    pub fn ask(&mut self, key: KeyId, now: Instant) -> Option<Decision> {
        let entry = self.entries.get_mut(&key)?;
        let first = self.config.first;
        let permit = match entry.phase {
            Phase::Ready { number } => return Some(Decision::Use { number }),
            Phase::Compiling { .. } => return Some(Decision::Eager),
            Phase::Vacant if first == FirstCompile::AtUse => Some(None),
            Phase::Vacant | Phase::Cooling { .. } => match entry.permit {
                Some(until) if until < now => {
                    // It is told once: the next is another epoch's.
                    entry.permit = None;
                    self.counters.lapsed += 1;
                    None
                }
                permit => permit.map(Some),
            },
        };
        let Some(until) = permit else {
            return Some(Decision::Eager);
        };
        let patience = now + self.config.patience;
        let attempt = Attempt {
            key,
            number: self.counters.attempts,
            deadline: until.map_or(patience, |until| patience.min(until)),
        };
        self.counters.attempts += 1;
        entry.phase = Phase::Compiling { attempt };
        entry.permit = None;
        Some(self.checked(Decision::Compile(attempt)))
    }

    /// What was compiled has passed its first execution. If that changes something, it is to be
    /// published; if not, another attempt was first, and it is to be dropped.
    ///
    /// An attempt that was given up is published all the same: it is what all wanted.
    pub fn passed(&mut self, attempt: Attempt) -> Option<Transition> {
        let entry = self.entries.get_mut(&attempt.key)?;
        let late = match entry.phase {
            Phase::Ready { .. } | Phase::Vacant => return None,
            Phase::Compiling { attempt: current } if current == attempt => false,
            Phase::Compiling { .. } => {
                self.counters.superseded += 1;
                true
            }
            Phase::Cooling { .. } => true,
        };
        let failures = core::mem::take(&mut entry.failures);
        entry.phase = Phase::Ready {
            number: attempt.number,
        };
        entry.permit = None;
        let counter = match late {
            true => &mut self.counters.late,
            false => &mut self.counters.passed,
        };
        *counter += 1;
        self.counters.recoveries += u64::from(failures > 0);
        let kind = TransitionKind::Published { failures, late };
        Some(self.checked(Transition::of(attempt, kind)))
    }

    /// An attempt has failed. What is not the present attempt for its key changes nothing: a late
    /// failure never replaces a success.
    pub fn failed(
        &mut self,
        attempt: Attempt,
        class: FailureClass,
        now: Instant,
    ) -> Option<Transition> {
        let entry = self.entries.get_mut(&attempt.key)?;
        if entry.phase != (Phase::Compiling { attempt }) {
            return None;
        }
        self.counters.failed[class as usize] += 1;
        let (failures, not_before) = entry.cool(class, now, &self.delays);
        let kind = TransitionKind::Failed {
            class,
            failures,
            not_before,
        };
        Some(self.checked(Transition::of(attempt, kind)))
    }

    /// What attempt `number` had given has failed in use. If that changes something, it is to be
    /// withdrawn; if not, it is not in use any more.
    pub fn withdrawn(
        &mut self,
        key: KeyId,
        number: u64,
        class: FailureClass,
        now: Instant,
    ) -> Option<Transition> {
        let entry = self.entries.get_mut(&key)?;
        if entry.phase != (Phase::Ready { number }) {
            return None;
        }
        self.counters.withdrawn += 1;
        let (failures, not_before) = entry.cool(class, now, &self.delays);
        let kind = TransitionKind::Withdrawn {
            class,
            failures,
            not_before,
        };
        Some(self.checked(Transition { key, number, kind }))
    }

    /// The epochs that follow are of `run`; whether that is another run than before. Its epochs
    /// begin anew; what cools goes on cooling.
    pub fn begin_run(&mut self, run: RunId) -> bool {
        let news = self.run.replace(run).is_some_and(|last| last != run);
        if news {
            self.epoch = None;
        }
        self.checked(news)
    }

    /// An epoch begins: each key whose delay is over may be compiled once, if that begins within
    /// `left`, and should then be done by the end of it. What was allowed before and did not begin
    /// is allowed no more; attempts past their deadline are given up, and cool from now on.
    ///
    /// The same epoch again, or an earlier one, changes nothing.
    pub fn apply_epoch(&mut self, epoch: Epoch, now: Instant, left: Duration) -> Permits {
        if self.epoch.is_some_and(|last| epoch <= last) {
            return Permits::default();
        }
        self.epoch = Some(epoch);
        let mut permits = Permits {
            news: true,
            ..Permits::default()
        };
        let first = self.config.first;
        for entry in self.entries.values_mut() {
            entry.permit = None;
            match entry.phase {
                Phase::Compiling { attempt } if attempt.deadline < now => {
                    let class = FailureClass::Overdue;
                    self.counters.failed[class as usize] += 1;
                    let (failures, not_before) = entry.cool(class, now, &self.delays);
                    let kind = TransitionKind::Failed {
                        class,
                        failures,
                        not_before,
                    };
                    permits.overdue.push(Transition::of(attempt, kind));
                    continue;
                }
                Phase::Cooling { not_before, .. } if not_before <= now => {}
                Phase::Vacant if first == FirstCompile::AtEpoch => {}
                _ => continue,
            }
            entry.permit = Some(now + left);
            permits.granted += 1;
        }
        self.checked(permits)
    }

    /// Adds calls that were answered.
    pub fn called(&mut self, compiled: u64, eager: u64) {
        self.counters.compiled = self.counters.compiled.saturating_add(compiled);
        self.counters.eager = self.counters.eager.saturating_add(eager);
    }

    /// How often what has happened.
    #[must_use]
    pub const fn counters(&self) -> CompileCounters {
        self.counters
    }

    /// Where a key is; `None` if there is none such.
    #[must_use]
    pub fn phase(&self, key: KeyId) -> Option<Phase> {
        Some(self.entries.get(&key)?.phase)
    }

    /// The bounds.
    #[must_use]
    pub const fn config(&self) -> &CompileConfig {
        &self.config
    }

    /// Whether every property of [`invariants`] holds.
    ///
    /// # Errors
    /// The first that does not, with what was found.
    pub fn validate(&self) -> Result<(), InvariantViolation> {
        invariants::check(self)
    }

    /// Returns `value`, having checked in debug builds that all is well.
    fn checked<T>(&self, value: T) -> T {
        debug_assert_eq!(self.validate(), Ok(()));
        value
    }
}

impl Entry {
    /// Begins to cool; how often it has failed in a row, and until when.
    fn cool(&mut self, class: FailureClass, now: Instant, delays: &Delays) -> (u64, Instant) {
        self.failures += 1;
        self.permit = None;
        let not_before = now + delays.after(class, self.failures);
        self.phase = Phase::Cooling { class, not_before };
        (self.failures, not_before)
    }
}

impl Transition {
    const fn of(attempt: Attempt, kind: TransitionKind) -> Self {
        Transition {
            key: attempt.key,
            number: attempt.number,
            kind,
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}", self.0)
    }
}
