//! [`StepHandle`]: one thread's way to one step.

use core::fmt;
use std::panic::resume_unwind;

use super::shell::{Calls, CompileFailure, CompiledStep, Look, Mishap, StepCompiler, caught};
use super::state::{Attempt, Decision, KeyId};
use super::told;
use crate::platform::{Platform, Shared, Std};

/// Runs the step of one key, by what is compiled or eagerly.
///
/// It keeps what it saw last. As long as nothing has changed, a call costs one atomic load beside
/// the step itself, and takes no lock. Who finds that there is something to compile compiles it
/// here and now; all others run eagerly meanwhile.
///
/// [`CompiledStep`] shows one at work.
pub struct StepHandle<C: StepCompiler, P: Platform = Std> {
    cache: CompiledStep<C, P>,
    key: C::Key,
    /// `None` until it was looked for, and if there was no room.
    id: Option<KeyId>,
    /// The generation that `ready` is of; 0 before the first look.
    seen: u64,
    /// What to use, and the attempt it is of; eager, if none.
    ready: Option<(P::Arc<C::Artefact>, u64)>,
    calls: Calls,
    /// Whether it was told that there is no room for its key.
    crowded_out: bool,
}

impl<C: StepCompiler, P: Platform> StepHandle<C, P> {
    pub(super) fn new(cache: CompiledStep<C, P>, key: C::Key) -> Self {
        StepHandle {
            cache,
            key,
            id: None,
            seen: 0,
            ready: None,
            calls: Calls::default(),
            crowded_out: false,
        }
    }

    /// Runs the step. Whatever goes wrong in compiling, or in running what was compiled, the
    /// answer is then the eager one, to the same input.
    ///
    /// # Panics
    /// Only as [`StepCompiler::eager`] does; see [`CompiledStep`] about cancelling.
    #[inline]
    pub fn run(&mut self, input: &C::Input<'_>) -> C::Output {
        if self.seen != self.cache.shared.generation()
            && let Some(attempt) = self.look()
        {
            return self.attempt(attempt, input);
        }
        let Some((artefact, _)) = &self.ready else {
            return self.fall_back(input);
        };
        let compiler = &self.cache.shared.compiler;
        match caught(|| compiler.execute(artefact, &self.key, input)) {
            Ok(output) => {
                self.calls.compiled += 1;
                output
            }
            Err(Mishap::Failed(failure)) => self.withdraw(&failure, input),
            Err(Mishap::Unwinding(payload)) => resume_unwind(payload),
        }
    }

    /// Runs the step eagerly, as if there were no cache: nothing is looked at or counted.
    pub fn run_eagerly(&self, input: &C::Input<'_>) -> C::Output {
        self.cache.shared.compiler.eager(&self.key, input)
    }

    /// Adds the calls it has counted to the cache's counters. It does so by itself whenever it
    /// takes the lock, and when it is dropped.
    pub fn flush(&mut self) {
        let calls = core::mem::take(&mut self.calls);
        self.cache.shared.add(calls);
    }

    /// What it runs.
    pub const fn key(&self) -> &C::Key {
        &self.key
    }

    /// Whether its last look found something compiled.
    #[must_use]
    pub const fn is_compiled(&self) -> bool {
        self.ready.is_some()
    }

    /// Looks what there is to run; the attempt that is to be made, if it is this handle's turn.
    #[cold]
    fn look(&mut self) -> Option<Attempt> {
        let shared = &self.cache.shared;
        if self.id.is_none() {
            let resolved = shared.resolve(&self.key);
            if let Err(refused) = &resolved
                && !core::mem::replace(&mut self.crowded_out, true)
            {
                told::crowded_out(&self.key, refused);
            }
            self.id = resolved.ok();
        }
        let Look {
            generation,
            decision,
            artefact,
        } = shared.look(self.id, core::mem::take(&mut self.calls));
        self.seen = generation;
        self.ready = None;
        match decision {
            Some(Decision::Use { number }) => {
                self.ready = artefact.map(|artefact| (artefact, number));
                None
            }
            Some(Decision::Compile(attempt)) => Some(attempt),
            Some(Decision::Eager) => None,
            None => {
                // There was no room, or it was forgotten: next time it asks again.
                self.id = None;
                None
            }
        }
    }

    /// Compiles and runs once; what has passed is published.
    #[cold]
    fn attempt(&mut self, attempt: Attempt, input: &C::Input<'_>) -> C::Output {
        let (shared, key) = (&self.cache.shared, &self.key);
        let compiler = &shared.compiler;
        let passed = caught(|| -> Result<_, CompileFailure> {
            told::began(key, attempt);
            let artefact = compiler.compile(key, &attempt)?;
            let output = compiler.execute(&artefact, key, input)?;
            Ok((artefact, output))
        });
        match passed {
            Ok((artefact, output)) => {
                self.calls.compiled += 1;
                let artefact = P::Arc::new(artefact);
                // If another was first, that is found by the next look.
                if let Some(generation) = shared.publish(key, attempt, artefact.clone()) {
                    self.seen = generation;
                    self.ready = Some((artefact, attempt.number));
                }
                output
            }
            Err(Mishap::Unwinding(payload)) => {
                // Nobody else would compile while this attempt counts as under way.
                let why = "it unwound with a payload that is no text".to_owned();
                shared.failed(key, attempt, &CompileFailure::panicked(why));
                resume_unwind(payload)
            }
            Err(Mishap::Failed(failure)) => {
                if let Some(generation) = shared.failed(key, attempt, &failure) {
                    self.seen = generation;
                }
                self.fall_back(input)
            }
        }
    }

    /// What was published has failed: nobody uses it any more.
    #[cold]
    fn withdraw(&mut self, failure: &CompileFailure, input: &C::Input<'_>) -> C::Output {
        if let (Some(id), Some((_, number))) = (self.id, self.ready.take()) {
            self.cache.shared.withdraw(&self.key, (id, number), failure);
        }
        self.fall_back(input)
    }

    fn fall_back(&mut self, input: &C::Input<'_>) -> C::Output {
        self.calls.eager += 1;
        self.cache.shared.compiler.eager(&self.key, input)
    }
}

impl<C: StepCompiler, P: Platform> Drop for StepHandle<C, P> {
    fn drop(&mut self) {
        self.flush();
    }
}

impl<C: StepCompiler, P: Platform> fmt::Debug for StepHandle<C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepHandle")
            .field("key", &self.key)
            .field("compiled", &self.is_compiled())
            .finish_non_exhaustive()
    }
}
