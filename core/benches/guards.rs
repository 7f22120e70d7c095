//! What the guards of a training loop cost where they have nothing to do: a step that is compiled,
//! and a tensor of alpha that is there. One line of JSON a row on stdout:
//!
//! ```text
//! {"bench":"guards","row":"compiled_hit","n":1,"ours_ns":1.0,"peer":"atomic_load","peer_ns":1.0,"ratio":1.0,"limit":null,"within":null}
//! {"bench":"guards","row":"compiled_hit","over_ns":1.0,"limit_ns":10,"within":true}
//! ```
//!
//! The peer does the same work behind a bare atomic load. Both take turns in short rounds, as in
//! every bench here; `over_ns` is the median of the rounds' differences. A hit costs so little
//! that a ratio says more about the processor than about the guard, so the difference is what is
//! limited.
//!
//! Rows without a limit are for comparison: an uncontended lock, and an `Arc` that is cloned and
//! dropped, which is what a hit would cost if it were made with either.
//!
//! `--quick` or `SELVEDGE_BENCH_QUICK=1` runs a fiftieth.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a bench reads the clock, and its peers are written against std"
)]

mod measure;

use std::env;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use selvedge_core::ddp::Epoch;
use selvedge_core::time::SystemClock;
use selvedge_core::train::compiled_step::{
    Attempt, CompileConfig, CompileFailure, CompiledStep, StepCompiler,
};
use selvedge_core::train::{AlphaCache, AlphaKey, Dtype};

use self::measure::{Row, Size, median, time};

/// What a hit may cost beyond the bare load, in nanoseconds.
const LIMIT_NS: f64 = 10.0;

fn main() -> ExitCode {
    let size = match Size::from_args("guards", env::args().skip(1)) {
        Ok(size) => size,
        Err(exit) => return exit,
    };
    let within = [compiled_hit(size), alpha_hit(size)];
    match within.iter().all(|within| *within) || cfg!(debug_assertions) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// A step of almost nothing: what is measured is the way to it.
struct Add;

impl StepCompiler for Add {
    type Key = u32;
    type Input<'a> = u64;
    type Output = u64;
    type Artefact = u64;
    fn eager(&self, _: &u32, input: &u64) -> u64 {
        input.wrapping_add(1)
    }
    fn compile(&self, _: &u32, _: &Attempt) -> Result<u64, CompileFailure> {
        Ok(1)
    }
    fn execute(&self, one: &u64, _: &u32, input: &u64) -> Result<u64, CompileFailure> {
        Ok(input.wrapping_add(*one))
    }
}

fn compiled_hit(size: Size) -> bool {
    let clock = Box::new(SystemClock::new());
    let steps: CompiledStep<Add> =
        CompiledStep::new(Add, CompileConfig::default(), clock).expect("the default is valid");
    let mut handle = steps.handle(0);
    handle.run(&0);
    let ours = || {
        black_box(handle.run(&black_box(1)));
    };
    let (generation, one) = (AtomicU64::new(7), Arc::new(1_u64));
    let bare = || {
        black_box(generation.load(Ordering::Relaxed));
        black_box(black_box(1_u64).wrapping_add(*one));
    };
    let within = over(size, "compiled_hit", ours, bare);
    let mut handle = steps.handle(0);
    let locked = Mutex::new(Arc::clone(&one));
    row("compiled_hit").compare(
        size,
        || {
            black_box(handle.run(&black_box(1)));
        },
        "mutex_arc",
        || {
            let one = Arc::clone(&locked.lock().unwrap_or_else(PoisonError::into_inner));
            black_box(black_box(1_u64).wrapping_add(*one));
        },
    );
    within
}

fn alpha_hit(size: Size) -> bool {
    let cache: AlphaCache = AlphaCache::new(4).expect("it has places");
    cache.advance(Epoch(1));
    let mut worker = cache.join::<Vec<f32>>().expect("it is empty");
    let key = AlphaKey::new(0, Dtype::F32, 0.5);
    worker.get_or_insert_with(key, || vec![0.5]);
    let ours = || {
        let value = worker.get_or_insert_with(black_box(key), || unreachable!("it is there"));
        black_box(value);
    };
    let (generation, value) = (AtomicU64::new(7), vec![0.5_f32]);
    let bare = || {
        black_box(generation.load(Ordering::Relaxed));
        black_box(&value);
    };
    let within = over(size, "alpha_hit", ours, bare);
    let mut worker = cache.join::<Vec<f32>>().expect("there is room");
    let locked = Mutex::new(Some((key, value)));
    row("alpha_hit").compare(
        size,
        || {
            black_box(worker.get_or_insert_with(black_box(key), || vec![0.5]));
        },
        "mutex",
        || {
            let entry = locked.lock().unwrap_or_else(PoisonError::into_inner);
            black_box(entry.as_ref().filter(|(of, _)| *of == black_box(key)));
        },
    );
    within
}

fn row(name: &'static str) -> Row {
    Row {
        bench: "guards",
        name,
        n: 1,
        limit: None,
    }
}

/// Prints both lines of a row against the bare load; whether the limit was kept.
fn over(size: Size, name: &'static str, mut ours: impl FnMut(), mut bare: impl FnMut()) -> bool {
    row(name).compare(size, &mut ours, "atomic_load", &mut bare);
    let differences = (0..size.rounds).map(|round| {
        if round % 2 == 0 {
            let with = time(size.ops, &mut ours);
            with - time(size.ops, &mut bare)
        } else {
            let without = time(size.ops, &mut bare);
            time(size.ops, &mut ours) - without
        }
    });
    let over_ns = median(differences.collect());
    let within = over_ns <= LIMIT_NS;
    println!(
        r#"{{"bench":"guards","row":"{name}","over_ns":{over_ns:.2},"limit_ns":{LIMIT_NS},"within":{within}}}"#
    );
    within
}
