//! Independent reads of independent writes: two threads write one cell each, two others read
//! both cells, in opposite order. If one reader sees only the first write and the other only
//! the second, they disagree on which came first. Relaxed accesses allow that; so do acquire
//! and release, which order each writer with its readers but not the writers with each other.
//!
//! Right with a sequentially consistent fence between the two reads. The main thread is one of
//! the readers, so that loom has four threads to order and not five.

use selvedge_core::platform::{Atomic, Ordering, Platform};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::race::{observe, race};
use crate::registry::{Expect, SC_ONLY, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "iriw",
    ticket: "classic",
    summary: "two readers disagree on which of two independent writes came first",
    source: concat!(include_str!("iriw.rs"), include_str!("race.rs")),
    twin: bodies!(unfenced),
    shipped: bodies!(fenced),
    signature: "readers-disagree",
    must_reach: &["saw-only-one"],
    engines: &[
        native(ON_THIS_MACHINE),
        explorer(SC_ONLY),
        loom(Expect::Finds),
        shuttle(Expect::Misses(
            "every atomic is sequentially consistent there",
        )),
    ],
};

const ON_THIS_MACHINE: Expect = match cfg!(target_arch = "x86_64") {
    true => Expect::Misses("x86 shows a store to all other processors at once"),
    false => Expect::May("C11 allows it, and some processors do it"),
};

/// What a reader says, who looks at its own cell first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    OnlyMine,
    Both,
}

fn unfenced<P: Platform>(cx: &Cx) -> Observation {
    read_both::<P>(cx, || {})
}

fn fenced<P: Platform>(cx: &Cx) -> Observation {
    // ORDERING: SeqCst. Of the two readers' fences one comes first, and what was seen before it
    // is seen after the other.
    read_both::<P>(cx, || P::fence(Ordering::SeqCst))
}

fn read_both<P: Platform>(cx: &Cx, between: fn()) -> Observation {
    let fresh = || [P::AtomicU32::new(0), P::AtomicU32::new(0)];
    let rounds = race::<P, _, _>(cx, 4, fresh, move |cells, me| match me {
        0 | 1 => {
            // ORDERING: Acquire, both, as strong as it gets without the fence between them.
            if cells[me].load(Ordering::Acquire) == 0 {
                return Seen::Nothing;
            }
            between();
            match cells[1 - me].load(Ordering::Acquire) {
                0 => Seen::OnlyMine,
                _ => Seen::Both,
            }
        }
        _ => {
            // ORDERING: Release, for the acquiring loads. It does not order the two stores
            // with each other.
            cells[me - 2].store(1, Ordering::Release);
            Seen::Nothing
        }
    });
    for read in &rounds {
        if read[..2] == [Seen::OnlyMine; 2] {
            violation!("readers-disagree", "each says that its own cell came first");
        }
        if read[..2].contains(&Seen::OnlyMine) {
            reach("saw-only-one");
        }
    }
    observe(&rounds, |read| format!("{:?} and {:?}", read[0], read[1]))
}
