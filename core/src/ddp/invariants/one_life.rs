//! D4: a rank is a member in one life, the last that was ever admitted; one that waits to join
//! is a later life.

use crate::ddp::coordinator::{CoordinatorState, Member};
use crate::pool::InvariantViolation;

pub(super) fn check(state: &CoordinatorState) -> Result<(), InvariantViolation> {
    let violation = |detail: String| Err(InvariantViolation::new("one_life", detail));
    let (members, admitted) = (&state.durable.members, &state.durable.admitted);
    let joiners: Vec<Member> = state.joiners.iter().map(|joiner| joiner.member).collect();
    for lives in [members, admitted, &joiners] {
        if !lives.is_sorted_by(|a, b| a.rank < b.rank) {
            return violation(format!("not one life a rank, by rank: {lives:?}"));
        }
    }
    if let Some(member) = members.iter().find(|member| !admitted.contains(member)) {
        return violation(format!("{member:?} is not the life that was admitted last"));
    }
    let old = |joiner: &&Member| {
        let mut lives = admitted.iter();
        lives.any(|life| life.rank == joiner.rank && life.incarnation >= joiner.incarnation)
    };
    match joiners.iter().find(old) {
        Some(joiner) => violation(format!("{joiner:?} waits, but was a member before")),
        None => Ok(()),
    }
}
