//! The ways out of a process that no code of the training sees: a panic under `panic = "abort"`,
//! a signal. What is installed here belongs to the process and stays; while no session lives it
//! does nothing but what would have been done without it.

use core::time::Duration;
use std::fs;
use std::io;
use std::panic;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::FileSink;
use super::session::Desk;
use crate::platform::std::{ProcessWide, panicking, process_unique};
use crate::platform::{Mutex, Platform, Std};

type FileDesk = <Std as Platform>::Arc<Desk<Std, FileSink>>;

/// Whoever holds a session's driver is waited for so long before it is given up.
const PATIENCE: Duration = Duration::from_secs(2);

static LIVE: ProcessWide<Live> = ProcessWide::new();

/// Ends the process as the signal would have, had nobody caught it: whoever started it sees that
/// it was signalled. For a loop that has left because [`Profiler::step`](super::Profiler::step)
/// said so.
///
/// ```no_run
/// # let closed = selvedge_core::train::profiler::Closed::default();
/// if let Some(signal) = closed.signal {
///     selvedge_core::train::profiler::end_as_signalled(signal);
/// }
/// ```
pub fn end_as_signalled(signal: i32) -> ! {
    let _ = emulate_default_handler(signal);
    // It was one that ends nothing.
    std::process::exit(128_i32.saturating_add(signal))
}

/// Puts a session on the list of those that are flushed and told, until the result is dropped.
pub(super) fn enlist(desk: FileDesk, signals: bool) -> io::Result<Enlisted> {
    let live = LIVE.get_or_init(|| Live {
        sessions: Mutex::new(Vec::new()),
        installed: Mutex::new(Installed::default()),
    });
    live.install(signals)?;
    let number = process_unique();
    Mutex::lock(&live.sessions).push(Session {
        number,
        signals,
        desk,
    });
    Ok(Enlisted { number })
}

/// A session is on the list until this is dropped.
pub(super) struct Enlisted {
    number: u32,
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        let Some(live) = LIVE.get() else { return };
        let mut sessions = Mutex::lock(&live.sessions);
        let at = (sessions.iter()).position(|session| session.number == self.number);
        let gone = at.map(|at| sessions.remove(at));
        drop(sessions);
        drop(gone);
    }
}

struct Live {
    /// The innermost is the last.
    sessions: <Std as Platform>::Mutex<Vec<Session>>,
    installed: <Std as Platform>::Mutex<Installed>,
}

#[derive(Default)]
struct Installed {
    hook: bool,
    signals: bool,
}

#[derive(Clone)]
struct Session {
    number: u32,
    signals: bool,
    desk: FileDesk,
}

impl Live {
    fn install(&'static self, signals: bool) -> io::Result<()> {
        let mut installed = Mutex::lock(&self.installed);
        // While this thread panics the hook cannot be changed; the next session does it.
        if !installed.hook && !panicking() {
            let former = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                self.on_panic();
                former(info);
            }));
            installed.hook = true;
        }
        if signals && !installed.signals {
            self.watch_signals()?;
            installed.signals = true;
        }
        Ok(())
    }

    /// The sessions, innermost first.
    fn sessions(&self) -> Vec<Session> {
        let sessions = Mutex::lock(&self.sessions);
        sessions.iter().rev().cloned().collect()
    }

    /// On the thread that panics, before anything is unwound. What is unwound closes sessions
    /// by itself; what aborts has its last word here.
    fn on_panic(&self) {
        for session in self.sessions() {
            session
                .desk
                .emergency(cfg!(panic = "abort"), true, PATIENCE);
        }
    }

    fn watch_signals(&'static self) -> io::Result<()> {
        let before = Dispositions::read();
        // Who started this process with a signal ignored wants it ignored.
        let wanted = [SIGINT, SIGTERM].into_iter();
        let wanted: Vec<i32> = wanted.filter(|signal| !before.ignores(*signal)).collect();
        let mut signals = Signals::new(&wanted)?;
        Std::spawn(move || {
            for signal in signals.forever() {
                self.on_signal(signal, before.catches(signal));
            }
        });
        Ok(())
    }

    /// On a thread of its own. A handler that was there before ours was called already, and it
    /// is for that one to say whether the process goes on.
    fn on_signal(&self, signal: i32, others_decide: bool) {
        let mut sessions = self.sessions();
        sessions.retain(|session| session.signals);
        let again = (sessions.iter()).any(|session| session.desk.stop_requested().is_some());
        if !sessions.is_empty() && !again {
            for session in &sessions {
                session.desk.request_stop(signal);
            }
            return;
        }
        for session in &sessions {
            session.desk.emergency(true, false, PATIENCE);
        }
        if !others_decide {
            let _ = emulate_default_handler(signal);
        }
    }
}

/// What the process did with signals before ours were caught, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Dispositions {
    ignored: u64,
    caught: u64,
}

impl Dispositions {
    /// Where the system does not tell, signals had their usual effect.
    fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self::parse(&status)
    }

    fn parse(status: &str) -> Self {
        let mask = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        };
        Dispositions {
            ignored: mask("SigIgn:").unwrap_or(0),
            caught: mask("SigCgt:").unwrap_or(0),
        }
    }

    fn ignores(self, signal: i32) -> bool {
        self.ignored & bit(signal) != 0
    }

    fn catches(self, signal: i32) -> bool {
        self.caught & bit(signal) != 0
    }
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispositions_are_read() {
        let status = "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001002\n\
                      SigCgt:\t0000000000004440\n";
        let read = Dispositions::parse(status);
        assert!(read.ignores(SIGINT) && !read.ignores(SIGTERM));
        assert!(read.catches(SIGTERM) && !read.catches(SIGINT));
        assert_eq!(
            Dispositions::parse("no such lines"),
            Dispositions::default()
        );
    }
}
