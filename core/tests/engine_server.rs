//! The front end for threads: each stream has its tokens in order and then its end, whatever the
//! client, the backend or the loop's own thread does.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "real threads on the shipped platform"
)]

mod engine;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use selvedge_core::engine::{
    BatchEngine, CancelReason, Clients, Closed, DeathCause, DrainEnd, DrainError, End, Ended,
    EngineConfig, EngineServer, Event, FailReason, Finish, NewClient, NewRequest, Refused,
    StreamEnd, StreamItem, SubmitError, Token, TokenSink, TokenStream,
};
use selvedge_core::time::{Clock, Instant, SystemClock};
use selvedge_core::{AgentId, BlockPool, RequestId};

use self::engine::backend::{Backend, Call, Handle, Wrong, expected};
use self::engine::bench::{prompt, spec};

/// Longer than anything here takes, however busy the machine.
const LONG: Duration = Duration::from_secs(60);
const ROOM: u32 = 8;

struct Served {
    server: EngineServer<Backend>,
    pool: Arc<BlockPool>,
    backend: Handle,
}

impl Served {
    fn with(clock: Box<dyn Clock>) -> Self {
        let (pool, backend) = (
            Arc::new(BlockPool::new(spec(2), 256).unwrap()),
            Handle::default(),
        );
        let generator = Backend::new(spec(2), backend.clone());
        let engine = BatchEngine::new(pool.clone(), generator, EngineConfig::default()).unwrap();
        let room = NonZeroU32::new(ROOM).unwrap();
        Served {
            server: EngineServer::new(engine, room, clock),
            pool,
            backend,
        }
    }

    fn new() -> Self {
        Served::with(Box::new(SystemClock::new()))
    }

    fn request(&self, name: &str, prompt: &[u32], max_tokens: u32) -> NewRequest {
        NewRequest::new(self.pool.agent(name).unwrap(), prompt.to_vec(), max_tokens)
    }

    fn ask(&self, name: &str, max_tokens: u32) -> TokenStream<Backend> {
        let request = self.request(name, &prompt(5, max_tokens), max_tokens);
        self.server.submit(request).unwrap()
    }
}

/// What comes, with a limit on the waiting so that a hang is a failure.
fn all_of(stream: &mut TokenStream<Backend>) -> (Vec<u32>, StreamEnd) {
    let mut tokens = Vec::new();
    loop {
        match stream.recv_timeout(LONG).expect("it hangs") {
            StreamItem::Token(Token { token, index }) => {
                assert_eq!(index as usize, tokens.len(), "a gap in the stream");
                tokens.push(token);
            }
            StreamItem::End(end) => {
                assert_eq!(end.delivered as usize, tokens.len());
                assert_eq!(stream.recv(), StreamItem::End(end.clone()), "and stays so");
                return (tokens, end);
            }
        }
    }
}

fn dead(cause: &DeathCause) -> End {
    End::Failed(FailReason::EngineDead(cause.clone()))
}

#[test]
fn each_client_gets_its_own_tokens_in_order_and_then_the_end() {
    let served = Served::new();
    let stepping = served.server.start();
    let clients: Vec<_> = (0..8)
        .map(|i| {
            let server = served.server.clone();
            let prompt = prompt(4 + i, ROOM);
            let request = served.request(&format!("agent-{i}"), &prompt, ROOM);
            thread::spawn(move || {
                for turn in 0..20 {
                    let mut stream = server.submit(request.clone()).unwrap();
                    let (tokens, end) = all_of(&mut stream);
                    assert_eq!(tokens, expected(&prompt, ROOM).0);
                    assert_eq!(end.end, End::Completed(Finish::Length));
                    assert_eq!((end.prompt, end.generated), (4 + i, ROOM));
                    assert_eq!(end.cached, 4 + i + ROOM);
                    assert_eq!(end.reused > 0, turn > 0, "from the second turn on");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    served.server.shutdown();
    assert_eq!(stepping.join().unwrap(), Ok(Closed::ShutDown));
    assert_eq!(served.pool.snapshot().used, 0);
}

#[test]
fn a_dropped_stream_cancels_its_request_at_once_and_gives_its_blocks_back() {
    let served = Served::new();
    // Nobody steps yet: so it is not the next token that finds the client gone.
    drop(served.ask("alice", ROOM));
    assert_eq!(served.server.snapshot().requests.ending, 1);
    let stepping = served.server.start();
    // And in the middle of a step, which waits for its stream to be there.
    let (hand_over, handed_over) = mpsc::channel();
    let (dropped, in_step) = mpsc::channel();
    served.backend.during(Call::Step, move || {
        drop(handed_over.recv_timeout(LONG).unwrap());
        dropped.send(()).unwrap();
    });
    hand_over.send(served.ask("bob", ROOM)).unwrap();
    in_step.recv_timeout(LONG).unwrap();
    let mut after = served.ask("carol", ROOM);
    assert_eq!(all_of(&mut after).1.end, End::Completed(Finish::Length));
    served.server.drain(LONG).unwrap();
    let counters = served.server.snapshot().counters;
    assert_eq!((counters.cancelled, counters.completed), (2, 1));
    served.server.shutdown();
    stepping.join().unwrap().unwrap();
    assert_eq!(served.pool.snapshot().used, 0);
}

#[test]
fn a_slow_client_is_cut_and_told_so_while_others_stream_on() {
    let served = Served::new();
    let stepping = served.server.start();
    let mut slow = served.ask("slow", 40);
    for _ in 0..5 {
        let mut fast = served.ask("fast", ROOM);
        let (tokens, end) = all_of(&mut fast);
        assert_eq!(tokens, expected(&prompt(5, ROOM), ROOM).0);
        assert_eq!(end.end, End::Completed(Finish::Length));
    }
    let (tokens, end) = all_of(&mut slow);
    assert_eq!(end.end, End::Cancelled(CancelReason::SlowClient));
    assert_eq!(tokens, expected(&prompt(5, 40), 40).0[..ROOM as usize]);
    assert!(end.generated < 40, "cancelled, not only cut: {end:?}");
    served.server.shutdown();
    stepping.join().unwrap().unwrap();
}

#[test]
fn a_deadline_ends_the_stream() {
    let served = Served::new();
    let stepping = served.server.start();
    // More blocks than are left: so it waits until its time is up.
    let others = served.pool.agent("other").unwrap();
    let held = served
        .pool
        .allocate(200, selvedge_core::LayerId(0), others)
        .unwrap();
    let request = NewRequest {
        deadline: Some(served.server.now() + Duration::from_millis(20)),
        ..served.request("alice", &prompt(200, 8), 8)
    };
    let mut stream = served.server.submit(request).unwrap();
    let (_, end) = all_of(&mut stream);
    assert_eq!(end.end, End::Cancelled(CancelReason::Deadline));
    drop(held);
    served.server.shutdown();
    stepping.join().unwrap().unwrap();
}

#[test]
fn a_dead_backend_ends_every_stream_and_refuses_every_later_call() {
    for wrong in [Wrong::StepPanic, Wrong::StepError] {
        let served = Served::new();
        let mut streams: Vec<_> = (0..3).map(|i| served.ask(&format!("{i}"), ROOM)).collect();
        served.backend.do_wrong(wrong);
        let stepping = served.server.start();
        let Ok(Closed::EngineDead(cause)) = stepping.join().unwrap() else {
            panic!("it should be dead");
        };
        for stream in &mut streams {
            assert_eq!(all_of(stream).1.end, dead(&cause));
        }
        let closed = Closed::EngineDead(cause);
        let request = served.request("late", &[1], 1);
        let refused = served.server.submit(request).unwrap_err();
        assert_eq!(refused, SubmitError::Closed(closed.clone()));
        let refused = served.server.drain(LONG).unwrap_err();
        assert_eq!(refused, DrainError::Closed(closed.clone()));
        assert_eq!(served.server.resume(), Err(DrainError::Closed(closed)));
        served.server.shutdown();
        assert_eq!(served.pool.snapshot().used, 0, "{wrong:?}");
    }
}

/// A clock that breaks.
#[derive(Debug)]
struct Breaks(Arc<AtomicBool>);

impl Clock for Breaks {
    fn now(&self) -> Instant {
        if self.0.swap(false, Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("the clock broke".to_owned()));
        }
        Instant::ZERO
    }
}

/// Not the backend: the thread of the step loop itself.
#[test]
fn a_loop_whose_thread_dies_takes_every_stream_with_it_and_the_engine() {
    let broken = Arc::new(AtomicBool::new(false));
    let served = Served::with(Box::new(Breaks(broken.clone())));
    let mut streams: Vec<_> = (0..3).map(|i| served.ask(&format!("{i}"), ROOM)).collect();
    let server = served.server.clone();
    let draining = thread::spawn(move || server.drain(LONG));
    while served.server.closed().is_none() {
        thread::yield_now();
    }
    broken.store(true, Ordering::SeqCst);
    assert!(served.server.start().join().is_err(), "the clock's panic");
    let cause = DeathCause::DriverGone {
        message: "the step loop was left half-way".to_owned(),
    };
    for stream in &mut streams {
        let (tokens, end) = all_of(stream);
        assert_eq!((tokens.len(), end.prompt), (0, 5));
        assert_eq!(end.end, dead(&cause));
    }
    let closed = Closed::EngineDead(cause);
    let drained = draining.join().unwrap();
    assert_eq!(drained, Err(DrainError::Closed(closed.clone())));
    assert_eq!(served.server.closed(), Some(closed));
    assert_eq!(served.pool.snapshot().used, 0);
}

#[test]
fn a_drain_ends_drained_or_by_its_time_and_refuses_meanwhile() {
    let served = Served::new();
    let mut stream = served.ask("alice", ROOM);
    // Nobody steps and nobody looks at the time until it is up.
    let server = served.server.clone();
    let draining = thread::spawn(move || server.drain(Duration::from_millis(1)));
    while served.server.closed().is_none() {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(5));
    let stepping = served.server.start();
    let timed_out = draining.join().unwrap();
    assert_eq!(timed_out, Ok(DrainEnd::TimedOut { left: 1 }));
    all_of(&mut stream);

    let (go, gone) = mpsc::channel::<()>();
    served.backend.during(Call::Step, move || {
        let _ = gone.recv_timeout(LONG);
    });
    let mut stream = served.ask("alice", ROOM);
    let server = served.server.clone();
    let draining = thread::spawn(move || server.drain(LONG));
    while served.server.closed().is_none() {
        thread::yield_now();
    }
    let request = served.request("bob", &[1], 1);
    let refused = served.server.submit(request.clone()).unwrap_err();
    assert_eq!(refused, SubmitError::Closed(Closed::Draining));
    assert!(matches!(
        served.server.drain(LONG),
        Err(DrainError::Draining { .. })
    ));
    assert!(matches!(
        served.server.resume(),
        Err(DrainError::Draining { .. })
    ));
    go.send(()).unwrap();
    assert_eq!(draining.join().unwrap(), Ok(DrainEnd::Drained));
    // The end was there before the drain's.
    while let Some(StreamItem::Token(_)) = stream.try_recv() {}
    assert!(matches!(stream.try_recv(), Some(StreamItem::End(_))));
    // Once more changes nothing.
    assert_eq!(served.server.drain(LONG), Ok(DrainEnd::Drained));
    served.server.resume().unwrap();
    let mut stream = served.server.submit(request).unwrap();
    assert!(matches!(all_of(&mut stream).1.end, End::Completed(_)));
    served.server.shutdown();
    stepping.join().unwrap().unwrap();
}

#[test]
fn shutdown_ends_every_stream_with_or_without_a_loop() {
    for started in [true, false] {
        let served = Served::new();
        let (go, gone) = mpsc::channel::<()>();
        served.backend.during(Call::Step, move || {
            let _ = gone.recv_timeout(LONG);
        });
        let mut streams: Vec<_> = (0..3).map(|i| served.ask(&format!("{i}"), ROOM)).collect();
        let stepping = started.then(|| served.server.start());
        served.server.shutdown();
        let _ = go.send(());
        if let Some(stepping) = stepping {
            let ended = stepping.join().unwrap();
            // Shut down before the thread came to it, the loop is over.
            assert!(matches!(ended, Ok(Closed::ShutDown) | Err(_)), "{ended:?}");
        }
        for stream in &mut streams {
            let end = all_of(stream).1.end;
            assert_eq!(end, End::Cancelled(CancelReason::ShutDown));
        }
        let refused = served.server.submit(served.request("late", &[1], 1));
        let refused = refused.unwrap_err();
        assert_eq!(refused, SubmitError::Closed(Closed::ShutDown));
        assert!(served.server.run().is_err(), "it is over");
        assert_eq!(served.pool.snapshot().used, 0);
    }
}

// The routing itself, as plain state.

/// Takes so many tokens, and notes everything.
struct Notes {
    room: usize,
    gone: bool,
    told: mpsc::Sender<StreamItem>,
}

impl TokenSink for Notes {
    fn try_send(&mut self, token: Token) -> Result<(), Refused> {
        if self.gone {
            return Err(Refused::Closed);
        }
        self.room = self.room.checked_sub(1).ok_or(Refused::Full)?;
        self.told.send(StreamItem::Token(token)).unwrap();
        Ok(())
    }

    fn end(self, end: StreamEnd) {
        self.told.send(StreamItem::End(end)).unwrap();
    }
}

const ID: RequestId = RequestId(1);

fn client(room: usize, gone: bool) -> (Vec<NewClient<Notes>>, mpsc::Receiver<StreamItem>) {
    let (told, notes) = mpsc::channel();
    let sink = Notes { room, gone, told };
    let client = NewClient {
        request: ID,
        prompt: 3,
        sink,
    };
    (vec![client], notes)
}

fn token(index: u32) -> Event {
    Event::Token {
        request: ID,
        token: 100 + index,
        index,
    }
}

fn ended(generated: u32) -> Event {
    let pool = BlockPool::<selvedge_core::Std>::new(spec(1), 1).unwrap();
    let agent: AgentId = pool.agent("alice").unwrap();
    Event::Ended(Ended {
        request: ID,
        agent,
        end: End::Completed(Finish::Length),
        prompt: 3,
        generated,
        cached: 3 + generated,
    })
}

/// Tokens told, and the one end.
fn told(notes: &mpsc::Receiver<StreamItem>) -> (u32, Option<End>) {
    let (mut tokens, mut end) = (0, None);
    for item in notes.try_iter() {
        assert_eq!(end, None, "{item:?} after the end");
        match item {
            StreamItem::Token(Token { index, .. }) => {
                assert_eq!(index, tokens);
                tokens += 1;
            }
            StreamItem::End(told) => {
                assert_eq!(told.delivered, tokens);
                end = Some(told.end);
            }
        }
    }
    (tokens, end)
}

const COMPLETED: Option<End> = Some(End::Completed(Finish::Length));

#[test]
fn events_that_come_before_their_client_wait_for_it() {
    let mut clients = Clients::new();
    let (came, notes) = client(9, false);
    let cancel = clients.deliver(Vec::new(), vec![token(0), token(1)], true);
    assert_eq!(cancel, []);
    let cancel = clients.deliver(Vec::new(), vec![token(2)], true);
    assert_eq!(cancel, []);
    let cancel = clients.deliver(came, vec![token(3), ended(4)], false);
    assert_eq!((cancel, told(&notes)), (Vec::new(), (4, COMPLETED)));
    assert!(clients.is_empty());
    // While nobody is expected they are nobody's.
    let _ = clients.deliver(Vec::new(), vec![token(0)], false);
    let (came, notes) = client(9, false);
    let _ = clients.deliver(came, vec![], false);
    assert_eq!(told(&notes), (0, None));
}

#[test]
fn a_stream_that_lacks_a_token_says_so_whatever_became_of_its_request() {
    let slow = Some(End::Cancelled(CancelReason::SlowClient));
    let mut clients = Clients::new();
    let (came, notes) = client(2, false);
    // The last token and the end come in one step: there is nothing to cancel any more.
    let cancel = clients.deliver(came, vec![token(0), token(1), token(2), ended(3)], false);
    assert_eq!(cancel, [(ID, CancelReason::SlowClient)]);
    assert_eq!(told(&notes), (2, slow.clone()));

    // It is told once whom to cancel, and no token comes after the gap.
    let (came, notes) = client(1, false);
    let cancel = clients.deliver(came, vec![token(0), token(1), token(2)], false);
    assert_eq!(cancel, [(ID, CancelReason::SlowClient)]);
    clients.close(&Closed::ShutDown);
    assert_eq!(told(&notes), (1, slow));

    let (came, notes) = client(9, true);
    let cancel = clients.deliver(came, vec![token(0), token(1)], false);
    assert_eq!(cancel, [(ID, CancelReason::ClientGone)]);
    let _ = clients.deliver(Vec::new(), vec![ended(2)], false);
    let gone = Some(End::Cancelled(CancelReason::ClientGone));
    assert_eq!(told(&notes), (0, gone));
}

#[test]
fn who_comes_after_the_end_gets_what_there_was_and_an_end() {
    let shut_down = Some(End::Cancelled(CancelReason::ShutDown));
    for (events, expected) in [
        (vec![], (0, shut_down.clone())),
        (vec![token(0)], (1, shut_down)),
        (vec![token(0), ended(1)], (1, COMPLETED)),
    ] {
        let mut clients = Clients::<Notes>::new();
        let _ = clients.deliver(Vec::new(), events, true);
        let early = clients.take_early().remove(&ID).unwrap_or_default();
        let (mut came, notes) = client(9, false);
        Clients::settle(came.remove(0), early, &Closed::ShutDown);
        assert_eq!(told(&notes), expected);
    }
}
