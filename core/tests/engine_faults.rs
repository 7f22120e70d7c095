//! What goes wrong in a backend, and what comes of it: one request's failure touches only
//! itself, a failed step is the end of the engine, and no block is lost either way.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "real threads on the shipped platform"
)]

mod engine;

use std::convert::Infallible;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use selvedge_core::engine::{
    BatchEngine, BlockSlot, CancelReason, Closed, DeathCause, End, EngineConfig, Event, FailReason,
    Fault, Finish, Generator, NewRequest, NewSequence, Produced, StepError, StepInput, SubmitError,
    Wake,
};
use selvedge_core::time::Instant;
use selvedge_core::{AgentId, BlockPool, BlockRef, LayerId, ModelCacheSpec, RequestId};

use self::engine::backend::{Call, Wrong, expected};
use self::engine::bench::{Bench, prompt, spec};

const LENGTH: End = End::Completed(Finish::Length);

/// The ticket's `test_submit_error_frees_all_layers`: issue 8.
#[test]
fn a_failed_insert_leaves_the_available_blocks_as_they_were() {
    for layers in [1, 12, 48] {
        let mut bench = Bench::new(spec(layers), 8 * layers, EngineConfig::default());
        let held = bench.submit("bob", &prompt(3, 9), 9).unwrap();
        bench.step();
        let before = bench.pool.snapshot().available;
        bench.backend.do_wrong(Wrong::InsertError);
        let id = bench.submit("alice", &prompt(5, 3), 3).unwrap();
        bench.step();
        assert_eq!(bench.pool.snapshot().available, before, "{layers} layers");
        let failed = FailReason::InsertFailed {
            message: "no room".to_owned(),
        };
        assert_eq!(bench.end_of(id), End::Failed(failed));
        // The next is none the worse for it, and the other has not noticed.
        let id = bench.submit("alice", &prompt(5, 3), 3).unwrap();
        bench.run();
        assert_eq!((bench.end_of(id), bench.end_of(held)), (LENGTH, LENGTH));
    }
}

/// The origin had cleared the cached blocks before it inserted, and then failed on them.
#[test]
fn a_failed_insert_leaves_the_cache_it_would_have_started_from() {
    let mut bench = Bench::plain(64);
    let ask = prompt(6, 4);
    let id = bench.submit("alice", &ask, 4).unwrap();
    bench.run();
    let history = [ask, bench.tokens_of(id), vec![1, 2]].concat();
    let used = bench.pool.snapshot().used;
    bench.backend.do_wrong(Wrong::InsertError);
    bench.submit("alice", &history, 4).unwrap();
    bench.run();
    assert_eq!(bench.pool.snapshot().used, used, "no more, no less");
    let id = bench.submit("alice", &history, 4).unwrap();
    bench.run();
    assert_eq!(bench.reused(id), Some(10));

    // Of one that parts after five tokens, the two blocks in common are left: eight tokens.
    let parts = [&history[..5], &[70, 71, 72, 73, 74]].concat();
    bench.backend.do_wrong(Wrong::InsertError);
    bench.submit("alice", &parts, 4).unwrap();
    bench.run();
    let cache = bench.engine.take_cache(bench.agent("alice")).unwrap();
    assert_eq!(cache.tokens(), &history[..8]);
    bench.engine.put_cache(cache).unwrap();

    // If the backend has taken some of it, there is nothing whole left to keep.
    bench.backend.do_wrong(Wrong::InsertErrorTaking);
    bench.submit("alice", &history, 4).unwrap();
    bench.run();
    assert_eq!(bench.pool.snapshot().used, 0);
    let id = bench.submit("alice", &history, 4).unwrap();
    bench.run();
    assert_eq!((bench.reused(id), bench.end_of(id)), (Some(0), LENGTH));
}

/// Issue 9: an unknown sequence was skipped, and its cache stayed in the backend for ever.
#[test]
fn an_unknown_sequence_is_removed_counted_and_reported() {
    let mut bench = Bench::plain(64);
    let id = bench.submit("alice", &prompt(2, 4), 4).unwrap();
    bench.step();
    bench.backend.do_wrong(Wrong::Unknown);
    let stray = RequestId(1 << 40);
    let told = bench.step();
    assert!(told.contains(&Event::Fault(Fault::UnknownSequence { request: stray })));
    assert!(bench.backend.with(|inside| inside.removed.contains(&stray)));
    assert_eq!(bench.engine.snapshot().counters.unknown_sequences, 1);
    bench.run();
    assert_eq!(bench.end_of(id), LENGTH);
}

#[test]
fn a_sequence_that_finishes_twice_ends_once() {
    let mut bench = Bench::plain(64);
    let id = bench.submit("alice", &prompt(1, 1), 1).unwrap();
    bench.backend.do_wrong(Wrong::Twice);
    bench.run();
    assert_eq!(bench.end_of(id), LENGTH);
    assert_eq!(bench.tokens_of(id).len(), 1);
    assert!(
        bench
            .told
            .contains(&Event::Fault(Fault::Duplicate { request: id }))
    );
}

#[test]
fn a_token_nobody_asked_for_fails_its_request_only() {
    for (wrong, ask) in [
        (Wrong::Twice, prompt(1, 6)),
        (Wrong::Unplanned, prompt(9, 6)),
    ] {
        let mut bench = Bench::plain(64);
        let id = bench.submit("alice", &ask, 6).unwrap();
        let other = bench.submit("bob", &prompt(1, 6), 6).unwrap();
        bench.backend.do_wrong(wrong);
        bench.run();
        assert_eq!(
            bench.end_of(id),
            End::Failed(FailReason::Protocol),
            "{wrong:?}"
        );
        assert_eq!(bench.end_of(other), LENGTH);
        assert_eq!(bench.tokens_of(other), expected(&prompt(1, 6), 6).0);
        assert_eq!(bench.backend.with(|inside| inside.computed.len()), 0);
    }
}

#[test]
fn a_backend_that_falls_silent_fails_that_request_in_the_end() {
    let bounds = EngineConfig {
        max_silent_steps: 3,
        ..EngineConfig::default()
    };
    let mut bench = Bench::new(spec(2), 64, bounds);
    let id = bench.submit("alice", &prompt(1, 6), 6).unwrap();
    // Three in a row are borne.
    (0..3).for_each(|_| bench.backend.do_wrong(Wrong::Silent));
    bench.run();
    assert_eq!(bench.end_of(id), LENGTH);
    let id = bench.submit("alice", &prompt(1, 6), 6).unwrap();
    bench.step();
    bench.step();
    (0..4).for_each(|_| bench.backend.do_wrong(Wrong::Silent));
    bench.run();
    // Nor is what came of it trusted to be cached.
    assert_eq!(
        bench.end_of(id),
        End::Failed(FailReason::Silent { steps: 4 })
    );
    assert_eq!(bench.pool.snapshot().used, 0);
}

/// The origin kept such a request for ever, and its drain never ended.
#[test]
fn a_cache_that_cannot_be_extracted_ends_the_request_without_one() {
    for wrong in [Wrong::ExtractError, Wrong::ExtractShort] {
        let mut bench = Bench::plain(64);
        let id = bench.submit("alice", &prompt(5, 3), 3).unwrap();
        bench.backend.do_wrong(wrong);
        bench.run();
        assert_eq!((bench.end_of(id), bench.ends_of(id)[0].cached), (LENGTH, 0));
        assert_eq!(bench.tokens_of(id).len(), 3);
        assert_eq!(bench.pool.snapshot().used, 0);
        let fault = |event: &Event| matches!(event, Event::Fault(Fault::ExtractFailed { .. }));
        assert_eq!(bench.told.iter().filter(|event| fault(event)).count(), 1);
    }
}

/// Three are in flight: one caches, one runs, one waits.
#[test]
fn a_dead_backend_fails_all_and_releases_all() {
    for (wrong, call) in [
        (Wrong::StepError, None),
        (Wrong::StepPanic, Some("step")),
        (Wrong::InsertPanic, Some("insert")),
        (Wrong::ExtractPanic, Some("extract")),
        (Wrong::RemovePanic, Some("remove")),
    ] {
        let bounds = EngineConfig {
            max_running: 2,
            ..EngineConfig::default()
        };
        let mut bench = Bench::new(spec(2), 64, bounds);
        bench.submit("cached", &prompt(5, 2), 2).unwrap();
        bench.run();
        let ids: Vec<RequestId> = ["a", "b", "c"]
            .map(|name| bench.submit(name, &prompt(1, 4), 4).unwrap())
            .to_vec();
        bench.backend.do_wrong(wrong);
        let error = bench.run_to_death();
        let StepError::EngineDead(cause) = error else {
            panic!("{error}")
        };
        match (&cause, call) {
            (DeathCause::StepFailed { message }, None) => assert_eq!(message, "the device is gone"),
            (DeathCause::Panicked { call, message }, Some(of)) => {
                assert_eq!((*call, message.contains("panics")), (of, true));
            }
            _ => panic!("{wrong:?} came to {cause:?}"),
        }
        assert_eq!(bench.pool.snapshot().available, 64, "{wrong:?}");
        assert_eq!(
            bench.told.last(),
            bench.told.iter().rfind(|e| matches!(e, Event::Ended(_)))
        );
        assert!(bench.told.contains(&Event::Died(cause.clone())));
        for &id in &ids {
            let end = bench.end_of(id);
            // Who had all of its tokens by then has completed.
            let all = bench.tokens_of(id).len() == 4;
            let dead = End::Failed(FailReason::EngineDead(cause.clone()));
            assert_eq!(end, if all { LENGTH } else { dead }, "{wrong:?}");
        }
        // For good.
        let closed = Closed::EngineDead(cause.clone());
        assert_eq!(
            bench.submit("d", &[1], 1).unwrap_err(),
            SubmitError::Closed(closed.clone())
        );
        assert_eq!(bench.engine.closed(), Some(closed));
        assert_eq!(
            bench.engine.step(bench.now),
            Err(StepError::EngineDead(cause))
        );
        assert!(bench.engine.shutdown(bench.now).is_empty());
        assert_eq!(bench.engine.wake(), Wake::OnCall);
        bench.check();
    }
}

/// The first call of each kind, and in the middle of it: cancelled, drained, shut down.
#[test]
fn whatever_comes_in_the_middle_of_whatever_call() {
    for call in [Call::Insert, Call::Step, Call::Extract, Call::Remove] {
        for what in 0..3 {
            let mut bench = Bench::plain(64);
            let id = bench.submit("alice", &prompt(7, 3), 3).unwrap();
            let other = bench.submit("bob", &prompt(7, 3), 3).unwrap();
            let (engine, now) = (bench.engine.clone(), bench.now);
            let shut = Arc::new(AtomicBool::new(false));
            let was_shut = shut.clone();
            bench.backend.during(call, move || match what {
                0 => drop(engine.cancel(id, CancelReason::ClientGone, now)),
                1 => engine.drain(now + Duration::from_secs(9), now).unwrap(),
                _ => {
                    assert!(
                        engine.shutdown(now).is_empty(),
                        "the one in the step does it"
                    );
                    was_shut.store(true, Ordering::Relaxed);
                }
            });
            bench.run();
            let (end, others) = (bench.end_of(id), bench.end_of(other));
            let early = matches!(call, Call::Insert | Call::Step);
            match (what, early) {
                (0, true) => assert_eq!(end, End::Cancelled(CancelReason::ClientGone)),
                (2, true) => assert_eq!(end, End::Cancelled(CancelReason::ShutDown)),
                _ => assert_eq!(end, LENGTH, "{call:?}: the end was decided before"),
            }
            if what < 2 {
                assert_eq!((others, bench.tokens_of(other).len()), (LENGTH, 3));
            }
            if shut.load(Ordering::Relaxed) {
                assert_eq!(bench.pool.snapshot().used, 0, "{call:?}");
            }
            assert_eq!(bench.backend.with(|inside| inside.computed.len()), 0);
            let (inserted, removed) =
                (bench.backend).with(|inside| (inside.inserted.clone(), inside.removed.clone()));
            assert_eq!(inserted, removed, "{call:?} {what}");
            let never = what == 2 && call == Call::Insert;
            assert_eq!(inserted, if never { vec![id] } else { vec![id, other] });
        }
    }
}

/// What a block holds, and where it looks up whose the block is while it is dropped.
struct Tenant(BlockRef, AgentId, Arc<BlockPool>, Arc<Mutex<Vec<bool>>>);

impl Drop for Tenant {
    fn drop(&mut self) {
        let owned = self.2.state().check_batch(self.1, &[self.0]).is_ok();
        self.3.lock().unwrap().push(owned);
    }
}

/// Holds nothing itself: what it has taken in is dropped there and then.
struct Landlord(Arc<BlockPool>, AgentId, Arc<Mutex<Vec<bool>>>, bool);

impl Generator for Landlord {
    type Payload = Tenant;
    type Error = &'static str;
    fn insert(&mut self, _: NewSequence<'_, Tenant>) -> Result<(), &'static str> {
        if mem::take(&mut self.3) {
            Err("not now")
        } else {
            Ok(())
        }
    }
    fn step(&mut self, input: &StepInput<'_>) -> Result<Vec<Produced>, &'static str> {
        let one = |&request: &RequestId| Produced {
            request,
            token: 1,
            finish: None,
        };
        Ok(input.decode.iter().map(one).collect())
    }
    fn extract_cache(
        &mut self,
        _: RequestId,
        slots: &[BlockSlot],
    ) -> Result<Vec<Tenant>, &'static str> {
        let tenant = |slot: &BlockSlot| Tenant(slot.block, self.1, self.0.clone(), self.2.clone());
        Ok(slots.iter().map(tenant).collect())
    }
    fn remove(&mut self, _: RequestId) {}
}

/// Evicted, given up for a prompt that parts, shut down: at no time could a block have gone to
/// somebody else while it was still filled.
#[test]
fn a_payload_is_gone_before_its_block_can_be_handed_out_again() {
    let spec = ModelCacheSpec::new(2, 1, 8, 4).unwrap();
    let pool: Arc<BlockPool> = Arc::new(BlockPool::new(spec, 12).unwrap());
    let (alice, bob) = (pool.agent("alice").unwrap(), pool.agent("bob").unwrap());
    let dropped = Arc::new(Mutex::new(Vec::new()));
    let backend = Landlord(pool.clone(), alice, dropped.clone(), true);
    let engine: BatchEngine<Landlord> =
        BatchEngine::new(pool.clone(), backend, EngineConfig::default()).unwrap();
    let run = |agent, prompt: Vec<u32>, keep_cache| {
        let request = NewRequest {
            keep_cache,
            ..NewRequest::new(agent, prompt, 2)
        };
        engine.submit(request, Instant::ZERO).unwrap();
        while engine.wake() == Wake::Now {
            engine.step(Instant::ZERO).unwrap();
        }
        let dropped = run_out(&dropped);
        assert!(dropped.iter().all(|&owned| owned), "{dropped:?}");
        dropped.len()
    };
    let (ten, parts) = (vec![7; 10], [vec![7; 5], vec![8; 5]].concat());
    assert_eq!(run(alice, ten.clone(), true), 0, "the first insert fails");
    assert_eq!(
        run(alice, ten.clone(), true),
        0,
        "twelve tokens in six blocks are kept"
    );
    assert_eq!(
        run(alice, parts, true),
        6,
        "two are given up, four handed over"
    );
    assert_eq!(
        run(bob, vec![9; 14], false),
        6,
        "evicted: with those four it is enough"
    );
    assert_eq!(run(alice, ten, true), 0);
    engine.shutdown(Instant::ZERO);
    assert_eq!(run_out(&dropped), vec![true; 6]);
    assert_eq!(pool.audit().unwrap().available, 12);
}

fn run_out(dropped: &Mutex<Vec<bool>>) -> Vec<bool> {
    mem::take(&mut *dropped.lock().unwrap())
}

/// A backend that does one thing only, at one place.
struct Bare {
    payload_panics: bool,
    unwinds: bool,
}

struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.0 || thread::panicking(), "a payload's drop panics");
    }
}

impl Generator for Bare {
    type Payload = Bomb;
    type Error = Infallible;
    fn insert(&mut self, _: NewSequence<'_, Bomb>) -> Result<(), Infallible> {
        Ok(())
    }
    fn step(&mut self, input: &StepInput<'_>) -> Result<Vec<Produced>, Infallible> {
        if self.unwinds {
            panic_any(1_u8);
        }
        let one = |&request: &RequestId| Produced {
            request,
            token: 1,
            finish: None,
        };
        Ok(input.decode.iter().map(one).collect())
    }
    fn extract_cache(
        &mut self,
        _: RequestId,
        slots: &[BlockSlot],
    ) -> Result<Vec<Bomb>, Infallible> {
        Ok(slots.iter().map(|_| Bomb(self.payload_panics)).collect())
    }
    fn remove(&mut self, _: RequestId) {}
}

fn bare(payload_panics: bool, unwinds: bool) -> (Arc<BlockPool>, BatchEngine<Bare>) {
    let spec = ModelCacheSpec::new(1, 1, 8, 4).unwrap();
    let pool: Arc<BlockPool> = Arc::new(BlockPool::new(spec, 4).unwrap());
    let backend = Bare {
        payload_panics,
        unwinds,
    };
    let engine = BatchEngine::new(pool.clone(), backend, EngineConfig::default()).unwrap();
    (pool, engine)
}

#[test]
fn a_payload_whose_drop_panics_kills_the_engine_and_frees_the_pool() {
    let (pool, engine) = bare(true, false);
    let now = Instant::ZERO;
    for (name, tokens) in [("a", 6), ("b", 8)] {
        let agent = pool.agent(name).unwrap();
        engine
            .submit(NewRequest::new(agent, vec![1; tokens], 2), now)
            .unwrap();
        while engine.wake() == Wake::Now {
            engine.step(now).unwrap();
        }
    }
    // b's blocks are only to be had by dropping a's cache.
    let dead = engine.step(now).unwrap_err();
    let StepError::EngineDead(DeathCause::Panicked { call: "evict", .. }) = dead else {
        panic!("{dead}")
    };
    assert_eq!(pool.audit().unwrap().available, 4);
}

/// Coroutines and threads are cancelled by unwinding them with what is no text: to swallow that
/// is wrong, and so is to stay behind half-way.
#[test]
fn what_is_no_panic_goes_through_and_leaves_a_dead_engine() {
    let (pool, engine) = bare(false, true);
    let (now, agent) = (Instant::ZERO, pool.agent("a").unwrap());
    let id = engine
        .submit(NewRequest::new(agent, vec![1], 2), now)
        .unwrap();
    let unwound = catch_unwind(AssertUnwindSafe(|| engine.step(now))).unwrap_err();
    assert_eq!(unwound.downcast_ref::<u8>(), Some(&1));
    assert_eq!(pool.audit().unwrap().available, 4);
    let told = engine.step(now).unwrap();
    assert!(matches!(told.as_slice(), [.., Event::Ended(ended)] if ended.request == id));
    assert!(matches!(engine.step(now), Err(StepError::EngineDead(_))));
}

/// A driver thread that sleeps when there is nothing to do, and clients that come and go.
#[test]
fn a_waiting_driver_is_woken_by_whoever_brings_work() {
    let mut bench = Bench::plain(64);
    let engine = bench.engine.clone();
    let driver = thread::spawn(move || {
        let mut told = Vec::new();
        while !matches!(engine.closed(), Some(Closed::ShutDown)) {
            told.extend(engine.step(Instant::ZERO).unwrap_or_default());
            if engine.wake() != Wake::Now {
                engine.wait(None);
            }
        }
        told.extend(engine.step(Instant::ZERO).unwrap_or_default());
        told
    });
    let ids: Vec<RequestId> = (0..20)
        .map(|i| {
            loop {
                match bench.submit(&format!("agent-{}", i % 4), &prompt(3, 3), 3) {
                    Ok(id) => return id,
                    Err(SubmitError::AgentBusy { .. }) => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .collect();
    while bench.engine.snapshot().counters.completed < 20 {
        thread::yield_now();
    }
    let told = bench.engine.shutdown(Instant::ZERO);
    bench.told.extend(driver.join().unwrap());
    bench.told.extend(told);
    for id in ids {
        assert_eq!(bench.end_of(id), LENGTH);
    }
    assert_eq!(bench.pool.snapshot().used, 0);
}

#[test]
fn a_timed_wait_ends() {
    let bench = Bench::plain(4);
    bench.engine.wait(Some(Duration::from_millis(1)));
    bench.engine.shutdown(bench.now);
    bench.engine.wait(None);
}

/// A thread that waits is told of every call, because it may bring an earlier deadline than the
/// one it waits for; it used to wait the whole time anew.
#[test]
fn a_call_ends_a_timed_wait() {
    let bench = Bench::plain(4);
    let others = (bench.pool.allocate(4, LayerId(0), bench.agent("other"))).expect("all of them");
    bench.submit("a", &[1, 2], 1).expect("it waits for blocks");
    bench.engine.step(bench.now).expect("it lives");
    assert!(
        matches!(bench.engine.wake(), Wake::At(_)),
        "the pool is asked again then"
    );

    let engine = bench.engine.clone();
    let (about_to, begun) = mpsc::channel();
    let waits = thread::spawn(move || {
        about_to.send(()).expect("somebody listens");
        engine.wait(Some(Duration::from_secs(3_600)));
    });
    begun.recv().expect("it begins");
    for name in ["b", "c", "d", "e", "f"] {
        // One of them comes while it waits.
        thread::sleep(Duration::from_millis(50));
        bench.submit(name, &[1], 1).expect("it waits as well");
    }
    waits.join().expect("it returned");
    drop(others);
}

/// Whoever waits for work is woken by the engine's death, too, whoever made the step. Nobody
/// calls in between: the blocks come back to the pool, which the engine asks again by itself.
#[test]
fn a_death_ends_a_wait() {
    let bench = Bench::plain(4);
    let others = (bench.pool.allocate(4, LayerId(0), bench.agent("other"))).expect("all of them");
    bench.submit("a", &[1, 2], 1).expect("it waits for blocks");
    bench.engine.step(bench.now).expect("it lives");
    let Wake::At(again) = bench.engine.wake() else {
        panic!("the pool is asked again");
    };
    let engine = bench.engine.clone();
    let waits = thread::spawn(move || engine.wait(None));
    thread::sleep(Duration::from_millis(50));
    drop(others);
    bench.backend.do_wrong(Wrong::InsertPanic);
    let told = bench.engine.step(again).expect("it tells of its death");
    assert!(bench.engine.closed().is_some(), "{told:?}");
    waits.join().expect("it returned");

    let engine = bench.engine.clone();
    (thread::spawn(move || engine.wait(None)).join()).expect("nor does it begin");
}
