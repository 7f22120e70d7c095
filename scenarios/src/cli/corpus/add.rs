//! `selvedge corpus add SEED`: one seed, replayed, shrunk, replayed again, and kept.

use std::path::PathBuf;
use std::time::Duration;

use selvedge_sim::child::Children;
use selvedge_sim::reduce::{Shrinking, Smaller};
use selvedge_sim::replay::Replayed;
use selvedge_sim::{DecisionLog, Failure, Seed, Variant};

use super::{AddArgs, LIMIT, complain_of_problems};
use crate::Scenario;
use crate::cli::check::{INTERRUPTED, on_ctrl_c, own_children};
use crate::cli::{Exit, Stop, given, say, shrink};
use crate::corpus::entry::{NO_SCHEDULE, Place};
use crate::corpus::store::{Edit, change};
use crate::corpus::{Corpus, Entry, Expected, Finding};

pub(super) fn add(text: &str, args: &AddArgs) -> Result<Exit, Stop> {
    // Of a fixed bug the seed may be of another revision: the fix may be in the body's source.
    let (seed, scenario) = match &args.fixed_in {
        Some(_) => given::seed_of_any_revision(text)?,
        None => given::seed(text)?,
    };
    if matches!(seed.log, DecisionLog::Workload { .. }) {
        return Err(Stop::usage(NO_SCHEDULE));
    }
    if args.fixed_in.is_some() && seed.variant == Variant::AsReported {
        return Err(Stop::usage(
            "the seed is of a twin, which has its bug for ever: leave --fixed-in out",
        ));
    }
    let corpus = args.place.read_or_make()?;
    if complain_of_problems(&corpus) {
        return Err(Stop::usage("mend these regressions first"));
    }
    on_ctrl_c()?;
    let children = own_children()?;
    let kept = match &args.fixed_in {
        Some(fixed_in) => fixed(&children, seed, fixed_in)?,
        None => failing(&children, scenario, seed, args)?,
    };
    let mut entry = Entry {
        name: (args.name.clone()).unwrap_or_else(|| free_name(&corpus, &kept.seed)),
        expect: Expected::of(kept.seed.variant),
        found_by: args.found_by.clone(),
        twin: (kept.seed.variant == Variant::AsReported).then(|| scenario.ticket.to_owned()),
        fixed_in: args.fixed_in.clone(),
        size: Some(kept.size),
        why: (args.why.clone()).unwrap_or_else(|| why(scenario, kept.failure.as_ref())),
        place: Place::default(),
        seed: kept.seed,
    };
    let (path, edit) = edit_for(&children, &corpus, &mut entry, args)?;
    change(&path, &[edit]).map_err(Stop::usage)?;
    say(&format!("kept as {} in {}", entry.name, path.display()))?;
    if entry.expect == Expected::Passes && entry.fixed_in.is_none() {
        say(
            "it fails still, and `selvedge corpus run` with it, until the code is mended; then \
             write fixed_in beside it",
        )?;
    }
    Ok(Exit::Ok)
}

/// A seed that is fit to be kept.
pub(super) struct Kept {
    pub(super) seed: Seed,
    /// How large it is, in words.
    pub(super) size: String,
    failure: Option<Failure>,
}

/// The seed of a failure that is there, shrunk unless it is to stay as it is.
fn failing(
    children: &Children,
    scenario: &Scenario,
    seed: Seed,
    args: &AddArgs,
) -> Result<Kept, Stop> {
    if seed.variant == Variant::AsReported && seed.signature != scenario.signature {
        return Err(Stop::usage(format!(
            "the seed violates '{}', and the twin of {} must be found by '{}'",
            seed.signature, scenario.id, scenario.signature
        )));
    }
    let failure = fails(children, &seed)?;
    let shrunk = match args.as_is {
        true => None,
        false => shrunk(children, &seed, args.limit)?,
    };
    Ok(match shrunk {
        Some(kept) => {
            let failure = fails(children, &kept.seed)?;
            say(&format!(
                "{}; shrunk to {}",
                given::headline(&seed),
                kept.size
            ))?;
            Kept {
                failure: Some(failure),
                ..kept
            }
        }
        None => {
            say(&given::headline(&seed))?;
            Kept {
                size: size_of(&seed),
                failure: Some(failure),
                seed,
            }
        }
    })
}

/// The seed of a bug that is said to be fixed: it must not fail any more.
fn fixed(children: &Children, seed: Seed, fixed_in: &str) -> Result<Kept, Stop> {
    let followed = (children.follow(&seed, LIMIT, &INTERRUPTED))
        .map_err(|error| Stop::harness("cannot follow the seed", error))?;
    let kept = Kept {
        size: size_of(&seed),
        seed,
        failure: None,
    };
    let entry = Entry {
        name: String::new(),
        seed: kept.seed.clone(),
        expect: Expected::Passes,
        found_by: String::new(),
        twin: None,
        fixed_in: Some(fixed_in.to_owned()),
        size: None,
        why: String::new(),
        place: Place::default(),
    };
    let finding = Finding::of_shipped(&entry, followed);
    match finding {
        Finding::Passes(how) => {
            say(&format!("{}: passes, {how}", given::headline(&kept.seed)))?;
            Ok(kept)
        }
        Finding::Violated(kind, why) => Err(Stop {
            exit: kind.into(),
            message: format!("it is not fixed: {why}"),
        }),
        Finding::EngineFailed(what) => Err(Stop::harness("the engine failed", what)),
        Finding::Interrupted => Err(interrupted()),
        other => Err(Stop::usage(format!(
            "the seed cannot be kept, it is {}: {}",
            other.word(),
            other.why()
        ))),
    }
}

/// The failure of the seed's first execution, which must be there.
pub(super) fn fails(children: &Children, seed: &Seed) -> Result<Failure, Stop> {
    let replayed = (children.replay(seed, 1, LIMIT, &INTERRUPTED))
        .map_err(|error| Stop::harness("cannot run the replay", error))?;
    let failure = match &replayed {
        Replayed::Violated { failure, .. } => Some(failure.clone()),
        _ => None,
    };
    let finding = Finding::of_twin(replayed);
    match (finding, failure) {
        (Finding::Fails, Some(failure)) => Ok(failure),
        (Finding::EngineFailed(what), _) => Err(Stop::harness("the engine failed", what)),
        (Finding::Interrupted, _) => Err(interrupted()),
        (finding, _) => {
            let fixed = match seed.variant {
                Variant::Shipped => "; if its bug is fixed, say where by --fixed-in",
                Variant::AsReported => "",
            };
            Err(Stop::usage(format!(
                "only what fails can be kept, and this seed is {}: {}{fixed}",
                finding.word(),
                finding.why()
            )))
        }
    }
}

/// The seed made smaller; `None` where its engine has nothing that could be.
pub(super) fn shrunk(
    children: &Children,
    seed: &Seed,
    limit: Duration,
) -> Result<Option<Kept>, Stop> {
    let shrinking = (children.shrink(seed, limit, &INTERRUPTED))
        .map_err(|error| Stop::harness("cannot shrink the seed", error))?;
    if let Shrinking::Least(_) = shrinking {
        return Ok(None);
    }
    let (size, seed) = match shrink::done(shrinking, limit)? {
        shrink::Smallest::Schedule(smaller) => (words(&smaller), smaller.seed),
        shrink::Smallest::World(smaller) => (size_of(&smaller.seed), smaller.seed),
    };
    Ok(Some(Kept {
        size,
        seed,
        failure: None,
    }))
}

fn words(smaller: &Smaller) -> String {
    let plural = |n: u64, word: &str| match n {
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    };
    let after = smaller.after;
    let mut words = [
        plural(after.preemptions, "preemption"),
        if after.switches == 1 {
            "1 switch".to_owned()
        } else {
            format!("{} switches", after.switches)
        },
        plural(after.steps, "step"),
    ]
    .join(", ");
    if smaller.least && after.preemptions > 0 {
        words += "; none with fewer preemptions fails";
    }
    words
}

/// How large a seed is of which nothing more is known.
pub(super) fn size_of(seed: &Seed) -> String {
    let headline = given::headline(seed);
    headline
        .split_once(": ")
        .map_or(headline.clone(), |(_, size)| size.to_owned())
}

/// What is known of the bug by itself.
fn why(scenario: &Scenario, failure: Option<&Failure>) -> String {
    let summary = scenario.summary;
    match failure {
        Some(failure) => {
            let detail = failure.detail.lines().next().unwrap_or_default();
            format!("{summary}\n{}: {detail}", failure.signature)
        }
        None => summary.to_owned(),
    }
}

/// A name that says what it is of, and that no other has.
pub(super) fn free_name(corpus: &Corpus, seed: &Seed) -> String {
    let plain = match seed.variant {
        Variant::AsReported => format!("{}-by-{}", seed.scenario, seed.engine.name()),
        Variant::Shipped => format!("{}-shipped-by-{}", seed.scenario, seed.engine.name()),
    };
    let taken = |name: &str| corpus.entries().any(|entry| entry.name == name);
    let numbered = (2..).map(|number| format!("{plain}-{number}"));
    let mut names = std::iter::once(plain.clone()).chain(numbered);
    names.find(|name| !taken(name)).unwrap_or(plain)
}

/// Where the entry goes: in the place of a stale one of the same bug, else at the end of its
/// scenario's file. One that holds is not replaced.
fn edit_for(
    children: &Children,
    corpus: &Corpus,
    entry: &mut Entry,
    args: &AddArgs,
) -> Result<(PathBuf, Edit), Stop> {
    let same = corpus.entries().find(|other| other.is_same_bug(entry));
    if let Some(name) = &args.name
        && let Some(other) = corpus.entries().find(|other| other.name == *name)
        && same.is_none_or(|same| same.name != *name)
    {
        return Err(Stop::usage(format!(
            "the name '{name}' is that of {} already; choose another",
            other.place
        )));
    }
    let Some(same) = same else {
        let path = corpus.file_for(&entry.seed.scenario);
        return Ok((path, Edit::Push(entry.clone())));
    };
    let finding = super::look(children, same);
    if !finding.is_stale() {
        return Err(Stop::usage(format!(
            "the bug is kept already, as {} at {}, whose seed is not stale",
            same.name, same.place
        )));
    }
    if args.name.is_none() {
        entry.name.clone_from(&same.name);
    }
    if args.why.is_none() {
        entry.why.clone_from(&same.why);
    }
    say(&format!("in the place of a stale seed: {}", finding.why()))?;
    Ok((
        same.place.file.clone(),
        Edit::Set(same.place.index, entry.clone()),
    ))
}

pub(super) fn interrupted() -> Stop {
    Stop {
        exit: Exit::Interrupted,
        message: "interrupted".to_owned(),
    }
}
