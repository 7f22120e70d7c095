//! A step for the tests of the compiled-step cache: what it does wrong is told beforehand, and
//! the clock stands still unless somebody moves it.
#![allow(
    clippy::disallowed_types,
    reason = "a test hands what it watches to the other side"
)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use selvedge_core::time::{Clock, Instant};
use selvedge_core::train::compiled_step::{
    Attempt, CompileConfig, CompileFailure, CompiledStep, StepCompiler,
};

/// A clock that is moved by hand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hands(Arc<AtomicU64>);

impl Hands {
    pub(crate) fn forward(&self, by: Duration) {
        self.0.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

/// How one compile goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goes {
    Well,
    Transient,
    Deterministic,
    Panics,
    /// Panics with what is no text.
    Cancelled,
    /// Compiles, and fails at its first execution.
    Lazily,
    /// Compiles, and panics at its first execution.
    LazilyPanics,
    /// Takes so long, and passes.
    Slowly(Duration),
    /// Takes so long, and fails.
    SlowlyFails(Duration),
}

/// Doubles a number. What was compiled answers alike, and is told apart by a note.
#[derive(Clone)]
pub(crate) struct Doubling {
    /// How the next compiles go; well, when there are no more.
    pub(crate) script: Arc<Mutex<VecDeque<Goes>>>,
    /// What of was compiled fails from now on.
    pub(crate) broken: Arc<Mutex<Option<CompileFailure>>>,
    pub(crate) compiles: Arc<AtomicU64>,
    pub(crate) clock: Hands,
}

/// What compiling gives: how it goes when it runs.
pub(crate) struct Compiled(Goes);

impl StepCompiler for Doubling {
    type Key = &'static str;
    type Input<'a> = &'a [u64];
    type Output = Result<Vec<u64>, &'static str>;
    type Artefact = Compiled;

    fn eager(&self, _: &&'static str, input: &&[u64]) -> Self::Output {
        match input {
            [] => Err("nothing to double"),
            [13] => panic!("the step itself panics"),
            some => Ok(some.iter().map(|n| 2 * n).collect()),
        }
    }

    fn compile(&self, _: &&'static str, _: &Attempt) -> Result<Compiled, CompileFailure> {
        self.compiles.fetch_add(1, Ordering::SeqCst);
        let goes = self.script.lock().unwrap().pop_front();
        match goes.unwrap_or(Goes::Well) {
            Goes::Transient => Err(CompileFailure::transient("out of memory")),
            Goes::Deterministic => Err(CompileFailure::deterministic("no such kernel")),
            Goes::Panics => panic!("the compiler panics"),
            Goes::Cancelled => std::panic::panic_any(7_u8),
            Goes::SlowlyFails(by) => {
                self.clock.forward(by);
                Err(CompileFailure::transient("out of memory, in the end"))
            }
            Goes::Slowly(by) => {
                self.clock.forward(by);
                Ok(Compiled(Goes::Well))
            }
            goes => Ok(Compiled(goes)),
        }
    }

    fn execute(
        &self,
        compiled: &Compiled,
        key: &&'static str,
        input: &&[u64],
    ) -> Result<Self::Output, CompileFailure> {
        match compiled.0 {
            Goes::Lazily => return Err(CompileFailure::transient("out of memory at last")),
            Goes::LazilyPanics => panic!("what was compiled panics"),
            _ => {}
        }
        match &*self.broken.lock().unwrap() {
            Some(failure) => Err(failure.clone()),
            None => Ok(self.eager(key, input)),
        }
    }
}

impl Doubling {
    pub(crate) fn going(script: impl IntoIterator<Item = Goes>) -> Self {
        Doubling {
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            broken: Arc::default(),
            compiles: Arc::default(),
            clock: Hands::default(),
        }
    }

    /// A cache whose compiles go like this.
    pub(crate) fn cached(&self, config: CompileConfig) -> CompiledStep<Doubling> {
        let clock = Box::new(self.clock.clone());
        CompiledStep::new(self.clone(), config, clock).unwrap()
    }

    pub(crate) fn compiles(&self) -> u64 {
        self.compiles.load(Ordering::SeqCst)
    }
}
