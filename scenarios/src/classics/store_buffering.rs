//! Store buffering: each of two threads raises its own flag and then looks at the other's. One
//! of the two must see the other, or so it seems; yet each store may still sit in its
//! processor's buffer while the load behind it is done, and both read zero.
//!
//! Right with a sequentially consistent fence between store and load. The accesses themselves
//! stay relaxed in both variants: loom weakens a `SeqCst` access to acquire-release, and would
//! raise a false alarm where it takes a `SeqCst` fence as what it is.

use selvedge_core::platform::{Atomic, JoinHandle, Ordering, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{Expect, Scenario, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "store-buffering",
    ticket: "classic",
    summary: "store mine, load yours, no fence between: both read zero",
    source: include_str!("store_buffering.rs"),
    twin: bodies!(relaxed),
    shipped: bodies!(fenced),
    signature: "both-read-zero",
    must_reach: &["one-saw-the-other"],
    engines: &[
        native(Expect::May("processors buffer stores, x86 too")),
        loom(Expect::Finds),
        shuttle(Expect::Misses(
            "every atomic is sequentially consistent there",
        )),
    ],
};

fn relaxed<P: Platform>(cx: &Cx) -> Observation {
    cross::<P>(cx, || {})
}

fn fenced<P: Platform>(cx: &Cx) -> Observation {
    // ORDERING: SeqCst. Of two such fences one comes first, and what was stored before it is
    // seen after the other.
    cross::<P>(cx, || P::fence(Ordering::SeqCst))
}

fn cross<P: Platform>(cx: &Cx, between: fn()) -> Observation {
    let mut last = (0, 0);
    for _ in 0..cx.rounds() {
        let flags = P::Arc::new((P::AtomicU32::new(0), P::AtomicU32::new(0)));
        let theirs = flags.clone();
        let other = P::spawn(move || raise_and_look::<P>(&theirs.0, &theirs.1, between));
        let mine = raise_and_look::<P>(&flags.1, &flags.0, between);
        last = (mine, other.join());
        match last {
            (0, 0) => violation!("both-read-zero", "neither saw the other's store"),
            _ => reach("one-saw-the-other"),
        }
    }
    match cx.rounds() {
        1 => Observation::of(format!("read {} and {}", last.0, last.1)),
        _ => Observation::none(),
    }
}

fn raise_and_look<P: Platform>(mine: &P::AtomicU32, yours: &P::AtomicU32, between: fn()) -> u32 {
    // ORDERING: Relaxed, both. What lies between them is what this is about.
    mine.store(1, Ordering::Relaxed);
    between();
    yours.load(Ordering::Relaxed)
}
