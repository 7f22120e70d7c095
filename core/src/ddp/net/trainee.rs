//! [`Trainee`]: what a rank trains. The driver knows nothing of models; it calls this.

use thiserror::Error;

use crate::ddp::gates::GateMetrics;
use crate::ddp::ids::{Epoch, SlotId};
use crate::ddp::record::CommitRecord;

/// What a rank gives to one step, beside the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// Whether the gradient is of a batch: false where the loader is exhausted.
    pub active: bool,
    /// Whether the loader has another batch after this one.
    pub more: bool,
}

/// What a rank trains: parameters, an optimizer, a loader.
///
/// **The driver makes one call at a time, in the order of the machine's actions.** No heartbeat is
/// sent during a call, so one that is stuck stops them: each call must be shorter than
/// [`Timing::suspect_after`](super::Timing::suspect_after).
///
/// Every rank must begin with the same parameters, and the same sums must change them in the same
/// way: then they stay the same.
pub trait Trainee: Send + 'static {
    /// How many values a gradient has: the same on every rank, always.
    fn bucket_len(&self) -> usize;

    /// Leaves the gradient of batch `step` of `epoch` in `bucket`, which is all zeros. `step` is
    /// the loader's position, counted from 0; the same may be asked for again after a change of
    /// view. Without such a batch it leaves the zeros.
    fn gradient(&mut self, epoch: Epoch, step: u64, bucket: &mut [f64]) -> Given;

    /// Applies the sum of `active` ranks' gradients; the parameters are of version `applied` then.
    /// With `active` 0 there is nothing to apply, and the step counts.
    fn apply_step(&mut self, sum: &[f64], active: u32, applied: u64);

    /// Takes alphas and stages from the record's schedule. The same record may come twice, after
    /// a restart.
    fn apply_epoch(&mut self, record: &CommitRecord);

    /// What was measured of a slot, for its gate.
    fn measure(&mut self, slot: SlotId) -> GateMetrics;

    /// Parameters, optimizer state and whatever else follows from the steps applied so far, for a
    /// rank that must copy it and for checkpoints. Nothing that is this rank's own.
    fn save(&self) -> Vec<u8>;

    /// Takes what [`save`](Self::save) gave, here or on another rank.
    ///
    /// # Errors
    /// [`TraineeError`], if that is not what the bytes are; the rank ends with it.
    fn load(&mut self, bytes: &[u8]) -> Result<(), TraineeError>;
}

/// Why a [`Trainee`] could not take what was saved.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct TraineeError(pub String);
