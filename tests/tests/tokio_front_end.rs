//! The front end for tokio, on the real runtime and under a paused clock: no client waits for
//! another, none hangs, and every block comes back whatever ends first.
#![cfg(not(loom_run))]

#[path = "../../core/tests/engine/backend.rs"]
#[allow(dead_code, reason = "core's own tests use the rest of it")]
mod backend;

use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use backend::{Backend, Call, Handle, Wrong, expected};
use selvedge_core::engine::tokio::{EngineHandle, NoRuntime, TokenStream};
use selvedge_core::engine::{
    BatchEngine, CancelReason, Closed, DeathCause, DrainEnd, DrainError, End, EngineConfig,
    FailReason, Finish, NewRequest, StreamEnd, StreamItem, SubmitError, Token,
};
use selvedge_core::{BlockLease, BlockPool, LayerId, ModelCacheSpec};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep, timeout};

const MINUTE: Duration = Duration::from_secs(60);
const ROOM: u32 = 8;
const BLOCKS: u32 = 2_048;
const COMPLETED: End = End::Completed(Finish::Length);

fn threads() -> Runtime {
    (Builder::new_multi_thread().worker_threads(2).enable_time())
        .build()
        .expect("a valid setting")
}

/// On real threads; a hang is a failure.
fn real<T>(test: impl Future<Output = T>) -> T {
    let limited = async { timeout(Duration::from_secs(60), test).await };
    threads().block_on(limited).expect("it hangs")
}

/// On one thread, under a clock that goes on only when nothing else can.
fn paused<T>(test: impl Future<Output = T>) -> T {
    let mut builder = Builder::new_current_thread();
    let runtime = builder
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a valid setting");
    let limited = async { timeout(MINUTE * 48, test).await };
    runtime.block_on(limited).expect("it hangs")
}

struct Served {
    pool: Arc<BlockPool>,
    backend: Handle,
}

impl Served {
    fn new() -> (Self, EngineHandle<Backend>) {
        Served::with(EngineConfig::default())
    }

    fn with(config: EngineConfig) -> (Self, EngineHandle<Backend>) {
        let (served, engine) = Served::engine(config);
        let room = NonZeroU32::new(ROOM).expect("a valid setting");
        (
            served,
            EngineHandle::start(engine, room).expect("a valid setting"),
        )
    }

    fn engine(config: EngineConfig) -> (Self, BatchEngine<Backend>) {
        let spec = ModelCacheSpec::new(2, 1, 8, 4).expect("a valid setting");
        let pool = Arc::new(BlockPool::new(spec.clone(), BLOCKS).expect("a valid setting"));
        let backend = Handle::default();
        let model = Backend::new(spec, backend.clone());
        let engine = BatchEngine::new(pool.clone(), model, config).expect("as the test has it");
        (Served { pool, backend }, engine)
    }

    fn request(&self, name: &str, max_tokens: u32) -> NewRequest {
        let prompt = prompt(max_tokens);
        NewRequest::new(
            self.pool.agent(name).expect("as the test has it"),
            prompt,
            max_tokens,
        )
    }

    /// Leaves too few blocks for any request.
    fn take_all(&self) -> BlockLease<'_> {
        let other = self.pool.agent("other").expect("as the test has it");
        self.pool
            .allocate(BLOCKS, LayerId(0), other)
            .expect("as the test has it")
    }

    /// The next step of the model waits for what is returned to be dropped, or sent to.
    fn hold_a_step(&self) -> mpsc::Sender<()> {
        let (go, gone) = mpsc::channel();
        self.backend.during(Call::Step, move || {
            let _ = gone.recv_timeout(Duration::from_secs(60));
        });
        go
    }
}

/// Five tokens after which nothing stops early for `max` tokens.
fn prompt(max: u32) -> Vec<u32> {
    (0..)
        .map(|salt| (0..5).map(|i| i * 7 + salt).collect::<Vec<u32>>())
        .find(|prompt| expected(prompt, max).1 == Finish::Length)
        .expect("as the test has it")
}

async fn all_of(stream: &mut TokenStream<Backend>) -> (Vec<u32>, StreamEnd) {
    let mut tokens = Vec::new();
    loop {
        match stream.recv().await {
            StreamItem::Token(Token { token, index }) => {
                assert_eq!(index as usize, tokens.len(), "a gap in the stream");
                tokens.push(token);
            }
            StreamItem::End(end) => {
                assert_eq!(end.delivered as usize, tokens.len());
                assert_eq!(stream.recv().await, StreamItem::End(end.clone()));
                return (tokens, end);
            }
        }
    }
}

fn is_dead(end: &End) -> bool {
    matches!(end, End::Failed(FailReason::EngineDead(_)))
}

async fn streams_in_order() {
    let (served, engine) = Served::new();
    for turn in 0..3 {
        let request = served.request("alice", ROOM);
        let mut stream = engine.submit(request).await.expect("as the test has it");
        let (tokens, end) = all_of(&mut stream).await;
        assert_eq!(tokens, expected(&prompt(ROOM), ROOM).0);
        assert_eq!((&end.end, end.generated), (&COMPLETED, ROOM));
        assert_eq!(end.reused > 0, turn > 0);
    }
    assert_eq!(engine.shutdown().await, Closed::ShutDown);
    assert_eq!(served.pool.snapshot().used, 0);
}

#[test]
fn a_stream_has_its_tokens_in_order_and_then_the_end() {
    real(streams_in_order());
    paused(streams_in_order());
}

/// As futures' users see it: an end, and then nothing.
#[test]
fn a_stream_is_a_stream() {
    real(async {
        let (served, engine) = Served::new();
        let mut stream = engine
            .submit(served.request("alice", 2))
            .await
            .expect("as the test has it");
        let mut items = Vec::new();
        loop {
            let polled = std::future::poll_fn(|cx| {
                futures_core::Stream::poll_next(Pin::new(&mut stream), cx)
            });
            let Some(item) = polled.await else { break };
            items.push(item);
        }
        let ends = items.iter().filter(|i| matches!(i, StreamItem::End(_)));
        assert_eq!((items.len(), ends.count()), (3, 1));
        assert!(matches!(items.last(), Some(StreamItem::End(_))));
    });
}

#[test]
fn a_hundred_clients_at_once() {
    real(async {
        let (served, engine) = Served::with(EngineConfig {
            max_running: 16,
            ..EngineConfig::default()
        });
        let clients: Vec<_> = (0..100)
            .map(|i| {
                let (engine, request) =
                    (engine.clone(), served.request(&format!("agent-{i}"), ROOM));
                tokio::spawn(async move {
                    for _ in 0..3 {
                        let mut stream = engine
                            .submit(request.clone())
                            .await
                            .expect("as the test has it");
                        // Every seventh walks away in the middle.
                        if i % 7 == 0 {
                            let _ = stream.recv().await;
                            drop(stream);
                            while matches!(
                                engine.submit(request.clone()).await.map(drop),
                                Err(SubmitError::AgentBusy { .. })
                            ) {
                                tokio::task::yield_now().await;
                            }
                            return;
                        }
                        let (tokens, end) = all_of(&mut stream).await;
                        assert_eq!(end.end, COMPLETED);
                        assert_eq!(tokens, expected(&prompt(ROOM), ROOM).0);
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.expect("as the test has it");
        }
        assert_eq!(engine.drain(MINUTE).await, Ok(DrainEnd::Drained));
        let snapshot = engine.snapshot();
        assert_eq!(snapshot.counters.completed, 3 * 85);
        assert_eq!(snapshot.requests.total(), 0);
        assert_eq!(
            u64::from(served.pool.snapshot().used),
            snapshot.blocks_cached
        );
        engine.shutdown().await;
        assert_eq!(served.pool.snapshot().used, 0);
    });
}

async fn dropped_streams() {
    let (served, engine) = Served::new();
    drop(
        engine
            .submit(served.request("alice", ROOM))
            .await
            .expect("as the test has it"),
    );
    // In the middle of a step, too, which waits for its stream to be there.
    let (hand_over, handed_over) = mpsc::channel::<TokenStream<Backend>>();
    served.backend.during(Call::Step, move || {
        drop(handed_over.recv_timeout(Duration::from_secs(60)));
    });
    let stream = engine
        .submit(served.request("bob", ROOM))
        .await
        .expect("as the test has it");
    hand_over.send(stream).expect("as the test has it");
    assert_eq!(engine.drain(MINUTE).await, Ok(DrainEnd::Drained));
    assert_eq!(engine.snapshot().counters.cancelled, 2);
    engine.shutdown().await;
    assert_eq!(served.pool.snapshot().used, 0);
}

#[test]
fn a_dropped_stream_cancels_its_request_and_gives_its_blocks_back() {
    real(dropped_streams());
    paused(dropped_streams());
}

/// Not when the next token finds nobody, which may be never.
#[test]
fn a_dropped_stream_cancels_a_request_that_waits() {
    paused(async {
        let (served, engine) = Served::new();
        let _held = served.take_all();
        let stream = engine
            .submit(served.request("alice", ROOM))
            .await
            .expect("as the test has it");
        sleep(MINUTE).await;
        drop(stream);
        sleep(Duration::from_millis(1)).await;
        let snapshot = engine.snapshot();
        assert_eq!(
            (snapshot.requests.total(), snapshot.counters.cancelled),
            (0, 1)
        );
    });
}

async fn slow_and_fast() {
    let (served, engine) = Served::new();
    let mut slow = engine
        .submit(served.request("slow", 40))
        .await
        .expect("as the test has it");
    for _ in 0..5 {
        let mut fast = engine
            .submit(served.request("fast", ROOM))
            .await
            .expect("as the test has it");
        let (tokens, end) = all_of(&mut fast).await;
        assert_eq!(
            (tokens, end.end),
            (expected(&prompt(ROOM), ROOM).0, COMPLETED)
        );
    }
    let (tokens, end) = all_of(&mut slow).await;
    assert_eq!(end.end, End::Cancelled(CancelReason::SlowClient));
    assert_eq!(tokens, expected(&prompt(40), 40).0[..ROOM as usize]);
    assert!(end.generated < 40, "cancelled, not only cut: {end:?}");
}

#[test]
fn a_slow_client_is_cut_and_told_so_while_others_stream_on() {
    real(slow_and_fast());
    paused(slow_and_fast());
}

#[test]
fn a_deadline_passes_on_tokios_clock() {
    paused(async {
        let (served, engine) = Served::new();
        let _held = served.take_all();
        let request = NewRequest {
            deadline: Some(engine.now() + MINUTE),
            ..served.request("alice", ROOM)
        };
        let before = Instant::now();
        let mut stream = engine.submit(request).await.expect("as the test has it");
        let (_, end) = all_of(&mut stream).await;
        assert_eq!(end.end, End::Cancelled(CancelReason::Deadline));
        let waited = before.elapsed();
        assert!(
            waited >= MINUTE && waited < MINUTE + Duration::from_secs(1),
            "{waited:?}"
        );
    });
}

#[test]
fn blocks_that_others_give_back_are_asked_for_again() {
    paused(async {
        let (served, engine) = Served::new();
        let mut stream = {
            let _held = served.take_all();
            let stream = engine
                .submit(served.request("alice", ROOM))
                .await
                .expect("as the test has it");
            sleep(MINUTE).await;
            assert_eq!(engine.snapshot().requests.waiting, 1);
            stream
        };
        assert_eq!(all_of(&mut stream).await.1.end, COMPLETED);
    });
}

async fn drains() {
    let (served, engine) = Served::new();
    let go = served.hold_a_step();
    let mut stream = engine
        .submit(served.request("alice", ROOM))
        .await
        .expect("as the test has it");
    let draining = {
        let engine = engine.clone();
        tokio::spawn(async move { engine.drain(MINUTE).await })
    };
    while engine.closed().is_none() {
        tokio::task::yield_now().await;
    }
    let refused = engine
        .submit(served.request("bob", 1))
        .await
        .expect_err("as the test has it");
    assert_eq!(refused, SubmitError::Closed(Closed::Draining));
    let second = engine.drain(MINUTE).await;
    assert!(
        matches!(second, Err(DrainError::Draining { .. })),
        "{second:?}"
    );
    drop(go);
    assert_eq!(
        draining.await.expect("as the test has it"),
        Ok(DrainEnd::Drained)
    );
    assert_eq!(all_of(&mut stream).await.1.end, COMPLETED);
    assert_eq!(engine.drain(MINUTE).await, Ok(DrainEnd::Drained), "still");
    engine.resume().expect("as the test has it");
    let mut stream = engine
        .submit(served.request("bob", 1))
        .await
        .expect("as the test has it");
    assert_eq!(all_of(&mut stream).await.1.end, COMPLETED);
}

#[test]
fn a_drain_lets_what_was_accepted_end_and_refuses_the_rest() {
    real(drains());
    paused(drains());
}

#[test]
fn a_drain_ends_by_its_time() {
    paused(async {
        let (served, engine) = Served::new();
        let held = served.take_all();
        let mut stream = engine
            .submit(served.request("alice", ROOM))
            .await
            .expect("as the test has it");
        let before = Instant::now();
        let drained = engine.drain(MINUTE).await;
        assert_eq!(drained, Ok(DrainEnd::TimedOut { left: 1 }));
        assert!(before.elapsed() >= MINUTE);
        // And it is open again.
        drop(held);
        let mut bob = engine
            .submit(served.request("bob", 1))
            .await
            .expect("as the test has it");
        assert_eq!(all_of(&mut bob).await.1.end, COMPLETED);
        assert_eq!(all_of(&mut stream).await.1.end, COMPLETED);
    });
}

#[test]
fn a_full_queue_refuses_at_once() {
    paused(async {
        let (served, engine) = Served::with(EngineConfig {
            max_waiting: 1,
            ..EngineConfig::default()
        });
        let _held = served.take_all();
        let _first = engine
            .submit(served.request("alice", ROOM))
            .await
            .expect("as the test has it");
        let before = Instant::now();
        let refused = engine
            .submit(served.request("bob", ROOM))
            .await
            .expect_err("as the test has it");
        assert_eq!(refused, SubmitError::QueueFull { waiting: 1 });
        assert_eq!(before.elapsed(), Duration::ZERO);
    });
}

async fn shuts_down() {
    let (served, engine) = Served::new();
    let go = served.hold_a_step();
    let mut stream = engine
        .submit(served.request("alice", ROOM))
        .await
        .expect("as the test has it");
    let draining = {
        let engine = engine.clone();
        tokio::spawn(async move { engine.drain(MINUTE).await })
    };
    while engine.closed().is_none() {
        tokio::task::yield_now().await;
    }
    drop(go);
    assert_eq!(engine.shutdown().await, Closed::ShutDown);
    let drained = draining.await.expect("as the test has it");
    let end = all_of(&mut stream).await.1.end;
    // It may have been quicker.
    match end {
        End::Cancelled(CancelReason::ShutDown) => {
            assert_eq!(drained, Err(DrainError::Closed(Closed::ShutDown)));
        }
        end => assert_eq!((end, drained), (COMPLETED, Ok(DrainEnd::Drained))),
    }
    let refused = engine
        .submit(served.request("bob", 1))
        .await
        .expect_err("as the test has it");
    assert_eq!(refused, SubmitError::Closed(Closed::ShutDown));
    assert_eq!(engine.shutdown().await, Closed::ShutDown, "again");
    assert_eq!(served.pool.snapshot().used, 0);
}

#[test]
fn shutdown_ends_streams_and_drains() {
    real(shuts_down());
    paused(shuts_down());
}

async fn backend_dies(wrong: Wrong) {
    let (served, engine) = Served::new();
    let go = served.hold_a_step();
    let mut streams = Vec::new();
    for name in ["alice", "bob", "carol"] {
        streams.push(
            engine
                .submit(served.request(name, 40))
                .await
                .expect("as the test has it"),
        );
    }
    served.backend.do_wrong(wrong);
    drop(go);
    for stream in &mut streams {
        let end = all_of(stream).await.1.end;
        assert!(is_dead(&end), "{end:?}");
    }
    let refused = engine
        .submit(served.request("dave", 1))
        .await
        .expect_err("as the test has it");
    assert!(matches!(
        refused,
        SubmitError::Closed(Closed::EngineDead(_))
    ));
    let drained = engine.drain(MINUTE).await;
    assert!(matches!(
        drained,
        Err(DrainError::Closed(Closed::EngineDead(_)))
    ));
    assert!(matches!(engine.shutdown().await, Closed::EngineDead(_)));
    assert_eq!(served.pool.snapshot().used, 0);
}

#[test]
fn a_dead_backend_ends_every_stream_and_refuses_every_later_call() {
    for wrong in [Wrong::StepPanic, Wrong::StepError] {
        real(backend_dies(wrong));
        paused(backend_dies(wrong));
    }
}

/// As the way coroutines and threads are cancelled: the engine hands such a panic on.
#[test]
fn what_unwinds_through_the_engine_is_its_end_too() {
    real(async {
        let (served, engine) = Served::new();
        let unwind = || std::panic::resume_unwind(Box::new(7_u8));
        served.backend.during(Call::Step, unwind);
        let mut stream = engine
            .submit(served.request("alice", ROOM))
            .await
            .expect("as the test has it");
        assert!(is_dead(&all_of(&mut stream).await.1.end));
        assert!(matches!(engine.shutdown().await, Closed::EngineDead(_)));
        assert_eq!(served.pool.snapshot().used, 0);
    });
}

#[test]
fn an_aborted_task_ends_every_stream_and_the_engine() {
    for in_step in [false, true] {
        real(async {
            let (served, engine) = Served::new();
            let held = (!in_step).then(|| served.take_all());
            let (entered, in_it) = mpsc::channel();
            let (go, gone) = mpsc::channel::<()>();
            served.backend.during(Call::Step, move || {
                entered.send(()).expect("as the test has it");
                let _ = gone.recv_timeout(Duration::from_secs(60));
            });
            let mut stream = engine
                .submit(served.request("alice", ROOM))
                .await
                .expect("as the test has it");
            if in_step {
                in_it.recv().expect("as the test has it");
            }
            engine.abort();
            // Before the step is over.
            let (_, end) = all_of(&mut stream).await;
            assert!(is_dead(&end.end), "{end:?}");
            let closed = engine.shutdown().await;
            let cause = DeathCause::DriverGone {
                message: "the step loop was left half-way".to_owned(),
            };
            assert_eq!(closed, Closed::EngineDead(cause));
            let refused = engine
                .submit(served.request("bob", 1))
                .await
                .expect_err("as the test has it");
            assert_eq!(refused, SubmitError::Closed(closed));
            drop((go, held));
            while served.pool.snapshot().used > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        });
    }
}

#[test]
fn a_runtime_that_ends_in_the_middle_leaves_nobody_waiting_and_no_block() {
    for in_step in [false, true] {
        let runtime = threads();
        let (served, engine) = {
            let _entered = runtime.enter();
            Served::new()
        };
        let held = (!in_step).then(|| served.take_all());
        let (entered, in_it) = mpsc::channel();
        served.backend.during(Call::Step, move || {
            entered.send(()).expect("as the test has it");
            std::thread::sleep(Duration::from_millis(20));
        });
        let mut stream = (runtime.block_on(engine.submit(served.request("alice", 40))))
            .expect("as the test has it");
        if in_step {
            in_it.recv().expect("as the test has it");
        }
        drop(runtime);
        drop(held);
        let end = real(all_of(&mut stream)).1.end;
        assert!(is_dead(&end), "{end:?}");
        let refused =
            real(engine.submit(served.request("bob", 1))).expect_err("as the test has it");
        assert!(matches!(
            refused,
            SubmitError::Closed(Closed::EngineDead(_))
        ));
        assert!(matches!(real(engine.shutdown()), Closed::EngineDead(_)));
        assert_eq!(served.pool.snapshot().used, 0);
        drop((engine, stream));
        assert_eq!(
            Arc::strong_count(&served.pool),
            1,
            "nobody holds the engine"
        );
    }
}

async fn last_handle(pool: &mut Option<Arc<BlockPool>>) {
    let (served, engine) = Served::new();
    let mut stream = engine
        .submit(served.request("alice", ROOM))
        .await
        .expect("as the test has it");
    drop(engine.clone());
    drop(engine);
    let (_, end) = all_of(&mut stream).await;
    assert_eq!((end.end, end.cached), (COMPLETED, 5 + ROOM));
    drop(stream);
    *pool = Some(served.pool);
}

#[test]
fn the_engine_ends_with_its_last_handle_once_all_is_done() {
    let mut pool = None;
    paused(async {
        last_handle(&mut pool).await;
        sleep(MINUTE).await;
    });
    let pool = pool.expect("as the test has it");
    assert_eq!(pool.snapshot().used, 0, "not even a cache is left");
    assert_eq!(Arc::strong_count(&pool), 1, "nobody holds the engine");
}

/// The one thread of the runtime runs another task, which the step waits for.
#[test]
fn a_step_blocks_no_worker() {
    paused(async {
        let (served, engine) = Served::new();
        let go = served.hold_a_step();
        let mut stream = engine
            .submit(served.request("alice", 1))
            .await
            .expect("as the test has it");
        let other = tokio::spawn(async move { go.send(()).is_ok() });
        assert!(other.await.expect("as the test has it"));
        assert_eq!(all_of(&mut stream).await.1.end, COMPLETED);
    });
}

#[test]
fn there_must_be_a_runtime() {
    let (_, engine) = Served::engine(EngineConfig::default());
    let refused = EngineHandle::start(engine, NonZeroU32::MIN).map(drop);
    assert_eq!(refused, Err(NoRuntime));
}
