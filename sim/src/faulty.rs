//! [`Faulty`]: a backend that does wrong by a plan. It stands around any [`Generator`], so that
//! what is tested under faults is the backend that is tested without, too.
//!
//! It has no clock and no lock: a slow call only says how long it took, and whoever wants to see
//! what happens inside an engine brings a watch that carries it out.
//!
//! ```
//! use selvedge_core::ModelCacheSpec;
//! use selvedge_sim::content::{ContentModel, Weights};
//! use selvedge_sim::faulty::{FaultPlan, Faulty};
//!
//! let model = ContentModel::new(ModelCacheSpec::new(1, 1, 8, 16)?, 64, Weights::of(1));
//! let backend = Faulty::new(model, FaultPlan::random(7, 3, 100));
//! assert_eq!(backend.left().faults().len(), 3);
//! # Ok::<(), selvedge_core::spec::SpecError>(())
//! ```

mod plan;

use std::fmt;
use std::panic;
use std::time::Duration;

use selvedge_core::engine::{BlockSlot, Generator, NewSequence, Produced, StepInput};
use selvedge_core::{BlockRef, RequestId};
use thiserror::Error;

pub use self::plan::{Call, Fault, FaultPlan, FaultPlanError, PlannedFault};

type Watch<G> = Box<dyn FnMut(&Moment<'_, G>) + Send>;

/// A backend around another, with faults.
///
/// ```
/// use selvedge_core::engine::{Generator, StepInput};
/// use selvedge_core::{ModelCacheSpec, RequestId};
/// use selvedge_sim::content::{ContentModel, Weights};
/// use selvedge_sim::faulty::{Call, Fault, FaultPlan, Faulty, FaultyError};
///
/// let model = ContentModel::new(ModelCacheSpec::new(1, 1, 8, 4)?, 8, Weights::of(1));
/// let plan = FaultPlan::none()
///     .with(Call::Remove, 2, Fault::Slow { millis: 30 })?
///     .with(Call::Step, 1, Fault::OutOfMemory)?;
/// let mut backend = Faulty::new(model, plan);
///
/// let input = StepInput { decode: &[RequestId(1)], prefill: &[] };
/// assert_eq!(backend.step(&input), Err(FaultyError::OutOfMemory { call: Call::Step, number: 1 }));
/// backend.remove(RequestId(1));
/// backend.remove(RequestId(1));
/// assert_eq!(backend.elapsed().as_millis(), 30);
/// assert_eq!(backend.hits().len(), 2);
/// assert!(backend.left().faults().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Faulty<G: Generator> {
    inner: G,
    plan: FaultPlan,
    /// By call, how often it was made.
    counts: [u64; Call::ALL.len()],
    hits: Vec<Hit>,
    elapsed: Duration,
    watch: Option<Watch<G>>,
}

/// A fault that happened.
///
/// ```
/// use selvedge_core::engine::Generator;
/// use selvedge_core::{ModelCacheSpec, RequestId};
/// use selvedge_sim::content::{ContentModel, Weights};
/// use selvedge_sim::faulty::{Call, Fault, FaultPlan, Faulty, Hit};
///
/// let model = ContentModel::new(ModelCacheSpec::new(1, 1, 8, 4)?, 8, Weights::of(1));
/// let plan = FaultPlan::none().with(Call::Extract, 1, Fault::Error)?;
/// let mut backend = Faulty::new(model, plan);
/// assert!(backend.extract_cache(RequestId(4), &[]).is_err());
/// let hit = Hit { call: Call::Extract, number: 1, request: Some(RequestId(4)), fault: Fault::Error };
/// assert_eq!(backend.hits(), [hit]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hit {
    /// In which call.
    pub call: Call,
    /// Which of its kind it was, counted from 1.
    pub number: u64,
    /// Whom it concerned, if any one.
    pub request: Option<RequestId>,
    /// What went wrong.
    pub fault: Fault,
}

/// What a watch is shown: once before each call, and once at its end.
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use selvedge_core::engine::Generator;
/// use selvedge_core::{ModelCacheSpec, RequestId};
/// use selvedge_sim::content::{ContentModel, Weights};
/// use selvedge_sim::faulty::{Call, FaultPlan, Faulty, Moment, Stage};
///
/// let seen = Arc::new(Mutex::new(Vec::new()));
/// let notes = seen.clone();
/// let model = ContentModel::new(ModelCacheSpec::new(1, 1, 8, 4)?, 8, Weights::of(1));
/// let watch = move |moment: &Moment<'_, ContentModel>| {
///     notes.lock().unwrap().push((moment.call, moment.stage, moment.inner.counts().steps));
/// };
/// let mut backend = Faulty::new(model, FaultPlan::none()).watched(watch);
/// backend.remove(RequestId(1));
/// let expected = [(Call::Remove, Stage::Before, 0), (Call::Remove, Stage::After, 0)];
/// assert_eq!(*seen.lock().unwrap(), expected);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Moment<'a, G> {
    /// Which call.
    pub call: Call,
    /// Which of its kind, counted from 1.
    pub number: u64,
    /// Whom it concerns; of a step at its end, whom its fault has concerned.
    pub request: Option<RequestId>,
    /// Before it or at its end. A panic comes after the end; one that is not planned has none.
    pub stage: Stage,
    /// At the end, what went wrong.
    pub fault: Option<Fault>,
    /// At the end, how long it took.
    pub took: Duration,
    /// The backend inside.
    pub inner: &'a G,
}

/// When a watch is shown a call.
///
/// ```
/// use selvedge_sim::faulty::Stage;
///
/// assert!(Stage::Before < Stage::After);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Nothing is done yet.
    Before,
    /// All is done.
    After,
}

/// What a [`Faulty`] backend fails with.
///
/// ```
/// use selvedge_sim::faulty::{Call, FaultyError};
///
/// let error: FaultyError<String> = FaultyError::Injected { call: Call::Insert, number: 3 };
/// assert_eq!(error.to_string(), "insert 3 fails by plan");
/// assert_eq!(FaultyError::Inner("oh".to_owned()).to_string(), "oh");
/// ```
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FaultyError<E> {
    /// By plan.
    #[error("{call} {number} fails by plan")]
    Injected {
        /// In which call.
        call: Call,
        /// Which of its kind, counted from 1.
        number: u64,
    },
    /// By plan, for want of memory.
    #[error("{call} {number} is out of memory, by plan")]
    OutOfMemory {
        /// In which call.
        call: Call,
        /// Which of its kind, counted from 1.
        number: u64,
    },
    /// By itself.
    #[error("{0}")]
    Inner(E),
}

impl<G: Generator> Faulty<G> {
    /// `inner`, with the faults of `plan`.
    #[must_use]
    pub fn new(inner: G, plan: FaultPlan) -> Self {
        Faulty {
            inner,
            plan,
            counts: [0; Call::ALL.len()],
            hits: Vec::new(),
            elapsed: Duration::ZERO,
            watch: None,
        }
    }

    /// Shows every call to `watch`, which may do what it likes meanwhile: it runs where the
    /// backend would, with no lock held.
    #[must_use]
    pub fn watched(mut self, watch: impl FnMut(&Moment<'_, G>) + Send + 'static) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// Changes the backend inside, which may go wrong as [`Call::Swap`].
    ///
    /// # Errors
    /// What is planned, or `swap`'s own.
    pub fn swap<T>(
        &mut self,
        swap: impl FnOnce(&mut G) -> Result<T, G::Error>,
    ) -> Result<T, FaultyError<G::Error>> {
        let at = self.enter(Call::Swap, None);
        let fault = self.take(at, |_| true);
        self.failure(at, fault)?;
        let swapped = swap(&mut self.inner).map_err(FaultyError::Inner);
        self.leave(at, fault);
        swapped
    }

    /// The backend inside.
    #[must_use]
    pub fn inner(&self) -> &G {
        &self.inner
    }

    /// The backend inside, to change it past all faults.
    pub fn inner_mut(&mut self) -> &mut G {
        &mut self.inner
    }

    /// What went wrong, in the order it did.
    #[must_use]
    pub fn hits(&self) -> &[Hit] {
        &self.hits
    }

    /// What has not gone wrong yet.
    #[must_use]
    pub fn left(&self) -> &FaultPlan {
        &self.plan
    }

    /// How long all calls took.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    fn enter(&mut self, call: Call, request: Option<RequestId>) -> At {
        let count = &mut self.counts[call as usize];
        *count += 1;
        let at = At {
            call,
            number: *count,
            request,
        };
        self.show(at, Stage::Before, None);
        at
    }

    fn take(&mut self, at: At, can: impl Fn(Fault) -> bool) -> Option<Fault> {
        self.plan.take(at.call, at.number, can)
    }

    /// Notes what happened and shows the call's end.
    fn leave(&mut self, at: At, fault: Option<Fault>) {
        let At {
            call,
            number,
            request,
        } = at;
        if let Some(fault) = fault {
            self.hits.push(Hit {
                call,
                number,
                request,
                fault,
            });
            self.elapsed += plan::duration(fault);
        }
        self.show(at, Stage::After, fault);
    }

    /// What fails before anything is done.
    fn failure(&mut self, at: At, fault: Option<Fault>) -> Result<(), FaultyError<G::Error>> {
        let At { call, number, .. } = at;
        let error = match fault {
            Some(Fault::Error) => FaultyError::Injected { call, number },
            Some(Fault::OutOfMemory) => FaultyError::OutOfMemory { call, number },
            Some(Fault::Panic) => {
                self.leave(at, fault);
                panic::resume_unwind(Box::new(format!("{call} {number} panics by plan")))
            }
            _ => return Ok(()),
        };
        self.leave(at, fault);
        Err(error)
    }

    fn show(&mut self, at: At, stage: Stage, fault: Option<Fault>) {
        if let Some(watch) = &mut self.watch {
            watch(&Moment {
                call: at.call,
                number: at.number,
                request: at.request,
                stage,
                fault,
                took: fault.map_or(Duration::ZERO, plan::duration),
                inner: &self.inner,
            });
        }
    }
}

/// A call under way.
#[derive(Clone, Copy)]
struct At {
    call: Call,
    number: u64,
    request: Option<RequestId>,
}

impl<G: Generator> Generator for Faulty<G> {
    type Payload = G::Payload;
    type Error = FaultyError<G::Error>;

    fn insert(&mut self, sequence: NewSequence<'_, G::Payload>) -> Result<(), Self::Error> {
        let at = self.enter(Call::Insert, Some(sequence.request));
        let some = !sequence.prefix.is_empty();
        let fault = self.take(at, |fault| some || fault != Fault::ErrorTakingPrefix);
        self.failure(at, fault)?;
        if fault == Some(Fault::ErrorTakingPrefix) {
            drop(sequence.prefix.pop());
            self.leave(at, fault);
            return Err(FaultyError::Injected {
                call: at.call,
                number: at.number,
            });
        }
        let inserted = self.inner.insert(sequence).map_err(FaultyError::Inner);
        self.leave(at, fault);
        inserted
    }

    fn extend(&mut self, request: RequestId, blocks: &[BlockRef]) {
        let at = self.enter(Call::Extend, Some(request));
        let fault = self.take(at, |_| true);
        // Only a panic comes out of this one.
        let _ = self.failure(at, fault);
        self.inner.extend(request, blocks);
        self.leave(at, fault);
    }

    fn step(&mut self, input: &StepInput<'_>) -> Result<Vec<Produced>, Self::Error> {
        let mut at = self.enter(Call::Step, None);
        let first = input.decode.first().copied();
        let prefilling = input.prefill.first().map(|chunk| chunk.request);
        let fault = self.take(at, |fault| match fault {
            Fault::Silence | Fault::DuplicateToken => first.is_some(),
            Fault::UnplannedId => prefilling.is_some(),
            // Whether anybody finishes, the step will show.
            Fault::DuplicateFinish => false,
            _ => true,
        });
        self.failure(at, fault)?;
        let left = match fault {
            Some(Fault::Silence) => {
                at.request = first;
                &input.decode[1..]
            }
            _ => input.decode,
        };
        let nothing = left.is_empty() && input.prefill.is_empty();
        let stepped = match nothing && fault == Some(Fault::Silence) {
            true => Ok(Vec::new()),
            false => self.inner.step(&StepInput {
                decode: left,
                prefill: input.prefill,
            }),
        };
        let mut produced = match stepped {
            Ok(produced) => produced,
            Err(error) => {
                // It came to nothing else.
                self.leave(
                    at,
                    fault.filter(|fault| matches!(fault, Fault::Slow { .. })),
                );
                return Err(FaultyError::Inner(error));
            }
        };
        let ends = |one: &&Produced| one.finish.is_some();
        let finished = produced.iter().find(ends).copied();
        let fault = fault.or_else(|| {
            let wanted = |fault| fault == Fault::DuplicateFinish && finished.is_some();
            self.plan.take(at.call, at.number, wanted)
        });
        let stray = |request| Produced {
            request,
            token: 0,
            finish: None,
        };
        match fault {
            Some(Fault::UnknownId) => produced.insert(0, stray(RequestId(u64::MAX))),
            Some(Fault::UnplannedId) => {
                at.request = prefilling;
                produced.extend(prefilling.map(stray));
            }
            Some(Fault::DuplicateFinish) => {
                at.request = finished.map(|one| one.request);
                produced.extend(finished);
            }
            Some(Fault::DuplicateToken) => {
                let goes_on = produced.iter().find(|one| one.finish.is_none());
                let twice = goes_on.or(produced.first()).copied();
                at.request = twice.map(|one| one.request);
                produced.extend(twice);
            }
            _ => {}
        }
        self.leave(at, fault);
        Ok(produced)
    }

    fn extract_cache(
        &mut self,
        request: RequestId,
        slots: &[BlockSlot],
    ) -> Result<Vec<G::Payload>, Self::Error> {
        let at = self.enter(Call::Extract, Some(request));
        let fault = self.take(at, |fault| fault != Fault::Short || !slots.is_empty());
        self.failure(at, fault)?;
        let mut extracted = self.inner.extract_cache(request, slots);
        if let (Some(Fault::Short), Ok(payloads)) = (fault, &mut extracted) {
            payloads.pop();
        }
        self.leave(at, fault);
        extracted.map_err(FaultyError::Inner)
    }

    fn remove(&mut self, request: RequestId) {
        let at = self.enter(Call::Remove, Some(request));
        let fault = self.take(at, |_| true);
        // Only a panic comes out of this one.
        let _ = self.failure(at, fault);
        self.inner.remove(request);
        self.leave(at, fault);
    }
}

impl<G: Generator + fmt::Debug> fmt::Debug for Faulty<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty")
            .field("inner", &self.inner)
            .field("left", &self.plan)
            .field("hits", &self.hits)
            .finish_non_exhaustive()
    }
}
