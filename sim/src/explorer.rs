//! The explorer: runs a body once for every way in which its steps can be ordered that anybody
//! could tell apart, under sequential consistency.
//!
//! **Write the body against [`Platform`](selvedge_core::Platform), run it on
//! [`ExplorerPlatform`](crate::ExplorerPlatform) inside [`Explorer::run`]; the search is
//! complete only where it says [`SearchEnd::Complete`].**
//!
//! What it does not see: weak memory (every atomic is sequentially consistent here), and state
//! that the body shares outside of its platform. The latter is noticed where it matters, when
//! the same prefix of steps leads somewhere else, and ends the search as
//! [`SearchEnd::NotDeterministic`].
//!
//! # Loops that wait
//! A loop around `yield_now` would have no end. A task that goes round twice in the same way,
//! while nobody else changes what it looks at, goes on only after somebody did, or once nobody
//! else can go on. What is lost is the number of idle rounds; a loop that gives up after a
//! number of them is seen giving up only when nobody else can go on. Likewise a task's timed
//! waits time out at will twice, and after that only when nobody else can go on.
//!
//! # Choices
//! What a body takes by [`Cx::choose`](crate::Cx::choose) is gone through like the schedule:
//! every choice with every order.
//!
//! ```
//! use selvedge_sim::explorer::{Explorer, SearchEnd};
//! use selvedge_sim::platform::{Atomic, JoinHandle, Ordering, Platform, Shared};
//! use selvedge_sim::{ExplorerPlatform as P, Observation};
//!
//! let search = Explorer::default().run(|| {
//!     let n = <P as Platform>::Arc::new(<P as Platform>::AtomicU32::new(0));
//!     let theirs = n.clone();
//!     let other = P::spawn(move || theirs.store(1, Ordering::SeqCst));
//!     let seen = n.load(Ordering::SeqCst);
//!     other.join();
//!     Observation::of(seen.to_string())
//! });
//! assert_eq!(search.end, SearchEnd::Complete);
//! assert_eq!(search.observations.into_iter().collect::<Vec<_>>(), ["0", "1"]);
//! ```

pub(crate) mod access;
mod clock;
mod escalate;
mod estimate;
mod examine;
mod fibers;
mod guide;
mod parallel;
mod plain;
mod record;
mod reduction;
pub(crate) mod runtime;
mod sleeping;
mod words;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use self::escalate::{Bound, Escalation};
pub use self::estimate::Estimate;
use self::fibers::Fibers;
use self::guide::Guide;
use self::plain::{DepthFirst, Follow};
use self::record::Record;
use self::reduction::Reduction;
use self::runtime::{Ending, Panic, Pick, SharedSchedule, Strategy};
use self::sleeping::{Probe, Split, Tree};
use crate::{Failure, FailureKind, Observation, Schedule, lock, panics, trace};

/// How to search. [`Explorer::default`] is the full search with reduction, without a limit.
///
/// ```
/// use std::time::Duration;
/// use selvedge_sim::Observation;
/// use selvedge_sim::explorer::{Explorer, SearchEnd};
///
/// let hasty = Explorer { max_time: Duration::ZERO, ..Explorer::default() };
/// assert_eq!(hasty.run(Observation::none).end, SearchEnd::BudgetEnded);
/// ```
#[derive(Clone, Debug)]
pub struct Explorer {
    /// At most so many preemptions an execution, and then without reduction.
    pub preemptions: Option<u32>,
    /// Whether to leave out executions that differ only in the order of independent steps.
    /// Without it the search is plain depth-first search, for comparison.
    pub reduce: bool,
    /// An execution of more steps than this is taken to spin.
    pub max_steps: usize,
    /// The search is cut short after so many executions.
    pub max_executions: u64,
    /// The search is cut short after so long.
    pub max_time: Duration,
    /// Whether to go on past a failure, noting it as an observation. Every ordering of a body
    /// that fails is then seen, which is what comparisons need.
    pub past_failures: bool,
    /// Threads that search at the same time, where there is reduction.
    pub workers: usize,
    /// Executions that one thread runs before there are more: most searches are over by then.
    pub parallel_after: u64,
}

impl Default for Explorer {
    fn default() -> Self {
        Explorer {
            preemptions: None,
            reduce: true,
            max_steps: 10_000,
            max_executions: u64::MAX,
            max_time: Duration::MAX,
            past_failures: false,
            workers: 1,
            parallel_after: 2_000,
        }
    }
}

/// What a search came to.
///
/// ```
/// use selvedge_sim::Observation;
/// use selvedge_sim::explorer::Explorer;
///
/// let search = Explorer::default().run(|| Observation::of("alone"));
/// assert_eq!((search.executions, search.abandoned), (1, 0));
/// ```
#[derive(Clone, Debug)]
pub struct Search {
    /// How it ended.
    pub end: SearchEnd,
    /// Executions run to their end.
    pub executions: u64,
    /// Executions given up because what they would have shown was seen before; where several
    /// threads searched, also those run to divide the work, and before there was any to divide.
    pub abandoned: u64,
    /// Every different outcome.
    pub observations: BTreeSet<String>,
    /// Whether the bound on preemptions kept the search from any schedule: where it did not, a
    /// complete search within it is a complete search.
    pub left_out: bool,
}

/// How a search ended.
///
/// ```
/// use selvedge_sim::platform::{Condvar, Mutex, Platform};
/// use selvedge_sim::explorer::{Explorer, SearchEnd};
/// use selvedge_sim::{ExplorerPlatform as P, Observation};
///
/// let search = Explorer::default().run(|| {
///     let nothing = <P as Platform>::Mutex::new(());
///     drop(<P as Platform>::Condvar::new().wait(nothing.lock()));
///     Observation::none()
/// });
/// let SearchEnd::Violated { failure, .. } = search.end else { panic!() };
/// assert_eq!(failure.signature, "deadlock");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchEnd {
    /// By itself: everything there is was explored, or everything within the preemption bound.
    Complete,
    /// A property does not hold.
    Violated {
        /// Which.
        failure: Failure,
        /// What leads there.
        schedule: Schedule,
    },
    /// A limit cut it short. This is no pass.
    BudgetEnded,
    /// The body does not do the same thing when the same steps are taken, so that nothing
    /// that was seen means anything. This is no pass either.
    NotDeterministic(String),
}

#[allow(
    clippy::large_enum_variant,
    reason = "there is one a search, and it stays where it is"
)]
enum Plan {
    Reduced(Reduction),
    Plain(DepthFirst),
    Tree(Tree),
    Probe(Box<Probe>),
    Follow(Follow),
    Guide(Guide),
    Split(Split),
}

impl Strategy for Plan {
    fn pick(&mut self, record: &Record, enabled: &[u32], current: u32) -> Pick {
        match self {
            Plan::Reduced(plan) => plan.pick(record, enabled, current),
            Plan::Plain(plan) => plan.pick(record, enabled, current),
            Plan::Tree(plan) => plan.pick(record, enabled, current),
            Plan::Probe(plan) => plan.pick(record, enabled, current),
            Plan::Follow(plan) => plan.pick(record, enabled, current),
            Plan::Guide(plan) => plan.pick(record, enabled, current),
            Plan::Split(plan) => plan.pick(record, enabled, current),
        }
    }
}

/// What somebody outside of a search sees of it.
#[derive(Clone)]
pub(crate) struct Watch {
    running: Arc<Mutex<BTreeMap<usize, SharedSchedule>>>,
    /// Told of outcomes.
    observed: Arc<dyn Fn(&str) + Send + Sync>,
    /// Whether a panic ends everything but for those of workers, which are told by
    /// [`panics::hand_over_to`]; else it is caught.
    holds_panics: bool,
}

impl Watch {
    /// For a host that holds every thread that panics.
    pub(crate) fn by_host(observed: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Watch {
            running: Arc::default(),
            observed: Arc::new(observed),
            holds_panics: true,
        }
    }

    fn nobody() -> Self {
        Watch {
            holds_panics: false,
            ..Watch::by_host(|_| {})
        }
    }

    /// The schedule of the execution under way; with several, of the one in the first subtree.
    pub(crate) fn schedule(&self) -> Option<Schedule> {
        let running = lock(&self.running);
        running.values().next().map(|first| lock(first).clone())
    }

    fn runs(&self, index: usize, schedule: &SharedSchedule) {
        lock(&self.running).insert(index, Arc::clone(schedule));
    }

    fn running(&self, index: usize) -> SharedSchedule {
        let schedule = SharedSchedule::default();
        self.runs(index, &schedule);
        schedule
    }

    fn ended(&self, index: usize) {
        lock(&self.running).remove(&index);
    }
}

/// One execution after the other: what they share.
struct Session {
    fibers: Fibers,
    record: Record,
    max_steps: usize,
    schedule: SharedSchedule,
    body: Rc<dyn Fn()>,
    outcome: Rc<RefCell<Option<Observation>>>,
    /// Whether the next execution is taken down.
    traced: bool,
}

impl Session {
    fn new(
        explorer: &Explorer,
        schedule: SharedSchedule,
        body: impl Fn() -> Observation + 'static,
    ) -> Self {
        let outcome = Rc::new(RefCell::new(None));
        let told = Rc::clone(&outcome);
        Session {
            fibers: Fibers::default(),
            record: Record::default(),
            max_steps: explorer.max_steps,
            schedule,
            body: Rc::new(move || {
                let observation = body();
                told.replace(Some(observation));
                trace::finished(runtime::me);
            }),
            outcome,
            traced: false,
        }
    }

    fn execute(&mut self, plan: Plan) -> (Plan, Ending) {
        self.outcome.take();
        panics::forget();
        if self.traced {
            trace::start(0, 0);
        }
        let done = runtime::execute(
            &mut self.fibers,
            std::mem::take(&mut self.record),
            plan,
            self.max_steps,
            Arc::clone(&self.schedule),
            Rc::clone(&self.body),
        );
        self.record = done.record;
        (done.strategy, done.ending)
    }

    fn schedule(&self) -> Schedule {
        lock(&self.schedule).clone()
    }

    fn outcome(&self) -> String {
        (self.outcome.borrow().as_ref()).map_or_else(String::new, |o| o.as_str().to_owned())
    }
}

impl Explorer {
    /// Searches. The body is run once an execution and must make whatever it shares itself.
    ///
    /// ```
    /// use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
    /// use selvedge_sim::explorer::{Explorer, SearchEnd};
    /// use selvedge_sim::{ExplorerPlatform as P, Observation};
    ///
    /// let search = Explorer::default().run(|| {
    ///     let lock = <P as Platform>::Arc::new(<P as Platform>::Mutex::new(String::new()));
    ///     let theirs = lock.clone();
    ///     let other = P::spawn(move || theirs.lock().push('b'));
    ///     lock.lock().push('a');
    ///     other.join();
    ///     let text = lock.lock().clone();
    ///     Observation::of(text)
    /// });
    /// assert_eq!(search.end, SearchEnd::Complete);
    /// assert_eq!(search.observations.into_iter().collect::<Vec<_>>(), ["ab", "ba"]);
    /// ```
    pub fn run(&self, body: impl Fn() -> Observation + Send + Sync + 'static) -> Search {
        panics::quietly(|| self.run_watched(&Watch::nobody(), body))
    }

    /// The same, with somebody who looks on.
    pub(crate) fn run_watched(
        &self,
        watch: &Watch,
        body: impl Fn() -> Observation + Send + Sync + 'static,
    ) -> Search {
        let started = Instant::now();
        let body = Arc::new(body);
        let alone = Arc::clone(&body);
        let mut session = Session::new(self, watch.running(0), move || alone());
        let divides = self.workers > 1 && self.reduce && self.preemptions.is_none();
        let first = Explorer {
            max_executions: match divides {
                true => self.max_executions.min(self.parallel_after),
                false => self.max_executions,
            },
            ..self.clone()
        };
        let before = first.search(&mut session, started, &*watch.observed);
        watch.ended(0);
        let spent = before.executions + before.abandoned;
        let goes_on = divides
            && before.end == SearchEnd::BudgetEnded
            && spent < self.max_executions
            && !self.is_out_of_time(started);
        match goes_on {
            true if session.record.is_open_to_any() => {
                self.search_on(&mut session, started, watch, before)
            }
            true => {
                let known = std::mem::take(&mut session.record);
                parallel::run(self, &body, watch, started, before, known).unwrap_or_else(
                    |stopped| {
                        let (before, known) = *stopped;
                        session.record = known;
                        self.search_on(&mut session, started, watch, before)
                    },
                )
            }
            false => before,
        }
    }

    /// Searches anew on one thread after all; what was done until now counts as abandoned.
    fn search_on(
        &self,
        session: &mut Session,
        started: Instant,
        watch: &Watch,
        before: Search,
    ) -> Search {
        watch.runs(0, &session.schedule);
        let mut search = self.search(session, started, &*watch.observed);
        watch.ended(0);
        search.abandoned += before.executions + before.abandoned;
        search
    }

    fn is_out_of_time(&self, started: Instant) -> bool {
        self.max_time != Duration::MAX && started.elapsed() >= self.max_time
    }

    /// Searches on this thread alone.
    fn search(&self, session: &mut Session, started: Instant, observed: &dyn Fn(&str)) -> Search {
        let mut search = Search {
            end: SearchEnd::Complete,
            executions: 0,
            abandoned: 0,
            observations: BTreeSet::new(),
            left_out: false,
        };
        let mut plan = self.first_plan(&session.record);
        loop {
            let done = search.executions + search.abandoned;
            if done >= self.max_executions || self.is_out_of_time(started) {
                search.end = SearchEnd::BudgetEnded;
                return search;
            }
            let ending;
            let visible = session.record.seen_dropped.len();
            (plan, ending) = session.execute(plan);
            let cut_short = matches!(ending, Ending::Livelock | Ending::Panicked(_));
            match ending {
                Ending::GivenUp => search.abandoned += 1,
                Ending::Complete => {
                    search.executions += 1;
                    let outcome = session.outcome();
                    observed(&outcome);
                    if !search.observations.contains(&outcome) {
                        search.observations.insert(outcome);
                    }
                }
                Ending::Broken(why) => {
                    search.end = SearchEnd::NotDeterministic(why);
                    return search;
                }
                failed => {
                    search.executions += 1;
                    let failure = failure_of(failed, self.max_steps);
                    if !self.past_failures {
                        let schedule = session.schedule();
                        search.end = SearchEnd::Violated { failure, schedule };
                        return search;
                    }
                    search.observations.insert(failure.signature);
                }
            }
            if session.record.seen_dropped.len() > visible {
                // Drops of these pointers are steps from now on, which changes every prefix.
                search.abandoned += std::mem::take(&mut search.executions);
                plan = self.first_plan(&session.record);
                continue;
            }
            if matches!(plan, Plan::Reduced(_)) && session.record.is_open_to_any() {
                search.abandoned += std::mem::take(&mut search.executions);
                plan = self.first_plan(&session.record);
                continue;
            }
            let more = match &mut plan {
                Plan::Reduced(plan) => plan.advance(&session.record, cut_short),
                Plan::Plain(plan) => {
                    search.left_out |= plan.left_out;
                    plan.advance()
                }
                Plan::Tree(plan) => plan.advance(),
                _ => false,
            };
            if !more {
                return search;
            }
        }
    }

    fn first_plan(&self, record: &Record) -> Plan {
        match self.reduce && self.preemptions.is_none() {
            true if record.is_open_to_any() => Plan::Tree(Tree::default()),
            true => Plan::Reduced(Reduction::default()),
            false => Plan::Plain(DepthFirst::new(self.preemptions)),
        }
    }

    /// Runs the one execution of this schedule: `Violated` where it fails, `Complete` where
    /// all went well, `NotDeterministic` where the schedule does not fit the body.
    ///
    /// ```
    /// use selvedge_sim::Observation;
    /// use selvedge_sim::explorer::{Explorer, SearchEnd};
    /// use selvedge_sim::violation;
    ///
    /// let body = || -> Observation { violation!("always", "whatever the order") };
    /// let explorer = Explorer::default();
    /// let SearchEnd::Violated { schedule, .. } = explorer.run(body).end else { panic!() };
    /// assert!(matches!(explorer.replay(&schedule, body), SearchEnd::Violated { .. }));
    /// // Once mended, the schedule no longer fails.
    /// assert_eq!(explorer.replay(&schedule, Observation::none), SearchEnd::Complete);
    /// ```
    pub fn replay(
        &self,
        schedule: &Schedule,
        body: impl Fn() -> Observation + 'static,
    ) -> SearchEnd {
        panics::quietly(|| self.replay_watched(schedule, SharedSchedule::default(), false, body))
    }

    pub(crate) fn replay_watched(
        &self,
        schedule: &Schedule,
        shared: Arc<Mutex<Schedule>>,
        traced: bool,
        body: impl Fn() -> Observation + 'static,
    ) -> SearchEnd {
        if !schedule.is_well_formed() {
            return SearchEnd::NotDeterministic(
                "the schedule names tasks that are not there".to_owned(),
            );
        }
        let mut session = Session::new(self, shared, body);
        session.traced = traced;
        match session.follow(schedule) {
            Ending::Complete => SearchEnd::Complete,
            Ending::Broken(why) => SearchEnd::NotDeterministic(why),
            Ending::GivenUp => SearchEnd::BudgetEnded,
            failed => SearchEnd::Violated {
                failure: failure_of(failed, self.max_steps),
                schedule: session.schedule(),
            },
        }
    }
}

fn failure_of(ending: Ending, max_steps: usize) -> Failure {
    let location = match ending {
        Ending::Panicked(_) => panics::location(),
        _ => String::new(),
    };
    let (kind, signature, detail) = match ending {
        Ending::Deadlock(words) => (FailureKind::Deadlock, "deadlock".to_owned(), words),
        Ending::Livelock => (
            FailureKind::Liveness,
            "livelock".to_owned(),
            format!(
                "an execution did not end within {max_steps} steps: a loop waits for nothing, or without a yield"
            ),
        ),
        Ending::Panicked(Panic::Violation(violation)) => {
            (FailureKind::Property, violation.signature, violation.detail)
        }
        Ending::Panicked(Panic::Message(message)) => {
            let signature = crate::host::signature_of_panic(&message);
            (FailureKind::Property, signature, message)
        }
        Ending::Complete | Ending::GivenUp | Ending::Broken(_) => {
            (FailureKind::Property, "none".to_owned(), String::new())
        }
    };
    Failure {
        kind,
        signature,
        detail,
        location,
    }
}
