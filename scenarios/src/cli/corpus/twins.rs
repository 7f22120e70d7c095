//! `selvedge corpus add --twins`: a regression of each scenario's twin under each engine that must
//! find it, made by searching and shrinking. What holds already is left alone.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use selvedge_sim::child::Children;
use selvedge_sim::{Engine, Variant};

use super::{AddArgs, add, complain_of_problems, in_parallel, look};
use crate::cli::check::{interrupted, on_ctrl_c, own_children};
use crate::cli::{Exit, Stop, complain, input, say, shrink};
use crate::corpus::entry::Place;
use crate::corpus::store::{Edit, change};
use crate::corpus::{BY_TWINS, Corpus, Entry, Expected, Finding};
use crate::registry::Scenario;

/// A scenario's twin under an engine.
type Twin = (&'static Scenario, Engine);

/// What became of one twin under one engine.
enum Done {
    /// Its regression holds.
    Holds,
    /// A new one.
    Made(Box<Entry>),
    /// One in the place of that, which was stale for this reason.
    Remade(Box<Entry>, Place, String),
}

pub(super) fn add(filters: &[String], args: &AddArgs) -> Result<Exit, Stop> {
    let scenarios = input::select(filters)?;
    let wanted: Vec<Twin> = (scenarios.iter())
        .flat_map(|&scenario| {
            let plans = scenario
                .engines
                .iter()
                .filter(|plan| scenario.is_kept(plan));
            plans.map(move |plan| (scenario, plan.engine))
        })
        .collect();
    if wanted.is_empty() {
        return Err(Stop::usage(
            "no twin of these is found by an engine that can shrink; `selvedge list` shows which are",
        ));
    }
    let corpus = args.place.read_or_make()?;
    if complain_of_problems(&corpus) {
        return Err(Stop::usage("mend these regressions first"));
    }
    on_ctrl_c()?;
    let children = own_children()?;
    let (mut made, mut holds, mut worst) = (0, 0, Exit::Ok);
    let work = |&twin: &Twin| one(&children, &corpus, twin, args);
    let mut ready = InOrder::new(&wanted);
    in_parallel(&wanted, args.place.jobs(), work, |at, done| {
        let (scenario, engine) = wanted[at];
        let edit = match done {
            Ok(Done::Holds) => {
                holds += 1;
                None
            }
            Ok(Done::Made(entry)) => {
                tell(&format!(
                    "{}: {}",
                    entry.name,
                    entry.size.as_deref().unwrap_or("")
                ));
                Some((corpus.file_for(scenario.id), Edit::Push(*entry)))
            }
            Ok(Done::Remade(entry, place, why)) => {
                tell(&format!(
                    "{}: {}; the seed there was stale: {why}",
                    entry.name,
                    entry.size.as_deref().unwrap_or("")
                ));
                Some((place.file, Edit::Set(place.index, *entry)))
            }
            Err(stop) => {
                // What was made of the others is kept all the same.
                if worst == Exit::Ok || stop.exit == Exit::Interrupted {
                    worst = stop.exit;
                }
                if !interrupted() {
                    complain(&format!("{} under {engine}: {}", scenario.id, stop.message));
                }
                None
            }
        };
        made += usize::from(edit.is_some());
        for (path, edits) in ready.add(at, edit) {
            if let Err(problem) = change(&path, &edits) {
                complain(&problem);
                worst = Exit::Usage;
            }
        }
    });
    say(&format!(
        "{} twins under their engines: {made} made, {holds} hold, {} missing",
        wanted.len(),
        wanted.len() - made - holds
    ))?;
    match interrupted() {
        true => Err(add::interrupted()),
        false => Ok(worst),
    }
}

fn one(
    children: &Children,
    corpus: &Corpus,
    (scenario, engine): Twin,
    args: &AddArgs,
) -> Result<Done, Stop> {
    if interrupted() {
        return Err(add::interrupted());
    }
    let mut old = (corpus.entries()).filter(|entry| {
        let seed = &entry.seed;
        (seed.scenario == scenario.id && seed.variant == Variant::AsReported)
            && seed.engine.name() == engine.name()
    });
    let first = old.next();
    let mut stale = None;
    for entry in first.into_iter().chain(old) {
        let finding = look(children, entry);
        match finding {
            Finding::Fails => return Ok(Done::Holds),
            Finding::Interrupted => return Err(add::interrupted()),
            other => stale = stale.or(Some((entry, other.why().to_owned()))),
        }
    }
    let seed = shrink::find(children, scenario, engine)?;
    if seed.signature != scenario.signature {
        return Err(Stop {
            exit: Exit::Survived,
            message: format!(
                "found '{}' instead of '{}'",
                seed.signature, scenario.signature
            ),
        });
    }
    let (seed, size) = match add::shrunk(children, &seed, args.limit)? {
        Some(kept) => (kept.seed, kept.size),
        None => (seed.clone(), add::size_of(&seed)),
    };
    add::fails(children, &seed)?;
    let made = Entry {
        name: add::free_name(corpus, &seed),
        expect: Expected::Fails,
        found_by: BY_TWINS.to_owned(),
        twin: Some(scenario.ticket.to_owned()),
        fixed_in: None,
        size: Some(size),
        why: scenario.summary.to_owned(),
        place: Place::default(),
        seed,
    };
    Ok(match stale {
        None => Done::Made(Box::new(made)),
        Some((old, why)) => {
            // The words of an entry that somebody wrote are theirs.
            let words = match old.found_by == BY_TWINS {
                true => made.why.clone(),
                false => old.why.clone(),
            };
            let entry = Entry {
                name: old.name.clone(),
                found_by: old.found_by.clone(),
                why: words,
                ..made
            };
            Done::Remade(Box::new(entry), old.place.clone(), why)
        }
    })
}

/// Gathers what is to be written into one scenario's file until all of it is there, so that the
/// order in which children end shows nowhere.
struct InOrder {
    /// Of each twin and engine, the number of its scenario.
    group: Vec<usize>,
    /// How many of a scenario are not done yet.
    left: Vec<usize>,
    edits: Vec<Vec<(usize, PathBuf, Edit)>>,
}

impl InOrder {
    fn new(wanted: &[Twin]) -> Self {
        let (mut group, mut left) = (Vec::new(), Vec::new());
        for part in wanted.chunk_by(|a, b| a.0.id == b.0.id) {
            group.extend(std::iter::repeat_n(left.len(), part.len()));
            left.push(part.len());
        }
        InOrder {
            edits: vec![Vec::new(); left.len()],
            group,
            left,
        }
    }

    /// One is done; if it was the last of its scenario, what is to be written where.
    fn add(&mut self, at: usize, edit: Option<(PathBuf, Edit)>) -> BTreeMap<PathBuf, Vec<Edit>> {
        let group = self.group[at];
        self.left[group] -= 1;
        self.edits[group].extend(edit.map(|(path, edit)| (at, path, edit)));
        let mut files: BTreeMap<PathBuf, Vec<Edit>> = BTreeMap::new();
        if self.left[group] == 0 {
            let mut edits = std::mem::take(&mut self.edits[group]);
            edits.sort_by_key(|(at, ..)| *at);
            for (_, path, edit) in edits {
                files.entry(path).or_default().push(edit);
            }
        }
        files
    }
}

/// Progress that nobody can read is not worth an error.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
