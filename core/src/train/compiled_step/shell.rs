//! [`CompiledStep`]: the cache that threads share. It locks, asks the state, and hands over;
//! compiling and running are the handles' part, with the lock let go.

use core::fmt;
use core::time::Duration;
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::config::{CompileConfig, ConfigError, FailureClass};
use super::counters::CompileCounters;
use super::handle::StepHandle;
use super::state::{Attempt, CompileState, Decision, KeyId, Permits, Phase, TooManyKeys};
use super::told;
use crate::ddp::{CommitRecord, Epoch, RunId};
use crate::panic_text::text_of;
use crate::platform::{Atomic, Mutex, Ordering, Platform, Shared, Std};
use crate::pool::InvariantViolation;
use crate::time::Clock;
use crate::train::EpochGuard;

/// A step that can be run eagerly or compiled: what the cache knows of your model.
///
/// **Both ways must give the same, to the bit**, if ranks are to agree on what comes of it: one
/// rank's compile may fail where another's passes. An input is lent, so that it is still there
/// for the eager way when the compiled one fails half way through; do not change through it what
/// must not be changed twice.
///
/// All three may be called by several threads at once.
pub trait StepCompiler: Send + Sync + 'static {
    /// What is compiled for: shapes, data types, a device.
    type Key: Clone + Eq + fmt::Debug + Send + Sync + 'static;
    /// What a step is given.
    type Input<'a>;
    /// What it gives. An error of the step's own is part of it.
    type Output;
    /// What compiling gives.
    type Artefact: Send + Sync + 'static;

    /// Runs the step without anything compiled.
    fn eager(&self, key: &Self::Key, input: &Self::Input<'_>) -> Self::Output;

    /// Compiles. It should be back before [`Attempt::deadline`], and may give up by itself.
    ///
    /// # Errors
    /// [`CompileFailure`]. A panic is one as well.
    fn compile(&self, key: &Self::Key, attempt: &Attempt)
    -> Result<Self::Artefact, CompileFailure>;

    /// Runs what was compiled. What is compiled lazily is compiled here, the first time.
    ///
    /// # Errors
    /// [`CompileFailure`]: the same input is run eagerly then, and the artefact is not used
    /// again. A panic is one as well. An error that eager running would give as well belongs into
    /// the output.
    fn execute(
        &self,
        artefact: &Self::Artefact,
        key: &Self::Key,
        input: &Self::Input<'_>,
    ) -> Result<Self::Output, CompileFailure>;
}

/// Why there is nothing compiled to run.
///
/// ```
/// use selvedge_core::train::compiled_step::{CompileFailure, FailureClass};
///
/// let failure = CompileFailure::transient("out of memory on device 0");
/// assert_eq!(failure.class(), FailureClass::Transient);
/// assert_eq!(failure.to_string(), "transient: out of memory on device 0");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", .class.name())]
pub struct CompileFailure {
    class: FailureClass,
    message: String,
}

impl CompileFailure {
    /// What may pass in some seconds.
    pub fn transient(message: impl Into<String>) -> Self {
        CompileFailure {
            class: FailureClass::Transient,
            message: message.into(),
        }
    }

    /// What will fail again until something else changes.
    pub fn deterministic(message: impl Into<String>) -> Self {
        CompileFailure {
            class: FailureClass::Deterministic,
            message: message.into(),
        }
    }

    pub(super) const fn panicked(message: String) -> Self {
        CompileFailure {
            class: FailureClass::Panicked,
            message,
        }
    }

    /// Of which class it is.
    #[must_use]
    pub const fn class(&self) -> FailureClass {
        self.class
    }

    /// What was said of it.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// Compiled steps by key, shared by threads. A clone is another handle of the same cache.
///
/// Each thread that runs a step takes a [`StepHandle`] for its key. Whoever begins an epoch calls
/// [`apply_epoch`](Self::apply_epoch), or gives the cache to a rank's driver, as an
/// [`EpochGuard`].
///
/// A panic of the compiler or of what it compiled counts as a failure, if it carries a text, as
/// `panic!` makes it. What carries anything else is how coroutines and threads are cancelled: it
/// goes on, and the attempt is given up as one that is overdue.
///
/// ```
/// use selvedge_core::ddp::Epoch;
/// use selvedge_core::time::SystemClock;
/// use selvedge_core::train::compiled_step::{
///     Attempt, CompileConfig, CompileFailure, CompiledStep, StepCompiler,
/// };
///
/// /// The mean of a row, compiled by knowing its length.
/// struct Mean;
/// impl StepCompiler for Mean {
///     type Key = usize;
///     type Input<'a> = &'a [f64];
///     type Output = f64;
///     type Artefact = f64;
///     fn eager(&self, _: &usize, row: &&[f64]) -> f64 {
///         row.iter().sum::<f64>() / row.len() as f64
///     }
///     fn compile(&self, len: &usize, _: &Attempt) -> Result<f64, CompileFailure> {
///         match len {
///             0 => Err(CompileFailure::deterministic("an empty row has no mean")),
///             len => Ok(*len as f64),
///         }
///     }
///     fn execute(&self, len: &f64, _: &usize, row: &&[f64]) -> Result<f64, CompileFailure> {
///         Ok(row.iter().sum::<f64>() / len)
///     }
/// }
///
/// let clock = Box::new(SystemClock::new());
/// let steps: CompiledStep<Mean> = CompiledStep::new(Mean, CompileConfig::default(), clock)?;
/// let (mut of_four, mut of_none) = (steps.handle(4), steps.handle(0));
/// for _ in 0..10 {
///     assert_eq!(of_four.run(&&[1.0, 2.0, 3.0, 6.0][..]), 3.0);
///     assert!(of_none.run(&&[][..]).is_nan());
/// }
/// of_four.flush();
/// of_none.flush();
/// let counters = steps.counters();
/// assert_eq!((counters.compiled, counters.eager), (10, 10));
/// assert_eq!((counters.attempts, counters.failures()), (2, 1), "not one compile a call");
///
/// let permits = steps.apply_epoch(Epoch(1), CompileConfig::default().patience);
/// assert_eq!(permits.granted, 0, "the failure is of this moment: it cools for five minutes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CompiledStep<C: StepCompiler, P: Platform = Std> {
    pub(super) shared: P::Arc<Cache<C, P>>,
}

/// What all handles share.
pub(super) struct Cache<C: StepCompiler, P: Platform> {
    pub(super) compiler: C,
    clock: Box<dyn Clock>,
    /// Counts what may change a handle's mind; changed only with the lock held.
    generation: P::AtomicU64,
    inner: P::Mutex<Inner<C, P>>,
}

/// The keys that the state knows.
type Keys<C> = Vec<(<C as StepCompiler>::Key, KeyId)>;

/// What the lock guards.
struct Inner<C: StepCompiler, P: Platform> {
    state: CompileState,
    /// Copied to be changed, because keys are compared with the lock let go: that is user code.
    keys: P::Arc<Keys<C>>,
    /// Changes whenever the keys do.
    edition: u64,
    artefacts: BTreeMap<KeyId, P::Arc<C::Artefact>>,
}

/// What a handle saw with the lock held.
pub(super) struct Look<C: StepCompiler, P: Platform> {
    /// As of when.
    pub(super) generation: u64,
    /// `None` if the key is unknown.
    pub(super) decision: Option<Decision>,
    /// What to use, if that is the decision.
    pub(super) artefact: Option<P::Arc<C::Artefact>>,
}

/// Calls that a handle has counted for itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Calls {
    pub(super) compiled: u64,
    pub(super) eager: u64,
}

impl<C: StepCompiler, P: Platform> CompiledStep<C, P> {
    /// A cache with nothing compiled.
    ///
    /// # Errors
    /// Each of [`ConfigError`].
    pub fn new(
        compiler: C,
        config: CompileConfig,
        clock: Box<dyn Clock>,
    ) -> Result<Self, ConfigError> {
        let inner = Inner {
            state: CompileState::new(config)?,
            keys: P::Arc::new(Vec::new()),
            edition: 0,
            artefacts: BTreeMap::new(),
        };
        let cache = Cache {
            compiler,
            clock,
            // A new handle has seen generation 0: so it looks.
            generation: P::AtomicU64::new(1),
            inner: P::Mutex::new(inner),
        };
        Ok(CompiledStep {
            shared: P::Arc::new(cache),
        })
    }

    /// A thread's way to the step for `key`. Nothing is compiled before it runs.
    pub fn handle(&self, key: C::Key) -> StepHandle<C, P> {
        StepHandle::new(self.clone(), key)
    }

    /// The epochs that follow are those of `run`; whether it is another one than before. A process
    /// may train more than once, and the epochs of each run begin anew: without this, none of the
    /// second run's would be a new one, and nothing that has failed be compiled again.
    ///
    /// As an [`EpochGuard`] the cache does this by itself.
    pub fn begin_run(&self, run: RunId) -> bool {
        self.shared.change(|inner| inner.state.begin_run(run))
    }

    /// An epoch begins: what has failed and cooled off may be compiled again, once a key, if that
    /// begins within `left`; with [`Duration::MAX`], at the key's next use. Who uses a key later
    /// than that finds its permit lapsed, which is counted. The same epoch again, or an earlier
    /// one, changes nothing.
    pub fn apply_epoch(&self, epoch: Epoch, left: Duration) -> Permits {
        let now = self.shared.clock.now();
        let (permits, keys) = self.shared.change(|inner| {
            let permits = inner.state.apply_epoch(epoch, now, left);
            if permits.news {
                self.shared.turn_over();
            }
            (permits, inner.keys.clone())
        });
        for transition in &permits.overdue {
            let named = keys.iter().find(|(_, id)| *id == transition.key);
            if let Some((key, _)) = named {
                told::of(key, transition, "not back by its deadline");
            }
        }
        permits
    }

    /// Forgets a key and drops what was compiled for it, once no handle uses it any more. A
    /// handle of it runs eagerly until an epoch begins, and then asks for room anew. Whether
    /// there was such a key.
    pub fn forget(&self, key: &C::Key) -> bool {
        loop {
            let (keys, edition) = self.shared.keys();
            let Some(at) = keys.iter().position(|(known, _)| known == key) else {
                return false;
            };
            let id = keys[at].1;
            let mut others = keys.to_vec();
            let forgotten = others.remove(at);
            let others = P::Arc::new(others);
            let replaced = self.shared.change(|inner| {
                (inner.edition == edition).then(|| {
                    inner.edition += 1;
                    inner.state.forget(id);
                    self.shared.turn_over();
                    let keys = core::mem::replace(&mut inner.keys, others);
                    (keys, inner.artefacts.remove(&id))
                })
            });
            drop(forgotten);
            if replaced.is_some() {
                return true;
            }
        }
    }

    /// How often what has happened. Calls that handles have not told of yet are not in it.
    #[must_use]
    pub fn counters(&self) -> CompileCounters {
        self.shared.inner.lock().state.counters()
    }

    /// Where a key is; `None` if there is none such.
    #[must_use]
    pub fn phase(&self, key: &C::Key) -> Option<Phase> {
        let (keys, _) = self.shared.keys();
        let (_, id) = keys.iter().find(|(known, _)| known == key)?;
        self.shared.inner.lock().state.phase(*id)
    }

    /// Keys in the cache now.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.shared.keys().0.len()
    }

    /// Checks the whole state.
    ///
    /// # Errors
    /// The first property of [`invariants`](super::invariants) that does not hold.
    pub fn audit(&self) -> Result<(), InvariantViolation> {
        let state = self.shared.inner.lock().state.clone();
        state.validate()
    }
}

impl<C: StepCompiler, P: Platform> Cache<C, P> {
    /// What a handle compares with what it saw last.
    #[inline]
    pub(super) fn generation(&self) -> u64 {
        // ORDERING: Relaxed. The number says only whether to look again, and what is then seen
        // comes through the lock. Whoever was told of a change sees the number it was made with,
        // or a later one; whoever was not comes as if it had come a moment earlier.
        self.generation.load(Ordering::Relaxed)
    }

    /// Lets every handle look again. To be called with the lock held.
    fn turn_over(&self) {
        let next = self.generation() + 1;
        // ORDERING: Relaxed, as it is read. The lock keeps two of these from being one.
        self.generation.store(next, Ordering::Relaxed);
    }

    /// Changes something with the lock held, and tells of what it counts with the lock let go.
    fn change<T>(&self, change: impl FnOnce(&mut Inner<C, P>) -> T) -> T {
        let (value, before, after) = {
            let mut inner = self.inner.lock();
            let before = inner.state.counters();
            let value = change(&mut inner);
            (value, before, inner.state.counters())
        };
        told::counted(&before, &after);
        value
    }

    fn keys(&self) -> (P::Arc<Keys<C>>, u64) {
        let inner = self.inner.lock();
        (inner.keys.clone(), inner.edition)
    }

    /// The key's number, if there is one or room for one.
    pub(super) fn resolve(&self, key: &C::Key) -> Result<KeyId, TooManyKeys> {
        loop {
            let (keys, edition) = self.keys();
            if let Some((_, id)) = keys.iter().find(|(known, _)| known == key) {
                return Ok(*id);
            }
            let mut more = Vec::with_capacity(keys.len() + 1);
            more.extend(keys.iter().cloned());
            let new = key.clone();
            let (admitted, unused) = self.change(|inner| {
                if inner.edition != edition {
                    return (None, Err((more, new)));
                }
                match inner.state.admit() {
                    Ok(id) => {
                        inner.edition += 1;
                        more.push((new, id));
                        let keys = core::mem::replace(&mut inner.keys, P::Arc::new(more));
                        (Some(Ok(id)), Ok(keys))
                    }
                    Err(refused) => (Some(Err(refused)), Err((more, new))),
                }
            });
            drop(unused);
            if let Some(admitted) = admitted {
                return admitted;
            }
        }
    }

    /// Tells of `calls`, and asks what to do for a key.
    pub(super) fn look(&self, id: Option<KeyId>, calls: Calls) -> Look<C, P> {
        let now = self.clock.now();
        self.change(|inner| {
            inner.state.called(calls.compiled, calls.eager);
            let decision = id.and_then(|id| inner.state.ask(id, now));
            let used = id.filter(|_| matches!(decision, Some(Decision::Use { .. })));
            Look {
                generation: self.generation(),
                decision,
                artefact: used.and_then(|id| inner.artefacts.get(&id).cloned()),
            }
        })
    }

    /// Tells of calls, and asks nothing.
    pub(super) fn add(&self, calls: Calls) {
        self.change(|inner| inner.state.called(calls.compiled, calls.eager));
    }

    /// Publishes what has passed, unless another attempt was first; as of which generation.
    pub(super) fn publish(
        &self,
        key: &C::Key,
        attempt: Attempt,
        artefact: P::Arc<C::Artefact>,
    ) -> Option<u64> {
        let (transition, generation, unused) = self.change(|inner| {
            let transition = inner.state.passed(attempt);
            let unused = match transition {
                Some(_) => {
                    self.turn_over();
                    inner.artefacts.insert(attempt.key, artefact)
                }
                None => Some(artefact),
            };
            (transition, self.generation(), unused)
        });
        drop(unused);
        let transition = transition?;
        told::of(key, &transition, "");
        Some(generation)
    }

    /// Tells of an attempt that has failed; as of which generation that is what there is to know.
    pub(super) fn failed(
        &self,
        key: &C::Key,
        attempt: Attempt,
        failure: &CompileFailure,
    ) -> Option<u64> {
        let now = self.clock.now();
        let (transition, generation) = self.change(|inner| {
            let transition = inner.state.failed(attempt, failure.class, now);
            (transition, self.generation())
        });
        let transition = transition?;
        told::of(key, &transition, &failure.message);
        Some(generation)
    }

    /// Takes back what has failed in use, unless somebody has already.
    pub(super) fn withdraw(
        &self,
        key: &C::Key,
        (id, number): (KeyId, u64),
        failure: &CompileFailure,
    ) {
        let now = self.clock.now();
        let (transition, withdrawn) =
            self.change(
                |inner| match inner.state.withdrawn(id, number, failure.class, now) {
                    Some(transition) => {
                        self.turn_over();
                        (Some(transition), inner.artefacts.remove(&id))
                    }
                    None => (None, None),
                },
            );
        drop(withdrawn);
        if let Some(transition) = transition {
            told::of(key, &transition, &failure.message);
        }
    }
}

/// How user code came to nothing.
pub(super) enum Mishap {
    /// It failed, or panicked with a text.
    Failed(CompileFailure),
    /// It panicked with something else, as coroutines and threads are cancelled: that must go on.
    Unwinding(Box<dyn Any + Send>),
}

impl From<CompileFailure> for Mishap {
    fn from(failure: CompileFailure) -> Self {
        Mishap::Failed(failure)
    }
}

/// Runs user code, up to a panic.
pub(super) fn caught<T, E: Into<Mishap>>(run: impl FnOnce() -> Result<T, E>) -> Result<T, Mishap> {
    // What was broken half way is the artefact, which is not used again, or what the compiler
    // keeps to itself.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(ran) => ran.map_err(Into::into),
        Err(payload) => Err(match text_of(payload.as_ref()) {
            Some(message) => Mishap::Failed(CompileFailure::panicked(message)),
            None => Mishap::Unwinding(payload),
        }),
    }
}

impl<C: StepCompiler, P: Platform> Clone for CompiledStep<C, P> {
    fn clone(&self) -> Self {
        CompiledStep {
            shared: self.shared.clone(),
        }
    }
}

impl<C: StepCompiler, P: Platform> EpochGuard for CompiledStep<C, P> {
    /// Allows what has cooled off to be compiled at its next use in the epoch, however long an
    /// evaluation or a checkpoint comes before.
    fn at_epoch(&mut self, record: &CommitRecord) {
        self.begin_run(record.run);
        self.apply_epoch(record.epoch, Duration::MAX);
    }
}

impl<C: StepCompiler, P: Platform> fmt::Debug for CompiledStep<C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.inner.lock().state.clone();
        f.debug_tuple("CompiledStep").field(&state).finish()
    }
}
