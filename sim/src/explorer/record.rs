//! What is known of the running execution: its events, the state of its objects, what every
//! task is about to do. A strategy looks at this and picks who goes next.

use super::access::{Access, Kind, NO_OBJECT, Update};
use super::clock::Clock;
use crate::TaskName;

/// "No choice": the event is determined by its task.
pub(super) const NO_CHOICE: u32 = u32::MAX;

/// One step of one task: an access, and everything the task did alone until its next one.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) task: u32,
    pub(super) access: Access,
    /// What it was announced as: elsewhere it may turn out otherwise.
    pub(super) announced: Kind,
    /// Which waiter a notification chose, or which way the body took.
    pub(super) choice: u32,
    /// The object's state just before, as far as it decides who can go on.
    pub(super) before: u32,
    /// Whether nothing but the object's state could have held it back.
    pub(super) open: bool,
    /// Which event of its task it is, counted from 1.
    pub(super) seq: u32,
    /// What happened before it, not counting the order on its object.
    pub(super) pre: Clock,
    /// What happened before it, and itself.
    pub(super) clock: Clock,
}

impl Event {
    /// Whether whoever has this clock comes after the event.
    pub(super) fn is_known_to(&self, clock: &Clock) -> bool {
        clock.get(self.task) >= self.seq
    }
}

/// The bit of a readers-writer lock's state that says it has a writer; the others count readers.
pub(super) const WRITER: u32 = 1 << 31;

/// Whether an access can take place on an object in this state.
pub(super) fn allows(before: u32, kind: Kind) -> bool {
    match kind {
        Kind::Lock | Kind::WriteLock => before == 0,
        Kind::ReadLock => before & WRITER == 0,
        Kind::Park => before == 1,
        _ => true,
    }
}

/// An object of the running execution.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    /// Locks: who holds it, and how. Tokens: whether there is one. See [`allows`].
    pub(super) state: u32,
    /// Who holds the lock.
    pub(super) holders: Vec<u32>,
    /// Who waits on the condition variable and was not chosen.
    pub(super) waiting: Vec<u32>,
    /// Its events, in order.
    pub(super) history: Vec<u32>,
    /// The last changes by two different tasks: when, and by whom.
    pub(super) changes: [Option<(u32, u32)>; 2],
    /// What it is, for reports.
    pub(super) what: &'static str,
    /// Atomics: the value.
    pub(super) value: u64,
}

impl Object {
    /// Whether somebody else than `task` changed it at or after event `since`.
    pub(super) fn changed_by_others(&self, task: u32, since: u32) -> bool {
        (self.changes.iter().flatten()).any(|&(at, by)| by != task && at >= since)
    }

    pub(super) fn note_change(&mut self, at: u32, by: u32) {
        match self.changes[0] {
            Some((_, last)) if last != by => self.changes = [Some((at, by)), self.changes[0]],
            _ => self.changes[0] = Some((at, by)),
        }
    }
}

/// What holds a task back, beside the state of the object it is about to access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Nothing.
    Open,
    /// It waits to be notified.
    Notified,
    /// It waits to be notified; its time-out fires when nobody can go on.
    TimedOut,
    /// It waits for the end of this task.
    Joined(u32),
    /// It went round a loop twice for nothing, and waits for a change of what it looked at
    /// since this event, or for the moment when nobody else can go on.
    Changed(u32),
}

/// A task of the running execution.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) pending: Access,
    /// Where that is a write of an atomic: which.
    pub(super) update: Option<Update>,
    /// Where that is a choice: the ways there are.
    pub(super) ways: Vec<u32>,
    pub(super) gate: Gate,
    pub(super) finished: bool,
    pub(super) events: u32,
    pub(super) clock: Clock,
    /// Chosen by a notification, which is this event.
    pub(super) notified: Option<u32>,
    /// Let go because nobody else could go on.
    pub(super) released: bool,
    /// Time-outs of timed waits that fired early.
    pub(super) early_timeouts: u32,
    pub(super) reply: u32,
    pub(super) park: u32,
    pub(super) children: u32,
    pub(super) objects: u32,
    /// What it accessed since its last yield, and between the two before.
    pub(super) round: Vec<Access>,
    pub(super) last_round: Vec<Access>,
    /// The numbers of the events at which those rounds began.
    pub(super) round_began: u32,
    pub(super) last_round_began: u32,
    pub(super) yielding: bool,
    /// The type of the value whose last shared pointer it is dropping.
    pub(super) dropping: Option<&'static str>,
    pub(super) fiber: Option<usize>,
}

/// Names of tasks and objects by creation path, each given a number that stays the same for
/// the whole search, whatever the order in which an execution creates them.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) tasks: Vec<TaskName>,
    children: Vec<Vec<u32>>,
    objects_of: Vec<Vec<u32>>,
    /// Creator and ordinal of each object.
    pub(super) objects: Vec<(u32, u32)>,
}

impl Names {
    pub(super) fn root(&mut self) -> u32 {
        if self.tasks.is_empty() {
            self.add_task(0, 0);
        }
        0
    }

    fn add_task(&mut self, parent: u32, child: u32) -> u32 {
        self.tasks.push(TaskName { parent, child });
        self.children.push(Vec::new());
        self.objects_of.push(Vec::new());
        (self.tasks.len() - 1) as u32
    }

    pub(super) fn child(&mut self, parent: u32, child: u32) -> u32 {
        if let Some(&task) = self.children[parent as usize].get(child as usize) {
            return task;
        }
        let task = self.add_task(parent, child);
        self.children[parent as usize].push(task);
        task
    }

    /// The child's number, if it was ever created.
    pub(super) fn known_child(&self, parent: u32, child: u32) -> Option<u32> {
        self.children
            .get(parent as usize)?
            .get(child as usize)
            .copied()
    }

    pub(super) fn object(&mut self, creator: u32, ordinal: u32) -> u32 {
        if let Some(&object) = self.objects_of[creator as usize].get(ordinal as usize) {
            return object;
        }
        let object = self.objects.len() as u32;
        self.objects.push((creator, ordinal));
        self.objects_of[creator as usize].push(object);
        object
    }

    /// `0.1.0`: the first child of the second child of the root.
    pub(super) fn path(&self, task: u32) -> String {
        match self.tasks.get(task as usize) {
            Some(name) if task != 0 => format!("{}.{}", self.path(name.parent), name.child),
            _ => "0".to_owned(),
        }
    }

    /// `0.1/3`: the fourth object of task `0.1`.
    pub(super) fn object_path(&self, object: u32) -> String {
        match self.objects.get(object as usize) {
            Some(&(creator, ordinal)) => format!("{}/{ordinal}", self.path(creator)),
            None => "?".to_owned(),
        }
    }
}

/// The running execution.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) names: Names,
    /// By number; `None` for those that this execution has not created.
    pub(super) tasks: Vec<Option<Task>>,
    /// Those created, in order.
    pub(super) live: Vec<u32>,
    pub(super) objects: Vec<Object>,
    pub(super) events: Vec<Event>,
    /// Types whose destructors were seen to make steps: who drops them last can be told.
    pub(super) seen_dropped: Vec<String>,
    /// Tasks that were seen to spin, and the objects they looked at then.
    pub(super) spinners: Vec<(u32, Vec<u32>)>,
    /// By object: tasks that were seen to change it.
    pub(super) changers: Vec<Vec<u32>>,
    /// The choices made, in order.
    pub(super) draws: Vec<u64>,
}

impl Record {
    /// Whether drops of pointers to this type are steps.
    pub(super) fn sees_dropped(&self, type_name: &str) -> bool {
        self.seen_dropped.iter().any(|seen| seen == type_name)
    }

    pub(super) fn task(&self, task: u32) -> &Task {
        (self.tasks.get(task as usize).and_then(Option::as_ref))
            .expect("INVARIANT: only created tasks are asked for")
    }

    pub(super) fn task_mut(&mut self, task: u32) -> &mut Task {
        (self.tasks.get_mut(task as usize).and_then(Option::as_mut))
            .expect("INVARIANT: only created tasks are asked for")
    }

    /// The state that decides whether a pending access can take place.
    pub(super) fn state_of(&self, access: Access) -> u32 {
        self.objects
            .get(access.object as usize)
            .map_or(0, |object| object.state)
    }

    /// Whether the task can make its next step.
    pub(super) fn is_enabled(&self, id: u32) -> bool {
        let task = self.task(id);
        !task.finished
            && self.gate_is_open(id)
            && allows(self.state_of(task.pending), task.pending.kind)
    }

    fn gate_is_open(&self, id: u32) -> bool {
        let task = self.task(id);
        match task.gate {
            Gate::Open => true,
            Gate::Notified => task.notified.is_some(),
            Gate::TimedOut => task.notified.is_some() || task.released,
            Gate::Joined(other) => self.task(other).finished,
            Gate::Changed(since) => {
                task.released
                    || (task.last_round.iter()).any(|access| {
                        (self.objects.get(access.object as usize))
                            .is_some_and(|object| object.changed_by_others(id, since))
                    })
            }
        }
    }

    /// The ways in which the task's next step can go, where there are several.
    pub(super) fn choices(&self, id: u32) -> &[u32] {
        let task = self.task(id);
        match task.pending.kind {
            Kind::NotifyOne => &self.objects[task.pending.object as usize].waiting,
            Kind::Choose => &task.ways,
            _ => &[],
        }
    }

    /// The task's next step as it would turn out if it were made now.
    pub(super) fn next_access(&self, id: u32) -> Access {
        let Task {
            pending, update, ..
        } = *self.task(id);
        let Some(object) = self.objects.get(pending.object as usize) else {
            return pending;
        };
        let kind = match pending.kind {
            Kind::Try if object.state == 0 => Kind::TryOk,
            Kind::Try => Kind::TryFail,
            Kind::NotifyOne | Kind::NotifyAll if object.waiting.is_empty() => Kind::NotifyNone,
            Kind::Unpark if object.state == 1 => Kind::UnparkNone,
            Kind::Write if update.is_some_and(|update| !update.changes(object.value)) => Kind::Read,
            other => other,
        };
        Access { kind, ..pending }
    }

    /// A number that tells apart what could come next: equal prefixes must have equal ones.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut mix = |value: u32| {
            hash = (hash ^ u64::from(value))
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(23);
        };
        for &id in &self.live {
            let task = self.task(id);
            if task.finished {
                continue;
            }
            mix(id);
            mix(task.pending.object);
            mix(task.pending.kind as u32 | u32::from(self.is_enabled(id)) << 8);
            if task.pending.kind == Kind::Choose {
                mix(task.ways.len() as u32);
            }
        }
        hash
    }

    /// Works out what happened before the last event, now that it is known how it went.
    pub(super) fn settle(&mut self) {
        let index = self.events.len();
        let Some(event) = self.events.last_mut() else {
            return;
        };
        if event.clock != Clock::default() {
            return;
        }
        let mut event = std::mem::replace(
            event,
            Event {
                task: 0,
                access: Access::LOCAL,
                announced: Kind::Local,
                choice: 0,
                before: 0,
                open: false,
                seq: 0,
                pre: Clock::default(),
                clock: Clock::default(),
            },
        );
        let index = index - 1;
        let mut clock = event.pre.clone();
        if let Some(object) = self.objects.get_mut(event.access.object as usize) {
            for &earlier in object.history.iter().rev() {
                let earlier = &self.events[earlier as usize];
                if earlier.access.depends_on(event.access) {
                    clock.join(&earlier.clock);
                }
                if earlier.access.kind.is_total() {
                    break;
                }
            }
            object.history.push(index as u32);
            if event.access.kind.changes() {
                object.note_change(index as u32, event.task);
                note_changer(&mut self.changers, event.access.object, event.task);
            }
        }
        clock.set(event.task, event.seq);
        event.clock = clock.clone();
        let access = event.access;
        let task = self.task_mut(event.task);
        task.clock = clock;
        if access.object != NO_OBJECT {
            task.round.push(access);
        }
        self.events[index] = event;
    }

    /// Takes the task's next step: changes the object, writes the event.
    pub(super) fn perform(&mut self, id: u32, choice: u32) {
        let index = self.events.len() as u32;
        let Task { pending, gate, .. } = *self.task(id);
        let before = self.state_of(pending);
        let mut pre = self.task(id).clock.clone();
        if let Gate::Joined(other) = gate {
            pre.join(&self.task(other).clock);
        }
        if gate == Gate::Notified
            && let Some(by) = self.task(id).notified
        {
            pre.join(&self.events[by as usize].clock);
        }
        if let Gate::Changed(since) = gate
            && let Some(opened) = self.what_opened(id, since)
        {
            pre.join(&opened);
        }
        let open = !matches!(gate, Gate::TimedOut | Gate::Changed(_));
        if !open && self.task(id).released {
            // Nobody else could go on: it comes after everything.
            for event in &self.events {
                pre.join(&event.clock);
            }
        }
        let kind = self.change(id, index, pending, choice);
        let task = self.task_mut(id);
        if matches!(gate, Gate::Notified | Gate::TimedOut) || kind == Kind::Return {
            task.notified = None;
        }
        if kind == Kind::Choose {
            task.reply = choice;
        }
        task.released = false;
        task.gate = Gate::Open;
        task.events += 1;
        task.yielding = false;
        let seq = task.events;
        if choice != NO_CHOICE {
            self.draws.push(u64::from(choice));
        }
        self.events.push(Event {
            task: id,
            access: Access {
                object: pending.object,
                kind,
            },
            announced: pending.kind,
            choice,
            before,
            open,
            seq,
            pre,
            clock: Clock::default(),
        });
    }

    /// Notes that a task spins.
    pub(super) fn note_spinner(&mut self, id: u32) {
        let mut objects: Vec<u32> = (self.task(id).last_round.iter())
            .map(|access| access.object)
            .collect();
        objects.sort_unstable();
        objects.dedup();
        let known = self
            .spinners
            .iter()
            .any(|(task, seen)| *task == id && *seen == objects);
        if objects.len() > 1 && !known {
            self.spinners.push((id, objects));
        }
    }

    /// Whether a task spins until either of two things changes which two others change. Then
    /// neither change has to come before it goes on, and no order of the steps of one schedule
    /// says so: who raced with whom cannot be told from it.
    pub(super) fn is_open_to_any(&self) -> bool {
        let others = |object: u32, id: u32| {
            let changers = self.changers.get(object as usize).map_or(&[][..], |c| c);
            changers.iter().copied().filter(move |&by| by != id)
        };
        self.spinners.iter().any(|(id, objects)| {
            objects.iter().any(|&one| {
                let mut other = objects.iter().filter(|&&object| object != one);
                other.any(|&object| {
                    others(one, *id).any(|by| others(object, *id).any(|too| too != by))
                })
            })
        })
    }

    /// What surely happened before a spinning task could go on: any one change of what it
    /// looks at is enough for that, so it is what all of them have in common.
    fn what_opened(&self, id: u32, since: u32) -> Option<Clock> {
        let mut opened: Option<Clock> = None;
        for access in &self.task(id).last_round {
            let history = &self.objects[access.object as usize].history;
            for &index in history.iter().rev().take_while(|&&index| index >= since) {
                let event = &self.events[index as usize];
                if event.task != id && event.access.kind.changes() {
                    match &mut opened {
                        Some(opened) => opened.meet(&event.clock),
                        None => opened = Some(event.clock.clone()),
                    }
                }
            }
        }
        opened
    }

    /// What the access does to the object, and how it turned out.
    fn change(&mut self, id: u32, index: u32, access: Access, choice: u32) -> Kind {
        let Some(object) = self.objects.get_mut(access.object as usize) else {
            return access.kind;
        };
        let mut reply = 0;
        let mut woken: Vec<u32> = Vec::new();
        let kind = match access.kind {
            Kind::Lock | Kind::WriteLock => {
                object.state = if access.kind == Kind::Lock { 1 } else { WRITER };
                object.holders.push(id);
                access.kind
            }
            Kind::Try if object.state == 0 => {
                reply = 1;
                object.state = 1;
                object.holders.push(id);
                Kind::TryOk
            }
            Kind::Try => Kind::TryFail,
            Kind::ReadLock => {
                object.state += 1;
                object.holders.push(id);
                access.kind
            }
            Kind::Unlock | Kind::WriteUnlock | Kind::ReadUnlock => {
                object.state = match access.kind {
                    Kind::ReadUnlock => object.state.saturating_sub(1),
                    _ => 0,
                };
                if let Some(place) = object.holders.iter().position(|&holder| holder == id) {
                    object.holders.remove(place);
                }
                access.kind
            }
            Kind::Enqueue => {
                object.waiting.push(id);
                object.waiting.sort_unstable();
                access.kind
            }
            Kind::Return => {
                match object.waiting.iter().position(|&waiter| waiter == id) {
                    Some(place) => {
                        object.waiting.remove(place);
                    }
                    None => reply = 1,
                }
                access.kind
            }
            Kind::NotifyOne | Kind::NotifyAll if object.waiting.is_empty() => Kind::NotifyNone,
            Kind::NotifyOne => {
                object.waiting.retain(|&waiter| waiter != choice);
                woken.push(choice);
                access.kind
            }
            Kind::NotifyAll => {
                woken = std::mem::take(&mut object.waiting);
                access.kind
            }
            Kind::Unpark if object.state == 1 => Kind::UnparkNone,
            Kind::Unpark => {
                object.state = 1;
                access.kind
            }
            Kind::Park => {
                object.state = 0;
                access.kind
            }
            other => other,
        };
        for waiter in woken {
            self.task_mut(waiter).notified = Some(index);
        }
        self.task_mut(id).reply = reply;
        kind
    }
}

fn note_changer(changers: &mut Vec<Vec<u32>>, object: u32, task: u32) {
    let place = object as usize;
    if changers.len() <= place {
        changers.resize_with(place + 1, Vec::new);
    }
    if !changers[place].contains(&task) {
        changers[place].push(task);
    }
}
