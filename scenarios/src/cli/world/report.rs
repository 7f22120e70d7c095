//! What came of the seeds: a table, JSON, an exit code.

use std::fs::File;
use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use super::run::{Found, Totals};
use crate::cli::{Exit, complain};
use crate::report::json::replace;
use crate::report::{seeds, table};

pub(super) struct Report {
    pub(super) totals: Totals,
    /// Seeds that were to be run.
    pub(super) asked: u64,
    pub(super) took: Duration,
    pub(super) interrupted: bool,
    pub(super) twice: bool,
}

impl Report {
    /// How the program ends: first what says most about the code that ships.
    pub(super) fn exit(&self) -> Exit {
        let kinds = || {
            self.totals
                .found
                .iter()
                .map(|found| Exit::from(found.failure.kind))
        };
        let differs = kinds().find(|&exit| exit == Exit::Nondeterminism);
        if let Some(exit) = differs.or_else(|| kinds().next()) {
            return exit;
        }
        match (self.interrupted, &self.totals.failed, self.totals.cut) {
            (true, _, _) => Exit::Interrupted,
            (_, Some(_), _) => Exit::Harness,
            (_, _, true) => Exit::Budget,
            _ => Exit::Ok,
        }
    }

    /// Keeps the seeds, so that their short names work here.
    pub(super) fn keep_seeds(&self) {
        let kept = self.totals.found.iter().filter_map(Found::text);
        for problem in kept.filter_map(|seed| seeds::keep_one(&seed).err()).take(1) {
            complain(&problem);
        }
    }

    pub(super) fn table(&self) -> String {
        let figures = &self.totals.figures;
        let wall = self.took.as_secs_f64().max(1e-3);
        let virtual_s = figures.virtual_time().as_secs_f64();
        let mut sums = table::new(&[
            "seeds",
            "events",
            "virtual time",
            "wall",
            "seeds/s",
            "events/s",
            "virtual s/s",
            "digest",
        ]);
        sums.add_row([
            figures.seeds.to_string(),
            figures.events.to_string(),
            format!("{virtual_s:.0} s"),
            format!("{wall:.1} s"),
            format!("{:.0}", figures.seeds as f64 / wall),
            format!("{:.0}", figures.events as f64 / wall),
            format!("{:.0}", virtual_s / wall),
            format!("{:016x}", figures.digest),
        ]);
        let mut text = format!("{sums}\n\n");
        let mut probes = table::new(&["reached", "probe"]);
        for (probe, count) in &figures.probes {
            let count = match count {
                0 => "MISSED".to_owned(),
                count => count.to_string(),
            };
            probes.add_row([count, probe.clone()]);
        }
        if !figures.probes.is_empty() {
            text += &format!("{probes}\n\n");
        }
        for found in &self.totals.found {
            text += &found.lines();
        }
        text + &self.summary()
    }

    fn summary(&self) -> String {
        let figures = &self.totals.figures;
        let mut text = String::new();
        if self.twice && !self.totals.found.iter().any(Found::is_difference) {
            text += &format!("{} seeds run twice: each was the same run\n", figures.seeds);
        }
        let missed = figures.missed();
        if figures.seeds > 0 && !missed.is_empty() {
            text += &format!(
                "never reached, so nothing is said about it: {}\n",
                missed.join(", ")
            );
        }
        if let Some(failed) = &self.totals.failed {
            text += &format!("the bed failed: {failed}\n");
        }
        let left = self.asked.saturating_sub(figures.seeds);
        let why = match (
            self.interrupted,
            self.totals.cut,
            self.totals.found.is_empty(),
        ) {
            (true, _, _) => "; interrupted, the others were not run",
            (_, true, _) => "; time ran out, the others were not run",
            (_, _, false) if left > 0 => "; that is enough, the others were not run",
            _ => "",
        };
        text += &match self.totals.found.len() {
            0 => format!(
                "{} of {} seeds: every property held{why}",
                figures.seeds, self.asked
            ),
            n => format!(
                "{} of {} seeds: {n} VIOLATED{why}",
                figures.seeds, self.asked
            ),
        };
        text
    }

    pub(super) fn write_json(&self, mut file: File) -> io::Result<()> {
        let figures = &self.totals.figures;
        let wall = self.took.as_secs_f64().max(1e-3);
        let virtual_s = figures.virtual_time().as_secs_f64();
        let violations: Vec<Value> = self.totals.found.iter().map(Found::json).collect();
        let whole = json!({
            "schema": 1,
            "asked": self.asked,
            "seeds": figures.seeds,
            "events": figures.events,
            "digest": format!("{:016x}", figures.digest),
            "virtual_s": virtual_s,
            "wall_s": wall,
            "events_a_second": figures.events as f64 / wall,
            "virtual_s_a_second": virtual_s / wall,
            "probes": figures.probes,
            "missed": figures.missed(),
            "violations": violations,
            "failed": self.totals.failed,
            "cut": self.totals.cut,
            "interrupted": self.interrupted,
            "exit": self.exit() as u8,
        });
        replace(&mut file, format!("{whole:#}\n").as_bytes())
    }
}

impl Found {
    fn is_difference(&self) -> bool {
        Exit::from(self.failure.kind) == Exit::Nondeterminism
    }

    /// The seed, as small as it was made.
    fn text(&self) -> Option<String> {
        let smaller = self.smaller.as_ref().map(|smaller| &smaller.seed);
        smaller.or(self.seed.as_ref()).map(ToString::to_string)
    }

    fn lines(&self) -> String {
        let detail = self.failure.detail.replace('\n', "\n    ");
        let mut text = format!(
            "✗ seed {}: {}\n    {detail}\n",
            self.world, self.failure.signature
        );
        if !self.failure.location.is_empty() {
            text += &format!("    at {}\n", self.failure.location);
        }
        if let Some(smaller) = &self.smaller {
            let (before, after) = (smaller.before, smaller.after);
            text += &format!(
                "    made smaller: {} faults instead of {}, {} events instead of {}\n",
                after.faults, before.faults, after.events, before.events
            );
        }
        match self.text() {
            Some(seed) => text += &format!("    {}\n", seeds::replay_command(&seed)),
            None => text += "    no seed: what is not the same twice cannot be run again\n",
        }
        text
    }

    fn json(&self) -> Value {
        json!({
            "world": self.world,
            "signature": self.failure.signature,
            "detail": self.failure.detail,
            "seed": self.text(),
            "as_found": self.seed.as_ref().map(ToString::to_string),
        })
    }
}
