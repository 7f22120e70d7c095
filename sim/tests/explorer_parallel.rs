//! One search on several threads comes to what it comes to on one.
#![cfg(not(loom_run))]
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

mod programs;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as StdOrdering};
use std::time::Duration;

use programs::{Program, generate, interpreter, run};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use selvedge_core::platform::{Atomic, AtomicInt, JoinHandle, Mutex, Ordering, Platform, Shared};
use selvedge_core::{BlockPool, LayerId, ModelCacheSpec};
use selvedge_sim::explorer::{Explorer, Search, SearchEnd};
use selvedge_sim::{ExplorerPlatform as P, Observation, violation};

type A = <P as Platform>::AtomicU32;

fn program(number: u64) -> Program {
    let mut rng = ChaCha8Rng::seed_from_u64(number);
    generate(|bound| (rng.next_u64() % bound as u64) as usize)
}

/// At once in parallel, so that small bodies are.
fn together(workers: usize) -> Explorer {
    Explorer {
        workers,
        parallel_after: 0,
        ..Explorer::default()
    }
}

/// Runs both; the parallel one must say the same, and each trace once.
fn same(
    name: &str,
    explorer: &Explorer,
    body: impl Fn() -> Observation + Clone + Send + Sync + 'static,
) -> (Search, Search) {
    let alone = Explorer {
        workers: 1,
        ..explorer.clone()
    };
    let alone = alone.run(body.clone());
    let together = explorer.run(body);
    assert_eq!(alone.end, SearchEnd::Complete, "{name}");
    assert_eq!(together.end, SearchEnd::Complete, "{name}");
    assert_eq!(together.observations, alone.observations, "{name}");
    assert_eq!(together.executions, alone.executions, "{name}");
    (alone, together)
}

fn validate(numbers: std::ops::Range<u64>) {
    let (mut complete, mut abandoned, mut programs, mut alone_abandoned) = (0, 0, 0, 0);
    for number in numbers {
        let program = program(number);
        let explorer = Explorer {
            past_failures: true,
            ..together(1 + (number % 4) as usize + 1)
        };
        let body = program.clone();
        let name = format!("{number}: {program:?}");
        let (alone, together) = same(&name, &explorer, move || run(&body));
        alone_abandoned += alone.abandoned;
        // Where the truth is small enough to be known, it is that.
        if let Some(truth) = interpreter::explore(&program, 4_000) {
            assert_eq!(together.executions, truth.traces.len() as u64, "{name}");
        }
        complete += together.executions;
        abandoned += together.abandoned;
        programs += 1;
    }
    println!(
        "{programs} programs: {complete} complete + {abandoned} abandoned together, \
         {alone_abandoned} alone"
    );
}

#[test]
fn every_trace_is_run_once_by_somebody() {
    validate(0..300);
}

#[test]
#[ignore = "the long run: cargo test -p selvedge-sim --test explorer_parallel -- --ignored"]
fn every_trace_of_many_programs_is_run_once_by_somebody() {
    validate(1_000..8_000);
}

fn pool_body(threads: usize) -> Observation {
    let spec = ModelCacheSpec::new(1, 1, 8, 16).unwrap();
    let pool = <P as Platform>::Arc::new(BlockPool::<P>::new(spec, 3).unwrap());
    let agent = pool.agent("a").unwrap();
    let others: Vec<_> = (0..threads)
        .map(|_| {
            let pool = pool.clone();
            P::spawn(move || pool.allocate(2, LayerId(0), agent).is_ok())
        })
        .collect();
    let granted: Vec<bool> = others.into_iter().map(JoinHandle::join).collect();
    Observation::of(format!("{granted:?}"))
}

/// Tasks that spin until it is their turn.
fn turns(threads: u32) -> Observation {
    let turn = <P as Platform>::Arc::new(A::new(0));
    let others: Vec<_> = (0..threads)
        .map(|me| {
            let turn = turn.clone();
            P::spawn(move || {
                // ORDERING: SeqCst, all, as the explorer takes everything.
                while turn.load(Ordering::SeqCst) != me {
                    P::yield_now();
                }
                turn.fetch_add(1, Ordering::SeqCst);
            })
        })
        .collect();
    others.into_iter().for_each(JoinHandle::join);
    Observation::of(turn.load(Ordering::SeqCst).to_string())
}

#[test]
fn classics_are_the_same_together() {
    for workers in [2, 3] {
        for threads in [2, 3, 4] {
            same("pool", &together(workers), move || pool_body(threads));
        }
        same("turns", &together(workers), || turns(3));
    }
}

/// Tells the number of the execution in which it fails to nobody: only some schedules do.
fn fails_sometimes() -> Observation {
    let cell = <P as Platform>::Arc::new(<P as Platform>::Mutex::new(Vec::new()));
    let others: Vec<_> = (0..4)
        .map(|me| {
            let cell = cell.clone();
            P::spawn(move || cell.lock().push(me))
        })
        .collect();
    others.into_iter().for_each(JoinHandle::join);
    let order = cell.lock().clone();
    if order[0] >= 2 && order[3] != 1 {
        violation!("order", "{order:?}");
    }
    Observation::of(format!("{order:?}"))
}

#[test]
fn the_first_failure_in_order_is_reported_whoever_is_quicker() {
    let first = together(3).run(fails_sometimes);
    let SearchEnd::Violated { failure, schedule } = &first.end else {
        panic!("{:?}", first.end);
    };
    assert_eq!(failure.signature, "order");
    assert!(
        failure.location.contains("explorer_parallel.rs"),
        "{failure:?}"
    );
    for _ in 0..20 {
        let again = together(3).run(fails_sometimes);
        assert_eq!(again.end, first.end);
        assert_eq!(again.executions, first.executions);
        assert_eq!(again.abandoned, first.abandoned);
        assert_eq!(again.observations, first.observations);
    }
    // The schedule is that of the failure, not of what another worker was about.
    let replayed = Explorer::default().replay(schedule, fails_sometimes);
    assert!(matches!(replayed, SearchEnd::Violated { failure: again, .. } if again == *failure));
}

#[test]
fn a_deadlock_is_found_together() {
    let body = || {
        let locks = <P as Platform>::Arc::new([0, 1, 2].map(|_| Mutex::new(0)));
        let others: Vec<_> = (0..3)
            .map(|me| {
                let locks: <P as Platform>::Arc<[<P as Platform>::Mutex<u32>; 3]> = locks.clone();
                P::spawn(move || {
                    let first = locks[me].lock();
                    let second = locks[(me + 1) % 3].lock();
                    drop((first, second));
                })
            })
            .collect();
        others.into_iter().for_each(JoinHandle::join);
        Observation::none()
    };
    let end = together(2).run(body).end;
    assert!(matches!(&end, SearchEnd::Violated { failure, .. } if failure.signature == "deadlock"));
    assert_eq!(together(2).run(body).end, end);
}

/// Adds to a count when it is dropped.
struct Last(<P as Platform>::Arc<A>);

impl Drop for Last {
    fn drop(&mut self) {
        // ORDERING: SeqCst. See above.
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_destructor_seen_late_begins_all_again() {
    let body = || {
        let dropped = <P as Platform>::Arc::new(A::new(0));
        let turn = <P as Platform>::Arc::new(A::new(0));
        let others: Vec<_> = (0..3)
            .map(|me| {
                let (turn, dropped) = (turn.clone(), dropped.clone());
                P::spawn(move || {
                    // ORDERING: SeqCst, all. See above.
                    let before = turn.fetch_add(1, Ordering::SeqCst);
                    // Only where the last task comes first.
                    let shared = (me == 2 && before == 0)
                        .then(|| <P as Platform>::Arc::new(Last(dropped.clone())));
                    drop(shared);
                    dropped.load(Ordering::SeqCst)
                })
            })
            .collect();
        let seen: Vec<u32> = others.into_iter().map(JoinHandle::join).collect();
        Observation::of(format!("{seen:?}"))
    };
    let alone = Explorer::default().run(body);
    let search = together(2).run(body);
    assert_eq!(search.end, SearchEnd::Complete);
    assert_eq!(search.observations, alone.observations);
    assert!(search.observations.contains("[1, 1, 1]"));
}

#[test]
fn a_body_that_is_not_deterministic_is_noticed_together() {
    let runs = AtomicU64::new(0);
    let search = together(2).run(move || {
        let run = runs.fetch_add(1, StdOrdering::Relaxed);
        let cell = <P as Platform>::Arc::new(A::new(0));
        let others: Vec<_> = (0..3)
            .map(|_| {
                let cell = cell.clone();
                // ORDERING: SeqCst. See above.
                P::spawn(move || cell.fetch_add(1, Ordering::SeqCst))
            })
            .collect();
        if run % 3 == 2 {
            cell.load(Ordering::SeqCst);
        }
        others.into_iter().for_each(|other| {
            other.join();
        });
        Observation::none()
    });
    assert!(
        matches!(search.end, SearchEnd::NotDeterministic(_)),
        "{:?}",
        search.end
    );
}

#[test]
fn limits_end_all_workers() {
    let explorer = Explorer {
        max_executions: 100,
        ..together(2)
    };
    let search = explorer.run(|| pool_body(4));
    assert_eq!(search.end, SearchEnd::BudgetEnded);
    assert!(
        search.executions + search.abandoned <= 100 + 2,
        "{search:?}"
    );
    let explorer = Explorer {
        max_time: Duration::ZERO,
        ..together(2)
    };
    assert_eq!(explorer.run(|| pool_body(3)).end, SearchEnd::BudgetEnded);
}

#[test]
fn it_goes_parallel_only_where_it_pays() {
    let executed = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&executed);
    let explorer = Explorer {
        workers: 2,
        ..Explorer::default()
    };
    let search = explorer.run(move || {
        counted.fetch_add(1, StdOrdering::Relaxed);
        pool_body(4)
    });
    assert_eq!((search.executions, search.abandoned), (192, 0));
    assert_eq!(executed.load(StdOrdering::Relaxed), 192);
}
