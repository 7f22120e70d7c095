//! **No stale alpha:** what a worker reads is the alpha of the record that its rank has applied,
//! made after that record was.

use selvedge_core::ddp::Rank;

use super::super::{Broken, Kept};
use crate::world::guards::Alpha;

/// A worker reads.
pub(in crate::world) fn reads(rank: Rank, read: Alpha, committed: Alpha) -> Kept {
    let Alpha { epoch, bits } = read;
    match read == committed {
        true => Ok(()),
        false => Err(Broken::new(
            "stale-alpha",
            format!(
                "a worker of {rank} reads alpha {} of {epoch}; it is {} of {}",
                f64::from_bits(bits),
                f64::from_bits(committed.bits),
                committed.epoch,
            ),
        )),
    }
}
