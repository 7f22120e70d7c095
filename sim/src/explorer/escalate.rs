//! What to do with the time that is left when the full search does not fit into it: all
//! schedules without a preemption, then all with at most one, and so on.
//!
//! Most bugs need few preemptions, so this is the most that can be *said* about a body too
//! large to be exhausted: up to here, everything.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Explorer, SearchEnd, Watch};
use crate::{Observation, panics};

/// The searches that took the place of a full one.
///
/// ```
/// use selvedge_sim::explorer::{Bound, Escalation};
///
/// let bound = |preemptions, executions, completed| Bound {
///     preemptions,
///     executions,
///     seconds: 0.1,
///     new_outcomes: 0,
///     growth: None,
///     completed,
/// };
/// let bounds = vec![bound(0, 6, true), bound(1, 40, true), bound(2, 100, false)];
/// let escalation = Escalation { full: 500, bounds };
/// assert_eq!((escalation.completed(), escalation.executions()), (Some(1), 646));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Escalation {
    /// Executions of the full search until it was cut.
    pub full: u64,
    /// A bound after the other, beginning with none.
    pub bounds: Vec<Bound>,
}

/// The search within one bound.
///
/// ```
/// use std::time::Duration;
/// use selvedge_sim::Observation;
/// use selvedge_sim::explorer::Explorer;
///
/// let alone = || Observation::of("alone");
/// let (_, escalation) = Explorer::default().escalate(Duration::from_secs(5), alone);
/// let without_a_preemption = &escalation.bounds[0];
/// assert_eq!((without_a_preemption.executions, without_a_preemption.new_outcomes), (1, 1));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// At most so many preemptions an execution.
    pub preemptions: u32,
    /// Executions.
    pub executions: u64,
    /// Seconds.
    pub seconds: f64,
    /// Outcomes that no smaller bound showed.
    pub new_outcomes: usize,
    /// Executions for each one of the bound before.
    pub growth: Option<f64>,
    /// Whether it ended by itself.
    pub completed: bool,
}

impl Escalation {
    /// The largest bound within which everything was explored.
    #[must_use]
    pub fn completed(&self) -> Option<u32> {
        let completed = self.bounds.iter().filter(|bound| bound.completed);
        completed.map(|bound| bound.preemptions).max()
    }

    /// Executions altogether, those of the full search included.
    #[must_use]
    pub fn executions(&self) -> u64 {
        let bounds = self.bounds.iter().map(|bound| bound.executions);
        self.full + bounds.sum::<u64>()
    }
}

impl Explorer {
    /// Searches within one bound on preemptions after the other until the time is up.
    ///
    /// `Complete` where some bound was no bound any more, because no schedule has so many
    /// preemptions; `BudgetEnded` where it could go on for ever so long, which is the rule.
    ///
    /// ```
    /// use std::time::Duration;
    /// use selvedge_core::platform::{JoinHandle, Platform};
    /// use selvedge_sim::explorer::{Explorer, SearchEnd};
    /// use selvedge_sim::{ExplorerPlatform as P, Observation};
    ///
    /// let (end, escalation) = Explorer::default().escalate(Duration::from_secs(5), || {
    ///     P::spawn(|| ()).join();
    ///     Observation::none()
    /// });
    /// assert_eq!(end, SearchEnd::Complete);
    /// assert!(escalation.bounds.iter().all(|bound| bound.completed));
    /// ```
    pub fn escalate(
        &self,
        limit: Duration,
        body: impl Fn() -> Observation + Clone + Send + Sync + 'static,
    ) -> (SearchEnd, Escalation) {
        let mut escalation = Escalation::default();
        let end = panics::quietly(|| {
            self.escalate_watched(&Watch::nobody(), limit, &mut escalation, body)
        });
        (end, escalation)
    }

    /// The same, with somebody who looks on.
    pub(crate) fn escalate_watched(
        &self,
        watch: &Watch,
        limit: Duration,
        escalation: &mut Escalation,
        body: impl Fn() -> Observation + Clone + Send + Sync + 'static,
    ) -> SearchEnd {
        let started = Instant::now();
        let mut seen: BTreeSet<String> = BTreeSet::new();
        for preemptions in 0..=u32::MAX {
            let bounded = Explorer {
                preemptions: Some(preemptions),
                max_time: limit.saturating_sub(started.elapsed()),
                ..self.clone()
            };
            let began = Instant::now();
            let search = bounded.run_watched(watch, body.clone());
            let before = escalation.bounds.last().map(|bound| bound.executions);
            let known = seen.len();
            seen.extend(search.observations);
            escalation.bounds.push(Bound {
                preemptions,
                executions: search.executions,
                seconds: began.elapsed().as_secs_f64(),
                new_outcomes: seen.len() - known,
                growth: before.map(|before| search.executions as f64 / before.max(1) as f64),
                completed: search.end == SearchEnd::Complete,
            });
            match search.end {
                SearchEnd::Complete if !search.left_out => return SearchEnd::Complete,
                SearchEnd::Complete => {}
                end => return end,
            }
        }
        SearchEnd::BudgetEnded
    }
}
