//! Changes of view that came to nothing, and who is left behind for them.

use crate::ddp::ids::Rank;

/// What was tried again since anybody last got on: changes of view in which nobody was lost.
/// Every deadline begins anew with a view, so without this count they could go on for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::ddp) struct Futile {
    /// The version that the members went on from when they last had got on.
    at: u64,
    times: u32,
    /// Who was connected again, once each time, by rank.
    back: Vec<Rank>,
    /// Who told that a collective came to nothing, and whom it could not reach; in order, each
    /// pair once.
    apart: Vec<(Rank, Rank)>,
}

impl Futile {
    /// Counts one more, or says that there were as many as there may be.
    pub(super) fn again(&mut self) -> bool {
        let may = self.times < super::CoordinatorState::MOST_FUTILE_VIEWS;
        self.times += u32::from(may);
        may
    }

    /// The members go on from a version that at least one of them has.
    pub(super) fn go_on_from(&mut self, applied: u64) {
        if self.times > 0 && applied > self.at {
            *self = Futile {
                at: applied,
                ..Futile::default()
            };
        }
    }

    pub(super) fn is_back(&mut self, rank: Rank) {
        let at = self.back.partition_point(|other| *other <= rank);
        self.back.insert(at, rank);
    }

    pub(super) fn are_apart(&mut self, told_by: Rank, lost: impl IntoIterator<Item = Rank>) {
        for rank in lost {
            if let Err(at) = self.apart.binary_search(&(told_by, rank)) {
                self.apart.insert(at, (told_by, rank));
            }
        }
    }

    /// Who was connected again most often; `now`, if nobody more often than it.
    pub(super) fn comes_and_goes(&self, now: Rank) -> Rank {
        let times = |rank: Rank| self.back.iter().filter(|other| **other == rank).count();
        let most = self.back.iter().copied();
        most.max_by_key(|&rank| (times(rank), rank == now))
            .unwrap_or(now)
    }

    /// Who is cut off from the most others; `told_by`, if nobody was named. A broken path has two
    /// ends, and one of them tells of it first: so both count. Among equals it is who was named
    /// by more, and then the last by rank.
    pub(super) fn is_cut_off(&self, told_by: Rank) -> Rank {
        let cut_off = |rank: Rank| {
            let ends = self.apart.iter().filter_map(|&(a, b)| match rank {
                _ if rank == a => Some(b),
                _ if rank == b => Some(a),
                _ => None,
            });
            let mut from: Vec<Rank> = ends.collect();
            from.sort_unstable();
            from.dedup();
            let named = self.apart.iter().filter(|(_, named)| *named == rank);
            (from.len(), named.count(), rank)
        };
        let ends = self.apart.iter().flat_map(|&(a, b)| [a, b]);
        ends.max_by_key(|&rank| cut_off(rank)).unwrap_or(told_by)
    }
}
