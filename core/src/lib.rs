//! The code that ships: a KV-cache block pool, the batch engine on top of it, the epoch step of
//! data-parallel training ([`ddp`]) and the guards around a training loop ([`train`]). It is
//! written once against [`Platform`], so that real threads, loom, shuttle and every further checker
//! run the very same lines.
//!
//! ```
//! use selvedge_core::{BlockPool, LayerId, ModelCacheSpec};
//!
//! // Two layers, one KV head of dimension 8, 16 tokens a block.
//! let spec = ModelCacheSpec::new(2, 1, 8, 16)?;
//! let pool: BlockPool = BlockPool::new(spec, 4)?;
//! let alice = pool.agent("alice")?;
//!
//! let lease = pool.allocate(3, LayerId(0), alice)?;
//! assert_eq!(pool.snapshot().available, 1);
//! drop(lease); // all three come back under one lock
//! assert_eq!(pool.snapshot().available, 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`BatchEngine`] shows a whole run of the engine.
//!
//! # What this crate does not do
//! It runs no model (a [`Generator`] is yours) and holds no tensors (so is a block's payload
//! type), starts no thread unless [`EngineServer::start`](engine::EngineServer::start) is called,
//! reads no clock but through [`time::Clock`], draws no random number, and depends on no checker.
//!
//! # Features
//! All are off by default.
//! * `tokio`: a front end for the batch engine whose streams are awaited, in `engine::tokio`.
//! * `net`: the epoch step between processes, over TCP, in `ddp::net`.
//! * `train`: a cache for compiled training steps that never remembers a failure for good, in
//!   `train::compiled_step`; it tells of itself by `tracing`.
//! * `metrics`: `train`, and its counters through the `metrics` facade.
//! * `profiler`: a profiler that is closed whatever ends the training, in `train::profiler`.
#![forbid(unsafe_code)]

pub mod blocks;
pub mod ddp;
pub mod engine;
pub mod ids;
mod panic_text;
pub mod platform;
pub mod pool;
pub mod spec;
pub mod time;
pub mod train;

pub use blocks::{AgentBlocks, KvBlock};
pub use engine::{BatchEngine, EngineState, Generator};
pub use ids::{AgentId, BlockId, BlockRef, LayerId, PoolId, RequestId};
pub use platform::{Platform, Std};
pub use pool::{BlockLease, BlockPool, PoolState, Reservation};
pub use spec::ModelCacheSpec;
