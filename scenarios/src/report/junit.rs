//! The verdicts as JUnit XML: a suite a scenario, a case a unit. A case fails when its verdict
//! is not what was expected: a twin that was found is a success. A body that explorer and loom
//! both completed has a case for the comparison of their outcomes.

use std::fs::File;
use std::io;

use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::cross::Comparison;
use super::json::replace;
use super::night::NightReport;
use super::{LeftOut, RunReport, UnitReport, seeds};

/// Writes the report over whatever the file held.
///
/// # Errors
/// When the file cannot be written.
pub fn write(mut file: File, report: &RunReport) -> io::Result<()> {
    let text = render(report, None).map_err(io::Error::other)?;
    replace(&mut file, text.as_bytes())
}

/// Writes a night over whatever the file held: its units, and before them a suite of the night
/// itself, with what is missing and its planted bugs.
///
/// # Errors
/// When the file cannot be written.
pub fn write_night(mut file: File, report: &NightReport) -> io::Result<()> {
    let text = render(&report.night.run, Some(night_suite(report))).map_err(io::Error::other)?;
    replace(&mut file, text.as_bytes())
}

fn render(report: &RunReport, first: Option<TestSuite>) -> Result<String, SerializeError> {
    let mut junit = Report::new("selvedge");
    junit.set_time(report.took);
    junit.add_test_suites(first);
    for of_scenario in report.units.chunk_by(|a, b| a.scenario.id == b.scenario.id) {
        let Some(first) = of_scenario.first() else {
            continue;
        };
        let mut suite = TestSuite::new(first.scenario.id);
        suite.add_test_cases(of_scenario.iter().map(case));
        let left_out = report.left_out.iter();
        let left_out = left_out.filter(|left| left.scenario.id == first.scenario.id);
        suite.add_test_cases(left_out.map(left_out_case));
        let told = |c: &&Comparison| c.not_compared.is_none() || c.surprise.is_some();
        let compared = report.cross.iter().filter(told);
        let compared = compared.filter(|c| c.scenario.id == first.scenario.id);
        suite.add_test_cases(compared.map(comparison_case));
        junit.add_test_suite(suite);
    }
    junit.to_string()
}

fn night_suite(report: &NightReport) -> TestSuite {
    let mut suite = TestSuite::new("night");
    let case = |name: String, wrong: Option<(&str, String)>| {
        let status = match wrong {
            None => TestCaseStatus::success(),
            Some((kind, message)) => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_type(kind);
                status.set_message(message);
                status
            }
        };
        let mut case = TestCase::new(name, status);
        case.set_classname("night");
        case
    };
    let gaps: Vec<String> = report.night.gaps.iter().map(ToString::to_string).collect();
    let gaps = (!gaps.is_empty()).then(|| ("Incomplete", gaps.join("; ")));
    suite.add_test_case(case("complete".to_owned(), gaps));
    for canary in &report.night.canaries {
        let wrong = (!canary.is_alive()).then(|| ("Canary", canary.line()));
        let name = format!(
            "canary: {} {} shard {} session {}",
            canary.scenario, canary.engine, canary.shard, canary.session
        );
        suite.add_test_case(case(name, wrong));
    }
    if let Some(same) = report
        .trend
        .as_ref()
        .and_then(|trend| trend.same_plan.as_ref())
    {
        let different = same.different.join("; ");
        let wrong = (!different.is_empty()).then_some(("Nondeterminism", different));
        suite.add_test_case(case("the same as the base".to_owned(), wrong));
    }
    suite
}

fn case(unit: &UnitReport) -> TestCase {
    let status = match &unit.surprise {
        None => TestCaseStatus::success(),
        Some(surprise) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type(unit.verdict.class().name());
            status.set_message(surprise);
            if let Some(seed) = &unit.seed {
                status.set_description(seeds::replay_command(seed));
            }
            status
        }
    };
    let mut case = TestCase::new(format!("{} {}", unit.variant, unit.engine), status);
    case.set_classname(unit.scenario.id);
    case.set_time(unit.took);
    case.set_system_out(format!(
        "{}: {}, {} {}",
        unit.verdict.class(),
        unit.verdict.scope(),
        unit.verdict.executions(),
        unit.engine.counts()
    ));
    case
}

fn left_out_case(left: &LeftOut) -> TestCase {
    let mut status = TestCaseStatus::skipped();
    let needs = humantime::format_duration(left.needs);
    status.set_message(format!(
        "did not fit; `selvedge check --budget {needs}` has room"
    ));
    let mut case = TestCase::new(format!("{} {}", left.variant, left.engine), status);
    case.set_classname(left.scenario.id);
    case
}

fn comparison_case(comparison: &Comparison) -> TestCase {
    let status = match &comparison.surprise {
        None => TestCaseStatus::success(),
        Some(surprise) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type("CrossCheck");
            status.set_message(surprise);
            status
        }
    };
    let name = format!("{} explorer and loom", comparison.variant);
    let mut case = TestCase::new(name, status);
    case.set_classname(comparison.scenario.id);
    let mut lines = vec![match &comparison.not_compared {
        None => format!("{} outcomes seen by both", comparison.both),
        Some(why) => format!("not compared: {why}"),
    }];
    lines.extend(comparison.lines());
    case.set_system_out(lines.join("\n"));
    case
}
