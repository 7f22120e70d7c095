//! What a run came to. **Never a bare pass**: every class says what was explored.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What kind of thing went wrong.
///
/// ```
/// use selvedge_sim::FailureKind;
///
/// assert_ne!(FailureKind::Deadlock, FailureKind::Liveness);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// A property does not hold, or the code panicked.
    Property,
    /// Nobody can go on.
    Deadlock,
    /// Nobody gets anywhere: the step bound was reached, or an execution hung.
    Liveness,
    /// What should be the same execution again was another one.
    Nondeterminism,
}

/// A property found not to hold.
///
/// ```
/// use selvedge_sim::explorer::{Explorer, SearchEnd};
/// use selvedge_sim::{FailureKind, Observation};
///
/// let body = || -> Observation { panic!("row {} is missing", 12) };
/// let SearchEnd::Violated { failure, .. } = Explorer::default().run(body).end else { panic!() };
/// assert_eq!(failure.kind, FailureKind::Property);
/// // Numbers may differ between executions of one bug.
/// assert_eq!(failure.signature, "panic: row # is missing");
/// assert_eq!(failure.detail, "row 12 is missing");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind it is.
    pub kind: FailureKind,
    /// Short and stable: equal for equal bugs.
    pub signature: String,
    /// What was found this time.
    pub detail: String,
    /// Where: `file:line`.
    pub location: String,
}

/// The verdict on one unit: one body under one engine.
///
/// ```
/// use selvedge_sim::{Class, Verdict};
///
/// let verdict = Verdict::Exhausted { executions: 30, memory_model: "SC" };
/// assert_eq!((verdict.class(), verdict.executions()), (Class::Exhausted, 30));
/// assert_eq!((verdict.scope(), verdict.failure()), ("SC".to_owned(), None));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The search ended by itself: everything this memory model allows was explored.
    Exhausted {
        /// Executions it took.
        executions: u64,
        /// Under which rules.
        memory_model: &'static str,
    },
    /// The search ended by itself within a bound: nothing is said past it.
    Bounded {
        /// The bound.
        bound: String,
        /// Executions it took.
        executions: u64,
    },
    /// So many executions were drawn, and all were well. Nothing is said about the others.
    Sampled {
        /// How many.
        executions: u64,
        /// How they were drawn.
        strategy: String,
    },
    /// Time ran out. This is no pass.
    BudgetEnded {
        /// Executions done by then.
        executions: u64,
    },
    /// A property does not hold.
    Violated {
        /// Which.
        failure: Failure,
        /// The execution that showed it, counted from 1.
        executions: u64,
    },
    /// The engine or the bed itself failed. This is no pass either.
    EngineError {
        /// How.
        what: String,
        /// Executions done by then.
        executions: u64,
    },
}

/// A verdict's class alone.
///
/// ```
/// use selvedge_sim::Class;
///
/// assert_eq!("exhausted".parse(), Ok(Class::Exhausted));
/// assert_eq!(Class::BudgetEnded.name(), "BudgetEnded");
/// assert!(Class::BudgetEnded < Class::Sampled, "a search cut short is less than a sample");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The engine failed.
    EngineError,
    /// A property does not hold.
    Violated,
    /// Time ran out.
    BudgetEnded,
    /// Executions were drawn.
    Sampled,
    /// Everything within a bound.
    Bounded,
    /// Everything.
    Exhausted,
}

impl Class {
    const ALL: [Class; 6] = [
        Class::EngineError,
        Class::Violated,
        Class::BudgetEnded,
        Class::Sampled,
        Class::Bounded,
        Class::Exhausted,
    ];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Class::EngineError => "EngineError",
            Class::Violated => "Violated",
            Class::BudgetEnded => "BudgetEnded",
            Class::Sampled => "Sampled",
            Class::Bounded => "Bounded",
            Class::Exhausted => "Exhausted",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Class {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Class::ALL
            .into_iter()
            .find(|class| class.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            format!("there is no verdict class '{text}'; a run can be required to be sampled, bounded or exhausted")
        })
    }
}

impl Verdict {
    /// Its class.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Verdict::Exhausted { .. } => Class::Exhausted,
            Verdict::Bounded { .. } => Class::Bounded,
            Verdict::Sampled { .. } => Class::Sampled,
            Verdict::BudgetEnded { .. } => Class::BudgetEnded,
            Verdict::Violated { .. } => Class::Violated,
            Verdict::EngineError { .. } => Class::EngineError,
        }
    }

    /// Executions done.
    #[must_use]
    pub fn executions(&self) -> u64 {
        match self {
            Verdict::Exhausted { executions, .. }
            | Verdict::Bounded { executions, .. }
            | Verdict::Sampled { executions, .. }
            | Verdict::BudgetEnded { executions }
            | Verdict::Violated { executions, .. }
            | Verdict::EngineError { executions, .. } => *executions,
        }
    }

    /// What was found not to hold, if anything was.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Verdict::Violated { failure, .. } => Some(failure),
            _ => None,
        }
    }

    /// Under which bound, memory model or strategy; what failed where it failed.
    #[must_use]
    pub fn scope(&self) -> String {
        match self {
            Verdict::Exhausted { memory_model, .. } => (*memory_model).to_owned(),
            Verdict::Bounded { bound, .. } => bound.clone(),
            Verdict::Sampled { strategy, .. } => strategy.clone(),
            Verdict::BudgetEnded { .. } => "time ran out".to_owned(),
            Verdict::Violated { failure, .. } => failure.signature.clone(),
            Verdict::EngineError { what, .. } => what.clone(),
        }
    }
}
