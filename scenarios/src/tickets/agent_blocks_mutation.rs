//! Ticket SPRINT-2.5, issues 2 and 3: an agent's blocks could be changed in place, by
//! `add_block` and `remove_block`, without a lock and without looking at the whole again. Each
//! list operation was safe by itself; the blocks of every layer and the total of tokens were
//! changed one after the other. A second thread in between lost an update of the total, and a
//! reader in between saw layers that disagree.
//!
//! Two threads make a cache of two layers longer and shorter by a block; after each of its
//! changes one of them reads. Every layer must hold as many tokens as the total says.
//!
//! What ships has no way to change a cache: `AgentBlocks` is built from a lease, checked once,
//! and swapped as a whole. That `add_block` does not compile is shown where it is defined.

use selvedge_core::platform::{Atomic, JoinHandle, Mutex, Ordering, Platform, Shared};
use selvedge_core::{AgentBlocks, BlockLease, BlockPool, KvBlock, LayerId, ModelCacheSpec};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "agent-blocks-mutation",
    ticket: "SPRINT-2.5 #2, #3",
    summary: "an agent's blocks changed in place, unlocked and unvalidated",
    source: include_str!("agent_blocks_mutation.rs"),
    twin: bodies!(longer_and_shorter, InPlace),
    shipped: bodies!(longer_and_shorter, Replaced),
    signature: "token-sum-differs",
    must_reach: &["read-shorter", "read-level"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const LAYERS: usize = 2;
const TOKENS_PER_BLOCK: u32 = 4;
const BLOCKS_AT_FIRST: u32 = 2;
/// In which rounds to let the other thread in on purpose: in the only one under a checker, in
/// few on real threads, where on a busy machine each costs a time slice.
const YIELD_EVERY: u32 = 50;

/// A cache of whole blocks, each with a block more or less in every layer.
trait Cache: Send + Sync + 'static {
    fn new() -> Self;
    fn lengthen(&self);
    fn shorten(&self);
    fn read(&self) -> Reading;
}

#[derive(Debug)]
struct Reading {
    tokens_of_layers: [u64; LAYERS],
    total: u64,
}

fn longer_and_shorter<P: Platform, T: Cache>(cx: &Cx) -> Observation {
    let cache = P::Arc::new(T::new());
    let theirs = cache.clone();
    let rounds = cx.rounds();
    let other = P::spawn(move || {
        for round in 0..rounds {
            change(&*theirs, round % 2 == 0);
            if round % YIELD_EVERY == 0 {
                P::yield_now();
            }
        }
    });
    let mut seen = 0;
    for round in 0..rounds {
        change(&*cache, round % 2 == 1);
        seen = check(&cache.read());
        if round % YIELD_EVERY == 0 {
            P::yield_now();
        }
    }
    other.join();
    let left = check(&cache.read());
    match rounds {
        1 => Observation::of(format!("{seen} tokens in between, {left} in the end")),
        _ => Observation::none(),
    }
}

fn change(cache: &impl Cache, longer: bool) {
    match longer {
        true => cache.lengthen(),
        false => cache.shorten(),
    }
}

fn check(reading: &Reading) -> u64 {
    let total = reading.total;
    if reading.tokens_of_layers.iter().any(|&held| held != total) {
        violation!("token-sum-differs", "{reading:?}");
    }
    match total < u64::from(BLOCKS_AT_FIRST * TOKENS_PER_BLOCK) {
        true => reach("read-shorter"),
        false => reach("read-level"),
    }
    total
}

/// As reported: the parts are changed one after the other.
struct InPlace<P: Platform> {
    layers: [P::Mutex<Vec<u32>>; LAYERS],
    total: P::AtomicU64,
}

impl<P: Platform> InPlace<P> {
    fn set_total(&self, change: impl FnOnce(u64) -> u64) {
        // ORDERING: Relaxed. The interpreter made each access atomic and nothing more; what
        // is wrong is that another thread fits between the two, and no ordering mends that.
        let total = self.total.load(Ordering::Relaxed);
        self.total.store(change(total), Ordering::Relaxed);
    }
}

impl<P: Platform> Cache for InPlace<P> {
    fn new() -> Self {
        let blocks = || P::Mutex::new(vec![TOKENS_PER_BLOCK; BLOCKS_AT_FIRST as usize]);
        InPlace {
            layers: [blocks(), blocks()],
            total: P::AtomicU64::new((BLOCKS_AT_FIRST * TOKENS_PER_BLOCK).into()),
        }
    }

    fn lengthen(&self) {
        for layer in &self.layers {
            layer.lock().push(TOKENS_PER_BLOCK);
        }
        self.set_total(|total| total + u64::from(TOKENS_PER_BLOCK));
    }

    fn shorten(&self) {
        for layer in &self.layers {
            layer.lock().pop();
        }
        self.set_total(|total| total.saturating_sub(TOKENS_PER_BLOCK.into()));
    }

    fn read(&self) -> Reading {
        Reading {
            tokens_of_layers: [0, 1].map(|layer: usize| {
                let blocks = self.layers[layer].lock();
                blocks.iter().map(|&tokens| u64::from(tokens)).sum()
            }),
            // ORDERING: Relaxed, as in `set_total`.
            total: self.total.load(Ordering::Relaxed),
        }
    }
}

/// The code that ships: a cache is replaced as a whole, under the lock of its place.
struct Replaced<P: Platform> {
    spec: ModelCacheSpec,
    /// `None` only while it is being replaced.
    cache: P::Mutex<Option<AgentBlocks<'static, Vec<f32>, P>>>,
}

impl<P: Platform> Replaced<P> {
    fn replace(&self, change: impl FnOnce(u32) -> u32) {
        let mut place = self.cache.lock();
        let old = place.take().expect("INVARIANT: put back below");
        let blocks = change(old.blocks_for_layer(LayerId(0)).len() as u32);
        let (mut lease, filled) = old.into_parts();
        // The payloads go before their blocks do.
        drop(filled);
        if let Err(refused) = lease.exchange(&needs(blocks)) {
            violation!("exchange-refused", "{refused}");
        }
        *place = Some(fill(&self.spec, lease, blocks));
    }
}

fn needs(blocks: u32) -> [(LayerId, u32); LAYERS] {
    [(LayerId(0), blocks), (LayerId(1), blocks)]
}

fn fill<P: Platform>(
    spec: &ModelCacheSpec,
    lease: BlockLease<'static, P>,
    blocks: u32,
) -> AgentBlocks<'static, Vec<f32>, P> {
    let tokens = TOKENS_PER_BLOCK;
    let filled = (lease.blocks().iter())
        .map(|&block| KvBlock::new(spec, block, tokens, vec![0.5; tokens as usize]))
        .collect::<Result<_, _>>()
        .expect("INVARIANT: a block holds a block's tokens");
    AgentBlocks::new(spec, lease, filled, vec![7; (blocks * tokens) as usize])
        .expect("INVARIANT: every layer has the same number of full blocks")
}

impl<P: Platform> Cache for Replaced<P> {
    fn new() -> Self {
        let spec = ModelCacheSpec::new(LAYERS as u32, 1, 8, TOKENS_PER_BLOCK)
            .expect("INVARIANT: no size is zero");
        // Room for one block more than at first, in each layer.
        let total = LAYERS as u32 * (BLOCKS_AT_FIRST + 1);
        let pool = BlockPool::new(spec.clone(), total).expect("INVARIANT: there are blocks");
        let pool: P::Arc<BlockPool<P>> = P::Arc::new(pool);
        let agent = pool.agent("a").expect("INVARIANT: it has a name");
        let lease = (pool.allocate_layers(&needs(BLOCKS_AT_FIRST), agent))
            .expect("INVARIANT: the pool is empty yet")
            .into_shared(&pool)
            .expect("INVARIANT: it is the same pool");
        Replaced {
            cache: P::Mutex::new(Some(fill(&spec, lease, BLOCKS_AT_FIRST))),
            spec,
        }
    }

    fn lengthen(&self) {
        self.replace(|blocks| blocks + 1);
    }

    fn shorten(&self) {
        self.replace(|blocks| blocks - 1);
    }

    fn read(&self) -> Reading {
        let place = self.cache.lock();
        let cache = place
            .as_ref()
            .expect("INVARIANT: the lock is held to replace");
        Reading {
            tokens_of_layers: [0, 1].map(|layer| {
                let blocks = cache.blocks_for_layer(LayerId(layer));
                blocks.iter().map(|block| u64::from(block.tokens())).sum()
            }),
            total: cache.total_tokens() as u64,
        }
    }
}
