//! The epoch step between processes: the machines of [`ddp`](super) driven over a network.
//!
//! | | is | holds |
//! |---|---|---|
//! | [`CoordinatorServer`] | the one coordinator of a run | the machine, the door, the [`Store`] |
//! | [`RankClient`] | one rank | the machine, a [`Trainee`], the mesh of its view |
//! | [`Network`] | where sockets come from | [`TcpSockets`], or a simulated one |
//! | [`Observer`] | who sees what happens | nothing: it is told [`NetEvent`]s |
//!
//! A rank has one connection to the coordinator and, in each view, one to every other member: it
//! sends its gradients, and gets theirs on the ones they open. Each adds up by rank, so all get
//! the same bits. A rank that must copy parameters asks a holder on a connection of its own.
//!
//! # What is checked at the door
//! The first frame on any connection names the protocol, its version, the run and a token that
//! all share. Who does not know them is told a [`Refusal`] and cut; nothing of what he said
//! reaches a machine. Frames are bounded, and checksummed: a frame that was damaged is an error,
//! never another message.
//!
//! # What is not defended against
//! The token goes over the wire as it is, and so does all else: it keeps strangers and accidents
//! out, not somebody who reads the wire. A rank that knows the token is trusted, as
//! [`ddp`](super) says.

mod clock;
mod error;
mod link;
mod network;
mod observe;
mod options;
mod rank;
mod server;
mod store;
mod trainee;
mod valid;
mod wire;

pub use error::{CoordinatorError, RankError, Refusal, RefusedCounts};
pub use network::{Network, TcpSockets};
pub use observe::{NetEvent, Noted, Observer, SlotAlpha};
pub use options::{
    Calls, CoordinatorOptions, OptionsError, RankOptions, Start, Timing, Token, TokenError,
};
pub use rank::{RankClient, RankReport};
pub use server::{CoordinatorHandle, CoordinatorReport, CoordinatorServer};
pub use store::{Store, StoreError};
pub use trainee::{Given, Trainee, TraineeError};

pub(super) use valid::{AlphaParts, DurableParts, RecordParts, ScheduleParts, SlotParts};
