//! The verdicts as JSON, schema 1.

use std::fs::File;
use std::io::{self, Write};

use selvedge_sim::explorer::Escalation;
use selvedge_sim::model::Figures;
use serde::Serialize;

use super::cross::{Comparison, Finding};
use super::{LeftOut, RunReport, ShrunkSizes, UnitReport};

#[derive(Serialize)]
struct Run<'a> {
    schema: u32,
    units: Vec<Unit<'a>>,
    cross_check: Vec<Compared<'a>>,
    /// Units that the budget had no room for.
    left_out: Vec<Left<'a>>,
    exit: u8,
    interrupted: bool,
}

#[derive(Serialize)]
struct Unit<'a> {
    scenario: &'a str,
    variant: String,
    engine: &'a str,
    /// The engine with its parameters, as `--engine` takes it.
    parameters: String,
    verdict: &'a str,
    /// Memory model, bound or strategy; what failed where the engine did.
    scope: String,
    as_expected: bool,
    surprise: Option<&'a str>,
    /// Of a model: different states.
    executions: u64,
    signature: Option<&'a str>,
    detail: Option<&'a str>,
    seed: Option<&'a str>,
    /// Its size before and after it was made smaller.
    shrunk: Option<ShrunkSizes>,
    /// The bounded searches that took the place of the explorer's full one, if they did.
    escalation: Option<&'a Escalation>,
    /// What the search of a model cost.
    figures: Option<Cost>,
    reached: &'a [String],
    observations: &'a [String],
    /// False where there were more than are kept.
    observations_complete: bool,
    wall_ms: u64,
}

impl<'a> From<&'a UnitReport> for Unit<'a> {
    fn from(unit: &'a UnitReport) -> Self {
        let failure = unit.verdict.failure();
        Unit {
            scenario: unit.scenario.id,
            variant: unit.variant.to_string(),
            engine: unit.engine.name(),
            parameters: unit.engine.to_string(),
            verdict: unit.verdict.class().name(),
            scope: unit.verdict.scope(),
            as_expected: unit.surprise.is_none(),
            surprise: unit.surprise.as_deref(),
            executions: unit.verdict.executions(),
            signature: failure.map(|failure| failure.signature.as_str()),
            detail: failure.map(|failure| failure.detail.as_str()),
            seed: unit.seed.as_deref(),
            shrunk: unit.shrunk,
            escalation: unit.escalation.as_ref(),
            figures: unit.figures.map(Cost::from),
            reached: &unit.reached,
            observations: &unit.observations,
            observations_complete: !unit.more_observations,
            wall_ms: u64::try_from(unit.took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// What the search of a model cost, as it was measured and as it is told.
#[derive(Serialize)]
struct Cost {
    #[serde(flatten)]
    measured: Figures,
    /// Of one core; null after a search too short to say.
    states_a_second: Option<u64>,
    /// Null after a search of too few states to say.
    bytes_a_state: Option<u64>,
}

impl From<Figures> for Cost {
    fn from(measured: Figures) -> Self {
        Cost {
            measured,
            states_a_second: measured.rate(),
            bytes_a_state: measured.bytes_per_state(),
        }
    }
}

/// A unit that the budget had no room for.
#[derive(Serialize)]
struct Left<'a> {
    scenario: &'a str,
    variant: String,
    engine: &'a str,
    needs_s: u64,
}

impl<'a> From<&'a LeftOut> for Left<'a> {
    fn from(left: &'a LeftOut) -> Self {
        Left {
            scenario: left.scenario.id,
            variant: left.variant.to_string(),
            engine: left.engine.name(),
            needs_s: left.needs.as_secs(),
        }
    }
}

/// One body under the explorer and under loom.
#[derive(Serialize)]
struct Compared<'a> {
    scenario: &'a str,
    variant: String,
    compared: bool,
    why_not: Option<&'a str>,
    /// How many outcomes both saw.
    both: usize,
    only_explorer: Vec<Outcome<'a>>,
    only_loom: Vec<Outcome<'a>>,
    as_expected: bool,
    surprise: Option<&'a str>,
}

#[derive(Serialize)]
struct Outcome<'a> {
    outcome: &'a str,
    /// Null where nobody declared it.
    why: Option<&'a str>,
}

impl<'a> From<&'a Comparison> for Compared<'a> {
    fn from(comparison: &'a Comparison) -> Self {
        let outcomes = |findings: &'a [Finding]| {
            let each = findings.iter().map(|finding| Outcome {
                outcome: &finding.outcome,
                why: finding.why,
            });
            each.collect()
        };
        Compared {
            scenario: comparison.scenario.id,
            variant: comparison.variant.to_string(),
            compared: comparison.not_compared.is_none(),
            why_not: comparison.not_compared.as_deref(),
            both: comparison.both,
            only_explorer: outcomes(&comparison.only_explorer),
            only_loom: outcomes(&comparison.only_loom),
            as_expected: comparison.surprise.is_none(),
            surprise: comparison.surprise.as_deref(),
        }
    }
}

/// Writes the report over whatever the file held.
///
/// # Errors
/// When the file cannot be written.
pub fn write(mut file: File, report: &RunReport) -> io::Result<()> {
    let run = Run {
        schema: 1,
        units: report.units.iter().map(Unit::from).collect(),
        cross_check: report.cross.iter().map(Compared::from).collect(),
        left_out: report.left_out.iter().map(Left::from).collect(),
        exit: report.exit as u8,
        interrupted: report.interrupted,
    };
    let mut text = serde_json::to_vec_pretty(&run)?;
    text.push(b'\n');
    replace(&mut file, &text)
}

/// Replaces what the file holds; a pipe or a device has nothing to replace.
pub(crate) fn replace(file: &mut File, text: &[u8]) -> io::Result<()> {
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    file.write_all(text)?;
    file.flush()
}
