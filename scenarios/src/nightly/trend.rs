//! What changed since another night: what fails that did not, what is mended, what was explored more
//! and less.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use selvedge_sim::{Class, Variant};
use serde::{Deserialize, Serialize};

use super::Night;

/// Which unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The scenario's id.
    pub scenario: String,
    /// Which body.
    pub variant: Variant,
    /// Under which engine, as `--engine` takes it.
    pub engine: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.scenario, self.variant, self.engine)
    }
}

/// What one unit came to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BaseUnit {
    /// Which.
    #[serde(flatten)]
    pub key: Key,
    /// The verdict's class.
    pub verdict: String,
    /// Executions up to the verdict.
    pub executions: u64,
    /// Executions in all.
    pub explored: u64,
    /// What it failed by, if it did.
    pub signature: Option<String>,
    /// Every probe reached.
    pub reached: Vec<String>,
    /// Whether all its pieces are there and time cut none short: then it comes to the same again.
    pub whole: bool,
}

/// Something that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Failing {
    /// Where: a unit, a comparison of engines, a planted bug.
    pub place: String,
    /// What it is told apart by: a signature, or what kind of thing is wrong.
    pub signature: String,
    /// What is wrong, in words.
    pub what: String,
    /// What reproduces it.
    pub seed: Option<String>,
}

/// A night as another is compared with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Base {
    /// The night's name.
    pub run_id: String,
    /// Its plan's hash.
    pub plan: String,
    /// Its units.
    pub units: Vec<BaseUnit>,
    /// What was not as expected in it.
    pub failures: Vec<Failing>,
}

/// A night beside another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Trend {
    /// The other night's name.
    pub base: String,
    /// Fails now, and did not, or otherwise.
    pub new: Vec<Failing>,
    /// Failed, and does no more.
    pub fixed: Vec<Failing>,
    /// Fails as it did.
    pub still: Vec<Failing>,
    /// Failed, and was not run to its end now.
    pub unknown: Vec<Failing>,
    /// Units that there were not.
    pub added: Vec<Key>,
    /// Units that are no more.
    pub gone: Vec<Key>,
    /// Units of which more was explored: executions then and now.
    pub more: Vec<(Key, u64, u64)>,
    /// Units of which less was explored.
    pub less: Vec<(Key, u64, u64)>,
    /// Where both nights are of one plan: whether they came to the same.
    pub same_plan: Option<SamePlan>,
}

/// Two nights of one plan, unit by unit. Everything but real threads must come to the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct SamePlan {
    /// How many units came to the same verdict, executions, signature and probes.
    pub same: usize,
    /// How many are on real threads, which the machine schedules.
    pub by_luck: usize,
    /// How many are not whole in one of the nights.
    pub not_whole: usize,
    /// Those that did not, and by what.
    pub different: Vec<String>,
}

impl Base {
    /// Of a night.
    #[must_use]
    pub fn of(night: &Night) -> Self {
        let units = night.rows().map(|(unit, report)| BaseUnit {
            key: Key {
                scenario: report.scenario.id.to_owned(),
                variant: report.variant,
                engine: report.engine.to_string(),
            },
            verdict: report.verdict.class().name().to_owned(),
            executions: report.verdict.executions(),
            explored: unit.explored,
            signature: report
                .verdict
                .failure()
                .map(|failure| failure.signature.clone()),
            reached: report.reached.clone(),
            whole: unit.is_whole(report),
        });
        Base {
            run_id: night.plan.inputs.run_id.clone(),
            plan: night.plan.hash(),
            units: units.collect(),
            failures: failures(night),
        }
    }

    fn by_key(&self) -> BTreeMap<&Key, &BaseUnit> {
        self.units.iter().map(|unit| (&unit.key, unit)).collect()
    }
}

/// All that is not as expected, the shipped code first.
fn failures(night: &Night) -> Vec<Failing> {
    let mut failures: Vec<(u8, Failing)> = Vec::new();
    for (_, report) in night.rows() {
        let Some(what) = &report.surprise else {
            continue;
        };
        let failure = report.verdict.failure();
        let rank = match (failure, report.variant) {
            (Some(_), Variant::Shipped) => 0,
            _ if report.verdict.class() == Class::EngineError => 2,
            _ if report.was_cut() => 4,
            _ => 3,
        };
        failures.push((
            rank,
            Failing {
                place: format!(
                    "{} {} {}",
                    report.scenario.id, report.variant, report.engine
                ),
                signature: failure.map_or_else(
                    || report.verdict.class().name().to_owned(),
                    |failure| failure.signature.clone(),
                ),
                what: what.clone(),
                seed: report.seed.clone(),
            },
        ));
    }
    for comparison in &night.run.cross {
        if let Some(what) = &comparison.surprise {
            failures.push((
                3,
                Failing {
                    place: format!(
                        "{} {} explorer and loom",
                        comparison.scenario.id, comparison.variant
                    ),
                    signature: "outcomes".to_owned(),
                    what: what.clone(),
                    seed: None,
                },
            ));
        }
    }
    for canary in night.dead_canaries() {
        failures.push((
            1,
            Failing {
                place: format!(
                    "shard {} {} {}",
                    canary.shard, canary.scenario, canary.engine
                ),
                signature: "canary".to_owned(),
                what: canary.line(),
                seed: None,
            },
        ));
    }
    failures.sort_by_key(|(rank, _)| *rank);
    failures.into_iter().map(|(_, failing)| failing).collect()
}

impl Trend {
    /// This night beside that one.
    #[must_use]
    pub fn of(now: &Base, then: &Base) -> Self {
        let id = |failing: &Failing| (failing.place.clone(), failing.signature.clone());
        let failed: BTreeSet<_> = then.failures.iter().map(id).collect();
        let fails: BTreeSet<_> = now.failures.iter().map(id).collect();
        let (still, new): (Vec<_>, Vec<_>) =
            (now.failures.iter().cloned()).partition(|failing| failed.contains(&id(failing)));
        let (units, before) = (now.by_key(), then.by_key());
        let was_run = |failing: &Failing| {
            // What is no unit is judged in every night.
            let of_unit = |unit: &&BaseUnit| unit.key.to_string() == failing.place;
            match before.values().any(&of_unit) {
                true => units
                    .values()
                    .find(|unit| of_unit(unit))
                    .is_some_and(|unit| unit.whole),
                false => true,
            }
        };
        let over = then
            .failures
            .iter()
            .filter(|failing| !fails.contains(&id(failing)));
        let (fixed, unknown) = over.cloned().partition(was_run);
        let (mut more, mut less) = (Vec::new(), Vec::new());
        for (key, unit) in &units {
            let Some(was) = before.get(key) else { continue };
            // What fails ends there: that it came further or less far is no news.
            if unit.signature.is_some() || was.signature.is_some() {
                continue;
            }
            let change = ((*key).clone(), was.explored, unit.explored);
            match unit.explored.cmp(&was.explored) {
                std::cmp::Ordering::Greater => more.push(change),
                std::cmp::Ordering::Less => less.push(change),
                std::cmp::Ordering::Equal => {}
            }
        }
        let keys = |of: &BTreeMap<&Key, &BaseUnit>, not: &BTreeMap<&Key, &BaseUnit>| {
            let only = of.keys().filter(|key| !not.contains_key(*key));
            only.map(|key| (*key).clone()).collect()
        };
        Trend {
            base: then.run_id.clone(),
            new,
            still,
            fixed,
            unknown,
            added: keys(&units, &before),
            gone: keys(&before, &units),
            more,
            less,
            same_plan: (now.plan == then.plan).then(|| SamePlan::of(&units, &before)),
        }
    }
}

impl SamePlan {
    fn of(now: &BTreeMap<&Key, &BaseUnit>, then: &BTreeMap<&Key, &BaseUnit>) -> Self {
        let mut all = SamePlan::default();
        let keys: BTreeSet<&&Key> = now.keys().chain(then.keys()).collect();
        for key in keys {
            let (Some(unit), Some(was)) = (now.get(*key), then.get(*key)) else {
                all.not_whole += 1;
                continue;
            };
            if key.engine == "native" {
                all.by_luck += 1;
            } else if !unit.whole || !was.whole {
                all.not_whole += 1;
            } else if unit == was {
                all.same += 1;
            } else {
                all.different
                    .push(format!("{key}: {}", differing(was, unit)));
            }
        }
        all
    }
}

fn differing(was: &BaseUnit, is: &BaseUnit) -> String {
    let facts = |unit: &BaseUnit| {
        [
            ("verdict", unit.verdict.clone()),
            ("executions", unit.executions.to_string()),
            ("executions in all", unit.explored.to_string()),
            (
                "signature",
                unit.signature.clone().unwrap_or_else(|| "none".to_owned()),
            ),
            ("probes", unit.reached.join(" ")),
        ]
    };
    let both = facts(was).into_iter().zip(facts(is));
    let differ = both.filter(|(was, is)| was != is);
    let told = differ.map(|((what, was), (_, is))| format!("{what} {was} and {is}"));
    told.collect::<Vec<_>>().join(", ")
}
