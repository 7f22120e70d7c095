//! **No stall:** a server that runs and has something to do does it, whatever its clients do.

use std::time::Duration;

use selvedge_core::time::Instant;

use super::{Broken, Kept};

/// Longer than anything takes to begin.
const MOST: Duration = Duration::from_secs(1);

/// There has been something to do since then, and nobody is at it.
pub(in crate::world) fn begins(since: Instant, now: Instant) -> Kept {
    let waits = now.saturating_since(since);
    match waits <= MOST {
        true => Ok(()),
        false => Err(Broken::new(
            "no-stall",
            format!("the engine has had something to do for {waits:?}, and is not stepped"),
        )),
    }
}
