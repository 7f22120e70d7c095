//! All slots of a run: what ranks agree on. The schedule after an epoch is a pure function of
//! the one before, the commands and the votes.

use thiserror::Error;

use super::alpha_view::AlphaView;
use super::digest::Digest;
use super::gates::{Decision, GateMetrics, Question, Reduction, Vote};
use super::ids::SlotId;
use super::slot::{CommandError, SeedSlot, SlotCommand, Transition};

/// The slots of a run, in the order of their ids: whoever goes through them goes through them
/// in the same order (the origin's ranks could not, and swapped their decisions: D4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "net", serde(try_from = "super::net::ScheduleParts"))]
pub struct Schedule(Vec<SeedSlot>);

impl Schedule {
    /// The schedule of these slots, given in any order.
    ///
    /// # Errors
    /// [`DuplicateSlot`] if two have the same id.
    pub fn new(slots: impl IntoIterator<Item = SeedSlot>) -> Result<Self, DuplicateSlot> {
        let mut slots: Vec<SeedSlot> = slots.into_iter().collect();
        slots.sort_by_key(SeedSlot::id);
        match slots.windows(2).find(|pair| pair[0].id() == pair[1].id()) {
            Some(pair) => Err(DuplicateSlot { slot: pair[0].id() }),
            None => Ok(Schedule(slots)),
        }
    }

    /// The slots, by id.
    #[must_use]
    pub fn slots(&self) -> &[SeedSlot] {
        &self.0
    }

    /// A slot by its id.
    #[must_use]
    pub fn slot(&self, id: SlotId) -> Option<&SeedSlot> {
        let at = self.0.binary_search_by_key(&id, SeedSlot::id).ok()?;
        self.0.get(at)
    }

    /// The alphas that a forward pass is made with. For an evaluation some of them may be
    /// forced, which changes nothing here.
    #[must_use]
    pub fn alphas(&self) -> AlphaView<'_> {
        AlphaView::new(self)
    }

    /// What every rank votes on at the end of this epoch: at most one question a slot.
    #[must_use]
    pub fn questions(&self) -> Vec<Question> {
        self.0.iter().filter_map(SeedSlot::question).collect()
    }

    /// This rank's votes, one for each question. `measure` tells what it has measured of a
    /// slot.
    #[must_use]
    pub fn vote(&self, mut measure: impl FnMut(SlotId) -> GateMetrics) -> Vec<Vote> {
        let asking = self
            .0
            .iter()
            .filter_map(|slot| Some((slot, slot.question()?)));
        asking
            .map(|(slot, question)| {
                let metrics = measure(slot.id());
                slot.evaluate(question, &metrics).vote(question)
            })
            .collect()
    }

    /// The decisions that these ballots come to, each over its own slot's votes and by its own
    /// slot's rule.
    ///
    /// # Errors
    /// [`BallotMismatch`] if a ballot answers other questions than this schedule asks.
    pub fn decide<'a>(
        &self,
        ballots: impl IntoIterator<Item = &'a [Vote]>,
    ) -> Result<Vec<Decision>, BallotMismatch> {
        let questions = self.questions();
        let mut votes: Vec<Vec<Vote>> = vec![Vec::new(); questions.len()];
        for (at, ballot) in ballots.into_iter().enumerate() {
            if !ballot
                .iter()
                .map(|vote| vote.question)
                .eq(questions.iter().copied())
            {
                return Err(BallotMismatch { ballot: at });
            }
            for (votes, vote) in votes.iter_mut().zip(ballot) {
                votes.push(*vote);
            }
        }
        let decide = |(question, votes): (&Question, &Vec<Vote>)| {
            let rule = self
                .slot(question.slot)
                .map_or(Reduction::All, |slot| slot.rules().reduction);
            rule.decide(*question, votes)
        };
        Ok(questions.iter().zip(&votes).map(decide).collect())
    }

    /// Does what a command says.
    ///
    /// # Errors
    /// [`CommandError`]; nothing has changed then.
    pub fn command(&mut self, command: &SlotCommand) -> Result<Option<Transition>, CommandError> {
        let slot = command.slot();
        let at = self.0.binary_search_by_key(&slot, SeedSlot::id);
        let slot = at.ok().and_then(|at| self.0.get_mut(at));
        slot.ok_or(CommandError::UnknownSlot {
            slot: command.slot(),
        })?
        .command(command)
    }

    /// Steps every slot by one epoch.
    pub fn step_epoch(&mut self, decisions: &[Decision]) -> Vec<Transition> {
        let step = |slot: &mut SeedSlot| {
            let mut decisions = decisions.iter();
            let own = decisions.find(|decision| decision.question.slot == slot.id());
            slot.step_epoch(own)
        };
        self.0.iter_mut().filter_map(step).collect()
    }

    /// One number for all of it: ranks with the same have the same alphas and stages.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = Digest::new();
        self.fold(&mut digest);
        digest.finish()
    }

    pub(super) fn fold(&self, digest: &mut Digest) {
        digest.words(&[self.0.len() as u64]);
        self.0.iter().for_each(|slot| slot.fold(digest));
    }
}

/// Two slots have the same id.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{slot} is there twice; each slot needs an id of its own")]
pub struct DuplicateSlot {
    /// The id.
    pub slot: SlotId,
}

/// A ballot does not answer the questions that were asked.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("ballot {ballot} does not answer the questions of this epoch")]
pub struct BallotMismatch {
    /// Which of the ballots.
    pub ballot: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddp::gates::Strictness;
    use crate::ddp::ids::{BlueprintId, SeedId};
    use crate::ddp::slot::SlotRules;
    use crate::ddp::stage::SeedStage;

    fn slot(id: u32, reduction: Reduction) -> SeedSlot {
        let rules = SlotRules {
            strictness: Strictness::Permissive,
            auto_g1: true,
            reduction,
            ..SlotRules::default()
        };
        let mut slot = SeedSlot::new(SlotId(id), rules);
        slot.germinate(SeedId(u64::from(id) + 1), BlueprintId(1))
            .unwrap();
        slot
    }

    fn schedule() -> Schedule {
        Schedule::new([slot(5, Reduction::Any), slot(2, Reduction::All)]).unwrap()
    }

    #[test]
    fn slots_stand_in_the_order_of_their_ids_and_each_once() {
        let ids: Vec<u32> = schedule().slots().iter().map(|slot| slot.id().0).collect();
        assert_eq!(ids, [2, 5]);
        let twice = Schedule::new([slot(1, Reduction::All), slot(1, Reduction::Any)]);
        assert_eq!(twice, Err(DuplicateSlot { slot: SlotId(1) }));
    }

    #[test]
    fn every_slot_is_decided_by_its_own_rule_over_its_own_votes() {
        let mut schedule = schedule();
        let yes = schedule.vote(|_| GateMetrics::default());
        assert!(
            yes.iter().all(|vote| vote.passed),
            "G1 asks for nothing measured"
        );
        let no: Vec<Vote> = yes
            .iter()
            .map(|v| Vote {
                passed: false,
                ..*v
            })
            .collect();
        let decisions = schedule.decide([&yes[..], &no[..]]).unwrap();
        let passed: Vec<bool> = decisions.iter().map(|decision| decision.passed).collect();
        assert_eq!(passed, [false, true]);
        let before = schedule.digest();
        let changes = schedule.step_epoch(&decisions);
        assert_eq!(changes.len(), 1);
        assert_eq!(
            (changes[0].slot, changes[0].to),
            (SlotId(5), SeedStage::Training)
        );
        assert_ne!(schedule.digest(), before);
    }

    #[test]
    fn a_ballot_about_something_else_is_refused() {
        let schedule = schedule();
        let mut votes = schedule.vote(|_| GateMetrics::default());
        assert_eq!(
            schedule.decide([&votes[..], &votes[..1]]),
            Err(BallotMismatch { ballot: 1 })
        );
        votes.swap(0, 1);
        assert_eq!(
            schedule.decide([&votes[..]]),
            Err(BallotMismatch { ballot: 0 })
        );
    }

    #[test]
    fn a_command_reaches_its_slot_or_nobody() {
        let mut schedule = schedule();
        let change = schedule
            .command(&SlotCommand::Prune { slot: SlotId(5) })
            .unwrap()
            .unwrap();
        assert_eq!(change.slot, SlotId(5));
        let before = schedule.clone();
        let slot = SlotId(3);
        let refused = schedule.command(&SlotCommand::Prune { slot });
        assert_eq!(refused, Err(CommandError::UnknownSlot { slot }));
        assert_eq!(schedule, before);
    }
}
