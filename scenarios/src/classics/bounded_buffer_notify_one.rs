//! A bounded buffer whose producers and consumers wait on one condition variable, with one
//! waiter woken for each change. The one woken may be of the wrong kind: a taker wakes another
//! taker, who finds the buffer empty and goes back to sleep without waking anybody, while the
//! producer who could have used the room sleeps on.
//!
//! It takes two consumers who both wait, and a producer who puts one value, finds the buffer
//! full for the second and joins the queue behind the second consumer. The queue is first
//! come, first served under loom and in any order under shuttle.
//!
//! Right with a condition variable for each kind (or, at the price of many useless wake-ups,
//! with `notify_all`).

use selvedge_core::platform::{Condvar, Mutex, Platform};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::race::{observe, race};
use crate::registry::{Expect, Scenario, explorer, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "bounded-buffer-notify-one",
    ticket: "classic",
    summary: "one condvar for producers and consumers, and notify_one wakes the wrong kind",
    source: concat!(
        include_str!("bounded_buffer_notify_one.rs"),
        include_str!("race.rs")
    ),
    twin: bodies!(one_for_both),
    shipped: bodies!(one_for_each),
    signature: "deadlock",
    must_reach: &["consumer-waited", "producer-waited"],
    // Not on real threads, which would hang.
    engines: &[
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// The condition variable that consumers wait on.
const FILLED: usize = 0;
/// The condition variable that producers wait on, where they have their own.
const EMPTIED: usize = 1;

fn one_for_both<P: Platform>(cx: &Cx) -> Observation {
    one_puts_two_take::<P>(cx, FILLED)
}

fn one_for_each<P: Platform>(cx: &Cx) -> Observation {
    one_puts_two_take::<P>(cx, EMPTIED)
}

fn one_puts_two_take<P: Platform>(cx: &Cx, emptied: usize) -> Observation {
    let fresh = || Buffer::<P> {
        slot: P::Mutex::new(None),
        changed: [P::Condvar::new(), P::Condvar::new()],
        emptied,
    };
    let rounds = race::<P, _, _>(cx, 3, fresh, |buffer, me| match me {
        0 => {
            buffer.put(1);
            buffer.put(2);
            0
        }
        _ => buffer.take(),
    });
    for taken in &rounds {
        match taken[1..] {
            [1, 2] | [2, 1] => {}
            _ => violation!("value-lost-or-doubled", "put 1 and 2, took {taken:?}"),
        }
    }
    observe(&rounds, |taken| {
        format!("took {} and {}", taken[1], taken[2])
    })
}

/// A buffer with room for one value.
struct Buffer<P: Platform> {
    slot: P::Mutex<Option<u32>>,
    changed: [P::Condvar; 2],
    emptied: usize,
}

impl<P: Platform> Buffer<P> {
    fn put(&self, value: u32) {
        let mut slot = self.slot.lock();
        while slot.is_some() {
            reach("producer-waited");
            slot = self.changed[self.emptied].wait(slot);
        }
        *slot = Some(value);
        self.changed[FILLED].notify_one();
    }

    fn take(&self) -> u32 {
        let mut slot = self.slot.lock();
        loop {
            match slot.take() {
                Some(value) => {
                    self.changed[self.emptied].notify_one();
                    return value;
                }
                None => {
                    reach("consumer-waited");
                    slot = self.changed[FILLED].wait(slot);
                }
            }
        }
    }
}
