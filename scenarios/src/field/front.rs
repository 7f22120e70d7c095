//! What the scenarios of the front end share: a small server as they see it, and the one that
//! ships behind it. The bugs' own servers are in `naive_front.rs`.

use std::num::NonZeroU32;

use selvedge_core::engine::{
    BatchEngine, BlockSlot, CancelReason, Closed, End, EngineConfig, EngineServer, FailReason,
    Generator, NewRequest, NewSequence, Produced, StepInput, StreamItem, SubmitError, TokenStream,
};
use selvedge_core::platform::{Mutex, Platform, Shared};
use selvedge_core::time::{Clock, Instant};
use selvedge_core::{AgentId, BlockPool, ModelCacheSpec, RequestId};
use selvedge_sim::violation;

/// What a client gets out of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    Token,
    Completed,
    /// The client was too slow.
    TooSlow,
    /// The server is dead.
    Dead,
    /// The stream broke off without an end.
    BrokenOff,
}

/// How a server is to be.
#[derive(Clone, Copy)]
pub(super) struct Setup {
    /// Blocks of the pool. Every request needs one.
    pub(super) blocks: u32,
    /// Tokens that a stream has room for.
    pub(super) room: u32,
    /// Which request ends the step loop, once the model is done with it: the first is 1. A loop
    /// that somebody else has to end would race with them, and there would be much to search.
    pub(super) last: u64,
    /// The model panics at its first step.
    pub(super) panics: bool,
}

/// A server of a model that makes as many tokens as it is asked for.
pub(super) trait Front: Send + Sync + 'static {
    type Stream: Send + 'static;
    fn new(setup: Setup) -> Self;
    /// A request of client `who` (of [`CLIENTS`]). `None` if the server says that it is dead.
    fn submit(&self, who: usize, prompt: u32, tokens: u32) -> Option<Self::Stream>;
    /// The step loop; returns once it is over.
    fn run(&self);
    /// Waits for the next item.
    fn next(stream: &mut Self::Stream) -> Got;
    fn blocks_used(&self) -> u32;
    /// Requests that were cancelled.
    fn cancelled(&self) -> u64;
}

/// Everybody who may ask.
pub(super) const CLIENTS: [&str; 3] = ["first", "second", "third"];

/// A client's tokens, and what came after them.
pub(super) fn all_of<F: Front>(stream: &mut F::Stream) -> (u32, Got) {
    let mut tokens = 0;
    loop {
        match F::next(stream) {
            Got::Token => tokens += 1,
            end => return (tokens, end),
        }
    }
}

/// The code that ships.
pub(super) struct Shipped<P: Platform> {
    server: EngineServer<Model<P>, P>,
    pool: P::Arc<BlockPool<P>>,
    agents: [AgentId; 3],
}

impl<P: Platform> Front for Shipped<P> {
    type Stream = TokenStream<Model<P>, P>;

    fn new(setup: Setup) -> Self {
        let spec = ModelCacheSpec::new(1, 1, 8, 16).expect("INVARIANT: no size is zero");
        let pool = BlockPool::new(spec, setup.blocks).expect("INVARIANT: there are blocks");
        let pool: P::Arc<BlockPool<P>> = P::Arc::new(pool);
        let agents = CLIENTS.map(|name| pool.agent(name).expect("INVARIANT: it has a name"));
        let ends: Ends<P> = P::Arc::new(P::Mutex::new(None));
        let model = Model {
            panics: setup.panics,
            last: RequestId(setup.last),
            ends: ends.clone(),
        };
        let engine = BatchEngine::new(pool.clone(), model, EngineConfig::default())
            .expect("INVARIANT: the default is valid");
        let room = NonZeroU32::new(setup.room).expect("INVARIANT: there is room");
        let server = EngineServer::new(engine, room, Box::new(Still));
        // A model that dies ends the loop by itself, and would keep its own server alive.
        if !setup.panics {
            *ends.lock() = Some(server.clone());
        }
        Shipped {
            server,
            pool,
            agents,
        }
    }

    fn submit(&self, who: usize, prompt: u32, tokens: u32) -> Option<Self::Stream> {
        let request = NewRequest {
            keep_cache: false,
            ..NewRequest::new(self.agents[who], vec![7; prompt as usize], tokens)
        };
        match self.server.submit(request) {
            Ok(stream) => Some(stream),
            Err(SubmitError::Closed(Closed::EngineDead(_))) => None,
            Err(other) => violation!("wrong-error", "{other}"),
        }
    }

    fn run(&self) {
        if let Err(error) = self.server.run() {
            violation!("not-run", "{error}");
        }
    }

    fn next(stream: &mut Self::Stream) -> Got {
        match stream.recv() {
            StreamItem::Token(_) => Got::Token,
            StreamItem::End(told) => match told.end {
                End::Completed(_) => Got::Completed,
                End::Cancelled(CancelReason::SlowClient) => Got::TooSlow,
                End::Failed(FailReason::EngineDead(_)) => Got::Dead,
                other => violation!("wrong-end", "{other:?}"),
            },
        }
    }

    fn blocks_used(&self) -> u32 {
        self.pool.snapshot().used
    }

    fn cancelled(&self) -> u64 {
        self.server.snapshot().counters.cancelled
    }
}

/// A model that makes the same token again and again, or panics.
pub(super) struct Model<P: Platform> {
    panics: bool,
    last: RequestId,
    ends: Ends<P>,
}

/// The server that a model shuts down.
type Ends<P> = <P as Platform>::Arc<<P as Platform>::Mutex<Option<EngineServer<Model<P>, P>>>>;

impl<P: Platform> Generator for Model<P> {
    type Payload = ();
    type Error = std::convert::Infallible;

    fn insert(&mut self, _sequence: NewSequence<'_, ()>) -> Result<(), Self::Error> {
        Ok(())
    }

    fn step(&mut self, input: &StepInput<'_>) -> Result<Vec<Produced>, Self::Error> {
        if self.panics {
            // As a panic unwinds, but unseen by the bed, whose execution a panic ends.
            std::panic::resume_unwind(Box::new("the device is gone".to_owned()));
        }
        let one = |&request: &RequestId| Produced {
            request,
            token: 7,
            finish: None,
        };
        Ok(input.decode.iter().map(one).collect())
    }

    fn extract_cache(
        &mut self,
        _request: RequestId,
        slots: &[BlockSlot],
    ) -> Result<Vec<()>, Self::Error> {
        Ok(vec![(); slots.len()])
    }

    fn remove(&mut self, request: RequestId) {
        if request == self.last {
            let server = self.ends.lock().take();
            if let Some(server) = server {
                // How its requests end is decided by now.
                server.shutdown();
            }
        }
    }
}

/// Nothing here depends on the time.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::ZERO
    }
}
