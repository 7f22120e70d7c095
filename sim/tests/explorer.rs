//! The explorer on small bodies whose outcomes can be counted by hand.
#![cfg(not(loom_run))]
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use selvedge_core::platform::{
    Atomic, AtomicInt, Condvar, JoinHandle, Mutex, Ordering, Platform, Shared, Unpark,
};
use selvedge_core::{BlockPool, LayerId, ModelCacheSpec};
use selvedge_sim::explorer::{Explorer, Search, SearchEnd};
use selvedge_sim::{ExplorerPlatform as P, Observation};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

type M<T> = <P as Platform>::Mutex<T>;
type A = <P as Platform>::AtomicU32;
type C = <P as Platform>::Condvar;

fn explore(body: impl Fn() -> Observation + Send + Sync + 'static) -> Search {
    Explorer::default().run(body)
}

fn outcomes(search: &Search) -> Vec<&str> {
    search.observations.iter().map(String::as_str).collect()
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

#[test]
fn the_shipped_pool_is_explored_in_few_executions() {
    for (threads, most) in [(2, 10), (3, 100), (4, 1000)] {
        let started = std::time::Instant::now();
        let search = explore(move || pool_body(threads));
        println!(
            "{threads}: {} + {} {:?} {:?}",
            search.executions,
            search.abandoned,
            search.observations.len(),
            started.elapsed()
        );
        assert_eq!(search.end, SearchEnd::Complete);
        assert!(search.executions <= most);
    }
}

#[test]
fn atomics_show_every_interleaving_and_no_weak_outcome() {
    let search = explore(|| {
        let cells = <P as Platform>::Arc::new((A::new(0), A::new(0)));
        let theirs = cells.clone();
        // ORDERING: Relaxed, all. The explorer is sequentially consistent whatever is said.
        let other = P::spawn(move || {
            theirs.0.store(1, Ordering::Relaxed);
            theirs.1.load(Ordering::Relaxed)
        });
        cells.1.store(1, Ordering::Relaxed);
        let mine = cells.0.load(Ordering::Relaxed);
        Observation::of(format!("{mine}{}", other.join()))
    });
    assert_eq!(search.end, SearchEnd::Complete);
    assert_eq!(outcomes(&search), ["01", "10", "11"]);
    assert_eq!((search.executions, search.abandoned), (3, 0));
}

#[test]
fn a_deadlock_is_told_with_its_cycle_and_replayed() {
    let body = || {
        let locks = <P as Platform>::Arc::new([M::new(()), M::new(())]);
        let theirs = locks.clone();
        let other = P::spawn(move || {
            let _b = theirs[1].lock();
            let _a = theirs[0].lock();
        });
        {
            let _a = locks[0].lock();
            let _b = locks[1].lock();
        }
        other.join();
        Observation::none()
    };
    let SearchEnd::Violated { failure, schedule } = explore(body).end else {
        panic!("not found");
    };
    assert_eq!(failure.signature, "deadlock");
    assert_eq!(
        failure.detail,
        "deadlock: task 0 holds mutex 0/1 and waits for mutex 0/2 held by task 0.0; task 0.0 \
         holds mutex 0/2 and waits for mutex 0/1 held by task 0; the cycle: 0 -> 0.0 -> 0"
    );
    let again = Explorer::default().replay(&schedule, body);
    assert_eq!(again, SearchEnd::Violated { failure, schedule });
}

#[test]
fn a_notification_may_choose_any_waiter() {
    let search = explore(|| {
        let shared = <P as Platform>::Arc::new((M::new(0), C::new(), A::new(9)));
        let waiters = [0, 1].map(|me| {
            let shared = shared.clone();
            P::spawn(move || {
                let mut waiting = shared.0.lock();
                *waiting += 1;
                drop(shared.1.wait(waiting));
                // ORDERING: Relaxed. See above.
                let _ = shared
                    .2
                    .compare_exchange(9, me, Ordering::Relaxed, Ordering::Relaxed);
            })
        });
        while *shared.0.lock() < 2 {
            P::yield_now();
        }
        shared.1.notify_one();
        while shared.2.load(Ordering::Relaxed) == 9 {
            P::yield_now();
        }
        shared.1.notify_one();
        for waiter in waiters {
            waiter.join();
        }
        Observation::of(shared.2.load(Ordering::Relaxed).to_string())
    });
    assert_eq!(search.end, SearchEnd::Complete);
    assert_eq!(outcomes(&search), ["0", "1"]);
}

#[test]
fn a_timed_wait_may_time_out_or_not() {
    let search = explore(|| {
        let shared = <P as Platform>::Arc::new((M::new(()), C::new()));
        let theirs = shared.clone();
        let waiter = P::spawn(move || theirs.1.wait_timeout(theirs.0.lock(), Duration::ZERO).1);
        shared.1.notify_one();
        Observation::of(waiter.join().to_string())
    });
    assert_eq!(search.end, SearchEnd::Complete);
    assert_eq!(outcomes(&search), ["false", "true"]);
}

#[test]
fn a_wait_of_a_hundred_years_never_times_out() {
    let search = explore(|| {
        let (mutex, condvar) = (M::new(()), C::new());
        let timed_out = condvar.wait_timeout(mutex.lock(), Duration::MAX).1;
        Observation::of(timed_out.to_string())
    });
    assert!(
        matches!(search.end, SearchEnd::Violated { failure, .. } if failure.signature == "deadlock")
    );
}

#[test]
fn a_token_is_kept_for_the_next_park() {
    let search = explore(|| {
        let parked = P::spawn(P::park);
        let me = P::current();
        me.unpark();
        P::park();
        let _ = parked;
        Observation::none()
    });
    // Nobody unparks the other.
    assert!(
        matches!(search.end, SearchEnd::Violated { failure, .. } if failure.signature == "deadlock")
    );
}

#[test]
fn a_loop_without_a_yield_is_a_livelock_and_one_with_it_ends() {
    let spin = |meanwhile: fn()| {
        explore(move || {
            let flag = <P as Platform>::Arc::new(A::new(0));
            let theirs = flag.clone();
            // ORDERING: Relaxed. See above.
            let other = P::spawn(move || {
                while theirs.load(Ordering::Relaxed) == 0 {
                    meanwhile();
                }
            });
            flag.store(1, Ordering::Relaxed);
            other.join();
            Observation::none()
        })
    };
    assert_eq!(spin(P::yield_now).end, SearchEnd::Complete);
    let end = spin(|| {}).end;
    assert!(matches!(end, SearchEnd::Violated { failure, .. } if failure.signature == "livelock"));
}

/// What a spinning task saw until it saw `end`, which others bring about step by step.
fn seen_until(end: u32, ways: u32) -> Observation {
    let cells = <P as Platform>::Arc::new([A::new(0), A::new(0)]);
    let spins = {
        let cells = cells.clone();
        P::spawn(move || {
            let mut seen = String::new();
            // ORDERING: Relaxed, all. See above.
            loop {
                let now = [0, 1].map(|cell: usize| cells[cell].load(Ordering::Relaxed));
                seen += &format!("{}{} ", now[0], now[1]);
                if now[0] + now[1] == end * ways {
                    break seen;
                }
                P::yield_now();
            }
        })
    };
    let others: Vec<_> = (0..ways as usize)
        .map(|way| {
            let cells = cells.clone();
            P::spawn(move || {
                for value in 1..=end {
                    cells[way].store(value, Ordering::Relaxed);
                }
            })
        })
        .collect();
    others.into_iter().for_each(JoinHandle::join);
    Observation::of(spins.join())
}

#[test]
fn a_spinning_task_goes_on_after_any_change_not_only_the_last() {
    for (end, ways) in [(1, 1), (2, 1), (3, 1), (1, 2)] {
        let plain = Explorer {
            reduce: false,
            ..Explorer::default()
        };
        let plain = plain.run(move || seen_until(end, ways));
        let reduced = explore(move || seen_until(end, ways));
        assert_eq!(plain.end, SearchEnd::Complete);
        assert_eq!(reduced.end, SearchEnd::Complete);
        assert_eq!(reduced.observations, plain.observations, "{end} {ways}");
        println!(
            "{end} {ways}: {} + {} for {}, plain {}",
            reduced.executions,
            reduced.abandoned,
            reduced.observations.len(),
            plain.executions
        );
    }
}

#[test]
fn state_outside_of_the_platform_is_noticed() {
    let runs = AtomicU64::new(0);
    let search = explore(move || {
        let run = runs.fetch_add(1, Ordering::Relaxed);
        let cell = <P as Platform>::Arc::new(A::new(0));
        let theirs = cell.clone();
        // ORDERING: Relaxed. See above.
        let other = P::spawn(move || theirs.fetch_add(1, Ordering::Relaxed));
        if run % 2 == 1 {
            cell.load(Ordering::Relaxed);
        }
        cell.fetch_add(1, Ordering::Relaxed);
        other.join();
        Observation::none()
    });
    assert!(matches!(search.end, SearchEnd::NotDeterministic(_)));
}

/// Adds to a count when it is dropped.
struct Last(<P as Platform>::Arc<A>, u32);

impl Drop for Last {
    fn drop(&mut self) {
        // ORDERING: Relaxed. See above.
        self.0.fetch_add(self.1, Ordering::Relaxed);
    }
}

#[test]
fn either_task_gets_to_run_a_destructor_that_makes_steps() {
    let search = explore(|| {
        let dropped = <P as Platform>::Arc::new(A::new(0));
        let shared = <P as Platform>::Arc::new(Last(dropped.clone(), 1));
        let theirs = shared.clone();
        let seen = dropped.clone();
        let other = P::spawn(move || {
            drop(theirs);
            // ORDERING: Relaxed. See above.
            seen.load(Ordering::Relaxed)
        });
        drop(shared);
        let mine = dropped.load(Ordering::Relaxed);
        Observation::of(format!("{mine}{}", other.join()))
    });
    assert_eq!(search.end, SearchEnd::Complete);
    // Whoever drops last sees it done; the other may be too early.
    assert_eq!(outcomes(&search), ["01", "10", "11"]);
}

/// Found in review: a schedule in which drops are steps was followed by one who did not know
/// that they are.
#[test]
fn a_failure_in_which_drops_are_steps_is_seen_again() {
    let body = || {
        let dropped = <P as Platform>::Arc::new(A::new(0));
        let shared = <P as Platform>::Arc::new(Last(dropped.clone(), 1));
        let theirs = shared.clone();
        let seen = dropped.clone();
        let other = P::spawn(move || {
            drop(theirs);
            // ORDERING: Relaxed. See above.
            seen.load(Ordering::Relaxed)
        });
        drop(shared);
        // ORDERING: Relaxed. See above.
        if dropped.load(Ordering::Relaxed) == 0 && other.join() == 1 {
            selvedge_sim::violation!("not-the-last", "the other task dropped it last");
        }
        Observation::none()
    };
    let explorer = Explorer::default();
    let SearchEnd::Violated { failure, schedule } = explorer.run(body).end else {
        panic!("it is found")
    };
    let again = |end: SearchEnd| match end {
        SearchEnd::Violated { failure: same, .. } => assert_eq!(same.signature, failure.signature),
        other => panic!("{other:?}"),
    };
    again(explorer.replay(&schedule, body));
    let limit = std::time::Duration::MAX;
    let shrunk = explorer.shrink(&schedule, &failure.signature, limit, body);
    let shrunk = shrunk.expect("it fails again");
    assert!(shrunk.least);
    let (end, trace) = explorer.trace(&shrunk.schedule, body);
    again(end);
    assert_eq!(
        trace.hash(),
        explorer.trace(&shrunk.schedule, body).1.hash()
    );
}

#[test]
fn a_panic_is_caught_and_a_limit_is_no_pass() {
    let search = explore(|| {
        let other = P::spawn(|| panic!("arithmetic"));
        other.join();
        Observation::none()
    });
    let SearchEnd::Violated { failure, .. } = search.end else {
        panic!()
    };
    assert_eq!(failure.signature, "panic: arithmetic");
    let explorer = Explorer {
        max_executions: 3,
        ..Explorer::default()
    };
    assert_eq!(explorer.run(|| pool_body(3)).end, SearchEnd::BudgetEnded);
}

#[test]
fn more_preemptions_show_more() {
    let count = |preemptions| {
        let explorer = Explorer {
            preemptions,
            reduce: false,
            ..Explorer::default()
        };
        explorer.run(|| pool_body(2)).executions
    };
    let counts = [count(Some(0)), count(Some(1)), count(Some(2)), count(None)];
    assert!(counts.is_sorted_by(|a, b| a < b), "{counts:?}");
}

/// The shape of a CAS loop, which an estimate must tell a failed exchange from a change for.
fn add_by_exchange(cell: &A) {
    // ORDERING: Relaxed, all. See above.
    let mut seen = cell.load(Ordering::Relaxed);
    while let Err(now) = cell.compare_exchange(seen, seen + 1, Ordering::Relaxed, Ordering::Relaxed)
    {
        seen = now;
    }
    cell.fetch_max(1, Ordering::Relaxed);
}

#[test]
fn an_estimate_is_near_what_the_search_takes() {
    let exchange = |threads: usize| {
        move || {
            let cell = <P as Platform>::Arc::new(A::new(0));
            let others: Vec<_> = (0..threads)
                .map(|_| {
                    let cell = cell.clone();
                    P::spawn(move || add_by_exchange(&cell))
                })
                .collect();
            others.into_iter().for_each(JoinHandle::join);
            Observation::none()
        }
    };
    near(|| pool_body(2));
    near(|| pool_body(3));
    near(exchange(2));
    near(exchange(3));
}

fn near(body: impl Fn() -> Observation + Clone + Send + Sync + 'static) {
    let estimate = Explorer::default().estimate(2_000, 1, body.clone());
    let search = explore(body);
    assert_eq!(search.end, SearchEnd::Complete);
    let off = (estimate.executions - search.executions as f64).abs();
    println!("{estimate:?} for {}", search.executions);
    assert!(
        off <= 4.0 * estimate.standard_error,
        "{estimate:?} for {}",
        search.executions
    );
    if let Some(exact) = estimate.exact {
        assert_eq!(exact, search.executions);
    }
}
