//! What a shard writes down: one JSON object a line, the header first.

use std::time::Duration;

use selvedge_sim::explorer::Escalation;
use selvedge_sim::model::Figures;
use selvedge_sim::{Class, Engine, Failure, Variant, Verdict};
use serde::{Deserialize, Serialize};

use super::{Inputs, Piece, Plan, PlanUnit, Shard};
use crate::report::{ShrunkSizes, UnitReport};
use crate::{Scenario, registry};

/// Of the records' form. A program reads what it writes, and no other.
pub const SCHEMA: u32 = 1;

/// One line of a shard's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Line {
    /// The first: what the file is of.
    Header(Header),
    /// A process begins to work on the shard: the first, or one that goes on.
    Session {
        /// Counted from 1.
        session: u32,
        /// The time it has, in seconds.
        budget_s: u64,
    },
    /// A planted bug was looked for, which every session does before anything else.
    Canary {
        /// In which session.
        session: u32,
        /// What came of it.
        ran: Box<Ran>,
    },
    /// A piece was run.
    Piece {
        /// In which session.
        session: u32,
        /// What came of it.
        ran: Box<Ran>,
    },
    /// A unit that this session's budget has no room for.
    LeftOut {
        /// In which session.
        session: u32,
        /// The scenario's id.
        scenario: String,
        /// Which body.
        variant: Variant,
        /// Under which engine.
        engine: String,
        /// The least budget that has room, in seconds.
        needs_s: u64,
    },
    /// The process is about to end by itself.
    End {
        /// In which session.
        session: u32,
        /// Why.
        how: Ended,
    },
}

/// Why a session ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Nothing is left to do.
    Done,
    /// Time ran out.
    Budget,
    /// Somebody interrupted it.
    Interrupted,
}

/// What a shard's file is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Header {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The program's version.
    pub version: String,
    /// The plan's hash.
    pub plan: String,
    /// What the plan was made of.
    pub inputs: Inputs,
    /// Which shard.
    pub shard: Shard,
    /// How many pieces it has.
    pub pieces: usize,
}

impl Header {
    /// The header of a plan's shard.
    #[must_use]
    pub fn of(plan: &Plan, shard: Shard) -> Self {
        Header {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            plan: plan.hash(),
            inputs: plan.inputs.clone(),
            shard,
            pieces: plan.part(shard).len(),
        }
    }
}

/// What came of a piece, or of the pieces of a unit together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    /// The scenario's id.
    pub scenario: String,
    /// Which body.
    pub variant: Variant,
    /// Under which engine, as `--engine` takes it.
    pub engine: String,
    /// Which interval of the unit, from 0.
    pub interval: u32,
    /// What it drew from.
    pub drawn_from: u64,
    /// The verdict's class.
    pub verdict: String,
    /// Memory model, bound or strategy; what failed where the engine did.
    pub scope: String,
    /// Executions, or a model's states.
    pub executions: u64,
    /// What was found not to hold.
    pub failure: Option<Failure>,
    /// Every probe reached.
    pub reached: Vec<String>,
    /// Every different observation, up to a bound.
    pub observations: Vec<String>,
    /// Whether there were more than the bound.
    pub more_observations: bool,
    /// What reproduces the failure.
    pub seed: Option<String>,
    /// Its size before and after it was made smaller.
    pub shrunk: Option<ShrunkSizes>,
    /// The bounded searches that took the place of the explorer's full one, if they did.
    pub escalation: Option<Escalation>,
    /// What the search of a model cost.
    pub figures: Option<Figures>,
    /// Wall-clock time.
    pub took_ms: u64,
}

impl Ran {
    /// The record of what came of a unit's interval.
    #[must_use]
    pub fn of(report: &UnitReport, interval: u32, drawn_from: u64) -> Self {
        Ran {
            scenario: report.scenario.id.to_owned(),
            variant: report.variant,
            engine: report.engine.to_string(),
            interval,
            drawn_from,
            verdict: report.verdict.class().name().to_owned(),
            scope: report.verdict.scope(),
            executions: report.verdict.executions(),
            failure: report.verdict.failure().cloned(),
            reached: report.reached.clone(),
            observations: report.observations.clone(),
            more_observations: report.more_observations,
            seed: report.seed.clone(),
            shrunk: report.shrunk,
            escalation: report.escalation.clone(),
            figures: report.figures,
            took_ms: u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Which piece of the plan it is of.
    #[must_use]
    pub fn piece(&self, plan: &Plan) -> Option<Piece> {
        let unit = plan.units.iter().position(|unit| self.is_of(unit))?;
        (self.interval < plan.units[unit].intervals).then_some(Piece {
            unit,
            interval: self.interval,
        })
    }

    /// Whether it is of this unit.
    #[must_use]
    pub fn is_of(&self, unit: &PlanUnit) -> bool {
        (&*self.scenario, self.variant, &*self.engine)
            == (&*unit.scenario, unit.variant, &*unit.engine)
    }

    /// The verdict's class.
    #[must_use]
    pub fn class(&self) -> Class {
        // What names no class is of no use, whatever it says.
        self.verdict.parse().unwrap_or(Class::EngineError)
    }

    /// Whether more time could have shown more.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        match self.class() {
            Class::BudgetEnded => true,
            Class::Bounded => self.escalation.is_some(),
            _ => false,
        }
    }

    /// The report of the unit; `None` where this program has no such scenario or engine.
    #[must_use]
    pub fn report(&self) -> Option<UnitReport> {
        let scenario: &'static Scenario = registry::find(&self.scenario)?;
        let engine: Engine = self.engine.parse().ok()?;
        Some(UnitReport {
            verdict: self.full_verdict(engine),
            surprise: None,
            started: true,
            reached: self.reached.clone(),
            observations: self.observations.clone(),
            more_observations: self.more_observations,
            seed: self.seed.clone(),
            shrunk: self.shrunk,
            escalation: self.escalation.clone(),
            figures: self.figures,
            took: Duration::from_millis(self.took_ms),
            ..UnitReport::not_started(scenario, self.variant, engine, "")
        })
    }

    fn full_verdict(&self, engine: Engine) -> Verdict {
        let (executions, scope) = (self.executions, self.scope.clone());
        match (self.class(), &self.failure) {
            (Class::Violated, Some(failure)) => Verdict::Violated {
                failure: failure.clone(),
                executions,
            },
            (Class::BudgetEnded, _) => Verdict::BudgetEnded { executions },
            (Class::Sampled, _) => Verdict::Sampled {
                executions,
                strategy: scope,
            },
            (Class::Bounded, _) => Verdict::Bounded {
                bound: scope,
                executions,
            },
            // The memory model is the engine's.
            (Class::Exhausted, _) => engine.verdict_when_complete(executions, ""),
            (Class::Violated | Class::EngineError, _) => Verdict::EngineError {
                what: scope,
                executions,
            },
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use selvedge_sim::FailureKind;

    use super::*;

    /// A shuttle interval of a classic that was well.
    pub(crate) fn ran(interval: u32, executions: u64) -> Ran {
        Ran {
            scenario: "lost-wakeup".to_owned(),
            variant: Variant::Shipped,
            engine: "shuttle".to_owned(),
            interval,
            drawn_from: u64::from(interval) + 100,
            verdict: "Sampled".to_owned(),
            scope: "2 random + 2 PCT + 2 URW; SC".to_owned(),
            executions,
            failure: None,
            reached: Vec::new(),
            observations: Vec::new(),
            more_observations: false,
            seed: None,
            shrunk: None,
            escalation: None,
            figures: None,
            took_ms: 3,
        }
    }

    /// The same, which failed.
    pub(crate) fn failed(interval: u32, executions: u64, signature: &str) -> Ran {
        Ran {
            verdict: "Violated".to_owned(),
            scope: signature.to_owned(),
            failure: Some(Failure {
                kind: FailureKind::Property,
                signature: signature.to_owned(),
                detail: format!("{signature}, in detail"),
                location: "a.rs:1".to_owned(),
            }),
            seed: Some(format!("seed-of-{signature}-{interval}")),
            ..ran(interval, executions)
        }
    }

    #[test]
    fn a_report_is_the_same_after_it_was_written_down() {
        let verdicts = [
            (
                "explorer",
                Verdict::Exhausted {
                    executions: 3,
                    memory_model: "SC",
                },
            ),
            (
                "loom",
                Verdict::Exhausted {
                    executions: 3,
                    memory_model: "C11 as loom models it",
                },
            ),
            (
                "loom:2",
                Verdict::Bounded {
                    bound: "two".to_owned(),
                    executions: 4,
                },
            ),
            (
                "shuttle",
                Verdict::Sampled {
                    executions: 5,
                    strategy: "luck".to_owned(),
                },
            ),
            ("native", Verdict::BudgetEnded { executions: 6 }),
            (
                "stateright",
                Verdict::EngineError {
                    what: "no".to_owned(),
                    executions: 7,
                },
            ),
            (
                "explorer:2",
                Verdict::Violated {
                    failure: failed(0, 8, "lost").failure.unwrap(),
                    executions: 8,
                },
            ),
        ];
        let scenario = registry::all()[0];
        for (engine, verdict) in verdicts {
            let report = UnitReport {
                verdict: verdict.clone(),
                reached: vec!["here".to_owned()],
                observations: vec!["this".to_owned()],
                started: true,
                ..UnitReport::not_started(scenario, Variant::Shipped, engine.parse().unwrap(), "")
            };
            let line = Line::Piece {
                session: 1,
                ran: Box::new(Ran::of(&report, 0, 9)),
            };
            let text = serde_json::to_string(&line).unwrap();
            assert!(!text.contains('\n'));
            let Line::Piece { ran, .. } = serde_json::from_str(&text).unwrap() else {
                panic!("{text}")
            };
            let again = ran.report().unwrap();
            assert_eq!(
                (again.verdict, again.engine),
                (verdict, report.engine),
                "{text}"
            );
            assert_eq!(again.reached, report.reached);
        }
    }
}
