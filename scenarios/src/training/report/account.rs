//! Whether everybody has accounted for himself: what is not written down cannot be compared, and
//! a comparison of nothing holds.

use super::Violation;
use crate::training::fleet::{End, FleetConfig, Outcome};
use crate::training::trajectory::{Author, Line};

/// Lives that were there to the end, and the coordinator, that have not written down what they
/// must: all epochs, or, of a life in a run to which something was done, those to the last.
pub(super) fn unwritten(
    config: &FleetConfig,
    outcome: &Outcome,
    written: &[(Author, Vec<Line>)],
) -> Vec<Violation> {
    let (calm, last) = (config.plan.is_empty(), config.epochs);
    let mut found = Vec::new();
    let mut must = |who: Author, from_the_first: bool| {
        let lines = written.iter().find(|(author, _)| *author == who);
        let lines = lines.map_or(&[][..], |(_, lines)| lines);
        let has = lines.first().zip(lines.last());
        let has = has.map(|(first, last)| (first.epoch, last.epoch));
        let begins = has.map_or(0, |(first, _)| if from_the_first { 0 } else { first });
        if has != Some((begins, last)) {
            found.push(Violation::Unwritten {
                who: who.to_string(),
                should: (begins, last),
                has,
            });
        }
    };
    for (rank, status) in (0..).zip(&outcome.ranks) {
        for (life, end) in (1..).zip(&status.ends) {
            if *end == End::Done {
                must(Author::Life(selvedge_core::ddp::Rank(rank), life), calm);
            }
        }
    }
    if outcome.over && !outcome.interrupted {
        must(Author::Log, true);
    }
    found
}
