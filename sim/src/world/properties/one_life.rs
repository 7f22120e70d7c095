//! **One life:** no life of a rank takes what was meant for another, and none that was once left
//! behind is ever a member again.

use std::collections::BTreeSet;

use selvedge_core::ddp::{Member, Rank};

use super::{Broken, Kept};

const SIGNATURE: &str = "one-life";

/// Who is a member, and who was.
#[derive(Debug, Default)]
pub(in crate::world) struct OneLife {
    members: Vec<Member>,
    past: BTreeSet<Member>,
}

impl OneLife {
    /// A rank has heard what was meant for another life of it.
    pub(in crate::world) fn hears(&self, rank: Rank, taken: bool) -> Kept {
        match taken {
            false => Ok(()),
            true => Err(Broken::new(
                SIGNATURE,
                format!("{rank} takes a message that was meant for another life of it"),
            )),
        }
    }

    /// Whether there ever was a member.
    pub(in crate::world) fn formed(&self) -> bool {
        !self.members.is_empty()
    }

    /// These are the members from now on.
    pub(super) fn members(&mut self, members: &[Member]) -> Kept {
        if self.members == members {
            return Ok(());
        }
        let gone = self.members.iter().filter(|old| !members.contains(old));
        self.past.extend(gone);
        self.members = members.to_vec();
        match members.iter().find(|member| self.past.contains(member)) {
            None => Ok(()),
            Some(Member { rank, incarnation }) => Err(Broken::new(
                SIGNATURE,
                format!("{rank}, {incarnation} is a member again after it was none"),
            )),
        }
    }
}
