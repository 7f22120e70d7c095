//! `selvedge mutants`: the kill matrix. Each scenario's as-reported twin is a mutant of what ships,
//! and the scenario is there to kill it, under each of its engines as its plan says.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use selvedge_sim::model::available_bytes;
use selvedge_sim::{Class, Variant};
use serde_json::{Value, json};

use super::check::schedule::Machine;
use super::check::{self, interrupted, on_ctrl_c};
use super::{CheckArgs, Exit, Stop, input, say};
use crate::report::cross::{self, Comparison};
use crate::report::json::replace;
use crate::report::{UnitReport, table};
use crate::{Expect, Scenario};

/// Runs every mutant under every engine of its scenario, and says which engine kills it, by which
/// signature, after how many executions, and which must miss it.
#[derive(Debug, Args)]
pub(super) struct MutantsArgs {
    /// Scenarios: an id, or part of some
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Wall-clock time for everything
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = input::budget)]
    budget: Duration,
    /// Times the usual number of executions to draw
    #[arg(long, value_name = "N", default_value = "1", value_parser = input::at_least_one::<u64>)]
    effort: u64,
    /// What every random choice is drawn from
    #[arg(long, value_name = "N", default_value = "1", value_parser = input::number, allow_hyphen_values = true)]
    seed: u64,
    /// Units at a time; as many as there are processors if not given
    #[arg(long, value_name = "N", value_parser = input::jobs)]
    jobs: Option<usize>,
    /// Write the matrix as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(super) fn mutants(args: &MutantsArgs) -> Result<Exit, Stop> {
    let scenarios = input::select(&args.filters)?;
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let jobs = args.jobs.unwrap_or(cores);
    let machine = Machine {
        budget: args.budget,
        started: Instant::now(),
        jobs,
        threads: jobs.min(cores),
        bytes: available_bytes(),
    };
    let as_check = CheckArgs {
        filters: args.filters.clone(),
        engines: Vec::new(),
        budget: args.budget,
        effort: Some(args.effort),
        seed: args.seed,
        jobs: args.jobs,
        require: Class::Sampled,
        json: None,
        junit: None,
    };
    let (planned, _) = check::plan(&scenarios, &[], &[Variant::AsReported], &machine)?;
    let json = args.json.as_deref().map(input::output).transpose()?;
    on_ctrl_c()?;
    let units = check::run_all(&as_check, &planned, &machine)?;
    let cross = cross::compare(&units);
    let matrix = Matrix::of(&scenarios, &units, &cross);
    if let Some(mut file) = json {
        let text = format!("{:#}\n", matrix.json());
        replace(&mut file, text.as_bytes())
            .map_err(|error| Stop::harness("cannot write the JSON", error))?;
    }
    say(&matrix.text())?;
    Ok(matrix.exit())
}

/// What one engine made of one mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cell {
    /// Found, by the right signature, after so many.
    Killed(u64),
    /// An outcome that only it or its counterpart sees tells it from what ships.
    Seen,
    /// Not found, as it must be, for this reason.
    Misses(&'static str),
    /// Not found, and need not be, for this reason.
    Luck(&'static str),
    /// It only observes, and whether that kills is for the cross-check to say.
    Observes(usize),
    /// Not as it must be, and why.
    Wrong(String),
    /// It was not run to its end.
    Cut(String),
}

/// A mutant, and what killed it.
struct Row {
    scenario: &'static Scenario,
    cells: Vec<(&'static str, Cell)>,
    /// Why the row is no success.
    wrong: Vec<String>,
    /// Whether time was the reason.
    cut: bool,
}

/// The kill matrix.
struct Matrix {
    engines: Vec<&'static str>,
    rows: Vec<Row>,
    interrupted: bool,
}

impl Matrix {
    fn of(scenarios: &[&'static Scenario], units: &[UnitReport], cross: &[Comparison]) -> Self {
        let mut engines: Vec<&'static str> = Vec::new();
        for unit in units {
            if !engines.contains(&unit.engine.name()) {
                engines.push(unit.engine.name());
            }
        }
        let row = |scenario: &&'static Scenario| {
            let of = |id: &str| id == scenario.id;
            let units: Vec<&UnitReport> = units.iter().filter(|u| of(u.scenario.id)).collect();
            let cross: Vec<&Comparison> = cross.iter().filter(|c| of(c.scenario.id)).collect();
            Row::of(scenario, &units, &cross)
        };
        Matrix {
            rows: scenarios.iter().map(row).collect(),
            engines,
            interrupted: interrupted(),
        }
    }

    fn exit(&self) -> Exit {
        let wrong = || self.rows.iter().filter(|row| !row.wrong.is_empty());
        if self.interrupted {
            Exit::Interrupted
        } else if wrong().any(|row| !row.cut) {
            Exit::Survived
        } else if wrong().next().is_some() {
            Exit::Budget
        } else {
            Exit::Ok
        }
    }

    fn text(&self) -> String {
        let mut header = vec!["mutant", "signature"];
        header.extend(&self.engines);
        let mut table = table::new(&header);
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for row in &self.rows {
            let mut cells = vec![
                row.scenario.id.to_owned(),
                row.scenario.signature.to_owned(),
            ];
            for engine in &self.engines {
                let cell = row.cells.iter().find(|(name, _)| name == engine);
                cells.push(cell.map_or_else(String::new, |(_, cell)| cell.short()));
                if let Some((_, Cell::Misses(why) | Cell::Luck(why))) = cell {
                    *reasons.entry(why).or_default() += 1;
                }
            }
            table.add_row(cells);
        }
        let mut text = format!("{table}\n");
        for (why, count) in reasons {
            text += &format!("{count} not found, as may be: {why}\n");
        }
        for row in &self.rows {
            for wrong in &row.wrong {
                text += &format!("✗ {}: {wrong}\n", row.scenario.id);
            }
        }
        let killed = self.rows.iter().filter(|row| row.is_killed()).count();
        text += &format!("{killed} of {} mutants killed; ", self.rows.len());
        text += &format!(
            "{} kills under {} engines, {} misses that must be",
            self.count(|cell| matches!(cell, Cell::Killed(_) | Cell::Seen)),
            self.engines.len(),
            self.count(|cell| matches!(cell, Cell::Misses(_)))
        );
        match self.interrupted {
            true => format!("Interrupted.\n{text}"),
            false => text,
        }
    }

    fn count(&self, wanted: fn(&Cell) -> bool) -> usize {
        let cells = self.rows.iter().flat_map(|row| &row.cells);
        cells.filter(|(_, cell)| wanted(cell)).count()
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let cells = row.cells.iter().map(|(engine, cell)| cell.json(engine));
            json!({
                "mutant": row.scenario.id,
                "ticket": row.scenario.ticket,
                "signature": row.scenario.signature,
                "killed": row.is_killed(),
                "as_expected": row.wrong.is_empty(),
                "wrong": row.wrong,
                "engines": cells.collect::<Vec<Value>>(),
            })
        });
        json!({
            "schema": 1,
            "engines": self.engines,
            "mutants": rows.collect::<Vec<Value>>(),
            "exit": self.exit() as u8,
            "interrupted": self.interrupted,
        })
    }
}

impl Row {
    fn of(scenario: &'static Scenario, units: &[&UnitReport], cross: &[&Comparison]) -> Self {
        let is_seen = cross.iter().any(|comparison| {
            let findings = comparison.only_explorer.iter().chain(&comparison.only_loom);
            let mut findings = findings.map(|finding| finding.outcome.as_str());
            findings.any(|outcome| outcome == scenario.signature)
        });
        let cells: Vec<_> = (units.iter())
            .map(|unit| (unit.engine.name(), Cell::of(unit, is_seen)))
            .collect();
        let mut wrong = Vec::new();
        for (engine, cell) in &cells {
            if let Cell::Wrong(why) | Cell::Cut(why) = cell {
                wrong.push(format!("{engine}: {why}"));
            }
        }
        wrong.extend(
            cross
                .iter()
                .filter_map(|comparison| comparison.surprise.clone()),
        );
        let mut row = Row {
            scenario,
            cut: cells.iter().any(|(_, cell)| matches!(cell, Cell::Cut(_)))
                && !cells.iter().any(|(_, cell)| matches!(cell, Cell::Wrong(_))),
            cells,
            wrong,
        };
        if !row.is_killed() {
            row.wrong.push(match row.cells.is_empty() {
                true => "nobody looks for it".to_owned(),
                false => "nobody kills it, and its scenario kills nothing".to_owned(),
            });
        }
        row
    }

    fn is_killed(&self) -> bool {
        let kills = |(_, cell): &(_, Cell)| matches!(cell, Cell::Killed(_) | Cell::Seen);
        self.cells.iter().any(kills)
    }
}

impl Cell {
    fn of(unit: &UnitReport, is_seen: bool) -> Self {
        let expected = unit.scenario.expectation(unit.engine);
        match (&unit.surprise, unit.verdict.failure(), expected) {
            (Some(why), _, _) if unit.was_cut() => Cell::Cut(why.clone()),
            (Some(why), _, _) => Cell::Wrong(why.clone()),
            (None, Some(_), _) => Cell::Killed(unit.verdict.executions()),
            (None, None, Expect::Misses(why)) => Cell::Misses(why),
            (None, None, Expect::May(why)) => Cell::Luck(why),
            (None, None, Expect::Observes) if is_seen => Cell::Seen,
            (None, None, Expect::Observes) => Cell::Observes(unit.observations.len()),
            // Only where a bound on preemptions excuses it.
            (None, None, Expect::Finds) => Cell::Luck("it takes more preemptions than the bound"),
        }
    }

    fn short(&self) -> String {
        match self {
            Cell::Killed(executions) => format!("killed after {executions}"),
            Cell::Seen => "told apart by its outcomes".to_owned(),
            Cell::Misses(_) => "must miss it".to_owned(),
            Cell::Luck(_) => "not met".to_owned(),
            Cell::Observes(outcomes) => format!("{outcomes} outcomes"),
            Cell::Wrong(_) => "✗ WRONG".to_owned(),
            Cell::Cut(_) => "✗ cut short".to_owned(),
        }
    }

    fn json(&self, engine: &str) -> Value {
        let (outcome, executions, why) = match self {
            Cell::Killed(executions) => ("killed", Some(*executions), None),
            Cell::Seen => ("told-apart", None, None),
            Cell::Misses(why) => ("must-miss", None, Some(*why)),
            Cell::Luck(why) => ("not-met", None, Some(*why)),
            Cell::Observes(_) => ("observes", None, None),
            Cell::Wrong(why) => ("wrong", None, Some(why.as_str())),
            Cell::Cut(why) => ("cut", None, Some(why.as_str())),
        };
        json!({"engine": engine, "outcome": outcome, "executions": executions, "why": why})
    }
}

#[cfg(test)]
mod tests {
    use selvedge_sim::{Engine, Failure, FailureKind, Verdict};

    use super::*;
    use crate::registry;

    /// What an engine came to on a twin; `None` where it found nothing.
    fn unit(scenario: &'static Scenario, engine: &str, found: Option<&str>) -> UnitReport {
        let engine: Engine = engine.parse().unwrap();
        let verdict = match found {
            Some(signature) => Verdict::Violated {
                failure: Failure {
                    kind: FailureKind::Property,
                    signature: signature.to_owned(),
                    detail: String::new(),
                    location: String::new(),
                },
                executions: 7,
            },
            None => engine.verdict_when_complete(9, ""),
        };
        let variant = Variant::AsReported;
        UnitReport {
            surprise: scenario.surprise(variant, engine, &verdict, &[]),
            verdict,
            started: true,
            ..UnitReport::not_started(scenario, variant, engine, "")
        }
    }

    fn matrix(id: &str, found: &[(&str, Option<&str>)]) -> Matrix {
        let scenario = registry::find(id).unwrap();
        let units = found
            .iter()
            .map(|(engine, found)| unit(scenario, engine, *found));
        Matrix::of(&[scenario], &units.collect::<Vec<_>>(), &[])
    }

    #[test]
    fn a_kill_is_by_the_right_engine_and_the_right_signature() {
        let dekker = |explorer, loom| matrix("dekker", &[("explorer", explorer), ("loom", loom)]);
        let signature = Some(registry::find("dekker").unwrap().signature);
        let right = dekker(None, signature);
        assert_eq!(right.exit(), Exit::Ok, "{}", right.text());
        assert!(
            right.text().contains("1 of 1 mutants killed"),
            "{}",
            right.text()
        );
        assert_eq!(right.rows[0].cells[1].1, Cell::Killed(7));
        assert!(matches!(right.rows[0].cells[0].1, Cell::Misses(_)));
        for (wrong, said) in [
            (dekker(None, Some("another")), "found 'another' instead of"),
            (dekker(signature, signature), "should be out of sight"),
            (dekker(None, None), "was not found"),
            (dekker(None, None), "its scenario kills nothing"),
            (matrix("dekker", &[]), "nobody looks for it"),
            // To be met by luck alone is to be met by nobody.
            (matrix("dekker", &[("native", None)]), "nobody kills it"),
        ] {
            assert_eq!(wrong.exit(), Exit::Survived, "{said}");
            assert!(wrong.text().contains(said), "{said}: {}", wrong.text());
            assert_eq!(wrong.json()["exit"], 14);
        }
    }

    #[test]
    fn a_search_that_was_cut_short_is_no_verdict_on_a_mutant() {
        let mut cut = unit(registry::find("dekker").unwrap(), "loom", None);
        cut.verdict = Verdict::BudgetEnded { executions: 3 };
        cut.surprise = Some("time ran out".to_owned());
        let killed = unit(cut.scenario, "explorer", None);
        let row = Row::of(cut.scenario, &[&killed, &cut], &[]);
        let matrix = Matrix {
            engines: vec!["explorer", "loom"],
            rows: vec![row],
            interrupted: false,
        };
        assert_eq!(matrix.exit(), Exit::Budget);
    }
}
