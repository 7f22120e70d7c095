//! The origin's `_sync_gate_decision`: a rank whose slot is due at a gate takes part in a
//! broadcast of rank 0's decision. Nothing in it says which slot, gate or epoch it is about, and
//! a rank that is not due takes no part. With slots in different states, or visited in another
//! order, it hangs, or applies a decision to what it was not made for (D1-D9).

use stateright::{Model, Property};

/// One slot of one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotAt {
    /// Which slot.
    pub slot: u8,
    /// Its stage: 3 training, 4 blending, 6 holding; 0 if it is empty.
    pub stage: u8,
    /// Epochs in the stage. Training is due at the gate after ten, blending after five.
    pub epochs: u8,
    /// What the rank's own gate says.
    pub passes: bool,
}

/// Ranks at the beginning of an epoch's step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateSyncModel {
    /// By rank: its slots, in the order in which it visits them.
    pub ranks: Vec<Vec<SlotAt>>,
}

/// One rank in the middle of the step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stepping {
    slots: Vec<SlotAt>,
    /// The slot it is at.
    at: usize,
    /// It waits in a broadcast.
    waits: bool,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A rank visits its next slot.
    Visit(usize),
    /// All wait: rank 0's decision is everybody's.
    Broadcast,
}

impl SlotAt {
    fn is_due(&self) -> bool {
        matches!((self.stage, self.epochs), (3, 10..) | (4, 5..))
    }

    fn decide(&mut self, passes: bool) {
        if passes {
            self.stage = if self.stage == 3 { 4 } else { 6 };
            self.epochs = 0;
        }
    }
}

impl Model for GateSyncModel {
    type State = Vec<Stepping>;
    type Action = Action;

    fn init_states(&self) -> Vec<Self::State> {
        let begin = |slots: &Vec<SlotAt>| Stepping {
            slots: slots.clone(),
            at: 0,
            waits: false,
        };
        vec![self.ranks.iter().map(begin).collect()]
    }

    fn actions(&self, ranks: &Self::State, actions: &mut Vec<Action>) {
        for (at, rank) in ranks.iter().enumerate() {
            if !rank.waits && rank.at < rank.slots.len() {
                actions.push(Action::Visit(at));
            }
        }
        if ranks.iter().all(|rank| rank.waits) {
            actions.push(Action::Broadcast);
        }
    }

    fn next_state(&self, last: &Self::State, action: Action) -> Option<Self::State> {
        let mut ranks = last.clone();
        match action {
            Action::Visit(at) => {
                let rank = &mut ranks[at];
                let slot = &mut rank.slots[rank.at];
                slot.epochs += u8::from(slot.stage != 0);
                match slot.is_due() {
                    true => rank.waits = true,
                    false => rank.at += 1,
                }
            }
            Action::Broadcast => {
                let decision = ranks[0].slots[ranks[0].at].passes;
                for rank in &mut ranks {
                    rank.slots[rank.at].decide(decision);
                    (rank.at, rank.waits) = (rank.at + 1, false);
                }
            }
        }
        Some(ranks)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("progress", |model: &Self, ranks: &Vec<Stepping>| {
                let mut actions = Vec::new();
                model.actions(ranks, &mut actions);
                !actions.is_empty() || is_over(ranks)
            }),
            Property::always("agreement", |_, ranks: &Vec<Stepping>| {
                let stages = |rank: &Stepping| {
                    let mut stages: Vec<(u8, u8)> = rank
                        .slots
                        .iter()
                        .map(|slot| (slot.slot, slot.stage))
                        .collect();
                    stages.sort_unstable();
                    stages
                };
                !is_over(ranks) || ranks.iter().all(|rank| stages(rank) == stages(&ranks[0]))
            }),
        ]
    }
}

fn is_over(ranks: &[Stepping]) -> bool {
    ranks.iter().all(|rank| rank.at == rank.slots.len())
}

#[cfg(test)]
mod tests {
    use selvedge_sim::Class;

    use super::*;
    use crate::checker::search;

    const DUE: SlotAt = SlotAt {
        slot: 0,
        stage: 3,
        epochs: 9,
        passes: true,
    };

    fn violated(ranks: &[&[SlotAt]]) -> Option<String> {
        let ranks = ranks.iter().map(|slots| slots.to_vec()).collect();
        let found = search(GateSyncModel { ranks }, "one epoch step", 10_000);
        match found.verdict.failure() {
            Some(failure) => Some(failure.signature.clone()),
            None => {
                assert_eq!(found.verdict.class(), Class::Bounded, "{:?}", found.verdict);
                None
            }
        }
    }

    #[test]
    fn ranks_that_are_alike_agree() {
        assert_eq!(violated(&[&[DUE], &[DUE]]), None);
    }

    #[test]
    fn d1_and_d2_rank_0_decides_whatever_others_found() {
        for passes in [true, false] {
            let other = SlotAt {
                passes: !passes,
                ..DUE
            };
            assert_eq!(violated(&[&[SlotAt { passes, ..DUE }], &[other]]), None);
        }
    }

    #[test]
    fn d3_and_d7_a_rank_one_epoch_ahead_waits_for_ever() {
        let behind = SlotAt { epochs: 8, ..DUE };
        assert_eq!(violated(&[&[DUE], &[behind]]).as_deref(), Some("progress"));
        assert_eq!(violated(&[&[behind], &[DUE]]).as_deref(), Some("progress"));
    }

    #[test]
    fn d4_slots_in_another_order_swap_their_decisions() {
        let fails = SlotAt {
            slot: 1,
            passes: false,
            ..DUE
        };
        let found = violated(&[&[DUE, fails], &[fails, DUE]]);
        assert_eq!(found.as_deref(), Some("agreement"));
    }

    #[test]
    fn d5_a_decision_about_one_gate_passes_another() {
        let blends = SlotAt {
            stage: 4,
            epochs: 4,
            ..DUE
        };
        assert_eq!(violated(&[&[DUE], &[blends]]).as_deref(), Some("agreement"));
    }

    #[test]
    fn d6_an_empty_slot_leaves_the_others_waiting() {
        let empty = SlotAt { stage: 0, ..DUE };
        assert_eq!(violated(&[&[DUE], &[empty]]).as_deref(), Some("progress"));
    }
}
