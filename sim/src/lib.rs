//! A test bed for concurrent code: one body, written against
//! [`Platform`](selvedge_core::Platform), run by real threads, loom, shuttle and an explorer of
//! our own, each with an honest verdict. A failure is made as small as it goes, explained and
//! drawn, and has a seed that shows it again on any machine.
//!
//! # Your own code
//! Write it over `P: Platform` instead of `std::sync` and `std::thread`, which costs nothing with
//! `P = Std`; write a body that uses it and says what must hold; name the body in
//! [`model_tests!`].
//!
//! ```
//! use selvedge_sim::explorer::{Explorer, SearchEnd};
//! use selvedge_sim::platform::{Atomic, JoinHandle, Ordering, Platform, Shared, Std};
//! use selvedge_sim::{Cx, ExplorerPlatform, Observation, violation};
//!
//! /// Hands out tickets. What is wrong with it?
//! struct Tickets<P: Platform = Std> {
//!     next: P::AtomicU32,
//! }
//!
//! impl<P: Platform> Tickets<P> {
//!     fn take(&self) -> u32 {
//!         let ticket = self.next.load(Ordering::SeqCst);
//!         self.next.store(ticket + 1, Ordering::SeqCst);
//!         ticket
//!     }
//! }
//!
//! fn no_ticket_twice<P: Platform>(_: &Cx) -> Observation {
//!     let tickets = P::Arc::new(Tickets::<P> { next: P::AtomicU32::new(0) });
//!     let theirs = tickets.clone();
//!     let other = P::spawn(move || theirs.take());
//!     let (mine, others) = (tickets.take(), other.join());
//!     if mine == others {
//!         violation!("ticket-twice", "both were given ticket {mine}");
//!     }
//!     Observation::of(format!("{mine} {others}"))
//! }
//!
//! // `cargo test` runs it under every engine; once it is mended, `must_fail` goes.
//! selvedge_sim::model_tests! {
//!     mod tickets = no_ticket_twice;
//!     engines = [explorer, loom, shuttle];
//!     must_fail = "ticket-twice";
//! }
//!
//! // Or by hand, in this process:
//! let search = Explorer::default().run(|| no_ticket_twice::<ExplorerPlatform>(&Cx::new(0, 0, 1)));
//! let SearchEnd::Violated { failure, .. } = search.end else { panic!("{:?}", search.end) };
//! assert_eq!(failure.signature, "ticket-twice");
//! ```
//!
//! `sim/examples/own_code.rs` goes on from there: it shrinks, explains and draws what it finds.
//!
//! # Which engine sees what
//! | engine | explores | cannot see |
//! |---|---|---|
//! | `explorer` | every order of steps that anybody could tell apart, until done | weak memory |
//! | `explorer:N` | every schedule with at most N preemptions | everything past N |
//! | `loom` | C11-like weak memory, leaked `Arc`s, until done | time-outs; some outcomes it loses |
//! | `loom:N` | the same with at most N preemptions | everything past N |
//! | `shuttle` | schedules drawn at random, for what is too large for the others | most schedules; weak memory |
//! | `native` | real threads on this machine | rare schedules |
//! | `stateright` | every state of a [`model`] | what the model leaves out |
//! | `world` | the whole system in virtual time under faults: see [`campaign`] | most runs |
//!
//! A search that ended by itself is [`Exhausted`](Verdict::Exhausted), or
//! [`Bounded`](Verdict::Bounded) by N; what was drawn is [`Sampled`](Verdict::Sampled). One that
//! time cut short is [`BudgetEnded`](Verdict::BudgetEnded), and never a pass.
//!
//! # How to read a failure
//! 1. *What*: the signature, which is the same whatever the schedule, and what was found.
//! 2. *How small*: a preemption is a switch away from a task that could have gone on. One or two
//!    are left of nearly every bug.
//! 3. *Why*: the switches without which it does not fail, each with the two operations that it
//!    comes between. There the code is wrong.
//! 4. *How it went*: a column a task, time going down.
//! 5. *Again*: `SELVEDGE_REPLAY=seed cargo test`, which meets that failure or says why not;
//!    `SELVEDGE_TIMELINE=folder` also draws it as a page: see [`testing`].
//!
//! # Limits
//! * What does not go through `P` is not seen: no `std::sync`, no clock, no files, no
//!   `thread_local!` in what a body runs. Where that changes the steps taken the explorer says
//!   that the body is not deterministic; where it does not, nobody knows.
//! * Small bodies: two or three threads, a few operations each. Loom knows five threads at most.
//! * A loop that waits must call `P::yield_now`. A time-out is a choice that may fire a few times
//!   under the explorer and shuttle, and never fires under loom. One of more than a hundred years
//!   is none and fires nowhere.
//! * Locks are never poisoned: the first panic ends the execution.
//!
//! # How it works
//! A [`UnitSpec`](unit::UnitSpec) goes to a child ([`child`]), which runs the body under the
//! [`Engine`] ([`host`]) and writes records; the parent turns them into a [`Verdict`], and a
//! failure's decision log into a [`Seed`].

mod body;
pub mod campaign;
pub mod child;
pub mod content;
mod engines;
pub mod explain;
pub mod explorer;
pub mod faulty;
pub mod follow;
pub mod host;
mod log;
pub mod model;
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
pub mod world;

pub use body::{Bodies, BodyFn, Cx, Observation, Threads, Violation, note, reach, violate};
pub use engines::{Engine, Strategy, UnknownEngine};
pub use log::{Choice, DecisionLog, Schedule, TaskName};
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
