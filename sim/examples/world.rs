//! Runs of the simulated world, by seed.
//!
//! `cargo run --release -p selvedge-sim --example world -- [--seeds FROM..TO] [--ranks N]
//! [--epochs N] [--training | --serving] [--mutant NAME | --mutants] [--calm] [--shrink]` prints
//! what was violated, what the runs have been through and what they never reached. Everybody takes
//! part, unless one half is asked for. With `--mutants` it looks for every bug planted on purpose,
//! and prints how many seeds each took.

use std::process::ExitCode;
use std::time::Instant;

use selvedge_sim::world::{Faults, Mutant, Parts, Probes, World, WorldConfig, WorldReport};

struct Arguments {
    from: u64,
    to: u64,
    config: WorldConfig,
    mutants: bool,
    shrink: bool,
    /// What was asked for in place of what the seed draws.
    ranks: Option<u32>,
    epochs: Option<u64>,
}

impl Arguments {
    fn config(&self, seed: u64, mutant: Mutant) -> WorldConfig {
        let drawn = match self.config.faults {
            Faults::None => self.config.clone(),
            _ if self.config.parts == Parts::TRAINING => WorldConfig::swarm(seed),
            _ => WorldConfig::whole(seed),
        };
        let ranks = self.ranks.unwrap_or(drawn.ranks);
        WorldConfig {
            ranks,
            min_world: drawn.min_world.min(ranks),
            epochs: self.epochs.unwrap_or(drawn.epochs),
            seed,
            mutant,
            parts: self.config.parts,
            ..drawn
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut given = Arguments {
        from: 0,
        to: 200,
        config: WorldConfig {
            faults: Faults::Swarm,
            parts: Parts::ALL,
            ..WorldConfig::default()
        },
        mutants: false,
        shrink: false,
        ranks: None,
        epochs: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
            let error = |_| format!("{text} is no number that fits");
            text.parse().map_err(error)
        }
        match &*word {
            "--seeds" => {
                let range = value()?;
                let (from, to) = range.split_once("..").ok_or("--seeds wants FROM..TO")?;
                (given.from, given.to) = (number(from)?, number(to)?);
            }
            "--ranks" => given.ranks = Some(number(&value()?)?),
            "--epochs" => given.epochs = Some(number(&value()?)?),
            "--training" => given.config.parts = Parts::TRAINING,
            "--serving" => given.config.parts = Parts::SERVING,
            "--calm" => given.config.faults = Faults::None,
            "--mutants" => given.mutants = true,
            "--shrink" => given.shrink = true,
            "--mutant" => {
                let name = value()?;
                let mut all = Mutant::ALL.into_iter();
                let found = all.find(|mutant| format!("{mutant:?}") == name);
                given.config.mutant =
                    found.ok_or(format!("{name} is none of {:?}", Mutant::ALL))?;
            }
            _ => return Err(format!("{word} is no option; see the head of the file")),
        }
    }
    Ok(given)
}

fn run(config: WorldConfig) -> Result<WorldReport, String> {
    let world = World::new(config).map_err(|error| error.to_string())?;
    Ok(world.run())
}

fn show_smaller(report: &WorldReport) {
    if let Some(shrunk) = report.shrink(500) {
        println!("smaller, after {} runs:", shrunk.runs);
        print!(
            "{}{}",
            shrunk.report,
            shrunk.report.recorded().timeline(
                std::env::var("ROWS")
                    .ok()
                    .and_then(|rows| rows.parse().ok())
                    .unwrap_or(40)
            )
        );
    }
}

fn main() -> Result<ExitCode, String> {
    let given = arguments()?;
    let (from, to) = (given.from, given.to);
    if given.mutants {
        for mutant in Mutant::ALL {
            let mut seeds = from..to;
            let found = seeds.find_map(|seed| {
                let report = run(given.config(seed, mutant)).ok()?;
                report.violation.is_some().then_some((seed, report))
            });
            let Some((seed, report)) = found else {
                println!("{mutant:?}: NOT FOUND in {} seeds", to - from);
                continue;
            };
            let Some(found) = &report.violation else {
                continue;
            };
            let after = seed - from + 1;
            println!(
                "{mutant:?}: {} after {after} seeds: {}",
                found.signature, found.message
            );
            if given.shrink {
                show_smaller(&report);
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut probes = Probes::default();
    let (mut events, mut seconds, mut violated) = (0, 0.0, 0);
    let begun = Instant::now();
    for seed in from..to {
        let report = run(given.config(seed, given.config.mutant))?;
        events += report.events;
        seconds += report.virtual_time.as_secs_f64();
        probes.add(&report.probes);
        if report.violation.is_some() {
            violated += 1;
            print!("{report}");
            if given.shrink {
                show_smaller(&report);
            }
        }
    }
    let took = begun.elapsed().as_secs_f64();
    print!("{probes}");
    println!(
        "{} seeds, {violated} violated; {events} events, {seconds:.0} virtual seconds in {took:.1} s: \
         {:.0} events and {:.0} virtual seconds a second",
        to - from,
        events as f64 / took,
        seconds / took,
    );
    Ok(ExitCode::from(u8::from(violated > 0)))
}
