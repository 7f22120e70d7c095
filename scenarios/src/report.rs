//! What a run came to, and the forms it is written in.

pub mod json;
pub mod junit;
pub mod seeds;
pub mod table;

use std::time::Duration;

use selvedge_sim::{Engine, Variant, Verdict};

use crate::Scenario;
use crate::cli::Exit;

/// One unit's end.
#[derive(Debug)]
pub struct UnitReport {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// Which body.
    pub variant: Variant,
    /// Under which engine.
    pub engine: Engine,
    /// The verdict.
    pub verdict: Verdict,
    /// Why that is not what was expected, if it is not.
    pub surprise: Option<String>,
    /// Whether there was time to start it at all.
    pub started: bool,
    /// Every probe reached.
    pub reached: Vec<String>,
    /// Every different observation.
    pub observations: Vec<String>,
    /// What reproduces a violation.
    pub seed: Option<String>,
    /// Wall-clock time.
    pub took: Duration,
}

impl UnitReport {
    /// A unit that the budget had no time for.
    #[must_use]
    pub fn not_started(scenario: &'static Scenario, variant: Variant, engine: Engine) -> Self {
        UnitReport {
            scenario,
            variant,
            engine,
            verdict: Verdict::BudgetEnded { executions: 0 },
            surprise: Some("not started: time ran out".to_owned()),
            started: false,
            reached: Vec::new(),
            observations: Vec::new(),
            seed: None,
            took: Duration::ZERO,
        }
    }
}

/// A whole run.
#[derive(Debug)]
pub struct RunReport {
    /// Every unit, in the order of the plan.
    pub units: Vec<UnitReport>,
    /// How the program ends.
    pub exit: Exit,
    /// Whether somebody interrupted it.
    pub interrupted: bool,
    /// The time it had.
    pub budget: Duration,
    /// The time it took.
    pub took: Duration,
}
