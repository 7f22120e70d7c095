//! **No mix:** no collective adds up gradients of different epochs, alphas or parameters. The
//! parameters are a ghost, a digest of every step that made them: two ranks of one version that
//! came to it by different steps are found out, though their tags are equal.

use selvedge_core::ddp::Rank;

use super::{Broken, Kept};
use crate::world::collective::Given;

/// There is nothing to remember.
#[derive(Debug)]
pub(in crate::world) struct NoMix;

impl NoMix {
    /// A collective of these members is complete.
    pub(in crate::world) fn completes<'a>(
        &self,
        members: &[Rank],
        given: impl Iterator<Item = (Rank, &'a Given)>,
    ) -> Kept {
        let mut first: Option<(Rank, &Given)> = None;
        for (rank, given) in given {
            let &mut (other, like) = first.get_or_insert((rank, given));
            let (own, tag) = (&given.contribution.tag, &like.contribution.tag);
            let what = if own.epoch != tag.epoch {
                "epochs"
            } else if own.schedule != tag.schedule {
                "alphas"
            } else if own.applied != tag.applied {
                "versions"
            } else if own != tag {
                "tags"
            } else if given.parameters != like.parameters {
                "parameters"
            } else if *given.members != *members {
                "members"
            } else {
                continue;
            };
            let message =
                format!("{other} and {rank} contribute with different {what} to one step");
            return Err(Broken::new("no-mix", message));
        }
        Ok(())
    }
}
