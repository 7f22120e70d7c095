//! How far a run is, on standard error.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::schedule::Planned;
use crate::report::UnitReport;

/// A bar where standard error is a terminal, a line a unit otherwise.
pub(in crate::cli) struct Progress {
    bar: ProgressBar,
    total: usize,
    plain: bool,
}

impl Progress {
    pub(in crate::cli) fn new(total: usize) -> Self {
        let plain = !io::stderr().is_terminal();
        let target = match plain {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        let style =
            ProgressStyle::with_template("{elapsed:>4} {bar:24} {pos}/{len} units  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { bar, total, plain }
    }

    pub(in crate::cli) fn running(&self, unit: &Planned) {
        self.bar.set_message(describe(unit));
    }

    pub(in crate::cli) fn executions(&self, unit: &Planned, executions: u64) {
        self.bar.set_message(format!(
            "{}: {executions} {}",
            describe(unit),
            unit.engine.counts()
        ));
    }

    /// A unit that there was no time for.
    pub(in crate::cli) fn skip(&self) {
        self.bar.inc(1);
    }

    pub(in crate::cli) fn finished(&self, unit: &UnitReport) {
        self.bar.inc(1);
        if self.plain {
            let line = format!(
                "[{}/{}] {} {} {}: {}, {} {}, {:.1} s{}",
                self.bar.position(),
                self.total,
                unit.scenario.id,
                unit.variant,
                unit.engine,
                unit.verdict.class(),
                unit.verdict.executions(),
                unit.engine.counts(),
                unit.took.as_secs_f64(),
                match &unit.surprise {
                    Some(surprise) => format!("  UNEXPECTED: {surprise}"),
                    None => String::new(),
                }
            );
            // Progress that nobody can read is not worth an error.
            let _ = io::Write::write_all(&mut io::stderr(), format!("{line}\n").as_bytes());
        }
    }

    pub(in crate::cli) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn describe(unit: &Planned) -> String {
    format!("{} {} {}", unit.scenario.id, unit.variant, unit.engine)
}
