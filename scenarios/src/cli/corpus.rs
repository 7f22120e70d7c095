//! `selvedge corpus`: the regressions that are kept in files. See [`crate::corpus`].

mod add;
mod prune;
mod run;
mod twins;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::{Args, Subcommand};
use selvedge_sim::child::Children;

use super::check::INTERRUPTED;
use super::{Exit, Stop, complain, input};
use crate::corpus::{Corpus, Entry, Expected, Finding};
use crate::registry;

/// Where the corpus is, seen from the project's root.
const DIR: &str = "tests/regressions";
/// One execution takes milliseconds; loom's search in place of one, about a second.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct CorpusArgs {
    #[command(subcommand)]
    command: CorpusCommand,
}

#[derive(Debug, Subcommand)]
enum CorpusCommand {
    /// Keep a seed as a regression; with --twins, one of every twin and engine
    Add(AddArgs),
    /// Replay the regressions
    Run(RunArgs),
    /// Remove regressions whose seeds are stale, and all but the first of one bug
    Prune(PruneArgs),
}

#[derive(Debug, Args)]
struct AddArgs {
    /// A seed, a file that holds one, or the short name of one that `check` printed; with
    /// --twins, part of a scenario's id
    #[arg(value_name = "SEED")]
    seed: Option<String>,
    /// Find and shrink every twin under every engine that must find it, and keep what is missing
    /// or stale
    #[arg(long, conflicts_with_all = ["name", "why", "found_by", "fixed_in", "as_is"])]
    twins: bool,
    /// What it is called in reports; made of the scenario and the engine if not given
    #[arg(long, value_name = "NAME", value_parser = words)]
    name: Option<String>,
    /// What went wrong and why, in some three lines
    #[arg(long, value_name = "TEXT", value_parser = words)]
    why: Option<String>,
    /// Who or what met it
    #[arg(long, value_name = "WHO", value_parser = words, default_value = "selvedge corpus add")]
    found_by: String,
    /// Of a bug of the shipped code that is fixed already: where
    #[arg(long, value_name = "WHERE", value_parser = words)]
    fixed_in: Option<String>,
    /// Keep the seed as it is, and do not shrink it
    #[arg(long)]
    as_is: bool,
    /// Wall-clock time for shrinking one seed
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = input::budget)]
    limit: Duration,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Regressions: a name or a scenario's id, or part of some
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Write what became of them as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
struct PruneArgs {
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
struct PlaceArgs {
    /// The corpus's folder
    #[arg(long, value_name = "DIR", default_value = DIR)]
    dir: PathBuf,
    /// Regressions at a time; as many as there are processors if not given
    #[arg(long, value_name = "N", value_parser = input::jobs)]
    jobs: Option<usize>,
}

impl PlaceArgs {
    fn read(&self) -> Result<Corpus, Stop> {
        Corpus::read(&self.dir).map_err(Stop::usage)
    }

    /// The same for who is about to write: the folder may be made, not what it is in.
    fn read_or_make(&self) -> Result<Corpus, Stop> {
        let parent = (self.dir.parent()).filter(|parent| !parent.as_os_str().is_empty());
        match self.dir.exists() {
            true => self.read(),
            false if parent.is_none_or(std::path::Path::is_dir) => {
                std::fs::create_dir(&self.dir).map_err(|error| {
                    Stop::usage(format!("cannot make {}: {error}", self.dir.display()))
                })?;
                Ok(Corpus::empty(&self.dir))
            }
            false => Err(Stop::usage(format!(
                "there is no {} to make the corpus in: run this in the project's root, or name \
                 the folder with --dir",
                parent.unwrap_or(&self.dir).display()
            ))),
        }
    }

    fn jobs(&self) -> usize {
        let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.jobs.unwrap_or_else(cores)
    }
}

pub(super) fn corpus(args: &CorpusArgs) -> Result<Exit, Stop> {
    match &args.command {
        CorpusCommand::Add(args) => match (&args.seed, args.twins) {
            (filter, true) => twins::add(filter.as_slice(), args),
            (Some(seed), false) => add::add(seed, args),
            (None, false) => Err(Stop::usage(
                "name a seed to keep, or ask for every twin's with --twins",
            )),
        },
        CorpusCommand::Run(args) => run::run(args),
        CorpusCommand::Prune(args) => prune::prune(args),
    }
}

fn words(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("there are no words in it".to_owned()),
        words => Ok(words.to_owned()),
    }
}

/// What becomes of a regression. Where the bed itself fails, that is a finding as well.
fn look(children: &Children, entry: &Entry) -> Finding {
    let scenario = registry::find(&entry.seed.scenario);
    if let Some(known) = Finding::beforehand(entry, scenario) {
        return known;
    }
    let found = match entry.expect {
        Expected::Fails => {
            (children.replay(&entry.seed, 1, LIMIT, &INTERRUPTED)).map(Finding::of_twin)
        }
        Expected::Passes => (children.follow(&entry.seed, LIMIT, &INTERRUPTED))
            .map(|followed| Finding::of_shipped(entry, followed)),
    };
    found.unwrap_or_else(|error| Finding::EngineFailed(format!("cannot start a child: {error}")))
}

/// Tells what is wrong with the files, each on a line.
fn complain_of_problems(corpus: &Corpus) -> bool {
    let mut any = false;
    for problem in corpus.problems() {
        complain(&problem.to_string());
        any = true;
    }
    any
}

/// Does the work for each item, some at a time, and hands over what came of it as it comes.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    work: impl Fn(&T) -> R + Sync,
    mut done: impl FnMut(usize, R),
) {
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.min(items.len()) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    // ORDERING: Relaxed. It only deals out numbers.
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    if sender.send((at, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (at, result) in results {
            done(at, result);
        }
    });
}

/// The entries that any of the filters names: by just this name or scenario, else by part of one.
/// No filter names all.
fn select<'a>(corpus: &'a Corpus, filters: &[String]) -> Result<Vec<&'a Entry>, Stop> {
    let all: Vec<&Entry> = corpus.entries().collect();
    if filters.is_empty() {
        return Ok(all);
    }
    let mut chosen = vec![false; all.len()];
    for filter in filters {
        let wanted = filter.to_lowercase();
        let words = |entry: &Entry| [&entry.name, &entry.seed.scenario].map(|w| w.to_lowercase());
        let exact = all.iter().any(|entry| words(entry).contains(&wanted));
        let hit = |entry: &Entry| match exact {
            true => words(entry).contains(&wanted),
            false => !wanted.is_empty() && words(entry).iter().any(|word| word.contains(&wanted)),
        };
        let mut any = false;
        for (chosen, entry) in chosen.iter_mut().zip(&all) {
            let hit = hit(entry);
            (*chosen, any) = (*chosen || hit, any || hit);
        }
        if !any {
            return Err(Stop::usage(
                match input::select(std::slice::from_ref(filter)) {
                    Ok(_) => format!(
                        "no regression of '{filter}' is kept; `selvedge corpus add --twins {filter}` \
                     makes those of its twin"
                    ),
                    Err(_) => format!("no regression's name or scenario has '{filter}' in it"),
                },
            ));
        }
    }
    let chosen = all.into_iter().zip(chosen).filter(|(_, chosen)| *chosen);
    Ok(chosen.map(|(entry, _)| entry).collect())
}
