//! A step that is compiled as it is told: what the scenarios about compiled steps share.
//!
//! It doubles a number, eagerly or compiled, and says which of the two it was.

use core::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use selvedge_core::ddp::Epoch;
use selvedge_core::platform::{Atomic, AtomicInt, Ordering, Platform, Shared};
use selvedge_core::time::{Clock, Instant};
use selvedge_core::train::compiled_step::{
    Attempt, CompileConfig, CompileFailure, CompiledStep, FirstCompile, StepCompiler, StepHandle,
};
use selvedge_sim::violation;

/// How one compile goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goes {
    Well,
    /// For want of memory.
    Fails,
    /// Because it cannot be compiled.
    FailsForGood,
    Panics,
    /// At its first execution: what is compiled lazily is compiled then.
    FailsInUse,
    PanicsInUse,
}

/// How the compiles of a scenario go, in the order they begin.
pub(crate) struct Script<P: Platform> {
    goes: Vec<Goes>,
    begun: P::AtomicU32,
    /// Whether somebody has had a compiled answer.
    pub(crate) succeeded: P::AtomicBool,
    /// Told whenever a compile fails, with whether somebody has succeeded by then.
    on_failure: fn(bool),
    /// How long what fails takes at most: as long as nobody has succeeded, so many turns.
    slow: u32,
}

/// What compiling gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compiled(Goes);

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) doubled: u32,
    pub(crate) compiled: bool,
}

impl<P: Platform> Script<P> {
    /// Goes like this, and well after that.
    pub(crate) fn new(goes: Vec<Goes>) -> P::Arc<Self> {
        Script::<P>::told(goes, 0, |_| {})
    }

    pub(crate) fn told(goes: Vec<Goes>, slow: u32, on_failure: fn(bool)) -> P::Arc<Self> {
        P::Arc::new(Script {
            goes,
            begun: P::AtomicU32::new(0),
            succeeded: P::AtomicBool::new(false),
            on_failure,
            slow,
        })
    }

    /// Compiles that were begun.
    pub(crate) fn begun(&self) -> u32 {
        // ORDERING: Relaxed, all of these: they only count.
        self.begun.load(Ordering::Relaxed)
    }

    pub(crate) fn compile_it(&self) -> Result<Compiled, CompileFailure> {
        let nth = self.begun.fetch_add(1, Ordering::Relaxed) as usize;
        let goes = self.goes.get(nth).copied().unwrap_or(Goes::Well);
        match goes {
            Goes::Well | Goes::FailsInUse | Goes::PanicsInUse => return Ok(Compiled(goes)),
            Goes::Fails | Goes::FailsForGood | Goes::Panics => {}
        }
        let mut turns = 0;
        while turns < self.slow && !self.succeeded.load(Ordering::Relaxed) {
            turns += 1;
            P::yield_now();
        }
        (self.on_failure)(self.succeeded.load(Ordering::Relaxed));
        match goes {
            // As a panic looks to who catches it, without the hook, which would end the process.
            Goes::Panics => resume_unwind(Box::new("the compiler panics".to_owned())),
            Goes::Fails => Err(CompileFailure::transient("out of memory")),
            _ => Err(CompileFailure::deterministic("no such kernel")),
        }
    }

    pub(crate) fn run_compiled(
        &self,
        compiled: Compiled,
        number: u32,
    ) -> Result<Answer, CompileFailure> {
        match compiled.0 {
            Goes::FailsInUse => Err(CompileFailure::transient("out of memory at last")),
            Goes::PanicsInUse => resume_unwind(Box::new("what was compiled panics".to_owned())),
            _ => Ok(Answer {
                doubled: 2 * number,
                compiled: true,
            }),
        }
    }

    pub(crate) fn run_eagerly(&self, number: u32) -> Answer {
        Answer {
            doubled: 2 * number,
            compiled: false,
        }
    }
}

/// Runs what may panic; a panic is what it says, as to a program that catches every exception.
pub(crate) fn excepted<T>(
    run: impl FnOnce() -> Result<T, CompileFailure>,
) -> Result<T, CompileFailure> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(payload) => match payload.downcast::<String>() {
            Ok(text) => Err(CompileFailure::deterministic(*text)),
            Err(other) => resume_unwind(other),
        },
    }
}

/// A cache for the step, as far as these scenarios need one.
pub(crate) trait Steps<P: Platform>: Send + Sync + 'static {
    /// One thread's way to it.
    type Thread: Send + 'static;
    fn new(script: P::Arc<Script<P>>) -> Self;
    fn thread(this: &P::Arc<Self>) -> Self::Thread
    where
        Self: Sized;
    /// Runs the step; an error is one that the caller sees.
    fn run(thread: &mut Self::Thread, number: u32) -> Result<Answer, CompileFailure>;
    /// Time passes, and then an epoch begins.
    fn epoch(&self, _number: u64, _after: Duration) {}
}

/// No failure cools for longer.
pub(crate) const LONGEST: Duration = Duration::from_secs(6 * 60 * 60);

/// A clock that is moved by hand.
struct Hands<P: Platform>(P::Arc<P::AtomicU64>);

impl<P: Platform> Clock for Hands<P> {
    fn now(&self) -> Instant {
        // ORDERING: Relaxed. Time passes for each by itself.
        Instant::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl<P: Platform> fmt::Debug for Hands<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hands")
    }
}

/// The code that ships.
pub(crate) struct Shipped<P: Platform> {
    steps: CompiledStep<Doubling<P>, P>,
    nanos: P::Arc<P::AtomicU64>,
}

/// The step as the cache knows it.
pub(crate) struct Doubling<P: Platform>(P::Arc<Script<P>>);

impl<P: Platform> StepCompiler for Doubling<P> {
    type Key = ();
    type Input<'a> = u32;
    type Output = Answer;
    type Artefact = Compiled;
    fn eager(&self, (): &(), number: &u32) -> Answer {
        self.0.run_eagerly(*number)
    }
    fn compile(&self, (): &(), _: &Attempt) -> Result<Compiled, CompileFailure> {
        self.0.compile_it()
    }
    fn execute(
        &self,
        compiled: &Compiled,
        (): &(),
        number: &u32,
    ) -> Result<Answer, CompileFailure> {
        self.0.run_compiled(*compiled, *number)
    }
}

impl<P: Platform> Shipped<P> {
    /// With a first compile that is left to an epoch, or not.
    pub(crate) fn compiling(script: P::Arc<Script<P>>, first: FirstCompile) -> Self {
        let nanos = P::Arc::new(P::AtomicU64::new(0));
        let config = CompileConfig {
            first,
            ..CompileConfig::default()
        };
        let clock = Box::new(Hands::<P>(nanos.clone()));
        match CompiledStep::new(Doubling(script), config, clock) {
            Ok(steps) => Shipped { steps, nanos },
            Err(refused) => violation!("bad-configuration", "{refused}"),
        }
    }

    /// A thread's way to the step.
    pub(crate) fn handle(&self) -> StepHandle<Doubling<P>, P> {
        self.steps.handle(())
    }

    /// Every property of the state holds.
    pub(crate) fn audit(&self) {
        if let Err(violated) = self.steps.audit() {
            violation!(violated.property, "{violated}");
        }
    }
}

impl<P: Platform> Steps<P> for Shipped<P> {
    type Thread = StepHandle<Doubling<P>, P>;

    fn new(script: P::Arc<Script<P>>) -> Self {
        Shipped::compiling(script, FirstCompile::AtUse)
    }

    fn thread(this: &P::Arc<Self>) -> Self::Thread {
        this.handle()
    }

    fn run(thread: &mut Self::Thread, number: u32) -> Result<Answer, CompileFailure> {
        Ok(thread.run(&number))
    }

    fn epoch(&self, number: u64, after: Duration) {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        // ORDERING: Relaxed, as above.
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.steps
            .apply_epoch(Epoch(number), Duration::from_secs(1));
        self.audit();
    }
}

/// Runs, and checks what comes of it but for the way it came.
pub(crate) fn answer<P: Platform, T: Steps<P>>(thread: &mut T::Thread, number: u32) -> Answer {
    match T::run(thread, number) {
        Ok(answer) if answer.doubled == 2 * number => answer,
        Ok(answer) => violation!("wrong-value", "{answer:?} to {number}"),
        Err(escaped) => violation!("error-escaped", "{escaped}"),
    }
}
