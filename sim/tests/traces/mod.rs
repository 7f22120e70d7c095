//! Traces built by hand, as a platform would report them.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod arbitrary;

use selvedge_sim::trace::{Blocked, Event, Object, ObjectKind, Operation, Site, Switch, Trace};
use selvedge_sim::{Failure, FailureKind, TaskName};

/// Builds a trace event by event. Each event is a step of its own.
#[derive(Default)]
pub(crate) struct Builder {
    pub(crate) trace: Trace,
    file: String,
}

impl Builder {
    pub(crate) fn new(file: &str) -> Self {
        let mut builder = Builder {
            file: file.to_owned(),
            ..Builder::default()
        };
        builder.trace.tasks.push(TaskName {
            parent: 0,
            child: 0,
        });
        builder
    }

    fn site(&self, line: u32) -> Site {
        Site {
            file: self.file.clone(),
            line,
        }
    }

    pub(crate) fn object(&mut self, creator: u32, kind: ObjectKind, of: &str, line: u32) -> u32 {
        let ordinal = (self.trace.objects.iter())
            .filter(|object| object.creator == creator)
            .count() as u32;
        let site = self.site(line);
        self.trace.objects.push(Object {
            creator,
            ordinal,
            kind,
            of: of.to_owned(),
            site,
        });
        self.trace.objects.len() as u32 - 1
    }

    /// An event; `change` says what is special about it.
    pub(crate) fn event(
        &mut self,
        task: u32,
        operation: Operation,
        object: Option<u32>,
        line: u32,
        change: impl FnOnce(&mut Event),
    ) -> &mut Self {
        let place = self.trace.events.len();
        let mut event = Event {
            task,
            operation,
            object,
            peer: None,
            read: None,
            wrote: None,
            ok: true,
            text: String::new(),
            site: if line == 0 {
                Site::default()
            } else {
                self.site(line)
            },
            since: place as u32,
            step: place as u64 + 1,
        };
        change(&mut event);
        self.trace.events.push(event);
        self
    }

    pub(crate) fn spawn(&mut self, parent: u32, line: u32) -> u32 {
        let child = (self.trace.tasks.iter().skip(1))
            .filter(|name| name.parent == parent)
            .count() as u32;
        self.trace.tasks.push(TaskName { parent, child });
        let place = self.trace.tasks.len() as u32 - 1;
        self.event(parent, Operation::Spawn, None, line, |e| {
            e.peer = Some(place);
        });
        place
    }

    pub(crate) fn plain(&mut self, task: u32, operation: Operation) -> &mut Self {
        self.event(task, operation, None, 0, |_| {})
    }

    pub(crate) fn on(
        &mut self,
        task: u32,
        operation: Operation,
        object: u32,
        line: u32,
    ) -> &mut Self {
        self.event(task, operation, Some(object), line, |_| {})
    }

    pub(crate) fn load(&mut self, task: u32, object: u32, value: u64, line: u32) -> &mut Self {
        self.event(task, Operation::Load, Some(object), line, |e| {
            e.read = Some(value);
        })
    }

    pub(crate) fn store(&mut self, task: u32, object: u32, value: u64, line: u32) -> &mut Self {
        self.event(task, Operation::Store, Some(object), line, |e| {
            e.wrote = Some(value);
        })
    }

    pub(crate) fn join(&mut self, task: u32, peer: u32, since: u32, line: u32) -> &mut Self {
        self.event(task, Operation::Join, None, line, |e| {
            (e.peer, e.since) = (Some(peer), since);
        })
    }

    /// Another task takes over before the next event.
    pub(crate) fn switch(&mut self, preemption: bool, critical: Option<bool>) -> &mut Self {
        self.trace.switches.push(Switch {
            step: self.trace.events.len() as u64 + 1,
            preemption,
            critical,
        });
        self
    }

    pub(crate) fn blocked(
        &mut self,
        task: u32,
        operation: Operation,
        object: Option<u32>,
        peer: Option<u32>,
        since: u32,
        line: u32,
    ) -> &mut Self {
        let site = self.site(line);
        self.trace.blocked.push(Blocked {
            task,
            operation,
            object,
            peer,
            site,
            since,
        });
        self
    }

    pub(crate) fn fail(&mut self, kind: FailureKind, signature: &str, detail: &str, line: u32) {
        self.trace.failure = Some(Failure {
            kind,
            signature: signature.to_owned(),
            detail: detail.to_owned(),
            location: self.site(line).text(),
        });
    }
}

/// Two tasks read a counter and write it one higher; one increment is lost.
pub(crate) fn lost_update() -> Trace {
    let mut b = Builder::new("src/counter.rs");
    let counter = b.object(0, ObjectKind::Atomic, "u64", 10);
    let one = b.spawn(0, 12);
    let two = b.spawn(0, 12);
    b.switch(false, Some(false)).plain(one, Operation::Start);
    b.load(one, counter, 0, 20);
    b.switch(true, Some(true)).plain(two, Operation::Start);
    b.load(two, counter, 0, 20).store(two, counter, 1, 21);
    b.plain(two, Operation::Finish);
    b.switch(false, None).store(one, counter, 1, 21);
    b.plain(one, Operation::Finish);
    b.switch(false, None).join(0, one, 2, 14);
    b.join(0, two, 11, 14).load(0, counter, 1, 15);
    b.event(0, Operation::Fail, None, 16, |e| {
        e.text = "lost-update".to_owned();
    });
    b.fail(
        FailureKind::Property,
        "lost-update",
        "two increments left the counter at 1",
        16,
    );
    b.trace
}

/// Three transfers around a ring of accounts; each holds one lock and waits for the next.
pub(crate) fn deadlock() -> Trace {
    let mut b = Builder::new("scenarios/src/classics/accounts.rs");
    let accounts = [40, 41, 42].map(|line| b.object(0, ObjectKind::Mutex, "Account", line));
    let tasks = [50, 51, 52].map(|line| b.spawn(0, line));
    for (place, &task) in tasks.iter().enumerate() {
        b.switch(place > 0, (place > 0).then_some(true));
        b.plain(task, Operation::Start);
        b.on(task, Operation::Lock, accounts[place], 71);
    }
    for (place, &task) in tasks.iter().enumerate() {
        let next = accounts[(place + 1) % 3];
        b.blocked(
            task,
            Operation::Lock,
            Some(next),
            None,
            5 + 2 * place as u32,
            72,
        );
    }
    b.blocked(0, Operation::Join, None, Some(tasks[0]), 3, 55);
    b.fail(FailureKind::Deadlock, "deadlock", "nobody can go on", 0);
    if let Some(failure) = &mut b.trace.failure {
        failure.location.clear();
    }
    b.trace
}

/// A flag is seen to be set, and the message behind it is not there yet.
pub(crate) fn message_passing() -> Trace {
    let mut b = Builder::new("src/mailbox.rs");
    let data = b.object(0, ObjectKind::Atomic, "u64", 5);
    let flag = b.object(0, ObjectKind::Atomic, "bool", 6);
    let writer = b.spawn(0, 8);
    b.plain(writer, Operation::Start);
    b.store(writer, data, 0, 9)
        .store(writer, data, 42, 10)
        .store(writer, flag, 1, 11);
    b.plain(writer, Operation::Finish);
    b.load(0, flag, 1, 14).load(0, data, 0, 15);
    b.event(0, Operation::Fail, None, 16, |e| {
        e.text = "empty-message".to_owned();
    });
    b.fail(
        FailureKind::Property,
        "empty-message",
        "the flag was set, the data was 0",
        16,
    );
    b.trace
}

/// Every kind of event there is: a condition variable, a readers-writer lock, parking.
pub(crate) fn everything() -> Trace {
    let mut b = Builder::new("src/everything.rs");
    let mutex = b.object(0, ObjectKind::Mutex, "State", 1);
    let table = b.object(0, ObjectKind::RwLock, "Vec<u8>", 2);
    let bell = b.object(0, ObjectKind::Condvar, "", 3);
    let count = b.object(0, ObjectKind::Atomic, "u32", 4);
    let one = b.spawn(0, 5);
    let two = b.spawn(0, 6);
    b.plain(one, Operation::Start)
        .on(one, Operation::Lock, mutex, 10);
    b.on(one, Operation::Unlock, mutex, 11)
        .on(one, Operation::Wait, bell, 11);
    b.plain(two, Operation::Start)
        .on(two, Operation::ReadLock, table, 20);
    b.on(0, Operation::ReadLock, table, 21);
    b.event(0, Operation::TryLock, Some(mutex), 22, |e| e.ok = true);
    b.event(two, Operation::TryLock, Some(mutex), 23, |e| e.ok = false);
    b.on(0, Operation::NotifyOne, bell, 24)
        .on(0, Operation::Unlock, mutex, 25);
    b.on(one, Operation::Wake, bell, 11);
    b.event(one, Operation::Lock, Some(mutex), 11, |e| e.since = 13);
    b.on(one, Operation::Unlock, mutex, 12)
        .on(0, Operation::ReadUnlock, table, 26);
    b.on(two, Operation::ReadUnlock, table, 27);
    b.event(one, Operation::WriteLock, Some(table), 28, |e| e.since = 16);
    b.on(one, Operation::WriteUnlock, table, 29);
    b.event(two, Operation::FetchAdd, Some(count), 30, |e| {
        (e.read, e.wrote) = (Some(0), Some(3));
    });
    b.event(0, Operation::CompareExchange, Some(count), 31, |e| {
        (e.read, e.ok) = (Some(3), false);
    });
    b.event(0, Operation::CompareExchange, Some(count), 32, |e| {
        (e.read, e.wrote) = (Some(3), Some(4));
    });
    b.event(0, Operation::Unpark, None, 33, |e| e.peer = Some(one));
    b.event(one, Operation::Park, None, 34, |e| e.since = 20);
    b.plain(two, Operation::Yield);
    b.event(two, Operation::Choose, None, 35, |e| e.read = Some(2));
    b.event(two, Operation::Note, None, 36, |e| {
        e.text = "reached: the end".to_owned();
    });
    b.event(one, Operation::Wait, Some(bell), 37, |_| {});
    b.event(one, Operation::Wake, Some(bell), 37, |e| e.ok = false);
    b.plain(one, Operation::Finish)
        .plain(two, Operation::Finish);
    b.join(0, one, 30, 38)
        .join(0, two, 32, 39)
        .plain(0, Operation::Finish);
    b.trace
}
