//! D2: alpha moves only while a seed blends; one that holds has all of it, one that does not
//! blend yet or was removed has none. A fossilized seed keeps what it had.

use crate::ddp::alpha::AlphaLevel;
use crate::ddp::slot::SeedSlot;
use crate::ddp::stage::SeedStage;
use crate::pool::InvariantViolation;

pub(super) fn check(slot: &SeedSlot) -> Result<(), InvariantViolation> {
    let Some(ramp) = slot.alpha() else {
        return Ok(());
    };
    let held = slot.is_settled().then(|| ramp.target());
    let fits = match slot.stage() {
        SeedStage::Dormant => false,
        SeedStage::Blending => true,
        SeedStage::Holding | SeedStage::Fossilized => held == Some(AlphaLevel::ONE),
        _ => held == Some(AlphaLevel::ZERO),
    };
    if fits {
        return Ok(());
    }
    Err(InvariantViolation::new(
        "stage_fits_alpha",
        format!("{} is {} with {ramp:?}", slot.id(), slot.stage()),
    ))
}
