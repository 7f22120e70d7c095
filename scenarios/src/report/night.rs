//! A night, as it is told: what is new first, then what is missing, what was explored, and how it
//! compares.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use selvedge_sim::{Class, Engine, Variant};
use serde::Serialize;
use serde_json::{Value, json};

use super::seeds::replay_command;
use super::{UnitReport, table};
use crate::cli::Exit;
use crate::nightly::{Base, Failing, Gap, Key, Night, Shard, Trend};

/// Of the JSON's form.
const SCHEMA: u32 = 1;
/// More changes than this are counted, not shown; the JSON has them all.
const MOST_SHOWN: usize = 10;

/// A night with all that is told of it.
#[derive(Debug)]
pub struct NightReport {
    /// The night.
    pub night: Night,
    /// The same, as another night is compared with it.
    pub base: Base,
    /// What changed since another, if one was named.
    pub trend: Option<Trend>,
    /// How the program ends.
    pub exit: Exit,
}

/// What one engine explored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explored {
    /// The engine's name, with its bound.
    pub engine: String,
    /// What it counts: executions, or states.
    pub counts: String,
    /// Its units.
    pub units: u64,
    /// Pieces that drew from a seed of their own; zero where nothing is drawn.
    pub seeds: u64,
    /// Executions or states, those after a violation included.
    pub explored: u64,
    /// Units by the class of their verdict.
    pub classes: BTreeMap<String, u64>,
}

/// The probes that shipped bodies must reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Probes {
    /// Reached.
    pub hit: u64,
    /// Not reached, and where.
    pub missed: Vec<String>,
}

impl NightReport {
    /// Of this night, beside another or alone.
    #[must_use]
    pub fn new(night: Night, trend: Option<Trend>) -> Self {
        let same_plan = trend.as_ref().and_then(|trend| trend.same_plan.as_ref());
        let differs = same_plan.is_some_and(|same| !same.different.is_empty());
        let exit = match night.run.exit {
            worse @ (Exit::Property | Exit::Deadlock | Exit::Liveness) => worse,
            _ if differs => Exit::Nondeterminism,
            other => other,
        };
        NightReport {
            base: Base::of(&night),
            night,
            trend,
            exit,
        }
    }

    /// The night in a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.exit {
            Exit::Ok => "green",
            Exit::Budget | Exit::Interrupted => "incomplete",
            _ => "red",
        }
    }

    /// The night in a line.
    #[must_use]
    pub fn headline(&self) -> String {
        let night = &self.night;
        let inputs = &night.plan.inputs;
        let shards = match night.shards {
            1 => "1 shard".to_owned(),
            many => format!("{many} shards"),
        };
        format!(
            "Night '{}' is {}: {} failures, {} gaps; {} of {} units in {shards}",
            inputs.run_id,
            self.word(),
            self.base.failures.len(),
            night.gaps.len(),
            night
                .units
                .iter()
                .filter(|unit| unit.pieces == unit.of)
                .count(),
            night.plan.units.len(),
        )
    }

    /// What fails: what is new first. Without another night nothing is.
    #[must_use]
    pub fn failures(&self) -> Vec<(&'static str, &Failing)> {
        match &self.trend {
            None => self
                .base
                .failures
                .iter()
                .map(|failing| ("", failing))
                .collect(),
            Some(trend) => {
                let new = trend.new.iter().map(|failing| ("new", failing));
                new.chain(trend.still.iter().map(|failing| ("still", failing)))
                    .collect()
            }
        }
    }

    /// The planted bugs in a line.
    #[must_use]
    pub fn canaries(&self) -> String {
        let all = self.night.canaries.len();
        let dead = self.night.dead_canaries().count();
        format!("{} of {all} planted bugs found", all - dead)
    }

    /// What was explored, by engine.
    #[must_use]
    pub fn explored(&self) -> Vec<Explored> {
        let mut by_engine: BTreeMap<Engine, Explored> = BTreeMap::new();
        for (unit, report) in self.night.rows() {
            let planned = &self.night.plan.units[unit.place];
            let of = by_engine.entry(report.engine).or_default();
            of.engine = report.engine.to_string();
            of.counts = report.engine.counts().to_owned();
            of.units += 1;
            of.explored = of.explored.saturating_add(unit.explored);
            if planned.executions > 0 {
                of.seeds += u64::from(unit.pieces);
            }
            let class = report.verdict.class().name().to_owned();
            *of.classes.entry(class).or_default() += 1;
        }
        by_engine.into_values().collect()
    }

    /// The bounds within which searches are complete, and how many units each.
    #[must_use]
    pub fn bounds(&self) -> BTreeMap<String, u64> {
        let mut bounds = BTreeMap::new();
        let bounded = self.night.run.units.iter();
        for report in bounded.filter(|report| report.verdict.class() == Class::Bounded) {
            *bounds.entry(report.verdict.scope()).or_default() += 1;
        }
        bounds
    }

    /// The probes that shipped bodies must reach.
    #[must_use]
    pub fn probes(&self) -> Probes {
        let mut probes = Probes::default();
        for (unit, report) in self.night.rows() {
            if report.variant == Variant::AsReported || report.verdict.failure().is_some() {
                continue;
            }
            let all = report.scenario.must_reach.len() as u64;
            probes.hit += all - unit.missed.len() as u64;
            let place = format!("{} {}", report.scenario.id, report.engine);
            probes
                .missed
                .extend(unit.missed.iter().map(|probe| format!("{place}: {probe}")));
        }
        probes
    }

    /// What changed since another night, a line each, without what fails.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let Some(trend) = &self.trend else {
            return Vec::new();
        };
        let mut lines = vec![format!(
            "{} new failures, {} still failing, {} fixed, {} not run again",
            trend.new.len(),
            trend.still.len(),
            trend.fixed.len(),
            trend.unknown.len()
        )];
        let told = |failing: &Failing| format!("{}: {}", failing.place, failing.what);
        lines.extend(
            trend
                .fixed
                .iter()
                .map(|failing| format!("fixed: {}", told(failing))),
        );
        lines.extend((trend.unknown.iter()).map(|f| format!("not run again: {}", told(f))));
        lines.push(format!(
            "{} units explored more, {} less; {} are new, {} are gone",
            trend.more.len(),
            trend.less.len(),
            trend.added.len(),
            trend.gone.len()
        ));
        for (word, changes) in [("more", &trend.more), ("less", &trend.less)] {
            let mut changes: Vec<&(Key, u64, u64)> = changes.iter().collect();
            // The largest change first.
            changes.sort_by_key(|(_, was, is)| std::cmp::Reverse(was.abs_diff(*is)));
            let line =
                |(key, was, is): &&(Key, u64, u64)| format!("{word}: {key}: {was}, now {is}");
            lines.extend(changes.iter().take(MOST_SHOWN).map(line));
            if changes.len() > MOST_SHOWN {
                lines.push(format!("{word}: {} others", changes.len() - MOST_SHOWN));
            }
        }
        if let Some(same) = &trend.same_plan {
            lines.push(format!(
                "the same plan, so the same must come of it: {} units are the same, {} are not; {} \
                 on real threads and {} that are not whole are not compared",
                same.same,
                same.different.len(),
                same.by_luck,
                same.not_whole
            ));
            lines.extend(
                same.different
                    .iter()
                    .map(|line| format!("different: {line}")),
            );
        }
        lines
    }

    /// Units that no shard's budget had room for.
    #[must_use]
    pub fn left_out(&self) -> Vec<String> {
        let line = |left: &super::LeftOut| {
            format!(
                "{} {} {} did not fit: a budget of {} has room",
                left.scenario.id,
                left.variant,
                left.engine,
                humantime::format_duration(left.needs)
            )
        };
        self.night.run.left_out.iter().map(line).collect()
    }
}

/// The whole report as text.
#[must_use]
pub fn text(report: &NightReport) -> String {
    let mut text = format!("{}\n", report.headline());
    text += &format!("plan {}, {}\n", report.night.plan.hash(), report.canaries());
    for (word, failing) in report.failures() {
        let word = if word.is_empty() {
            String::new()
        } else {
            format!("{word}: ")
        };
        text += &format!("✗ {word}{}: {}\n", failing.place, failing.what);
        if let Some(seed) = &failing.seed {
            text += &format!("    {}\n", replay_command(seed));
        }
    }
    for gap in &report.night.gaps {
        text += &format!("✗ incomplete: {gap}\n");
    }
    for line in report.changes() {
        text += &format!("{line}\n");
    }
    let mut table = table::new(&["engine", "units", "seeds", "explored", "", "verdicts"]);
    for explored in report.explored() {
        table.add_row([
            explored.engine.clone(),
            explored.units.to_string(),
            match explored.seeds {
                0 => String::new(),
                seeds => seeds.to_string(),
            },
            explored.explored.to_string(),
            explored.counts.clone(),
            classes(&explored),
        ]);
    }
    text += &format!("{table}\n");
    for (bound, units) in report.bounds() {
        text += &format!("{units} complete within: {bound}\n");
    }
    let probes = report.probes();
    text += &format!(
        "{} probes hit, {} missed\n",
        probes.hit,
        probes.missed.len()
    );
    for line in probes.missed.iter().chain(&report.left_out()) {
        text += &format!("  {line}\n");
    }
    text.trim_end().to_owned()
}

/// The units of an engine by class, in words.
#[must_use]
pub fn classes(explored: &Explored) -> String {
    let each = explored.classes.iter();
    let each = each.map(|(class, units)| format!("{units} {class}"));
    each.collect::<Vec<_>>().join(", ")
}

/// What one shard says of itself at its end.
#[must_use]
pub fn shard_text(night: &Night, shard: Shard, path: &Path) -> String {
    let part: BTreeSet<_> = night.plan.part(shard).into_iter().collect();
    let run: u32 = night.units.iter().map(|unit| unit.pieces).sum();
    let dead = night.dead_canaries().count();
    let mut text = format!(
        "Shard {shard} of '{}', plan {}: {run} of {} pieces run, {} of {} planted bugs found; {}\n",
        night.plan.inputs.run_id,
        night.plan.hash(),
        part.len(),
        night.canaries.len() - dead,
        night.canaries.len(),
        path.display(),
    );
    for failing in &Base::of(night).failures {
        text += &format!("✗ {}: {}\n", failing.place, failing.what);
        if let Some(seed) = &failing.seed {
            text += &format!("    {}\n", replay_command(seed));
        }
    }
    for gap in &night.gaps {
        text += &format!("✗ {gap}\n");
    }
    for left in &night.run.left_out {
        let needs = humantime::format_duration(left.needs);
        text += &format!(
            "{} {} {} did not fit: a budget of {needs} has room\n",
            left.scenario.id, left.variant, left.engine
        );
    }
    text.trim_end().to_owned()
}

/// The night as JSON. [`read_base`] reads it again.
#[must_use]
pub fn json(report: &NightReport) -> String {
    let night = &report.night;
    let units = night.rows().map(|(unit, told)| {
        let failure = told.verdict.failure();
        json!({
            "scenario": told.scenario.id,
            "variant": told.variant,
            "engine": told.engine.to_string(),
            "verdict": told.verdict.class().name(),
            "scope": told.verdict.scope(),
            "as_expected": told.surprise.is_none(),
            "surprise": told.surprise,
            "executions": told.verdict.executions(),
            "explored": unit.explored,
            "pieces": unit.pieces,
            "pieces_planned": unit.of,
            "whole": unit.is_whole(told),
            "signature": failure.map(|failure| &failure.signature),
            "detail": failure.map(|failure| &failure.detail),
            "seed": told.seed,
            "shrunk": told.shrunk,
            "escalation": told.escalation,
            "reached": told.reached,
            "missed": unit.missed,
            "wall_ms": u64::try_from(told.took.as_millis()).unwrap_or(u64::MAX),
        })
    });
    let canaries = night.canaries.iter().map(|canary| {
        json!({
            "shard": canary.shard,
            "session": canary.session,
            "scenario": canary.scenario,
            "engine": canary.engine,
            "found": canary.is_alive(),
            "told": canary.line(),
        })
    });
    let whole = json!({
        "schema": SCHEMA,
        "kind": "night",
        "run_id": night.plan.inputs.run_id,
        "plan": night.plan.hash(),
        "inputs": night.plan.inputs,
        "shards": night.shards,
        "word": report.word(),
        "exit": report.exit as u8,
        "failures": report.base.failures,
        "gaps": night.gaps.iter().map(Gap::to_string).collect::<Vec<_>>(),
        "canaries": canaries.collect::<Vec<Value>>(),
        "trend": report.trend,
        "explored": report.explored(),
        "bounds": report.bounds(),
        "probes": report.probes(),
        "left_out": report.left_out(),
        "units": units.collect::<Vec<Value>>(),
    });
    format!("{whole:#}\n")
}

/// A night that [`json()`] wrote, as another is compared with it.
///
/// # Errors
/// What is wrong with the text, in words.
pub fn read_base(text: &str) -> Result<Base, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match (value["kind"].as_str(), value["schema"].as_u64()) {
        (Some("night"), Some(schema)) if schema == u64::from(SCHEMA) => {}
        (Some("night"), schema) => {
            return Err(format!(
                "it has schema {schema:?}, and this program reads {SCHEMA}"
            ));
        }
        _ => return Err("it is JSON, and not of a night".to_owned()),
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// What a unit came to, in a few words.
#[must_use]
pub fn verdict(unit: &UnitReport) -> String {
    let executions = unit.verdict.executions();
    match unit.verdict.failure() {
        Some(failure) => format!("{} after {executions}", failure.signature),
        None => format!(
            "{}, {executions} {}",
            unit.verdict.class(),
            unit.engine.counts()
        ),
    }
}
