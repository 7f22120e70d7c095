//! Ticket B2-DRL-09, as it is repaired at first sight: the entries of all workers in one map, so
//! that a reset reaches them all. Nothing stale is read any more; but a worker that ends leaves
//! its entry, and who comes after it is another worker with an entry of its own. The memory now
//! really grows, where thread-local storage at least ended with its thread.
//!
//! Two workers have a tensor each; one leaves and another comes while an epoch begins. There must
//! never be more entries than workers.
//!
//! What ships leaves a value with its worker, and counts what there is by place.

use std::collections::BTreeMap;

use selvedge_core::platform::{Mutex, Platform};
use selvedge_sim::bodies;

use super::alpha_workers::{Alphas, Shipped, workers_come_and_go};
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "alpha-cache-left-behind",
    ticket: "B2-DRL-09",
    summary: "entries of all workers in one map: the dead leave theirs",
    source: concat!(
        include_str!("alpha_cache_left_behind.rs"),
        include_str!("alpha_workers.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(workers_come_and_go, OneMap),
    shipped: bodies!(workers_come_and_go, Shipped),
    signature: "entries-above-workers",
    must_reach: &["before", "after"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// The first repair.
struct OneMap<P: Platform> {
    all: P::Mutex<All>,
}

#[derive(Default)]
struct All {
    entries: BTreeMap<u32, u64>,
    /// Workers that are there, and that ever were.
    workers: [u32; 2],
}

struct InMap<P: Platform> {
    of: P::Arc<OneMap<P>>,
    number: u32,
}

impl<P: Platform> Drop for InMap<P> {
    fn drop(&mut self) {
        self.of.all.lock().workers[0] -= 1;
    }
}

impl<P: Platform> Alphas<P> for OneMap<P> {
    type Worker = InMap<P>;

    fn new() -> Self {
        OneMap {
            all: P::Mutex::new(All::default()),
        }
    }

    fn join(this: &P::Arc<Self>) -> InMap<P> {
        let number = {
            let mut all = this.all.lock();
            all.workers = all.workers.map(|workers| workers + 1);
            all.workers[1]
        };
        InMap {
            of: this.clone(),
            number,
        }
    }

    fn look(worker: &mut InMap<P>, make: impl FnOnce() -> u64) -> u64 {
        let known = worker.of.all.lock().entries.get(&worker.number).copied();
        known.unwrap_or_else(|| {
            let made = make();
            worker.of.all.lock().entries.insert(worker.number, made);
            made
        })
    }

    fn advance(&self, _: &mut InMap<P>, _: u64) {
        self.all.lock().entries.clear();
    }

    fn census(&self) -> [u32; 2] {
        let all = self.all.lock();
        let entries = u32::try_from(all.entries.len()).unwrap_or(u32::MAX);
        [entries, all.workers[0]]
    }
}
