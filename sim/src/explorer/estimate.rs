//! How long a search would take, before anybody waits for it.

use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use super::parallel::divide;
use super::reduction::Reduction;
use super::runtime::{Ending, SharedSchedule};
use super::sleeping::{Habits, Probe};
use super::{Explorer, Plan, Session};
use crate::{Observation, panics};

/// Executions of the real search by which its pace is measured.
const PILOT: u64 = 2_000;
/// The tree is divided before it is sampled: what differs between subtrees is then known and
/// not guessed.
const MOST_SUBTREES: usize = 128;
/// Each subtree gets at least about so many probes, or nothing is known of their spread.
const PROBES_A_SUBTREE: usize = 8;

/// How many executions the full search would run, and for how long, by Knuth's method: random
/// ways down the tree of all traces, each taken to stand for as many as the product of the
/// widths it met.
///
/// The mean is unbiased, however few the probes; how far off it may be is what the standard
/// error says, and that is itself an estimate: where few of many probes got to an end, a rare
/// large one may be missing.
///
/// ```
/// use selvedge_sim::Observation;
/// use selvedge_sim::explorer::Explorer;
///
/// let estimate = Explorer::default().estimate(10, 1, Observation::none);
/// assert_eq!(estimate.exact, Some(1));
/// assert!(estimate.seconds() > 0.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Ways drawn. They are fewer than were asked for only where one did not end within the
    /// bound on steps: such a body has no number of executions.
    pub probes: u32,
    /// Those of them that got to an end, as those of the search do.
    pub ended: u32,
    /// Those of them that ended in a failure.
    pub failed: u32,
    /// The mean: executions of the full search.
    pub executions: f64,
    /// The mean's standard error: the spread of what other probes would have said.
    pub standard_error: f64,
    /// What the full search takes, where it is so small that it was run to its end.
    pub exact: Option<u64>,
    /// Executions a second of the real search on one core.
    pub rate: f64,
}

impl Estimate {
    /// Seconds the full search would take on one core.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        let executions = self.exact.map_or(self.executions, |exact| exact as f64);
        executions / self.rate.max(f64::MIN_POSITIVE)
    }
}

impl Explorer {
    /// Estimates how many executions the full search would run. The same seed draws the same
    /// probes.
    ///
    /// ```
    /// use selvedge_core::platform::{Atomic, AtomicInt, JoinHandle, Ordering, Platform, Shared};
    /// use selvedge_sim::explorer::Explorer;
    /// use selvedge_sim::{ExplorerPlatform as P, Observation};
    ///
    /// let estimate = Explorer::default().estimate(100, 1, || {
    ///     let n = <P as Platform>::Arc::new(<P as Platform>::AtomicU32::new(0));
    ///     let theirs = n.clone();
    ///     let other = P::spawn(move || theirs.fetch_add(1, Ordering::SeqCst));
    ///     n.fetch_add(1, Ordering::SeqCst);
    ///     other.join();
    ///     Observation::none()
    /// });
    /// assert_eq!(estimate.exact, Some(2));
    /// assert!((estimate.executions - 2.0).abs() < 0.1, "{estimate:?}");
    /// ```
    pub fn estimate(
        &self,
        probes: u32,
        seed: u64,
        body: impl Fn() -> Observation + 'static,
    ) -> Estimate {
        panics::quietly(|| self.probe(probes, seed, body))
    }

    /// The same, where somebody else looks after panics.
    pub(crate) fn probe(
        &self,
        probes: u32,
        seed: u64,
        body: impl Fn() -> Observation + 'static,
    ) -> Estimate {
        let mut session = Session::new(self, SharedSchedule::default(), body);
        let (mut rng, mut habits) = (ChaCha8Rng::seed_from_u64(seed), Habits::default());
        let mut pilot = pilot(&mut session, &mut habits);
        let strata = (probes as usize / PROBES_A_SUBTREE).clamp(1, MOST_SUBTREES);
        let mut visible = session.record.seen_dropped.len();
        let mut subtrees = divide(&mut session, strata, || false).prefixes;
        let mut tally = Tally::of(subtrees.len());
        while tally.probes < probes && !subtrees.is_empty() {
            if session.record.seen_dropped.len() > visible {
                // The tree is another from now on.
                visible = session.record.seen_dropped.len();
                subtrees = divide(&mut session, strata, || false).prefixes;
                tally = Tally::of(subtrees.len());
                pilot.exact = None;
                continue;
            }
            let place = tally.probes as usize % subtrees.len();
            let probe = Probe::new(rng, habits, &subtrees[place]);
            let (plan, ending) = session.execute(Plan::Probe(Box::new(probe)));
            let Plan::Probe(probe) = plan else {
                break;
            };
            let probe = *probe;
            (rng, habits) = (probe.rng, probe.habits);
            habits.learn(&session.record);
            tally.add(place, &ending, probe.log_width.exp());
            if matches!(ending, Ending::Livelock) {
                break;
            }
        }
        let (executions, variance) = tally.sum();
        Estimate {
            probes: tally.probes,
            ended: tally.ended,
            failed: tally.failed,
            executions,
            standard_error: variance.sqrt(),
            exact: pilot.exact,
            rate: pilot.rate,
        }
    }
}

/// What the probes of each subtree said.
struct Tally {
    probes: u32,
    ended: u32,
    failed: u32,
    widths: Vec<Vec<f64>>,
}

impl Tally {
    fn of(subtrees: usize) -> Self {
        Tally {
            probes: 0,
            ended: 0,
            failed: 0,
            widths: vec![Vec::new(); subtrees],
        }
    }

    fn add(&mut self, subtree: usize, ending: &Ending, width: f64) {
        let ended = !matches!(ending, Ending::GivenUp);
        self.probes += 1;
        self.ended += u32::from(ended);
        self.failed += u32::from(ended && !matches!(ending, Ending::Complete));
        self.widths[subtree].push(if ended { width } else { 0.0 });
    }

    /// The sum of the subtrees' means, and the variance of that.
    fn sum(&self) -> (f64, f64) {
        let of_one = |widths: &Vec<f64>| {
            let n = widths.len().max(1) as f64;
            let mean = widths.iter().sum::<f64>() / n;
            let squares = widths.iter().map(|width| (width - mean).powi(2));
            (mean, squares.sum::<f64>() / (n - 1.0).max(1.0) / n)
        };
        let of_each = self.widths.iter().map(of_one);
        of_each.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

/// The beginning of the real search.
struct Pilot {
    /// Executions of the whole search, if this was all of it.
    exact: Option<u64>,
    /// Executions a second.
    rate: f64,
}

fn pilot(session: &mut Session, habits: &mut Habits) -> Pilot {
    let started = Instant::now();
    let mut reduction = Reduction::default();
    let (mut executions, mut all) = (0_u64, 0);
    let exact = loop {
        if all >= PILOT {
            break None;
        }
        all += 1;
        let visible = session.record.seen_dropped.len();
        let (plan, ending) = session.execute(Plan::Reduced(reduction));
        let Plan::Reduced(back) = plan else {
            break None;
        };
        reduction = back;
        habits.learn(&session.record);
        executions += u64::from(!matches!(ending, Ending::GivenUp));
        if matches!(ending, Ending::Broken(_) | Ending::Livelock) {
            // A search ends there, and to go on would take for ever.
            break None;
        }
        if session.record.is_open_to_any() {
            // The search is another one.
            break None;
        }
        if session.record.seen_dropped.len() > visible {
            (reduction, executions) = (Reduction::default(), 0);
            continue;
        }
        let cut_short = matches!(ending, Ending::Livelock | Ending::Panicked(_));
        if !reduction.advance(&session.record, cut_short) {
            break Some(executions);
        }
    };
    let seconds = started.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
    Pilot {
        exact,
        rate: executions as f64 / seconds,
    }
}
