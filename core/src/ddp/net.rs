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
//!
//! # A run of two ranks
//! Each of the three would be a process of its own.
//!
//! ```
//! use selvedge_core::ddp::net::{
//!     CoordinatorOptions, CoordinatorServer, Given, RankClient, RankOptions, Start, Store,
//!     TcpSockets, Token, Trainee, TraineeError,
//! };
//! use selvedge_core::ddp::{
//!     CommitRecord, Epoch, GateMetrics, Rank, RunConfig, RunId, Schedule, SlotId,
//! };
//!
//! struct Mean(f64);
//!
//! impl Trainee for Mean {
//!     fn bucket_len(&self) -> usize { 1 }
//!     fn gradient(&mut self, _: Epoch, step: u64, bucket: &mut [f64]) -> Given {
//!         bucket[0] = 1.0;
//!         Given { active: true, more: step < 4 }
//!     }
//!     fn apply_step(&mut self, sum: &[f64], active: u32, _: u64) {
//!         self.0 += sum[0] / f64::from(active.max(1));
//!     }
//!     fn apply_epoch(&mut self, _: &CommitRecord) {}
//!     fn measure(&mut self, _: SlotId) -> GateMetrics { GateMetrics::default() }
//!     fn save(&self) -> Vec<u8> { self.0.to_le_bytes().to_vec() }
//!     fn load(&mut self, bytes: &[u8]) -> Result<(), TraineeError> {
//!         let bytes = bytes.try_into().map_err(|_| TraineeError("not a mean".into()))?;
//!         self.0 = f64::from_le_bytes(bytes);
//!         Ok(())
//!     }
//! }
//!
//! let run = RunId(1);
//! let config = RunConfig { run, world: 2, min_world: 1, last_epoch: Epoch(3) };
//! let token = Token::new("known to all of the run")?;
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! let report = runtime.block_on(async {
//!     let begin = Start::GoOnOr(CommitRecord::genesis(run, Epoch(0), 0, Schedule::default()));
//!     let listen = "127.0.0.1:0".parse()?;
//!     let options = CoordinatorOptions::new(config, begin, token.clone(), listen);
//!     let server = CoordinatorServer::bind(TcpSockets, options, Store::in_memory(run)?).await?;
//!     let coordinator = server.local_addr()?;
//!     let mut ranks = Vec::new();
//!     for rank in [Rank(0), Rank(1)] {
//!         let options = RankOptions::new(&config, rank, token.clone(), coordinator);
//!         let client = RankClient::bind(TcpSockets, options, Mean(0.0)).await?;
//!         ranks.push(tokio::spawn(client.run()));
//!     }
//!     let report = server.serve().await?;
//!     for rank in ranks {
//!         assert_eq!(rank.await??.applied, 3 * 5, "three epochs of five steps");
//!     }
//!     Ok::<_, Box<dyn std::error::Error>>(report)
//! })?;
//! assert_eq!(report.record.epoch, Epoch(3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod clock;
mod error;
mod link;
mod lobby;
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
