//! **Blame:** who had no part in any fault is not left behind, and the run is not given up while
//! enough such ranks are there. Evicting somebody is always safe, so without this a protocol
//! that evicts all would pass.

use selvedge_core::ddp::{Failure, Rank, RankWait};

use super::{Broken, Kept};
use crate::world::faults::FaultKind;
use crate::world::network::Place;

const SIGNATURE: &str = "blameless";

/// What faults have touched a place, and what they excuse.
#[derive(Clone, Copy, Debug, Default)]
struct Touched {
    /// By any.
    at_all: bool,
    /// It could not get on, or not reach those it waits for.
    held_up: bool,
    /// It could not reach the coordinator.
    cut_off: bool,
    /// A life of it has ended, with the parameters it had.
    failed: bool,
}

/// Whom a fault has touched.
#[derive(Debug)]
pub(in crate::world) struct Blame {
    touched: Vec<Touched>,
    min_world: usize,
}

impl Blame {
    pub(super) fn new(ranks: u32, min_world: u32) -> Self {
        Blame {
            touched: vec![Touched::default(); ranks as usize + 1],
            min_world: min_world as usize,
        }
    }

    /// A fault has to do with a place.
    pub(in crate::world) fn touch(&mut self, place: Place, by: &FaultKind) {
        // Server and agents are no part of the job.
        let Some(touched) = self.touched.get_mut(place.index()) else {
            return;
        };
        touched.at_all = true;
        match by {
            // Who was told that a step failed, or was connected again, is as well off as before.
            FaultKind::FailStep { .. } | FaultKind::Suspect { .. } => {}
            FaultKind::Break { .. } => touched.cut_off = true,
            FaultKind::Slow { .. } => touched.held_up = true,
            FaultKind::Crash { .. }
            | FaultKind::CrashCoordinator { .. }
            | FaultKind::Freeze { .. }
            | FaultKind::Stick { .. }
            | FaultKind::Cut { .. }
            | FaultKind::ClockStep { .. }
            | FaultKind::Partition { .. } => (touched.held_up, touched.cut_off) = (true, true),
            // They have nothing to do with who is a member.
            FaultKind::FullDisk { .. }
            | FaultKind::CrashServer { .. }
            | FaultKind::CancelTurn { .. }
            | FaultKind::SlowClient { .. }
            | FaultKind::Drain { .. }
            | FaultKind::Reconfigure { .. } => {}
        }
    }

    fn innocent(&self) -> usize {
        let ranks = self.touched.iter().skip(Place::Rank(Rank(0)).index());
        ranks.filter(|touched| !touched.at_all).count()
    }

    /// Ranks that must still have the parameters of the last record or of a step after it: they
    /// had a vote in it, and nothing has happened to them since.
    fn holders(&self) -> usize {
        let ranks = self.touched.iter().skip(Place::Rank(Rank(0)).index());
        let holds = |touched: &&Touched| !touched.at_all && !touched.failed;
        ranks.filter(holds).count()
    }

    /// A rank fails, and says why. A world that was never `formed` needs all of its ranks; where
    /// no coordinator is `up`, nobody sees to it that others are left behind.
    pub(in crate::world) fn fails(
        &mut self,
        rank: Rank,
        failure: Failure,
        formed: bool,
        up: bool,
    ) -> Kept {
        let coordinator = self.touched[Place::Coordinator.index()];
        let own = self.touched[Place::Rank(rank).index()];
        let complete = self.innocent() == self.touched.len() - 1;
        let excused = match failure {
            Failure::QuorumLost if !formed => !complete,
            Failure::QuorumLost => self.innocent() < self.min_world,
            Failure::StateLost => self.holders() == 0,
            Failure::CoordinatorLost(RankWait::Admission) => {
                coordinator.at_all || own.cut_off || !complete
            }
            Failure::CoordinatorLost(_) => coordinator.at_all || own.cut_off,
            Failure::Evicted(_) => own.at_all,
            Failure::Stalled(_) => own.held_up || !up,
            // Alarms are another property's.
            Failure::TagMismatch | Failure::BadRecord | Failure::Diverged => true,
        };
        // Where all are told of the end together, each had what it had until then.
        if failure != Failure::StateLost {
            self.touched[Place::Rank(rank).index()].failed = true;
        }
        match excused {
            true => Ok(()),
            false => Err(Broken::new(
                SIGNATURE,
                format!("no fault is an excuse for {rank} to fail: {failure}"),
            )),
        }
    }
}
