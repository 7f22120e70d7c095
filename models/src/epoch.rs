//! The epoch gate as a model: the very [`RankState`](selvedge_core::ddp::RankState)s and
//! [`CoordinatorState`](selvedge_core::ddp::CoordinatorState) that ship, over a network of
//! ordered channels, with loaders of uneven length and a budget of faults.
//!
//! **What it proves, where it is complete:** whatever rank applies a record, alive or dead,
//! applies the one that was decided for that epoch; no collective ever adds up gradients of
//! different alphas, epochs or parameters; epochs and views never go back; ranks in the same
//! epoch ask the same questions; every decision is the declared reduction of the votes that its
//! voters gave; no life of a rank takes what was meant for another; and
//! wherever nothing can go on by itself, every live rank is done or has failed with a reason.
//! That last one is liveness written as safety: a fault is not taken for progress, or a budget
//! that is left over would hide a deadlock.
//!
//! What is inside one step: an event given to a machine, with all that its actions do at once
//! (writing down, sending, contributing, evaluating gates). What is between steps: messages,
//! results of collectives, copies of parameters, detection of deaths, deadlines.
//!
//! Ghosts, which no machine sees, make the properties stronger than what the machines check:
//! the parameters themselves (a digest of every step that made them), and the log of what was
//! decided.

mod begin;
mod drive;
mod faults;
mod look;
mod mutants;
mod world;

#[cfg(test)]
mod tests;

use selvedge_core::ddp::Rank;
use stateright::{Model, Property};

pub use begin::Begin;
pub use faults::Faults;
pub use mutants::Mutant;
pub use world::{Broken, World};

/// How much of the protocol is explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochModel {
    /// Ranks that begin the run: at least 1, at most 8.
    pub ranks: u8,
    /// Epochs of the run.
    pub epochs: u8,
    /// With fewer ranks the run is given up: at least 1, at most `ranks`.
    pub min_world: u8,
    /// What the run begins from.
    pub begin: Begin,
    /// What may go wrong, and how often.
    pub faults: Faults,
    /// What is broken on purpose.
    pub mutant: Mutant,
}

impl EpochModel {
    /// Batches of each rank's loader in every epoch: uneven, for that is what the tickets
    /// are about.
    pub const BATCHES: [u64; 4] = [1, 2, 1, 3];

    /// `ranks` ranks for two epochs, without faults.
    #[must_use]
    pub const fn of(ranks: u8) -> Self {
        EpochModel {
            ranks,
            epochs: 2,
            min_world: if ranks > 2 { 2 } else { 1 },
            begin: Begin::Blending,
            faults: Faults::NONE,
            mutant: Mutant::None,
        }
    }

    /// The same with these faults.
    #[must_use]
    pub const fn with(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// The same from this beginning.
    #[must_use]
    pub const fn from(mut self, begin: Begin) -> Self {
        self.begin = begin;
        self
    }

    /// The same with this broken.
    #[must_use]
    pub const fn but(mut self, mutant: Mutant) -> Self {
        self.mutant = mutant;
        self
    }

    /// What the search leaves out, in words.
    #[must_use]
    pub fn boundary(&self) -> String {
        let EpochModel {
            ranks,
            epochs,
            begin,
            faults,
            ..
        } = self;
        format!("{ranks} ranks, {epochs} epochs, {begin}, {faults}")
    }
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The coordinator gets the oldest message of a rank.
    ToCoordinator(Rank),
    /// A rank gets the oldest message of the coordinator.
    ToRank(Rank),
    /// A rank gets the result of its collective.
    StepDone(Rank),
    /// A rank gets the parameters it was to copy.
    Healed(Rank),
    /// The coordinator notices the end of the oldest life that it has not noticed.
    Detect,
    /// A rank has waited too long for a coordinator that is down.
    Deadline(Rank),
    /// A rank dies, wherever it is.
    Crash(Rank),
    /// A dead or failed rank begins another life.
    Restart(Rank),
    /// A live member is taken for dead.
    Suspect(Rank),
    /// A rank's collective comes to nothing.
    StepFails(Rank),
    /// The coordinator dies; what it has sent to a rank may arrive all the same, or not.
    CoordinatorCrash {
        /// To whom it does: bit n for rank n.
        kept: u8,
    },
    /// The coordinator begins another life, from what it has written down.
    CoordinatorRestart,
}

impl Model for EpochModel {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::formed(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            // Found: nothing after it matters.
            return;
        }
        world.progress(|action| actions.push(action));
        world.faults(actions);
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        world.act(self, action);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        /// A property that [`World`] finds broken as it happens.
        macro_rules! unbroken {
            ($name:literal, $broken:path) => {
                Property::always($name, |_, world: &World| world.broken != Some($broken))
            };
        }
        vec![
            unbroken!("agreement", Broken::Agreement),
            unbroken!("no-mix", Broken::NoMix),
            unbroken!("monotone", Broken::Monotone),
            unbroken!("gate-symmetry", Broken::GateSymmetry),
            unbroken!("every-vote-counts", Broken::VoteLost),
            unbroken!("identity", Broken::Identity),
            unbroken!("no-false-alarm", Broken::FalseAlarm),
            Property::always("progress", |_, world: &World| {
                world.all_ended() || world.makes_progress()
            }),
            Property::always("core-invariants", |_, world: &World| {
                world.validate().is_ok()
            }),
        ]
    }
}
