//! The engine that the server runs, with a backend that does wrong by the run's plan, and what is
//! to know of how it went.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use selvedge_core::engine::{BatchEngine, EngineConfig, Refused, StreamEnd, Token, TokenSink};
use selvedge_core::{BlockPool, Std};

use super::shape::Shape;
use crate::content::ContentModel;
use crate::faulty::{Fault, FaultPlan, Faulty, Moment, Stage};
use crate::world::faults::BackendFault;

/// The shipped engine on the shipped pool.
pub(in crate::world) type Shipped = BatchEngine<Faulty<ContentModel>, Std>;

/// An engine, and what its backend tells.
#[derive(Debug)]
pub(in crate::world) struct Engine {
    pub(in crate::world) shipped: Shipped,
    told: Arc<Told>,
}

/// What a backend tells while it is inside the engine.
#[derive(Debug, Default)]
struct Told {
    /// How long its slow calls took, in nanoseconds.
    took: AtomicU64,
    /// How often it did wrong.
    faults: AtomicU64,
}

impl Engine {
    /// Engine number `number` of a run, from 1.
    pub(in crate::world) fn new(
        pool: &Arc<BlockPool>,
        shape: &Shape,
        config: EngineConfig,
        number: u32,
        faults: &[BackendFault],
    ) -> Engine {
        let its_own = faults.iter().filter(|fault| fault.engine == number);
        let plan = FaultPlan::try_from(its_own.map(|fault| fault.planned).collect::<Vec<_>>())
            .expect("INVARIANT: the plan was checked before the run, or drawn of what fits");
        let model = ContentModel::new(shape.spec.clone(), shape.blocks, shape.weights);
        let told = Arc::new(Told::default());
        let tells = told.clone();
        let backend = Faulty::new(model, plan).watched(move |moment: &Moment<'_, ContentModel>| {
            if moment.stage == Stage::After
                && let Some(fault) = moment.fault
            {
                let took = moment.took.as_nanos() as u64;
                // ORDERING: Relaxed: there is one thread.
                tells.took.fetch_add(took, Ordering::Relaxed);
                let wrong = u64::from(!matches!(fault, Fault::Slow { .. }));
                // ORDERING: Relaxed, as above.
                tells.faults.fetch_add(wrong, Ordering::Relaxed);
            }
        });
        let shipped = BatchEngine::new(pool.clone(), backend, config)
            .expect("INVARIANT: what is drawn as an engine's bounds makes sense");
        Engine { shipped, told }
    }

    /// How long its backend's slow calls took since this was asked last.
    pub(in crate::world) fn took(&self) -> Duration {
        // ORDERING: Relaxed: there is one thread.
        Duration::from_nanos(self.told.took.swap(0, Ordering::Relaxed))
    }

    /// How often its backend did wrong since this was asked last.
    pub(in crate::world) fn faults(&self) -> u64 {
        // ORDERING: Relaxed: there is one thread.
        self.told.faults.swap(0, Ordering::Relaxed)
    }
}

/// A client's stream, as its front end holds it: all that was generated, and how much of it the
/// client has confirmed.
#[derive(Debug, Default)]
pub(in crate::world) struct Stream {
    pub(in crate::world) tokens: Vec<u32>,
    pub(in crate::world) confirmed: u32,
    /// Tokens that may be unconfirmed.
    pub(in crate::world) room: u32,
    /// Its client has asked for something else.
    pub(in crate::world) gone: bool,
    pub(in crate::world) end: Option<StreamEnd>,
    /// How often it was ended.
    pub(in crate::world) ends: u32,
    /// What is full takes tokens all the same, and loses them: a mutant's.
    pub(in crate::world) leaks: bool,
}

impl Stream {
    /// Tokens that it holds for its client.
    pub(in crate::world) fn waiting(&self) -> u32 {
        (self.tokens.len() as u32).saturating_sub(self.confirmed)
    }

    pub(in crate::world) fn is_full(&self) -> bool {
        self.waiting() >= self.room
    }
}

/// The engine's end of a [`Stream`].
#[derive(Clone, Debug, Default)]
pub(in crate::world) struct Outbox(Arc<Mutex<Stream>>);

impl Outbox {
    pub(in crate::world) fn new(stream: Stream) -> Self {
        Outbox(Arc::new(Mutex::new(stream)))
    }

    /// Looks at the stream, or changes it.
    pub(in crate::world) fn with<T>(&self, f: impl FnOnce(&mut Stream) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl TokenSink for Outbox {
    fn try_send(&mut self, token: Token) -> Result<(), Refused> {
        self.with(|stream| match (stream.gone, stream.is_full()) {
            (true, _) => Err(Refused::Closed),
            (false, true) if stream.leaks => Ok(()),
            (false, true) => Err(Refused::Full),
            (false, false) => {
                stream.tokens.push(token.token);
                Ok(())
            }
        })
    }

    fn end(self, end: StreamEnd) {
        self.with(|stream| {
            stream.ends += 1;
            stream.end = Some(end);
        });
    }
}
