//! A profiler that is closed whatever ends the training, whose traces open in Perfetto.
//!
//! ```
//! use selvedge_core::train::profiler::{ProfilerConfig, ProfilerSession, Schedule, Spans};
//!
//! let spans = Spans::new(); // `spans.install()`, or `spans.layer()` among a program's others
//! let dir = tempfile::tempdir()?;
//! let config = ProfilerConfig::new(dir.path()).schedule(Schedule::new(1, 1, 3, 1)?).spans(&spans);
//! let profiled = ProfilerSession::run(config, |profiler| {
//!     for step in 0..10 {
//!         let loss = tracing::info_span!("step", step).in_scope(|| 0.5);
//!         if !f64::is_finite(loss) {
//!             return Err("the loss is not finite");
//!         }
//!         if profiler.step().is_break() {
//!             break; // SIGINT or SIGTERM
//!         }
//!     }
//!     Ok(())
//! })?;
//! profiled.training?;
//! assert_eq!(profiled.trace?.traces.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The file
//! A trace is an array in Chrome's JSON format. Every write begins where the array's `]` stood and
//! ends with a new one, in one call; so the file is a closed array after each, and whatever ends
//! the process then leaves it so. Only a write that is itself cut off (a full disk, SIGKILL in the
//! midst of it, a power cut) leaves another end. After a full disk the old end is put back; for the
//! rest there is [`repair`], which keeps every whole event.
//!
//! Events reach the file at the end of each step. Between two of those they are in a queue that
//! is bounded, in events and in bytes: one that finds it full is dropped and counted. Spans are recorded when they are
//! left, so one that the process ends within is not in the trace.
//!
//! # State and shell
//! | | is | |
//! |---|---|---|
//! | [`ScheduleState`] | plain | which steps are recorded, as torch has it |
//! | [`SessionState`] | plain | the open file and where it ends, what failed first, what was lost |
//! | [`QueueState`] | plain | events that wait |
//! | [`ProfilerSession`] | shell | a lock around the queue, and a driver that one at a time takes out |
//! | [`TraceSink`] | yours | a directory ([`FileSink`]), or whatever takes bytes |
//!
//! # What belongs to the process
//! The first session installs a panic hook and, unless it is told not to, a thread that is told
//! of SIGINT and SIGTERM. Both stay. The hook calls the one that was there before, and does nothing
//! else while no session lives. One that is set later without regard to it takes it out, and no
//! later session puts it back: that a hook is ours is nothing that can be seen.
//!
//! Where no session lives, or on the second signal, the thread takes the signal's default action,
//! as there is nothing else left of it once a signal is caught. That is wrong where the program
//! has handlers of its own. Those that were there before the first session are called as well, and
//! it is for them whether the process ends. **Those that come later and chain** (`signal_hook`,
//! `tokio::signal`) **cannot be seen: for such a program say
//! [`without_default_action`](ProfilerConfig::without_default_action).** Those that come later and do
//! not chain (`signal`, `ctrlc::set_handler`) take ours out. A signal that the process was started
//! with ignored stays ignored.
//!
//! # What is not defended against
//! `SIGKILL` takes the events since the last write. A sink that never returns keeps the session from
//! closing, but not the second signal from ending the process: for the closing that belongs to
//! it there are two seconds, whatever the sinks do and however many there are.

mod call;
mod check;
mod error;
mod event;
mod exits;
mod queue;
mod repair;
mod run;
mod scan;
mod schedule;
mod session;
mod sink;
mod spans;
mod state;

pub use call::{Batch, Io, IoEnd, TraceNaming};
pub use check::{Checked, RULES, check};
pub use error::{CloseError, Closed, OpenError, SinkCall, SinkFailure};
pub use event::{ArgValue, Args, EventKind, MOST_ARGS, MOST_TEXT, TraceEvent};
pub use exits::end_as_signalled;
pub use queue::{EVENT_ROOM, QueueState};
pub use repair::{NotATrace, RepairError, Repaired, repair, repaired};
pub use run::{Profiled, ProfilerConfig, QUEUE_ROOM, RunError};
pub use scan::{MOST_EVENT, TraceFault};
pub use schedule::{Action, Op, Schedule, ScheduleError, ScheduleState, transition};
pub use session::{Driven, Profiler, ProfilerSession, SessionConfig, StopRequested};
pub use sink::{FileSink, TraceSink};
pub use spans::Spans;
pub use state::SessionState;
/// Which targets up to which level: of `tracing-subscriber`, for [`Spans::only`].
pub use tracing_subscriber::filter::Targets;

/// The number of this thread in traces. 0 is nobody's.
fn thread_number() -> u32 {
    thread_local! {
        static NUMBER: u32 = crate::platform::std::process_unique();
    }
    NUMBER.try_with(|number| *number).unwrap_or(0)
}
