//! The seeds, shared out among children. A child runs an interval of them, up to the first that is
//! violated; the rest of its interval goes to another child.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use selvedge_sim::campaign::{Campaign, CampaignFigures};
use selvedge_sim::child::{Children, Outcome, Request};
use selvedge_sim::reduce::{Shrinking, SmallerWorld};
use selvedge_sim::trace::Trace;
use selvedge_sim::unit::{End, Task};
use selvedge_sim::{Engine, Failure, FailureKind, Seed, Variant};

use super::progress::Progress;
use crate::Scenario;
use crate::cli::Stop;
use crate::cli::check::{INTERRUPTED, interrupted};
use crate::registry::NONDETERMINISM;

/// With so many violations more of them say nothing new.
const MOST_FOUND: usize = 10;
/// The first of each signature is made smaller, for so long.
const SHRINK_LIMIT: Duration = Duration::from_millis(1_500);
/// A child's interval is no longer, so that all are done at about the same time.
const MOST_AT_ONCE: u64 = 2_000;
const LEAST_AT_ONCE: u64 = 25;
/// For as long as it takes.
const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 3_600);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is to be run.
pub(super) struct Job {
    pub(super) children: Children,
    pub(super) scenario: &'static Scenario,
    pub(super) variant: Variant,
    pub(super) campaign: Campaign,
    /// Whether each interval is run in a second process, too.
    pub(super) processes: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) jobs: usize,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) figures: CampaignFigures,
    pub(super) found: Vec<Found>,
    /// Time ran out.
    pub(super) cut: bool,
    /// The bed failed.
    pub(super) failed: Option<String>,
}

/// A seed whose run is violated.
pub(super) struct Found {
    pub(super) world: u64,
    pub(super) failure: Failure,
    pub(super) seed: Option<Seed>,
    pub(super) smaller: Option<SmallerWorld>,
}

struct Shared {
    queue: VecDeque<(u64, u64)>,
    totals: Totals,
    /// What each child under way has told.
    under_way: Vec<CampaignFigures>,
}

/// Runs all seeds, or those that there is time for.
pub(super) fn all(job: &Job, progress: &Progress) -> Result<Totals, Stop> {
    let campaign = &job.campaign;
    let jobs = job.jobs as u64;
    let at_once = (campaign.seeds / (jobs * 8)).clamp(LEAST_AT_ONCE, MOST_AT_ONCE);
    let intervals = (0..campaign.seeds.div_ceil(at_once)).map(|nth| {
        let done = nth * at_once;
        let from = campaign.from.wrapping_add(done);
        (from, at_once.min(campaign.seeds - done))
    });
    let shared = Mutex::new(Shared {
        queue: intervals.collect(),
        totals: Totals::default(),
        under_way: vec![CampaignFigures::default(); job.jobs],
    });
    thread::scope(|scope| -> Result<(), Stop> {
        let shared = &shared;
        let workers: Vec<_> = (0..job.jobs)
            .map(|worker| scope.spawn(move || work(job, worker, shared)))
            .collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            thread::sleep(LOOK_EVERY);
            let sum = {
                let shared = lock(shared);
                let mut sum = shared.totals.figures.clone();
                shared.under_way.iter().for_each(|more| sum.add(more));
                sum
            };
            progress.look(&sum);
        }
        for worker in workers {
            match worker.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(Stop::harness("cannot run a child", error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    })?;
    let shared = shared.into_inner();
    let mut totals = shared
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .totals;
    totals
        .found
        .sort_by_key(|found| found.world.wrapping_sub(campaign.from));
    Ok(totals)
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    (shared.lock()).unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn work(job: &Job, worker: usize, shared: &Mutex<Shared>) -> io::Result<()> {
    loop {
        let next = {
            let mut shared = lock(shared);
            let enough = shared.totals.failed.is_some() || shared.totals.found.len() >= MOST_FOUND;
            let late = job
                .deadline
                .is_some_and(|deadline| deadline <= Instant::now());
            if late && !shared.queue.is_empty() {
                shared.totals.cut = true;
            }
            match enough || late || interrupted() {
                true => None,
                false => shared.queue.pop_front(),
            }
        };
        let Some((from, seeds)) = next else {
            return Ok(());
        };
        let request = job.request(from, seeds);
        let told = |outcome: &Outcome| {
            if let Some(figures) = &outcome.campaign {
                lock(shared).under_way[worker] = figures.clone();
            }
        };
        let outcome = job.children.run_watched(&request, &INTERRUPTED, told)?;
        let difference = match job.processes {
            true => job.in_another_process(&request, &outcome)?,
            false => None,
        };
        let found = match difference {
            Some(difference) => Some(difference),
            None => job.found(&request, &outcome, &|signature| {
                let shared = lock(shared);
                !shared
                    .totals
                    .found
                    .iter()
                    .any(|it| it.failure.signature == signature)
            })?,
        };
        let mut shared = lock(shared);
        shared.under_way[worker] = CampaignFigures::default();
        shared
            .totals
            .figures
            .add(&outcome.campaign.unwrap_or_default());
        match outcome.end {
            Some(End::Violated { .. }) if outcome.executions < seeds => {
                let next = from.wrapping_add(outcome.executions);
                shared.queue.push_front((next, seeds - outcome.executions));
            }
            Some(End::Cut) => shared.totals.cut = true,
            Some(End::Failed { what }) => {
                let to = from.wrapping_add(seeds - 1);
                shared.totals.failed = Some(format!("{what} (seeds {from} to {to})"));
            }
            _ => {}
        }
        shared.totals.found.extend(found);
    }
}

impl Job {
    fn request(&self, from: u64, seeds: u64) -> Request {
        let left = self.deadline.map_or(NO_LIMIT, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        Request {
            scenario: self.scenario.id.to_owned(),
            variant: self.variant,
            engine: Engine::World,
            task: Task::Campaign(Campaign {
                from,
                seeds,
                ..self.campaign.clone()
            }),
            rounds: 1,
            workers: 1,
            most_bytes: u64::MAX,
            limit: left,
        }
    }

    /// The violation that a child ended with, made smaller if it is the first of its kind.
    fn found(
        &self,
        request: &Request,
        outcome: &Outcome,
        is_new: &dyn Fn(&str) -> bool,
    ) -> io::Result<Option<Found>> {
        let Some(End::Violated { failure, .. }) = &outcome.end else {
            return Ok(None);
        };
        let Task::Campaign(Campaign { from, .. }) = request.task else {
            return Ok(None);
        };
        let revision = self.scenario.revision();
        let seed = (self.children).seed_of(request, outcome, &revision, &INTERRUPTED)?;
        let mut smaller = None;
        if let Some(seed) = seed.as_ref().filter(|_| is_new(&failure.signature))
            && let Shrinking::World(shrunk) =
                self.children.shrink(seed, SHRINK_LIMIT, &INTERRUPTED)?
        {
            smaller = Some(shrunk);
        }
        Ok(Some(Found {
            world: from.wrapping_add(outcome.executions.saturating_sub(1)),
            failure: failure.clone(),
            seed,
            smaller,
        }))
    }

    /// Runs an interval again in another process; the first of its seeds that is another run
    /// there is found.
    fn in_another_process(
        &self,
        request: &Request,
        outcome: &Outcome,
    ) -> io::Result<Option<Found>> {
        let Task::Campaign(campaign) = &request.task else {
            return Ok(None);
        };
        let once = |campaign: Campaign| Request {
            task: Task::Campaign(Campaign {
                twice_every: 0,
                ..campaign
            }),
            ..request.clone()
        };
        let hashes = |outcome: &Outcome| outcome.campaign.as_ref().map(|it| it.hashes.clone());
        let again = once(Campaign {
            seeds: outcome.executions.min(campaign.seeds),
            ..campaign.clone()
        });
        let other = self.children.run(&again, &INTERRUPTED, |_| ())?;
        let (Some(here), Some(there)) = (hashes(outcome), hashes(&other)) else {
            return Ok(None);
        };
        let differs = here
            .iter()
            .zip(&there)
            .position(|(here, there)| here != there);
        let Some(nth) = differs else {
            return Ok(None);
        };
        let world = campaign.from.wrapping_add(nth as u64);
        let recorded = once(Campaign {
            from: world,
            seeds: 1,
            record: true,
            ..campaign.clone()
        });
        let mut traces = Vec::new();
        for _ in 0..2 {
            let outcome = self.children.run(&recorded, &INTERRUPTED, |_| ())?;
            traces.push(outcome.trace.unwrap_or_default());
        }
        Ok(Some(Found {
            world,
            failure: Failure {
                kind: FailureKind::Nondeterminism,
                signature: NONDETERMINISM.to_owned(),
                detail: format!(
                    "the same seed, {world}, was another run in another process: hash {:016x}, \
                     then {:016x}\n{}",
                    here[nth],
                    there[nth],
                    first_difference(&traces[0], &traces[1])
                ),
                location: String::new(),
            },
            seed: None,
            smaller: None,
        }))
    }
}

/// The first event by which two runs differ.
fn first_difference(one: &Trace, other: &Trace) -> String {
    let line = |trace: &Trace, place: usize| {
        let event = trace.events.get(place)?;
        let at = trace.timed.as_ref()?.at.get(place)?;
        let who = trace.task_name(event.task);
        Some(format!("{:.9} s, {who}: {}", *at as f64 / 1e9, event.text))
    };
    let most = one.events.len().max(other.events.len());
    let differs = (0..most).find(|&place| line(one, place) != line(other, place));
    let Some(place) = differs else {
        return "made once more and recorded, both were the same".to_owned();
    };
    let said = |trace| line(trace, place).unwrap_or_else(|| "nothing more".to_owned());
    format!(
        "made once more and recorded, the first event that differs is number {}: {}\n\
         in the other process it was: {}",
        place + 1,
        said(one),
        said(other)
    )
}
