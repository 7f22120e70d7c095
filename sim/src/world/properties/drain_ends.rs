//! **A drain ends by its deadline:** with the first turn that sees it pass it is over, either way;
//! and what is drained holds no request.

use selvedge_core::time::Instant;

use super::{Broken, Kept};

const SIGNATURE: &str = "drain";

/// The drain under way.
#[derive(Debug, Default)]
pub(in crate::world) struct DrainEnds {
    deadline: Option<Instant>,
}

impl DrainEnds {
    pub(in crate::world) fn begins(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// It was taken back, or its engine is gone.
    pub(in crate::world) fn given_up(&mut self) {
        self.deadline = None;
    }

    /// A turn was made, which saw that time.
    pub(in crate::world) fn turns(&mut self, now: Instant, over: bool) -> Kept {
        let Some(deadline) = self.deadline else {
            return Ok(());
        };
        if over {
            self.deadline = None;
            return Ok(());
        }
        match now < deadline {
            true => Ok(()),
            false => Err(Broken::new(
                SIGNATURE,
                format!("it should be over by {deadline:?}, and at {now:?} it is not"),
            )),
        }
    }

    /// What is drained holds so many requests.
    pub(in crate::world) fn is_empty(&self, requests: u32) -> Kept {
        match requests {
            0 => Ok(()),
            left => Err(Broken::new(
                SIGNATURE,
                format!("it is drained with {left} requests in it"),
            )),
        }
    }
}
