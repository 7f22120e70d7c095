//! D4: a rank is a member in one life, the last that is known of it; one that waits to join is a
//! later life.

use crate::ddp::coordinator::{CoordinatorState, Member};
use crate::pool::InvariantViolation;

pub(super) fn check(state: &CoordinatorState) -> Result<(), InvariantViolation> {
    let violation = |detail: String| Err(InvariantViolation::new("one_life", detail));
    let (members, past) = (&state.durable.members, &state.durable.lives);
    let joiners: Vec<Member> = state.joiners.iter().map(|joiner| joiner.member).collect();
    for lives in [members, past, &joiners] {
        if !lives.is_sorted_by(|a, b| a.rank < b.rank) {
            return violation(format!("not one life a rank, by rank: {lives:?}"));
        }
    }
    if let Some(member) = members.iter().find(|member| !past.contains(member)) {
        return violation(format!("{member:?} is not the life that is known last"));
    }
    let old = |joiner: &&Member| {
        let mut lives = past.iter();
        lives.any(|life| life.rank == joiner.rank && life.incarnation >= joiner.incarnation)
    };
    match joiners.iter().find(old) {
        Some(joiner) => violation(format!("{joiner:?} waits, but was a member before")),
        None => Ok(()),
    }
}
