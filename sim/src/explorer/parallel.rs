//! One search on several threads.
//!
//! **The [sleep-set tree](super::sleeping) is cut into subtrees by prefixes of schedules; each
//! is searched by itself, with reduction. Every trace is in one of them and in no other.** So
//! the complete executions are those of the search on one thread, each once; what more is given
//! up on the way is counted as abandoned.
//!
//! Subtrees are in order, and the first of them with a failure is the one reported, whichever
//! thread was quicker: those after it are dropped, those before it run to their end. Numbers of
//! tasks and objects are the same in all of them, and begin anew in each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use super::record::Record;
use super::reduction::Reduction;
use super::runtime::{Ending, SharedSchedule};
use super::sleeping::{Prefix, Split};
use super::{Explorer, Plan, Search, SearchEnd, Session, Watch, failure_of};
use crate::{Failure, Observation, lock, panics};

/// Far more subtrees than workers: they are of very different sizes.
const SUBTREES_PER_WORKER: usize = 32;
/// A body that does not branch within so many rounds of cutting has few schedules.
const MOST_ROUNDS: usize = 200;

/// Searches everything anew, on as many threads as there are to be workers. `before` is what
/// one thread did until now; its executions come again, so they count as abandoned. `Err`, with
/// what was done in vain, where the body turns out to be one for a single thread.
pub(super) fn run<F>(
    explorer: &Explorer,
    body: &Arc<F>,
    watch: &Watch,
    started: Instant,
    before: Search,
    mut known: Record,
) -> Result<Search, Box<(Search, Record)>>
where
    F: Fn() -> Observation + Send + Sync + 'static,
{
    let mut total = Search {
        executions: 0,
        abandoned: before.executions + before.abandoned,
        ..before
    };
    loop {
        if is_for_one_thread(&known) {
            return Err(Box::new((total, known)));
        }
        known = afresh(&known);
        let cut = cut(explorer, body, watch, started, known);
        total.abandoned += cut.runs;
        known = cut.record;
        if let Some(why) = cut.broken {
            total.end = SearchEnd::NotDeterministic(why);
            return Ok(total);
        }
        let shared = Arc::new(Shared {
            explorer: explorer.clone(),
            body: Arc::clone(body),
            watch: watch.clone(),
            started,
            prefixes: cut.prefixes,
            record: afresh(&known),
            next: AtomicUsize::new(0),
            stop_at: AtomicUsize::new(usize::MAX),
            spent: AtomicU64::new(total.abandoned),
            is_cut: AtomicBool::new(false),
        });
        let parts = work_together(&shared);
        match merge(&shared, parts, &mut total) {
            Some(record) => known = *record,
            None => return Ok(total),
        }
    }
}

/// Whether a task spins on several things at once. Whether the reduction sees through that
/// depends on who changes them, which one subtree alone may not show.
fn is_for_one_thread(record: &Record) -> bool {
    !record.spinners.is_empty()
}

/// A record that knows only what outlives an execution.
fn afresh(record: &Record) -> Record {
    Record {
        names: record.names.clone(),
        seen_dropped: record.seen_dropped.clone(),
        spinners: record.spinners.clone(),
        changers: record.changers.clone(),
        ..Record::default()
    }
}

/// The tree cut into subtrees.
struct Cut {
    prefixes: Vec<Prefix>,
    /// Executions it took.
    runs: u64,
    record: Record,
    broken: Option<String>,
}

fn cut<F>(explorer: &Explorer, body: &Arc<F>, watch: &Watch, started: Instant, known: Record) -> Cut
where
    F: Fn() -> Observation + Send + Sync + 'static,
{
    let body = Arc::clone(body);
    let mut session = Session::new(explorer, watch.running(0), move || body());
    session.record = known;
    let enough = SUBTREES_PER_WORKER * explorer.workers;
    let divided = divide(&mut session, enough, || explorer.is_out_of_time(started));
    watch.ended(0);
    Cut {
        prefixes: divided.prefixes,
        runs: divided.runs,
        record: session.record,
        broken: divided.broken,
    }
}

/// The tree divided.
pub(super) struct Divided {
    /// In order; together they are the whole tree, without what gets to no end.
    pub(super) prefixes: Vec<Prefix>,
    /// Executions it took.
    runs: u64,
    broken: Option<String>,
}

/// Divides the tree into so many subtrees, or somewhat more; into fewer where there are not
/// as many, or where it is to stop.
pub(super) fn divide(session: &mut Session, enough: usize, stops: impl Fn() -> bool) -> Divided {
    let (mut runs, mut broken) = (0, None);
    let mut prefixes = vec![Prefix::default()];
    let mut rounds = 0;
    while prefixes.len() < enough && rounds < MOST_ROUNDS && broken.is_none() && !stops() {
        rounds += 1;
        let visible = session.record.seen_dropped.len();
        let mut grown = Vec::new();
        let mut splits = false;
        for prefix in prefixes {
            if prefix.ends || broken.is_some() {
                grown.push(prefix);
                continue;
            }
            runs += 1;
            let (plan, ending) = session.execute(Plan::Split(Split::new(prefix)));
            let Plan::Split(split) = plan else {
                continue;
            };
            match ending {
                Ending::GivenUp => {
                    splits = true;
                    // Where there is nothing to take, nobody gets to an end.
                    grown.extend(split.children);
                }
                Ending::Broken(why) => broken = Some(why),
                _ => grown.push(Prefix {
                    ends: true,
                    ..split.prefix
                }),
            }
        }
        prefixes = grown;
        if session.record.seen_dropped.len() > visible {
            // The tree is another from now on.
            prefixes = vec![Prefix::default()];
        } else if !splits {
            break;
        }
    }
    Divided {
        prefixes,
        runs,
        broken,
    }
}

/// What the workers share.
struct Shared<F> {
    explorer: Explorer,
    body: Arc<F>,
    watch: Watch,
    started: Instant,
    prefixes: Vec<Prefix>,
    record: Record,
    next: AtomicUsize,
    /// The first subtree that ended the search; those after it do not matter.
    stop_at: AtomicUsize,
    /// Executions so far, for the limit on them.
    spent: AtomicU64,
    is_cut: AtomicBool,
}

impl<F> Shared<F> {
    // ORDERING: Relaxed in all of these. They decide when somebody stops, not what is seen:
    // that comes through a channel.
    fn take(&self) -> Option<usize> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        (index < self.prefixes.len() && !self.is_dropped(index) && !self.is_cut()).then_some(index)
    }

    fn is_dropped(&self, index: usize) -> bool {
        // ORDERING: Relaxed, as above.
        index > self.stop_at.load(Ordering::Relaxed)
    }

    fn is_cut(&self) -> bool {
        // ORDERING: Relaxed, as above.
        self.is_cut.load(Ordering::Relaxed)
    }

    fn may_go_on(&self) -> bool {
        // ORDERING: Relaxed, as above.
        let spent = self.spent.fetch_add(1, Ordering::Relaxed);
        let within =
            spent < self.explorer.max_executions && !self.explorer.is_out_of_time(self.started);
        if !within {
            // ORDERING: Relaxed, as above.
            self.is_cut.store(true, Ordering::Relaxed);
        }
        within && !self.is_cut()
    }

    fn stop_at(&self, index: usize) {
        // ORDERING: Relaxed, as above.
        self.stop_at.fetch_min(index, Ordering::Relaxed);
    }
}

/// What became of one subtree.
struct Part {
    index: usize,
    executions: u64,
    abandoned: u64,
    observations: BTreeSet<String>,
    end: PartEnd,
}

enum PartEnd {
    Complete,
    Ended(SearchEnd),
    /// A destructor was seen to make steps, which changes the whole tree; or a task to spin
    /// in a way that the reduction cannot see through.
    Visible(Box<Record>),
    /// A limit was reached.
    Cut,
}

enum Said {
    Part(Box<Part>),
    /// A worker will say no more.
    Gone,
}

/// Runs all subtrees, and returns when no worker is running any more.
fn work_together<F>(shared: &Arc<Shared<F>>) -> BTreeMap<usize, Part>
where
    F: Fn() -> Observation + Send + Sync + 'static,
{
    let (said, heard) = mpsc::channel();
    let mut parts = BTreeMap::new();
    let mut left = 0;
    for number in 0..shared.explorer.workers {
        let (shared, said) = (Arc::clone(shared), said.clone());
        let spawned = thread::Builder::new()
            .name(format!("worker {number}"))
            .spawn(move || {
                let gone = Gone(said.clone());
                match shared.watch.holds_panics {
                    true => work(&shared, &said),
                    false => panics::quietly(|| work(&shared, &said)),
                }
                drop(gone);
            });
        left += usize::from(spawned.is_ok());
    }
    if left == 0 {
        // Where no thread can be had, there is still this one.
        work(shared, &said);
    }
    drop(said);
    while left > 0 || parts.is_empty() {
        match heard.recv() {
            Ok(Said::Part(part)) => {
                parts.insert(part.index, *part);
            }
            Ok(Said::Gone) => left -= 1,
            Err(_) => break,
        }
    }
    parts
}

/// Says that a worker is gone, however it came to that.
struct Gone(Sender<Said>);

impl Drop for Gone {
    fn drop(&mut self) {
        // Nobody listens only where nobody waits.
        let _ = self.0.send(Said::Gone);
    }
}

fn work<F>(shared: &Arc<Shared<F>>, said: &Sender<Said>)
where
    F: Fn() -> Observation + Send + Sync + 'static,
{
    let body = Arc::clone(&shared.body);
    let schedule = SharedSchedule::default();
    let mut session = Session::new(&shared.explorer, Arc::clone(&schedule), move || body());
    while let Some(index) = shared.take() {
        shared.watch.runs(index, &schedule);
        let part = Arc::new(Mutex::new(Some(Part {
            index,
            executions: 0,
            abandoned: 0,
            observations: BTreeSet::new(),
            end: PartEnd::Complete,
        })));
        if shared.watch.holds_panics {
            hand_panics_over(shared, said, &part, &schedule);
        }
        session.record = afresh(&shared.record);
        search(shared, &mut session, &part);
        shared.watch.ended(index);
        let part = lock(&part).take();
        if let Some(part) = part.filter(|_| !shared.is_dropped(index)) {
            if !matches!(part.end, PartEnd::Complete | PartEnd::Cut) {
                shared.stop_at(index);
            }
            let _ = said.send(Said::Part(Box::new(part)));
        }
    }
    panics::hand_over_to(None);
}

/// Whoever watches panics holds a thread that does; what it was about must be told before.
fn hand_panics_over<F>(
    shared: &Arc<Shared<F>>,
    said: &Sender<Said>,
    part: &Arc<Mutex<Option<Part>>>,
    schedule: &SharedSchedule,
) where
    F: Fn() -> Observation + Send + Sync + 'static,
{
    let shared = Arc::clone(shared);
    let (said, part, schedule) = (said.clone(), Arc::clone(part), Arc::clone(schedule));
    let tell = move |found: Result<Failure, String>| {
        if let Some(mut part) = lock(&part).take() {
            part.executions += 1;
            part.end = PartEnd::Ended(match found {
                Ok(failure) => SearchEnd::Violated {
                    failure,
                    schedule: lock(&schedule).clone(),
                },
                Err(what) => SearchEnd::NotDeterministic(what),
            });
            shared.stop_at(part.index);
            let _ = said.send(Said::Part(Box::new(part)));
        }
        let _ = said.send(Said::Gone);
    };
    panics::hand_over_to(Some(Box::new(tell)));
}

/// Searches one subtree.
fn search<F>(shared: &Shared<F>, session: &mut Session, part: &Mutex<Option<Part>>)
where
    F: Fn() -> Observation + Send + Sync + 'static,
{
    let (index, prefix) = match &*lock(part) {
        Some(part) => (part.index, shared.prefixes[part.index].clone()),
        None => return,
    };
    let mut plan = Plan::Reduced(Reduction::below(prefix));
    let end = loop {
        if shared.is_dropped(index) {
            break PartEnd::Complete;
        }
        if !shared.may_go_on() {
            break PartEnd::Cut;
        }
        let visible = session.record.seen_dropped.len();
        let ending;
        (plan, ending) = session.execute(plan);
        let cut_short = matches!(ending, Ending::Livelock | Ending::Panicked(_));
        if let Some(part) = &mut *lock(part) {
            match ending {
                Ending::GivenUp => part.abandoned += 1,
                Ending::Complete => {
                    part.executions += 1;
                    let outcome = session.outcome();
                    if !part.observations.contains(&outcome) {
                        part.observations.insert(outcome);
                    }
                }
                Ending::Broken(why) => break PartEnd::Ended(SearchEnd::NotDeterministic(why)),
                failed => {
                    part.executions += 1;
                    let failure = failure_of(failed, session.max_steps);
                    if !shared.explorer.past_failures {
                        let schedule = session.schedule();
                        break PartEnd::Ended(SearchEnd::Violated { failure, schedule });
                    }
                    part.observations.insert(failure.signature);
                }
            }
        }
        if session.record.seen_dropped.len() > visible || is_for_one_thread(&session.record) {
            break PartEnd::Visible(Box::new(afresh(&session.record)));
        }
        let more = match &mut plan {
            Plan::Reduced(plan) => plan.advance(&session.record, cut_short),
            _ => false,
        };
        if !more {
            break PartEnd::Complete;
        }
    };
    if let Some(part) = &mut *lock(part) {
        part.end = end;
    }
}

/// Adds up what counts, in the order of subtrees. Where the tree turned out to be another,
/// all is to be done again, knowing this.
fn merge<F>(
    shared: &Shared<F>,
    mut parts: BTreeMap<usize, Part>,
    total: &mut Search,
) -> Option<Box<Record>> {
    let is_end = |part: &&Part| !matches!(part.end, PartEnd::Complete | PartEnd::Cut);
    let last = parts.values().find(is_end).map(|part| part.index);
    total.end = match shared.is_cut() {
        true => SearchEnd::BudgetEnded,
        false => SearchEnd::Complete,
    };
    for index in 0..shared.prefixes.len() {
        let Some(part) = parts.remove(&index) else {
            if !shared.is_cut() {
                total.end = SearchEnd::NotDeterministic(
                    "a worker of the search went away: this is a bug of the explorer".to_owned(),
                );
            }
            continue;
        };
        if let PartEnd::Visible(record) = part.end {
            if shared.is_cut() {
                break;
            }
            // ORDERING: Relaxed. All workers are gone.
            total.abandoned = shared.spent.load(Ordering::Relaxed);
            total.executions = 0;
            return Some(record);
        }
        total.executions += part.executions;
        total.abandoned += part.abandoned;
        for outcome in part.observations {
            (shared.watch.observed)(&outcome);
            total.observations.insert(outcome);
        }
        if last == Some(index) {
            if let PartEnd::Ended(end) = part.end {
                total.end = end;
            }
            break;
        }
    }
    None
}
