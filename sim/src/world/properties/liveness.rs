//! **Liveness:** no wait outlives its hard deadline; once nothing goes wrong any more, every live
//! rank ends by itself, done or failed with a reason; and who is a member when the faults are
//! long past is done in the end.

use selvedge_core::ddp::{Member, Rank, RankWait};

use super::{Broken, Kept};
use crate::world::ranks::End;

const SIGNATURE: &str = "liveness";

/// The healthy core: who must finish.
#[derive(Debug, Default)]
pub(in crate::world) struct Liveness {
    core: Vec<Member>,
}

impl Liveness {
    /// The faults are long past, and these are the members, all live.
    pub(in crate::world) fn settles(&mut self, core: Vec<Member>) {
        self.core = core;
    }

    /// A hard deadline has passed, and the machine was told.
    pub(in crate::world) fn waits_on(&self, rank: Rank, still: bool) -> Kept {
        match still {
            false => Ok(()),
            true => Err(Broken::new(
                SIGNATURE,
                format!("{rank} waits on after its hard deadline"),
            )),
        }
    }

    /// The coordinator has waited too long for a rank that waits for the coordinator all the
    /// while, over a connection that is there: neither would ever have gone on.
    pub(in crate::world) fn waits_for_each_other(&self, rank: Rank, wait: RankWait) -> Kept {
        Err(Broken::new(
            SIGNATURE,
            format!("the coordinator waits for {rank}, which waits for it: {wait:?}"),
        ))
    }

    /// A rank ends.
    pub(in crate::world) fn ends(&self, member: Member, end: End) -> Kept {
        let rank = member.rank;
        match end {
            End::Failed(failure) if self.core.contains(&member) => Err(Broken::new(
                SIGNATURE,
                format!("the faults are long past, and {rank} fails: {failure}"),
            )),
            _ => Ok(()),
        }
    }

    /// The run should be over, and a rank has not ended.
    pub(in crate::world) fn hangs(&self, rank: Rank, waits: &str) -> Kept {
        Err(Broken::new(
            SIGNATURE,
            format!("{rank} is neither done nor failed: it waits for {waits}"),
        ))
    }

    /// The run should be over, and somebody is still to be served.
    pub(in crate::world) fn is_not_served(&self, waits: &str) -> Kept {
        Err(Broken::new(SIGNATURE, waits))
    }
}
