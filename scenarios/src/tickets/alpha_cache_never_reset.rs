//! Ticket B2-DRL-09: each thread's tensor of alpha stood in thread-local storage. `reset_cache`
//! let go of the calling thread's alone, so whoever called it at an epoch's boundary, on the
//! thread of the training loop, reached no worker; and nobody did call it. The cache on the
//! forward path, with the same flaw, compared device and type and not the alpha.
//!
//! Two workers have a tensor each. An epoch begins on the thread of one of them; the other is
//! told, and looks. It must not find what is of the old epoch.
//!
//! What ships counts epochs where every worker looks.

use selvedge_core::platform::{Mutex, Platform};
use selvedge_sim::bodies;

use super::alpha_workers::{Alphas, Shipped, workers_come_and_go};
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "alpha-cache-never-reset",
    ticket: "B2-DRL-09",
    summary: "a reset reaches the calling thread's entry and no other",
    source: concat!(
        include_str!("alpha_cache_never_reset.rs"),
        include_str!("alpha_workers.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(workers_come_and_go, ResetsOwn),
    shipped: bodies!(workers_come_and_go, Shipped),
    signature: "stale-alpha",
    must_reach: &["before", "after"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// As reported.
struct ResetsOwn<P: Platform> {
    /// Live entries and live workers.
    census: P::Mutex<[u32; 2]>,
}

/// A thread's storage; freed when the thread ends.
struct Local<P: Platform> {
    of: P::Arc<ResetsOwn<P>>,
    entry: Option<u64>,
}

impl<P: Platform> Local<P> {
    fn set(&mut self, entry: Option<u64>) {
        let had = u32::from(self.entry.is_some());
        let has = u32::from(entry.is_some());
        self.entry = entry;
        let mut census = self.of.census.lock();
        census[0] = census[0] + has - had;
    }
}

impl<P: Platform> Drop for Local<P> {
    fn drop(&mut self) {
        self.set(None);
        self.of.census.lock()[1] -= 1;
    }
}

impl<P: Platform> Alphas<P> for ResetsOwn<P> {
    type Worker = Local<P>;

    fn new() -> Self {
        ResetsOwn {
            census: P::Mutex::new([0, 0]),
        }
    }

    fn join(this: &P::Arc<Self>) -> Local<P> {
        this.census.lock()[1] += 1;
        Local {
            of: this.clone(),
            entry: None,
        }
    }

    fn look(worker: &mut Local<P>, make: impl FnOnce() -> u64) -> u64 {
        worker.entry.unwrap_or_else(|| {
            let made = make();
            worker.set(Some(made));
            made
        })
    }

    fn advance(&self, caller: &mut Local<P>, _: u64) {
        caller.set(None);
    }

    fn census(&self) -> [u32; 2] {
        *self.census.lock()
    }
}
