//! stateright models over the state types of `selvedge-core`: the protocol or data structure
//! that ships, explored as it is, without a copy that could drift.
//!
//! [`checker`] drives stateright so that a search cut short is never taken for a complete one.

pub mod checker;
pub mod elastic;
pub mod epoch;
pub mod explore;
pub mod gate_sync;
pub mod lighthouse;
mod panics;
pub mod pool;
pub mod pool_history;
pub mod shared;
pub mod slot;
pub mod subject;
pub mod ticket;
