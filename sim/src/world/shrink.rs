//! From a run that fails to one that fails in the same way with fewer faults, fewer epochs, fewer
//! ranks and a better network: what is left is what it takes.
//!
//! **A candidate counts only if it fails with the same signature.** Faults are left out by ddmin
//! (Zeller, Hildebrandt, 2002). As each concern has a stream of chance of its own, a run with one
//! fault less is still much the same run up to there.

use super::{Faults, Plan, World, WorldConfig, WorldReport};

/// What shrinking came to.
///
/// ```
/// use selvedge_sim::world::{World, WorldConfig};
///
/// let config = WorldConfig { epochs: 3, ..WorldConfig::default() };
/// let report = World::new(config)?.run();
/// // There is nothing to make smaller where nothing failed.
/// assert_eq!(report.shrink(10), None);
/// # Ok::<(), selvedge_sim::world::WorldError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShrunkWorld {
    /// The run that is left; `config` of it makes it again.
    pub report: WorldReport,
    /// Runs it took.
    pub runs: u32,
    /// Whether `most_runs` were used up before no move was left.
    pub cut: bool,
}

struct Shrinker {
    best: WorldReport,
    signature: &'static str,
    left: u32,
}

impl Shrinker {
    /// Whether a run fails in the same way. If it does, it is the best so far.
    fn accepts(&mut self, config: WorldConfig, plan: Plan) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let faults = Faults::Plan(plan);
        let Ok(world) = World::new(WorldConfig { faults, ..config }) else {
            return false;
        };
        let report = world.run();
        let violation = report.violation.as_ref();
        let same = violation.is_some_and(|found| found.signature == self.signature);
        if same {
            self.best = report;
        }
        same
    }

    fn config(&self) -> WorldConfig {
        self.best.config.clone()
    }

    /// Leaves out runs of faults, long ones first.
    fn fewer_faults(&mut self) -> bool {
        let before = self.best.plan.faults.len();
        let mut size = before.div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < self.best.plan.faults.len() {
                let mut plan = self.best.plan.clone();
                let to = (from + size).min(plan.faults.len());
                plan.faults.drain(from..to);
                if !self.accepts(self.config(), plan) {
                    from = to;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
        self.best.plan.faults.len() < before
    }

    fn fewer_epochs(&mut self) -> bool {
        let before = self.best.config.epochs;
        let mut step = before / 2;
        while step > 0 {
            let fewer = self.best.config.epochs.saturating_sub(step).max(1);
            let config = WorldConfig {
                epochs: fewer,
                ..self.config()
            };
            if fewer == self.best.config.epochs || !self.accepts(config, self.best.plan.clone()) {
                step /= 2;
            }
        }
        self.best.config.epochs < before
    }

    fn fewer_ranks(&mut self) -> bool {
        let before = self.best.config.ranks;
        while self.best.config.ranks > 1 {
            let ranks = self.best.config.ranks - 1;
            let min_world = self.best.config.min_world.min(ranks);
            let config = WorldConfig {
                ranks,
                min_world,
                ..self.config()
            };
            // A plan that names the last rank is refused.
            if !self.accepts(config, self.best.plan.clone()) {
                break;
            }
        }
        self.best.config.ranks < before
    }

    fn better_network(&mut self) -> bool {
        let calm = Plan::calm();
        let mut better = false;
        let mut plan = self.best.plan.clone();
        plan.latency = calm.latency;
        if plan != self.best.plan {
            better |= self.accepts(self.config(), plan);
        }
        let mut plan = self.best.plan.clone();
        plan.grace = calm.grace;
        if plan != self.best.plan {
            better |= self.accepts(self.config(), plan);
        }
        better
    }
}

impl WorldReport {
    /// A smaller run that fails in the same way; `None` if this one does not fail.
    ///
    /// ```
    /// use selvedge_sim::world::{Faults, Mutant, World, WorldConfig};
    ///
    /// let config = WorldConfig { faults: Faults::Swarm, mutant: Mutant::CopiesNothing, ..WorldConfig::default() };
    /// let seeds = (0..20).map(|seed| WorldConfig { seed, ..config.clone() });
    /// let mut reports = seeds.map(|config| World::new(config).expect("it is sound").run());
    /// let failed = reports.find(|report| report.violation.is_some()).expect("copies matter");
    /// let shrunk = failed.shrink(200).expect("it fails");
    /// assert!(shrunk.report.plan.faults.len() <= failed.plan.faults.len());
    /// ```
    #[must_use]
    pub fn shrink(&self, most_runs: u32) -> Option<ShrunkWorld> {
        let signature = self.violation.as_ref()?.signature;
        let mut shrinker = Shrinker {
            best: self.clone(),
            signature,
            left: most_runs,
        };
        // The plan instead of what drew it: from here on it is what is changed.
        if !shrinker.accepts(self.config.clone(), self.plan.clone()) {
            return None;
        }
        loop {
            let mut better = shrinker.fewer_faults();
            better |= shrinker.fewer_ranks();
            better |= shrinker.fewer_epochs();
            better |= shrinker.better_network();
            if !better || shrinker.left == 0 {
                break;
            }
        }
        Some(ShrunkWorld {
            runs: most_runs - shrinker.left,
            cut: shrinker.left == 0,
            report: shrinker.best,
        })
    }
}
