//! `selvedge nightly`: this machine's part of a night.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use selvedge_sim::child::Children;
use selvedge_sim::model::available_bytes;
use selvedge_sim::{Class, Engine, Variant};

use super::check::progress::Progress;
use super::check::schedule::{self, Machine, Planned, Share};
use super::check::{
    DEFAULT_BUDGET, Draws, INTERRUPTED, interrupted, on_ctrl_c, own_children, run_one,
};
use super::{Exit, Stop, complain, input, say};
use crate::nightly::file::{self, Contents, FileError, Log};
use crate::nightly::{
    Ended, Header, Inputs, Line, Night, Piece, Plan, PlanUnit, Ran, Shard, sources,
};
use crate::registry;
use crate::report::UnitReport;
use crate::report::{night, seeds};

/// A name longer than this is no name.
const LONGEST_RUN_ID: usize = 100;
/// How long a cluster's shard waits for the last process of it to be gone.
const BUSY_FOR: Duration = Duration::from_secs(30);

/// Runs the whole catalogue, or one shard of it, and appends what comes of it to a file. Started
/// again with the same --out and --run-id it goes on where it ended, however it ended.
#[derive(Debug, Args)]
pub(super) struct NightlyArgs {
    /// Scenarios: an id, or part of some
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Wall-clock time for this shard, as 90m or 8h
    #[arg(long, value_name = "TIME", default_value = "8h", value_parser = input::budget)]
    budget: Duration,
    /// Which part is this machine's: K/N, as 3/8; or auto, which asks Slurm, Kubernetes or the CI
    #[arg(long, value_name = "K/N", default_value = "1/1", value_parser = shard)]
    shard: Asked,
    /// What the night is called, the same for all of its shards; whatever is drawn hangs on it
    #[arg(long, value_name = "ID", value_parser = run_id)]
    run_id: String,
    /// The folder that takes the shard's records; all shards may share one
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What every random choice is drawn from, with the run id
    #[arg(long, value_name = "N", default_value = "1", value_parser = input::number, allow_hyphen_values = true)]
    seed: u64,
    /// Times the usual number of executions to draw; one for each minute of the budget if not given
    #[arg(long, value_name = "N", value_parser = input::at_least_one::<u64>)]
    effort: Option<u64>,
    /// Pieces at a time; as many as there are processors if not given
    #[arg(long, value_name = "N", value_parser = input::jobs)]
    jobs: Option<usize>,
    /// A drill: take the planted bugs out, so that the night must be red
    #[arg(long)]
    dead_canary: bool,
}

/// A shard, as it is asked for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Auto,
    This(Shard),
}

fn shard(text: &str) -> Result<Asked, String> {
    match text {
        "auto" => Ok(Asked::Auto),
        _ => (text.parse().map(Asked::This)).map_err(|error| format!("{error}")),
    }
}

fn run_id(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = (1..=LONGEST_RUN_ID).contains(&text.len()) && text.chars().all(plain);
    match fits {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "a run id has 1 to {LONGEST_RUN_ID} letters, digits, '-', '_' and '.'"
        )),
    }
}

pub(super) fn nightly(args: &NightlyArgs) -> Result<Exit, Stop> {
    let shard = match args.shard {
        Asked::This(shard) => shard,
        Asked::Auto => Shard::auto(|name| std::env::var(name).ok()).map_err(Stop::usage)?,
    };
    let minutes = args.budget.as_secs() / DEFAULT_BUDGET.as_secs();
    let scenarios = input::select(&args.filters)?;
    let inputs = Inputs {
        run_id: args.run_id.clone(),
        seed: args.seed,
        effort: args.effort.unwrap_or(minutes.max(1)),
        filters: args.filters.clone(),
        room_s: Plan::room(&scenarios, args.budget),
        sources: sources().to_owned(),
    };
    let plan = Plan::of(inputs, &scenarios);
    let header = Header::of(&plan, shard);
    file::others(&args.out, &header).map_err(Stop::usage)?;
    let (log, before) = open(args, &header)?;
    on_ctrl_c()?;

    let work = Work::new(args, plan, shard, log, &before)?;
    let todo = work.todo(&before);
    match todo.is_empty() && work.has_live_canaries(&before) {
        true => say(&format!(
            "shard {shard} of '{}' is done already",
            args.run_id
        ))?,
        false => work.run(&todo)?,
    }
    work.report(&args.out)
}

/// Opens the shard's file. A cluster starts a shard again while its last process is still being
/// ended: then there is a moment to wait.
fn open(args: &NightlyArgs, header: &Header) -> Result<(Log, Contents), Stop> {
    let until = match args.shard {
        Asked::Auto => Instant::now() + BUSY_FOR,
        Asked::This(_) => Instant::now(),
    };
    loop {
        match Log::open(&args.out, header) {
            Err(FileError::Busy { .. }) if Instant::now() < until => {
                thread::sleep(Duration::from_millis(200));
            }
            opened => return opened.map_err(Stop::usage),
        }
    }
}

/// A shard that is being worked on.
struct Work {
    plan: Plan,
    shard: Shard,
    machine: Machine,
    children: Children,
    session: u32,
    /// The planted bugs are taken out.
    drill: bool,
    log: Mutex<Log>,
    /// Why the log can be written no more.
    broken: Mutex<Option<FileError>>,
}

impl Work {
    fn new(
        args: &NightlyArgs,
        plan: Plan,
        shard: Shard,
        log: Log,
        before: &Contents,
    ) -> Result<Self, Stop> {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let jobs = args.jobs.unwrap_or(cores);
        Ok(Work {
            plan,
            shard,
            machine: Machine {
                budget: args.budget,
                started: Instant::now(),
                jobs,
                threads: jobs.min(cores),
                bytes: available_bytes(),
            },
            children: own_children()?,
            session: before.sessions() + 1,
            drill: args.dead_canary,
            log: Mutex::new(log),
            broken: Mutex::default(),
        })
    }

    /// The pieces of this shard that were not run to their end yet.
    fn todo(&self, before: &Contents) -> Vec<Piece> {
        let done: BTreeSet<Piece> = (before.lines.iter())
            .filter_map(|line| match line {
                Line::Piece { ran, .. } if !ran.was_cut() => ran.piece(&self.plan),
                _ => None,
            })
            .collect();
        let mut todo = self.plan.part(self.shard);
        todo.retain(|piece| !done.contains(piece));
        todo
    }

    fn has_live_canaries(&self, before: &Contents) -> bool {
        let night = self.night(before.clone());
        !night.canaries.is_empty() && night.dead_canaries().next().is_none()
    }

    fn night(&self, contents: Contents) -> Night {
        Night::of(
            self.plan.clone(),
            self.shard.of,
            vec![contents],
            Some(self.shard),
        )
    }

    fn run(&self, todo: &[Piece]) -> Result<(), Stop> {
        self.write(&Line::Session {
            session: self.session,
            budget_s: self.machine.budget.as_secs(),
        });
        let (planned, pieces) = self.planned(todo)?;
        let progress = Progress::new(planned.len() + self.plan.canaries.len());
        for canary in &self.plan.canaries {
            self.look_for(canary, &progress)?;
        }
        let run =
            |unit: Planned, share| self.run_piece(pieces[&unit.place], unit, share, &progress);
        let tell = |report: Option<&UnitReport>| match report {
            Some(report) => progress.finished(report),
            None => progress.skip(),
        };
        let done = schedule::run_all(&planned, &self.machine, &run, &tell);
        progress.clear();
        let how = match (interrupted(), done.len() == planned.len()) {
            (true, _) => Ended::Interrupted,
            (false, true) => Ended::Done,
            (false, false) => Ended::Budget,
        };
        self.write(&Line::End {
            session: self.session,
            how,
        });
        let broken = lock(&self.broken).take();
        broken.map_or(Ok(()), |error| {
            Err(Stop::harness("the night is cut off", error))
        })
    }

    /// What there is time for, and which piece stands at which place. What needs more than there is
    /// is written down as left out.
    fn planned(&self, todo: &[Piece]) -> Result<(Vec<Planned>, BTreeMap<usize, Piece>), Stop> {
        let mut planned = Vec::new();
        let mut pieces = BTreeMap::new();
        for (place, piece) in todo.iter().enumerate() {
            let unit = &self.plan.units[piece.unit];
            planned.push(self.planned_unit(unit, place)?);
            pieces.insert(place, *piece);
        }
        // The short ones among those that need long come first; all of them run in turn.
        let mut long: Vec<Planned> = planned
            .iter()
            .copied()
            .filter(|p| !p.needs.is_zero())
            .collect();
        long.sort_by_key(|unit| unit.needs);
        let mut taken = Duration::ZERO;
        for unit in long {
            let with_it = taken + unit.needs;
            if with_it <= self.machine.budget {
                taken = with_it;
                continue;
            }
            planned.retain(|planned| planned.place != unit.place);
            self.write(&Line::LeftOut {
                session: self.session,
                scenario: unit.scenario.id.to_owned(),
                variant: unit.variant,
                engine: unit.engine.to_string(),
                needs_s: with_it.as_secs(),
            });
        }
        Ok((planned, pieces))
    }

    fn planned_unit(&self, unit: &PlanUnit, place: usize) -> Result<Planned, Stop> {
        let gone = |what: &str| Stop::harness("the plan cannot be run", format!("no {what}"));
        let scenario = registry::find(&unit.scenario).ok_or_else(|| gone(&unit.scenario))?;
        let engine = unit.engine().map_err(|error| gone(&error))?;
        let plan = scenario.plan(engine).ok_or_else(|| gone(&unit.engine))?;
        Ok(Planned {
            place,
            scenario,
            variant: unit.variant,
            engine,
            needs: plan.needs(unit.variant, self.machine.threads),
            tries: 0,
        })
    }

    /// Looks for a planted bug before anything else is run.
    fn look_for(&self, canary: &PlanUnit, progress: &Progress) -> Result<(), Stop> {
        let mut unit = self.planned_unit(canary, 0)?;
        if self.drill {
            unit.variant = Variant::Shipped;
        }
        let share = Share {
            limit: self.machine.budget.min(DEFAULT_BUDGET),
            threads: 1,
            most_bytes: self.machine.bytes,
        };
        let seed = self.plan.canary_seed(canary, self.shard);
        let draws = Draws {
            seed,
            executions: canary.executions,
            rounds: canary.rounds,
            shrinks: false,
        };
        if interrupted() {
            return Ok(());
        }
        let report = run_one(draws, &self.children, unit, share, progress);
        progress.finished(&report);
        if !(interrupted() && report.was_cut()) {
            let ran = Box::new(Ran::of(&report, 0, seed));
            let session = self.session;
            self.write(&Line::Canary { session, ran });
        }
        Ok(())
    }

    fn run_piece(
        &self,
        piece: Piece,
        unit: Planned,
        share: Share,
        progress: &Progress,
    ) -> UnitReport {
        let of = &self.plan.units[piece.unit];
        let seed = self.plan.seed(piece);
        let draws = Draws {
            seed,
            executions: self.plan.executions(piece),
            rounds: of.rounds,
            // A bug that is expected need not be made small again and again.
            shrinks: piece.interval == 0 || unit.variant == Variant::Shipped,
        };
        // How a search that is split among threads comes to a failure hangs on their speed; a
        // complete one of a model has the same states in any order.
        let alike = unit.engine == Engine::Stateright && unit.variant == Variant::Shipped;
        let threads = if alike { share.threads } else { 1 };
        let share = Share { threads, ..share };
        let mut report = run_one(draws, &self.children, unit, share, progress);
        let mends = matches!(
            report.verdict.class(),
            Class::Sampled | Class::Bounded | Class::Exhausted
        );
        if of.intervals > 1 && mends {
            // What one interval did not find or reach another may.
            report.surprise = None;
        }
        // What was interrupted says nothing, and is run again.
        if !(interrupted() && report.was_cut()) {
            let ran = Box::new(Ran::of(&report, piece.interval, seed));
            let session = self.session;
            self.write(&Line::Piece { session, ran });
        }
        if report.surprise.is_some()
            && let Some(seed) = &report.seed
            && let Err(problem) = seeds::keep_one(seed)
        {
            complain(&problem);
        }
        report
    }

    /// Appends a line. A log that cannot be written ends the night: nothing that is run would be
    /// kept.
    fn write(&self, line: &Line) {
        let mut broken = lock(&self.broken);
        if broken.is_none()
            && let Err(error) = lock(&self.log).append(line)
        {
            *broken = Some(error);
            // ORDERING: Relaxed. A flag that everybody looks at again soon.
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
    }

    fn report(&self, out: &std::path::Path) -> Result<Exit, Stop> {
        let path = file::path(out, self.shard);
        let contents = Contents::read(&path)
            .map_err(|error| Stop::harness("cannot read the records again", error))?;
        let night = self.night(contents);
        say(&night::shard_text(&night, self.shard, &path))?;
        Ok(night.run.exit)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
