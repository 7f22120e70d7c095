//! The cross-check: what explorer and loom observed of the same body, side by side.
//!
//! Two searches that each call themselves complete should come to the same set of outcomes. They
//! need not: loom loses some orders of steps (its issues 166 and 392), and the explorer has no
//! weak memory. So a difference is a fact about the engines, and each is declared by its scenario
//! with its reason. What differs undeclared, and what was declared and does not differ, is a
//! surprise of the run: either an engine is not as complete as its verdict says, or the code has
//! outcomes that no order of steps gives, and in both cases somebody has to look.

use std::collections::BTreeSet;

use selvedge_sim::{Class, Engine, Variant};

use super::UnitReport;
use crate::{Only, Scenario};

/// More outcomes than this are counted, not shown; the JSON has them all.
const MOST_SHOWN: usize = 3;
/// An outcome is shown up to here.
const LONGEST_SHOWN: usize = 160;

/// One body's outcomes under the explorer and under loom, both without a bound.
#[derive(Debug)]
pub struct Comparison {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// Which body.
    pub variant: Variant,
    /// Why there is nothing to compare, where there is not.
    pub not_compared: Option<String>,
    /// How many outcomes both saw.
    pub both: usize,
    /// What loom did not see.
    pub only_explorer: Vec<Finding>,
    /// What the explorer did not see.
    pub only_loom: Vec<Finding>,
    /// Why that is not what was declared, if it is not.
    pub surprise: Option<String>,
}

/// An outcome that only one of the two saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The outcome.
    pub outcome: String,
    /// Why the other did not see it, if that is known.
    pub why: Option<&'static str>,
}

/// Compares all bodies that ran under both engines without a bound, in the order of the units.
#[must_use]
pub fn compare(units: &[UnitReport]) -> Vec<Comparison> {
    let mut comparisons = Vec::new();
    for of_scenario in units.chunk_by(|a, b| a.scenario.id == b.scenario.id) {
        for variant in Variant::ALL {
            let under = |engine| {
                let mut units = of_scenario.iter();
                units.find(|unit| unit.variant == variant && unit.engine == engine)
            };
            let explorer = under(Engine::Explorer { preemptions: None });
            let loom = under(Engine::Loom { preemptions: None });
            if let (Some(explorer), Some(loom)) = (explorer, loom) {
                comparisons.push(Comparison::of(explorer, loom));
            }
        }
    }
    comparisons
}

impl Comparison {
    fn of(explorer: &UnitReport, loom: &UnitReport) -> Self {
        let (scenario, variant) = (explorer.scenario, explorer.variant);
        let mut comparison = Comparison {
            scenario,
            variant,
            not_compared: why_not(explorer, loom),
            both: 0,
            only_explorer: Vec::new(),
            only_loom: Vec::new(),
            surprise: None,
        };
        if comparison.not_compared.is_none() {
            let [by_explorer, by_loom]: [BTreeSet<&str>; 2] =
                [explorer, loom].map(|unit| unit.observations.iter().map(String::as_str).collect());
            let findings = |seen: &BTreeSet<&str>, other: &BTreeSet<&str>, only| {
                let missed = seen.difference(other);
                let find = |outcome: &&str| Finding {
                    outcome: (*outcome).to_owned(),
                    why: (scenario.differences(variant))
                        .find(|known| known.only == only && known.outcome == *outcome)
                        .map(|known| known.why),
                };
                missed.map(find).collect()
            };
            comparison.both = by_explorer.intersection(&by_loom).count();
            comparison.only_explorer = findings(&by_explorer, &by_loom, Only::Explorer);
            comparison.only_loom = findings(&by_loom, &by_explorer, Only::Loom);
        }
        // A unit that was cut short or failed is told by its own verdict.
        let was_cut = [explorer, loom]
            .iter()
            .any(|unit| unit.was_cut() || unit.verdict.class() == Class::EngineError);
        if !was_cut {
            comparison.surprise = comparison.judge();
        }
        comparison
    }

    /// Whether the two saw the same outcomes.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.not_compared.is_none() && self.only_explorer.is_empty() && self.only_loom.is_empty()
    }

    /// What only one of the two saw, a line each; of many the first few, and how many more.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let sides = [
            (Only::Explorer, &self.only_explorer, "loom lost it"),
            (Only::Loom, &self.only_loom, "weak memory"),
        ];
        for (only, findings, what) in sides {
            for finding in findings.iter().take(MOST_SHOWN) {
                let why = finding.why.unwrap_or("nothing declares it");
                let outcome = shown(&finding.outcome);
                lines.push(format!("only {}: {outcome} ({what}: {why})", only.name()));
            }
            if findings.len() > MOST_SHOWN {
                let more = findings.len() - MOST_SHOWN;
                lines.push(format!("only {}: {more} more ({what})", only.name()));
            }
        }
        lines
    }

    fn judge(&self) -> Option<String> {
        let declared = || self.scenario.differences(self.variant);
        if let Some(why_not) = &self.not_compared {
            let first = declared().next()?;
            return Some(format!("{} cannot be checked: {why_not}", first.line()));
        }
        let sides = [
            (Only::Explorer, &self.only_explorer, "loom"),
            (Only::Loom, &self.only_loom, "the explorer"),
        ];
        let mut wrong = Vec::new();
        for (only, findings, other) in sides {
            let unknown: Vec<_> = findings.iter().filter(|f| f.why.is_none()).collect();
            if let Some(first) = unknown.first() {
                let outcome = shown(&first.outcome);
                let more = match unknown.len() {
                    1 => String::new(),
                    many => format!(" and {} more", many - 1),
                };
                wrong.push(format!(
                    "{other} never saw '{outcome}'{more}; if that is right, declare it with its \
                     reason: only_{}(...)",
                    only.name()
                ));
            }
            for known in declared().filter(|known| known.only == only) {
                if !findings.iter().any(|f| f.outcome == known.outcome) {
                    wrong.push(format!(
                        "{} no longer, though it is declared ({})",
                        known.line(),
                        known.why
                    ));
                }
            }
        }
        (!wrong.is_empty()).then(|| wrong.join("; "))
    }
}

/// Only two complete sets can be compared, and two empty ones say nothing.
fn why_not(explorer: &UnitReport, loom: &UnitReport) -> Option<String> {
    for unit in [explorer, loom] {
        let name = unit.engine.name();
        if unit.verdict.class() != Class::Exhausted {
            return Some(format!("{name} is {}", unit.verdict.class()));
        }
        if unit.more_observations {
            let kept = unit.observations.len();
            return Some(format!("{name} saw more than the {kept} outcomes it kept"));
        }
    }
    let silent = explorer.observations.is_empty() && loom.observations.is_empty();
    silent.then(|| "the body observes nothing".to_owned())
}

/// On one line, and not too long a one.
fn shown(outcome: &str) -> String {
    let line: String = (outcome.chars())
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match line.char_indices().nth(LONGEST_SHOWN) {
        None => line,
        Some((end, _)) => format!("{}...", &line[..end]),
    }
}
