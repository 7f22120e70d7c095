//! A night as Markdown, for a comment under a change: what is new, what is missing, what was
//! explored. Whatever a body wrote is quoted, so that nothing in it is taken for markup.

use super::night::{NightReport, classes};
use super::seeds::replay_command;

/// More than this a comment does not hold; the page and the JSON have them all.
const MOST_SHOWN: usize = 20;

/// The night as Markdown.
#[must_use]
pub fn render(report: &NightReport) -> String {
    let sign = match report.word() {
        "green" => "✅",
        "incomplete" => "⚠️",
        _ => "❌",
    };
    let mut text = format!("### {sign} {}\n\n", escaped(&report.headline()));
    text += &format!(
        "Plan `{}`, seed {}, effort {}. {}.\n\n",
        report.night.plan.hash(),
        report.night.plan.inputs.seed,
        report.night.plan.inputs.effort,
        report.canaries(),
    );
    text += &failures(report);
    if !report.night.gaps.is_empty() {
        text += "**Incomplete**\n\n";
        for gap in &report.night.gaps {
            text += &format!("- {}\n", escaped(&gap.to_string()));
        }
        text += "\n";
    }
    if let Some(trend) = &report.trend {
        text += &format!("**Since `{}`**\n\n", trend.base);
        for line in report.changes() {
            text += &format!("- {}\n", escaped(&line));
        }
        text += "\n";
    }
    text += &explored(report);
    text
}

fn failures(report: &NightReport) -> String {
    let failures = report.failures();
    if failures.is_empty() {
        return String::new();
    }
    let mut text = "| | where | what |\n|---|---|---|\n".to_owned();
    for (word, failing) in failures.iter().take(MOST_SHOWN) {
        text += &format!(
            "| {word} | {} | {} |\n",
            cell(&failing.place),
            cell(&failing.what)
        );
    }
    if failures.len() > MOST_SHOWN {
        text += &format!(
            "\n{} more are in the report.\n",
            failures.len() - MOST_SHOWN
        );
    }
    text += "\n";
    let seeds = failures
        .iter()
        .filter_map(|(_, failing)| failing.seed.as_ref());
    let commands: Vec<String> = seeds
        .take(MOST_SHOWN)
        .map(|seed| replay_command(seed))
        .collect();
    if !commands.is_empty() {
        text += &format!(
            "<details><summary>See them fail again</summary>\n\n```\n{}\n```\n</details>\n\n",
            commands.join("\n")
        );
    }
    text
}

fn explored(report: &NightReport) -> String {
    let mut text = "<details><summary>What was explored</summary>\n\n\
                    | engine | units | seeds | explored | verdicts |\n|---|--:|--:|--:|---|\n"
        .to_owned();
    for explored in report.explored() {
        text += &format!(
            "| {} | {} | {} | {} {} | {} |\n",
            explored.engine,
            explored.units,
            explored.seeds,
            explored.explored,
            explored.counts,
            classes(&explored)
        );
    }
    let probes = report.probes();
    text += &format!(
        "\n{} probes hit, {} missed\n",
        probes.hit,
        probes.missed.len()
    );
    for line in probes
        .missed
        .iter()
        .chain(&report.left_out())
        .take(MOST_SHOWN)
    {
        text += &format!("- {}\n", escaped(line));
    }
    text + "\n</details>\n"
}

/// A cell of a table: one line, and no bar ends it.
fn cell(text: &str) -> String {
    escaped(text).replace('|', "\\|")
}

/// Text that is taken for text.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            c if c.is_control() => escaped.push(' '),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            // Names would be told, and links made.
            '@' => escaped.push_str("@\u{200b}"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '~' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_body_wrote_is_no_markup() {
        assert_eq!(
            cell("a|b\n<img> `x` @you [l](u)"),
            "a\\|b &lt;img&gt; \\`x\\` @\u{200b}you \\[l\\](u)"
        );
    }
}
