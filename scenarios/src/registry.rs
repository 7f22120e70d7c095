//! What a scenario is, and the list of all of them.

use std::time::Duration;

use selvedge_sim::{Bodies, Class, Engine, Strategy, Variant, Verdict, revision_of};

use crate::{canary, classics, worlds};
#[cfg(not(test))]
use crate::{field, origin, tickets};

/// One bug, kept for ever: the body that shows it, the twin that has it, the code that has not.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub id: &'static str,
    /// Where the bug was reported: a ticket, an issue, a paper.
    pub ticket: &'static str,
    /// What goes wrong, in a line.
    pub summary: &'static str,
    /// The text of the scenario's own file and of those it shares with others: its checksum is
    /// the revision in seeds.
    pub source: &'static str,
    /// The bug resurrected.
    pub twin: Bodies,
    /// The same body on the code that ships.
    pub shipped: Bodies,
    /// What the twin must be found by, word for word: a violation's signature, or, where it
    /// only [`Observes`](Expect::Observes), an outcome that one of explorer and loom alone sees.
    pub signature: &'static str,
    /// Probes that a run of the shipped code must reach, or it proves nothing.
    pub must_reach: &'static [&'static str],
    /// The engines it runs under, and what each must make of the twin.
    pub engines: &'static [Plan],
}

/// The signature of what the bed itself finds where a run is not the same again.
pub(crate) const NONDETERMINISM: &str = "nondeterminism";

/// One engine of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The engine.
    pub engine: Engine,
    /// What it must make of the twin.
    pub twin: Expect,
    /// On loom's plan: every outcome by which loom and the explorer are known to differ.
    pub differences: &'static [Difference],
    /// Of a model: how many different states a complete search of the shipped body has. Another
    /// number means that it explores something else than it did.
    pub states: Option<u64>,
    /// The least budget that has room for the shipped body, searched by two threads; with less it
    /// is left out, and told. Zero where any has.
    pub needs: Duration,
}

/// An outcome that one of explorer and loom sees and the other does not, known and explained.
///
/// It is held to exactly: one that nobody declared and one that did not appear are surprises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Of which body.
    pub variant: Variant,
    /// Who sees it.
    pub only: Only,
    /// The outcome, word for word.
    pub outcome: &'static str,
    /// Why the other does not see it.
    pub why: &'static str,
}

/// The one of the two engines of the cross-check that sees an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// The explorer: some order of steps leads there, and loom lost it.
    Explorer,
    /// Loom: weak memory, unless the explorer lost it.
    Loom,
}

/// What an engine must make of a twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It finds it. Anything else is a failure of the bed.
    Finds,
    /// It may find it, for this reason: the machine's schedule decides.
    May(&'static str),
    /// It cannot find it, for this reason: finding it would be as wrong as missing it elsewhere.
    Misses(&'static str),
    /// There is nothing to violate, and a failure is a surprise: the twin only observes, and the
    /// cross-check of explorer and loom judges it by its outcomes.
    Observes,
}

/// Real threads; what they find is luck unless the bug needs no race.
pub const fn native(twin: Expect) -> Plan {
    Plan::of(Engine::Native, twin)
}

/// The explorer without a bound.
pub const fn explorer(twin: Expect) -> Plan {
    Plan::of(Engine::Explorer { preemptions: None }, twin)
}

/// Loom without a bound.
pub const fn loom(twin: Expect) -> Plan {
    Plan::of(Engine::Loom { preemptions: None }, twin)
}

/// Shuttle's three strategies.
pub const fn shuttle(twin: Expect) -> Plan {
    let strategy = Strategy::Portfolio;
    Plan::of(Engine::Shuttle { strategy }, twin)
}

/// Every state of the scenario's model.
pub const fn stateright(twin: Expect) -> Plan {
    Plan::of(Engine::Stateright, twin)
}

/// Runs of the scenario's world, a seed each.
pub const fn world(twin: Expect) -> Plan {
    Plan::of(Engine::World, twin)
}

/// An outcome that loom does not see, though an order of steps leads there.
pub const fn only_explorer(
    variant: Variant,
    outcome: &'static str,
    why: &'static str,
) -> Difference {
    Difference {
        variant,
        only: Only::Explorer,
        outcome,
        why,
    }
}

/// An outcome that no order of steps leads to.
pub const fn only_loom(variant: Variant, outcome: &'static str, why: &'static str) -> Difference {
    Difference {
        variant,
        only: Only::Loom,
        outcome,
        why,
    }
}

/// For a bug of weak memory, under an engine that has none.
pub const SC_ONLY: Expect = Expect::Misses("sequentially consistent");

/// For a bug that real threads meet only by luck.
pub const BY_LUCK: Expect = Expect::May("the machine's schedule decides");

impl Plan {
    const fn of(engine: Engine, twin: Expect) -> Self {
        Plan {
            engine,
            twin,
            differences: &[],
            states: None,
            needs: Duration::ZERO,
        }
    }

    /// The same, whose shipped body has so many states.
    #[must_use]
    pub const fn states(self, states: u64) -> Self {
        Plan {
            states: Some(states),
            ..self
        }
    }

    /// The same, whose shipped body takes a budget of so many minutes, with two threads.
    #[must_use]
    pub const fn needs_minutes(self, minutes: u64) -> Self {
        Plan {
            needs: Duration::from_secs(60 * minutes),
            ..self
        }
    }

    /// The least budget that has room for a variant, with so many threads.
    #[must_use]
    pub fn needs(&self, variant: Variant, threads: usize) -> Duration {
        match variant {
            Variant::AsReported => Duration::ZERO,
            Variant::Shipped if threads < 2 => self.needs * 2,
            Variant::Shipped => self.needs,
        }
    }

    /// The same, with what loom is known to differ from the explorer by.
    #[must_use]
    pub const fn differs_by(self, differences: &'static [Difference]) -> Self {
        Plan {
            differences,
            ..self
        }
    }
}

impl Difference {
    /// Who alone sees what, on one line.
    #[must_use]
    pub fn line(&self) -> String {
        format!("only {} sees '{}'", self.only.name(), self.outcome)
    }
}

impl Only {
    /// The engine's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Only::Explorer => "explorer",
            Only::Loom => "loom",
        }
    }
}

impl Scenario {
    /// The checksum of the scenario's source.
    #[must_use]
    pub fn revision(&self) -> String {
        revision_of(self.source)
    }

    /// The bodies of a variant.
    #[must_use]
    pub fn bodies(&self, variant: Variant) -> &Bodies {
        match variant {
            Variant::AsReported => &self.twin,
            Variant::Shipped => &self.shipped,
        }
    }

    /// The plan for an engine, whatever its parameters.
    #[must_use]
    pub fn plan(&self, engine: Engine) -> Option<&Plan> {
        (self.engines.iter()).find(|plan| plan.engine.name() == engine.name())
    }

    /// What this engine must make of the twin.
    #[must_use]
    pub fn expectation(&self, engine: Engine) -> Expect {
        self.plan(engine).map_or(Expect::Finds, |plan| plan.twin)
    }

    /// Whether what an engine finds of the twin can be made again, and so kept. What real threads
    /// find, they find by luck: a workload is no schedule. And what is not the same run twice is not
    /// the same a third time.
    #[must_use]
    pub fn is_kept(&self, plan: &Plan) -> bool {
        let again = plan.engine != Engine::Native && self.signature != NONDETERMINISM;
        again && plan.twin == Expect::Finds
    }

    /// By what loom and the explorer are known to differ on a variant.
    pub fn differences(&self, variant: Variant) -> impl Iterator<Item = &'static Difference> {
        let all = self.engines.iter().flat_map(|plan| plan.differences);
        all.filter(move |known| known.variant == variant)
    }

    /// Why a verdict is not what was expected; `None` where it is.
    #[must_use]
    pub fn surprise(
        &self,
        variant: Variant,
        engine: Engine,
        verdict: &Verdict,
        reached: &[String],
    ) -> Option<String> {
        let class = verdict.class();
        if matches!(class, Class::EngineError | Class::BudgetEnded) {
            return Some(verdict.scope());
        }
        match (variant, verdict.failure()) {
            (Variant::Shipped, Some(failure)) => Some(format!("violated: {}", failure.signature)),
            (Variant::Shipped, None) => {
                let missed = (self.must_reach.iter())
                    .filter(|probe| !reached.iter().any(|reached| reached == *probe));
                let missed: Vec<&str> = missed.copied().collect();
                let vacuous = (!missed.is_empty())
                    .then(|| format!("vacuous: never reached {}", missed.join(", ")));
                vacuous.or_else(|| self.surprise_of_states(engine, verdict))
            }
            (Variant::AsReported, found) => {
                self.surprise_of_twin(engine, found.map(|f| &*f.signature))
            }
        }
    }

    fn surprise_of_states(&self, engine: Engine, verdict: &Verdict) -> Option<String> {
        let pinned = self.plan(engine)?.states?;
        let states = verdict.executions();
        (states != pinned).then(|| {
            format!(
                "{states} states where there were {pinned}: the model is another; if that is \
                 right, pin the new number in the scenario"
            )
        })
    }

    fn surprise_of_twin(&self, engine: Engine, found: Option<&str>) -> Option<String> {
        match (self.expectation(engine), found) {
            (Expect::Misses(why), Some(signature)) => Some(format!(
                "found '{signature}', which should be out of sight: {why}"
            )),
            (Expect::Observes, Some(signature)) => {
                Some(format!("found '{signature}', where it was only to observe"))
            }
            (_, Some(signature)) if signature != self.signature => Some(format!(
                "found '{signature}' instead of '{}'",
                self.signature
            )),
            // What takes more preemptions than the bound allows is not to be expected.
            (Expect::Finds, None)
                if matches!(
                    engine,
                    Engine::Loom {
                        preemptions: Some(_)
                    } | Engine::Explorer {
                        preemptions: Some(_)
                    }
                ) =>
            {
                None
            }
            (Expect::Finds, None) => Some(format!("'{}' was not found", self.signature)),
            _ => None,
        }
    }
}

/// Every scenario, in the order of reports.
#[must_use]
pub fn all() -> Vec<&'static Scenario> {
    let worlds = worlds::ALL.iter();
    BOOKS.concat().into_iter().chain(worlds).collect()
}

#[cfg(not(test))]
const BOOKS: &[&[&Scenario]] = &[tickets::ALL, origin::ALL, field::ALL, classics::ALL];
/// What this crate's unit tests have of the catalogue; see `lib.rs`.
#[cfg(test)]
const BOOKS: &[&[&Scenario]] = &[classics::ALL];

/// The scenario of this id; planted bugs have one too, though they are not in the catalogue.
#[must_use]
pub fn find(id: &str) -> Option<&'static Scenario> {
    let mut known = all().into_iter().chain(canary::ALL.iter().copied());
    known.find(|scenario| scenario.id == id)
}
