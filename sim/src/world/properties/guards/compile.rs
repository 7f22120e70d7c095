//! **Never given up for good:** a step that failed to compile is tried again once its delay is
//! over and an epoch begins; it is tried no more often than that; and what is used has been run
//! through once.

use std::collections::BTreeSet;

use selvedge_core::ddp::Rank;
use selvedge_core::train::compiled_step::{CompileCounters, Phase};

use super::super::{Broken, Kept};

/// Epochs in a row in which nothing is in the way of a compile that would pass.
const PATIENCE: u32 = 3;

/// What is known of a life of a rank.
#[derive(Debug, Default)]
pub(in crate::world) struct Compiles {
    /// What was run through, by the number of its attempt.
    executed: BTreeSet<u64>,
    /// Attempts that might be made.
    permits: u64,
    /// Epochs that began with a compiler that works, and nothing compiled.
    idle: u32,
}

impl Compiles {
    /// A key may be tried once without an epoch.
    pub(in crate::world) fn admits(&mut self) {
        self.permits += 1;
    }

    /// What an attempt gave was run through.
    pub(in crate::world) fn executes(&mut self, attempt: u64) {
        self.executed.insert(attempt);
    }

    /// An epoch begins. `ready_for`: nothing is in the way of a compile, which would pass.
    pub(in crate::world) fn epoch(
        &mut self,
        rank: Rank,
        granted: u32,
        phase: Option<Phase>,
        ready_for: bool,
    ) -> Kept {
        self.permits += u64::from(granted);
        let compiled = matches!(phase, Some(Phase::Ready { .. }));
        self.idle = match ready_for && !compiled {
            true => self.idle + 1,
            false => 0,
        };
        match self.idle <= PATIENCE {
            true => Ok(()),
            false => Err(Broken::new(
                "never-for-ever",
                format!(
                    "{rank} has a compiler that works, {} epochs have begun, and its step is \
                     {phase:?}",
                    self.idle
                ),
            )),
        }
    }

    /// What is in the way is in the way.
    pub(in crate::world) fn interrupted(&mut self) {
        self.idle = 0;
    }

    pub(in crate::world) fn looks(
        &self,
        rank: Rank,
        counters: CompileCounters,
        phase: Option<Phase>,
    ) -> Kept {
        if counters.attempts > self.permits {
            let text = format!(
                "{rank} has made {} attempts to compile; {} were allowed",
                counters.attempts, self.permits
            );
            return Err(Broken::new("attempts-bounded", text));
        }
        match phase {
            Some(Phase::Ready { number }) if !self.executed.contains(&number) => Err(Broken::new(
                "first-execution",
                format!("{rank} uses what attempt {number} gave, which was never run through"),
            )),
            _ => Ok(()),
        }
    }
}
