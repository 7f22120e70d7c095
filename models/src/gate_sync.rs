//! The origin's gate sync: a rank whose slot is due at a gate takes part in a collective about
//! it. Nothing in it says which slot, gate or epoch it is about, and a rank that is not due takes
//! no part. With slots in different states, or visited in another order, it hangs, or applies a
//! decision to what it was not made for; and with all alike, rank 0 overrides the others (D1-D9).
//!
//! What goes before it was an all-reduce, with the same gaps: see [`Sync`].

use stateright::{Model, Property};

use crate::subject::Subject;

/// The stages by the origin's numbers.
pub mod stage {
    /// No seed.
    pub const EMPTY: u8 = 0;
    /// A seed that has not begun to train.
    pub const GERMINATED: u8 = 2;
    /// It trains apart from the host.
    pub const TRAINING: u8 = 3;
    /// Its alpha moves.
    pub const BLENDING: u8 = 4;
    /// Its alpha is 1.
    pub const HOLDING: u8 = 6;
    /// It is gone.
    pub const PRUNED: u8 = 8;
}

/// One slot of one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotAt {
    /// Which slot.
    pub slot: u8,
    /// Its [`stage`].
    pub stage: u8,
    /// Epochs in the stage. Training is due at the gate after ten.
    pub epochs: u8,
    /// Ticks of alpha in the stage. Blending is over after [`SlotAt::TICKS`]: then it is due at
    /// the gate, or gone if it blends out.
    pub ticks: u8,
    /// It blends out, and is removed where it gets to 0.
    pub out: bool,
    /// A policy wants it to go on: to begin blending, or from blending to holding, whatever its
    /// age and its alpha. That comes before the epoch's tick of alpha.
    pub commanded: bool,
    /// What the rank's own gate says.
    pub passes: bool,
}

/// How a gate is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sync {
    /// Rank 0's decision is broadcast.
    Broadcast,
    /// Every rank's is reduced, and all must pass: the protocol before.
    AllReduceAll,
}

/// What was meant to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meant {
    /// All must pass.
    All,
    /// One is enough.
    Any,
    /// More than half.
    Majority,
}

/// Ranks at the beginning of an epoch's step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateSyncModel {
    /// By rank: its slots, in the order in which it visits them.
    pub ranks: Vec<Vec<SlotAt>>,
    /// How a gate is decided.
    pub sync: Sync,
    /// What was meant to decide it.
    pub meant: Meant,
    /// How often rank 0 may make the step of an epoch once more.
    pub again: u8,
}

/// One rank in the middle of the step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stepping {
    slots: Vec<SlotAt>,
    /// The slot it is at.
    at: usize,
    /// It waits in a collective.
    waits: bool,
}

/// All ranks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ranks {
    ranks: Vec<Stepping>,
    /// Steps that rank 0 may still make once more.
    again: u8,
    /// A decision was not what was meant to come of the votes.
    vote_lost: bool,
    /// A decision did to one rank's slot what it did not do to all.
    asymmetric: bool,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A rank visits its next slot.
    Visit(usize),
    /// All wait: there is a decision.
    Decide,
    /// Rank 0 makes its epoch's step once more.
    StepAgain,
}

impl SlotAt {
    /// Ticks from one end of alpha to the other.
    pub const TICKS: u8 = 5;

    /// A slot of this number in this stage, at its beginning, whose gate passes.
    #[must_use]
    pub const fn new(slot: u8, stage: u8) -> Self {
        SlotAt {
            slot,
            stage,
            epochs: 0,
            ticks: 0,
            out: false,
            commanded: false,
            passes: true,
        }
    }

    /// One that is due at its gate in the next step.
    #[must_use]
    pub const fn due(slot: u8, stage: u8) -> Self {
        SlotAt {
            epochs: 9,
            ticks: Self::TICKS - 1,
            ..SlotAt::new(slot, stage)
        }
    }

    /// The same, whose gate says this.
    #[must_use]
    pub const fn voting(mut self, passes: bool) -> Self {
        self.passes = passes;
        self
    }

    /// An epoch older; whether it takes part in a collective.
    fn step(&mut self) -> bool {
        self.epochs += u8::from(self.stage != stage::EMPTY);
        if self.stage == stage::BLENDING && !self.commanded {
            self.ticks = (self.ticks + 1).min(Self::TICKS);
            if self.ticks == Self::TICKS && self.out {
                // Scheduled: no gate, and no collective.
                self.stage = stage::PRUNED;
                return false;
            }
        }
        match self.stage {
            stage::GERMINATED => self.commanded,
            stage::TRAINING => self.commanded || self.epochs >= 10,
            stage::BLENDING => self.commanded || self.ticks == Self::TICKS,
            _ => false,
        }
    }

    /// What was decided, about whichever slot and gate it was, is done to this one; whether it
    /// moved.
    fn decide(&mut self, passes: bool) -> bool {
        let next = match self.stage {
            stage::TRAINING => stage::BLENDING,
            stage::BLENDING => stage::HOLDING,
            // From here to blending there is no way: it fails on this rank, which tells nobody.
            _ => return false,
        };
        if passes {
            (self.stage, self.epochs, self.ticks) = (next, 0, 0);
        }
        passes
    }
}

impl GateSyncModel {
    /// Ranks with these slots, under the protocol that the origin has.
    #[must_use]
    pub fn of(ranks: &[&[SlotAt]]) -> Self {
        GateSyncModel {
            ranks: ranks.iter().map(|slots| slots.to_vec()).collect(),
            sync: Sync::Broadcast,
            meant: Meant::Majority,
            again: 0,
        }
    }

    fn decision(&self, ranks: &[Stepping]) -> bool {
        let mut votes = ranks.iter().filter_map(Stepping::current);
        match self.sync {
            Sync::Broadcast => votes.next().is_some_and(|slot| slot.passes),
            Sync::AllReduceAll => votes.all(|slot| slot.passes),
        }
    }

    /// Whether slots that were in one stage on two ranks are in one stage again.
    fn agree_still(&self, all: &Ranks) -> bool {
        let slots = || {
            let begun = self.ranks.iter().flatten();
            begun.zip(all.ranks.iter().flat_map(|rank| &rank.slots))
        };
        slots().all(|(begun, now)| {
            let alike = |other: &SlotAt| (other.slot, other.stage) == (begun.slot, begun.stage);
            slots().all(|(other, end)| !alike(other) || end.stage == now.stage)
        })
    }

    /// What should have come of it, where all are asked the same.
    fn meant(&self, ranks: &[Stepping]) -> Option<bool> {
        let asked: Vec<&SlotAt> = ranks.iter().filter_map(Stepping::current).collect();
        let first = asked.first()?;
        let same = |slot: &&SlotAt| (slot.slot, slot.stage) == (first.slot, first.stage);
        if !asked.iter().all(same) {
            return None;
        }
        let yes = asked.iter().filter(|slot| slot.passes).count();
        Some(match self.meant {
            Meant::All => yes == asked.len(),
            Meant::Any => yes > 0,
            Meant::Majority => 2 * yes > asked.len(),
        })
    }
}

impl Model for GateSyncModel {
    type State = Ranks;
    type Action = Action;

    fn init_states(&self) -> Vec<Ranks> {
        let begin = |slots: &Vec<SlotAt>| Stepping {
            slots: slots.clone(),
            at: 0,
            waits: false,
        };
        vec![Ranks {
            ranks: self.ranks.iter().map(begin).collect(),
            again: self.again,
            vote_lost: false,
            asymmetric: false,
        }]
    }

    fn actions(&self, all: &Ranks, actions: &mut Vec<Action>) {
        for (at, rank) in all.ranks.iter().enumerate() {
            if !rank.waits && !rank.is_over() {
                actions.push(Action::Visit(at));
            }
        }
        if all.ranks.iter().all(|rank| rank.waits) {
            actions.push(Action::Decide);
        }
        if all.again > 0 && all.ranks.first().is_some_and(Stepping::is_over) {
            actions.push(Action::StepAgain);
        }
    }

    fn next_state(&self, last: &Ranks, action: Action) -> Option<Ranks> {
        let mut all = last.clone();
        match action {
            Action::Visit(at) => {
                let rank = &mut all.ranks[at];
                match rank.slots[rank.at].step() {
                    true => rank.waits = true,
                    false => rank.at += 1,
                }
            }
            Action::Decide => {
                let decision = self.decision(&all.ranks);
                all.vote_lost |= self
                    .meant(&all.ranks)
                    .is_some_and(|meant| meant != decision);
                let about = |rank: &Stepping| rank.current().map(|slot| (slot.slot, slot.stage));
                let first = all.ranks.first().and_then(about);
                let (mut strange, mut moved) = (false, 0);
                for rank in &mut all.ranks {
                    let other = about(rank) != first;
                    let moves = rank.slots[rank.at].decide(decision);
                    strange |= moves && other;
                    moved += usize::from(moves);
                    (rank.at, rank.waits) = (rank.at + 1, false);
                }
                // It moved what it was not about, or was carried out by some only.
                all.asymmetric |= strange || (moved > 0 && moved < all.ranks.len());
            }
            Action::StepAgain => {
                all.again -= 1;
                all.ranks[0].at = 0;
            }
        }
        Some(all)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("progress", |model: &Self, all: &Ranks| {
                let mut actions = Vec::new();
                model.actions(all, &mut actions);
                // That a step may be made again is a fault, and no progress.
                actions.retain(|action| *action != Action::StepAgain);
                !actions.is_empty() || all.are_over()
            }),
            Property::always("gate-symmetry", |_, all: &Ranks| !all.asymmetric),
            // Ranks that began alike end alike. What differed before is not this step's doing.
            Property::always("agreement", |model: &Self, all: &Ranks| {
                !all.are_over() || model.agree_still(all)
            }),
            Property::always("every-vote-counts", |_, all: &Ranks| !all.vote_lost),
            // The next step adds up gradients, each under its own rank's alpha.
            Property::always("no-mix", |_, all: &Ranks| {
                let alpha = |slot: &SlotAt| (slot.stage == stage::BLENDING).then_some(slot.ticks);
                !all.are_over() || all.agree_on(alpha)
            }),
        ]
    }
}

impl Stepping {
    fn is_over(&self) -> bool {
        self.at == self.slots.len()
    }

    fn current(&self) -> Option<&SlotAt> {
        self.slots.get(self.at)
    }
}

impl Ranks {
    fn are_over(&self) -> bool {
        self.ranks.iter().all(Stepping::is_over)
    }

    /// Whether, of each slot, all ranks that have anything to say say the same.
    fn agree_on(&self, what: impl Fn(&SlotAt) -> Option<u8>) -> bool {
        let all = || self.ranks.iter().flat_map(|rank| &rank.slots);
        all().all(|one| {
            let mut others = all().filter(|other| other.slot == one.slot);
            others.all(|other| match (what(one), what(other)) {
                (Some(one), Some(other)) => one == other,
                _ => true,
            })
        })
    }
}

impl Subject for GateSyncModel {
    fn boundary(&self) -> String {
        format!("{} ranks, the step of one epoch", self.ranks.len())
    }

    fn columns(&self) -> Vec<String> {
        let ranks = (0..self.ranks.len()).map(|rank| format!("rank {rank}"));
        std::iter::once("network".to_owned()).chain(ranks).collect()
    }

    fn act(&self, before: &Ranks, action: &Action) -> (usize, String) {
        match *action {
            Action::Visit(rank) => {
                let slot = before.ranks[rank].current().map_or(0, |slot| slot.slot);
                (1 + rank, format!("visits slot {slot}"))
            }
            Action::Decide => {
                let said = match self.decision(&before.ranks) {
                    true => "passed",
                    false => "not passed",
                };
                let how = match self.sync {
                    Sync::Broadcast => "broadcasts rank 0's",
                    Sync::AllReduceAll => "reduces all to",
                };
                (0, format!("{how} '{said}', of no slot"))
            }
            Action::StepAgain => (1, "makes the epoch's step AGAIN".to_owned()),
        }
    }

    fn look(&self, all: &Ranks, column: usize) -> String {
        let Some(rank) = column.checked_sub(1).and_then(|rank| all.ranks.get(rank)) else {
            return String::new();
        };
        let slots: Vec<String> = (rank.slots.iter())
            .map(|slot| {
                let stage = match slot.stage {
                    stage::EMPTY => "empty".to_owned(),
                    stage::GERMINATED => "germinated".to_owned(),
                    stage::TRAINING => format!("training {}", slot.epochs),
                    stage::BLENDING => format!("blending {}/{}", slot.ticks, SlotAt::TICKS),
                    stage::HOLDING => "holding, alpha 1".to_owned(),
                    stage::PRUNED => "pruned".to_owned(),
                    other => format!("stage {other}"),
                };
                format!("slot {} {stage}", slot.slot)
            })
            .collect();
        let waits = if rank.waits { ", waits for all" } else { "" };
        format!("{}{waits}", slots.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use selvedge_sim::Class;

    use super::stage::{BLENDING, EMPTY, GERMINATED, TRAINING};
    use super::*;
    use crate::checker::search;

    const DUE: SlotAt = SlotAt::due(0, TRAINING);

    fn ends(model: GateSyncModel) -> Option<String> {
        let found = search(model, "one epoch step", 10_000);
        match found.verdict.failure() {
            Some(failure) => Some(failure.signature.clone()),
            None => {
                assert_eq!(found.verdict.class(), Class::Bounded, "{:?}", found.verdict);
                None
            }
        }
    }

    #[track_caller]
    fn violates(ranks: &[&[SlotAt]], signature: &str) {
        assert_eq!(ends(GateSyncModel::of(ranks)).as_deref(), Some(signature));
    }

    #[track_caller]
    fn well(ranks: &[&[SlotAt]]) {
        assert_eq!(ends(GateSyncModel::of(ranks)), None);
    }

    fn commanded(stage: u8) -> SlotAt {
        SlotAt {
            commanded: true,
            ..SlotAt::new(0, stage)
        }
    }

    #[test]
    fn ranks_that_are_alike_agree() {
        for slot in [
            DUE,
            DUE.voting(false),
            SlotAt::due(0, BLENDING),
            SlotAt::new(0, EMPTY),
        ] {
            let model = GateSyncModel::of(&[&[slot], &[slot]]);
            for sync in [Sync::Broadcast, Sync::AllReduceAll] {
                let model = GateSyncModel {
                    sync,
                    ..model.clone()
                };
                assert_eq!(ends(model), None, "{slot:?}");
            }
        }
    }

    #[test]
    fn d1_and_d2_rank_0_decides_whatever_others_found() {
        for passes in [true, false] {
            let (own, other) = (DUE.voting(passes), DUE.voting(!passes));
            violates(&[&[own], &[other], &[other]], "every-vote-counts");
        }
        // As long as it is in the majority, nobody notices.
        let model = GateSyncModel::of(&[&[DUE], &[DUE], &[DUE.voting(false)]]);
        assert_eq!(ends(model), None);
    }

    #[test]
    fn d3_a_rank_one_epoch_behind_never_comes() {
        let behind = SlotAt { epochs: 8, ..DUE };
        violates(&[&[DUE], &[behind]], "progress");
        violates(&[&[behind], &[DUE]], "progress");
    }

    #[test]
    fn d4_slots_in_another_order_swap_their_decisions() {
        let fails = SlotAt::due(1, TRAINING).voting(false);
        violates(&[&[DUE, fails], &[fails, DUE]], "gate-symmetry");
        // Were it not for rank 0's pass: the same slots, in the same orders.
        let waits = DUE.voting(false);
        well(&[&[waits, fails], &[fails, waits]]);
    }

    #[test]
    fn d5_a_decision_about_one_gate_passes_another() {
        let jumps = commanded(BLENDING).voting(false);
        violates(&[&[DUE], &[jumps]], "gate-symmetry");
        violates(&[&[DUE], &[SlotAt::due(0, BLENDING)]], "gate-symmetry");
        well(&[&[DUE.voting(false)], &[jumps]]);
    }

    #[test]
    fn d6_an_empty_slot_leaves_the_others_waiting() {
        violates(&[&[DUE], &[SlotAt::new(0, EMPTY)]], "progress");
    }

    #[test]
    fn d7_a_step_made_again_is_another_alpha_and_then_a_rank_alone_at_its_gate() {
        let blends = |ticks| SlotAt {
            ticks,
            ..SlotAt::new(0, BLENDING)
        };
        let again = |ticks| GateSyncModel {
            again: 1,
            ..GateSyncModel::of(&[&[blends(ticks)], &[blends(ticks)]])
        };
        assert_eq!(ends(again(2)).as_deref(), Some("no-mix"));
        // Near the end, the rank that is ahead is due and waits.
        assert_eq!(ends(again(3)).as_deref(), Some("progress"));
    }

    #[test]
    fn d8_a_decision_that_one_rank_cannot_carry_out_is_carried_out_by_the_others() {
        let (trains, germinated) = (commanded(TRAINING), commanded(GERMINATED).voting(false));
        violates(&[&[trains], &[germinated]], "gate-symmetry");
        well(&[&[trains.voting(false)], &[germinated]]);
    }

    #[test]
    fn d9_a_scheduled_prune_asks_nobody() {
        let goes = SlotAt {
            ticks: 3,
            out: true,
            ..SlotAt::new(0, BLENDING)
        };
        let model = GateSyncModel {
            again: 1,
            ..GateSyncModel::of(&[&[goes], &[goes]])
        };
        assert_eq!(ends(model).as_deref(), Some("agreement"));
    }

    #[test]
    fn an_all_reduce_hangs_where_stages_differ_and_asks_all_where_one_was_meant() {
        let reduced = |meant, other: SlotAt| GateSyncModel {
            sync: Sync::AllReduceAll,
            meant,
            ..GateSyncModel::of(&[&[DUE], &[other]])
        };
        let blends = SlotAt::new(0, BLENDING);
        assert_eq!(
            ends(reduced(Meant::All, blends)).as_deref(),
            Some("progress")
        );
        let vetoes = DUE.voting(false);
        assert_eq!(ends(reduced(Meant::All, vetoes)), None);
        let lost = ends(reduced(Meant::Any, vetoes));
        assert_eq!(lost.as_deref(), Some("every-vote-counts"));
    }
}
