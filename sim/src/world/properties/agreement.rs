//! **Agreement, uniform:** what any rank, alive or dead, applies for an epoch is what was decided
//! for it, and that is written down once and before anybody acts on it.

use selvedge_core::ddp::{CommitRecord, Epoch, Rank};

use super::{Broken, Kept};

const SIGNATURE: &str = "agreement";

/// Digests of the records that were decided.
#[derive(Debug)]
pub(in crate::world) struct Agreement {
    /// The epoch of the first.
    begins: u64,
    log: Vec<u64>,
}

impl Agreement {
    pub(super) fn new(genesis: &CommitRecord) -> Self {
        Agreement {
            begins: genesis.epoch.0,
            log: vec![genesis.digest()],
        }
    }

    fn decided(&self, epoch: Epoch) -> Option<u64> {
        let at = epoch.0.checked_sub(self.begins)?;
        self.log.get(usize::try_from(at).ok()?).copied()
    }

    pub(super) fn last(&self) -> Epoch {
        Epoch(self.begins + self.log.len() as u64 - 1)
    }

    pub(super) fn decides(&mut self, record: &CommitRecord) -> Kept {
        let (epoch, digest) = (record.epoch, record.digest());
        match self.decided(epoch) {
            Some(known) if known == digest => Ok(()),
            Some(_) => Err(Broken::new(
                SIGNATURE,
                format!("{epoch} was decided twice, and differently"),
            )),
            None if epoch == self.last().next() => {
                self.log.push(digest);
                Ok(())
            }
            None => Err(Broken::new(
                SIGNATURE,
                format!("{epoch} was decided after {}", self.last()),
            )),
        }
    }

    pub(in crate::world) fn applies(&self, rank: Rank, record: &CommitRecord) -> Kept {
        let epoch = record.epoch;
        match self.decided(epoch) {
            Some(known) if known == record.digest() => Ok(()),
            Some(_) => Err(Broken::new(
                SIGNATURE,
                format!("{rank} applies a record of {epoch} that is not the one decided"),
            )),
            None => Err(Broken::new(
                SIGNATURE,
                format!("{rank} applies a record of {epoch}, which is not decided"),
            )),
        }
    }
}
