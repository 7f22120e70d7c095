//! What a coordinator is told, what it wants done, and what it waits for.

use crate::ddp::coordinator::Member;
use crate::ddp::ids::{Rank, View};
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
    /// A rank's connection is lost, or its heartbeat has been missed for too long. It may be
    /// alive all the same: that costs it its membership, and nothing else.
    Lost(Member),
    /// A policy wants something done with a slot. It goes into the next record, if the
    /// coordinator lives until then: ask again if no record has it.
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

/// What a coordinator waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CoordinatorWait {
    /// For the rest of the world to join.
    Formation {
        /// Who has.
        joined: Vec<Member>,
    },
    /// For the rest of the members to arrive where one has arrived.
    Arrivals {
        /// The view.
        view: View,
        /// Who has not.
        missing: Vec<Member>,
    },
    /// For members to leave the old view.
    Acks {
        /// The new view.
        view: View,
        /// Who has not.
        missing: Vec<Member>,
    },
}
