//! Message passing: one thread writes a message and raises a flag, the other sees the flag and
//! reads the message. Right with release and acquire; with relaxed accesses the message may
//! not be there yet.
//!
//! Only loom models that. Shuttle takes every access as sequentially consistent, and an x86
//! machine keeps stores in order.

use selvedge_core::platform::{Atomic, Ordering, Platform};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::race::{observe, race};
use crate::registry::{Expect, SC_ONLY, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "message-passing",
    ticket: "classic",
    summary: "flag raised with a relaxed store: the message may not be there yet",
    source: concat!(include_str!("message_passing.rs"), include_str!("race.rs")),
    twin: bodies!(relaxed),
    shipped: bodies!(release_acquire),
    signature: "message-missing",
    must_reach: &["flag-seen"],
    engines: &[
        native(Expect::May("x86 keeps stores in order, ARM does not")),
        explorer(SC_ONLY),
        loom(Expect::Finds),
        shuttle(Expect::Misses(
            "every atomic is sequentially consistent there",
        )),
    ],
};

fn relaxed<P: Platform>(cx: &Cx) -> Observation {
    judge(&pass::<P>(cx, Ordering::Relaxed, Ordering::Relaxed))
}

fn release_acquire<P: Platform>(cx: &Cx) -> Observation {
    judge(&pass::<P>(cx, Ordering::Release, Ordering::Acquire))
}

fn judge(rounds: &[Round]) -> Observation {
    for read in rounds {
        match read[1] {
            (1, 42) => reach("flag-seen"),
            (1, message) => violation!(
                "message-missing",
                "the flag is up, the message is {message}"
            ),
            _ => {}
        }
    }
    tell(rounds)
}

/// What sender and receiver came to in one round: flag and message, as the receiver read them.
pub(super) type Round = Vec<(u32, u32)>;

/// The receiver's words.
pub(super) fn tell(rounds: &[Round]) -> Observation {
    observe(rounds, |read| {
        let (flag, message) = read[1];
        format!("flag {flag}, message {message}")
    })
}

/// One message passed, whatever becomes of it.
pub(super) fn pass<P: Platform>(cx: &Cx, publish: Ordering, observe_by: Ordering) -> Vec<Round> {
    let fresh = || (P::AtomicU32::new(0), P::AtomicU32::new(0));
    race::<P, _, _>(cx, 2, fresh, move |(message, flag), me| {
        if me == 0 {
            // ORDERING: Relaxed. The flag's store is what publishes the message, or fails to.
            message.store(42, Ordering::Relaxed);
            flag.store(1, publish);
            return (0, 0);
        }
        let seen = flag.load(observe_by);
        // ORDERING: Relaxed. Seeing the flag is what orders it, or fails to.
        (seen, message.load(Ordering::Relaxed))
    })
}
