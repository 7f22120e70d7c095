//! What the pool costs, uncontended, next to the barest thing that does the same job in the
//! same process. One line of JSON a row on stdout:
//!
//! ```text
//! {"bench":"block_pool","row":"allocate_free","n":8,"ours_ns":1.0,"peer":"mutex_vec","peer_ns":1.0,"ratio":1.0,"limit":2.0,"within":true}
//! ```
//!
//! **Ours and the peer take turns in short rounds (and in who goes first), and the ratio is
//! the median of the rounds' ratios.** So a busy neighbour, a change of clock speed or a page
//! fault hits both or is outvoted, and the ratio holds on a machine whose nanoseconds do not.
//!
//! # Peers
//! - `mutex_vec`: the same job without a single check: a `Mutex<Vec<u32>>` whose allocation
//!   returns the batch as a `Vec` of its own (somebody has to hold it) and whose free puts it
//!   back.
//! - `mutex_vec_loop`: the same, written as most write it: popped and pushed block by block.
//! - `mutex_vec_popn`: the floor: pops into a buffer that the caller keeps, pushes it back, and
//!   never touches the heap. No interface that returns what it allocated can be that.
//! - `mutex_vec_arc`: `mutex_vec` with a share of the pool taken for each batch, as a shared
//!   lease takes one.
//! - `handwritten`: [`twin`], our shell without `Platform`. Both shells call the very same
//!   functions of `PoolState`, monomorphised in this crate, so the row `platform_overhead`
//!   shows the trait and nothing else. (To reach them, `PoolState::allocate_into` and
//!   `PoolState::release` are public but hidden.)
//!
//! A row without a limit has `"limit":null,"within":null`.
//!
//! `--quick` or `SELVEDGE_BENCH_QUICK=1` runs a fiftieth: enough to see that it works. So does
//! a build with debug assertions, which checks every invariant at every call.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a bench reads the clock, and its peers are written against std"
)]

mod measure;
mod twin;

use std::env;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use selvedge_core::{BlockPool, LayerId, ModelCacheSpec};

use self::measure::{Row, Size};
use self::twin::TwinPool;

const BLOCKS: u32 = 1_024;
const LAYER: LayerId = LayerId(0);

fn main() -> ExitCode {
    let size = match Size::from_args("block_pool", env::args().skip(1)) {
        Ok(size) => size,
        Err(exit) => return exit,
    };
    for (n, limit) in [(1, 1.5), (8, 2.0), (64, 4.0)] {
        allocate_free(size, n, limit);
    }
    shared_lease(size);
    persist_free(size, 8);
    for n in [1, 8] {
        platform_overhead(size, n);
    }
    ExitCode::SUCCESS
}

/// A lease and its drop, against both peers.
fn allocate_free(size: Size, n: u32, limit: f64) {
    let row = Row {
        bench: "block_pool",
        name: "allocate_free",
        n,
        limit: Some(limit),
    };
    let (pool, agent) = ours();
    let ours = || {
        let lease = pool.allocate(n, LAYER, agent).expect("the pool is empty");
        black_box(lease.blocks());
    };
    let vec = MutexVec::new();
    row.compare(size, ours, "mutex_vec", || {
        let batch = vec.allocate(n as usize).expect("the pool is empty");
        vec.free(black_box(batch));
    });
    row.compare(size, ours, "mutex_vec_loop", || {
        let batch = vec.allocate_one_by_one(n as usize);
        vec.free_one_by_one(black_box(batch.expect("the pool is empty")));
    });
    let mut buffer = Vec::with_capacity(n as usize);
    row.compare(size, ours, "mutex_vec_popn", || {
        assert!(vec.pop_n(n as usize, &mut buffer), "the pool is empty");
        vec.push_n(black_box(&mut buffer));
    });
}

/// A lease that owns a share of the pool, and its drop.
fn shared_lease(size: Size) {
    let row = Row {
        bench: "block_pool",
        name: "shared_lease",
        n: 1,
        limit: None,
    };
    let (pool, agent) = ours();
    let pool = Arc::new(pool);
    let vec = Arc::new(MutexVec::new());
    let ours = || {
        let lease = pool.allocate(1, LAYER, agent).expect("the pool is empty");
        let lease = lease.into_shared(&pool).expect("it is of this pool");
        black_box(lease.blocks());
    };
    row.compare(size, ours, "mutex_vec_arc", || {
        let share = Arc::clone(&vec);
        let batch = share.allocate(1).expect("the pool is empty");
        black_box(&share).free(black_box(batch));
    });
}

/// Handles kept past their lease and freed by hand: the path that checks every handle.
fn persist_free(size: Size, n: u32) {
    let row = Row {
        bench: "block_pool",
        name: "persist_free",
        n,
        limit: None,
    };
    let (pool, agent) = ours();
    let vec = MutexVec::new();
    let ours = || {
        let lease = pool.allocate(n, LAYER, agent).expect("the pool is empty");
        let kept = black_box(lease.persist());
        pool.free(agent, &kept).expect("they are the agent's");
    };
    row.compare(size, ours, "mutex_vec", || {
        let batch = vec.allocate(n as usize).expect("the pool is empty");
        vec.free(black_box(batch));
    });
}

/// The shell over `Platform` against the shell over std.
fn platform_overhead(size: Size, n: u32) {
    let row = Row {
        bench: "block_pool",
        name: "platform_overhead",
        n,
        limit: Some(1.02),
    };
    // Both on the heap, so that neither shares a line with the bench's own counters.
    let (pool, agent) = ours();
    let pool = Arc::new(pool);
    let twin = Arc::new(TwinPool::new(spec(), BLOCKS).expect("it has blocks"));
    let twin_agent = twin.agent("alice");
    let shared = twin.allocate(1, LAYER, twin_agent).expect("it is empty");
    drop(black_box(shared.into_shared(&twin)));
    let ours = || {
        let lease = pool.allocate(n, LAYER, agent).expect("the pool is empty");
        black_box(lease.blocks());
    };
    row.compare(size, ours, "handwritten", || {
        let lease = (twin.allocate(n, LAYER, twin_agent)).expect("the pool is empty");
        black_box(lease.blocks());
    });
}

fn spec() -> ModelCacheSpec {
    ModelCacheSpec::new(1, 1, 8, 16).expect("a valid spec")
}

fn ours() -> (BlockPool, selvedge_core::AgentId) {
    let pool = BlockPool::new(spec(), BLOCKS).expect("it has blocks");
    let agent = pool.agent("alice").expect("the name is not empty");
    (pool, agent)
}

/// A free list behind a lock, and not one check more.
struct MutexVec(Mutex<Vec<u32>>);

impl MutexVec {
    fn new() -> Self {
        MutexVec(Mutex::new((0..BLOCKS).collect()))
    }

    #[inline]
    fn allocate(&self, n: usize) -> Option<Vec<u32>> {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = free.len().checked_sub(n)?;
        Some(free.split_off(rest))
    }

    #[inline]
    fn free(&self, batch: Vec<u32>) {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.extend(batch);
    }

    #[inline]
    fn allocate_one_by_one(&self, n: usize) -> Option<Vec<u32>> {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < n {
            return None;
        }
        let mut batch = Vec::with_capacity(n);
        for _ in 0..n {
            batch.push(free.pop()?);
        }
        Some(batch)
    }

    #[inline]
    fn free_one_by_one(&self, batch: Vec<u32>) {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for id in batch {
            free.push(id);
        }
    }

    #[inline]
    fn pop_n(&self, n: usize, into: &mut Vec<u32>) -> bool {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rest) = free.len().checked_sub(n) else {
            return false;
        };
        into.extend(free.drain(rest..));
        true
    }

    #[inline]
    fn push_n(&self, from: &mut Vec<u32>) {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.append(from);
    }
}
