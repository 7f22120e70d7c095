//! [`CompileCounters`]: how often what happened, for whoever wonders why training is slow.

use super::config::FailureClass;

/// How often what happened in one cache.
///
/// Calls are counted by each [`StepHandle`](super::StepHandle) for itself, without touching
/// anything shared, and added when it next takes the lock: at the latest at its first call after
/// an epoch began, when it is flushed and when it is dropped.
///
/// ```
/// use selvedge_core::train::compiled_step::CompileCounters;
///
/// let counters = CompileCounters { compiled: 30, eager: 10, ..CompileCounters::default() };
/// assert_eq!(counters.compiled_share(), Some(0.75));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CompileCounters {
    /// Calls that what was compiled has answered, first executions included.
    pub compiled: u64,
    /// Calls that were answered eagerly although compiling was wanted.
    pub eager: u64,
    /// Compiles that were begun.
    pub attempts: u64,
    /// Of these: passed, first execution and all, within their time.
    pub passed: u64,
    /// Of these: failed, by [`FailureClass`], in the order of [`FailureClass::ALL`].
    pub failed: [u64; FailureClass::ALL.len()],
    /// Of these: still under way when another attempt for the key passed, or the key was
    /// forgotten. What comes of them counts no more.
    pub superseded: u64,
    /// Passed after their time, when they had been counted as failed, and were published.
    pub late: u64,
    /// Failures in use: what had been published was withdrawn.
    pub withdrawn: u64,
    /// Times a key that had failed was compiled again.
    pub recoveries: u64,
    /// Keys that were used too late in an epoch for what it had allowed: they ran eagerly.
    pub lapsed: u64,
    /// Times that there was no room for a key.
    pub refused_keys: u64,
}

impl CompileCounters {
    /// Attempts that failed, of whatever class.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failed.iter().sum()
    }

    /// Attempts that failed so.
    #[must_use]
    pub const fn failures_of(&self, class: FailureClass) -> u64 {
        self.failed[class as usize]
    }

    /// The share of calls that were answered by what was compiled, in [0, 1]; `None` before the
    /// first.
    #[must_use]
    pub fn compiled_share(&self) -> Option<f64> {
        let calls = self.compiled.saturating_add(self.eager);
        (calls > 0).then(|| self.compiled as f64 / calls as f64)
    }
}
