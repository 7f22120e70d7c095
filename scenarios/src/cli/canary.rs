//! `selvedge canary`: the planted bugs alone, as a night looks for them before anything else.

use std::time::{Duration, Instant};

use clap::Args;
use selvedge_sim::Variant;
use selvedge_sim::model::available_bytes;
use serde_json::{Value, json};

use super::check::progress::Progress;
use super::check::schedule::{Planned, Share};
use super::check::{Draws, drawn_by, interrupted, on_ctrl_c, own_children, run_one};
use super::{Exit, Stop, input, say};
use crate::canary;
use crate::report::{UnitReport, table};

/// Looks for the planted bugs. Every night does so before anything else: one that does not find
/// them all is red, for then nobody knows what else it does not find.
#[derive(Debug, Args)]
pub(super) struct CanaryArgs {
    /// Wall-clock time for each
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = input::budget)]
    budget: Duration,
    /// What every random choice is drawn from
    #[arg(long, value_name = "N", default_value = "1", value_parser = input::number, allow_hyphen_values = true)]
    seed: u64,
    /// A drill: take the bugs out, so that the command must fail
    #[arg(long)]
    dead_canary: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn canary(args: &CanaryArgs) -> Result<Exit, Stop> {
    on_ctrl_c()?;
    let children = own_children()?;
    let engines = |scenario: &&'static crate::Scenario| scenario.engines.len();
    let progress = Progress::new(canary::ALL.iter().map(engines).sum());
    let share = Share {
        limit: args.budget,
        threads: 1,
        most_bytes: available_bytes(),
    };
    let mut reports = Vec::new();
    for &scenario in canary::ALL {
        for plan in scenario.engines {
            let (executions, rounds) = drawn_by(scenario, plan.engine, Variant::AsReported, 1);
            let draws = Draws {
                seed: args.seed,
                executions,
                rounds,
                shrinks: false,
            };
            let unit = Planned {
                place: reports.len(),
                scenario,
                variant: match args.dead_canary {
                    true => Variant::Shipped,
                    false => Variant::AsReported,
                },
                engine: plan.engine,
                needs: Duration::ZERO,
                tries: 0,
            };
            let started = Instant::now();
            let report = run_one(draws, &children, unit, share, &progress);
            if interrupted() {
                return Ok(Exit::Interrupted);
            }
            progress.finished(&report);
            reports.push((report, started.elapsed()));
        }
    }
    progress.clear();
    match args.json {
        true => say(&as_json(&reports))?,
        false => say(&as_table(&reports))?,
    }
    Ok(match reports.iter().all(|(report, _)| is_found(report)) {
        true => Exit::Ok,
        false => Exit::Survived,
    })
}

fn is_found(report: &UnitReport) -> bool {
    let failure = report.verdict.failure();
    failure.is_some_and(|failure| failure.signature == report.scenario.signature)
}

fn told(report: &UnitReport) -> String {
    match (is_found(report), report.verdict.failure()) {
        (true, _) => format!("found after {}", report.verdict.executions()),
        (false, Some(failure)) => format!("✗ found '{}' instead", failure.signature),
        (false, None) => format!(
            "✗ NOT FOUND: {}, {} after {}",
            report.verdict.class(),
            report.verdict.scope(),
            report.verdict.executions()
        ),
    }
}

fn as_table(reports: &[(UnitReport, Duration)]) -> String {
    let mut table = table::new(&["planted bug", "engine", "signature", "", "time"]);
    for (report, took) in reports {
        table.add_row([
            report.scenario.id.to_owned(),
            report.engine.to_string(),
            report.scenario.signature.to_owned(),
            told(report),
            format!("{:.1} s", took.as_secs_f64()),
        ]);
    }
    let found = reports
        .iter()
        .filter(|(report, _)| is_found(report))
        .count();
    format!("{table}\n{found} of {} planted bugs found", reports.len())
}

fn as_json(reports: &[(UnitReport, Duration)]) -> String {
    let canaries = reports.iter().map(|(report, _)| {
        json!({
            "scenario": report.scenario.id,
            "engine": report.engine.to_string(),
            "signature": report.scenario.signature,
            "found": is_found(report),
            "verdict": report.verdict.class().name(),
            "executions": report.verdict.executions(),
        })
    });
    format!(
        "{:#}",
        json!({"schema": 1, "canaries": canaries.collect::<Vec<Value>>()})
    )
}
