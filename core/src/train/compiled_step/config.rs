//! How often a compile is tried again: all of it is values, so that what is tested is what ships.

use core::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use thiserror::Error;

/// Why a compile, or the execution of what it gave, came to nothing. Each class has a delay of
/// its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureClass {
    /// It may well pass in some seconds: the device's memory was full, a driver hiccuped.
    Transient,
    /// It will fail again until something else changes: an operation that cannot be compiled.
    Deterministic,
    /// It panicked.
    Panicked,
    /// It has not come back by its deadline.
    Overdue,
}

impl FailureClass {
    /// All of them, in the order of the counters.
    pub const ALL: [FailureClass; 4] = [
        FailureClass::Transient,
        FailureClass::Deterministic,
        FailureClass::Panicked,
        FailureClass::Overdue,
    ];

    /// Its name in events and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            FailureClass::Transient => "transient",
            FailureClass::Deterministic => "deterministic",
            FailureClass::Panicked => "panicked",
            FailureClass::Overdue => "overdue",
        }
    }
}

/// Delays after the failures of one key: `base`, twice that, and so on up to `cap`. The key's
/// failures since its last success are counted, of whatever class; the class of the last one says
/// which delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    /// After the first failure.
    pub base: Duration,
    /// No delay is longer.
    pub cap: Duration,
}

impl Backoff {
    /// The delays in turn; the last is the cap.
    fn delays(self) -> Vec<Duration> {
        let each = ExponentialBuilder::new()
            .with_factor(2.0)
            .with_min_delay(self.base)
            .with_max_delay(self.cap)
            .without_max_times()
            // It never draws, being without jitter; unless told a seed it would ask for one.
            .with_jitter_seed(0)
            .build();
        let mut delays = Vec::new();
        for delay in each {
            delays.push(delay.min(self.cap));
            if delay >= self.cap {
                break;
            }
        }
        delays
    }
}

/// When a key is compiled for the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FirstCompile {
    /// As soon as it is used.
    #[default]
    AtUse,
    /// As soon as it is used after the next epoch's beginning: for a job none of whose steps may
    /// take longer than the others.
    AtEpoch,
}

/// The bounds of a [`CompiledStep`](super::CompiledStep).
///
/// ```
/// use core::time::Duration;
/// use selvedge_core::train::compiled_step::{Backoff, CompileConfig};
///
/// let config = CompileConfig {
///     transient: Backoff { base: Duration::from_secs(5), cap: Duration::from_secs(60) },
///     ..CompileConfig::default()
/// };
/// assert!(config.check().is_ok());
///
/// let refused = CompileConfig { patience: Duration::from_secs(60), ..config }.check();
/// assert_eq!(
///     refused.unwrap_err().to_string(),
///     "patience is 60s; it must be shorter than step_deadline, which is 30s",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CompileConfig {
    /// Keys at once; what is asked for beyond runs eagerly and is counted. Default 64.
    pub max_keys: u32,
    /// When a key is compiled for the first time. Default: at its first use.
    pub first: FirstCompile,
    /// How long an attempt may take, its first execution included. Default 10 s.
    pub patience: Duration,
    /// When somebody stops to wait for the step that the attempt is part of, as other ranks do.
    /// It is here to be compared with: patience must be shorter. Default 30 s.
    pub step_deadline: Duration,
    /// Delays after a transient failure. Default 2 s to 5 min.
    pub transient: Backoff,
    /// Delays after a failure that would only repeat itself. Default 5 min to 6 h.
    pub deterministic: Backoff,
    /// Delays after a panic. Default 1 min to 6 h.
    pub panicked: Backoff,
    /// Delays after an attempt that has not come back in time. Default 1 min to 6 h.
    pub overdue: Backoff,
}

impl Default for CompileConfig {
    fn default() -> Self {
        let from_to = |base, cap| Backoff {
            base: Duration::from_secs(base),
            cap: Duration::from_secs(cap),
        };
        let (minute, hour) = (60, 3_600);
        CompileConfig {
            max_keys: 64,
            first: FirstCompile::AtUse,
            patience: Duration::from_secs(10),
            step_deadline: Duration::from_secs(30),
            transient: from_to(2, 5 * minute),
            deterministic: from_to(5 * minute, 6 * hour),
            panicked: from_to(minute, 6 * hour),
            overdue: from_to(minute, 6 * hour),
        }
    }
}

impl CompileConfig {
    /// The longest cap there may be. What cools for longer than a day has been given up.
    pub const MOST_CAP: Duration = Duration::from_secs(24 * 60 * 60);

    /// Whether a cache can run by it.
    ///
    /// # Errors
    /// Each of [`ConfigError`], naming the field.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.max_keys == 0 {
            return Err(ConfigError::Zero { field: "max_keys" });
        }
        if self.patience.is_zero() {
            return Err(ConfigError::Zero { field: "patience" });
        }
        if self.patience >= self.step_deadline {
            return Err(ConfigError::Patience {
                patience: self.patience,
                step_deadline: self.step_deadline,
            });
        }
        for class in FailureClass::ALL {
            let (field, Backoff { base, cap }) = (class.name(), self.backoff(class));
            let most = CompileConfig::MOST_CAP;
            if base < LEAST_BASE {
                let least = LEAST_BASE;
                return Err(ConfigError::Base { field, base, least });
            }
            if cap < base {
                return Err(ConfigError::CapBelowBase { field, base, cap });
            }
            if cap > most {
                return Err(ConfigError::Cap { field, cap, most });
            }
        }
        Ok(())
    }

    /// The delays after failures of a class.
    #[must_use]
    pub const fn backoff(&self, class: FailureClass) -> Backoff {
        match class {
            FailureClass::Transient => self.transient,
            FailureClass::Deterministic => self.deterministic,
            FailureClass::Panicked => self.panicked,
            FailureClass::Overdue => self.overdue,
        }
    }
}

/// With less, doubling could not be told from standing still: the delays come out of floats.
const LEAST_BASE: Duration = Duration::from_micros(1);

/// The delays of every class, computed once: what decides is integers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Delays([Vec<Duration>; FailureClass::ALL.len()]);

impl Delays {
    /// Of a configuration that was checked.
    pub(super) fn of(config: &CompileConfig) -> Self {
        Delays(FailureClass::ALL.map(|class| config.backoff(class).delays()))
    }

    /// What to wait after failure number `failures` in a row, counted from 1.
    pub(super) fn after(&self, class: FailureClass, failures: u64) -> Duration {
        let delays = &self.0[class as usize];
        let last = delays.len() - 1;
        let nth = usize::try_from(failures.saturating_sub(1)).unwrap_or(last);
        delays[nth.min(last)]
    }
}

/// Why a configuration was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A bound of 0 would serve nobody: give at least 1.
    #[error("{field} is 0; it must be more")]
    Zero {
        /// The field's name.
        field: &'static str,
    },
    /// Who compiles for longer than others wait loses more than a fast step.
    #[error(
        "patience is {patience:?}; it must be shorter than step_deadline, which is {step_deadline:?}"
    )]
    Patience {
        /// How long an attempt may take.
        patience: Duration,
        /// How long others wait.
        step_deadline: Duration,
    },
    /// So short a delay is none.
    #[error("{field}.base is {base:?}; it must be at least {least:?}")]
    Base {
        /// The field's name.
        field: &'static str,
        /// The first delay.
        base: Duration,
        /// The shortest there may be.
        least: Duration,
    },
    /// The longest delay is shorter than the first: swap them.
    #[error("{field}.cap is {cap:?}, less than {field}.base, which is {base:?}")]
    CapBelowBase {
        /// The field's name.
        field: &'static str,
        /// The first delay.
        base: Duration,
        /// The longest.
        cap: Duration,
    },
    /// So long a delay is for ever under another name.
    #[error(
        "{field}.cap is {cap:?}; it must be at most {most:?}, or a failure is for ever after all"
    )]
    Cap {
        /// The field's name.
        field: &'static str,
        /// The longest delay.
        cap: Duration,
        /// The longest there may be.
        most: Duration,
    },
}
