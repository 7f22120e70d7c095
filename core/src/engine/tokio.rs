//! The front end for tokio (cargo feature `tokio`): [`EngineHandle`] and its [`TokenStream`]s.
//!
//! A task of its own makes the steps, each on tokio's blocking threads, so no worker of the
//! runtime is ever blocked by the model. Whatever ends that task, a panic, [`EngineHandle::abort`]
//! or the runtime's own end, every stream and every later call is told
//! [`Closed::EngineDead`].
//!
//! Time is tokio's, so that a paused clock works: it must be enabled in the runtime.

use core::convert::Infallible;
use core::fmt;
use core::num::NonZeroU32;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, ready};
use core::time::Duration;

use futures_core::Stream;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time;

use super::action::{CancelReason, Snapshot};
use super::clients::{Refused, StreamEnd, StreamItem, Token, TokenSink, orphaned};
use super::desk::{Bell, Channels, Desk, DrainEnd, Next, Reply, Run};
use super::error::{CancelError, Closed, DeathCause, DrainError, SubmitError};
use super::generator::Generator;
use super::shell::{BatchEngine, NewRequest};
use crate::platform::{Platform, Std};
use crate::time::{Clock, Instant};
use crate::{BlockPool, RequestId};

type Arc<T> = <Std as Platform>::Arc<T>;
type TaskDesk<G> = Arc<Desk<G, Std, Tasks>>;

/// A batch engine that is stepped by a task. A clone is another handle of the same.
///
/// * Dropping a stream cancels its request at once.
/// * A client that takes its tokens too slowly is cancelled when its channel is full; nobody
///   waits for it.
/// * When the last handle is dropped, what was accepted still ends as it would have; then the
///   engine shuts down.
///
/// ```
/// # use std::convert::Infallible;
/// use std::{num::NonZeroU32, sync::Arc};
///
/// # use selvedge_core::engine::{BlockSlot, Generator, NewSequence, Produced, StepInput};
/// use selvedge_core::engine::tokio::EngineHandle;
/// use selvedge_core::engine::{BatchEngine, Closed, EngineConfig, NewRequest};
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
/// let engine = BatchEngine::new(pool, Counting(0), EngineConfig::default())?;
/// let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
/// runtime.block_on(async {
///     let room = NonZeroU32::new(32).expect("it is not zero");
///     let engine = EngineHandle::start(engine, room)?;
///     let mut stream = engine.submit(NewRequest::new(alice, vec![7; 5], 3)).await?;
///     let (tokens, end) = stream.collect().await;
///     assert_eq!((tokens.len(), end.generated), (3, 3));
///     assert_eq!(engine.shutdown().await, Closed::ShutDown);
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct EngineHandle<G: Generator> {
    desk: TaskDesk<G>,
    room: usize,
    /// Taken out to be dropped before the bell is rung.
    open: Option<mpsc::Sender<Infallible>>,
    over: watch::Receiver<Option<Closed>>,
    task: AbortHandle,
}

/// The tokens of one request, in order, and then its end. Dropping it cancels the request.
pub struct TokenStream<G: Generator> {
    items: mpsc::Receiver<StreamItem>,
    end: Option<StreamEnd>,
    request: RequestId,
    desk: TaskDesk<G>,
}

/// The engine was not started: there is no runtime here. Call it from within one, or enter one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("there is no tokio runtime here; call it from within one, or enter one before")]
pub struct NoRuntime;

impl<G: Generator> EngineHandle<G> {
    /// Starts the task that steps `engine`. Each stream has room for `room` tokens that its
    /// client has not taken yet.
    ///
    /// # Errors
    /// [`NoRuntime`] outside of a tokio runtime.
    pub fn start(engine: BatchEngine<G>, room: NonZeroU32) -> Result<Self, NoRuntime> {
        let runtime = Handle::try_current().map_err(|_| NoRuntime)?;
        let origin = time::Instant::now();
        let bell = TaskBell(Notify::new());
        let desk = TaskDesk::new(Desk::new(engine, bell, Box::new(TokioClock { origin })));
        let run = Run::begin(&desk).expect("INVARIANT: nobody else has this desk yet");
        let (open, handles) = mpsc::channel(1);
        let (tell, over) = watch::channel(None);
        let stepper = Stepper {
            run,
            tell,
            handles,
            desk: desk.clone(),
            origin,
        };
        let task = runtime.spawn(stepper.work()).abort_handle();
        let most = Semaphore::MAX_PERMITS - 1;
        Ok(EngineHandle {
            desk,
            room: usize::try_from(room.get()).map_or(most, |room| room.min(most)),
            open: Some(open),
            over,
            task,
        })
    }

    /// Accepts a request, or says at once why not: it never waits for a step or for room.
    ///
    /// # Errors
    /// Each of [`SubmitError`].
    #[allow(
        clippy::unused_async,
        reason = "so that waiting for room can be added without changing callers"
    )]
    pub async fn submit(&self, request: NewRequest) -> Result<TokenStream<G>, SubmitError> {
        // One place more than there is room for, which is the end's from the beginning.
        let (tokens, items) = mpsc::channel(self.room + 1);
        let end = (tokens.clone().try_reserve_owned())
            .expect("INVARIANT: a new channel has room, and its receiver is here");
        let request = self.desk.submit(request, TaskSink { tokens, end })?;
        Ok(TokenStream {
            items,
            end: None,
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
    /// how that went. If the future is dropped, the drain goes on.
    ///
    /// # Errors
    /// [`DrainError::Draining`] if a drain is under way, [`DrainError::Closed`] if the engine is
    /// closed, or is before it has drained.
    pub async fn drain(&self, at_most: Duration) -> Result<DrainEnd, DrainError> {
        let (reply, answer) = oneshot::channel();
        let deadline = self.desk.now() + at_most;
        self.desk.drain(deadline, TaskReply(reply))?;
        match answer.await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(DrainError::Closed(self.cause())),
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

    /// Cancels everything, gives every block back, for good, and waits until that is done.
    /// Returns what the engine ended of: it may have been dead before.
    pub async fn shutdown(&self) -> Closed {
        self.desk.shut_down();
        let mut over = self.over.clone();
        let told = over.wait_for(Option::is_some).await;
        let told = told.ok().and_then(|closed| closed.clone());
        told.unwrap_or_else(|| self.cause())
    }

    /// Ends the task at once: the engine is dead then. A step of the model that is under way is
    /// still finished, on its own thread, before the blocks come back. [`Self::shutdown`] waits
    /// for the end of the task.
    pub fn abort(&self) {
        self.task.abort();
    }

    /// Why no requests are taken; `None` if they are.
    #[must_use]
    pub fn closed(&self) -> Option<Closed> {
        self.desk.engine.closed()
    }

    /// Everything at one instant.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.desk.engine.snapshot()
    }

    /// The pool the engine takes its blocks from.
    #[must_use]
    pub fn pool(&self) -> &BlockPool {
        self.desk.engine.pool()
    }

    /// The present instant of the engine's clock: deadlines are counted from it.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.desk.now()
    }

    /// What it ended of, if its task could not say.
    fn cause(&self) -> Closed {
        self.closed().unwrap_or_else(|| {
            Closed::EngineDead(DeathCause::DriverGone {
                message: "the step task has ended without a word".to_owned(),
            })
        })
    }
}

impl<G: Generator> Clone for EngineHandle<G> {
    fn clone(&self) -> Self {
        EngineHandle {
            desk: self.desk.clone(),
            room: self.room,
            open: self.open.clone(),
            over: self.over.clone(),
            task: self.task.clone(),
        }
    }
}

impl<G: Generator> Drop for EngineHandle<G> {
    fn drop(&mut self) {
        self.open = None;
        // The task looks whether this was the last.
        self.desk.bell.ring();
    }
}

impl<G: Generator> TokenStream<G> {
    /// The request it belongs to.
    #[must_use]
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// The next item. After the end it is the end again. Nothing is lost if the future is
    /// dropped.
    pub async fn recv(&mut self) -> StreamItem {
        core::future::poll_fn(|cx| self.poll_item(cx)).await
    }

    /// All the tokens that are still to come, and the end.
    pub async fn collect(&mut self) -> (Vec<u32>, StreamEnd) {
        let mut tokens = Vec::new();
        loop {
            match self.recv().await {
                StreamItem::Token(Token { token, .. }) => tokens.push(token),
                StreamItem::End(end) => return (tokens, end),
            }
        }
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<StreamItem> {
        if let Some(end) = &self.end {
            return Poll::Ready(StreamItem::End(end.clone()));
        }
        let item = ready!(self.items.poll_recv(cx));
        let item = item.unwrap_or_else(|| StreamItem::End(orphaned()));
        if let StreamItem::End(end) = &item {
            self.end = Some(end.clone());
        }
        Poll::Ready(item)
    }
}

impl<G: Generator> Stream for TokenStream<G> {
    type Item = StreamItem;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<StreamItem>> {
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        self.poll_item(cx).map(Some)
    }
}

impl<G: Generator> Drop for TokenStream<G> {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.items.close();
            // It may have ended on its own a moment ago.
            let _ = self.desk.cancel(self.request, CancelReason::ClientGone);
        }
    }
}

impl<G: Generator> fmt::Debug for EngineHandle<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineHandle")
            .field("engine", &self.desk.engine)
            .finish_non_exhaustive()
    }
}

impl<G: Generator> fmt::Debug for TokenStream<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenStream")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// The task. The order of the fields is the order of their drops: the end is told when all is
/// over.
struct Stepper<G: Generator> {
    run: Run<G, Std, Tasks>,
    tell: watch::Sender<Option<Closed>>,
    handles: mpsc::Receiver<Infallible>,
    desk: TaskDesk<G>,
    origin: time::Instant,
}

impl<G: Generator> Stepper<G> {
    async fn work(mut self) {
        loop {
            let (desk, now) = (self.desk.clone(), self.desk.now());
            // Something that is no panic of the backend's unwound, or the runtime is ending: it
            // is the end of this engine, as for whoever drops the task.
            let Ok(stepped) = spawn_blocking(move || desk.engine.step(now)).await else {
                return;
            };
            let rung = self.desk.bell.0.notified();
            match self.run.after(stepped) {
                Next::Step => {}
                Next::Wait if self.handles.is_closed() => self.desk.shut_down(),
                Next::Wait => rung.await,
                Next::WaitUntil(at) => match self.origin.checked_add(since_origin(at)) {
                    // Either way it looks at everything again.
                    Some(at) => _ = time::timeout_at(at, pin!(rung)).await,
                    None => rung.await,
                },
                Next::Over => {
                    let Stepper { run, tell, .. } = self;
                    let closed = run.close();
                    tell.send_replace(Some(closed));
                    return;
                }
            }
        }
    }
}

fn since_origin(at: Instant) -> Duration {
    at.saturating_since(Instant::ZERO)
}

/// Tokio's clock.
#[derive(Debug)]
struct TokioClock {
    origin: time::Instant,
}

impl Clock for TokioClock {
    fn now(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }
}

/// The channels of tasks.
struct Tasks;

impl Channels for Tasks {
    type Sink = TaskSink;
    type Reply = TaskReply;
    type Bell = TaskBell;
}

struct TaskSink {
    tokens: mpsc::Sender<StreamItem>,
    end: mpsc::OwnedPermit<StreamItem>,
}

impl TokenSink for TaskSink {
    fn try_send(&mut self, token: Token) -> Result<(), Refused> {
        (self.tokens.try_send(StreamItem::Token(token))).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Full,
            mpsc::error::TrySendError::Closed(_) => Refused::Closed,
        })
    }

    fn end(self, end: StreamEnd) {
        self.end.send(StreamItem::End(end));
    }
}

struct TaskReply(oneshot::Sender<Result<DrainEnd, Closed>>);

impl Reply for TaskReply {
    fn send(self, answer: Result<DrainEnd, Closed>) {
        // Whoever asked need not wait.
        let _ = self.0.send(answer);
    }
}

struct TaskBell(Notify);

impl Bell for TaskBell {
    fn ring(&self) {
        self.0.notify_one();
    }
}
