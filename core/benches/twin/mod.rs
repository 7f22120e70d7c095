//! [`TwinPool`]: the shell of `BlockPool` as one would write it without `Platform`, by hand
//! against `std::sync`. Line for line `pool.rs` and `pool/lease.rs`, so that the only thing a
//! comparison can show is the trait. Whoever changes those changes this.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use selvedge_core::pool::{AllocateError, PoolConfigError, TicketId};
use selvedge_core::{AgentId, BlockRef, LayerId, ModelCacheSpec, PoolId, PoolState};

/// `BlockPool`, by hand.
pub(crate) struct TwinPool {
    /// Only as large as the original: nobody asks a twin who it is.
    _id: PoolId,
    state: Mutex<PoolState>,
    sleepers: Mutex<BTreeMap<TicketId, Arc<Condvar>>>,
}

impl TwinPool {
    pub(crate) fn new(spec: ModelCacheSpec, blocks: u32) -> Result<Self, PoolConfigError> {
        let id = PoolId(u32::MAX);
        Ok(TwinPool {
            _id: id,
            state: Mutex::new(PoolState::new(id, spec, blocks)?),
            sleepers: Mutex::new(BTreeMap::new()),
        })
    }

    pub(crate) fn agent(&self, name: &str) -> AgentId {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.register(name).expect("the name is not empty")
    }

    #[cold]
    fn ring(&self, called: &[TicketId]) {
        let sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        let bells: Vec<Arc<Condvar>> = (called.iter())
            .filter_map(|ticket| sleepers.get(ticket).cloned())
            .collect();
        drop(sleepers);
        for bell in bells {
            bell.notify_one();
        }
    }

    #[inline]
    pub(crate) fn allocate(
        &self,
        n: u32,
        layer: LayerId,
        agent: AgentId,
    ) -> Result<TwinLease<'_>, AllocateError> {
        let mut lease = TwinLease {
            blocks: Batch::with_room_for(n.into()),
            agent,
            pool: Handle::Borrowed(self),
        };
        (self.state.lock().unwrap_or_else(PoisonError::into_inner)).allocate_into(
            &[(layer, n)],
            agent,
            &mut lease.blocks,
        )?;
        Ok(lease)
    }
}

/// `BlockLease`, by hand.
pub(crate) struct TwinLease<'p> {
    blocks: Batch,
    agent: AgentId,
    pool: Handle<'p>,
}

impl TwinLease<'_> {
    #[inline]
    pub(crate) fn blocks(&self) -> &[BlockRef] {
        self.blocks.as_slice()
    }

    /// The share exists so that the handle has two cases, as the original's.
    pub(crate) fn into_shared(mut self, pool: &Arc<TwinPool>) -> TwinLease<'static> {
        TwinLease {
            blocks: mem::replace(&mut self.blocks, Batch::One(None)),
            agent: self.agent,
            pool: Handle::Shared(pool.clone()),
        }
    }
}

impl Drop for TwinLease<'_> {
    #[inline]
    fn drop(&mut self) {
        let blocks = self.blocks.as_slice();
        if !blocks.is_empty() {
            let pool = self.pool.get();
            let mut state = pool.state.lock().unwrap_or_else(PoisonError::into_inner);
            let called = (state.release(self.agent, blocks)).then(|| state.take_called());
            drop(state);
            if let Some(called) = called {
                pool.ring(&called);
            }
        }
    }
}

enum Handle<'p> {
    Borrowed(&'p TwinPool),
    Shared(Arc<TwinPool>),
}

impl Handle<'_> {
    #[inline]
    fn get(&self) -> &TwinPool {
        match self {
            Handle::Borrowed(pool) => pool,
            Handle::Shared(pool) => pool,
        }
    }
}

enum Batch {
    One(Option<BlockRef>),
    Many(Vec<BlockRef>),
}

impl Batch {
    #[inline]
    fn with_room_for(n: u64) -> Self {
        const LARGE: u64 = 1 << 16;
        match n {
            0 | 1 => Batch::One(None),
            _ => Batch::Many(Vec::with_capacity(n.min(LARGE) as usize)),
        }
    }

    #[inline]
    fn as_slice(&self) -> &[BlockRef] {
        match self {
            Batch::One(one) => one.as_slice(),
            Batch::Many(many) => many,
        }
    }
}

impl Extend<BlockRef> for Batch {
    #[inline]
    fn extend<I: IntoIterator<Item = BlockRef>>(&mut self, blocks: I) {
        let mut blocks = blocks.into_iter();
        match self {
            Batch::Many(many) => many.extend(blocks),
            Batch::One(one) => {
                let first = one.take().or_else(|| blocks.next());
                match blocks.next() {
                    None => *one = first,
                    // More than room was made for.
                    Some(second) => {
                        let all = first.into_iter().chain([second]).chain(blocks);
                        *self = Batch::Many(all.collect());
                    }
                }
            }
        }
    }
}
