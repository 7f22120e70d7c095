//! The place of a process: what is known of it, when its next life begins, how it ended; and how
//! far the faults of the plan are.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Instant;

use nix::sys::signal::Signal;

use super::process::Process;
use super::{End, FAILED_EXITS};
use crate::training::chaos::Planned;
use crate::training::trajectory::Line;

/// When somebody is started again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    pub(super) at: Instant,
    /// Or as soon as this epoch was applied.
    pub(super) epoch: Option<u64>,
}

/// A fault of the plan, and how far it is.
pub(super) struct Due {
    pub(super) planned: Planned,
    /// The life that was told to cut itself off, and has not said yet how many sockets it cut.
    pub(super) asked: Option<u32>,
    pub(super) done_at: Option<u64>,
}

impl Due {
    pub(super) const fn new(planned: Planned) -> Self {
        Due {
            planned,
            asked: None,
            done_at: None,
        }
    }
}

/// What a rank's record must be beyond, so that it shows that the rank is in after all. It may
/// have applied one more before it was hit, and said so later.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    pub(super) view: u64,
    pub(super) epoch: u64,
}

impl Bar {
    pub(super) fn is_passed_by(self, line: &Line) -> bool {
        let least = match line.view > self.view {
            true => self.epoch + 1,
            false => self.epoch + 2,
        };
        line.epoch >= least
    }
}

/// The place of a process.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) process: Option<Process>,
    pub(super) lives: u32,
    pub(super) again: Option<Again>,
    pub(super) stopped_until: Option<Instant>,
    /// Why it said that it failed.
    pub(super) failed: Option<End>,
    pub(super) done: bool,
    /// It has said that it takes connections.
    pub(super) listens: bool,
    /// When it was last heard of, or something was done to it.
    pub(super) since: Option<Instant>,
    /// It was killed because it was silent for too long.
    pub(super) hung: bool,
    pub(super) bar: Option<Bar>,
}

impl Slot {
    pub(super) fn with(process: Process, life: u32) -> Self {
        Slot {
            process: Some(process),
            lives: life,
            since: Some(Instant::now()),
            ..Slot::default()
        }
    }

    /// Whether there is somebody to whom something can be done.
    pub(super) fn is_there(&self) -> bool {
        let lives = |process: &Process| !process.killed && !process.silent;
        self.process.as_ref().is_some_and(lives) && self.failed.is_none() && !self.done
    }
}

/// What a process has to say for its end.
pub(super) fn end_of(slot: &Slot, status: ExitStatus) -> End {
    if slot.hung {
        return End::Hung {
            last: String::new(),
        };
    }
    let on_purpose = slot.process.as_ref().is_some_and(|process| process.killed);
    let killed = on_purpose && status.signal() == Some(Signal::SIGKILL as i32);
    let said = status
        .code()
        .is_some_and(|code| FAILED_EXITS.contains(&code));
    match &slot.failed {
        // It may have been killed on its way out.
        Some(failed) if said || killed => failed.clone(),
        None if slot.done && status.success() => End::Done,
        None if killed => End::Killed,
        _ => {
            let complaint = slot.process.as_ref().map(Process::complaint);
            let told = slot.failed.as_ref().map(End::sentence);
            let told = told.map_or(String::new(), |told| {
                format!(", after it said that it {told}")
            });
            End::Died {
                how: format!("{status}{told}: {}", complaint.unwrap_or_default()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use selvedge_core::ddp::RunId;

    use super::*;
    use crate::training::job::genesis;

    #[test]
    fn a_record_from_before_does_not_show_that_a_rank_is_in() {
        let bar = Bar { view: 3, epoch: 10 };
        for (view, epoch, passed) in [
            (3, 10, false),
            (3, 11, false),
            (3, 12, true),
            (4, 10, false),
            (4, 11, true),
        ] {
            let mut line = Line::of(&genesis(RunId(1)), None, None);
            (line.view, line.epoch) = (view, epoch);
            assert_eq!(bar.is_passed_by(&line), passed, "{view} {epoch}");
        }
    }
}
