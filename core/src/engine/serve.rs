//! [`EngineServer`]: the front end for threads, over the platform, so that checkers run it too.

use core::fmt;
use core::num::NonZeroU32;
use core::time::Duration;

use thiserror::Error;

use super::action::{CancelReason, Snapshot};
use super::clients::StreamItem;
use super::clients::{StreamEnd, Token};
use super::desk::{Bell, Channels, Desk, DrainEnd, Next, Reply, Run};
use super::error::{CancelError, Closed, DrainError, SubmitError};
use super::generator::Generator;
use super::shell::{BatchEngine, NewRequest};
use super::stream::{ChannelSink, TokenReceiver, token_channel};
use crate::platform::{Condvar, Mutex, Platform, Shared, Std};
use crate::time::{Clock, Instant};
use crate::{BlockPool, RequestId};

/// A batch engine with its step loop and its clients. A clone is another handle of the same.
///
/// One thread runs the loop: [`Self::run`]. Any thread submits, and gets a stream of the tokens.
///
/// * Dropping a stream cancels its request at once.
/// * A client that takes its tokens too slowly is cancelled when its channel is full; nobody
///   waits for it.
/// * If the backend or the loop's thread dies, every stream ends with
///   [`FailReason::EngineDead`](super::FailReason::EngineDead) and every later call says so.
/// * The loop ends by [`Self::shutdown`] or by the engine's death, never by itself.
///
/// ```
/// # use std::convert::Infallible;
/// use std::{num::NonZeroU32, sync::Arc};
///
/// # use selvedge_core::engine::{BlockSlot, Generator, NewSequence, Produced, StepInput};
/// use selvedge_core::engine::{BatchEngine, EngineConfig, EngineServer, NewRequest};
/// use selvedge_core::time::SystemClock;
/// use selvedge_core::{BlockPool, ModelCacheSpec, RequestId};
///
/// # struct Counting(u32);
/// # impl Generator for Counting {
/// #     type Payload = ();
/// #     type Error = Infallible;
/// #     fn insert(&mut self, _: NewSequence<'_, ()>) -> Result<(), Infallible> { Ok(()) }
/// #     fn step(&mut self, input: &StepInput<'_>) -> Result<Vec<Produced>, Infallible> {
/// #         self.0 += 1;
/// #         let token = self.0;
/// #         let one = |&request: &RequestId| Produced { request, token, finish: None };
/// #         Ok(input.decode.iter().map(one).collect())
/// #     }
/// #     fn extract_cache(&mut self, _: RequestId, slots: &[BlockSlot]) -> Result<Vec<()>, Infallible> {
/// #         Ok(vec![(); slots.len()])
/// #     }
/// #     fn remove(&mut self, _: RequestId) {}
/// # }
/// let pool: Arc<BlockPool> = Arc::new(BlockPool::new(ModelCacheSpec::new(1, 1, 64, 16)?, 64)?);
/// let alice = pool.agent("alice")?;
/// let engine: BatchEngine<Counting> = BatchEngine::new(pool, Counting(0), EngineConfig::default())?;
/// let room = NonZeroU32::new(32).expect("it is not zero");
/// let server = EngineServer::new(engine, room, Box::new(SystemClock::new()));
/// let stepping = server.start();
///
/// let mut stream = server.submit(NewRequest::new(alice, vec![7; 5], 3))?;
/// let (tokens, end) = stream.collect();
/// assert_eq!((tokens.len(), end.generated), (3, 3));
/// server.shutdown();
/// stepping.join().expect("it has not panicked")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct EngineServer<G: Generator, P: Platform = Std> {
    desk: P::Arc<Desk<G, P, Threads<P>>>,
    room: NonZeroU32,
}

/// The tokens of one request, in order, and then its end. Dropping it cancels the request.
pub struct TokenStream<G: Generator, P: Platform = Std> {
    tokens: TokenReceiver<P>,
    request: RequestId,
    desk: P::Arc<Desk<G, P, Threads<P>>>,
}

/// The step loop was not run: another thread does, or it is over.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the step loop runs on another thread already, or has ended")]
pub struct AlreadyRunning;

impl<G: Generator, P: Platform> EngineServer<G, P> {
    /// Puts a front end before `engine`. Each stream has room for `room` tokens that its client
    /// has not taken yet. Nothing runs until somebody calls [`Self::run`] or [`Self::start`].
    pub fn new(engine: BatchEngine<G, P>, room: NonZeroU32, clock: Box<dyn Clock>) -> Self {
        let bell = ThreadBell {
            rung: P::Mutex::new(false),
            changed: P::Condvar::new(),
        };
        EngineServer {
            desk: P::Arc::new(Desk::new(engine, bell, clock)),
            room,
        }
    }

    /// Starts a thread for the step loop.
    #[must_use = "joining the thread tells what the loop ended of"]
    pub fn start(&self) -> P::JoinHandle<Result<Closed, AlreadyRunning>> {
        let server = self.clone();
        P::spawn(move || server.run())
    }

    /// Runs the step loop on this thread until the engine is shut down or dead, and returns which
    /// of the two. By then every stream has its end.
    ///
    /// # Errors
    /// [`AlreadyRunning`] if another thread runs it, or it is over.
    pub fn run(&self) -> Result<Closed, AlreadyRunning> {
        let mut run = Run::<G, P, Threads<P>>::begin(&self.desk).ok_or(AlreadyRunning)?;
        loop {
            let stepped = self.desk.engine.step(self.desk.now());
            match run.after(stepped) {
                Next::Step => {}
                Next::Wait => self.desk.bell.wait(None),
                Next::WaitUntil(at) => {
                    let left = at.saturating_since(self.desk.now());
                    self.desk.bell.wait(Some(left));
                }
                Next::Over => return Ok(run.close()),
            }
        }
    }

    /// Accepts a request, or says at once why not. Never waits for a step or for room.
    ///
    /// # Errors
    /// Each of [`SubmitError`].
    pub fn submit(&self, request: NewRequest) -> Result<TokenStream<G, P>, SubmitError> {
        let (sink, tokens) = token_channel(self.room);
        let request = self.desk.submit(request, sink)?;
        Ok(TokenStream {
            tokens,
            request,
            desk: self.desk.clone(),
        })
    }

    /// Ends a request, whose stream says [`CancelReason::Requested`].
    ///
    /// # Errors
    /// Each of [`CancelError`].
    pub fn cancel(&self, request: RequestId) -> Result<(), CancelError> {
        self.desk.cancel(request, CancelReason::Requested)
    }

    /// Refuses requests from now on, lets those accepted end for at most `at_most`, and returns
    /// how that went. By then every stream that has ended has its end.
    ///
    /// # Errors
    /// [`DrainError::Draining`] if a drain is under way, [`DrainError::Closed`] if the engine is
    /// closed, or is before it has drained.
    pub fn drain(&self, at_most: Duration) -> Result<DrainEnd, DrainError> {
        let answer = P::Arc::new(Answer {
            given: P::Mutex::new(None),
            changed: P::Condvar::new(),
        });
        let deadline = self.desk.now() + at_most;
        self.desk.drain(deadline, ThreadReply(answer.clone()))?;
        let mut given = answer.given.lock();
        loop {
            if let Some(answer) = given.take() {
                return Ok(answer?);
            }
            given = answer.changed.wait(given);
        }
    }

    /// Accepts requests again after a drain.
    ///
    /// # Errors
    /// [`DrainError::Draining`] while one is under way, [`DrainError::Closed`] if the engine is
    /// shut down or dead.
    pub fn resume(&self) -> Result<(), DrainError> {
        self.desk.resume()
    }

    /// Cancels everything and gives every block back, for good. Returns at once if another
    /// thread runs the loop, which then ends; else does its work here.
    pub fn shutdown(&self) {
        self.desk.shut_down();
        // If nobody runs the loop, no stream would ever learn of it.
        let _ = self.run();
    }

    /// Why no requests are taken; `None` if they are.
    pub fn closed(&self) -> Option<Closed> {
        self.desk.engine.closed()
    }

    /// Everything at one instant.
    pub fn snapshot(&self) -> Snapshot {
        self.desk.engine.snapshot()
    }

    /// The pool the engine takes its blocks from.
    pub fn pool(&self) -> &BlockPool<P> {
        self.desk.engine.pool()
    }

    /// The present instant of the server's clock: deadlines are counted from it.
    pub fn now(&self) -> Instant {
        self.desk.now()
    }
}

impl<G: Generator, P: Platform> Clone for EngineServer<G, P> {
    fn clone(&self) -> Self {
        EngineServer {
            desk: self.desk.clone(),
            room: self.room,
        }
    }
}

impl<G: Generator, P: Platform> TokenStream<G, P> {
    /// The request it belongs to.
    #[must_use]
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// The next item; waits for it. After the end it is the end again.
    #[must_use]
    pub fn recv(&mut self) -> StreamItem {
        self.tokens.recv()
    }

    /// The next item, if it comes within `at_most`.
    #[must_use]
    pub fn recv_timeout(&mut self, at_most: Duration) -> Option<StreamItem> {
        self.tokens.recv_timeout(at_most)
    }

    /// The next item, if it is there already.
    #[must_use]
    pub fn try_recv(&mut self) -> Option<StreamItem> {
        self.tokens.try_recv()
    }

    /// All the tokens that are still to come, and the end; waits for it.
    #[must_use]
    pub fn collect(&mut self) -> (Vec<u32>, StreamEnd) {
        let mut tokens = Vec::new();
        loop {
            match self.recv() {
                StreamItem::Token(Token { token, .. }) => tokens.push(token),
                StreamItem::End(end) => return (tokens, end),
            }
        }
    }
}

impl<G: Generator, P: Platform> Drop for TokenStream<G, P> {
    fn drop(&mut self) {
        if self.tokens.close() {
            // It may have ended on its own a moment ago.
            let _ = self.desk.cancel(self.request, CancelReason::ClientGone);
        }
    }
}

impl<G: Generator, P: Platform> fmt::Debug for EngineServer<G, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineServer")
            .field("engine", &self.desk.engine)
            .finish_non_exhaustive()
    }
}

impl<G: Generator, P: Platform> fmt::Debug for TokenStream<G, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenStream")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// The channels of threads.
struct Threads<P>(core::marker::PhantomData<P>);

impl<P: Platform> Channels for Threads<P> {
    type Sink = ChannelSink<P>;
    type Reply = ThreadReply<P>;
    type Bell = ThreadBell<P>;
}

struct ThreadBell<P: Platform> {
    rung: P::Mutex<bool>,
    changed: P::Condvar,
}

impl<P: Platform> ThreadBell<P> {
    /// Waits until it rings; returns at once if it has since the last time.
    fn wait(&self, at_most: Option<Duration>) {
        let mut rung = self.rung.lock();
        let mut timed_out = false;
        while !(*rung || timed_out) {
            match at_most {
                None => rung = self.changed.wait(rung),
                Some(time) => (rung, timed_out) = self.changed.wait_timeout(rung, time),
            }
        }
        *rung = false;
    }
}

impl<P: Platform> Bell for ThreadBell<P> {
    fn ring(&self) {
        let was_rung = core::mem::replace(&mut *self.rung.lock(), true);
        if !was_rung {
            self.changed.notify_one();
        }
    }
}

struct Answer<P: Platform> {
    given: P::Mutex<Option<Result<DrainEnd, Closed>>>,
    changed: P::Condvar,
}

struct ThreadReply<P: Platform>(P::Arc<Answer<P>>);

impl<P: Platform> Reply for ThreadReply<P> {
    fn send(self, answer: Result<DrainEnd, Closed>) {
        *self.0.given.lock() = Some(answer);
        self.0.changed.notify_one();
    }
}
