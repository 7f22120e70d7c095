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
use crate::platform::std::{ProcessWide, panicking, process_unique, spawn_named};
use crate::platform::{Condvar, Mutex, Platform, Shared, Std};
use crate::time::{Clock, Instant, SystemClock};

type Pointer<T> = <Std as Platform>::Arc<T>;
type FileDesk = Pointer<Desk<Std, FileSink>>;

/// So long is waited, all in all, before sessions are given up: for whoever holds their drivers,
/// and for their sinks.
const PATIENCE: Duration = Duration::from_secs(2);

static LIVE: ProcessWide<Live> = ProcessWide::new();

/// Ends the process as the signal would have, had nobody caught it: whoever started it sees that
/// it was signalled. For a loop that has left because [`Profiler::step`](super::Profiler::step)
/// said so. Sessions that are still open, such as one around the call, are closed before.
///
/// ```no_run
/// # let closed = selvedge_core::train::profiler::Closed::default();
/// if let Some(signal) = closed.signal {
///     selvedge_core::train::profiler::end_as_signalled(signal);
/// }
/// ```
pub fn end_as_signalled(signal: i32) -> ! {
    if let Some(live) = LIVE.get() {
        close_within(live.sessions());
    }
    let _ = emulate_default_handler(signal);
    // It was one that ends nothing.
    std::process::exit(128_i32.saturating_add(signal))
}

/// What a session makes of SIGINT and SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnSignals {
    /// Nothing.
    Nothing,
    /// The first asks its loop to leave, the second closes it.
    Close,
    /// The same, and what the second does then is the signal's default action.
    CloseAndEnd,
}

/// Puts a session on the list of those that are flushed and told, until the result is dropped.
pub(super) fn enlist(desk: FileDesk, signals: OnSignals) -> io::Result<Enlisted> {
    let live = LIVE.get_or_init(|| Live {
        listed: Mutex::new(Listed::default()),
        installed: Mutex::new(Installed::default()),
    });
    let listens = signals != OnSignals::Nothing;
    live.install(listens)?;
    let number = process_unique();
    Mutex::lock(&live.listed).push(
        Session {
            number,
            listens,
            desk,
        },
        signals,
    );
    Ok(Enlisted { number })
}

/// A session is on the list until this is dropped.
pub(super) struct Enlisted {
    number: u32,
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        let Some(live) = LIVE.get() else { return };
        let mut listed = Mutex::lock(&live.listed);
        let sessions = &mut listed.sessions;
        let at = (sessions.iter()).position(|session| session.number == self.number);
        let gone = at.map(|at| sessions.remove(at));
        drop(listed);
        drop(gone);
    }
}

/// When patience ends, whatever is waited for.
pub(super) struct Deadline {
    clock: SystemClock,
    at: Instant,
}

impl Deadline {
    pub(super) fn after(patience: Duration) -> Self {
        let clock = SystemClock::new();
        let at = clock.now() + patience;
        Deadline { clock, at }
    }

    /// What is left of it.
    pub(super) fn left(&self) -> Duration {
        self.at.saturating_since(self.clock.now())
    }
}

struct Live {
    listed: <Std as Platform>::Mutex<Listed>,
    installed: <Std as Platform>::Mutex<Installed>,
}

#[derive(Default)]
struct Listed {
    /// The innermost is the last.
    sessions: Vec<Session>,
    /// A session has said that the program's own handlers decide what a signal ends. That is true
    /// of the program, so it stays true when the session is over.
    handlers_decide: bool,
}

#[derive(Default)]
struct Installed {
    hook: bool,
    signals: bool,
}

#[derive(Clone)]
struct Session {
    number: u32,
    listens: bool,
    desk: FileDesk,
}

/// What a signal has found.
enum Heard {
    /// The loops were asked to leave.
    Asked,
    /// No session listens, or one was asked before: these are to be closed, innermost first.
    Close { sessions: Vec<Session>, ends: bool },
}

impl Listed {
    fn push(&mut self, session: Session, signals: OnSignals) {
        self.handlers_decide |= signals == OnSignals::Close;
        let mut listening = self.listening().filter(|_| session.listens);
        // What an outer loop was asked, its inner loops are asked, too.
        if let Some(stop) = listening.find_map(|outer| outer.desk.stop_requested()) {
            session.desk.request_stop(stop.signal);
        }
        drop(listening);
        self.sessions.push(session);
    }

    fn listening(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().filter(|session| session.listens)
    }

    /// Asks, while nobody comes or goes: a session that leaves the list has either been asked by
    /// then, or is none of those that the signal finds.
    fn hear(&self, signal: i32, others_decide: bool) -> Heard {
        let again = (self.listening()).any(|session| session.desk.stop_requested().is_some());
        if self.listening().next().is_some() && !again {
            for session in self.listening() {
                session.desk.request_stop(signal);
            }
            return Heard::Asked;
        }
        let ends = !others_decide && !self.handlers_decide;
        // Where the process ends, those end that do not listen, too.
        let sessions = self.sessions.iter().rev();
        let sessions = sessions.filter(|session| ends || session.listens);
        Heard::Close {
            sessions: sessions.cloned().collect(),
            ends,
        }
    }
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
        let listed = Mutex::lock(&self.listed);
        listed.sessions.iter().rev().cloned().collect()
    }

    /// On the thread that panics, before anything is unwound. What is unwound closes sessions
    /// by itself; what aborts has its last word here.
    fn on_panic(&self) {
        let deadline = Deadline::after(PATIENCE);
        for session in self.sessions() {
            let close = cfg!(panic = "abort");
            session.desk.emergency(close, true, &deadline);
        }
    }

    fn watch_signals(&'static self) -> io::Result<()> {
        let before = Dispositions::read();
        // Who started this process with a signal ignored wants it ignored.
        let wanted = [SIGINT, SIGTERM].into_iter();
        let wanted: Vec<i32> = wanted.filter(|signal| !before.ignores(*signal)).collect();
        let mut signals = Signals::new(&wanted)?;
        spawn_named("profiler-signals", move || {
            for signal in signals.forever() {
                self.on_signal(signal, before.catches(signal));
            }
        })
    }

    /// On a thread of its own. A handler that was there before ours was called already, and it
    /// is for that one to say whether the process goes on.
    fn on_signal(&self, signal: i32, others_decide: bool) {
        let heard = Mutex::lock(&self.listed).hear(signal, others_decide);
        match heard {
            Heard::Asked => {}
            Heard::Close { sessions, ends } => {
                close_within(sessions);
                if ends {
                    let _ = emulate_default_handler(signal);
                }
            }
        }
    }
}

/// Closes them, for [`PATIENCE`] at most: a sink that never returns keeps a thread, but not the
/// caller.
fn close_within(sessions: Vec<Session>) {
    if sessions.is_empty() {
        return;
    }
    let deadline = <Pointer<Deadline> as Shared<_>>::new(Deadline::after(PATIENCE));
    let done = <Pointer<Done> as Shared<_>>::new(Done {
        done: Mutex::new(false),
        told: Condvar::new(),
    });
    let (theirs, finished, until) = (sessions.clone(), done.clone(), deadline.clone());
    let spawned = spawn_named("profiler-closing", move || {
        close(&theirs, &until);
        *Mutex::lock(&finished.done) = true;
        Condvar::<Std>::notify_all(&finished.told);
    });
    if spawned.is_err() {
        // Better to hang in a sink that hangs than to close none.
        close(&sessions, &deadline);
        return;
    }
    let mut is_done = Mutex::lock(&done.done);
    while !*is_done && !deadline.left().is_zero() {
        (is_done, _) = Condvar::<Std>::wait_timeout(&done.told, is_done, deadline.left());
    }
}

fn close(sessions: &[Session], deadline: &Deadline) {
    for session in sessions {
        session.desk.emergency(true, false, deadline);
    }
}

struct Done {
    done: <Std as Platform>::Mutex<bool>,
    told: <Std as Platform>::Condvar,
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
    use crate::platform::Ordering;
    use crate::train::profiler::{ProfilerSession, Schedule, SessionConfig, TraceNaming};

    fn session(listens: bool) -> (tempfile::TempDir, Session) {
        let dir = tempfile::tempdir().unwrap();
        let config = SessionConfig {
            schedule: Schedule::always(),
            naming: TraceNaming {
                host: "host".to_owned(),
                pid: 1,
                process: String::new(),
                origin_unix_ns: 0,
            },
            queue_room: 1,
        };
        let clock = Box::new(SystemClock::new());
        let opened = ProfilerSession::<Std, _>::open(config, FileSink::new(dir.path()), clock);
        let session = Session {
            number: process_unique(),
            listens,
            desk: opened.desk().clone(),
        };
        core::mem::forget(opened);
        (dir, session)
    }

    fn closes(heard: &Heard) -> Option<(usize, bool)> {
        match heard {
            Heard::Asked => None,
            Heard::Close { sessions, ends } => Some((sessions.len(), *ends)),
        }
    }

    #[test]
    fn a_signal_asks_then_closes_and_ends_what_is_ours_to_end() {
        let mut listed = Listed::default();
        assert_eq!(closes(&listed.hear(SIGINT, false)), Some((0, true)));
        let (_a, deaf) = session(false);
        listed.push(deaf, OnSignals::Nothing);
        // It ends the process, so this one is to be closed though it does not listen.
        assert_eq!(closes(&listed.hear(SIGINT, false)), Some((1, true)));
        assert_eq!(closes(&listed.hear(SIGINT, true)), Some((0, false)));
        let (_b, outer) = session(true);
        listed.push(outer.clone(), OnSignals::CloseAndEnd);
        assert_eq!(closes(&listed.hear(SIGTERM, false)), None);
        let (_c, inner) = session(true);
        listed.push(inner.clone(), OnSignals::CloseAndEnd);
        assert_eq!(inner.desk.stop_requested(), outer.desk.stop_requested());
        assert_eq!(closes(&listed.hear(SIGINT, false)), Some((3, true)));
        assert_eq!(closes(&listed.hear(SIGINT, true)), Some((2, false)));
        // From the first that says so on, and when it is gone.
        let (_d, polite) = session(true);
        listed.push(polite, OnSignals::Close);
        assert_eq!(closes(&listed.hear(SIGINT, false)), Some((3, false)));
        listed.sessions.clear();
        assert_eq!(closes(&listed.hear(SIGINT, false)), Some((0, false)));
    }

    /// A session leaves the list at the moment of a signal: either it was asked, or the signal has
    /// not found it. None is asked whom nobody reads any more.
    #[test]
    fn who_leaves_the_list_knows_whether_it_was_asked() {
        let live = <Pointer<_> as Shared<_>>::new(Live {
            listed: Mutex::new(Listed::default()),
            installed: Mutex::new(Installed::default()),
        });
        let heard = <Pointer<_> as Shared<_>>::new(<Std as Platform>::AtomicU32::new(0));
        let (theirs, counted) = (live.clone(), heard.clone());
        let signals = Std::spawn(move || {
            for _ in 0..20_000 {
                let told = Mutex::lock(&theirs.listed).hear(SIGINT, false);
                if matches!(told, Heard::Asked) {
                    // ORDERING: Relaxed. The thread is joined before it is read.
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let mut read = 0;
        for _ in 0..300 {
            let (_dir, session) = session(true);
            let (number, desk) = (session.number, session.desk.clone());
            Mutex::lock(&live.listed).push(session, OnSignals::CloseAndEnd);
            Std::yield_now();
            let mut listed = Mutex::lock(&live.listed);
            listed.sessions.retain(|session| session.number != number);
            drop(listed);
            read += u32::from(desk.stop_requested().is_some());
        }
        crate::platform::JoinHandle::join(signals);
        // ORDERING: Relaxed, as above.
        assert_eq!(heard.load(Ordering::Relaxed), read);
    }

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
