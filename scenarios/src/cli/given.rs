//! The seed that a user gives: as text, as a file, or by its short name; and whether it still
//! fits.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use selvedge_sim::world::{Faults, Mutant, WorldConfig};
use selvedge_sim::{DecisionLog, Seed};

use super::{Stop, input};
use crate::report::seeds;
use crate::{Scenario, registry, worlds};

/// A file that is longer holds no seed of ours.
const LONGEST_FILE: u64 = 64 << 20;

/// The seed, and the scenario that it is of.
pub(super) fn seed(text: &str) -> Result<(Seed, &'static Scenario), Stop> {
    let (seed, scenario) = seed_of_any_revision(text)?;
    let revision = scenario.revision();
    if seed.revision != revision {
        return Err(Stop::usage(format!(
            "the seed is stale: it was made for revision {} of {}, this is {revision}; run \
             `selvedge check {}` for a new one",
            seed.revision, seed.scenario, seed.scenario
        )));
    }
    Ok((seed, scenario))
}

/// The same, also where the scenario's source has changed since.
pub(super) fn seed_of_any_revision(text: &str) -> Result<(Seed, &'static Scenario), Stop> {
    let seed = find(text)?;
    let scenario = registry::find(&seed.scenario).ok_or_else(|| {
        Stop::usage(format!(
            "the seed is stale: {}",
            input::no_such_scenario(&seed.scenario)
        ))
    })?;
    Ok((seed, scenario))
}

/// The seed that `text` is, or the file or kept seed that it names holds.
fn find(text: &str) -> Result<Seed, Stop> {
    let looks_like_a_seed = text.trim_start().starts_with("sv") && text.contains('.');
    if looks_like_a_seed && !Path::new(text).exists() {
        return text.parse().map_err(Stop::usage);
    }
    let kept = seeds::path_of(text);
    let path = match kept.as_deref() {
        Some(kept) if kept.exists() => kept,
        _ => Path::new(text),
    };
    let mut content = String::new();
    let read =
        File::open(path).and_then(|file| file.take(LONGEST_FILE).read_to_string(&mut content));
    read.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Stop::usage(format!(
            "'{text}' is no seed (they begin with 'sv2.'), no file, and no seed that `check` kept"
        )),
        _ => Stop::usage(format!("cannot read {}: {error}", path.display())),
    })?;
    (content.parse()).map_err(|error| Stop::usage(format!("{}: {error}", path.display())))
}

/// What the seed is of, and how large.
pub(super) fn headline(seed: &Seed) -> String {
    let what = match &seed.log {
        DecisionLog::Schedule(schedule) => format!(
            "{} tasks, {} steps, {} switches",
            schedule.tasks.len(),
            schedule.len(),
            schedule.switches()
        ),
        DecisionLog::Path { actions, shortest } => {
            // The first says which initial state.
            let count = actions.len().saturating_sub(1);
            let shortest = if *shortest { ", the shortest path" } else { "" };
            format!("{count} actions{shortest}")
        }
        DecisionLog::World(config) => {
            let faults = match &config.faults {
                Faults::Plan(plan) => format!("{} faults", plan.faults.len()),
                Faults::None => "no faults".to_owned(),
                Faults::Swarm => "faults drawn from the seed".to_owned(),
            };
            let mutant = match config.mutant {
                Mutant::None => String::new(),
                mutant => format!(", mutant {}", worlds::name(mutant)),
            };
            let WorldConfig {
                seed,
                ranks,
                epochs,
                ..
            } = **config;
            format!("world {seed}, {ranks} ranks, {epochs} epochs, {faults}{mutant}")
        }
        DecisionLog::Checkpoint { .. } => "loom's checkpoint".to_owned(),
        DecisionLog::Workload { execution, .. } => {
            format!("workload of execution {execution} on real threads")
        }
    };
    let Seed {
        scenario,
        variant,
        engine,
        ..
    } = seed;
    format!("{scenario}, {variant}, {engine}: {what}")
}
