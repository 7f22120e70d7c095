//! What a night runs: every unit of the catalogue, cut into pieces that machines can share.

use std::time::Duration;

use selvedge_sim::{Class, Engine, Variant};
use serde::{Deserialize, Serialize};

use super::Shard;
use crate::cli::drawn_by;
use crate::{Scenario, canary};

/// A unit that draws its executions is cut into no more pieces than this. It does not depend on the
/// number of shards: the same pieces are run by one machine and by eight.
pub const MOST_INTERVALS: u32 = 32;

/// All that a plan is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Inputs {
    /// What the night is called; whatever is drawn hangs on it.
    pub run_id: String,
    /// The root of everything drawn.
    pub seed: u64,
    /// Times the usual number of executions, for what draws them.
    pub effort: u64,
    /// Which scenarios; all if none.
    pub filters: Vec<String>,
    /// The longest search that each shard has room for, in seconds: see [`Plan::room`].
    pub room_s: u64,
    /// The program's revision: see [`sources`].
    pub sources: String,
}

/// A plan: a pure function of its [`Inputs`] and of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// What it was made of.
    pub inputs: Inputs,
    /// Every unit, in the order of reports.
    pub units: Vec<PlanUnit>,
    /// Units that need more time than there is, and are not run.
    pub left_out: Vec<PlanUnit>,
    /// The planted bugs, which every shard must find before anything else.
    pub canaries: Vec<PlanUnit>,
}

/// One body under one engine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlanUnit {
    /// The scenario's id.
    pub scenario: String,
    /// The checksum of its source.
    pub revision: String,
    /// Which body.
    pub variant: Variant,
    /// Under which engine, as `--engine` takes it.
    pub engine: String,
    /// The time it needs with two threads, in seconds; zero where any will do.
    pub needs_s: u64,
    /// Executions in all, where the engine draws them; zero where it searches until done.
    pub executions: u64,
    /// How often a body repeats what races.
    pub rounds: u32,
    /// Into how many pieces it is cut.
    pub intervals: u32,
}

/// What one machine runs in one go: a unit, or one interval of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Piece {
    /// The unit's place in [`Plan::units`].
    pub unit: usize,
    /// Which of its intervals, from 0.
    pub interval: u32,
}

/// The revision of this program: a checksum of the sources that decide what it explores.
#[must_use]
pub fn sources() -> &'static str {
    env!("SELVEDGE_SOURCES")
}

impl Plan {
    /// The plan for these scenarios.
    #[must_use]
    pub fn of(inputs: Inputs, scenarios: &[&'static Scenario]) -> Self {
        let (mut units, mut left_out) = (Vec::new(), Vec::new());
        for scenario in scenarios {
            for plan in scenario.engines {
                for variant in Variant::ALL {
                    let unit = PlanUnit::of(scenario, plan.engine, variant, inputs.effort);
                    match unit.needs_s > inputs.room_s {
                        true => left_out.push(unit),
                        false => units.push(unit),
                    }
                }
            }
        }
        let canaries = canary::ALL.iter().flat_map(|scenario| {
            let engines = scenario.engines.iter();
            // It is there to be found: more executions would find it no better.
            engines.map(|plan| PlanUnit::of(scenario, plan.engine, Variant::AsReported, 1))
        });
        Plan {
            canaries: canaries.collect(),
            inputs,
            units,
            left_out,
        }
    }

    /// The longest search among these scenarios that a budget has room for, in seconds; zero if none
    /// has. Two budgets with room for the same searches make the same plan.
    #[must_use]
    pub fn room(scenarios: &[&'static Scenario], budget: Duration) -> u64 {
        let plans = scenarios.iter().flat_map(|scenario| scenario.engines);
        let needs = plans.map(|plan| plan.needs(Variant::Shipped, 2));
        needs
            .filter(|needs| *needs <= budget)
            .max()
            .unwrap_or_default()
            .as_secs()
    }

    /// What tells this plan from every other, in 16 hexadecimal digits.
    #[must_use]
    pub fn hash(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        format!("{:016x}", fnv(text.as_bytes()))
    }

    /// All pieces, in the order of reports.
    #[must_use]
    pub fn pieces(&self) -> Vec<Piece> {
        let of_unit = |(unit, planned): (usize, &PlanUnit)| {
            (0..planned.intervals).map(move |interval| Piece { unit, interval })
        };
        self.units.iter().enumerate().flat_map(of_unit).collect()
    }

    /// The pieces of one shard, in the order of reports.
    ///
    /// The costliest piece goes first, each to the shard that has least to do by then; so no shard
    /// has much more than another, and every piece is in exactly one.
    #[must_use]
    pub fn part(&self, shard: Shard) -> Vec<Piece> {
        let mut pieces = self.pieces();
        let cost = |piece: &Piece| self.units[piece.unit].cost_ms();
        pieces.sort_by_key(|piece| (std::cmp::Reverse(cost(piece)), *piece));
        let mut loads = vec![0_u64; shard.of as usize];
        let mut part = Vec::new();
        for piece in pieces {
            let least = (0..loads.len()).min_by_key(|&at| (loads[at], at));
            let least = least.unwrap_or(0);
            loads[least] = loads[least].saturating_add(cost(&piece));
            if least + 1 == shard.number as usize {
                part.push(piece);
            }
        }
        part.sort_unstable();
        part
    }

    /// Executions of one piece.
    #[must_use]
    pub fn executions(&self, piece: Piece) -> u64 {
        let unit = &self.units[piece.unit];
        let upto = |interval: u32| {
            let share = u128::from(unit.executions) * u128::from(interval);
            u64::try_from(share / u128::from(unit.intervals.max(1))).unwrap_or(u64::MAX)
        };
        upto(piece.interval + 1) - upto(piece.interval)
    }

    /// What a piece draws from. The run id decides, and never a clock or the shard.
    #[must_use]
    pub fn seed(&self, piece: Piece) -> u64 {
        self.seed_of(&self.units[piece.unit], piece.interval)
    }

    /// What a shard's canary draws from.
    #[must_use]
    pub fn canary_seed(&self, canary: &PlanUnit, shard: Shard) -> u64 {
        self.seed_of(canary, shard.number)
    }

    fn seed_of(&self, unit: &PlanUnit, part: u32) -> u64 {
        let Inputs { run_id, seed, .. } = &self.inputs;
        let PlanUnit {
            scenario,
            variant,
            engine,
            ..
        } = unit;
        let text = format!("{run_id}\n{seed}\n{scenario}\n{variant}\n{engine}\n{part}");
        mixed(fnv(text.as_bytes()))
    }
}

impl PlanUnit {
    fn of(scenario: &Scenario, engine: Engine, variant: Variant, effort: u64) -> Self {
        let (executions, rounds) = drawn_by(scenario, engine, variant, effort);
        let draws = draws(engine);
        let needs = scenario.plan(engine).map(|plan| plan.needs(variant, 2));
        let most = u64::from(MOST_INTERVALS);
        PlanUnit {
            scenario: scenario.id.to_owned(),
            revision: scenario.revision(),
            variant,
            engine: engine.to_string(),
            needs_s: needs.unwrap_or_default().as_secs(),
            executions: if draws { executions } else { 0 },
            rounds,
            intervals: match draws {
                true => u32::try_from(effort.clamp(1, most)).unwrap_or(MOST_INTERVALS),
                false => 1,
            },
        }
    }

    /// The engine.
    ///
    /// # Errors
    /// That this program knows none of that name.
    pub fn engine(&self) -> Result<Engine, String> {
        let known = self.engine.parse::<Engine>();
        known.map_err(|error| error.to_string())
    }

    /// The time it needs.
    #[must_use]
    pub fn needs(&self) -> Duration {
        Duration::from_secs(self.needs_s)
    }

    /// About how long one of its pieces takes on one processor, in milliseconds: good enough to
    /// share them out, and the same everywhere.
    fn cost_ms(&self) -> u64 {
        // Two threads are at work on what needs minutes.
        let needs = self.needs_s.saturating_mul(2_000);
        let drawn = self.executions / u64::from(self.intervals.max(1));
        let (each, start) = match self.engine.split(':').next() {
            // An execution of many rounds.
            Some("native") => (10_000, 40),
            Some("explorer") => (0, 150),
            Some("loom") => (0, 500),
            Some("stateright") => (0, 400),
            Some("world") => (3_000, 100),
            // Shuttle, and whatever else draws.
            _ => (150, 40),
        };
        needs.max(start + drawn.saturating_mul(each) / 1_000)
    }
}

/// Whether the engine draws its executions: then each number of them is as good as another, and
/// several machines can draw at once.
fn draws(engine: Engine) -> bool {
    engine.verdict_when_complete(0, "").class() == Class::Sampled
}

/// FNV-1a, 64 bits: the same for ever, on any machine.
fn fnv(bytes: &[u8]) -> u64 {
    let add = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, add)
}

/// Spreads what differs in the last byte over all bits (the finaliser of splitmix64).
fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::canary::MODEL;
    use crate::registry::{self, stateright};

    fn plan(run_id: &str, effort: u64) -> Plan {
        let inputs = Inputs {
            run_id: run_id.to_owned(),
            seed: 1,
            effort,
            filters: Vec::new(),
            room_s: 0,
            sources: "s".to_owned(),
        };
        Plan::of(inputs, &registry::all())
    }

    #[test]
    fn every_piece_is_in_one_shard_and_the_shards_have_like_loads() {
        let plan = plan("night", 40);
        let all: BTreeSet<Piece> = plan.pieces().into_iter().collect();
        assert!(all.len() > 500, "{}", all.len());
        for of in [1, 2, 3, 8, 64] {
            let mut seen = BTreeSet::new();
            let mut loads = Vec::new();
            for number in 1..=of {
                let part = plan.part(Shard { number, of });
                loads.push(
                    part.iter()
                        .map(|p| plan.units[p.unit].cost_ms())
                        .sum::<u64>(),
                );
                for piece in part {
                    assert!(seen.insert(piece), "{piece:?} is in two of {of}");
                }
            }
            assert_eq!(seen, all);
            let largest = (plan.units.iter().map(PlanUnit::cost_ms)).max().unwrap();
            let (most, least) = (loads.iter().max().unwrap(), loads.iter().min().unwrap());
            assert!(most - least <= largest, "{of}: {least} to {most}");
        }
    }

    #[test]
    fn the_hash_is_of_all_inputs_and_of_nothing_else() {
        let one = plan("night", 4);
        assert_eq!(one.hash(), plan("night", 4).hash());
        let mut hashes = BTreeSet::from([one.hash()]);
        let mut other = |change: fn(&mut Plan)| {
            let mut plan = one.clone();
            change(&mut plan);
            assert!(hashes.insert(plan.hash()));
        };
        other(|plan| plan.inputs.run_id.push('2'));
        other(|plan| plan.inputs.seed = 2);
        other(|plan| plan.inputs.room_s = 60);
        other(|plan| plan.inputs.sources.push('x'));
        other(|plan| plan.inputs.filters.push("abba".to_owned()));
        other(|plan| plan.units[3].revision.push('0'));
        other(|plan| plan.canaries.truncate(1));
        assert!(hashes.insert(plan("night", 5).hash()));
    }

    #[test]
    fn the_intervals_of_a_unit_have_all_its_executions_and_seeds_of_their_own() {
        for effort in [1, 2, 7, 32, 33, 480] {
            let plan = plan("night", effort);
            let mut seeds = BTreeSet::new();
            for (at, unit) in plan.units.iter().enumerate() {
                let pieces: Vec<Piece> = (0..unit.intervals)
                    .map(|interval| Piece { unit: at, interval })
                    .collect();
                let drawn: u64 = pieces.iter().map(|piece| plan.executions(*piece)).sum();
                assert_eq!(drawn, unit.executions);
                assert_eq!(unit.intervals > 1, unit.executions > 0 && effort > 1);
                for piece in pieces {
                    assert!(seeds.insert(plan.seed(piece)));
                }
            }
            let other = self::plan("another", effort);
            assert!((other.pieces().into_iter()).all(|piece| !seeds.contains(&other.seed(piece))));
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_dealt_to_nobody() {
        const LONG: crate::Plan = stateright(crate::Expect::Finds).needs_minutes(20);
        static SLOW: Scenario = Scenario {
            id: "slow",
            engines: &[LONG],
            ..MODEL
        };
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let of = |budget| {
            let scenarios = [&SLOW];
            let inputs = Inputs {
                room_s: Plan::room(&scenarios, budget),
                ..plan("night", 1).inputs
            };
            Plan::of(inputs, &scenarios)
        };
        let (short, long) = (of(hours(0)), of(hours(1)));
        // The twin takes no time.
        assert_eq!((short.units.len(), short.left_out.len()), (1, 1));
        assert_eq!((long.units.len(), long.left_out.len()), (2, 0));
        assert_eq!(long.inputs.room_s, 20 * 60);
        assert_eq!(long.hash(), of(hours(8)).hash());
        assert_ne!(long.hash(), short.hash());
    }

    #[test]
    fn every_canary_is_looked_for_under_all_its_engines() {
        let plan = plan("night", 1);
        let engines: Vec<&str> = plan.canaries.iter().map(|c| c.engine.as_str()).collect();
        assert_eq!(engines, ["explorer", "loom", "shuttle", "stateright"]);
        for canary in &plan.canaries {
            assert_eq!((canary.variant, canary.intervals), (Variant::AsReported, 1));
            assert!(registry::find(&canary.scenario).is_some());
        }
    }
}
