//! `selvedge world`: many seeds of the simulated world on all processors, and what came of them.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use selvedge_sim::Variant;
use selvedge_sim::campaign::Campaign;
use selvedge_sim::world::{Mutant, World};

use super::check::{interrupted, on_ctrl_c, own_children};
use super::{Exit, Stop, input, say};
use crate::{Scenario, worlds};

mod mutants;
mod progress;
mod report;
mod run;

use report::Report;
use run::Job;

/// Seeds that are run if nobody says how many.
const SEEDS: u64 = 1_000;

#[derive(Debug, Args)]
pub(super) struct WorldArgs {
    /// How many seeds; 1000 if not given. With --mutants, by how many each must be found
    #[arg(long, value_name = "N", value_parser = input::at_least_one::<u64>)]
    seeds: Option<u64>,
    /// The first seed; the others follow it
    #[arg(long, value_name = "SEED", default_value = "0", value_parser = input::number, allow_hyphen_values = true)]
    from: u64,
    /// Seeds at a time; as many as there are processors if not given
    #[arg(long, value_name = "N", value_parser = input::jobs)]
    jobs: Option<usize>,
    /// Wall-clock time for everything, as 60s or 8h; as long as it takes if not given
    #[arg(long, value_name = "TIME", value_parser = input::budget)]
    budget: Option<Duration>,
    /// Break the world in this way; `selvedge list world` says what each does
    #[arg(long, value_name = "M", value_parser = mutants::named, conflicts_with = "mutants")]
    mutant: Option<Mutant>,
    /// Look for every mutant, and say how many seeds it took
    #[arg(long, conflicts_with_all = ["twice", "from", "faults", "ranks", "epochs"])]
    mutants: bool,
    /// What goes wrong: none (nothing) or swarm (what each seed draws)
    #[arg(long, value_name = "WHAT", value_enum)]
    faults: Option<Sky>,
    /// Ranks that begin, 1 to 256; drawn if not given
    #[arg(long, value_name = "N", value_parser = input::up_to::<256>)]
    ranks: Option<u32>,
    /// Epochs of a run; drawn if not given
    #[arg(long, value_name = "N", value_parser = input::up_to::<1_000_000>)]
    epochs: Option<u32>,
    /// Run every seed twice and hold both runs to be the same; say what differs first
    #[arg(long)]
    twice: bool,
    /// With --twice: the same also in another process
    #[arg(long, requires = "twice")]
    processes: bool,
    /// With --twice: make every run another one, to see that it is told
    #[arg(long, requires = "twice")]
    canary: bool,
    /// Write what came of it as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What goes wrong in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Sky {
    /// Nothing
    None,
    /// What each seed draws
    Swarm,
}

pub(super) fn world(args: &WorldArgs) -> Result<Exit, Stop> {
    let json = args.json.as_deref().map(input::output).transpose()?;
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let jobs = args.jobs.unwrap_or(cores);
    let began = Instant::now();
    let deadline = args.budget.map(|budget| began + budget);
    if args.mutants {
        on_ctrl_c()?;
        return mutants::all(args.seeds.unwrap_or(SEEDS), jobs, deadline, json);
    }
    let (scenario, variant) = whose(args.mutant)?;
    let body = (scenario.bodies(variant).world)
        .ok_or_else(|| Stop::harness("the catalogue is wrong", "a world has no world"))?;
    let campaign = campaign(args);
    World::new(campaign.config(&body, args.from)).map_err(Stop::usage)?;
    on_ctrl_c()?;
    let job = Job {
        children: own_children()?,
        scenario,
        variant,
        campaign,
        processes: args.processes,
        deadline,
        jobs,
    };
    let progress = progress::Progress::new(job.campaign.seeds);
    let totals = run::all(&job, &progress)?;
    progress.clear();
    let report = Report {
        totals,
        asked: job.campaign.seeds,
        took: began.elapsed(),
        interrupted: interrupted(),
        twice: args.twice,
    };
    report.keep_seeds();
    if let Some(file) = json {
        report
            .write_json(file)
            .map_err(|error| Stop::harness("cannot write the JSON", error))?;
    }
    say(&report.table())?;
    Ok(report.exit())
}

/// The scenario that the seeds of a run are of: the world as it ships, or that of a mutant.
fn whose(mutant: Option<Mutant>) -> Result<(&'static Scenario, Variant), Stop> {
    let missing = || Stop::harness("the catalogue is wrong", "a mutant has no scenario");
    let (mutant, variant) = match mutant {
        None => (Mutant::None, Variant::Shipped),
        Some(mutant) => (mutant, Variant::AsReported),
    };
    Ok((worlds::of(mutant).ok_or_else(missing)?, variant))
}

fn campaign(args: &WorldArgs) -> Campaign {
    let seeds = args.seeds.unwrap_or(SEEDS);
    let usual = Campaign::of(args.from, seeds);
    Campaign {
        swarm: args.faults.map(|sky| sky == Sky::Swarm),
        ranks: args.ranks,
        epochs: args.epochs.map(u64::from),
        twice_every: if args.twice { 1 } else { usual.twice_every },
        hashes: args.processes,
        canary: args.canary,
        ..usual
    }
}
