//! sglang PR 16067: a request needs a slot for its state and blocks for its cache. The
//! scheduler took the slot, asked for blocks, was refused, and put the request back into the
//! queue; the slot it had taken stayed taken. Each such failure cost a slot, until none was
//! left.
//!
//! Two threads each want a slot of two and the only block. Whoever is refused the block must
//! not keep the slot.
//!
//! Both variants use the pool that ships, once for slots and once for blocks. They differ in
//! when the slot's lease is given up for bare handles: a lease that `?` drops gives back what
//! it holds, handles do not.

use selvedge_core::platform::{JoinHandle, Platform, Shared};
use selvedge_core::pool::AllocateError;
use selvedge_core::{AgentId, BlockPool, BlockRef, LayerId, ModelCacheSpec};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "two-resources-one-leaks",
    ticket: "sglang PR 16067",
    summary: "slot taken, blocks refused: the slot is kept",
    source: include_str!("two_resources_one_leaks.rs"),
    twin: bodies!(bare_handles),
    shipped: bodies!(leases),
    signature: "slot-leaked",
    must_reach: &["admitted", "refused"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const SLOTS: u32 = 2;
const BLOCKS: u32 = 1;
/// In which rounds to let the other thread in on purpose: in the only one under a checker, in
/// few on real threads, where on a busy machine each costs a time slice.
const YIELD_EVERY: u32 = 50;

struct Server<P: Platform> {
    slots: BlockPool<P>,
    blocks: BlockPool<P>,
}

/// What a request holds while it runs.
struct Admitted {
    slot: Vec<BlockRef>,
    blocks: Vec<BlockRef>,
}

type Admit<P> =
    fn(&Server<P>, slot_of: AgentId, blocks_of: AgentId) -> Result<Admitted, AllocateError>;

/// As reported.
fn bare_handles<P: Platform>(cx: &Cx) -> Observation {
    two_requests::<P>(cx, |server, slot_of, blocks_of| {
        let slot = server.slots.allocate(1, LayerId(0), slot_of)?.persist();
        let blocks = (server.blocks.allocate(1, LayerId(0), blocks_of)?).persist();
        Ok(Admitted { slot, blocks })
    })
}

/// The code that ships.
fn leases<P: Platform>(cx: &Cx) -> Observation {
    two_requests::<P>(cx, |server, slot_of, blocks_of| {
        let slot = server.slots.allocate(1, LayerId(0), slot_of)?;
        let blocks = server.blocks.allocate(1, LayerId(0), blocks_of)?;
        Ok(Admitted {
            slot: slot.persist(),
            blocks: blocks.persist(),
        })
    })
}

fn two_requests<P: Platform>(cx: &Cx, admit: Admit<P>) -> Observation {
    let spec = ModelCacheSpec::new(1, 1, 8, 16).expect("INVARIANT: no size is zero");
    let pool = |n| BlockPool::new(spec.clone(), n).expect("INVARIANT: there are blocks");
    let server: P::Arc<Server<P>> = P::Arc::new(Server {
        slots: pool(SLOTS),
        blocks: pool(BLOCKS),
    });
    let threads = ["a", "b"].map(|name| {
        let server = server.clone();
        let rounds = cx.rounds();
        let register = |pool: &BlockPool<P>| pool.agent(name).expect("INVARIANT: it has a name");
        let (slot_of, blocks_of) = (register(&server.slots), register(&server.blocks));
        P::spawn(move || {
            let mut admitted = 0;
            for round in 0..rounds {
                match admit(&server, slot_of, blocks_of) {
                    Ok(request) => {
                        reach("admitted");
                        admitted += 1;
                        if round % YIELD_EVERY == 0 {
                            P::yield_now();
                        }
                        give_back(&server.blocks, blocks_of, &request.blocks);
                        give_back(&server.slots, slot_of, &request.slot);
                    }
                    Err(AllocateError::Exhausted { .. }) => reach("refused"),
                    Err(other) => violation!("wrong-error", "{other}"),
                }
            }
            admitted
        })
    });
    let admitted: [u32; 2] = threads.map(JoinHandle::join);
    check_all_back("slot-leaked", &server.slots, SLOTS);
    check_all_back("block-leaked", &server.blocks, BLOCKS);
    match cx.rounds() {
        1 => Observation::of(format!("admitted {admitted:?}")),
        _ => Observation::none(),
    }
}

fn give_back<P: Platform>(pool: &BlockPool<P>, agent: AgentId, handles: &[BlockRef]) {
    if let Err(refused) = pool.free(agent, handles) {
        violation!("free-refused", "{refused}");
    }
}

fn check_all_back<P: Platform>(signature: &str, pool: &BlockPool<P>, total: u32) {
    match pool.audit() {
        Ok(snapshot) if snapshot.available == total => {}
        Ok(snapshot) => violation!(signature, "{} of {total} came back", snapshot.available),
        Err(violated) => violation!(violated.property, "{violated}"),
    }
}
