//! A bounded buffer whose producers and consumers wait on one condition variable, with one
//! waiter woken for each change. The one woken may be of the wrong kind: a taker wakes another
//! taker, who finds the buffer empty and goes back to sleep without waking anybody, while the
//! producer who could have used the room sleeps on.
//!
//! It takes two consumers who both wait, and a producer who puts one value, finds the buffer
//! full for the second and joins the queue behind the second consumer. The queue is first
//! come, first served under loom and in any order under shuttle.
//!
//! Right with `notify_all` (or with a condition variable for each kind).

use selvedge_core::platform::{Condvar, JoinHandle, Mutex, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{Expect, Scenario, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "bounded-buffer-notify-one",
    ticket: "classic",
    summary: "one condvar for producers and consumers, and notify_one wakes the wrong kind",
    source: include_str!("bounded_buffer_notify_one.rs"),
    twin: bodies!(wakes_one),
    shipped: bodies!(wakes_all),
    signature: "deadlock",
    must_reach: &["consumer-waited", "producer-waited"],
    // Not on real threads, which would hang.
    engines: &[loom(Expect::Finds), shuttle(Expect::Finds)],
};

fn wakes_one<P: Platform>(_: &Cx) -> Observation {
    one_puts_two_take::<P>(|changed| changed.notify_one())
}

fn wakes_all<P: Platform>(_: &Cx) -> Observation {
    one_puts_two_take::<P>(|changed| changed.notify_all())
}

fn one_puts_two_take<P: Platform>(wake: fn(&P::Condvar)) -> Observation {
    let buffer = P::Arc::new(Buffer::<P> {
        slot: P::Mutex::new(None),
        changed: P::Condvar::new(),
        wake,
    });
    let takers = [(); 2].map(|()| {
        let buffer = buffer.clone();
        P::spawn(move || buffer.take())
    });
    buffer.put(1);
    buffer.put(2);
    let taken = takers.map(JoinHandle::join);
    if taken != [1, 2] && taken != [2, 1] {
        violation!("value-lost-or-doubled", "put 1 and 2, took {taken:?}");
    }
    Observation::of(format!("took {taken:?}"))
}

/// A buffer with room for one value.
struct Buffer<P: Platform> {
    slot: P::Mutex<Option<u32>>,
    changed: P::Condvar,
    wake: fn(&P::Condvar),
}

impl<P: Platform> Buffer<P> {
    fn put(&self, value: u32) {
        let mut slot = self.slot.lock();
        while slot.is_some() {
            reach("producer-waited");
            slot = self.changed.wait(slot);
        }
        *slot = Some(value);
        (self.wake)(&self.changed);
    }

    fn take(&self) -> u32 {
        let mut slot = self.slot.lock();
        loop {
            match slot.take() {
                Some(value) => {
                    (self.wake)(&self.changed);
                    return value;
                }
                None => {
                    reach("consumer-waited");
                    slot = self.changed.wait(slot);
                }
            }
        }
    }
}
