//! `selvedge world --mutants`: does the world find what is broken on purpose?

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_sim::child::{Children, Request};
use selvedge_sim::unit::Task;
use selvedge_sim::world::Mutant;
use selvedge_sim::{Engine, Variant, Verdict};
use serde_json::json;

use crate::cli::check::{INTERRUPTED, interrupted, own_children};
use crate::cli::{Exit, Stop, complain, input, say};
use crate::report::json::replace;
use crate::report::{seeds, table};
use crate::{Expect, Scenario, worlds};

/// For as long as it takes.
const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 3_600);

/// A way in which the world can be broken.
pub(super) fn named(text: &str) -> Result<Mutant, String> {
    let names: Vec<String> = Mutant::ALL.into_iter().map(worlds::name).collect();
    let found = names.iter().position(|name| name == text);
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    match found {
        Some(place) => Ok(Mutant::ALL[place]),
        None => Err(input::unknown("mutant", text, &known)),
    }
}

/// What became of one.
struct Hunt {
    mutant: Mutant,
    scenario: &'static Scenario,
    verdict: Verdict,
    seed: Option<String>,
    took: Duration,
}

impl Hunt {
    fn surprise(&self) -> Option<String> {
        (self.scenario).surprise(Variant::AsReported, Engine::World, &self.verdict, &[])
    }
}

/// Looks for each of them.
pub(super) fn all(
    seeds: u64,
    jobs: usize,
    deadline: Option<Instant>,
    json: Option<File>,
) -> Result<Exit, Stop> {
    let children = own_children()?;
    let queue = Mutex::new(VecDeque::from(Mutant::ALL));
    let hunts = Mutex::new(Vec::new());
    let late = || deadline.is_some_and(|deadline| deadline <= Instant::now());
    thread::scope(|scope| {
        let work = || -> Result<(), Stop> {
            while !interrupted() && !late() {
                let Some(mutant) = lock(&queue).pop_front() else {
                    break;
                };
                let hunt = hunt(&children, mutant, seeds, deadline)?;
                lock(&hunts).extend(hunt);
            }
            Ok(())
        };
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| match worker.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
    })?;
    let mut hunts = std::mem::take(&mut *lock(&hunts));
    hunts.sort_by_key(|hunt| Mutant::ALL.iter().position(|it| *it == hunt.mutant));
    let exit = exit_of(&hunts, late());
    if let Some(mut file) = json {
        let whole = as_json(&hunts, exit);
        replace(&mut file, whole.as_bytes())
            .map_err(|error| Stop::harness("cannot write the JSON", error))?;
    }
    say(&as_table(&hunts, seeds))?;
    Ok(exit)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hunt(
    children: &Children,
    mutant: Mutant,
    executions: u64,
    deadline: Option<Instant>,
) -> Result<Option<Hunt>, Stop> {
    let scenario = worlds::of(mutant)
        .ok_or_else(|| Stop::harness("the catalogue is wrong", "a mutant has no scenario"))?;
    let started = Instant::now();
    let request = Request {
        scenario: scenario.id.to_owned(),
        variant: Variant::AsReported,
        engine: Engine::World,
        task: Task::Search {
            seed: 1,
            executions,
        },
        rounds: 1,
        workers: 1,
        most_bytes: u64::MAX,
        limit: deadline.map_or(NO_LIMIT, |it| it.saturating_duration_since(started)),
    };
    let cannot = |error| Stop::harness("cannot run a child", error);
    let outcome = (children.run(&request, &INTERRUPTED, |_| ())).map_err(cannot)?;
    if outcome.end.is_none() {
        return Ok(None);
    }
    let revision = scenario.revision();
    let seed = (children.seed_of(&request, &outcome, &revision, &INTERRUPTED)).map_err(cannot)?;
    let seed = seed.map(|seed| seed.to_string());
    if let Some(problem) = seed.as_deref().and_then(|it| seeds::keep_one(it).err()) {
        complain(&problem);
    }
    Ok(Some(Hunt {
        mutant,
        scenario,
        verdict: outcome.verdict(Engine::World),
        seed,
        took: started.elapsed(),
    }))
}

fn exit_of(hunts: &[Hunt], late: bool) -> Exit {
    let failed = |hunt: &Hunt| matches!(hunt.verdict, Verdict::EngineError { .. });
    let cut = |hunt: &Hunt| matches!(hunt.verdict, Verdict::BudgetEnded { .. });
    if hunts
        .iter()
        .any(|hunt| hunt.surprise().is_some() && !failed(hunt) && !cut(hunt))
    {
        return Exit::Survived;
    }
    if interrupted() {
        return Exit::Interrupted;
    }
    match (hunts.iter().any(failed), late || hunts.iter().any(cut)) {
        (true, _) => Exit::Harness,
        (_, true) => Exit::Budget,
        _ => Exit::Ok,
    }
}

/// Seeds it took, or why there is no such number.
fn seeds_it_took(hunt: &Hunt) -> String {
    let seeds = hunt.verdict.executions();
    match (&hunt.verdict, hunt.scenario.expectation(Engine::World)) {
        (Verdict::Violated { .. }, _) => seeds.to_string(),
        (Verdict::Sampled { .. }, Expect::Misses(_)) => format!("none in {seeds}, as it must be"),
        (Verdict::Sampled { .. }, _) => format!("SURVIVES {seeds}"),
        (verdict, _) => verdict.class().to_string(),
    }
}

fn as_table(hunts: &[Hunt], seeds: u64) -> String {
    let mut table = table::new(&["mutant", "seeds", "found by", "time", "seed"]);
    for hunt in hunts {
        let found = hunt.verdict.failure();
        table.add_row([
            worlds::name(hunt.mutant),
            seeds_it_took(hunt),
            found.map_or(String::new(), |failure| failure.signature.clone()),
            format!("{:.2} s", hunt.took.as_secs_f64()),
            hunt.seed.as_deref().map_or(String::new(), |seed| {
                format!("[{}]", seeds::short_name(seed))
            }),
        ]);
    }
    let mut text = format!("{table}\n");
    for hunt in hunts {
        if let Some(surprise) = hunt.surprise() {
            text += &format!("✗ {}: {surprise}\n", worlds::name(hunt.mutant));
        }
    }
    let wrong = hunts
        .iter()
        .filter(|hunt| hunt.surprise().is_some())
        .count();
    let all = Mutant::ALL.len();
    text + &match (hunts.len() < all, wrong) {
        (true, _) => format!("{} of {all} mutants were looked for", hunts.len()),
        (_, 0) => format!("{all} mutants: each is what it must be within {seeds} seeds"),
        (_, wrong) => format!("{wrong} of {all} mutants are not what they must be"),
    }
}

fn as_json(hunts: &[Hunt], exit: Exit) -> String {
    let mutants: Vec<_> = (hunts.iter())
        .map(|hunt| {
            json!({
                "mutant": worlds::name(hunt.mutant),
                "scenario": hunt.scenario.id,
                "found": hunt.verdict.failure().is_some(),
                "signature": hunt.verdict.failure().map(|failure| &failure.signature),
                "seeds": hunt.verdict.executions(),
                "as_expected": hunt.surprise().is_none(),
                "surprise": hunt.surprise(),
                "seed": hunt.seed,
            })
        })
        .collect();
    let whole = json!({
        "schema": 1,
        "mutants": mutants,
        "interrupted": interrupted(),
        "exit": exit as u8,
    });
    format!("{whole:#}\n")
}
