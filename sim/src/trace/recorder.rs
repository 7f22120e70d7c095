//! Takes down what the platforms report. All checkers run their tasks on one thread, one at a
//! time, so the recorder is that thread's; where it is off, which is nearly always, a report
//! costs one look at a flag.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::Location;

use super::{Blocked, Event, Object, ObjectKind, Operation, Site, Switch, Trace};
use crate::TaskName;

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    static RECORDER: RefCell<Recorder> = RefCell::default();
}

#[derive(Default)]
struct Recorder {
    trace: Trace,
    /// The engine's number of each task that has begun.
    places: HashMap<u64, u32>,
    children: Vec<u32>,
    objects_of: Vec<u32>,
    pending: Vec<Option<Blocked>>,
    steps: u64,
    /// Who made the last report.
    current: u32,
}

/// A place in the running trace; where the recorder is off, nothing has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    pub(crate) const NONE: Place = Place(u32::MAX);

    fn get(self) -> Option<u32> {
        (self != Place::NONE).then_some(self.0)
    }
}

/// What an atomic holds, as a trace holds it.
pub(crate) trait Word: Copy + PartialEq {
    fn word(self) -> u64;
}

macro_rules! words {
    ($($value:ty),*) => {$(
        impl Word for $value {
            fn word(self) -> u64 {
                self as u64
            }
        }
    )*};
}
words!(bool, u8, u16, u32, u64, usize);

/// An operation that has begun.
#[derive(Debug)]
#[must_use = "it is an event only once it is done"]
pub(crate) struct Pending(Option<usize>);

/// Whether anybody wants to know.
fn is_on() -> bool {
    ON.get()
}

/// Begins a new trace; `root` is the engine's number of the root task, to which the scheduler
/// has granted so many steps.
pub(crate) fn start(root: u64, steps: u64) {
    let mut recorder = Recorder {
        steps,
        ..Recorder::default()
    };
    recorder.trace.tasks.push(TaskName {
        parent: 0,
        child: 0,
    });
    recorder.children.push(0);
    recorder.objects_of.push(0);
    recorder.places.insert(root, 0);
    RECORDER.set(recorder);
    ON.set(true);
}

/// Reports are not taken down any more: what comes now is clearing up.
pub(crate) fn stop() {
    ON.set(false);
}

/// Ends the trace; `None` where none was begun.
pub(crate) fn take() -> Option<Trace> {
    stop();
    let recorder = RECORDER.take();
    let mut trace = recorder.trace;
    trace.blocked = recorder.pending.into_iter().flatten().collect();
    trace.blocked.sort_by_key(|blocked| blocked.task);
    (!trace.tasks.is_empty()).then_some(trace)
}

fn with<R>(f: impl FnOnce(&mut Recorder) -> R) -> R {
    RECORDER.with_borrow_mut(f)
}

/// The running task makes an object with something of this type inside.
pub(crate) fn created(
    me: impl FnOnce() -> u64,
    kind: ObjectKind,
    of: impl FnOnce() -> &'static str,
    site: &Location<'_>,
) -> Place {
    if !is_on() {
        return Place::NONE;
    }
    let me = me();
    with(|r| {
        let creator = r.place(me);
        let ordinal = r.objects_of[creator as usize];
        r.objects_of[creator as usize] += 1;
        r.trace.objects.push(Object {
            creator,
            ordinal,
            kind,
            of: short_type(of()),
            site: site.into(),
        });
        Place(r.trace.objects.len() as u32 - 1)
    })
}

/// The running task starts a task. Returns the child's place, which the child is to give to
/// [`started`].
pub(crate) fn spawned(me: impl FnOnce() -> u64, site: &Location<'_>) -> Place {
    if !is_on() {
        return Place::NONE;
    }
    let me = me();
    with(|r| {
        let parent = r.place(me);
        let child = r.children[parent as usize];
        r.children[parent as usize] += 1;
        r.trace.tasks.push(TaskName { parent, child });
        r.children.push(0);
        r.objects_of.push(0);
        let place = r.trace.tasks.len() as u32 - 1;
        r.event(Event {
            peer: Some(place),
            ..r.blank(parent, Operation::Spawn, site.into())
        });
        Place(place)
    })
}

/// The running task begins, and is the one that was given this place.
pub(crate) fn started(me: impl FnOnce() -> u64, place: Place) {
    if let Some(place) = place.get()
        && is_on()
    {
        let me = me();
        with(|r| {
            r.places.insert(me, place);
            r.event(r.blank(place, Operation::Start, Site::default()));
        });
    }
}

/// The running task goes on, as after a spawn: what is said next is said by it.
pub(crate) fn resumed(me: impl FnOnce() -> u64) {
    if is_on() {
        let me = me();
        with(|r| r.current = r.place(me));
    }
}

/// The running task returns.
pub(crate) fn finished(me: impl FnOnce() -> u64) {
    if is_on() {
        let me = me();
        with(|r| {
            let task = r.place(me);
            r.event(r.blank(task, Operation::Finish, Site::default()));
        });
    }
}

/// The task of this number, once it has begun.
pub(crate) fn place_of(engine: u64) -> Place {
    match is_on() {
        true => with(|r| r.places.get(&engine).copied().map_or(Place::NONE, Place)),
        false => Place::NONE,
    }
}

/// Whoever runs now says something, or fails.
pub(crate) fn note(operation: Operation, text: &str, site: Site) {
    if is_on() {
        with(|r| {
            r.event(Event {
                text: text.to_owned(),
                ..r.blank(r.current, operation, site)
            });
        });
    }
}

/// The running task took one of several ways.
pub(crate) fn chose(taken: u32, site: Site) {
    if is_on() {
        with(|r| {
            r.event(Event {
                read: Some(u64::from(taken)),
                ..r.blank(r.current, Operation::Choose, site)
            });
        });
    }
}

/// The scheduler grants a step.
pub(crate) fn step() {
    if is_on() {
        with(|r| r.steps += 1);
    }
}

/// The step just granted goes to another task than the one before.
pub(crate) fn switched(preemption: bool) {
    if is_on() {
        with(|r| {
            r.trace.switches.push(Switch {
                step: r.steps,
                preemption,
                critical: None,
            });
        });
    }
}

impl Pending {
    /// The running task begins an operation.
    pub(crate) fn begin(
        me: impl FnOnce() -> u64,
        operation: Operation,
        object: Place,
        site: &Location<'_>,
    ) -> Pending {
        // What destructors do while a panic unwinds is not part of what led to it.
        if !is_on() || std::thread::panicking() {
            return Pending(None);
        }
        let me = me();
        with(|r| {
            r.current = r.place(me);
            let blocked = Blocked {
                task: r.current,
                operation,
                object: object.get(),
                peer: None,
                site: site.into(),
                since: r.trace.events.len() as u32,
            };
            let free = r.pending.iter().position(Option::is_none);
            let place = free.unwrap_or(r.pending.len());
            match free {
                Some(place) => r.pending[place] = Some(blocked),
                None => r.pending.push(Some(blocked)),
            }
            Pending(Some(place))
        })
    }

    /// It is about this task.
    pub(crate) fn about(self, peer: Place) -> Pending {
        if let Some(place) = self.0 {
            with(|r| {
                if let Some(Some(blocked)) = r.pending.get_mut(place) {
                    blocked.peer = peer.get();
                }
            });
        }
        self
    }

    /// It is done.
    pub(crate) fn done(self) {
        self.done_as(true, || (None, None));
    }

    /// It is done; whether it did what it was to do.
    pub(crate) fn done_if(self, ok: bool) {
        self.done_as(ok, || (None, None));
    }

    /// It is done; what the atomic held, and holds now.
    pub(crate) fn done_as(self, ok: bool, values: impl FnOnce() -> (Option<u64>, Option<u64>)) {
        let Some(place) = self.0 else {
            return;
        };
        let (read, wrote) = values();
        with(|r| {
            let Some(begun) = r.pending.get_mut(place).and_then(Option::take) else {
                return;
            };
            r.event(Event {
                object: begun.object,
                peer: begun.peer,
                read,
                wrote,
                ok,
                since: begun.since,
                ..r.blank(begun.task, begun.operation, begun.site)
            });
        });
    }
}

impl Recorder {
    fn place(&self, engine: u64) -> u32 {
        self.places.get(&engine).copied().unwrap_or(0)
    }

    fn blank(&self, task: u32, operation: Operation, site: Site) -> Event {
        Event {
            task,
            operation,
            object: None,
            peer: None,
            read: None,
            wrote: None,
            ok: true,
            text: String::new(),
            site,
            since: self.trace.events.len() as u32,
            step: self.steps,
        }
    }

    fn event(&mut self, event: Event) {
        self.current = event.task;
        self.trace.events.push(event);
    }
}

/// `PoolState` of `selvedge_core::pool::state::PoolState`; generic arguments likewise.
fn short_type(name: &str) -> String {
    let mut short = String::new();
    let mut word = String::new();
    for c in name.chars() {
        match c {
            ':' => word.clear(),
            c if c.is_alphanumeric() || c == '_' => word.push(c),
            c => {
                short.push_str(&word);
                word.clear();
                short.push(c);
            }
        }
    }
    short + &word
}
