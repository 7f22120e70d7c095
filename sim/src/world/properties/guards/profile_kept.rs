//! **A profile is kept:** what a life of a rank leaves behind is a valid trace, or, where its
//! process or its disk died in a write, one that can be repaired; with every event that was
//! written before, and, where it ended by itself, closed.

use selvedge_core::ddp::Rank;
use selvedge_core::train::profiler::{Checked, check, repaired};

use super::super::{Broken, Kept};
use crate::world::guards::disk::{Disk, TraceFile};

const SIGNATURE: &str = "profile-kept";

/// A rank's life is over; whether it had the time to close its trace.
pub(in crate::world) fn is_left(rank: Rank, disk: &Disk, closed: bool) -> Kept {
    for (number, file) in disk.files().iter().enumerate() {
        let wrong = |what: String| {
            let text = format!("trace {number} of {rank}: {what}");
            Err(Broken::new(SIGNATURE, text))
        };
        let checked = match check(&file.bytes[..]) {
            Ok(checked) => checked,
            Err(fault) if !file.torn => return wrong(fault.to_string()),
            Err(_) => match after_repair(file) {
                Ok(checked) => checked,
                Err(why) => return wrong(format!("it cannot be repaired: {why}")),
            },
        };
        let (left, written) = (checked.events, file.events);
        if left < written {
            return wrong(format!(
                "{left} events are left of {written} that were written"
            ));
        }
        if closed && !file.closed {
            return wrong("its process ended by itself, and left it open".to_owned());
        }
    }
    Ok(())
}

/// What a torn trace comes to when it is repaired.
fn after_repair(file: &TraceFile) -> Result<Checked, String> {
    let bytes = repaired(&file.bytes).map_err(|error| error.to_string())?;
    check(&bytes[..]).map_err(|fault| fault.to_string())
}
