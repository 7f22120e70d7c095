//! What is taken down of an execution is what happened in it: locks are held by one task at a
//! time, and where memory is sequentially consistent an atomic holds what was last written.
#![cfg(not(loom_run))]

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use selvedge_scenarios::{Expect, all};
use selvedge_sim::child::{Children, Launcher, Outcome, Request};
use selvedge_sim::trace::{Operation, Trace, waits};
use selvedge_sim::unit::{End, Task};
use selvedge_sim::{Engine, FailureKind, Seed, Variant};

static NEVER: AtomicBool = AtomicBool::new(false);

fn children() -> Children {
    let program = Path::new(env!("CARGO_BIN_EXE_selvedge-under-test"));
    Children::by(Launcher::command(program)).expect("the bed works")
}

fn run(children: &Children, of: &Request, task: Task) -> Outcome {
    let request = Request { task, ..of.clone() };
    children
        .run(&request, &NEVER, |_| ())
        .expect("the bed works")
}

/// The failure of every twin that an engine must find, run again, with its seed.
fn failures(engine: Engine) -> Vec<(Seed, Outcome)> {
    let children = children();
    let mut failures = Vec::new();
    for scenario in all() {
        let Some(plan) = scenario.plan(engine).filter(|p| p.twin == Expect::Finds) else {
            continue;
        };
        let search = Request {
            scenario: scenario.id.to_owned(),
            variant: Variant::AsReported,
            engine: plan.engine,
            task: Task::Search {
                seed: 1,
                executions: 6_000,
            },
            rounds: 1,
            workers: 1,
            most_bytes: u64::MAX,
            limit: Duration::from_secs(60),
        };
        let found = children
            .run(&search, &NEVER, |_| ())
            .expect("the bed works");
        let seed = (children
            .seed_of(&search, &found, &scenario.revision(), &NEVER)
            .expect("the bed works"))
        .unwrap_or_else(|| panic!("{} under {engine}: {found:?}", scenario.id));
        let log = seed.log.clone();
        let again = run(&children, &search, Task::Replay { log });
        failures.push((seed, again));
    }
    assert!(failures.len() > 10, "{engine} found next to nothing");
    failures
}

fn trace_of<'a>(seed: &Seed, outcome: &'a Outcome) -> &'a Trace {
    let trace = outcome.trace.as_ref();
    trace.unwrap_or_else(|| panic!("{seed}: no trace: {:?}", outcome.end))
}

/// Replays the trace on plain locks and plain memory.
fn check(name: &str, trace: &Trace, consistent: bool) {
    let mut readers: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut owner: HashMap<u32, u32> = HashMap::new();
    let mut memory: HashMap<u32, u64> = HashMap::new();
    for (number, event) in trace.events.iter().enumerate() {
        let what = format!("{name}: event {number}: {event:?}");
        assert!((event.task as usize) < trace.tasks.len(), "{what}");
        assert!(event.since as usize <= number, "{what}");
        let object = event.object.unwrap_or(u32::MAX);
        match event.operation {
            Operation::Lock | Operation::WriteLock => {
                assert_eq!(owner.insert(object, event.task), None, "{what}");
                assert!(readers.get(&object).is_none_or(Vec::is_empty), "{what}");
            }
            Operation::TryLock if event.ok => {
                assert_eq!(owner.insert(object, event.task), None, "{what}");
            }
            Operation::TryLock => assert!(owner.contains_key(&object), "{what}"),
            Operation::Unlock | Operation::WriteUnlock => {
                assert_eq!(owner.remove(&object), Some(event.task), "{what}");
            }
            Operation::ReadLock => {
                assert!(!owner.contains_key(&object), "{what}");
                readers.entry(object).or_default().push(event.task);
            }
            Operation::ReadUnlock => {
                let readers = readers.entry(object).or_default();
                let mine = readers.iter().position(|&task| task == event.task);
                readers.remove(mine.unwrap_or_else(|| panic!("{what}")));
            }
            _ => {}
        }
        if consistent
            && let Some(read) = event.read
            && let Some(&held) = memory.get(&object)
        {
            assert_eq!(read, held, "{what}");
        }
        if let Some(wrote) = event.wrote {
            memory.insert(object, wrote);
        }
    }
}

fn traces_are_true(engine: Engine) {
    for (seed, outcome) in failures(engine) {
        let trace = trace_of(&seed, &outcome);
        let name = format!("{} under {engine}", seed.scenario);
        check(&name, trace, engine.name() != "loom");
        // A search takes nothing down, so explorer's and shuttle's seeds know only once shrunk.
        if let Some(hash) = seed.trace {
            assert_eq!(trace.hash(), hash, "{name}: the seed knows its trace");
        }
        let failure = trace
            .failure
            .as_ref()
            .unwrap_or_else(|| panic!("{name}: no failure"));
        assert_eq!(failure.signature, seed.signature, "{name}");
        match failure.kind {
            FailureKind::Property => {
                let last = trace.events.last().expect("the bed works");
                assert_eq!(last.operation, Operation::Fail, "{name}: {last:?}");
                assert!(!failure.location.is_empty(), "{name}");
            }
            FailureKind::Deadlock => {
                assert!(!trace.blocked.is_empty(), "{name}");
                if ["abba-2", "abba-3", "dining-philosophers"].contains(&&*seed.scenario) {
                    let cycle = waits::cycle(&waits::at_end(trace));
                    assert!(cycle.is_some_and(|cycle| cycle.len() > 1), "{name}");
                }
            }
            FailureKind::Liveness => {}
            FailureKind::Nondeterminism => panic!("{name}: only a world is run twice"),
        }
    }
}

#[test]
fn traces_are_true_under_the_explorer() {
    traces_are_true(Engine::Explorer { preemptions: None });
}

#[test]
fn traces_are_true_under_shuttle() {
    traces_are_true(Engine::Shuttle {
        strategy: selvedge_sim::Strategy::Portfolio,
    });
}

#[test]
fn traces_are_true_under_loom() {
    traces_are_true(Engine::Loom { preemptions: None });
}

#[test]
fn every_twin_shrinks_to_three_preemptions_at_most() {
    let children = children();
    for engine in ["explorer", "shuttle", "loom"] {
        for (seed, _) in failures(engine.parse().expect("an engine")) {
            let name = format!("{} under {engine}", seed.scenario);
            let shrinking = children
                .shrink(&seed, Duration::from_secs(10), &NEVER)
                .expect("the bed works");
            let selvedge_sim::reduce::Shrinking::Done(smaller) = shrinking else {
                panic!("{name}: {shrinking:?}");
            };
            assert!(
                smaller.after.preemptions <= 3,
                "{name}: {:?}",
                smaller.after
            );
            assert!(smaller.after <= smaller.before, "{name}");
            // What is left fails in the same way, to the letter.
            let of = Request {
                scenario: seed.scenario.clone(),
                variant: seed.variant,
                engine: smaller.seed.engine,
                task: Task::Replay {
                    log: smaller.seed.log.clone(),
                },
                rounds: 1,
                workers: 1,
                most_bytes: u64::MAX,
                limit: Duration::from_secs(60),
            };
            let outcome = run(&children, &of, of.task.clone());
            let Some(End::Violated { failure, .. }) = &outcome.end else {
                panic!("{name}: {:?}", outcome.end);
            };
            assert_eq!(failure.signature, seed.signature, "{name}");
            let hash = trace_of(&smaller.seed, &outcome).hash();
            assert_eq!(Some(hash), smaller.seed.trace, "{name}");
        }
    }
}
