//! Planted bugs that every night must find. **A night that does not is red**, whatever else it
//! says: its engines, its children or its judgement do not work.
//!
//! They are no part of the catalogue, which keeps bugs that somebody met. Each is small enough to
//! be found in a moment and hidden enough that it takes a search: with no switch between tasks at
//! just the right steps all is well.

use selvedge_core::platform::{Atomic, AtomicInt, JoinHandle, Ordering, Platform, Shared};
use selvedge_models::body;
use selvedge_models::ticket::{Boundary, TicketModel};
use selvedge_sim::{Bodies, Cx, Observation, bodies, reach, violation};

use crate::Scenario;
use crate::registry::{Expect, explorer, loom, shuttle, stateright};

/// All of them. Their shipped bodies are the same without the bug: for drills.
pub const ALL: &[&Scenario] = &[&COUNT, &MODEL_CANARY];

/// For the engines that run threads. Not for real ones, to which a lost count is luck.
static COUNT: Scenario = Scenario {
    id: "canary",
    ticket: "planted",
    summary: "two threads count twice, each by a load and a store: two of the four are lost",
    source: include_str!("canary.rs"),
    twin: bodies!(both_count, LoadsAndStores),
    shipped: bodies!(both_count, Adds),
    signature: "counts-lost",
    must_reach: &["counted"],
    engines: &[
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

static MODEL_CANARY: Scenario = MODEL;

/// For the engine that searches models.
pub(crate) const MODEL: Scenario = Scenario {
    id: "canary-model",
    ticket: "planted",
    summary: "two ranks with uneven loaders, and alpha told by nobody",
    source: include_str!("canary.rs"),
    twin: Bodies::of_model(body!(loaders([1, 2]), Shortest)),
    shipped: Bodies::of_model(body!(loaders([2, 2]), Lean)),
    signature: "no-mix",
    must_reach: &[],
    engines: &[stateright(Expect::Finds)],
};

/// Something that two threads count on.
trait Counter: Send + Sync + 'static {
    fn new() -> Self;
    fn count(&self);
    fn counted(&self) -> u32;
}

fn both_count<P: Platform, C: Counter>(_: &Cx) -> Observation {
    let ours = P::Arc::new(C::new());
    let theirs = ours.clone();
    let other = P::spawn(move || {
        theirs.count();
        theirs.count();
    });
    ours.count();
    ours.count();
    other.join();
    reach("counted");
    // One is lost in many orders; both of the other's, only where all it does comes between a load
    // and its store.
    match ours.counted() {
        counted @ 3.. => Observation::of(counted.to_string()),
        few => violation!("counts-lost", "four were counted, and there are {few}"),
    }
}

struct LoadsAndStores<P: Platform>(P::AtomicU32);

impl<P: Platform> Counter for LoadsAndStores<P> {
    fn new() -> Self {
        LoadsAndStores(P::AtomicU32::new(0))
    }

    fn count(&self) {
        // ORDERING: SeqCst. The bug is no matter of memory.
        let counted = self.0.load(Ordering::SeqCst);
        self.0.store(counted + 1, Ordering::SeqCst);
    }

    fn counted(&self) -> u32 {
        // ORDERING: SeqCst, as above.
        self.0.load(Ordering::SeqCst)
    }
}

struct Adds<P: Platform>(P::AtomicU32);

impl<P: Platform> Counter for Adds<P> {
    fn new() -> Self {
        Adds(P::AtomicU32::new(0))
    }

    fn count(&self) {
        // ORDERING: SeqCst, as in the bug.
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn counted(&self) -> u32 {
        // ORDERING: SeqCst, as above.
        self.0.load(Ordering::SeqCst)
    }
}

fn loaders(batches: [u8; 2]) -> TicketModel {
    TicketModel {
        boundary: Boundary::Nothing,
        batches: batches.to_vec(),
        epochs: 2,
    }
}
