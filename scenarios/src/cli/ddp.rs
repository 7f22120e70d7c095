//! `selvedge ddp`: a whole run on this machine, its processes killed and cut off by plan, and what
//! they have applied compared.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::check::{interrupted, on_ctrl_c};
use super::live::Live;
use super::rank::MOST_RANKS;
use super::{Exit, Stop, input, say};
use crate::report::json::replace;
use crate::report::table;
use crate::serving::Percentiles;
use crate::serving::report::seconds;
use crate::training::chaos::{PlanFor, Planned, plan};
use crate::training::fleet::{self, End, FleetConfig};
use crate::training::report::{DdpReport, LifeReport, Violation, judge};

/// What a batch takes, so that one can watch; and longer where something is to happen meanwhile.
const CALM_BATCH: Duration = Duration::from_millis(2);
const CHAOS_BATCH: Duration = Duration::from_millis(10);
/// A silence is borne with for so long. Where nothing is done to them, silence is the machine's.
const CALM_PATIENCE: Duration = Duration::from_secs(10);
const CHAOS_PATIENCE: Duration = Duration::from_secs(1);
/// When a wait ends in a failure.
const CALM_DEADLINE: Duration = Duration::from_secs(30);
const CHAOS_DEADLINE: Duration = Duration::from_secs(10);
/// Beyond its deadlines a process has this long to end.
const GRACE: Duration = Duration::from_secs(10);
/// So many violations are printed; the JSON has all.
const MOST_PRINTED: usize = 10;

#[derive(Debug, Args)]
pub(super) struct DdpArgs {
    /// Rank processes
    #[arg(long, value_name = "N", default_value = "4", value_parser = input::up_to::<MOST_RANKS>)]
    world: u32,
    /// Epochs
    #[arg(long, value_name = "N", default_value = "200", value_parser = input::at_least_one::<u64>)]
    epochs: u64,
    /// What data and model are drawn from
    #[arg(long, value_name = "N", default_value = "1", value_parser = input::number, allow_hyphen_values = true)]
    seed: u64,
    /// With fewer ranks the run is given up; half of the world if not given
    #[arg(long, value_name = "N", value_parser = input::up_to::<MOST_RANKS>)]
    min_world: Option<u32>,
    /// Kill, stop, restart and cut off, by a plan drawn from this seed
    #[arg(long, value_name = "SEED", value_parser = input::number, allow_hyphen_values = true)]
    chaos: Option<u64>,
    /// Faults of the plan
    #[arg(long, value_name = "N", default_value = "20", requires = "chaos", value_parser = input::up_to::<10_000>)]
    faults: u32,
    /// What a batch takes at least, as one of a larger model would [default: 2ms, 10ms with --chaos]
    #[arg(long, value_name = "TIME", value_parser = input::virtual_time)]
    batch_time: Option<Duration>,
    /// How long a silence is borne with before a rank is taken for lost [default: 10s, 1s with
    /// --chaos]
    #[arg(long, value_name = "TIME", value_parser = input::wait)]
    patience: Option<Duration>,
    /// When a wait ends in a failure [default: 30s, 10s with --chaos]
    #[arg(long, value_name = "TIME", value_parser = input::wait)]
    deadline: Option<Duration>,
    /// Profile the ranks: a trace of each life for ui.perfetto.dev, in this directory
    #[arg(long, value_name = "DIR")]
    profile: Option<PathBuf>,
    /// Write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep journals, the coordinator's store and what processes complained of in this new
    /// directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

pub(super) fn ddp(args: &DdpArgs) -> Result<Exit, Stop> {
    let plan = planned(args);
    let min_world = args.min_world.unwrap_or(args.world.div_ceil(2));
    check(args, min_world)?;
    let json = args.json.as_deref().map(input::output).transpose()?;
    let temporary;
    let dir = match &args.keep {
        Some(dir) => {
            fs::create_dir(dir).map_err(|error| {
                Stop::usage(format!(
                    "cannot make the directory {}: {error}",
                    dir.display()
                ))
            })?;
            dir.as_path()
        }
        None => {
            temporary = tempfile::tempdir()
                .map_err(|error| Stop::harness("cannot make a temporary directory", error))?;
            temporary.path()
        }
    };
    if let Some(dir) = &args.profile {
        // Each rank would say so by itself, and the run would be given up.
        fs::create_dir_all(dir).map_err(|error| {
            let dir = dir.display();
            Stop::usage(format!("cannot make the directory {dir}: {error}"))
        })?;
    }
    on_ctrl_c()?;

    let config = config(args, min_world, plan, dir)?;
    let started = Instant::now();
    let mut live = Live::new(config.world, config.epochs);
    if !config.plan.is_empty() {
        say(&render_plan(&config.plan))?;
    }
    let outcome = fleet::run(&config, &mut |status| {
        live.look(status);
        match interrupted() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    live.clear();
    let outcome = outcome.map_err(|error| Stop::harness("the run", error))?;
    let report = judge(&config, &outcome, started.elapsed())
        .map_err(|error| Stop::harness("cannot read what was written down", error))?;
    let exit = exit_of(&report);
    if let Some(mut file) = json {
        let text = json!({"schema": 1, "report": report, "exit": exit as u8});
        replace(&mut file, format!("{text:#}\n").as_bytes())
            .map_err(|error| Stop::harness("cannot write the JSON", error))?;
    }
    say(&render(&report, args.chaos))?;
    Ok(exit)
}

fn planned(args: &DdpArgs) -> Vec<Planned> {
    let of = |seed| PlanFor {
        seed,
        world: args.world,
        epochs: args.epochs,
        faults: args.faults,
        patience: args.patience.unwrap_or(CHAOS_PATIENCE),
    };
    args.chaos.map_or(Vec::new(), |seed| plan(&of(seed)))
}

fn check(args: &DdpArgs, min_world: u32) -> Result<(), Stop> {
    let world = args.world;
    if min_world > world {
        return Err(Stop::usage(format!(
            "--min-world is {min_world}, but the world has only {world}"
        )));
    }
    if args.chaos.is_some() && min_world == world {
        return Err(Stop::usage(format!(
            "--chaos takes ranks out, and a world of {world} that needs {min_world} can spare none; \
             give --world 2 or more, and a smaller --min-world"
        )));
    }
    Ok(())
}

fn config(
    args: &DdpArgs,
    min_world: u32,
    plan: Vec<Planned>,
    dir: &Path,
) -> Result<FleetConfig, Stop> {
    let chaos = args.chaos.is_some();
    let of = |given: Option<Duration>, calm, wild| given.unwrap_or(if chaos { wild } else { calm });
    let (patience, deadline) = (
        of(args.patience, CALM_PATIENCE, CHAOS_PATIENCE),
        of(args.deadline, CALM_DEADLINE, CHAOS_DEADLINE),
    );
    if deadline <= patience {
        return Err(Stop::usage(
            "--deadline must be longer than --patience, or a run gives up before it lets anybody go",
        ));
    }
    // Keys of the standard hasher are random, and differ each time: nobody else on this machine
    // gets into the run by accident.
    let random = || RandomState::new().hash_one(0);
    Ok(FleetConfig {
        program: std::env::current_exe()
            .map_err(|error| Stop::harness("cannot find this program", error))?,
        dir: dir.to_owned(),
        run: format!("ddp-{:016x}", random()),
        token: format!("{:016x}{:016x}", random(), random()),
        world: args.world,
        min_world,
        epochs: args.epochs,
        seed: args.seed,
        batch_time: of(args.batch_time, CALM_BATCH, CHAOS_BATCH),
        patience,
        deadline,
        grace: GRACE,
        profile: args.profile.clone(),
        plan,
    })
}

/// The worst of what happened.
fn exit_of(report: &DdpReport) -> Exit {
    match &report.violations[..] {
        [] if report.interrupted => Exit::Interrupted,
        [] => Exit::Ok,
        violations if violations.iter().all(Violation::is_hang) => Exit::Liveness,
        violations if violations.iter().all(Violation::is_not_done) => Exit::Budget,
        _ => Exit::Property,
    }
}

fn render_plan(plan: &[Planned]) -> String {
    let line = |planned: &Planned| format!("  epoch {:>4}: {}", planned.epoch, planned.fault);
    let lines: Vec<String> = plan.iter().map(line).collect();
    format!("The plan:\n{}", lines.join("\n"))
}

fn render(report: &DdpReport, chaos: Option<u64>) -> String {
    let mut ranks = table::new(&[
        "rank",
        "batches",
        "lives: the epochs each applied, and its end",
    ]);
    for rank in &report.ranks {
        let lives: Vec<String> = rank.lives.iter().map(life).collect();
        let batches = report.batches[rank.rank as usize].to_string();
        ranks.add_row([rank.rank.to_string(), batches, lives.join(", ")]);
    }
    let mut figures = table::new(&["", "p50", "p99", "most"]);
    for (what, of) in [
        ("epoch's commit", report.commit_ms.all),
        ("the same, of who came last", report.commit_ms.least),
        ("all-reduce of a step", report.step_ms.all),
        ("the same, of who came last", report.step_ms.least),
    ] {
        let Percentiles { p50, p99, max, .. } = of;
        let ms = |time: f64| format!("{time:.2} ms");
        figures.add_row([what.to_owned(), ms(p50), ms(p99), ms(max)]);
    }
    let mut text = format!("{ranks}\n\n{figures}\n\n{}", summary(report, chaos));
    for violation in report.violations.iter().take(MOST_PRINTED) {
        text.push_str(&format!("\nVIOLATED: {violation}"));
    }
    let more = report.violations.len().saturating_sub(MOST_PRINTED);
    if more > 0 {
        text.push_str(&format!("\nand {more} more (--json has all)"));
    }
    text
}

fn life(life: &LifeReport) -> String {
    let epochs = match (life.first, life.last) {
        (Some(first), Some(last)) => format!("{first}-{last}"),
        _ => "none".to_owned(),
    };
    match &life.end {
        End::Done => epochs,
        end => format!("{epochs} {}", end.word()),
    }
}

fn summary(report: &DdpReport, chaos: Option<u64>) -> String {
    let done = report
        .faults
        .iter()
        .filter(|fault| fault.done_at.is_some())
        .count();
    let faults = match chaos {
        None => String::new(),
        Some(seed) => format!(
            "Chaos {seed}: {done} of {} faults done, {} starts of the coordinator.\n",
            report.faults.len(),
            report.coordinator_lives
        ),
    };
    let losses = match &report.losses[..] {
        [first, .., last] => format!("loss {first:.4} to {last:.4}"),
        _ => "no loss to compare".to_owned(),
    };
    let verdict = match &report.violations[..] {
        [] if report.interrupted => "Interrupted; what was applied until then agrees.".to_owned(),
        [] => format!(
            "Every rank's alpha is the same in every epoch: {} records of {} epochs and {} states of \
             the parameters compared, bit by bit; alpha moved {} times; {losses}; {}.",
            report.records_compared,
            report.epochs,
            report.parameters_compared,
            report.alpha_moves,
            seconds(report.took_s)
        ),
        violations => format!("{} violations; {losses}.", violations.len()),
    };
    let slow: Vec<String> = (report.false_suspicions.iter())
        .map(|one| format!("Rank {}'s life {} was taken for lost, and nothing had been done to it: this machine was slow for longer than --patience.\n", one.rank, one.life))
        .collect();
    format!("{faults}{}{verdict}", slow.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::chaos::Fault;
    use crate::training::trajectory::Disagreement;

    fn report(violations: Vec<Violation>, interrupted: bool) -> DdpReport {
        DdpReport {
            seed: 1,
            world: 2,
            min_world: 1,
            epochs: 3,
            batches: vec![1, 2],
            over: true,
            interrupted,
            records_compared: 8,
            parameters_compared: 6,
            violations,
            ranks: Vec::new(),
            false_suspicions: Vec::new(),
            coordinator_lives: 1,
            coordinator_ends: vec![End::Done],
            faults: Vec::new(),
            losses: vec![0.7, 0.5],
            alpha_moves: 2,
            commit_ms: Default::default(),
            step_ms: Default::default(),
            took_s: 1.0,
        }
    }

    #[test]
    fn the_exit_says_the_worst() {
        let hang = Violation::Stuck { epoch: 2 };
        let wrong = Violation::Disagreement(Disagreement::Missing { epoch: 2 });
        let of = |violations: &[&Violation], interrupted| {
            let violations = violations.iter().map(|violation| (*violation).clone());
            exit_of(&report(violations.collect(), interrupted))
        };
        assert_eq!(of(&[], false), Exit::Ok);
        assert_eq!(of(&[], true), Exit::Interrupted);
        assert_eq!(of(&[&hang], false), Exit::Liveness);
        let fault = Fault::Restart { rank: 1 };
        let late = Violation::NotDone {
            planned: Planned { epoch: 3, fault },
        };
        assert_eq!(of(&[&late], false), Exit::Budget);
        assert_eq!(of(&[&late, &wrong], false), Exit::Property);
        assert_eq!(of(&[&hang, &wrong], false), Exit::Property);
        assert_eq!(of(&[&wrong], true), Exit::Property);
    }

    #[test]
    fn what_is_violated_is_said() {
        let wrong = Violation::Disagreement(Disagreement::Missing { epoch: 2 });
        let text = render(&report(vec![wrong; 12], false), Some(7));
        assert!(
            text.contains("VIOLATED: nobody has applied epoch 2"),
            "{text}"
        );
        assert!(
            text.contains("and 2 more") && text.contains("12 violations"),
            "{text}"
        );
        assert!(!text.contains("Every rank's alpha"), "{text}");
    }
}
