//! **No process's time goes back:** what a machine is handed as `now` is no earlier than what it
//! was handed before, however a clock is set meanwhile.

use std::collections::BTreeMap;

use selvedge_core::time::Instant;

use super::{Broken, Kept};
use crate::world::network::Place;

/// The last that each process was told.
#[derive(Debug, Default)]
pub(in crate::world) struct ClockNeverBack {
    last: BTreeMap<Place, (u64, Instant)>,
}

impl ClockNeverBack {
    /// A life of a process is told the time.
    pub(in crate::world) fn reads(&mut self, place: Place, life: u64, now: Instant) -> Kept {
        let last = self.last.entry(place).or_insert((life, now));
        if last.0 != life {
            *last = (life, now);
        }
        match last.1 <= now {
            true => {
                last.1 = now;
                Ok(())
            }
            false => Err(Broken::new(
                "clock",
                format!("{place} was told {:?}, and then {now:?}", last.1),
            )),
        }
    }
}
