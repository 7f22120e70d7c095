//! What a transport of steps must do. No thread and no socket is here: the machines say when to
//! contribute, a driver does it, and three kinds of driver (threads of one process, processes
//! over TCP, a simulated network) run the same machines.

use core::fmt::Debug;

use super::ids::{Rank, View};
use super::tag::StepTag;

/// What one rank gives to one collective, beside its gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub struct Contribution {
    /// What must be the same in all.
    pub tag: StepTag,
    /// Whether its gradient is of a batch; a rank whose loader is exhausted gives zeros.
    pub active: bool,
    /// Whether its loader has more batches after this one.
    pub more: bool,
}

/// What a collective came to. The same wherever it comes to anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reduced {
    /// Whether all tags were equal, by a symmetric check ([`TagMax`](super::TagMax),
    /// [`TagLanes`](super::TagLanes)).
    pub tags_equal: bool,
    /// How many contributions were active: what the sum of gradients is divided by. With 0
    /// there is nothing to apply, but the step counts.
    pub active: u32,
    /// Whether anybody has more batches.
    pub more: bool,
}

impl Reduced {
    /// What these contributions come to; `None` without any.
    #[must_use]
    pub fn of<'a>(contributions: impl IntoIterator<Item = &'a Contribution>) -> Option<Self> {
        let mut contributions = contributions.into_iter();
        let first = contributions.next()?;
        let mut reduced = Reduced {
            tags_equal: true,
            active: u32::from(first.active),
            more: first.more,
        };
        for other in contributions {
            reduced.tags_equal &= other.tag == first.tag;
            reduced.active = reduced.active.saturating_add(u32::from(other.active));
            reduced.more |= other.more;
        }
        Some(reduced)
    }
}

/// An all-reduce of gradients between the members of one view.
///
/// The contract, on which the proofs rest:
/// 1. **Matching.** Contributions meet by `(view, seq)` and nothing else. Whether they belong
///    together the tags say.
/// 2. **All or nobody's.** A member gets a result only of contributions of *all* members of the
///    view, each counted once.
/// 3. **Same result.** Two members that get a result of one `(view, seq)` get the same, bit for
///    bit: sums are made in one order.
/// 4. **Not uniform.** Where a member dies or the view ends, some members may get the result and
///    others never. Nobody may conclude from his own result that others have it.
/// 5. **One at a time.** A member contributes to `seq + 1` only after it had the result of `seq`.
/// 6. **Leaving.** After [`leave`](Self::leave) nothing of that view is ever delivered.
pub trait Collective {
    /// The values summed, such as a gradient.
    type Bucket: ?Sized;
    /// Why a transport failed.
    type Error: Debug;

    /// Opens the collectives of a view, whose `seq` begins at 0. Called once a view.
    ///
    /// # Errors
    /// The transport's.
    fn enter(&mut self, view: View, members: &[Rank]) -> Result<(), Self::Error>;

    /// Contributes, waits, and leaves the sum of all members' buckets in `bucket`.
    ///
    /// # Errors
    /// The transport's, also if the view was left meanwhile; `bucket` is worth nothing then.
    fn all_reduce(
        &mut self,
        contribution: &Contribution,
        bucket: &mut Self::Bucket,
    ) -> Result<Reduced, Self::Error>;

    /// Ends the collectives of a view, also one that is waited for.
    fn leave(&mut self, view: View);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddp::ids::{Epoch, RunId};

    #[test]
    fn lanes_are_sum_or_and_all_equal() {
        let tag = StepTag {
            run: RunId(1),
            view: View(1),
            seq: 0,
            epoch: Epoch(1),
            schedule: 0,
            applied: 0,
        };
        let give = |active, more| Contribution { tag, active, more };
        let all = [give(true, false), give(false, false), give(true, true)];
        let expected = Reduced {
            tags_equal: true,
            active: 2,
            more: true,
        };
        assert_eq!(Reduced::of(&all), Some(expected));
        assert_eq!(Reduced::of(&[]), None);
        let mut mixed = all;
        mixed[1].tag.schedule = 9;
        assert!(!Reduced::of(&mixed).unwrap().tags_equal);
        mixed.reverse();
        assert!(!Reduced::of(&mixed).unwrap().tags_equal);
    }
}
