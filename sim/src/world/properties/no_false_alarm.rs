//! **No false alarm:** here no memory is damaged and nobody lies, so no machine may say that
//! something like it happened.

use selvedge_core::ddp::{Failure, Rank};

use super::{Broken, Kept};

/// A rank fails, and says why.
pub(in crate::world) fn fails(rank: Rank, failure: Failure) -> Kept {
    match failure {
        Failure::TagMismatch | Failure::BadRecord | Failure::Diverged => Err(Broken::new(
            "false-alarm",
            format!("{rank} reports damage where there is none: {failure}"),
        )),
        _ => Ok(()),
    }
}
