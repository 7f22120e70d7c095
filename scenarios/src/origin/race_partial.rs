//! The origin's review, "partial allocation": a request needs blocks of every layer. The code
//! asked how many are available, found them enough, and then took them one by one. Another
//! thread took some in between; the last step failed, and what the first steps had taken was
//! kept by nobody: half a cache, leaked. The repair made each layer atomic, never all of them.
//!
//! Two threads each want a block in both of two layers, out of three blocks. Whoever is
//! refused must hold nothing.
//!
//! Both variants use the pool that ships. The bug is in the sequence of calls, and
//! `allocate_layers` is the call that needs no sequence.

use selvedge_core::platform::{JoinHandle, Platform, Shared};
use selvedge_core::pool::AllocateError;
use selvedge_core::{AgentId, BlockLease, BlockPool, BlockRef, LayerId, ModelCacheSpec};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-RACE-PARTIAL",
    ticket: "agent-memory review #8/#10",
    summary: "availability checked, then taken layer by layer: half a cache is kept",
    source: include_str!("race_partial.rs"),
    twin: bodies!(layer_by_layer),
    shipped: bodies!(all_layers_at_once),
    signature: "partial-allocation",
    must_reach: &["granted", "refused"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: u32 = 3;
/// In which rounds to let the other thread in on purpose: in the only one under a checker, in
/// few on real threads, where on a busy machine each costs a time slice.
const YIELD_EVERY: u32 = 50;
const LAYERS: [LayerId; 2] = [LayerId(0), LayerId(1)];

type Allocate<P> = fn(&BlockPool<P>, AgentId) -> Result<Vec<BlockRef>, AllocateError>;

/// As reported: the check and each layer are atomic, the whole is not.
fn layer_by_layer<P: Platform>(cx: &Cx) -> Observation {
    two_want_both_layers::<P>(cx, |pool, agent| {
        let available = pool.snapshot().available;
        let requested = LAYERS.len() as u32;
        if available < requested {
            return Err(AllocateError::Exhausted {
                requested,
                available,
                total: BLOCKS,
            });
        }
        let mut blocks = Vec::new();
        for layer in LAYERS {
            // The error takes the handles collected so far with it, but not their blocks.
            blocks.extend(pool.allocate(1, layer, agent)?.persist());
        }
        Ok(blocks)
    })
}

/// The code that ships.
fn all_layers_at_once<P: Platform>(cx: &Cx) -> Observation {
    two_want_both_layers::<P>(cx, |pool, agent| {
        (pool.allocate_layers(&LAYERS.map(|layer| (layer, 1)), agent)).map(BlockLease::persist)
    })
}

fn two_want_both_layers<P: Platform>(cx: &Cx, allocate: Allocate<P>) -> Observation {
    let spec = ModelCacheSpec::new(2, 1, 8, 16).expect("INVARIANT: no size is zero");
    let pool: BlockPool<P> = BlockPool::new(spec, BLOCKS).expect("INVARIANT: there are blocks");
    let pool = P::Arc::new(pool);
    let threads = ["a", "b"].map(|name| {
        let pool = pool.clone();
        let rounds = cx.rounds();
        P::spawn(move || {
            let agent = pool.agent(name).expect("INVARIANT: it has a name");
            (0..rounds)
                .filter(|round| use_both(&pool, agent, name, allocate, round % YIELD_EVERY == 0))
                .count()
        })
    });
    let granted = threads.map(JoinHandle::join);
    match pool.audit() {
        Ok(snapshot) if snapshot.available == BLOCKS => {}
        Ok(snapshot) => violation!("lost-block", "{snapshot:?}"),
        Err(violated) => violation!(violated.property, "{violated}"),
    }
    match cx.rounds() {
        1 => Observation::of(format!("granted {granted:?}")),
        _ => Observation::none(),
    }
}

/// Whether it was granted. With `pause` the other thread is let in while it is used.
fn use_both<P: Platform>(
    pool: &BlockPool<P>,
    agent: AgentId,
    name: &str,
    allocate: Allocate<P>,
    pause: bool,
) -> bool {
    let result = allocate(pool, agent);
    // Only this thread allocates for this agent, so nothing moves under the count.
    let uses = pool.snapshot().agents;
    let held = (uses.iter().find(|of| of.name == name)).map_or(0, |of| of.blocks as usize);
    match result {
        Ok(blocks) => {
            reach("granted");
            if held != LAYERS.len() {
                violation!("wrong-count", "granted, and holds {held} blocks");
            }
            if pause {
                P::yield_now();
            }
            if let Err(refused) = pool.free(agent, &blocks) {
                violation!("free-refused", "{refused}");
            }
            true
        }
        Err(AllocateError::Exhausted { .. }) => {
            reach("refused");
            if held != 0 {
                violation!("partial-allocation", "refused, and holds {held} blocks");
            }
            false
        }
        Err(other) => violation!("wrong-error", "{other}"),
    }
}
