//! Real rank processes that train a small real model and agree on alpha: what `selvedge ddp` and
//! `selvedge rank` do.
//!
//! ```text
//! data → model → worker        one rank's shard, gradient (compiled: kernel), optimizer, votes
//!                  ↓
//!          job → node           a process: the drivers of core over TCP, what they tell (event),
//!                  ↓            what was applied (trajectory), sockets that can be cut
//!        chaos → fleet → report all processes of a run, what is done to them, what came of it
//! ```
//!
//! Nothing is simulated here: the processes are killed, stopped and cut off, and what they have
//! applied is compared bit by bit, of the dead as of the living.

pub mod chaos;
pub mod data;
pub mod event;
pub mod fleet;
pub mod job;
pub mod kernel;
pub mod model;
pub mod node;
pub mod report;
pub mod sockets;
pub mod trajectory;
pub mod worker;
