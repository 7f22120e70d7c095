//! How an engine is closed, changed and left: deadlines, drain, shutdown, another model, caches
//! taken out, and calls in the middle of a step.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

mod engine;

use std::time::Duration;

use selvedge_core::engine::{
    CancelReason, Closed, DeathCause, DrainError, End, EngineConfig, Event, Finish, NewRequest,
    PutCacheError, ReconfigureError, StepError, SubmitError, Wake,
};
use selvedge_core::pool::ReconfigureError as PoolReconfigureError;
use selvedge_core::{LayerId, RequestId};

use self::engine::backend::{Call, Wrong, expected};
use self::engine::bench::{Bench, prompt, spec};

const LENGTH: End = End::Completed(Finish::Length);

fn config() -> EngineConfig {
    EngineConfig::default()
}

#[test]
fn a_deadline_ends_who_waits_and_who_runs() {
    let mut bench = Bench::new(
        spec(2),
        64,
        EngineConfig {
            max_running: 1,
            ..config()
        },
    );
    let at = bench.now + Duration::from_millis(10);
    let request = |name, deadline| NewRequest {
        deadline,
        ..NewRequest::new(bench.agent(name), prompt(2, 30), 30)
    };
    let runs = bench
        .engine
        .submit(request("a", Some(at)), bench.now)
        .unwrap();
    let waits = bench
        .engine
        .submit(request("b", Some(at)), bench.now)
        .unwrap();
    bench.step();
    bench.pass(10);
    bench.step();
    for id in [runs, waits] {
        assert_eq!(bench.end_of(id), End::Cancelled(CancelReason::Deadline));
    }
    assert_eq!(bench.engine.wake(), Wake::OnCall);
}

#[test]
fn a_drain_refuses_at_once_and_ends_when_all_have() {
    let mut bench = Bench::new(
        spec(2),
        64,
        EngineConfig {
            max_running: 1,
            ..config()
        },
    );
    let runs = bench.submit("a", &prompt(2, 4), 4).unwrap();
    let waits = bench.submit("b", &prompt(2, 4), 4).unwrap();
    bench.step();
    let deadline = bench.now + Duration::from_secs(30);
    bench.engine.drain(deadline, bench.now).unwrap();
    let closed = SubmitError::Closed(Closed::Draining);
    assert_eq!(bench.submit("c", &[1], 1).unwrap_err(), closed);
    let again = bench.engine.drain(deadline, bench.now);
    assert_eq!(again, Err(DrainError::Draining { deadline }));
    bench.run();
    assert_eq!((bench.end_of(runs), bench.end_of(waits)), (LENGTH, LENGTH));
    assert_eq!(bench.told.last(), Some(&Event::Drained));
    // For ever, until somebody says otherwise.
    bench.pass(60_000);
    assert_eq!(bench.submit("c", &[1], 1).unwrap_err(), closed);
    assert_eq!(bench.engine.drain(deadline, bench.now), Ok(()));
    bench.engine.resume().unwrap();
    bench.submit("c", &[1], 1).unwrap();
}

#[test]
fn a_drain_that_takes_too_long_is_undone() {
    let mut bench = Bench::plain(64);
    let id = bench.submit("a", &prompt(2, 40), 40).unwrap();
    bench.step();
    let deadline = bench.now + Duration::from_millis(5);
    bench.engine.drain(deadline, bench.now).unwrap();
    assert!(bench.submit("b", &[1], 1).is_err());
    bench.pass(5);
    // Even if nobody steps: the deadline is the deadline.
    bench.submit("b", &[1], 1).unwrap();
    bench.run();
    let timed_out = Event::DrainTimedOut { left: 1 };
    assert_eq!(
        bench
            .told
            .iter()
            .filter(|event| **event == timed_out)
            .count(),
        1
    );
    assert!(!bench.told.contains(&Event::Drained));
    assert_eq!(bench.end_of(id), LENGTH);
}

#[test]
fn a_shutdown_gives_everything_back() {
    let mut bench = Bench::new(
        spec(2),
        64,
        EngineConfig {
            max_running: 2,
            ..config()
        },
    );
    bench.submit("cached", &prompt(5, 2), 2).unwrap();
    bench.run();
    let ids = ["a", "b", "c"].map(|name| bench.submit(name, &prompt(2, 9), 9).unwrap());
    bench.step();
    let told = bench.engine.shutdown(bench.now);
    bench.told.extend(told);
    for id in ids {
        assert_eq!(bench.end_of(id), End::Cancelled(CancelReason::ShutDown));
    }
    assert_eq!(bench.pool.snapshot().available, 64);
    bench
        .backend
        .with(|inside| assert!(inside.computed.is_empty()));
    let closed = SubmitError::Closed(Closed::ShutDown);
    assert_eq!(bench.submit("a", &[1], 1).unwrap_err(), closed);
    assert!(
        bench.engine.shutdown(bench.now).is_empty(),
        "a second one has nothing to do"
    );
    assert!(bench.step().is_empty());
    assert_eq!(bench.engine.wake(), Wake::OnCall);
}

#[test]
fn another_model_starts_without_the_old_ones_caches() {
    let mut bench = Bench::plain(64);
    let ask = prompt(6, 4);
    let id = bench.submit("alice", &ask, 4).unwrap();
    bench.step();
    let refused = bench
        .engine
        .reconfigure(spec(3), 30, |model| model.swap(spec(3)));
    assert_eq!(refused, Err(ReconfigureError::InUse { live: 1 }));
    bench.run();
    let deadline = bench.now + Duration::from_secs(1);
    bench.engine.drain(deadline, bench.now).unwrap();
    bench.run();
    bench
        .engine
        .reconfigure(spec(3), 30, |model| model.swap(spec(3)))
        .unwrap();
    assert_eq!(
        (bench.pool.snapshot().total, bench.pool.snapshot().used),
        (30, 0)
    );
    assert_eq!(bench.backend.with(|inside| inside.swaps), 1);
    // It is open again, and what the other weights computed is gone.
    let next = [ask, bench.tokens_of(id), vec![1]].concat();
    let again = bench.submit("alice", &next, 2).unwrap();
    bench.run();
    assert_eq!(bench.reused(again), Some(0));
    assert_eq!(bench.tokens_of(again), expected(&next, 2).0);
    assert_eq!(bench.engine.snapshot().epoch, 1);
}

#[test]
fn a_swap_that_fails_leaves_the_old_model() {
    let mut bench = Bench::plain(64);
    let other = bench.agent("other");
    let pool = bench.pool.clone();
    let held = pool.allocate(1, LayerId(0), other).unwrap();
    let in_use = bench
        .engine
        .reconfigure(spec(3), 30, |model| model.swap(spec(3)));
    let owners = PoolReconfigureError::InUse {
        owners: vec!["other".to_owned()],
    };
    assert_eq!(in_use, Err(ReconfigureError::Pool(owners)));
    assert_eq!(
        bench.backend.with(|inside| inside.swaps),
        0,
        "not even tried"
    );
    drop(held);
    bench.backend.do_wrong(Wrong::InsertError);
    let refused = bench
        .engine
        .reconfigure(spec(3), 30, |model| model.swap(spec(3)));
    assert!(
        matches!(refused, Err(ReconfigureError::Backend { .. })),
        "{refused:?}"
    );
    assert_eq!(
        (bench.pool.snapshot().total, bench.pool.spec()),
        (64, spec(2))
    );
    let id = bench.submit("alice", &prompt(3, 3), 3).unwrap();
    bench.run();
    assert_eq!(bench.end_of(id), LENGTH);
}

/// The swap fails, and while it was tried somebody took a block of the pool in its new shape: it
/// cannot be given the old one back. What cannot serve must not look as if it could.
#[test]
fn a_swap_that_cannot_be_undone_is_the_end() {
    let mut bench = Bench::plain(64);
    let id = bench.submit("alice", &prompt(5, 2), 2).unwrap();
    bench.run();
    assert!(bench.ends_of(id)[0].cached > 0);
    bench.backend.do_wrong(Wrong::InsertError);
    let (pool, other) = (bench.pool.clone(), bench.agent("other"));
    let mut taken = Vec::new();
    let result = bench.engine.reconfigure(spec(3), 30, |model| {
        taken.push(pool.allocate(1, LayerId(2), other).unwrap());
        model.swap(spec(3))
    });
    let Err(ReconfigureError::Closed(Closed::EngineDead(cause))) = result else {
        panic!("{result:?}");
    };
    let DeathCause::SwapNotUndone { message } = &cause else {
        panic!("{cause:?}");
    };
    assert!(
        message.contains("no such weights") && message.contains("other"),
        "{message}"
    );
    // It is told once, and then every call says so.
    assert_eq!(bench.step(), [Event::Died(cause.clone())]);
    assert_eq!(bench.run_to_death(), StepError::EngineDead(cause.clone()));
    let refused = bench.submit("alice", &prompt(1, 1), 1);
    let dead = Closed::EngineDead(cause);
    assert_eq!(refused, Err(SubmitError::Closed(dead.clone())));
    assert_eq!(bench.engine.resume(), Err(dead));
    // The pool is in order, in the new shape; of the engine nothing is left in it.
    drop(taken);
    let snapshot = bench.pool.audit().unwrap();
    assert_eq!((snapshot.used, snapshot.total), (0, 30));
}

#[test]
fn a_cache_can_be_taken_out_and_put_back() {
    let mut bench = Bench::plain(64);
    let ask = prompt(6, 4);
    let id = bench.submit("alice", &ask, 4).unwrap();
    let alice = bench.agent("alice");
    assert!(
        bench.engine.take_cache(alice).is_none(),
        "its request is in flight"
    );
    bench.run();
    let history = [ask, bench.tokens_of(id), vec![4]].concat();
    let cache = bench.engine.take_cache(alice).unwrap();
    assert_eq!(cache.tokens(), &history[..10]);
    assert!(bench.engine.take_cache(alice).is_none());
    bench.engine.put_cache(cache).unwrap();
    let id = bench.submit("alice", &history, 2).unwrap();
    bench.run();
    assert_eq!(bench.reused(id), Some(10));

    let cache = bench.engine.take_cache(alice).unwrap();
    let blocks = cache.num_blocks();
    bench.submit("alice", &history, 2).unwrap();
    let (refused, cache) = bench.engine.put_cache(cache).unwrap_err();
    assert_eq!(
        (refused, cache.num_blocks()),
        (PutCacheError::AgentBusy, blocks)
    );
    let stranger = Bench::plain(64);
    let (refused, _cache) = stranger.engine.put_cache(*cache).unwrap_err();
    assert_eq!(refused, PutCacheError::ForeignPool);
}

/// No lock is held while the backend runs: it can call the engine, and so can anybody else.
#[test]
fn everybody_may_call_in_the_middle_of_a_step() {
    let mut bench = Bench::plain(64);
    let first = bench.submit("a", &prompt(1, 5), 5).unwrap();
    let (engine, now, bob) = (bench.engine.clone(), bench.now, bench.agent("b"));
    bench.backend.during(Call::Step, move || {
        assert!(engine.step(now).is_err(), "one driver at a time");
        engine
            .submit(NewRequest::new(bob, prompt(1, 2), 2), now)
            .unwrap();
        engine.cancel(first, CancelReason::Requested, now).unwrap();
    });
    bench.run();
    assert_eq!(bench.end_of(first), End::Cancelled(CancelReason::Requested));
    assert!(bench.tokens_of(first).is_empty(), "its end came first");
    assert_eq!(bench.end_of(RequestId(first.0 + 1)), LENGTH);
}
