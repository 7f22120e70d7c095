//! Worlds in children of their own, as `check` and `selvedge world` run them: what is found has
//! a seed that shows it again, in this process and in any other, and a run that is not the same
//! twice is told with the first event that differs.
#![cfg(not(loom_run))]

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use selvedge_sim::campaign::{Campaign, WorldBody};
use selvedge_sim::child::{self, Children, Launcher, Outcome, Request, UNIT_VARIABLE};
use selvedge_sim::reduce::Shrinking;
use selvedge_sim::replay::Replayed;
use selvedge_sim::unit::{End, Task};
use selvedge_sim::world::{Faults, Mutant, World, WorldConfig};
use selvedge_sim::{
    Bodies, Class, DecisionLog, Engine, FailureKind, Seed, Variant, host, revision_of,
};

static NEVER: AtomicBool = AtomicBool::new(false);
const LIMIT: Duration = Duration::from_secs(60);

const SHIPPED: WorldBody = WorldBody::drawn_by(WorldConfig::swarm);

/// Children that are this test once more, with this world as their body.
fn children(test: &str, body: WorldBody) -> Children {
    if let Some(file) = std::env::var_os(UNIT_VARIABLE) {
        let spec = child::serve(Path::new(&file)).expect("the parent wrote it");
        child::end_with_parent();
        host::run(&spec, &Bodies::of_world(body)).expect("its records can be written");
        std::process::exit(0);
    }
    let program = std::env::current_exe().expect("it runs");
    Children::by(Launcher::test(&program, test)).expect("there is room for a folder")
}

fn request(task: Task) -> Request {
    Request {
        scenario: "worlds".to_owned(),
        variant: Variant::Shipped,
        engine: Engine::World,
        task,
        rounds: 1,
        workers: 1,
        most_bytes: u64::MAX,
        limit: LIMIT,
    }
}

fn run(children: &Children, task: Task) -> Outcome {
    let outcome = children.run(&request(task), &NEVER, |_| ());
    outcome.expect("this program can be started")
}

#[test]
fn seeds_are_summed_up_and_told() {
    let children = children("seeds_are_summed_up_and_told", SHIPPED);
    let campaign = Campaign {
        hashes: true,
        ..Campaign::of(3, 20)
    };
    let outcome = run(&children, Task::Campaign(campaign));
    assert_eq!(outcome.verdict(Engine::World).class(), Class::Sampled);
    assert_eq!(
        outcome.verdict(Engine::World).scope(),
        "worlds of seeds from 3"
    );
    assert_eq!(outcome.executions, 20);
    let figures = outcome.campaign.expect("it ran");
    let reports: Vec<_> = (3..23)
        .map(|seed| World::new(WorldConfig::swarm(seed)).expect("sound").run())
        .collect();
    let hashes: Vec<u64> = reports.iter().map(|report| report.hash).collect();
    // In two processes, of which one is another build of nothing: the same runs.
    assert_eq!(figures.hashes, hashes);
    let events: u64 = reports.iter().map(|report| report.events).sum();
    assert_eq!((figures.seeds, figures.events), (20, events));
    let sum = hashes
        .iter()
        .fold(0, |sum: u64, hash| sum.wrapping_add(*hash));
    assert_eq!(figures.digest, sum);
    for (probe, count) in &figures.probes {
        let reached = outcome.reached.contains(probe);
        assert_eq!(reached, *count > 0, "{probe}");
    }
    assert!(outcome.reached.len() > 10, "{:?}", outcome.reached);
}

/// A seed of the first failure of this mutant.
fn failing(children: &Children) -> Seed {
    let search = request(Task::Search {
        seed: 1,
        executions: 300,
    });
    let outcome = children.run(&search, &NEVER, |_| ()).expect("it starts");
    let revision = revision_of("worlds");
    let seed = children.seed_of(&search, &outcome, &revision, &NEVER);
    seed.expect("it starts").expect("it is found")
}

#[test]
fn a_seed_meets_the_same_failure_after_the_same_events_or_is_stale() {
    let test = "a_seed_meets_the_same_failure_after_the_same_events_or_is_stale";
    let children = children(test, SHIPPED.but(Mutant::NoFlush));
    let seed = failing(&children);
    assert_eq!(seed.to_string().parse(), Ok(seed.clone()));
    let replay = |seed: &Seed| children.replay(seed, 1, LIMIT, &NEVER).expect("it starts");
    let Replayed::Violated { failure, trace, .. } = replay(&seed) else {
        panic!("it fails again")
    };
    assert_eq!(failure.signature, seed.signature);
    assert_eq!(trace.map(|trace| trace.hash()), seed.trace);
    // The log names the plan and the mutant, so that no other body changes what it is.
    let DecisionLog::World(config) = &seed.log else {
        panic!("a world's")
    };
    assert!(matches!(config.faults, Faults::Plan(_)));
    let other = |change: &dyn Fn(&mut Seed)| {
        let mut other = seed.clone();
        change(&mut other);
        match replay(&other) {
            Replayed::Stale(why) => why,
            replayed => panic!("not stale: {replayed:?}"),
        }
    };
    let why = other(&|it| it.trace = Some(1));
    assert!(
        why.contains("after other events") && why.contains("not known"),
        "{why}"
    );
    let why = other(&|it| it.signature = "another".to_owned());
    assert!(
        why.starts_with(&format!("it violates '{}' now", seed.signature)),
        "{why}"
    );
    let with = |change: &dyn Fn(&mut WorldConfig)| {
        other(&|it| {
            let DecisionLog::World(config) = &mut it.log else {
                panic!("a world's")
            };
            change(config);
        })
    };
    let why = with(&|config| config.mutant = Mutant::None);
    assert!(why.starts_with("every property holds in all "), "{why}");
    let why = with(&|config| config.ranks = 0);
    assert!(why.contains("refused: 0 ranks"), "{why}");
}

#[test]
fn a_seed_is_made_smaller_and_what_it_needs_is_told() {
    let test = "a_seed_is_made_smaller_and_what_it_needs_is_told";
    let children = children(test, SHIPPED.but(Mutant::NoFlush));
    let seed = failing(&children);
    let shrunk = children.shrink(&seed, Duration::from_secs(20), &NEVER);
    let Shrinking::World(smaller) = shrunk.expect("it starts") else {
        panic!("a world's")
    };
    assert!(smaller.after.faults <= smaller.before.faults && smaller.after.faults <= 2);
    assert!(smaller.after.events < smaller.before.events);
    assert_eq!(smaller.faults.len() as u64, smaller.after.faults);
    // Ddmin left nothing out that it could do without.
    assert!(
        smaller
            .faults
            .iter()
            .all(|fault| fault.critical == Some(true))
    );
    assert_eq!(smaller.seed.signature, seed.signature);
    let replayed = children.replay(&smaller.seed, 1, LIMIT, &NEVER);
    let Replayed::Violated { failure, .. } = replayed.expect("it starts") else {
        panic!("it fails again")
    };
    assert_eq!(failure.signature, seed.signature);
    // What is not made smaller may have faults that it does not need.
    let tried = children.faults_of(&seed, LIMIT, &NEVER).expect("it starts");
    assert!(tried.len() as u64 >= smaller.before.faults);
}

#[test]
fn a_run_that_is_not_the_same_twice_is_told_with_the_first_event_that_differs() {
    let test = "a_run_that_is_not_the_same_twice_is_told_with_the_first_event_that_differs";
    let children = children(test, SHIPPED);
    let twice = |canary| Campaign {
        twice_every: 1,
        canary,
        ..Campaign::of(0, 10)
    };
    let well = run(&children, Task::Campaign(twice(false)));
    assert_eq!(well.verdict(Engine::World).class(), Class::Sampled);
    let outcome = run(&children, Task::Campaign(twice(true)));
    let verdict = outcome.verdict(Engine::World);
    let failure = verdict.failure().expect("it is found");
    assert_eq!(failure.kind, FailureKind::Nondeterminism);
    assert_eq!(failure.signature, "nondeterminism");
    let said = &failure.detail;
    assert!(
        said.contains("the same seed, 0, was two different runs"),
        "{said}"
    );
    assert!(
        said.contains("the first event that differs is number "),
        "{said}"
    );
    let Some(End::Violated { log: None, .. }) = outcome.end else {
        panic!("there is nothing that would make it again")
    };
}

#[test]
fn two_processes_make_the_same_runs_and_a_planted_difference_shows() {
    let test = "two_processes_make_the_same_runs_and_a_planted_difference_shows";
    let children = children(test, SHIPPED);
    let of = |canary| {
        let campaign = Campaign {
            twice_every: 0,
            hashes: true,
            canary,
            ..Campaign::of(0, 30)
        };
        let outcome = run(&children, Task::Campaign(campaign));
        outcome.campaign.expect("it ran").hashes
    };
    let once = of(false);
    assert_eq!((once.len(), &once), (30, &of(false)));
    assert_ne!(of(true), of(true));
}

/// A panic of the code under test ends the run, and is no failure of the bed.
#[test]
fn a_panic_in_a_run_is_a_failure_with_a_seed() {
    let test = "a_panic_in_a_run_is_a_failure_with_a_seed";
    // So many batches an epoch overflow a duration, deep inside.
    let panicking = |seed| {
        let mut config = WorldConfig::swarm(seed);
        config.timing.compute.1 = Duration::MAX;
        config
    };
    let children = children(test, WorldBody::drawn_by(panicking));
    let seed = failing(&children);
    assert!(seed.signature.starts_with("panic: "), "{}", seed.signature);
    let replayed = children.replay(&seed, 1, LIMIT, &NEVER).expect("it starts");
    let Replayed::Violated { failure, .. } = replayed else {
        panic!("it panics again: {replayed:?}")
    };
    assert_eq!(failure.signature, seed.signature);
    assert!(failure.location.contains(".rs:"), "{}", failure.location);
}
