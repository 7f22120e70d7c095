//! The simulated world with everybody in it: many seeds without a violation, every bug planted in
//! server, agents and guards found by its signature, and the same seed the same run.
#![cfg(not(loom_run))]

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use selvedge_core::ddp::Rank;
use selvedge_sim::faulty::{Call, Fault as BackendDoes, PlannedFault};
use selvedge_sim::world::{
    BackendFault, End, Fault, FaultKind, Faults, Moment, Mutant, Parts, Place, Plan, Probe, Probes,
    What, When, World, WorldConfig, WorldError, WorldReport, first_difference,
};

fn run(config: WorldConfig) -> WorldReport {
    World::new(config).expect("a sound configuration").run()
}

/// Runs seeds on every processor; fails with the smallest run of the first that is violated.
fn campaign(seeds: std::ops::Range<u64>) -> Probes {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut probes = Probes::default();
        loop {
            // ORDERING: Relaxed: a number is taken once, and nothing else is shared.
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return probes;
            }
            let report = run(WorldConfig::whole(seed));
            probes.add(&report.probes);
            if report.violation.is_some() {
                let smaller = report.shrink(300).map_or(report.clone(), |it| it.report);
                let drawn = smaller.recorded().timeline(60);
                panic!("{report}\nsmaller:\n{smaller}\n{drawn}");
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut probes = Probes::default();
        for worker in workers {
            match worker.join() {
                Ok(theirs) => probes.add(&theirs),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        probes
    })
}

#[test]
fn a_hundred_and_fifty_seeds_keep_every_property() {
    let probes = campaign(0..150);
    let of_the_rest = probes.missed();
    let rare = [Probe::ReconfigureRefused, Probe::Superseded];
    let missed = of_the_rest
        .iter()
        .filter(|&&probe| probe > Probe::TooLate && !rare.contains(&probe));
    assert_eq!(missed.count(), 0, "{probes}");
}

/// `WORLD_SEEDS=100000 cargo test --release -p selvedge-sim --test world_whole -- --ignored`
#[test]
#[ignore = "10,000 seeds take some minutes in a release build"]
fn ten_thousand_seeds_keep_every_property_and_miss_nothing() {
    let seeds = std::env::var("WORLD_SEEDS").ok();
    let seeds = seeds.map_or(10_000, |seeds| seeds.parse().unwrap());
    let probes = campaign(0..seeds);
    println!("{seeds} seeds\n{probes}");
    assert_eq!(probes.missed(), [], "{probes}");
}

#[test]
fn without_faults_everybody_is_done() {
    for parts in [Parts::ALL, Parts::SERVING] {
        let report = run(WorldConfig {
            parts,
            epochs: 10,
            agents: 5,
            record: true,
            ..WorldConfig::default()
        });
        assert_eq!(report.violation, None, "{report}");
        let done = |agent| {
            let of = |it: &&_| is(it, Place::Agent(agent), What::Answered);
            report.happened.iter().filter(of).count()
        };
        assert_eq!([0, 1, 2, 3, 4].map(done), [4; 5]);
        assert!(
            report
                .happened
                .iter()
                .any(|it| is(it, Place::Server, What::Done))
        );
        let ranks = parts.training.then_some(End::Done);
        assert_eq!(report.ends, vec![ranks; 4]);
        assert_eq!(report.probes.count(Probe::ServerCrashed), 0);
        assert!(report.probes.count(Probe::CacheReused) > 0);
    }
}

fn is(happened: &selvedge_sim::world::Happened, place: Place, what: What) -> bool {
    happened.place == Some(place) && happened.what == what
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..15 {
        let config = WorldConfig {
            record: true,
            ..WorldConfig::whole(seed)
        };
        let (one, other) = (run(config.clone()), run(config));
        let differs = first_difference(&one.happened, &other.happened);
        assert_eq!(
            differs,
            None,
            "seed {seed}: {:?}",
            one.happened[differs.unwrap()]
        );
        assert_eq!(one, other);
        // With the plan in place of what drew it, too, and unrecorded.
        let again = run(WorldConfig {
            faults: Faults::Plan(one.plan.clone()),
            record: false,
            ..one.config.clone()
        });
        assert_eq!((again.hash, again.events), (one.hash, one.events));
    }
}

/// Whoever serves draws from streams of its own: a job beside which agents are served goes the way
/// it would have gone alone, up to where somebody's faults meet it.
#[test]
fn who_serves_does_not_change_who_trains() {
    for seed in 0..5 {
        let of = |parts| {
            let report = run(WorldConfig {
                parts,
                seed,
                epochs: 10,
                record: true,
                ..WorldConfig::default()
            });
            let trains = |it: &selvedge_sim::world::Happened| {
                matches!(it.place, Some(Place::Coordinator | Place::Rank(_)))
            };
            let mut happened = report.happened;
            happened.retain(trains);
            happened
        };
        let both = Parts {
            serving: true,
            ..Parts::TRAINING
        };
        let (alone, beside) = (of(Parts::TRAINING), of(both));
        let beside = &beside[..alone.len()];
        assert_eq!(first_difference(&alone, beside), None, "seed {seed}");
    }
}

/// The signatures that each planted bug may be found by.
fn signatures(mutant: Mutant) -> &'static [&'static str] {
    match mutant {
        Mutant::ForgetsKeys | Mutant::RetriesUnderNewKey | Mutant::ForgetsCancels => &["ends-once"],
        Mutant::KeepsFormerTokens | Mutant::LosesTokens => &["right-tokens"],
        // Whoever begins from what another model has computed may find that out first.
        Mutant::KeepsOldWeights => &["right-tokens", "right-content"],
        Mutant::SlowStallsAll => &["no-stall", "drain", "liveness"],
        Mutant::DrainsByLooking => &["drain"],
        Mutant::LeaksAtInsertError | Mutant::HoardsCaches | Mutant::KeepsCaches => {
            &["conservation"]
        }
        Mutant::ReleasesTwice => &["conservation", "right-content"],
        Mutant::ClockGoesBack => &["clock"],
        Mutant::AlphaNeverReset => &["stale-alpha"],
        Mutant::WorkersStay => &["live-entries"],
        Mutant::FallbackForEver => &["never-for-ever"],
        Mutant::PublishesUnrun => &["first-execution"],
        Mutant::CompilesEveryStep => &["attempts-bounded"],
        Mutant::ProfileLeftOpen | Mutant::ArrayLeftOpen | Mutant::RestoreForgotten => {
            &["profile-kept"]
        }
        _ => &[],
    }
}

/// After how many seeds a mutant is found, at most so many.
fn found(mutant: Mutant, seeds: u64) -> Option<(u64, WorldReport)> {
    (0..seeds).find_map(|seed| {
        let report = run(WorldConfig {
            mutant,
            ..WorldConfig::whole(seed)
        });
        report.violation.is_some().then_some((seed + 1, report))
    })
}

fn every_planted_bug_is_found_within(most: u64) {
    for &mutant in Mutant::of_the_rest() {
        let (seeds, report) =
            found(mutant, most).unwrap_or_else(|| panic!("{mutant:?} survives {most} seeds"));
        let violation = report.violation.as_ref().expect("it was found");
        println!(
            "| {mutant:?} | {seeds} | `{}` | {} |",
            violation.signature, violation.message
        );
        assert!(
            signatures(mutant).contains(&violation.signature),
            "{report}"
        );
    }
}

#[test]
fn every_planted_bug_is_found() {
    every_planted_bug_is_found_within(400);
}

#[test]
#[ignore = "as above, with bounds that leave room for what is found by chance only"]
fn every_planted_bug_is_found_within_a_thousand_seeds() {
    every_planted_bug_is_found_within(1_000);
}

#[test]
fn a_run_that_fails_in_the_server_is_made_small() {
    let (_, report) = found(Mutant::ForgetsKeys, 400).unwrap();
    let shrunk = report.shrink(300).unwrap().report;
    let signature = |report: &WorldReport| report.violation.as_ref().map(|it| it.signature);
    assert_eq!(signature(&shrunk), signature(&report));
    assert_eq!(
        shrunk.config.parts,
        Parts::SERVING,
        "nobody who trains has a part in it"
    );
    assert!(
        shrunk.plan.faults.is_empty() && shrunk.plan.backend.is_empty(),
        "{shrunk}"
    );
    assert_eq!((shrunk.config.agents, shrunk.config.turns), (1, 1));
    assert_eq!(shrunk.recorded().violation, shrunk.violation);
}

fn planned(faults: Vec<Fault>) -> WorldConfig {
    WorldConfig {
        parts: Parts::ALL,
        epochs: 20,
        record: true,
        faults: Faults::Plan(Plan {
            faults,
            ..Plan::calm()
        }),
        ..WorldConfig::default()
    }
}

fn at(millis: u64, kind: FaultKind) -> Fault {
    let when = When::At(Duration::from_millis(millis));
    Fault { when, kind }
}

#[test]
fn a_plan_does_what_it_says() {
    let millis = Duration::from_millis;
    let crash = FaultKind::CrashServer {
        restart: millis(80),
    };
    let when = When::After {
        moment: Moment::Turns,
        nth: 20,
        plus: Duration::ZERO,
    };
    let (within, model) = (millis(2_000), 7);
    let report = run(planned(vec![
        Fault { when, kind: crash },
        at(900, FaultKind::Reconfigure { within, model }),
        at(
            700,
            FaultKind::ClockStep {
                place: Place::Server,
                by: millis(5_000),
            },
        ),
        at(
            300,
            FaultKind::FullDisk {
                rank: Rank(1),
                lasts: millis(400),
            },
        ),
    ]));
    assert_eq!(report.violation, None, "{report}");
    let count = |place, what| {
        report
            .happened
            .iter()
            .filter(|it| is(it, place, what))
            .count()
    };
    assert_eq!(count(Place::Server, What::Dies), 1);
    assert_eq!(count(Place::Server, What::Starts), 2);
    assert_eq!(count(Place::Server, What::ClockSteps), 1);
    assert_eq!(report.probes.count(Probe::Reconfigured), 1, "{report}");
    let answered = (0..3).map(|agent| count(Place::Agent(agent), What::Answered));
    assert_eq!(answered.collect::<Vec<_>>(), [4; 3]);

    let planned_fault = PlannedFault {
        call: Call::Step,
        nth: 9,
        fault: BackendDoes::Panic,
    };
    let dies = BackendFault {
        engine: 1,
        planned: planned_fault,
    };
    let report = run(WorldConfig {
        parts: Parts::SERVING,
        faults: Faults::Plan(Plan {
            backend: vec![dies],
            ..Plan::calm()
        }),
        ..WorldConfig::default()
    });
    assert_eq!(
        (&report.violation, report.probes.count(Probe::EngineDied)),
        (&None, 1)
    );
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let new = |config| World::new(config).err();
    let nobody = Parts {
        training: false,
        ..Parts::TRAINING
    };
    let of = |parts| WorldConfig {
        parts,
        ..WorldConfig::default()
    };
    assert_eq!(new(of(nobody)), Some(WorldError::NoPart));
    let no_agent = WorldConfig {
        agents: 0,
        ..of(Parts::ALL)
    };
    assert_eq!(new(no_agent), Some(WorldError::Agents(0)));
    let no_turn = WorldConfig {
        turns: 0,
        ..of(Parts::ALL)
    };
    assert_eq!(new(no_turn), Some(WorldError::NoTurn));
    let (place, fault) = (Place::Agent(3), 0);
    let absent = at(1, FaultKind::CancelTurn { agent: 3 });
    let refused = WorldError::Absent { fault, place };
    assert_eq!(new(planned(vec![absent])), Some(refused));
    assert!(refused.to_string().contains("agent 3"), "{refused}");
    let (from, to, lasts) = (Place::Rank(Rank(0)), Place::Server, Duration::ZERO);
    let cut = at(1, FaultKind::Cut { from, to, lasts });
    let refused = WorldError::NoPath { fault, from, to };
    assert_eq!(new(planned(vec![cut])), Some(refused));
}
