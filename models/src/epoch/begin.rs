//! What a run begins from.

use std::fmt;

use selvedge_core::ddp::{
    AlphaCurve, BlueprintId, CommitRecord, Epoch, Reduction, RunId, Schedule, SeedId, SeedSlot,
    SeedStage, SlotId, SlotRules, Strictness, Vote,
};

/// The slots at the beginning, and so what is asked at the boundaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Begin {
    /// A seed that blends in over as many epochs as there are. So alpha moves at every boundary,
    /// and the last one asks a question, which a majority answers.
    Blending,
    /// A seed that has trained for as long as it must: the first boundary asks whether it may
    /// blend in, and the ranks answer differently.
    AtGate(Reduction),
    /// Three slots, handed over in the wrong order: one has trained and one has blended for as
    /// long as they must, one is empty. The first boundary asks two questions, and no rank
    /// answers both alike.
    ThreeSlots,
    /// A seed that blends out over as many epochs as there are, and is then removed.
    Pruning,
}

impl Begin {
    pub(super) fn record(self, run: RunId, epochs: u8) -> CommitRecord {
        let epochs = u32::from(epochs);
        let slots = match self {
            Begin::Blending => vec![blending(0, Reduction::Majority, epochs)],
            Begin::AtGate(reduction) => vec![at_gate(0, reduction)],
            Begin::ThreeSlots => vec![
                SeedSlot::new(SlotId(2), rules(Reduction::Any, 1)),
                blending(1, Reduction::Any, 1),
                at_gate(0, Reduction::Any),
            ],
            Begin::Pruning => {
                let mut slot = blending(0, Reduction::Majority, 1);
                // Blended in, it does not go on by itself, and blends out again.
                slot.step_epoch(None);
                slot.schedule_prune(epochs)
                    .expect("INVARIANT: it blends and holds still");
                vec![slot]
            }
        };
        let schedule = Schedule::new(slots).expect("INVARIANT: each has its own id");
        CommitRecord::genesis(run, Epoch(0), 0, schedule)
    }
}

fn rules(reduction: Reduction, blend_steps: u32) -> SlotRules {
    SlotRules {
        strictness: Strictness::Permissive,
        auto_g2: true,
        auto_g3: true,
        reduction,
        blend_steps,
        blend_curve: AlphaCurve::Linear,
        ..SlotRules::default()
    }
}

/// A seed that is about to begin blending in over so many epochs.
fn blending(id: u32, reduction: Reduction, epochs: u32) -> SeedSlot {
    let rules = SlotRules {
        auto_g2: false,
        ..rules(reduction, epochs)
    };
    entered(id, rules, &[SeedStage::Training, SeedStage::Blending])
}

/// A seed that has trained for as long as it must.
fn at_gate(id: u32, reduction: Reduction) -> SeedSlot {
    let mut slot = entered(id, rules(reduction, 2), &[SeedStage::Training]);
    while slot.question().is_none() {
        slot.step_epoch(None);
    }
    slot
}

fn entered(id: u32, rules: SlotRules, stages: &[SeedStage]) -> SeedSlot {
    let mut slot = SeedSlot::new(SlotId(id), rules);
    slot.germinate(SeedId(u64::from(id) + 1), BlueprintId(1))
        .expect("INVARIANT: the slot is empty");
    for &stage in stages {
        let question = slot
            .advance_stage(Some(stage))
            .expect("INVARIANT: that comes next");
        let vote = Vote {
            question,
            passed: true,
            score: 0,
        };
        slot.step_epoch(Some(&rules.reduction.decide(question, &[vote])));
    }
    slot
}

impl fmt::Display for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Begin::Blending => f.write_str("one slot that blends in"),
            Begin::AtGate(reduction) => write!(f, "one slot at its gate ({reduction:?})"),
            Begin::ThreeSlots => f.write_str("three slots in three stages"),
            Begin::Pruning => f.write_str("one slot that blends out"),
        }
    }
}
