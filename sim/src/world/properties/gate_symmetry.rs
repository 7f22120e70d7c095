//! **Gate symmetry:** whoever votes on an epoch asks the same questions of the same slots, in
//! whatever view and life.

use std::collections::VecDeque;

use selvedge_core::ddp::{Epoch, Rank, Schedule};

use super::{Broken, Kept};

/// So many epochs back somebody may still vote.
const KEPT: usize = 64;

/// What was asked, by epoch.
#[derive(Debug, Default)]
pub(in crate::world) struct GateSymmetry {
    asked: VecDeque<(Epoch, u64)>,
}

impl GateSymmetry {
    pub(in crate::world) fn asks(&mut self, rank: Rank, epoch: Epoch, schedule: &Schedule) -> Kept {
        let digest = schedule.digest();
        let mut asked = self.asked.iter().rev();
        match asked.find(|(known, _)| *known == epoch) {
            Some((_, known)) if *known != digest => Err(Broken::new(
                "gate-symmetry",
                format!("{rank} asks other questions at the end of {epoch} than others did"),
            )),
            Some(_) => Ok(()),
            None => {
                self.asked.push_back((epoch, digest));
                if self.asked.len() > KEPT {
                    self.asked.pop_front();
                }
                Ok(())
            }
        }
    }
}
