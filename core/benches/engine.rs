//! What a step of the batch engine costs beside the model's: the model here returns a token for
//! whoever is to have one, and computes nothing. One line of JSON a row on stdout, as
//! `block_pool` prints them.
//!
//! | row | what is compared | limit |
//! |---|---|---|
//! | `locks` | a step, against the same on a platform whose locks are none | 1.1 |
//! | `locks_memory` | what the locks take, in bytes | 1 MB |
//! | `sequences` | a step of n sequences, each, against a step of 16 sequences, each | |
//! | `pool` | a step of 16 sequences on a pool of n blocks, against one of 1,000 blocks | 1.15 |
//! | `request` | a whole short request on a pool of n blocks, against one of 1,000 blocks | 1.15 |
//!
//! It fails if a limit is not kept. `--quick` or `SELVEDGE_BENCH_QUICK=1` runs a fiftieth, which is
//! held to none.

mod measure;
mod unlocked;

use std::convert::Infallible;
use std::env;
use std::hint::black_box;
use std::mem::size_of;
use std::process::ExitCode;

use selvedge_core::engine::{
    BatchEngine, BlockSlot, EngineConfig, Generator, NewRequest, NewSequence, Produced, StepInput,
};
use selvedge_core::platform::{Platform, Shared};
use selvedge_core::time::Instant;
use selvedge_core::{AgentId, BlockPool, ModelCacheSpec, RequestId, Std};

use self::measure::{Row, Size, median, time};
use self::unlocked::Unlocked;

/// A sequence's tokens fit one block, so that nothing but steps is measured.
const BLOCK_TOKENS: u32 = 1 << 28;
const BYTES_ALLOWED: usize = 1 << 20;

fn main() -> ExitCode {
    let size = match Size::from_args("engine", env::args().skip(1)) {
        Ok(size) => size,
        Err(exit) => return exit,
    };
    let full = size.rounds == Size::FULL.rounds;
    // A step costs more than an allocation; a round shall not.
    let size = Size {
        ops: (size.ops / 20).max(2),
        ..size
    };
    let mut within = locks_memory();
    for n in [1, 16, 256] {
        within &= locks(size, n);
    }
    for n in [1, 16, 256] {
        sequences(size, n);
    }
    for n in [10_000, 100_000, 1_000_000] {
        within &= pool(size, n);
        within &= request(size, n);
    }
    // A short run is too noisy to be held to anything.
    match within || !full {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// A step of n sequences, with and without locks.
fn locks(size: Size, n: u32) -> bool {
    let row = Row {
        bench: "engine",
        name: "locks",
        n,
        limit: Some(1.1),
    };
    let ours = decoding::<Std>(n, 1_024);
    let theirs = decoding::<Unlocked>(n, 1_024);
    let step = || step(&ours);
    row.compare(size, step, "unlocked", || self::step(&theirs))
}

fn locks_memory() -> bool {
    let engine = size_of::<BatchEngine<Null, Std>>() - size_of::<BatchEngine<Null, Unlocked>>();
    let pool = size_of::<BlockPool<Std>>() - size_of::<BlockPool<Unlocked>>();
    let bytes = engine + pool;
    // No block, sequence or request of the engine has a lock of its own, so this is all. A front
    // end has one for each stream.
    println!(
        r#"{{"bench":"engine","row":"locks_memory","bytes":{bytes},"limit":{BYTES_ALLOWED},"within":{}}}"#,
        bytes <= BYTES_ALLOWED
    );
    bytes <= BYTES_ALLOWED
}

/// What a step costs for each sequence in it.
fn sequences(size: Size, n: u32) {
    let (few, many) = (decoding::<Std>(16, 1_024), decoding::<Std>(n, 1_024));
    let (mut each, mut ratios) = (Vec::new(), Vec::new());
    let ops = size.ops / n.isqrt().max(1) + 1;
    for _ in 0..size.rounds {
        let of_few = time(ops, &mut || step(&few)) / 16.0;
        let of_many = time(ops, &mut || step(&many)) / f64::from(n);
        each.push(of_many);
        ratios.push(of_many / of_few);
    }
    println!(
        r#"{{"bench":"engine","row":"sequences","n":{n},"ns_a_sequence":{:.1},"peer":"16 sequences","ratio":{:.3},"limit":null,"within":null}}"#,
        median(each),
        median(ratios)
    );
}

/// A step, however large the pool.
fn pool(size: Size, blocks: u32) -> bool {
    let row = Row {
        bench: "engine",
        name: "pool",
        n: blocks,
        limit: Some(1.15),
    };
    let (large, small) = (decoding::<Std>(16, blocks), decoding::<Std>(16, 1_000));
    let size = same_for_all(size, blocks);
    row.compare(size, || step(&large), "1000 blocks", || step(&small))
}

/// A request from its submission to its end, however large the pool.
fn request(size: Size, blocks: u32) -> bool {
    let row = Row {
        bench: "engine",
        name: "request",
        n: blocks,
        limit: Some(1.15),
    };
    let (large, small) = (Bench::<Std>::new(16, blocks), Bench::<Std>::new(16, 1_000));
    let serve = |bench: &Bench<Std>, agent| {
        bench.submit(NewRequest {
            keep_cache: false,
            ..NewRequest::new(agent, vec![1; 8], 4)
        });
        while bench.engine.snapshot().requests.total() > 0 {
            step(bench);
        }
    };
    let size = same_for_all(size, blocks);
    let (a, b) = (large.agent(0), small.agent(0));
    row.compare(
        size,
        || serve(&large, a),
        "1000 blocks",
        || serve(&small, b),
    )
}

/// [`Row::compare`] does less of what has a larger n, which is not what n means here.
fn same_for_all(size: Size, n: u32) -> Size {
    Size {
        ops: (size.ops / 4).max(1) * n.isqrt().max(1),
        ..size
    }
}

struct Bench<P: Platform> {
    engine: BatchEngine<Null, P>,
    pool: P::Arc<BlockPool<P>>,
}

impl<P: Platform> Bench<P> {
    fn new(block_tokens: u32, blocks: u32) -> Self {
        let spec = ModelCacheSpec::new(1, 1, 8, block_tokens).expect("a valid spec");
        let pool = P::Arc::new(BlockPool::new(spec, blocks).expect("it has blocks"));
        let config = EngineConfig {
            max_running: 1_024,
            ..EngineConfig::default()
        };
        let engine = BatchEngine::new(pool.clone(), Null, config).expect("it is valid");
        Bench { engine, pool }
    }

    fn agent(&self, k: u32) -> AgentId {
        (self.pool.agent(&format!("agent {k}"))).expect("it has a name")
    }

    fn submit(&self, request: NewRequest) {
        (self.engine.submit(request, Instant::ZERO)).expect("it is accepted");
    }
}

/// An engine with n sequences that decode for longer than any bench runs.
fn decoding<P: Platform>(n: u32, blocks: u32) -> Bench<P> {
    let bench = Bench::new(BLOCK_TOKENS, blocks);
    for k in 0..n {
        bench.submit(NewRequest::new(bench.agent(k), vec![1], BLOCK_TOKENS / 2));
    }
    step(&bench);
    assert_eq!(bench.engine.snapshot().requests.running, n);
    bench
}

fn step<P: Platform>(bench: &Bench<P>) {
    let told = bench.engine.step(Instant::ZERO).expect("it lives");
    black_box(told);
}

/// A model that takes no time.
struct Null;

impl Generator for Null {
    type Payload = ();
    type Error = Infallible;

    fn insert(&mut self, _: NewSequence<'_, ()>) -> Result<(), Infallible> {
        Ok(())
    }

    fn step(&mut self, input: &StepInput<'_>) -> Result<Vec<Produced>, Infallible> {
        let one = |&request: &RequestId| Produced {
            request,
            token: 1,
            finish: None,
        };
        Ok(input.decode.iter().map(one).collect())
    }

    fn extract_cache(&mut self, _: RequestId, slots: &[BlockSlot]) -> Result<Vec<()>, Infallible> {
        Ok(vec![(); slots.len()])
    }

    fn remove(&mut self, _: RequestId) {}
}
