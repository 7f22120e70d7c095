//! Engines that run code written against [`selvedge_core::Platform`]: real threads, loom,
//! shuttle and an explorer of our own, each in a child process, each with an honest verdict,
//! each failure with a seed.
//!
//! The way of a unit: a [`UnitSpec`](unit::UnitSpec) goes to a child ([`child`]), which runs
//! the body under the [`Engine`] ([`host`]) and writes records; the parent turns them
//! into a [`Verdict`], and a failure's decision log into a [`Seed`].

mod body;
pub mod child;
mod engines;
pub mod explain;
pub mod explorer;
pub mod host;
mod log;
mod panics;
mod platforms;
pub mod reduce;
pub mod replay;
mod seed;
mod shrink;
pub mod testing;
pub mod timeline;
pub mod trace;
pub mod unit;
mod verdict;

pub use body::{Bodies, BodyFn, Cx, Observation, Violation, note, reach, violate};
pub use engines::{Engine, Strategy, UnknownEngine};
pub use log::{DecisionLog, Schedule, TaskName};
pub use platforms::{
    Cell, ExplorerArc, ExplorerAtomic, ExplorerCondvar, ExplorerGuard, ExplorerJoinHandle,
    ExplorerMutex, ExplorerPlatform, ExplorerReadGuard, ExplorerRwLock, ExplorerThread,
    ExplorerWriteGuard, Held, LoomArc, LoomCondvar, LoomGuard, LoomJoinHandle, LoomMutex,
    LoomPlatform, LoomRwLock, LoomThread, ShuttleArc, ShuttleCondvar, ShuttleGuard,
    ShuttleJoinHandle, ShuttleMutex, ShuttlePlatform, ShuttleRwLock, ShuttleThread,
};
pub use seed::{Seed, SeedError, revision_of};
pub use selvedge_core::{Std, platform};
pub use shrink::{Flip, Shrunk, Size};
pub use unit::Variant;
pub use verdict::{Class, Failure, FailureKind, Verdict};

/// The bed's own locks, which guard notes and not invariants: what a panicking thread has
/// written in them is still worth reading.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    (mutex.lock()).unwrap_or_else(std::sync::PoisonError::into_inner)
}
