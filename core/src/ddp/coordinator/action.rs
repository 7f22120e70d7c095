//! What a coordinator is told, what it wants done, and what it waits for.

use crate::ddp::coordinator::Member;
use crate::ddp::ids::{Epoch, Rank, View};
use crate::ddp::message::{ToCoordinator, ToRank};
use crate::ddp::slot::SlotCommand;

/// What has happened to a coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CoordinatorEvent {
    /// A rank says something.
    Message {
        /// Which one.
        from: Rank,
        /// What.
        message: ToCoordinator,
    },
    /// Ranks whose connections are lost, or whose heartbeats have been missed for too long: all
    /// that are known by now, so that they cost one change of view. They may be alive all the
    /// same: that costs them their membership, and nothing else.
    Lost(Vec<Member>),
    /// A policy wants something done with a slot. It goes into the next record, if the
    /// coordinator lives until then and has not too many of them
    /// ([`MOST_COMMANDS`](super::CoordinatorState::MOST_COMMANDS)): ask again if no record has it.
    Command(SlotCommand),
    /// A wait has taken too long.
    HardDeadline(CoordinatorWait),
}

/// What a coordinator wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CoordinatorAction {
    /// Write [`CoordinatorState::durable`](super::CoordinatorState::durable) down, so that it
    /// survives a power cut, before any later action is done.
    Persist,
    /// Send this to a rank, if it is connected.
    Send {
        /// Which one.
        to: Rank,
        /// What.
        message: ToRank,
    },
}

/// What a coordinator waits for; of whom, [`CoordinatorState::missing`] says.
///
/// [`CoordinatorState::missing`]: super::CoordinatorState::missing
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CoordinatorWait {
    /// For the rest of the world to join.
    Formation,
    /// For the rest of the members to arrive where one has arrived.
    Arrivals {
        /// The view.
        view: View,
        /// The epoch at whose end they arrive.
        epoch: Epoch,
    },
    /// For members to leave the old view.
    Acks {
        /// The new view.
        view: View,
    },
}
