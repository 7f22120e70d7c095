//! The origin's memory report: used bytes and available bytes were each read under the pool's
//! lock, one after the other. An allocation in between was counted in neither or in both, and
//! the origin's own test, which adds the two up, was flaky for it.
//!
//! One thread takes a block and gives it back; another reads the report. Used and available
//! must add up to the total, whenever it reads.
//!
//! Both variants use the pool that ships: two snapshots for one report bring the bug back.

use selvedge_core::platform::{Atomic, JoinHandle, Ordering, Platform, Shared};
use selvedge_core::{BlockPool, LayerId, ModelCacheSpec};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-TORN-MEM",
    ticket: "agent-memory, used_memory and available_memory",
    summary: "used and available read under two holds of the lock: they do not add up",
    source: include_str!("torn_mem.rs"),
    twin: bodies!(two_reads),
    shipped: bodies!(one_snapshot),
    signature: "torn-report",
    must_reach: &["saw-unused", "saw-used"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: u32 = 2;
/// In which rounds to let the other thread in on purpose: in the only one under a checker, in
/// few on real threads, where on a busy machine each costs a time slice.
const YIELD_EVERY: u32 = 50;

struct Report {
    used: u64,
    available: u64,
    total: u64,
}

/// As reported: each number is right at its own moment.
fn two_reads<P: Platform>(cx: &Cx) -> Observation {
    read_while_another_allocates::<P>(cx, |pool| Report {
        used: pool.snapshot().used_bytes(),
        available: pool.snapshot().available_bytes(),
        total: pool.snapshot().total_bytes(),
    })
}

/// The code that ships: one moment for all.
fn one_snapshot<P: Platform>(cx: &Cx) -> Observation {
    read_while_another_allocates::<P>(cx, |pool| {
        let snapshot = pool.snapshot();
        Report {
            used: snapshot.used_bytes(),
            available: snapshot.available_bytes(),
            total: snapshot.total_bytes(),
        }
    })
}

fn read_while_another_allocates<P: Platform>(
    cx: &Cx,
    read: fn(&BlockPool<P>) -> Report,
) -> Observation {
    let spec = ModelCacheSpec::new(1, 1, 8, 16).expect("INVARIANT: no size is zero");
    let pool: BlockPool<P> = BlockPool::new(spec, BLOCKS).expect("INVARIANT: there are blocks");
    let agent = pool.agent("a").expect("INVARIANT: it has a name");
    let shared = P::Arc::new((pool, P::AtomicBool::new(false)));
    let theirs = shared.clone();
    let rounds = cx.rounds();
    // A checker, with its one round, orders the threads by itself; real ones have to wait for
    // each other, or the first is done before the second begins.
    let meet = rounds > 1;
    let worker = P::spawn(move || {
        let (pool, begun) = &*theirs;
        if meet {
            // ORDERING: Relaxed. It is about time only.
            begun.store(true, Ordering::Relaxed);
        }
        for round in 0..rounds {
            let lease = pool.allocate(1, LayerId(0), agent);
            if round % YIELD_EVERY == 0 {
                P::yield_now();
            }
            if let Err(refused) = lease {
                violation!("refused", "{refused}");
            }
        }
    });
    let (pool, begun) = &*shared;
    // ORDERING: Relaxed, as above.
    while meet && !begun.load(Ordering::Relaxed) {
        P::yield_now();
    }
    let mut used = 0;
    for round in 0..rounds {
        let report = read(pool);
        used = report.used;
        check(&report);
        if round % YIELD_EVERY == 0 {
            P::yield_now();
        }
    }
    worker.join();
    let last = read(pool);
    check(&last);
    if last.used != 0 {
        violation!("lost-block", "{} bytes are still used", last.used);
    }
    match rounds {
        1 => Observation::of(format!("{used} bytes used")),
        _ => Observation::none(),
    }
}

fn check(report: &Report) {
    let Report {
        used,
        available,
        total,
    } = *report;
    if used + available != total {
        violation!(
            "torn-report",
            "{used} used + {available} available != {total}"
        );
    }
    reach(if used == 0 { "saw-unused" } else { "saw-used" });
}
