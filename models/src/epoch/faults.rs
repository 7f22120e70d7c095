//! What may go wrong, and how often.

use std::fmt;

/// A budget of faults. Each is taken wherever it can be, also inside a collective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Ranks that die.
    pub crashes: u8,
    /// Dead or failed ranks that begin another life.
    pub restarts: u8,
    /// Live ranks that are taken for dead.
    pub suspicions: u8,
    /// Collectives that come to nothing for a rank, though nobody has died.
    pub failed_steps: u8,
    /// Deaths of the coordinator.
    pub coordinator_crashes: u8,
    /// Further lives of the coordinator.
    pub coordinator_restarts: u8,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Faults = Faults {
        crashes: 0,
        restarts: 0,
        suspicions: 0,
        failed_steps: 0,
        coordinator_crashes: 0,
        coordinator_restarts: 0,
    };

    /// A rank dies, one rejoins, one is falsely suspected.
    pub const RANKS: Faults = Faults {
        crashes: 1,
        restarts: 1,
        suspicions: 1,
        ..Faults::NONE
    };

    /// A rank dies, one rejoins; the coordinator dies and comes back.
    pub const COORDINATOR: Faults = Faults {
        suspicions: 0,
        coordinator_crashes: 1,
        coordinator_restarts: 1,
        ..Faults::RANKS
    };

    /// Each of the five once.
    pub const ALL: Faults = Faults {
        suspicions: 1,
        ..Faults::COORDINATOR
    };
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (self.crashes, "crash"),
            (self.restarts, "rejoin"),
            (self.suspicions, "false suspicion"),
            (self.failed_steps, "failed step"),
            (self.coordinator_crashes, "coordinator crash"),
            (self.coordinator_restarts, "coordinator restart"),
        ];
        let most: Vec<String> = (kinds.iter())
            .filter(|(n, _)| *n > 0)
            .map(|(n, kind)| format!("{n} {kind}"))
            .collect();
        match most.is_empty() {
            true => f.write_str("no faults"),
            false => write!(f, "at most {}", most.join(", ")),
        }
    }
}
