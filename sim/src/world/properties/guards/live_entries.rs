//! **Live entries:** there are never more values of alpha than there are workers.

use selvedge_core::ddp::Rank;
use selvedge_core::train::AlphaCensus;

use super::super::{Broken, Kept};

/// So many workers there are, whatever the cache thinks.
pub(in crate::world) fn counts(rank: Rank, census: AlphaCensus, workers: u32) -> Kept {
    match census.workers == workers && census.entries <= workers {
        true => Ok(()),
        false => Err(Broken::new(
            "live-entries",
            format!(
                "{rank} has {workers} workers; its cache has {} entries of {} workers",
                census.entries, census.workers
            ),
        )),
    }
}
