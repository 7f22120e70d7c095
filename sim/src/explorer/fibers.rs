//! The stacks that tasks run on: kept from one execution to the next, because making one
//! costs more than a short execution.

use std::panic::{self, AssertUnwindSafe};

use generator::{Generator, Gn};

use super::runtime;

/// In words of the machine: room for bodies that format messages, in debug builds too. Only
/// what is touched is ever backed by memory.
const STACK_WORDS: usize = 64 << 10;

/// What ends a task from inside where its execution is given up. It is raised past the panic
/// hook, so nobody hears of it.
pub(super) struct GivenUp;

/// Every stack made so far.
#[derive(Default)]
pub(super) struct Fibers {
    all: Vec<Option<Generator<'static, (), ()>>>,
    idle: Vec<usize>,
}

impl Fibers {
    /// A stack that runs nothing: the next [`Fibers::resume`] takes the job laid out by the
    /// runtime.
    pub(super) fn take(&mut self) -> usize {
        if let Some(fiber) = self.idle.pop() {
            return fiber;
        }
        let mut fiber = Gn::new_opt(STACK_WORDS, work);
        fiber.resume();
        self.all.push(Some(fiber));
        self.all.len() - 1
    }

    /// Runs what is on the stack until it hands over.
    pub(super) fn resume(&mut self, fiber: usize) {
        if let Some(Some(fiber)) = self.all.get_mut(fiber) {
            fiber.resume();
        }
    }

    /// The stack runs nothing any more.
    pub(super) fn give_back(&mut self, fiber: usize) {
        self.idle.push(fiber);
    }

    /// The stack holds something that cannot be unwound: it is never used or freed again.
    pub(super) fn leak(&mut self, fiber: usize) {
        if let Some(fiber) = self.all.get_mut(fiber).and_then(Option::take) {
            std::mem::forget(fiber);
        }
    }
}

impl Drop for Fibers {
    fn drop(&mut self) {
        // Told to go on without a job, a worker returns, and its stack unwinds in peace.
        for fiber in std::mem::take(&mut self.idle) {
            self.resume(fiber);
        }
        // Those of an execution that never ended hold what cannot be dropped from outside.
        for fiber in self.all.drain(..).flatten() {
            if !fiber.is_done() {
                std::mem::forget(fiber);
            }
        }
    }
}

/// Hands over to whoever resumed this stack.
#[allow(
    deprecated,
    reason = "a platform's functions are static: there is no scope to pass them"
)]
pub(super) fn hand_over() {
    generator::yield_with(());
}

fn work() {
    loop {
        hand_over();
        let Some(job) = runtime::take_job() else {
            return;
        };
        let result = panic::catch_unwind(AssertUnwindSafe(job));
        match result {
            Ok(()) => runtime::task_returned(),
            Err(payload) if payload.is::<GivenUp>() => runtime::task_given_up(),
            Err(payload) => runtime::task_panicked(&*payload),
        }
    }
}
