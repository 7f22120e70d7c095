//! Runs the tasks of one execution, one at a time, on stacks of their own.
//!
//! **A primitive announces its next access, and hands over; the strategy sees what everybody
//! is about to do, and whoever is picked has made the step when it goes on.**

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use super::access::{Access, Kind, NO_OBJECT, Update};
use super::clock::Clock;
use super::fibers::{self, Fibers, GivenUp};
use super::record::{Gate, NO_CHOICE, Record, Task};
use crate::{Schedule, lock, trace};

/// Time-outs of a task's timed waits that may fire while others could still go on. Later ones
/// fire when nobody else can, so that a loop around a timed wait ends.
const EARLY_TIMEOUTS: u32 = 2;

/// Picks who goes next.
pub(super) trait Strategy {
    /// `enabled` is not empty. `current` made the last step.
    fn pick(&mut self, record: &Record, enabled: &[u32], current: u32) -> Pick;
}

/// What a strategy says.
pub(super) enum Pick {
    /// This task, with this choice.
    Run(u32, u32),
    /// This execution is not worth going on with.
    GiveUp,
    /// The body does not do the same thing twice.
    Diverged(String),
}

/// How an execution ended.
pub(super) enum Ending {
    /// Every task returned.
    Complete,
    /// Nobody can go on, in words.
    Deadlock(String),
    /// It did not end within the bound on steps.
    Livelock,
    /// A task panicked, with this.
    Panicked(Panic),
    /// The strategy gave it up.
    GivenUp,
    /// The body does not do the same thing twice, or misuses the platform.
    Broken(String),
}

/// What a panic said.
pub(super) enum Panic {
    Violation(crate::Violation),
    Message(String),
}

/// The schedule so far, where another thread can read it.
pub(super) type SharedSchedule = Arc<Mutex<Schedule>>;

struct Runtime {
    record: Record,
    strategy: Option<super::Plan>,
    jobs: Vec<Option<Job>>,
    current: u32,
    ending: Option<Ending>,
    max_steps: usize,
    shared: SharedSchedule,
}

type Job = Box<dyn FnOnce()>;

thread_local! {
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
    /// The job that a stack with nothing to do takes next.
    static NEXT_JOB: RefCell<Option<Job>> = const { RefCell::new(None) };
    /// The number of the running execution; 0 where none runs.
    static EPOCH: Cell<u64> = const { Cell::new(0) };
    static LAST_EPOCH: Cell<u64> = const { Cell::new(0) };
    /// Whether the execution is being taken apart: nobody is scheduled any more.
    static ENDING: Cell<bool> = const { Cell::new(false) };
}

fn with<R>(f: impl FnOnce(&mut Runtime) -> R) -> R {
    RUNTIME.with_borrow_mut(|runtime| {
        f(runtime
            .as_mut()
            .expect("INVARIANT: an execution runs where its epoch is set"))
    })
}

/// Whether the caller is a task of a running execution.
fn is_running() -> bool {
    EPOCH.get() != 0 && !ENDING.get()
}

/// What an execution leaves behind.
pub(super) struct Done {
    pub(super) record: Record,
    pub(super) strategy: super::Plan,
    pub(super) ending: Ending,
}

/// Runs one execution. `record` brings the names of earlier ones and is otherwise cleared.
pub(super) fn execute(
    fibers: &mut Fibers,
    mut record: Record,
    strategy: super::Plan,
    max_steps: usize,
    shared: SharedSchedule,
    body: Rc<dyn Fn()>,
) -> Done {
    record.live.clear();
    record.events.clear();
    record.draws.clear();
    for task in &mut record.tasks {
        *task = None;
    }
    let root = record.names.root();
    *lock(&shared) = Schedule {
        dropped: record.seen_dropped.clone(),
        ..Schedule::default()
    };
    RUNTIME.with_borrow_mut(|runtime| {
        assert!(
            runtime.is_none(),
            "an exploration cannot run inside another"
        );
        *runtime = Some(Runtime {
            record,
            strategy: Some(strategy),
            jobs: Vec::new(),
            current: root,
            ending: None,
            max_steps,
            shared,
        });
    });
    LAST_EPOCH.set(LAST_EPOCH.get() + 1);
    EPOCH.set(LAST_EPOCH.get());
    with(|rt| {
        rt.create(root, Clock::default(), Box::new(move || body()));
        rt.schedule();
    });
    while let Some(fiber) = next_fiber(fibers) {
        fibers.resume(fiber);
        reclaim(fibers);
    }
    trace::stop();
    let jobs = take_apart(fibers);
    EPOCH.set(0);
    // Whatever a job that never ran holds is dropped where nothing is scheduled any more.
    drop(jobs);
    let runtime = RUNTIME.with_borrow_mut(Option::take);
    let mut runtime = runtime.expect("INVARIANT: only this function takes the runtime away");
    Done {
        record: runtime.record,
        strategy: (runtime.strategy.take()).expect("INVARIANT: a strategy is put back"),
        ending: (runtime.ending).expect("INVARIANT: an execution stops when it has ended"),
    }
}

/// The stack to go on with; `None` when the execution has ended.
fn next_fiber(fibers: &mut Fibers) -> Option<usize> {
    let (fiber, job) = with(|rt| {
        if rt.ending.is_some() {
            return None;
        }
        let current = rt.current;
        let job = rt.jobs.get_mut(current as usize).and_then(Option::take);
        Some((rt.record.task(current).fiber, job))
    })?;
    if let Some(fiber) = fiber {
        return Some(fiber);
    }
    NEXT_JOB.set(job);
    let fiber = fibers.take();
    with(|rt| {
        let current = rt.current;
        rt.record.task_mut(current).fiber = Some(fiber);
    });
    Some(fiber)
}

/// Takes back the stacks of tasks that have returned.
fn reclaim(fibers: &mut Fibers) {
    with(|rt| {
        for place in 0..rt.record.live.len() {
            let id = rt.record.live[place];
            let task = rt.record.task_mut(id);
            if task.finished
                && let Some(fiber) = task.fiber.take()
            {
                fibers.give_back(fiber);
            }
        }
    });
}

/// Unwinds the tasks that are still about, each on its own stack.
fn take_apart(fibers: &mut Fibers) -> Vec<Option<Job>> {
    ENDING.set(true);
    let (left, jobs) = with(|rt| {
        let live = std::mem::take(&mut rt.record.live);
        let left: Vec<(u32, Option<usize>)> = (live.iter())
            .filter(|&&id| !rt.record.task(id).finished)
            .map(|&id| (id, rt.record.task(id).fiber))
            .collect();
        rt.record.live = live;
        (left, std::mem::take(&mut rt.jobs))
    });
    for (id, fiber) in left {
        let Some(fiber) = fiber else {
            continue;
        };
        with(|rt| rt.current = id);
        fibers.resume(fiber);
        // A destructor that waits for a lock which another task holds cannot be helped.
        match with(|rt| rt.record.task(id).fiber.is_none()) {
            true => fibers.give_back(fiber),
            false => fibers.leak(fiber),
        }
    }
    ENDING.set(false);
    jobs
}

pub(super) fn take_job() -> Option<Job> {
    NEXT_JOB.take()
}

/// The running task returned.
pub(super) fn task_returned() {
    if ENDING.get() {
        return task_given_up();
    }
    with(|rt| {
        let current = rt.current;
        rt.record.settle();
        rt.record.task_mut(current).finished = true;
        rt.schedule();
    });
}

/// The running task was unwound because its execution is over.
pub(super) fn task_given_up() {
    with(|rt| {
        let current = rt.current;
        rt.record.task_mut(current).fiber = None;
    });
}

/// The running task panicked.
pub(super) fn task_panicked(payload: &(dyn Any + Send)) {
    if ENDING.get() {
        return task_given_up();
    }
    let panic = match payload.downcast_ref::<crate::Violation>() {
        Some(violation) => Panic::Violation(violation.clone()),
        None => Panic::Message(
            (payload.downcast_ref::<String>().cloned())
                .or_else(|| payload.downcast_ref::<&str>().map(|&text| text.to_owned()))
                .unwrap_or_else(|| "a panic without a message".to_owned()),
        ),
    };
    with(|rt| {
        let current = rt.current;
        rt.record.settle();
        rt.record.task_mut(current).finished = true;
        rt.ending = Some(Ending::Panicked(panic));
    });
}

impl Runtime {
    fn create(&mut self, id: u32, clock: Clock, job: Job) {
        let place = id as usize;
        if self.record.tasks.len() <= place {
            self.record.tasks.resize_with(place + 1, || None);
        }
        if self.jobs.len() <= place {
            self.jobs.resize_with(place + 1, || None);
        }
        self.jobs[place] = Some(job);
        self.record.tasks[place] = Some(Task {
            pending: Access::LOCAL,
            update: None,
            ways: Vec::new(),
            gate: Gate::Open,
            finished: false,
            events: 0,
            clock,
            notified: None,
            released: false,
            early_timeouts: 0,
            reply: 0,
            park: NO_OBJECT,
            children: 0,
            objects: 0,
            round: Vec::new(),
            last_round: Vec::new(),
            round_began: 0,
            last_round_began: 0,
            yielding: false,
            dropping: None,
            fiber: None,
        });
        self.record.live.push(id);
        // Made at once, so that its number does not depend on who unparks the task first.
        let park = self.new_object_of(id, "park token");
        self.record.task_mut(id).park = park;
    }

    fn new_object_of(&mut self, creator: u32, what: &'static str) -> u32 {
        let task = self.record.task_mut(creator);
        let ordinal = task.objects;
        task.objects += 1;
        let id = self.record.names.object(creator, ordinal);
        let place = id as usize;
        if self.record.objects.len() <= place {
            self.record.objects.resize_with(place + 1, Default::default);
        }
        let object = &mut self.record.objects[place];
        object.state = 0;
        object.holders.clear();
        object.waiting.clear();
        object.history.clear();
        object.changes = [None; 2];
        object.what = what;
        id
    }

    /// Picks who goes next and lets it make its step.
    fn schedule(&mut self) {
        self.record.settle();
        if self.ending.is_some() {
            return;
        }
        let mut enabled = self.enabled();
        if enabled.is_empty() {
            // Nothing will change any more unless a spinning loop gives up or a time-out fires.
            for place in 0..self.record.live.len() {
                let id = self.record.live[place];
                let task = self.record.task_mut(id);
                if matches!(task.gate, Gate::TimedOut | Gate::Changed(_)) {
                    task.released = true;
                }
            }
            enabled = self.enabled();
        }
        if enabled.is_empty() {
            let all = (self.record.live.iter()).all(|&id| self.record.task(id).finished);
            self.ending = Some(match all {
                true => Ending::Complete,
                false => Ending::Deadlock(super::words::deadlock(&self.record)),
            });
            return;
        }
        if self.record.events.len() >= self.max_steps {
            self.ending = Some(Ending::Livelock);
            return;
        }
        let mut strategy = self
            .strategy
            .take()
            .expect("INVARIANT: a strategy is put back");
        let pick = strategy.pick(&self.record, &enabled, self.current);
        self.strategy = Some(strategy);
        match pick {
            Pick::Run(task, choice) => {
                trace::step();
                if task != self.current {
                    let was = self.record.task(self.current);
                    let preemption = enabled.contains(&self.current) && !was.yielding;
                    trace::switched(preemption);
                }
                self.record.perform(task, choice);
                self.current = task;
                let mut shared = lock(&self.shared);
                shared.push_step(task);
                if choice != NO_CHOICE {
                    shared.draws.push(u64::from(choice));
                }
                let known = shared.tasks.len();
                if known < self.record.names.tasks.len() {
                    shared
                        .tasks
                        .extend_from_slice(&self.record.names.tasks[known..]);
                }
            }
            Pick::GiveUp => self.ending = Some(Ending::GivenUp),
            Pick::Diverged(why) => self.ending = Some(Ending::Broken(why)),
        }
    }

    fn enabled(&self) -> Vec<u32> {
        let live = self.record.live.iter().copied();
        live.filter(|&id| self.record.is_enabled(id)).collect()
    }
}

/// An object of one execution. Outside of it, and once it is over, nothing about it is
/// scheduled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObjectId {
    epoch: u64,
    id: u32,
}

impl ObjectId {
    /// A new object of the running task.
    pub(crate) fn new(what: &'static str) -> ObjectId {
        if !is_running() {
            return ObjectId {
                epoch: 0,
                id: NO_OBJECT,
            };
        }
        let id = with(|rt| rt.new_object_of(rt.current, what));
        ObjectId {
            epoch: EPOCH.get(),
            id,
        }
    }

    fn access(self, kind: Kind) -> Option<Access> {
        // A panic ends the execution: what is unwound by it makes no steps of its own.
        if std::thread::panicking() {
            return None;
        }
        if !is_running() {
            // A destructor met while the execution is taken apart unwinds on; what was called
            // from anywhere else but a destructor ends here.
            if ENDING.get() {
                unwind();
            }
            return None;
        }
        if self.epoch != EPOCH.get() {
            with(|rt| {
                rt.ending = Some(Ending::Broken(
                    "an object of another execution is used: what a body shares, it must make \
                     itself, each time anew"
                        .to_owned(),
                ));
            });
            leave();
        }
        Some(Access {
            object: self.id,
            kind,
        })
    }
}

/// Hands over; does not return where the execution has ended meanwhile.
fn leave() {
    fibers::hand_over();
    if ENDING.get() {
        unwind();
    }
}

/// Unwinds the running task, past the panic hook.
fn unwind() -> ! {
    std::panic::resume_unwind(Box::new(GivenUp))
}

/// Stays here for good: a destructor of a task being unwound waits for what never comes.
pub(crate) fn never() -> ! {
    loop {
        fibers::hand_over();
    }
}

/// Makes the access the running task's next step, and returns once it was made.
/// `None` where no execution runs.
fn step(access: Access, gate: Gate) -> u32 {
    step_with(access, gate, None, 0)
}

fn step_with(access: Access, gate: Gate, update: Option<Update>, ways: u32) -> u32 {
    let me = with(|rt| {
        let me = rt.current;
        rt.record.settle();
        let task = rt.record.task_mut(me);
        task.pending = access;
        task.update = update;
        task.ways.clear();
        task.ways.extend(0..ways);
        task.gate = gate;
        if let Some(dropped) = task.dropping
            && !rt.record.sees_dropped(dropped)
        {
            rt.record.seen_dropped.push(dropped.to_owned());
        }
        rt.schedule();
        me
    });
    let away = with(|rt| rt.current != me || rt.ending.is_some());
    if away {
        leave();
    }
    with(|rt| rt.record.task(me).reply)
}

/// Accesses the object. Says how it went; `None` where nothing is scheduled.
pub(crate) fn access(object: ObjectId, kind: Kind) -> Option<bool> {
    object
        .access(kind)
        .map(|access| step(access, Gate::Open) == 1)
}

/// Writes the atomic.
pub(crate) fn write(object: ObjectId, update: Update) {
    if let Some(access) = object.access(Kind::Write) {
        step_with(access, Gate::Open, Some(update), 0);
    }
}

/// Takes one of so many ways; `None` where nothing is scheduled.
pub(crate) fn choose(ways: u32) -> Option<u32> {
    let nothing = ObjectId {
        epoch: EPOCH.get(),
        id: NO_OBJECT,
    };
    let access = nothing.access(Kind::Choose)?;
    let taken = step_with(access, Gate::Open, None, ways);
    crate::trace::resumed(me);
    Some(taken)
}

/// The atomic has this value now.
pub(crate) fn has_value(object: ObjectId, value: u64) {
    if is_running() && object.epoch == EPOCH.get() {
        with(|rt| rt.record.objects[object.id as usize].value = value);
    }
}

/// The last access of an atomic turned out to change nothing.
pub(crate) fn was_a_read() {
    if is_running() {
        with(|rt| {
            if let Some(event) = rt.record.events.last_mut() {
                event.access.kind = Kind::Read;
            }
        });
    }
}

/// Acquires the mutex again after a wait without a limit: only once notified.
pub(crate) fn lock_when_notified(mutex: ObjectId) {
    if let Some(access) = mutex.access(Kind::Lock) {
        step(access, Gate::Notified);
    }
}

/// Returns from a timed wait; whether it was notified.
pub(crate) fn return_from_wait(condvar: ObjectId) -> bool {
    let Some(access) = condvar.access(Kind::Return) else {
        return true;
    };
    let gate = with(
        |rt| match rt.record.task(rt.current).early_timeouts < EARLY_TIMEOUTS {
            true => Gate::Open,
            false => Gate::TimedOut,
        },
    );
    let notified = step(access, gate) == 1;
    if !notified {
        with(|rt| {
            let current = rt.current;
            rt.record.task_mut(current).early_timeouts += 1;
        });
    }
    notified
}

/// Starts a task.
pub(crate) fn spawn(job: Box<dyn FnOnce()>) -> u32 {
    assert!(is_running(), "a task is spawned outside of an exploration");
    with(|rt| {
        let parent = rt.current;
        rt.record.settle();
        let task = rt.record.task_mut(parent);
        let child = task.children;
        task.children += 1;
        let clock = task.clock.clone();
        let id = rt.record.names.child(parent, child);
        rt.create(id, clock, job);
        id
    })
}

/// Waits for the end of a task.
pub(crate) fn join(task: u32) {
    if (ObjectId {
        epoch: EPOCH.get(),
        id: NO_OBJECT,
    })
    .access(Kind::Local)
    .is_some()
    {
        step(Access::LOCAL, Gate::Joined(task));
    }
}

/// The running task is about to drop a shared pointer to a value of this type: a step, if the
/// type's destructor was ever seen to make one.
pub(crate) fn drop_pointer(object: ObjectId, pointee: &'static str) {
    if is_running() && with(|rt| rt.record.sees_dropped(pointee)) {
        access(object, Kind::Write);
        crate::trace::resumed(me);
    }
}

/// Drops the last shared pointer to a value of this type, watching for steps.
pub(crate) fn watch_destructor(pointee: &'static str, destruct: impl FnOnce()) {
    if !is_running() || std::thread::panicking() {
        return destruct();
    }
    let outer = with(|rt| {
        let current = rt.current;
        (rt.record.task_mut(current).dropping).replace(pointee)
    });
    destruct();
    with(|rt| {
        let current = rt.current;
        rt.record.task_mut(current).dropping = outer;
    });
}

/// The running task's number.
pub(crate) fn me() -> u64 {
    match is_running() {
        true => with(|rt| u64::from(rt.current)),
        false => 0,
    }
}

/// The running task, by its park token.
pub(crate) fn current() -> ObjectId {
    if !is_running() {
        return ObjectId {
            epoch: 0,
            id: NO_OBJECT,
        };
    }
    let id = with(|rt| rt.record.task(rt.current).park);
    ObjectId {
        epoch: EPOCH.get(),
        id,
    }
}

/// The running task lets others go first. Where it has gone twice round the same loop and
/// nobody else touched what it looked at, it goes on only after somebody did, or when nobody
/// else can: a third round could not end differently, unless it counts them.
pub(crate) fn yield_now() {
    if (ObjectId {
        epoch: EPOCH.get(),
        id: NO_OBJECT,
    })
    .access(Kind::Local)
    .is_none()
    {
        return;
    }
    let gate = with(|rt| {
        let me = rt.current;
        rt.record.settle();
        let now = rt.record.events.len() as u32;
        let task = rt.record.task(me);
        let since = task.last_round_began;
        let spins = !task.round.is_empty()
            && task.round == task.last_round
            && !(task.round.iter()).any(|access| {
                rt.record.objects[access.object as usize].changed_by_others(me, since)
            });
        let task = rt.record.task_mut(me);
        task.last_round = std::mem::take(&mut task.round);
        task.last_round_began = task.round_began;
        task.round_began = now;
        task.yielding = true;
        if spins {
            rt.record.note_spinner(me);
        }
        match spins {
            true => Gate::Changed(now),
            false => Gate::Open,
        }
    });
    step(Access::LOCAL, gate);
}
