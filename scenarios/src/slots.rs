//! Slots for the scenarios about ranks and alpha: one that asks to train, so that there is
//! something to vote on, and one that blends, so that there is an alpha which moves.

use selvedge_core::ddp::{
    AlphaCurve, BlueprintId, Decision, RankState, Schedule, SeedId, SeedSlot, SlotId, SlotRules,
    Vote,
};
use selvedge_sim::violation;

pub(crate) const ASKING: SlotId = SlotId(0);
pub(crate) const BLENDING: SlotId = SlotId(1);
/// Epochs that blending in takes.
const RAMP: u32 = 4;

/// Both of them.
pub(crate) fn schedule() -> Schedule {
    let rules = SlotRules {
        auto_g1: true,
        ..SlotRules::default()
    };
    // Into training, then into blending.
    schedule_of([seeded(ASKING, rules), advanced(BLENDING, 2)])
}

pub(crate) fn schedule_of<const N: usize>(slots: [SeedSlot; N]) -> Schedule {
    Schedule::new(slots).unwrap_or_else(|refused| violation!("bad-configuration", "{refused}"))
}

/// A slot with a new seed.
pub(crate) fn seeded(id: SlotId, rules: SlotRules) -> SeedSlot {
    let mut slot = SeedSlot::new(id, rules);
    if let Err(refused) = slot.germinate(SeedId(1), BlueprintId(1)) {
        violation!("bad-configuration", "{refused}");
    }
    slot
}

/// A slot whose seed has gone on by so many stages, as if it had been voted. It asks for nothing
/// by itself.
pub(crate) fn advanced(id: SlotId, stages: u32) -> SeedSlot {
    let rules = SlotRules {
        blend_steps: RAMP,
        blend_curve: AlphaCurve::Linear,
        ..SlotRules::default()
    };
    let mut slot = seeded(id, rules);
    for _ in 0..stages {
        if let Err(refused) = slot.advance_stage(None) {
            violation!("bad-configuration", "{refused}");
        }
        let decision: Option<Decision> = slot.question().map(|question| {
            let vote = Vote {
                question,
                passed: true,
                score: 0,
            };
            slot.rules().reduction.decide(question, &[vote])
        });
        slot.step_epoch(decision.as_ref());
    }
    slot
}

/// The blending slot's alpha, as a rank has it.
pub(crate) fn alpha_of(state: &RankState) -> f64 {
    let alphas = state.record().map(|record| record.schedule.alphas());
    alphas.and_then(|alphas| alphas.of(BLENDING)).unwrap_or(0.0)
}

/// What a rank says to the questions of a schedule, where all of its gates say the same.
pub(crate) fn votes(schedule: &Schedule, passed: bool) -> Vec<Vote> {
    let vote = |question| Vote {
        question,
        passed,
        score: 0,
    };
    schedule.questions().into_iter().map(vote).collect()
}
