//! A schedule that fails, looked at closely: made smaller, proven least, traced.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::guide::Guide;
use super::plain::{DepthFirst, Follow};
use super::runtime::SharedSchedule;
use super::{Ending, Explorer, Plan, SearchEnd, Session, failure_of};
use crate::shrink::{Attempt, Fewest, Shrinker, Shrunk, is_past};
use crate::trace::{self, Trace};
use crate::{Observation, Schedule, panics};

impl Explorer {
    /// Looks for the schedule with the fewest preemptions that fails with the same signature
    /// as this one, and tells which of its switches the failure needs. `None` where the
    /// schedule does not fail with this signature.
    ///
    /// Where time allows, every schedule with fewer preemptions than the result is tried as
    /// well: [`Shrunk::least`] says whether that was so.
    ///
    /// ```
    /// use std::time::Duration;
    /// use selvedge_core::platform::{Atomic, JoinHandle, Ordering, Platform, Shared};
    /// use selvedge_sim::explorer::{Explorer, SearchEnd};
    /// use selvedge_sim::{ExplorerPlatform as P, Observation, violation};
    ///
    /// type Counter = <P as Platform>::AtomicU32;
    /// fn add_one(n: &Counter) {
    ///     n.store(n.load(Ordering::SeqCst) + 1, Ordering::SeqCst);
    /// }
    /// fn body() -> Observation {
    ///     let n = <P as Platform>::Arc::new(Counter::new(0));
    ///     let theirs = n.clone();
    ///     let other = P::spawn(move || add_one(&theirs));
    ///     add_one(&n);
    ///     other.join();
    ///     if n.load(Ordering::SeqCst) != 2 {
    ///         violation!("lost-update", "{}", n.load(Ordering::SeqCst));
    ///     }
    ///     Observation::none()
    /// }
    /// let explorer = Explorer::default();
    /// let SearchEnd::Violated { failure, schedule } = explorer.run(body).end else { panic!() };
    /// let shrunk = explorer
    ///     .shrink(&schedule, &failure.signature, Duration::from_secs(1), body)
    ///     .expect("it fails again");
    /// assert_eq!(shrunk.after.preemptions, 1);
    /// assert!(shrunk.least);
    /// ```
    pub fn shrink(
        &self,
        schedule: &Schedule,
        signature: &str,
        limit: Duration,
        body: impl Fn() -> Observation + 'static,
    ) -> Option<Shrunk> {
        self.examine(schedule, signature, limit, true, body)
    }

    /// The same; where it need not be `smaller`, only its switches are tried.
    pub(crate) fn examine(
        &self,
        schedule: &Schedule,
        signature: &str,
        limit: Duration,
        smaller: bool,
        body: impl Fn() -> Observation + 'static,
    ) -> Option<Shrunk> {
        if !schedule.is_well_formed() {
            return None;
        }
        panics::quietly(|| {
            let mut session = Session::new(self, SharedSchedule::default(), body);
            session.record.seen_dropped.clone_from(&schedule.dropped);
            let session = RefCell::new(session);
            let mut run = |wanted: &Schedule| session.borrow_mut().attempt(wanted);
            let mut shrinker = Shrinker::new(&mut run, schedule, signature, limit)?;
            let mut search = |fewer, until| session.borrow_mut().fewest(fewer, signature, until);
            let least = smaller && shrinker.shrink_to_least(&mut search);
            Some(shrinker.result(least))
        })
    }

    /// Runs the one execution of this schedule as [`Explorer::replay`] does, and says what
    /// happened in it.
    ///
    /// ```
    /// use selvedge_core::platform::{JoinHandle, Platform};
    /// use selvedge_sim::explorer::{Explorer, SearchEnd};
    /// use selvedge_sim::{ExplorerPlatform as P, Observation, violation};
    ///
    /// let body = || {
    ///     P::spawn(|| violation!("always", "whatever the order"));
    ///     Observation::none()
    /// };
    /// let explorer = Explorer::default();
    /// let SearchEnd::Violated { schedule, .. } = explorer.run(body).end else { panic!() };
    /// let (end, trace) = explorer.trace(&schedule, body);
    /// assert!(matches!(end, SearchEnd::Violated { .. }));
    /// assert_eq!(trace.tasks.len(), 2);
    /// ```
    pub fn trace(
        &self,
        schedule: &Schedule,
        body: impl Fn() -> Observation + 'static,
    ) -> (SearchEnd, Trace) {
        panics::quietly(|| {
            let end = self.replay_watched(schedule, SharedSchedule::default(), true, body);
            let mut trace = trace::take().unwrap_or_default();
            if let SearchEnd::Violated { failure, .. } = &end {
                trace.failure = Some(failure.clone());
            }
            (end, trace)
        })
    }
}

impl Explorer {
    /// One execution that keeps to this schedule as far as the body allows, and what it took.
    pub(crate) fn follow(
        &self,
        wanted: &Schedule,
        body: impl Fn() -> Observation + 'static,
    ) -> (SearchEnd, Schedule) {
        panics::quietly(|| {
            let mut session = Session::new(self, SharedSchedule::default(), body);
            session.traced = true;
            session.record.seen_dropped.clone_from(&wanted.dropped);
            let (_, ending) = session.execute(Plan::Guide(Guide::new(wanted.clone())));
            let schedule = session.schedule();
            let end = match ending {
                Ending::Complete => SearchEnd::Complete,
                Ending::Broken(why) => SearchEnd::NotDeterministic(why),
                Ending::GivenUp => SearchEnd::BudgetEnded,
                failed => SearchEnd::Violated {
                    failure: failure_of(failed, self.max_steps),
                    schedule: schedule.clone(),
                },
            };
            (end, schedule)
        })
    }
}

impl Session {
    /// One lenient run.
    fn attempt(&mut self, wanted: &Schedule) -> Attempt {
        let (plan, ending) = self.execute(Plan::Guide(Guide::new(wanted.clone())));
        let Plan::Guide(guide) = plan else {
            unreachable!("INVARIANT: an execution hands its plan back")
        };
        let signature = match ending {
            Ending::Complete | Ending::GivenUp | Ending::Broken(_) => None,
            failed => Some(failure_of(failed, self.max_steps).signature),
        };
        Attempt {
            signature,
            schedule: self.schedule(),
            preemptions: guide.preemptions,
        }
    }

    /// Looks for a failure of this signature among all schedules with at most `bound`
    /// preemptions.
    fn fewest(&mut self, bound: u64, signature: &str, until: Option<Instant>) -> Fewest {
        let Ok(bound) = u32::try_from(bound) else {
            return Fewest::NotAll;
        };
        let first = || Plan::Plain(DepthFirst::new(Some(bound)));
        let mut plan = first();
        loop {
            if is_past(until) {
                return Fewest::NotAll;
            }
            let visible = self.record.seen_dropped.len();
            let ending;
            (plan, ending) = self.execute(plan);
            match ending {
                Ending::Complete | Ending::GivenUp => {}
                Ending::Broken(_) => return Fewest::NotAll,
                failed => {
                    if failure_of(failed, self.max_steps).signature == signature {
                        return Fewest::Found(self.schedule());
                    }
                }
            }
            if self.record.seen_dropped.len() > visible {
                plan = first();
                continue;
            }
            let more = match &mut plan {
                Plan::Plain(plan) => plan.advance(),
                _ => false,
            };
            if !more {
                return Fewest::None;
            }
        }
    }

    pub(super) fn follow(&mut self, schedule: &Schedule) -> Ending {
        self.record.seen_dropped.clone_from(&schedule.dropped);
        self.execute(Plan::Follow(Follow::new(schedule.clone()))).1
    }
}
