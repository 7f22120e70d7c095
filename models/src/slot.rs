//! A slot's life alone: every order of commands, votes and epochs, on the [`SeedSlot`] that
//! ships. Its invariants hold, a stage is followed only by one that may, an embargo lasts as long
//! as it should whatever else is called, and a slot that is removed becomes empty again.

use selvedge_core::ddp::{
    AlphaCurve, AlphaLevel, BlueprintId, Decision, SeedId, SeedSlot, SeedStage, SlotCommand,
    SlotId, SlotRules, Strictness, Vote, invariants,
};
use stateright::{Model, Property};

/// How much of a slot's life is explored.
#[derive(Clone, Copy, Debug)]
pub struct SlotModel {
    /// No seed stays in one stage for more epochs than this: the boundary of the search.
    pub epochs: u32,
}

/// A slot, and what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Life {
    slot: SeedSlot,
    /// Epochs under embargo so far.
    embargo: u32,
    /// A stage was followed by one that may not.
    jumped: bool,
    /// An embargo was too short or too long.
    wrong_embargo: bool,
    /// Alpha went against its direction.
    turned: bool,
}

/// What may be done with a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A policy's command.
    Command(SlotCommand),
    /// The step of an epoch, in which its question, if it has one, is answered like this.
    Epoch {
        /// Whether the voters passed.
        passed: bool,
    },
}

const SLOT: SlotId = SlotId(0);

impl SlotModel {
    fn rules() -> SlotRules {
        SlotRules {
            strictness: Strictness::Permissive,
            auto_g1: true,
            auto_g3: true,
            embargo_epochs: 2,
            blend_steps: 2,
            blend_curve: AlphaCurve::Cosine,
            ..SlotRules::default()
        }
    }
}

impl Model for SlotModel {
    type State = Life;
    type Action = Action;

    fn init_states(&self) -> Vec<Life> {
        vec![Life {
            slot: SeedSlot::new(SLOT, Self::rules()),
            embargo: 0,
            jumped: false,
            wrong_embargo: false,
            turned: false,
        }]
    }

    fn actions(&self, life: &Life, actions: &mut Vec<Action>) {
        let half = AlphaLevel::from_billionths(500_000_000).unwrap_or(AlphaLevel::ONE);
        let mut commands = vec![
            SlotCommand::Germinate {
                slot: SLOT,
                seed: SeedId(1),
                blueprint: BlueprintId(1),
            },
            SlotCommand::Prune { slot: SLOT },
        ];
        let targets = SeedStage::ALL.map(Some).into_iter().chain([None]);
        commands.extend(targets.map(|target| SlotCommand::Advance { slot: SLOT, target }));
        for steps in 0..=2 {
            commands.push(SlotCommand::SchedulePrune { slot: SLOT, steps });
            for target in [AlphaLevel::ZERO, half, AlphaLevel::ONE] {
                commands.push(SlotCommand::SetAlphaTarget {
                    slot: SLOT,
                    target,
                    steps,
                    curve: None,
                });
            }
        }
        actions.extend(commands.into_iter().map(Action::Command));
        actions.push(Action::Epoch { passed: true });
        if life.slot.question().is_some() {
            actions.push(Action::Epoch { passed: false });
        }
    }

    fn next_state(&self, last: &Life, action: Action) -> Option<Life> {
        let mut life = last.clone();
        match action {
            Action::Command(command) => {
                // What is refused changes nothing, which the next line would tell.
                let _ = life.slot.command(&command);
            }
            Action::Epoch { passed } => life.step_epoch(passed),
        }
        let (from, to) = (last.slot.stage(), life.slot.stage());
        life.jumped |= from != to && !from.may_become(to);
        (life != *last).then_some(life)
    }

    fn within_boundary(&self, life: &Life) -> bool {
        life.slot.epochs_in_stage() <= self.epochs && life.slot.epochs() <= 3 * self.epochs
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("slot-invariants", |_, life: &Life| {
                invariants::check_slot(&life.slot).is_ok()
            }),
            Property::always("stages-follow", |_, life: &Life| !life.jumped),
            Property::always("embargo-has-one-clock", |_, life: &Life| {
                !life.wrong_embargo
            }),
            Property::always("alpha-keeps-its-direction", |_, life: &Life| !life.turned),
        ]
    }
}

impl Life {
    fn step_epoch(&mut self, passed: bool) {
        let vote = |question| Vote {
            question,
            passed,
            score: 0,
        };
        let decision: Option<Decision> = (self.slot.question()).map(|question| {
            let rule = self.slot.rules().reduction;
            rule.decide(question, &[vote(question)])
        });
        let before = self.slot;
        let change = self.slot.step_epoch(decision.as_ref());
        if before.stage() == SeedStage::Embargoed {
            self.embargo += 1;
        }
        if let Some(change) = change {
            let due = before.rules().embargo_epochs;
            self.wrong_embargo |= change.from == SeedStage::Embargoed && self.embargo != due;
            self.embargo = 0;
        } else if let (Some(old), Some(new)) = (before.alpha(), self.slot.alpha()) {
            let (start, target) = (old.start(), old.target());
            let forward = if start <= target {
                new.alpha() >= old.alpha()
            } else {
                new.alpha() <= old.alpha()
            };
            self.turned |= !forward;
        }
    }
}

#[cfg(test)]
mod tests {
    use selvedge_sim::Class;

    use super::*;
    use crate::checker::search;

    #[test]
    fn every_property_holds_in_every_state() {
        let model = SlotModel { epochs: 5 };
        let found = search(model, "five epochs a stage, fifteen a seed", 10_000_000);
        assert_eq!(found.verdict.class(), Class::Bounded, "{:?}", found.verdict);
        // Pinned: a change here means that the model explores something else than it did.
        assert_eq!(found.verdict.executions(), 3_947);
    }

    /// The model in which no slot is ever in this stage: it must be violated.
    #[derive(Clone)]
    struct Never(SlotModel, SeedStage);

    impl Model for Never {
        type State = Life;
        type Action = Action;

        fn init_states(&self) -> Vec<Life> {
            self.0.init_states()
        }

        fn actions(&self, life: &Life, actions: &mut Vec<Action>) {
            self.0.actions(life, actions);
        }

        fn next_state(&self, last: &Life, action: Action) -> Option<Life> {
            self.0.next_state(last, action)
        }

        fn properties(&self) -> Vec<Property<Self>> {
            let never = |model: &Self, life: &Life| life.slot.stage() != model.1;
            vec![Property::always("never", never)]
        }
    }

    #[test]
    fn every_stage_is_reached_and_the_nearest_way_is_known() {
        use SeedStage::{
            Blending, Embargoed, Fossilized, Germinated, Holding, Pruned, Resetting, Training,
        };
        let ways = [
            (Germinated, 1),
            (Training, 2),
            (Blending, 4),
            (Holding, 6),
            (Fossilized, 8),
            (Pruned, 2),
            (Embargoed, 3),
            (Resetting, 5),
        ];
        for (stage, actions) in ways {
            let found = search(Never(SlotModel { epochs: 5 }, stage), "", 1_000_000);
            assert_eq!(found.path.len(), actions, "{stage}: {:?}", found.path);
        }
    }
}
