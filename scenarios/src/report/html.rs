//! A night as one HTML page that needs nothing else: no script, no image, no font from elsewhere. It
//! is light or dark as its reader's machine is, and fits a phone.

use std::fmt::Write;

use selvedge_sim::Variant;

use super::UnitReport;
use super::night::{NightReport, classes, verdict};
use super::seeds::replay_command;
use crate::nightly::{Failing, Unit};

const STYLE: &str = include_str!("night.css");

/// The night as a page.
#[must_use]
pub fn render(report: &NightReport) -> String {
    let title = escaped(&report.headline());
    let inputs = &report.night.plan.inputs;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header class=\"{word}\"><h1>Night {run}</h1><p class=\"word\">{word}</p></header>\n\
         <p>{title}</p>\n",
        word = report.word(),
        run = escaped(&inputs.run_id),
    );
    facts(&mut page, report);
    failures(&mut page, report);
    list(
        &mut page,
        "Incomplete",
        report.night.gaps.iter().map(ToString::to_string),
    );
    let dead = report.night.dead_canaries().map(|canary| canary.line());
    list(&mut page, "Planted bugs that were not found", dead);
    if let Some(trend) = &report.trend {
        let heading = format!("Since '{}'", trend.base);
        list(&mut page, &heading, report.changes().into_iter());
    }
    explored(&mut page, report);
    list(
        &mut page,
        "Probes that were missed",
        report.probes().missed.into_iter(),
    );
    list(&mut page, "What did not fit", report.left_out().into_iter());
    units(&mut page, report);
    page.push_str("</body>\n</html>\n");
    page
}

/// Appends to the page, which takes whatever it is given.
macro_rules! add {
    ($page:expr, $($text:tt)+) => {
        // Writing into memory does not fail.
        let _ = write!($page, $($text)+);
    };
}

fn facts(page: &mut String, report: &NightReport) {
    let night = &report.night;
    let inputs = &night.plan.inputs;
    let filters = match inputs.filters.is_empty() {
        true => "everything".to_owned(),
        false => inputs.filters.join(" "),
    };
    let probes = report.probes();
    let facts = [
        ("plan", night.plan.hash()),
        ("program", inputs.sources.clone()),
        ("filter", filters),
        ("seed", inputs.seed.to_string()),
        ("effort", inputs.effort.to_string()),
        ("shards", night.shards.to_string()),
        ("planted bugs", report.canaries()),
        (
            "probes",
            format!("{} hit, {} missed", probes.hit, probes.missed.len()),
        ),
        (
            "time of all pieces",
            humantime::format_duration(std::time::Duration::from_secs(night.run.took.as_secs()))
                .to_string(),
        ),
    ];
    page.push_str("<dl class=\"facts\">\n");
    for (name, value) in facts {
        add!(
            page,
            "<div><dt>{name}</dt><dd>{}</dd></div>\n",
            escaped(&value)
        );
    }
    page.push_str("</dl>\n");
}

fn failures(page: &mut String, report: &NightReport) {
    let failures = report.failures();
    if failures.is_empty() {
        page.push_str("<h2>Nothing that was run fails</h2>\n");
        return;
    }
    add!(page, "<h2>What fails ({})</h2>\n", failures.len());
    for (
        word,
        Failing {
            place, what, seed, ..
        },
    ) in failures
    {
        let tag = match word {
            "" => String::new(),
            word => format!("<span class=\"tag {word}\">{word}</span> "),
        };
        add!(
            page,
            "<section class=\"failure\"><h3>{tag}{}</h3><p>{}</p>",
            escaped(place),
            escaped(what)
        );
        if let Some(seed) = seed {
            add!(page, "<pre>{}</pre>", escaped(&replay_command(seed)));
        }
        page.push_str("</section>\n");
    }
}

fn list(page: &mut String, heading: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines
        .map(|line| format!("<li>{}</li>\n", escaped(&line)))
        .collect();
    if !lines.is_empty() {
        add!(
            page,
            "<h2>{}</h2>\n<ul>\n{}</ul>\n",
            escaped(heading),
            lines.concat()
        );
    }
}

fn explored(page: &mut String, report: &NightReport) {
    page.push_str(
        "<h2>What was explored</h2>\n<div class=\"wide\"><table>\n<thead><tr><th>engine</th>\
         <th class=\"n\">units</th><th class=\"n\">seeds</th><th class=\"n\">explored</th><th></th>\
         <th>verdicts</th></tr></thead>\n<tbody>\n",
    );
    for explored in report.explored() {
        add!(
            page,
            "<tr><th>{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td>{}</td><td>{}</td></tr>\n",
            explored.engine,
            explored.units,
            if explored.seeds == 0 {
                String::new()
            } else {
                explored.seeds.to_string()
            },
            explored.explored,
            explored.counts,
            classes(&explored)
        );
    }
    page.push_str("</tbody></table></div>\n");
    let bounds = report.bounds();
    let told = |(bound, units): (&String, &u64)| format!("{units} complete within: {bound}");
    list(page, "Bounds that were reached", bounds.iter().map(told));
}

/// Every unit, a scenario a fold.
fn units(page: &mut String, report: &NightReport) {
    page.push_str("<h2>Every unit</h2>\n");
    let rows: Vec<(&Unit, &UnitReport)> = report.night.rows().collect();
    for of_scenario in rows.chunk_by(|a, b| a.1.scenario.id == b.1.scenario.id) {
        let scenario = of_scenario[0].1.scenario;
        let wrong = of_scenario
            .iter()
            .any(|(_, report)| report.surprise.is_some());
        add!(
            page,
            "<details{}><summary><b>{}</b> <span class=\"faint\">{}</span></summary>\n\
             <p class=\"faint\">{}</p>\n<div class=\"wide\"><table>\n<thead><tr><th>engine</th>\
             <th>body</th><th>verdict</th><th class=\"n\">explored</th><th class=\"n\">pieces</th>\
             </tr></thead>\n<tbody>\n",
            if wrong { " open class=\"wrong\"" } else { "" },
            escaped(scenario.id),
            escaped(scenario.ticket),
            escaped(scenario.summary),
        );
        for (unit, told) in of_scenario {
            let variant = match told.variant {
                Variant::AsReported => "as reported",
                Variant::Shipped => "shipped",
            };
            let wrong = told.surprise.as_ref();
            add!(
                page,
                "<tr{}><th>{}</th><td>{variant}</td><td>{}{}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}/{}</td></tr>\n",
                wrong.map_or("", |_| " class=\"wrong\""),
                told.engine,
                escaped(&verdict(told)),
                wrong.map_or_else(String::new, |why| format!("<br>{}", escaped(why))),
                unit.explored,
                unit.pieces,
                unit.of,
            );
        }
        page.push_str("</tbody></table></div>\n</details>\n");
    }
}

/// Text that is taken for text.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
