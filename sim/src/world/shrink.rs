//! From a run that fails to one that fails in the same way with fewer faults, fewer epochs, fewer
//! ranks, agents and turns, fewer who take part at all, and a better network: what is left is what
//! it takes.
//!
//! **A candidate counts only if it fails with the same signature.** Faults are left out by ddmin
//! (Zeller, Hildebrandt, 2002). As each concern has a stream of chance of its own, a run with one
//! fault less is still much the same run up to there.

use super::{Faults, Parts, Plan, World, WorldConfig, WorldReport};

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
        let fewer = self.fewer(|plan| &mut plan.faults);
        self.fewer(|plan| &mut plan.backend) || fewer
    }

    fn fewer<T>(&mut self, list: impl Fn(&mut Plan) -> &mut Vec<T>) -> bool {
        let len = |shrinker: &mut Self| list(&mut shrinker.best.plan).len();
        let before = len(self);
        let mut size = before.div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < len(self) {
                let mut plan = self.best.plan.clone();
                let to = (from + size).min(len(self));
                list(&mut plan).drain(from..to);
                if !self.accepts(self.config(), plan) {
                    from = to;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
        len(self) < before
    }

    /// Sends home whoever has no part in it.
    fn fewer_parts(&mut self) -> bool {
        let before = self.best.config.parts;
        let without_guards = Parts {
            guards: false,
            ..before
        };
        for parts in [Parts::TRAINING, Parts::SERVING, without_guards] {
            let config = self.config();
            // A plan that names somebody who is gone is refused.
            if parts != config.parts
                && self.accepts(WorldConfig { parts, ..config }, self.best.plan.clone())
            {
                break;
            }
        }
        self.best.config.parts != before
    }

    fn fewer_agents(&mut self) -> bool {
        let before = (self.best.config.agents, self.best.config.turns);
        while self.best.config.parts.serving && self.best.config.agents > 1 {
            let agents = self.best.config.agents - 1;
            let config = self.config();
            if !self.accepts(WorldConfig { agents, ..config }, self.best.plan.clone()) {
                break;
            }
        }
        while self.best.config.parts.serving && self.best.config.turns > 1 {
            let turns = self.best.config.turns - 1;
            let config = self.config();
            if !self.accepts(WorldConfig { turns, ..config }, self.best.plan.clone()) {
                break;
            }
        }
        (self.best.config.agents, self.best.config.turns) != before
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

    /// Puts in order what is not a fault by itself: the network, what compiles come to, and what
    /// is rare.
    fn better_network(&mut self) -> bool {
        let calm = Plan::calm();
        let mut better = false;
        let moves: [fn(&mut Plan, &Plan); 5] = [
            |plan, calm| plan.latency = calm.latency,
            |plan, calm| plan.grace = calm.grace,
            |plan, calm| plan.mail = calm.mail,
            |plan, calm| plan.compile = calm.compile,
            |plan, calm| plan.rare = calm.rare,
        ];
        for makes_better in moves {
            let mut plan = self.best.plan.clone();
            makes_better(&mut plan, &calm);
            if plan != self.best.plan {
                better |= self.accepts(self.config(), plan);
            }
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
            let mut better = shrinker.fewer_parts();
            better |= shrinker.fewer_faults();
            better |= shrinker.fewer_agents();
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
