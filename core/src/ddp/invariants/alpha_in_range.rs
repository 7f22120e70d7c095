//! D1: alpha is a number between the ramp's start and its target.

use crate::ddp::slot::SeedSlot;
use crate::pool::InvariantViolation;

pub(super) fn check(slot: &SeedSlot) -> Result<(), InvariantViolation> {
    let Some(ramp) = slot.alpha() else {
        return Ok(());
    };
    let (start, target) = (ramp.start().as_f64(), ramp.target().as_f64());
    let alpha = ramp.alpha();
    let within = (start.min(target)..=start.max(target)).contains(&alpha);
    let (done, total) = ramp.ticks();
    if within && (0.0..=1.0).contains(&alpha) && done <= total {
        return Ok(());
    }
    Err(InvariantViolation::new(
        "alpha_in_range",
        format!("{}: alpha is {alpha} on {ramp:?}", slot.id()),
    ))
}
