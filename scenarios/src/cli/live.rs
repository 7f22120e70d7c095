//! The live view of a run of processes: a line a rank on a terminal, plain lines now and then
//! otherwise.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::serving::Percentiles;
use crate::training::fleet::{RankStatus, Status};
use crate::training::trajectory::SlotLine;

/// How often the lines of a terminal are made anew.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);
/// Latencies are those of so many epochs before.
const RECENT: usize = 50;

pub(super) struct Live {
    all: MultiProgress,
    epochs: ProgressBar,
    ranks: Vec<ProgressBar>,
    plain: bool,
    last: Option<Instant>,
}

impl Live {
    pub(super) fn new(world: u32, epochs: u64) -> Self {
        let plain = !io::stderr().is_terminal();
        let target = match plain {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let all = MultiProgress::with_draw_target(target);
        let styled = |bar: ProgressBar, template: &str| {
            let style = ProgressStyle::with_template(template);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        };
        let bar = || {
            styled(
                ProgressBar::new(epochs),
                "{elapsed:>4} {bar:24} {pos}/{len} epochs",
            )
        };
        let line = |_| all.add(styled(ProgressBar::new(1), "{wide_msg}"));
        let ranks = (0..world).map(line).collect();
        Live {
            epochs: all.add(bar()),
            ranks,
            all,
            plain,
            last: None,
        }
    }

    pub(super) fn look(&mut self, status: &Status) {
        for news in &status.news {
            self.say(news);
        }
        let every = if self.plain { LINE_EVERY } else { DRAW_EVERY };
        if self.last.is_some_and(|last| last.elapsed() < every) {
            return;
        }
        let first = self.last.replace(Instant::now()).is_none();
        if self.plain {
            if !first {
                let total = self.epochs.length().unwrap_or(0);
                let lines: Vec<String> = (0..).zip(&status.ranks).map(in_short).collect();
                self.say(&format!("[{}/{total}] {}", status.epoch, lines.join("; ")));
            }
            return;
        }
        self.epochs.set_position(status.epoch);
        for (rank, bar) in self.ranks.iter().enumerate() {
            bar.set_message(line(rank, &status.ranks[rank]));
        }
    }

    fn say(&self, text: &str) {
        // Progress that nobody can read is not worth an error.
        let _ = match self.plain {
            true => writeln!(io::stderr(), "{text}"),
            false => self.all.println(text),
        };
    }

    pub(super) fn clear(&self) {
        self.epochs.finish_and_clear();
        self.ranks.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// A rank's line on a terminal.
fn line(rank: usize, status: &RankStatus) -> String {
    let commit = latency(status);
    let (mut epoch, mut alphas, mut stages, mut loss) = Default::default();
    if let Some(line) = &status.line {
        epoch = line.epoch.to_string();
        let each = |of: fn(&SlotLine) -> String, between| {
            line.slots.iter().map(of).collect::<Vec<_>>().join(between)
        };
        alphas = each(|slot| format!("{:.3}", slot.alpha), " ");
        stages = each(|slot| slot.stage.clone(), ", ");
        loss = line
            .loss
            .map_or(String::new(), |loss| format!("{:.4}", loss.loss));
    }
    // What matters most comes first: a narrow terminal cuts the rest off.
    format!(
        "rank {rank} {:<7} epoch {epoch:>4}  alpha {alphas:<11}  commit p50 {:.1} p99 {:.1} ms  \
         {stages:<22}  loss {loss:<6}  view {}, life {}",
        status.standing.word(),
        commit.p50,
        commit.p99,
        status.view,
        status.life,
    )
}

/// How long the last commits took, from a rank's arrival on.
fn latency(status: &RankStatus) -> Percentiles {
    let mut recent: Vec<Duration> = status.commits.iter().rev().take(RECENT).copied().collect();
    Percentiles::of(&mut recent)
}

/// A rank in a line with others.
fn in_short((rank, status): (usize, &RankStatus)) -> String {
    let (line, commit) = (status.line.as_ref(), latency(status));
    let epoch = line.map_or("-".to_owned(), |line| line.epoch.to_string());
    let alphas = line.map_or(String::new(), |line| {
        let alphas = line.slots.iter().map(|slot| format!("{:.3}", slot.alpha));
        alphas.collect::<Vec<_>>().join("/")
    });
    format!(
        "rank {rank} {} epoch {epoch} alpha {alphas} commit p50 {:.1} p99 {:.1} ms",
        status.standing.word(),
        commit.p50,
        commit.p99
    )
}

#[cfg(test)]
mod tests {
    use selvedge_core::ddp::RunId;

    use super::*;
    use crate::training::fleet::Standing;
    use crate::training::job::genesis;
    use crate::training::trajectory::Line;

    #[test]
    fn a_line_says_how_a_rank_stands_even_before_it_has_said_anything() {
        let mut status = RankStatus {
            standing: Standing::Joining,
            life: 2,
            line: None,
            view: 3,
            ends: Vec::new(),
            commits: Vec::new(),
            last: String::new(),
        };
        assert!(line(1, &status).starts_with("rank 1 joining epoch       alpha"));
        status.line = Some(Line::of(&genesis(RunId(1)), None, None));
        status.commits = vec![Duration::from_millis(2); 60];
        let told = line(1, &status);
        for part in [
            "epoch    0  alpha 0.000 0.000",
            "germinated, dormant",
            "p50 2.0 p99 2.0 ms",
            "view 3, life 2",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(
            in_short((0, &status)),
            "rank 0 joining epoch 0 alpha 0.000/0.000 commit p50 2.0 p99 2.0 ms"
        );
    }
}
