//! **Use of the collective:** a rank contributes only in the view it has entered last, once to
//! each collective, in order (what `Collective` asks of its callers).

use selvedge_core::ddp::{Rank, StepTag, View};

use super::{Broken, Kept};

/// The view each rank is in, and how many collectives of it it has given to.
#[derive(Debug)]
pub(in crate::world) struct CollectiveUse {
    /// Life, view, next seq.
    ranks: Vec<(u64, View, u64)>,
}

impl CollectiveUse {
    pub(super) fn new(ranks: u32) -> Self {
        CollectiveUse {
            ranks: vec![(0, View(0), 0); ranks as usize],
        }
    }

    pub(in crate::world) fn enters(&mut self, rank: Rank, life: u64, view: View) -> Kept {
        let entered = &mut self.ranks[rank.0 as usize];
        let again = (entered.0, entered.1) == (life, view);
        *entered = (life, view, 0);
        match again {
            false => Ok(()),
            true => Err(Broken::new(
                "collective-use",
                format!("{rank} enters {view} twice"),
            )),
        }
    }

    pub(in crate::world) fn gives(&mut self, rank: Rank, life: u64, tag: &StepTag) -> Kept {
        let entered = &mut self.ranks[rank.0 as usize];
        let expected = *entered;
        if expected == (life, tag.view, tag.seq) {
            entered.2 += 1;
            return Ok(());
        }
        let (_, view, seq) = expected;
        Err(Broken::new(
            "collective-use",
            format!(
                "{rank} contributes to seq {} of {}, but seq {seq} of {view} is next",
                tag.seq, tag.view
            ),
        ))
    }
}
