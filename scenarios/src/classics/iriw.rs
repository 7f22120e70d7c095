//! Independent reads of independent writes: two threads write one cell each, two others read
//! both cells, in opposite order. If one reader sees only the first write and the other only
//! the second, they disagree on which came first. Relaxed accesses allow that; so do acquire
//! and release, which order each writer with its readers but not the writers with each other.
//!
//! Right with a sequentially consistent fence between the two reads. The main thread is one of
//! the readers, so that loom has four threads to order and not five.

use selvedge_core::platform::{Atomic, JoinHandle, Ordering, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{Expect, Scenario, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "iriw",
    ticket: "classic",
    summary: "two readers disagree on which of two independent writes came first",
    source: include_str!("iriw.rs"),
    twin: bodies!(unfenced),
    shipped: bodies!(fenced),
    signature: "readers-disagree",
    must_reach: &["saw-only-one"],
    engines: &[
        native(ON_THIS_MACHINE),
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

fn unfenced<P: Platform>(cx: &Cx) -> Observation {
    read_both::<P>(cx, || {})
}

fn fenced<P: Platform>(cx: &Cx) -> Observation {
    // ORDERING: SeqCst. Of the two readers' fences one comes first, and what was seen before it
    // is seen after the other.
    read_both::<P>(cx, || P::fence(Ordering::SeqCst))
}

fn read_both<P: Platform>(cx: &Cx, between: fn()) -> Observation {
    let mut last = ((0, 0), (0, 0));
    for _ in 0..cx.rounds() {
        let cells = P::Arc::new((P::AtomicU32::new(0), P::AtomicU32::new(0)));
        let reader = cells.clone();
        let reader = P::spawn(move || in_order::<P>(&reader.0, &reader.1, between));
        let (one, two) = (cells.clone(), cells.clone());
        // ORDERING: Release, both, for the acquiring reads. It does not order them with each
        // other.
        let one = P::spawn(move || one.0.store(1, Ordering::Release));
        let two = P::spawn(move || two.1.store(1, Ordering::Release));
        let mine = in_order::<P>(&cells.1, &cells.0, between);
        last = (reader.join(), mine);
        one.join();
        two.join();
        if last == ((1, 0), (1, 0)) {
            violation!("readers-disagree", "each says that its own cell came first");
        }
        if last.0 == (1, 0) || last.1 == (1, 0) {
            reach("saw-only-one");
        }
    }
    match cx.rounds() {
        1 => Observation::of(format!("read {:?} and {:?}", last.0, last.1)),
        _ => Observation::none(),
    }
}

fn in_order<P: Platform>(
    first: &P::AtomicU32,
    second: &P::AtomicU32,
    between: fn(),
) -> (u32, u32) {
    // ORDERING: Acquire, both, as strong as it gets without the fence between them.
    let seen = first.load(Ordering::Acquire);
    between();
    (seen, second.load(Ordering::Acquire))
}
