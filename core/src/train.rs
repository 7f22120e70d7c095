//! Guards around a training loop: what must not go wrong beside the training itself.
//!
//! | guard | keeps | against |
//! |---|---|---|
//! | [`AlphaCache`] | a worker's tensor of alpha, within one epoch | entries that outlive their epoch or their worker |
//! | `CompiledStep` (cargo feature `train`) | a compiled training step | a failure that is remembered for good |
//! | `ProfilerSession` (cargo feature `profiler`) | a trace of what ran when | an end of the training that leaves it open |
//!
//! **What changes at an epoch's boundary changes by the record of the epoch step and by nothing
//! else.** An [`EpochGuard`] is told of each; a rank's driver tells those it was given
//! (`RankClient::guarded_by`, cargo feature `net`).

mod alpha_cache;
#[cfg(feature = "train")]
pub mod compiled_step;
#[cfg(feature = "profiler")]
pub mod profiler;

pub use alpha_cache::{
    AlphaCache, AlphaCacheError, AlphaCacheState, AlphaCensus, AlphaKey, AlphaWorker, Dtype,
    WorkerId,
};
#[cfg(feature = "train")]
pub use compiled_step::{CompileConfig, CompiledStep, StepCompiler, StepHandle};

use crate::ddp::CommitRecord;

/// What is to know of every record that a rank applies.
///
/// **It is told after the trainee has applied the record, by the thread that drives the rank**,
/// which sends no heartbeat meanwhile: it must not wait for anybody. The same record may come
/// twice, after a restart.
///
/// ```
/// use selvedge_core::ddp::CommitRecord;
/// use selvedge_core::train::EpochGuard;
///
/// /// Remembers the last epoch.
/// struct Last(Option<u64>);
/// impl EpochGuard for Last {
///     fn at_epoch(&mut self, record: &CommitRecord) {
///         self.0 = Some(record.epoch.0);
///     }
/// }
/// ```
pub trait EpochGuard: Send + 'static {
    /// A record was applied.
    fn at_epoch(&mut self, record: &CommitRecord);
}
