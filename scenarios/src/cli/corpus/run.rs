//! `selvedge corpus run`: every regression replayed, in a table and as JSON.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;

use super::{RunArgs, complain_of_problems, in_parallel, look, select};
use crate::cli::check::{interrupted, on_ctrl_c, own_children};
use crate::cli::{Exit, Stop, input, say};
use crate::corpus::{Corpus, Entry, Expected, Finding, Problem};
use crate::report::{json, table};

/// A regression, and what became of it.
struct Row<'a> {
    entry: &'a Entry,
    finding: Finding,
    took: Duration,
}

pub(super) fn run(args: &RunArgs) -> Result<Exit, Stop> {
    let corpus = args.place.read()?;
    let entries = select(&corpus, &args.filters)?;
    let json = args.json.as_deref().map(input::output).transpose()?;
    let bad = complain_of_problems(&corpus);
    if entries.is_empty() && !bad {
        return Err(Stop::usage(format!(
            "no regression is kept in {}; `selvedge corpus add --twins` makes those of the twins",
            args.place.dir.display()
        )));
    }
    on_ctrl_c()?;
    let children = own_children()?;
    let started = Instant::now();
    let bar = bar(entries.len());
    let mut rows: Vec<Option<Row<'_>>> = entries.iter().map(|_| None).collect();
    let replay = |entry: &&Entry| {
        let started = Instant::now();
        let finding = match interrupted() {
            true => Finding::Interrupted,
            false => look(&children, entry),
        };
        (finding, started.elapsed())
    };
    in_parallel(
        &entries,
        args.place.jobs(),
        replay,
        |at, (finding, took)| {
            let entry = entries[at];
            rows[at] = Some(Row {
                entry,
                finding,
                took,
            });
            bar.inc(1);
        },
    );
    bar.finish_and_clear();
    let rows: Vec<Row<'_>> = rows.into_iter().flatten().collect();
    let exit = exit_code(rows.iter().map(|row| (row.entry.expect, &row.finding)), bad);
    if let Some(file) = json {
        write_json(file, &corpus, &rows, exit)
            .map_err(|error| Stop::harness("cannot write the JSON", error))?;
    }
    say(&render(&rows, started.elapsed()))?;
    Ok(exit)
}

fn bar(total: usize) -> ProgressBar {
    let target = match io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    ProgressBar::with_draw_target(Some(total as u64), target)
}

/// The worst of what happened, as in `check`: first what says most about the shipped code.
fn exit_code<'a>(
    findings: impl Iterator<Item = (Expected, &'a Finding)> + Clone,
    bad_files: bool,
) -> Exit {
    let violated = findings.clone().find_map(|(_, finding)| match finding {
        Finding::Violated(kind, _) => Some(*kind),
        _ => None,
    });
    let any = |wanted: &dyn Fn(Expected, &Finding) -> bool| {
        findings
            .clone()
            .any(|(expect, finding)| wanted(expect, finding))
    };
    if let Some(kind) = violated {
        Exit::from(kind)
    } else if any(&|_, finding| matches!(finding, Finding::Interrupted)) {
        Exit::Interrupted
    } else if any(&|_, finding| matches!(finding, Finding::EngineFailed(_))) {
        Exit::Harness
    } else if any(&|expect, finding| match finding {
        Finding::Missed(_) => true,
        Finding::Stale(_) => expect == Expected::Fails,
        _ => false,
    }) {
        // A twin was not found as its regression says.
        Exit::Survived
    } else if bad_files || any(&|_, finding| finding.is_stale()) {
        Exit::Usage
    } else if any(&|_, finding| matches!(finding, Finding::Cut)) {
        Exit::Budget
    } else {
        Exit::Ok
    }
}

fn render(rows: &[Row<'_>], took: Duration) -> String {
    let mut table = table::new(&[
        "regression",
        "engine",
        "signature",
        "expected",
        "came of it",
        "time",
    ]);
    for row in rows {
        let came = match (&row.finding, row.finding.why()) {
            (Finding::Passes(why), _) => format!("passes: {why}"),
            (finding, _) if finding.is_as_expected() => finding.word().to_owned(),
            (finding, _) => finding.word().to_uppercase(),
        };
        table.add_row([
            row.entry.name.clone(),
            row.entry.seed.engine.to_string(),
            row.entry.seed.signature.clone(),
            row.entry.expect.word().to_owned(),
            came,
            format!("{:.2} s", row.took.as_secs_f64()),
        ]);
    }
    let mut text = format!("{table}\n\n");
    let wrong = || rows.iter().filter(|row| !row.finding.is_as_expected());
    for row in wrong() {
        let Row { entry, finding, .. } = row;
        let why = match finding.why() {
            "" => String::new(),
            why => format!(": {why}"),
        };
        text += &format!(
            "{}: {} is {}{why}\n",
            entry.place,
            entry.name,
            finding.word()
        );
        if let Some(command) = what_to_do(entry, finding) {
            text += &format!("  {command}\n");
        }
    }
    text += &format!(
        "{} regressions in {:.1} s: {} as expected, {} not",
        rows.len(),
        took.as_secs_f64(),
        rows.len() - wrong().count(),
        wrong().count()
    );
    text
}

fn what_to_do(entry: &Entry, finding: &Finding) -> Option<String> {
    let scenario = &entry.seed.scenario;
    Some(match (entry.expect, finding) {
        (Expected::Fails, Finding::Stale(_)) => {
            format!("if the change is meant: selvedge corpus add --twins {scenario}")
        }
        (Expected::Fails, Finding::Missed(_)) => {
            format!("see whether the twin is found at all: selvedge check {scenario}")
        }
        (Expected::Passes, Finding::Violated(..)) => {
            format!("see it: selvedge check {scenario}")
        }
        (_, Finding::Gone(_)) | (Expected::Passes, Finding::Stale(_)) => {
            "if it is of no use any more: selvedge corpus prune".to_owned()
        }
        _ => return None,
    })
}

/// What became of the corpus, schema 1.
#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    regressions: Vec<Regression<'a>>,
    problems: Vec<Bad<'a>>,
    exit: u8,
    interrupted: bool,
}

#[derive(Serialize)]
struct Regression<'a> {
    name: &'a str,
    file: String,
    line: usize,
    scenario: &'a str,
    variant: String,
    engine: &'a str,
    /// The engine with its parameters.
    parameters: String,
    signature: &'a str,
    expect: &'a str,
    found_by: &'a str,
    fixed_in: Option<&'a str>,
    outcome: &'a str,
    as_expected: bool,
    /// More about the outcome.
    why: &'a str,
    wall_ms: u64,
}

#[derive(Serialize)]
struct Bad<'a> {
    file: String,
    line: usize,
    column: usize,
    what: &'a str,
}

impl<'a> From<&'a Row<'a>> for Regression<'a> {
    fn from(row: &'a Row<'a>) -> Self {
        let Entry { seed, place, .. } = row.entry;
        Regression {
            name: &row.entry.name,
            file: place.file.display().to_string(),
            line: place.line,
            scenario: &seed.scenario,
            variant: seed.variant.to_string(),
            engine: seed.engine.name(),
            parameters: seed.engine.to_string(),
            signature: &seed.signature,
            expect: row.entry.expect.word(),
            found_by: &row.entry.found_by,
            fixed_in: row.entry.fixed_in.as_deref(),
            outcome: row.finding.word(),
            as_expected: row.finding.is_as_expected(),
            why: row.finding.why(),
            wall_ms: u64::try_from(row.took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn write_json(mut file: File, corpus: &Corpus, rows: &[Row<'_>], exit: Exit) -> io::Result<()> {
    let problems = corpus.problems().map(|Problem { place, what }| Bad {
        file: place.file.display().to_string(),
        line: place.line,
        column: place.column,
        what,
    });
    let report = Report {
        schema: 1,
        regressions: rows.iter().map(Regression::from).collect(),
        problems: problems.collect(),
        exit: exit as u8,
        interrupted: interrupted(),
    };
    let mut text = serde_json::to_string_pretty(&report)?;
    text.push('\n');
    json::replace(&mut file, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use selvedge_sim::FailureKind;

    use super::*;

    #[test]
    fn the_worst_decides_how_the_program_ends() {
        let why = || "reason".to_owned();
        let (fails, passes) = (Expected::Fails, Expected::Passes);
        // Each is worse than all that follow.
        let by_weight = [
            (
                (passes, Finding::Violated(FailureKind::Deadlock, why())),
                Exit::Deadlock,
            ),
            ((fails, Finding::Interrupted), Exit::Interrupted),
            ((fails, Finding::EngineFailed(why())), Exit::Harness),
            ((fails, Finding::Missed(why())), Exit::Survived),
            ((passes, Finding::Stale(why())), Exit::Usage),
            ((fails, Finding::Cut), Exit::Budget),
            ((fails, Finding::Fails), Exit::Ok),
        ];
        for first in 0..by_weight.len() {
            let rest = &by_weight[first..];
            let findings = || {
                rest.iter()
                    .rev()
                    .map(|((expect, finding), _)| (*expect, finding))
            };
            assert_eq!(exit_code(findings(), false), rest[0].1);
        }
        let one = |expect, finding: Finding| exit_code([(expect, &finding)].into_iter(), false);
        assert_eq!(one(fails, Finding::Stale(why())), Exit::Survived);
        assert_eq!(one(fails, Finding::Gone(why())), Exit::Usage);
        assert_eq!(one(passes, Finding::Passes(why())), Exit::Ok);
        assert_eq!(exit_code([].into_iter(), true), Exit::Usage);
    }
}
