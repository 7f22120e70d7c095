//! Newtypes for everything that is counted, so that a layer is never passed for a block.

use core::fmt;
use core::num::NonZeroU32;

/// One block of the pool, by its place. Only a [`BlockRef`] says *which use* of the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

/// A layer of the model, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(pub u32);

/// Tells the pools of one process apart, so that a handle of one is refused by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub u32);

/// An agent registered with a pool: see [`BlockPool::agent`](crate::BlockPool::agent).
///
/// It is a small handle rather than the agent's name, because it is looked up at every
/// allocation. A handle of a retired agent is refused, also after its place was given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId {
    pub(crate) place: AgentPlace,
    pub(crate) generation: u32,
}

/// Where an agent's record stands. Counted from 1, so that an empty slot costs no tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AgentPlace(NonZeroU32);

impl AgentPlace {
    /// The place at `index`; `None` past 2^32 - 2 agents.
    pub(crate) fn from_index(index: usize) -> Option<Self> {
        let number = u32::try_from(index).ok()?.checked_add(1)?;
        NonZeroU32::new(number).map(AgentPlace)
    }

    pub(crate) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// One use of one block: the block, and the generation in which it was handed out.
///
/// A block's generation changes whenever it is freed, so a handle kept too long is refused
/// ([`FreeError::StaleGeneration`](crate::pool::FreeError::StaleGeneration)) and can never
/// free what the block holds for somebody else by then (the origin's ABA, scenario
/// `A-CLEAR-WINDOW`). Copying a handle copies no right: freeing it twice is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRef {
    pub(crate) id: BlockId,
    pub(crate) layer: LayerId,
    pub(crate) pool: PoolId,
    pub(crate) generation: u64,
}

impl BlockRef {
    /// Puts together a handle that was written down as its parts. One that no pool ever gave
    /// out is refused when it is used.
    ///
    /// ```
    /// # use selvedge_core::{BlockPool, BlockRef, LayerId, ModelCacheSpec};
    /// # let pool: BlockPool = BlockPool::new(ModelCacheSpec::new(1, 1, 8, 16)?, 4)?;
    /// # let alice = pool.agent("alice")?;
    /// let kept = pool.allocate(1, LayerId(0), alice)?.persist();
    /// let b = kept[0];
    /// let again = BlockRef::from_parts(b.pool(), b.id(), b.layer(), b.generation());
    /// pool.free(alice, &[again])?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn from_parts(pool: PoolId, id: BlockId, layer: LayerId, generation: u64) -> Self {
        BlockRef {
            id,
            layer,
            pool,
            generation,
        }
    }

    /// The block.
    #[must_use]
    pub const fn id(self) -> BlockId {
        self.id
    }

    /// The layer it was allocated for.
    #[must_use]
    pub const fn layer(self) -> LayerId {
        self.layer
    }

    /// The pool that gave it out.
    #[must_use]
    pub const fn pool(self) -> PoolId {
        self.pool
    }

    /// Which use of the block this is. A block's 2^64 generations outlast the machine.
    #[must_use]
    pub const fn generation(self) -> u64 {
        self.generation
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}", self.0)
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer {}", self.0)
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool {}", self.0)
    }
}

impl fmt::Display for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (generation {})", self.id, self.generation)
    }
}
