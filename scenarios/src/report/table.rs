//! The table that `check` prints: a row a scenario and engine, the twin beside the shipped code.

use std::io::IsTerminal;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Row, Table, TableComponent};
use selvedge_models::checker::collision_chance;
use selvedge_sim::{Class, Engine, Variant, Verdict};

use super::cross::Comparison;
use super::seeds::{replay_command, short_name};
use super::{RunReport, UnitReport};
use crate::Expect;

/// More seeds than this are kept in files only; the table has their short names.
const MOST_SEEDS_PRINTED: usize = 6;
/// How wide the table is where there is no terminal to fit.
const WIDTH_WITHOUT_TERMINAL: u16 = 160;

/// An empty table of the house's form.
#[must_use]
pub fn new(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_style(TableComponent::HeaderLines, '─')
        .set_style(TableComponent::MiddleHeaderIntersections, '─')
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().map(|text| bold(text)));
    if !std::io::stdout().is_terminal() {
        table.set_width(WIDTH_WITHOUT_TERMINAL);
    }
    if !colours() {
        table.force_no_tty();
    }
    table
}

/// The whole report as text.
#[must_use]
pub fn render(report: &RunReport) -> String {
    let mut table = new(&[
        "scenario",
        "ticket",
        "engine",
        "as reported",
        "shipped",
        "time",
    ]);
    let mut last = "";
    for row in rows(&report.units) {
        table.add_row(render_row(row, last));
        last = row[0].scenario.id;
    }
    let mut text = format!("{table}\n");
    for part in [
        bounds(report),
        models(report),
        surprises(report),
        left_out(report),
        cross_check(&report.cross),
        seeds(report),
        summary(report),
    ] {
        if !part.is_empty() {
            text.push_str(&part);
            text.push('\n');
        }
    }
    text.trim_end().to_owned()
}

/// The units of one scenario under one engine.
fn rows(units: &[UnitReport]) -> impl Iterator<Item = &[UnitReport]> {
    units.chunk_by(|a, b| a.scenario.id == b.scenario.id && a.engine == b.engine)
}

fn render_row(row: &[UnitReport], last: &str) -> Row {
    let scenario = row[0].scenario;
    let took: Duration = row.iter().map(|unit| unit.took).sum();
    let (id, ticket) = match scenario.id == last {
        true => ("", ""),
        false => (scenario.id, scenario.ticket),
    };
    let of = |variant| row.iter().find(|unit| unit.variant == variant);
    Row::from(vec![
        bold(id),
        Cell::new(ticket),
        Cell::new(row[0].engine.to_string()),
        verdict(of(Variant::AsReported)),
        verdict(of(Variant::Shipped)),
        Cell::new(format!("{:.1} s", took.as_secs_f64())),
    ])
}

fn verdict(unit: Option<&UnitReport>) -> Cell {
    let Some(unit) = unit else {
        return Cell::new("");
    };
    let executions = unit.verdict.executions();
    let text = match (&unit.verdict, unit.variant) {
        (_, _) if !unit.started => "not started".to_owned(),
        (Verdict::Violated { failure, .. }, _) => {
            let seed = (unit.seed.as_deref()).map_or("no seed".to_owned(), short_name);
            let signature = &failure.signature;
            match unit.variant {
                Variant::AsReported => format!("found after {executions}: {signature} [{seed}]"),
                Variant::Shipped => format!("VIOLATED after {executions}: {signature} [{seed}]"),
            }
        }
        (verdict, Variant::AsReported)
            if verdict.class() >= Class::Sampled
                && unit.scenario.expectation(unit.engine) == Expect::Observes =>
        {
            match unit.observations.len() {
                1 => format!("1 outcome in {executions}"),
                outcomes => format!("{outcomes} outcomes in {executions}"),
            }
        }
        (verdict, Variant::AsReported) if verdict.class() >= Class::Sampled => {
            format!("not seen in {executions}")
        }
        (verdict, _) if unit.engine == Engine::Stateright => {
            format!("{}, {executions} states", verdict.class())
        }
        (verdict, _) => format!("{}, {executions}", verdict.class()),
    };
    match &unit.surprise {
        None => coloured(text, Color::Green),
        Some(_) => coloured(format!("✗ {text}"), Color::Red),
    }
}

/// What was searched instead of what did not fit, a bound a row.
fn bounds(report: &RunReport) -> String {
    let mut text = String::new();
    for unit in &report.units {
        let Some(escalation) = &unit.escalation else {
            continue;
        };
        text += &format!(
            "{} {} {}: the full search was cut after {} executions. Instead:\n",
            unit.scenario.id, unit.variant, unit.engine, escalation.full
        );
        let mut table = new(&[
            "preemptions",
            "executions",
            "time",
            "new outcomes",
            "growth",
            "all of them",
        ]);
        for bound in &escalation.bounds {
            table.add_row([
                format!("at most {}", bound.preemptions),
                bound.executions.to_string(),
                format!("{:.1} s", bound.seconds),
                bound.new_outcomes.to_string(),
                (bound.growth).map_or_else(String::new, |growth| format!("x {growth:.1}")),
                match bound.completed {
                    true => "yes".to_owned(),
                    false => "no".to_owned(),
                },
            ]);
        }
        text += &format!("{table}\n");
    }
    text
}

/// What the searches of models cost that were long enough to say, and how sure they are.
fn models(report: &RunReport) -> String {
    let mut text = String::new();
    for unit in &report.units {
        let Some(figures) = &unit.figures else {
            continue;
        };
        let rate = figures.rate();
        let rate = rate.map(|rate| format!("{rate} a second of one core"));
        let bytes = figures.bytes_per_state();
        let bytes = bytes.map(|bytes| format!("{bytes} bytes each"));
        let costs: Vec<String> = rate.into_iter().chain(bytes).collect();
        if costs.is_empty() {
            continue;
        }
        text += &format!(
            "{} {} {}: {} states, {}; two of them were taken for one with a chance of {:.0e}\n",
            unit.scenario.id,
            unit.variant,
            unit.engine,
            figures.states,
            costs.join(", "),
            collision_chance(figures.states),
        );
    }
    text
}

fn surprises(report: &RunReport) -> String {
    let mut text = String::new();
    for unit in &report.units {
        let Some(surprise) = unit.surprise.as_ref().filter(|_| unit.started) else {
            continue;
        };
        let UnitReport {
            scenario,
            variant,
            engine,
            ..
        } = unit;
        text += &format!("✗ {} {variant} {engine}: {surprise}\n", scenario.id);
        if let Some(failure) = unit.verdict.failure() {
            text += &format!("    {}\n", failure.detail);
            if !failure.location.is_empty() {
                text += &format!("    at {}\n", failure.location);
            }
        }
        if let Some(shrunk) = &unit.shrunk {
            let (before, after) = (shrunk.before, shrunk.after);
            text += &format!(
                "    made smaller: {} preemptions instead of {}, {} switches instead of {}{}\n",
                after.preemptions,
                before.preemptions,
                after.switches,
                before.switches,
                match shrunk.least {
                    true => "; with fewer preemptions it does not fail so",
                    false => "",
                }
            );
        }
        if let Some(seed) = &unit.seed {
            text += &format!("    {}\n", replay_command(seed));
        }
    }
    let left = report.units.iter().filter(|unit| !unit.started).count();
    if left > 0 && !report.interrupted {
        text += &format!(
            "✗ {left} of {} units did not fit into {}: `selvedge check --budget {}` has room\n",
            report.units.len(),
            humantime::format_duration(report.budget),
            humantime::format_duration(report.budget * 4)
        );
    }
    text
}

/// What needs more time than there is, and was left out on purpose.
fn left_out(report: &RunReport) -> String {
    let mut text = String::new();
    for left in &report.left_out {
        text += &format!(
            "{} {} {} did not fit into {}; `selvedge check --budget {}` has room\n",
            left.scenario.id,
            left.variant,
            left.engine,
            humantime::format_duration(report.budget),
            humantime::format_duration(left.needs)
        );
    }
    text
}

/// What the comparison of explorer and loom came to; nothing where none took place.
fn cross_check(cross: &[Comparison]) -> String {
    let compared = || cross.iter().filter(|c| c.not_compared.is_none());
    let unexpected = cross.iter().filter(|c| c.surprise.is_some()).count();
    if compared().count() == 0 && unexpected == 0 {
        return String::new();
    }
    let agree = compared().filter(|c| c.agrees()).count();
    let mut text = format!(
        "Cross-check: explorer and loom both completed {} bodies; {agree} have the same outcomes, \
         {} differ\n",
        compared().count(),
        compared().count() - agree,
    );
    for comparison in cross {
        let lines = comparison.lines();
        if lines.is_empty() && comparison.surprise.is_none() {
            continue;
        }
        text += &format!("  {} {}\n", comparison.scenario.id, comparison.variant);
        for line in lines {
            text += &format!("    {line}\n");
        }
        if let Some(surprise) = &comparison.surprise {
            text += &format!("  ✗ {surprise}\n");
        }
    }
    text
}

fn seeds(report: &RunReport) -> String {
    let as_expected = report.units.iter().filter(|unit| unit.surprise.is_none());
    let found: Vec<&str> = as_expected
        .filter_map(|unit| unit.seed.as_deref())
        .collect();
    match found.len() {
        0 => String::new(),
        1..=MOST_SEEDS_PRINTED => {
            let lines = found
                .iter()
                .map(|seed| format!("{}\n", replay_command(seed)));
            format!(
                "See a twin fail again, here or on any other machine:\n{}",
                lines.collect::<String>()
            )
        }
        _ => "See a twin fail again: `selvedge replay` and the name in brackets; \
              --json has the seeds whole, for other machines.\n"
            .to_owned(),
    }
}

fn summary(report: &RunReport) -> String {
    let as_expected = || report.units.iter().filter(|unit| unit.surprise.is_none());
    let twins = |found: bool, wanted: fn(Expect) -> bool| {
        as_expected()
            .filter(|unit| unit.variant == Variant::AsReported)
            .filter(|unit| unit.verdict.failure().is_some() == found)
            .filter(|unit| wanted(unit.scenario.expectation(unit.engine)))
            .count()
    };
    let survived = as_expected().filter(|unit| unit.variant == Variant::Shipped);
    format!(
        "{}{} units in {:.1} s: {} twins found, {} out of sight as they should be, {} not met by \
         luck{}; {} shipped bodies survived; {} unexpected",
        match report.interrupted {
            true => "Interrupted. ",
            false => "",
        },
        report.units.len(),
        report.took.as_secs_f64(),
        twins(true, |_| true),
        twins(false, |expect| matches!(expect, Expect::Misses(_))),
        twins(false, |expect| {
            !matches!(expect, Expect::Misses(_) | Expect::Observes)
        }),
        match twins(false, |expect| expect == Expect::Observes) {
            0 => String::new(),
            only => format!(", {only} only observe"),
        },
        survived.count(),
        report.units.len() - as_expected().count()
            + (report.cross.iter())
                .filter(|comparison| comparison.surprise.is_some())
                .count(),
    )
}

fn bold(text: &str) -> Cell {
    match colours() {
        true => Cell::new(text).add_attribute(Attribute::Bold),
        false => Cell::new(text),
    }
}

fn coloured(text: String, colour: Color) -> Cell {
    match colours() {
        true => Cell::new(text).fg(colour),
        false => Cell::new(text),
    }
}

/// As <https://no-color.org> asks.
fn colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && std::io::stdout().is_terminal()
}
