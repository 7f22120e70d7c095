//! How far the seeds are, on standard error.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use selvedge_sim::campaign::CampaignFigures;

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// A bar where standard error is a terminal, a line now and then otherwise.
pub(super) struct Progress {
    bar: ProgressBar,
    seeds: u64,
    plain: bool,
    began: Instant,
    last: Cell<Instant>,
}

impl Progress {
    pub(super) fn new(seeds: u64) -> Self {
        let plain = !io::stderr().is_terminal();
        let target = match plain {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let bar = ProgressBar::with_draw_target(Some(seeds), target);
        let style =
            ProgressStyle::with_template("{elapsed:>4} {bar:24} {pos}/{len} seeds  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress {
            bar,
            seeds,
            plain,
            began: Instant::now(),
            last: Cell::new(Instant::now()),
        }
    }

    pub(super) fn look(&self, sum: &CampaignFigures) {
        let rates = rates(sum, self.began.elapsed());
        self.bar.set_position(sum.seeds);
        self.bar.set_message(rates.clone());
        if self.plain && self.last.get().elapsed() >= LINE_EVERY {
            self.last.set(Instant::now());
            // Progress that nobody can read is not worth an error.
            let _ = writeln!(io::stderr(), "[{}/{}] {rates}", sum.seeds, self.seeds);
        }
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Seeds, events and virtual seconds a second of the wall's.
pub(super) fn rates(sum: &CampaignFigures, took: Duration) -> String {
    let seconds = took.as_secs_f64().max(1e-3);
    format!(
        "{:.0} seeds/s, {:.0} events/s, {:.0} virtual s a second",
        sum.seeds as f64 / seconds,
        sum.events as f64 / seconds,
        sum.virtual_time().as_secs_f64() / seconds,
    )
}
