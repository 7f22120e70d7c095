//! What a run came to, and the forms it is written in.

pub mod cross;
pub mod html;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod night;
pub mod seeds;
pub mod table;

use std::time::Duration;

use selvedge_sim::explorer::Escalation;
use selvedge_sim::model::Figures;
use selvedge_sim::{Class, Engine, Size, Variant, Verdict};

use crate::Scenario;
use crate::cli::Exit;

/// How small a failing execution was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ShrunkSizes {
    /// As it was found.
    pub before: Size,
    /// As its seed has it.
    pub after: Size,
    /// Whether every schedule with fewer preemptions was tried, and none fails so.
    pub least: bool,
}

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
    /// Whether the verdict is below the class that was required.
    pub below_required: bool,
    /// Whether there was time to start it at all.
    pub started: bool,
    /// Every probe reached.
    pub reached: Vec<String>,
    /// Every different observation, up to a bound.
    pub observations: Vec<String>,
    /// Whether there were more than the bound.
    pub more_observations: bool,
    /// What reproduces a violation.
    pub seed: Option<String>,
    /// What became of its size, where it was made smaller.
    pub shrunk: Option<ShrunkSizes>,
    /// The bounded searches that took the place of the explorer's full one, if they did.
    pub escalation: Option<Escalation>,
    /// What the search of a model cost.
    pub figures: Option<Figures>,
    /// Wall-clock time.
    pub took: Duration,
}

/// A unit that the budget has no room for, so that it was not even planned.
#[derive(Debug)]
pub struct LeftOut {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// Which body.
    pub variant: Variant,
    /// Under which engine.
    pub engine: Engine,
    /// The least budget that has room.
    pub needs: Duration,
}

impl UnitReport {
    /// A unit that did not run, and why.
    #[must_use]
    pub fn not_started(
        scenario: &'static Scenario,
        variant: Variant,
        engine: Engine,
        why: &str,
    ) -> Self {
        UnitReport {
            scenario,
            variant,
            engine,
            verdict: Verdict::BudgetEnded { executions: 0 },
            surprise: Some(why.to_owned()),
            below_required: false,
            started: false,
            reached: Vec::new(),
            observations: Vec::new(),
            more_observations: false,
            seed: None,
            shrunk: None,
            escalation: None,
            figures: None,
            took: Duration::ZERO,
        }
    }

    /// A unit that could not be run.
    #[must_use]
    pub fn failed(
        scenario: &'static Scenario,
        variant: Variant,
        engine: Engine,
        error: &std::io::Error,
    ) -> Self {
        let what = format!("the child could not be run: {error}");
        UnitReport {
            verdict: Verdict::EngineError {
                what: what.clone(),
                executions: 0,
            },
            started: true,
            ..UnitReport::not_started(scenario, variant, engine, &what)
        }
    }

    /// Whether more time could have shown more: the search did not end, or only within a bound
    /// that time set.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        match self.verdict.class() {
            Class::BudgetEnded => true,
            Class::Bounded => self.escalation.is_some(),
            _ => false,
        }
    }

    /// Holds the unit to a class: a shipped body's verdict below it is not as expected.
    pub fn require(&mut self, class: Class) {
        let got = self.verdict.class();
        // Of a model there is no more to see than what is within its boundary.
        let complete = self.engine == Engine::Stateright && got == Class::Bounded;
        if complete || self.variant != Variant::Shipped || self.surprise.is_some() {
            return;
        }
        if got < class {
            self.below_required = true;
            self.surprise = Some(format!("{got} is below the required {class}"));
        } else if self.was_cut() && class != Class::Bounded {
            // A bound that time set is no pass, unless somebody said that it is enough.
            self.below_required = true;
            self.surprise = Some(format!(
                "{}; `--require bounded` takes that for enough",
                self.verdict.scope()
            ));
        }
    }
}

/// A whole run.
#[derive(Debug)]
pub struct RunReport {
    /// Every unit, in the order of the plan.
    pub units: Vec<UnitReport>,
    /// What explorer and loom observed of the same bodies, in the same order.
    pub cross: Vec<cross::Comparison>,
    /// What the budget had no room for.
    pub left_out: Vec<LeftOut>,
    /// How the program ends.
    pub exit: Exit,
    /// Whether somebody interrupted it.
    pub interrupted: bool,
    /// The time it had.
    pub budget: Duration,
    /// The time it took.
    pub took: Duration,
}
