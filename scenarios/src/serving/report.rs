//! What a served trace came to, as values; how it is said is the command line's.

use std::time::Duration;

use serde::Serialize;

/// The most samples that are kept. When there are more, every other one goes.
const MOST_SAMPLES: usize = 4_096;

/// How serving a trace went. Times are virtual.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServeReport {
    /// Whether it was ended early, by whoever watched.
    pub interrupted: bool,
    /// Requests of the trace.
    pub requests: usize,
    /// Lines that were left out.
    pub bad_lines: usize,
    /// Prompt tokens of all requests.
    pub prompt_tokens: u64,
    /// Tokens that the requests ask for.
    pub output_tokens: u64,
    /// Conversations that were told apart.
    pub agents: usize,
    /// What became of the requests.
    #[serde(flatten)]
    pub counts: Counts,
    /// Accepted, and not ended. None, unless it was interrupted.
    pub unended: usize,
    /// From the first arrival to the last end, in seconds.
    pub virtual_s: f64,
    /// Steps of the model.
    pub steps: u64,
    /// Tokens generated.
    pub generated: u64,
    /// Tokens generated, a step.
    pub tokens_per_step: f64,
    /// Tokens generated, a virtual second.
    pub tokens_per_s: f64,
    /// From arrival to admission.
    pub waiting_ms: Percentiles,
    /// From arrival to the first token.
    pub first_token_ms: Percentiles,
    /// From token to token, the mean of each request.
    pub between_tokens_ms: Percentiles,
    /// From arrival to the end.
    pub total_ms: Percentiles,
    /// Prompt tokens, computed and spared.
    pub prefill: Prefill,
    /// The pool's use.
    pub pool: PoolUse,
    /// The longest the queue was.
    pub peak_waiting: u32,
    /// The most that ran at once.
    pub peak_running: u32,
    /// Requests that gave up their blocks.
    pub preemptions: u64,
    /// Idle caches that were dropped for want of blocks.
    pub evictions: u64,
    /// What the model did that it must not.
    pub backend_faults: u64,
    /// Queue and pool over time.
    pub series: Vec<Sample>,
}

/// What became of the requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Taken by the engine.
    pub accepted: usize,
    /// Of those, completed.
    pub completed: usize,
    /// Of those, cancelled.
    pub cancelled: usize,
    /// Of those, failed.
    pub failed: usize,
    /// Why the first failed.
    pub first_failure: Option<String>,
    /// Refused, because they need more blocks than there are.
    pub never_fit: usize,
    /// The most blocks that one of those needs.
    pub largest_needed: u64,
    /// Refused, because as many waited as may.
    pub queue_full: usize,
}

impl Counts {
    /// Accepted, and over.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.completed + self.cancelled + self.failed
    }

    /// Not accepted.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.never_fit + self.queue_full
    }
}

/// Prompt tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Prefill {
    /// Computed by the model, those of preempted requests again.
    pub computed: u64,
    /// Spared by what their agents had cached.
    pub reused: u64,
    /// The part of all that was spared.
    pub reused_share: f64,
}

/// Blocks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PoolUse {
    /// There are.
    pub blocks: u32,
    /// The most in use at once, by requests and idle caches.
    pub peak: u32,
    /// The mean over virtual time.
    pub mean: f64,
    /// In idle caches, when the last request had ended.
    pub cached_at_end: u64,
    /// Still taken after the engine was shut down: 0, or it has lost them.
    pub left_after_shutdown: u32,
}

/// The report in words, what and how much, for the table and the page.
#[must_use]
pub fn rows(report: &ServeReport) -> Vec<(&'static str, String)> {
    let counts = &report.counts;
    let ms = |of: Percentiles| {
        let time = |ms: f64| seconds(ms / 1_000.0);
        let [p50, p90, p99, max] = [of.p50, of.p90, of.p99, of.max].map(time);
        format!("p50 {p50}, p90 {p90}, p99 {p99}, most {max}")
    };
    let percent = |part: f64| format!("{:.1} %", part * 100.0);
    let of_pool = |n: f64| percent(n / f64::from(report.pool.blocks.max(1)));
    let mut rows = vec![
        (
            "requests",
            format!(
                "{} of {} conversations: {} prompt tokens, {} to generate",
                report.requests, report.agents, report.prompt_tokens, report.output_tokens
            ),
        ),
        (
            "ended",
            format!(
                "{} completed, {} cancelled, {} failed, {} not ended",
                counts.completed, counts.cancelled, counts.failed, report.unended
            ),
        ),
        (
            "virtual time",
            format!(
                "{}, {} steps of the model",
                seconds(report.virtual_s),
                report.steps
            ),
        ),
        (
            "throughput",
            format!(
                "{:.1} tokens a step, {:.0} a virtual second",
                report.tokens_per_step, report.tokens_per_s
            ),
        ),
        ("waiting for admission", ms(report.waiting_ms)),
        ("time to first token", ms(report.first_token_ms)),
        ("time between tokens", ms(report.between_tokens_ms)),
        ("time to the end", ms(report.total_ms)),
        (
            "prompt tokens reused",
            format!(
                "{} of {}, {}",
                report.prefill.reused,
                report.prefill.reused + report.prefill.computed,
                percent(report.prefill.reused_share)
            ),
        ),
        (
            "pool",
            format!(
                "{} blocks: {} in use at most, {} in the mean",
                report.pool.blocks,
                of_pool(f64::from(report.pool.peak)),
                of_pool(report.pool.mean)
            ),
        ),
        (
            "pool at the end",
            format!(
                "{} blocks in idle caches, {} left after shutdown",
                report.pool.cached_at_end, report.pool.left_after_shutdown
            ),
        ),
        (
            "queue",
            format!(
                "{} waited at most, {} ran at most",
                report.peak_waiting, report.peak_running
            ),
        ),
        (
            "gave way",
            format!(
                "{} preemptions, {} idle caches evicted",
                report.preemptions, report.evictions
            ),
        ),
    ];
    if counts.never_fit > 0 {
        rows.push((
            "refused: never fits",
            format!(
                "{}; the largest needs {} blocks of {}",
                counts.never_fit, counts.largest_needed, report.pool.blocks
            ),
        ));
    }
    if counts.queue_full > 0 {
        rows.push(("refused: queue full", counts.queue_full.to_string()));
    }
    if report.bad_lines > 0 {
        rows.push(("malformed lines left out", report.bad_lines.to_string()));
    }
    if let Some(why) = &counts.first_failure {
        rows.push(("the first that failed", why.clone()));
    }
    if report.backend_faults > 0 {
        rows.push(("faults of the model", report.backend_faults.to_string()));
    }
    rows
}

/// A time with a unit that suits it.
#[must_use]
pub fn seconds(s: f64) -> String {
    match s {
        s if s < 1.0 => format!("{:.0} ms", s * 1_000.0),
        s if s < 100.0 => format!("{s:.1} s"),
        s => format!("{s:.0} s"),
    }
}

/// How many milliseconds the given part of all took at most: the nearest-rank percentiles.
///
/// ```
/// use std::time::Duration;
///
/// use selvedge_scenarios::serving::Percentiles;
///
/// let mut times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
/// let of = Percentiles::of(&mut times);
/// assert_eq!((of.p50, of.p90, of.p99, of.max), (100.0, 180.0, 198.0, 200.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half.
    pub p50: f64,
    /// Nine in ten.
    pub p90: f64,
    /// Ninety-nine in a hundred.
    pub p99: f64,
    /// All.
    pub max: f64,
}

impl Percentiles {
    /// Sorts the times. All are 0 if there is none.
    pub fn of(times: &mut [Duration]) -> Self {
        times.sort_unstable();
        let rank = |percent: usize| {
            let place = (times.len() * percent).div_ceil(100).max(1) - 1;
            let time = times.get(place).copied().unwrap_or_default();
            time.as_secs_f64() * 1_000.0
        };
        Percentiles {
            p50: rank(50),
            p90: rank(90),
            p99: rank(99),
            max: rank(100),
        }
    }
}

/// The engine after a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Virtual time at the turn's beginning, in milliseconds.
    pub at_ms: f64,
    /// Steps of the model so far.
    pub steps: u64,
    /// Requests that wait for admission.
    pub waiting: u32,
    /// Requests that run.
    pub running: u32,
    /// Blocks in use.
    pub used_blocks: u32,
    /// Of those, in idle caches.
    pub cached_blocks: u32,
}

/// Samples over time: as many as a plot can show, however long the run, and exact peaks.
#[derive(Clone, Debug)]
pub(super) struct Series {
    kept: Vec<Sample>,
    last: Sample,
    /// One of so many is kept.
    stride: usize,
    seen: usize,
    peak_used: u32,
    peak_waiting: u32,
    peak_running: u32,
    /// Blocks times milliseconds.
    used_area: f64,
}

impl Default for Series {
    fn default() -> Self {
        Series {
            kept: Vec::new(),
            last: Sample::default(),
            stride: 1,
            seen: 0,
            peak_used: 0,
            peak_waiting: 0,
            peak_running: 0,
            used_area: 0.0,
        }
    }
}

impl Series {
    pub(super) fn push(&mut self, sample: Sample) {
        self.used_area += f64::from(self.last.used_blocks) * (sample.at_ms - self.last.at_ms);
        self.peak_used = self.peak_used.max(sample.used_blocks);
        self.peak_waiting = self.peak_waiting.max(sample.waiting);
        self.peak_running = self.peak_running.max(sample.running);
        if self.seen.is_multiple_of(self.stride) {
            self.kept.push(sample);
        }
        self.seen += 1;
        self.last = sample;
        if self.kept.len() > MOST_SAMPLES {
            let mut place = 0;
            self.kept.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.stride *= 2;
        }
    }

    pub(super) fn last(&self) -> Sample {
        self.last
    }

    pub(super) fn peak_used(&self) -> u32 {
        self.peak_used
    }

    pub(super) fn peak_waiting(&self) -> u32 {
        self.peak_waiting
    }

    pub(super) fn peak_running(&self) -> u32 {
        self.peak_running
    }

    pub(super) fn mean_used(&self) -> f64 {
        match self.last.at_ms {
            0.0 => f64::from(self.last.used_blocks),
            until => self.used_area / until,
        }
    }

    /// Those kept, and the last.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let mut samples = self.kept.clone();
        if samples.last().is_some_and(|kept| *kept != self.last) {
            samples.push(self.last);
        }
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_no_percentiles() {
        assert_eq!(Percentiles::of(&mut []), Percentiles::default());
        let one = Percentiles::of(&mut [Duration::from_millis(7)]);
        assert_eq!((one.p50, one.max), (7.0, 7.0));
    }

    #[test]
    fn a_long_series_is_thinned_and_its_peaks_are_exact() {
        let mut series = Series::default();
        for i in 0..100_000_u32 {
            series.push(Sample {
                at_ms: f64::from(i),
                used_blocks: if i == 77_777 { 9 } else { 2 },
                waiting: i % 7,
                ..Sample::default()
            });
        }
        let samples = series.samples();
        assert!((MOST_SAMPLES / 2..=MOST_SAMPLES + 1).contains(&samples.len()));
        assert!(samples.is_sorted_by(|a, b| a.at_ms < b.at_ms));
        assert_eq!(samples.last().map(|s| s.at_ms), Some(99_999.0));
        assert_eq!((series.peak_used(), series.peak_waiting()), (9, 6));
        assert!((series.mean_used() - 2.0).abs() < 1e-3);
    }
}
