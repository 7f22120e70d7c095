//! **Monotone:** neither a view nor an epoch nor a version of parameters ever goes back, in a
//! life of a rank or in what the coordinator writes down.

use selvedge_core::ddp::{Durable, Epoch, Rank, RankState, View};

use super::{Broken, Kept};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    life: u64,
    view: u64,
    epoch: u64,
    applied: u64,
}

/// What was seen last.
#[derive(Debug)]
pub(in crate::world) struct Monotone {
    ranks: Vec<Seen>,
    written: (View, Epoch),
}

impl Monotone {
    pub(super) fn new(ranks: u32) -> Self {
        Monotone {
            ranks: vec![Seen::default(); ranks as usize],
            written: (View(0), Epoch(0)),
        }
    }

    pub(in crate::world) fn rank(&mut self, rank: Rank, life: u64, state: &RankState) -> Kept {
        let now = Seen {
            life,
            view: state.view().0,
            epoch: state.record().map_or(0, |record| record.epoch.0),
            applied: state.applied(),
        };
        let seen = &mut self.ranks[rank.0 as usize];
        let before = std::mem::replace(seen, now);
        if before.life != life {
            return Ok(());
        }
        let back = [
            ("view", before.view, now.view),
            ("epoch", before.epoch, now.epoch),
            ("version", before.applied, now.applied),
        ];
        match back.iter().find(|(_, before, now)| now < before) {
            None => Ok(()),
            Some((what, before, now)) => Err(Broken::new(
                "monotone",
                format!("{rank} goes back from {what} {before} to {now}"),
            )),
        }
    }

    pub(super) fn coordinator(&mut self, durable: &Durable) -> Kept {
        let now = (durable.view, durable.record.epoch);
        let before = std::mem::replace(&mut self.written, now);
        match now.0 < before.0 || now.1 < before.1 {
            false => Ok(()),
            true => Err(Broken::new(
                "monotone",
                format!(
                    "the coordinator goes back from {} and {} to {} and {}",
                    before.0, before.1, now.0, now.1
                ),
            )),
        }
    }
}
