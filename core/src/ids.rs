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

/// One request of a batch engine. Engines count them up from 1 and never use one again, so an
/// abort that comes late cannot hit another request (catalogue: `request-id-reuse`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// An agent registered with a pool: see [`BlockPool::agent`](crate::BlockPool::agent).
///
/// It is a small handle rather than the agent's name, because it is looked up at every
/// allocation. A handle of a retired agent is refused, also after its place was given away; so
/// is one of another pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId {
    pub(crate) place: AgentPlace,
    pub(crate) generation: u32,
    pub(crate) pool: PoolId,
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

/// A block and its pool in one word, the pool in the upper half: written at once, and checked
/// together with the bounds of the pool ([`Place::index_in`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place(u64);

impl Place {
    #[inline]
    pub(crate) const fn new(pool: PoolId, id: BlockId) -> Self {
        Place((pool.0 as u64) << 32 | id.0 as u64)
    }

    /// The block's index in `pool`, if it is of that pool; else past the end of every pool.
    #[inline]
    pub(crate) fn index_in(self, pool: PoolId) -> usize {
        let first = Place::new(pool, BlockId(0));
        // Blocks of another pool come out at 2^32 or more: no pool has so many.
        usize::try_from(self.0.wrapping_sub(first.0)).unwrap_or(usize::MAX)
    }

    #[inline]
    const fn id(self) -> BlockId {
        BlockId(self.0 as u32)
    }

    const fn pool(self) -> PoolId {
        PoolId((self.0 >> 32) as u32)
    }
}

/// What a block is in use for and for the how-manieth time, in one word: what tells two uses of
/// a block apart is one comparison.
///
/// The upper 16 bits are the layer counted from 1 (0: none, the block is free), the lower 48 the
/// generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stamp(u64);

impl Stamp {
    const GENERATION_BITS: u32 = 48;
    const MAX_GENERATION: u64 = (1 << Self::GENERATION_BITS) - 1;
    /// How many layers can be told apart: one value is kept for "none".
    pub(crate) const MAX_LAYERS: u32 = (1 << (64 - Self::GENERATION_BITS)) - 1;

    /// A block in no use, `generation` uses after its first.
    pub(crate) const fn free(generation: u64) -> Self {
        Stamp(generation & Self::MAX_GENERATION)
    }

    /// A block in use. Parts that fit no stamp make one of no layer, which no block in use has.
    const fn in_use(layer: LayerId, generation: u64) -> Self {
        if layer.0 >= Self::MAX_LAYERS {
            return Stamp::free(generation);
        }
        if generation > Self::MAX_GENERATION {
            return Stamp::free(Self::MAX_GENERATION);
        }
        Stamp::free(generation).taken(layer)
    }

    /// A free block's stamp once it is handed out for `layer`, which must be one of a model's.
    #[inline]
    pub(crate) const fn taken(self, layer: LayerId) -> Self {
        Stamp(self.0 | Stamp::layer_bits(layer))
    }

    /// The stamp once this use has ended: no layer, the next generation.
    #[inline]
    pub(crate) const fn freed(self) -> Self {
        Stamp::free(self.0.wrapping_add(1))
    }

    /// Which layer it is in use for, if for any.
    pub(crate) const fn layer(self) -> Option<LayerId> {
        match (self.0 >> Self::GENERATION_BITS) as u32 {
            0 => None,
            number => Some(LayerId(number - 1)),
        }
    }

    #[inline]
    pub(crate) const fn is_of_same_layer(self, other: Self) -> bool {
        (self.0 ^ other.0) <= Self::MAX_GENERATION
    }

    pub(crate) const fn generation(self) -> u64 {
        self.0 & Self::MAX_GENERATION
    }

    #[inline]
    const fn layer_bits(layer: LayerId) -> u64 {
        (layer.0 as u64 + 1) << Self::GENERATION_BITS
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stamp")
            .field("layer", &self.layer())
            .field("generation", &self.generation())
            .finish()
    }
}

/// One use of one block: the block, and the generation in which it was handed out.
///
/// A block's generation changes whenever it is freed, so a handle kept too long is refused
/// ([`FreeError::StaleGeneration`](crate::pool::FreeError::StaleGeneration)) and cannot
/// free what the block holds for somebody else by then (the origin's ABA, scenario
/// `A-CLEAR-WINDOW`). Copying a handle copies no right: freeing it twice is an error.
///
/// Generations start again from 0 after 2^48 uses of one block: nine years at one use a
/// microsecond. Only a handle kept for exactly that many uses could be mistaken for a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRef {
    pub(crate) place: Place,
    pub(crate) stamp: Stamp,
}

// A batch of 64 is what glibc serves from its fastest free list just so: 1,024 bytes of 1,032.
const _: () = assert!(size_of::<BlockRef>() == 16);

impl BlockRef {
    /// Puts together a handle that was written down as its parts. One that no pool ever gave
    /// out is refused when it is used.
    ///
    /// Parts that no handle can have (a layer past 65,534, a generation past 2^48 - 1) make one
    /// of no layer, equal to none that was ever given out.
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
            place: Place::new(pool, id),
            stamp: Stamp::in_use(layer, generation),
        }
    }

    /// The block.
    #[must_use]
    #[inline]
    pub const fn id(self) -> BlockId {
        self.place.id()
    }

    /// The layer it was allocated for; one that no model has if it was put together of parts
    /// that fit no handle.
    #[must_use]
    pub const fn layer(self) -> LayerId {
        match self.stamp.layer() {
            Some(layer) => layer,
            None => LayerId(u32::MAX),
        }
    }

    /// The pool that gave it out.
    #[must_use]
    pub const fn pool(self) -> PoolId {
        self.place.pool()
    }

    /// Which use of the block this is, modulo 2^48.
    #[must_use]
    pub const fn generation(self) -> u64 {
        self.stamp.generation()
    }
}

impl fmt::Debug for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockRef")
            .field("id", &self.id())
            .field("layer", &self.layer())
            .field("pool", &self.pool())
            .field("generation", &self.generation())
            .finish()
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

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {}", self.0)
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool {}", self.0)
    }
}

impl fmt::Display for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (generation {})", self.id(), self.generation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST_LAYER: LayerId = LayerId(Stamp::MAX_LAYERS - 1);

    #[test]
    fn parts_come_back_as_they_went_in() {
        for layer in [LayerId(0), LayerId(1), LAST_LAYER] {
            for generation in [0, 1, Stamp::MAX_GENERATION] {
                let block = BlockRef::from_parts(PoolId(7), BlockId(8), layer, generation);
                let parts = (block.pool(), block.id(), block.layer(), block.generation());
                assert_eq!(parts, (PoolId(7), BlockId(8), layer, generation));
            }
        }
    }

    #[test]
    fn parts_that_fit_no_handle_are_never_those_of_a_real_one() {
        let past = [
            (LayerId(LAST_LAYER.0 + 1), 0),
            (LayerId(u32::MAX), 5),
            // Cut off to 48 bits, these would be the first two generations.
            (LayerId(0), 1 << 48),
            (LayerId(0), (1 << 48) + 1),
            (LAST_LAYER, u64::MAX),
            (LayerId(u32::MAX), u64::MAX),
        ];
        for (layer, generation) in past {
            let forged = BlockRef::from_parts(PoolId(1), BlockId(0), layer, generation);
            assert_eq!(forged.stamp.layer(), None, "of no layer: never given out");
            assert_eq!(forged.layer(), LayerId(u32::MAX));
        }
    }

    #[test]
    fn a_block_of_another_pool_is_past_the_end_of_every_pool() {
        let pools = [0, 1, 2, u32::MAX - 1, u32::MAX].map(PoolId);
        for of in pools {
            for id in [0, 1, u32::MAX] {
                let place = Place::new(of, BlockId(id));
                assert_eq!((place.pool(), place.id()), (of, BlockId(id)));
                for pool in pools {
                    let index = place.index_in(pool);
                    assert_eq!(index <= u32::MAX as usize, pool == of, "{of} in {pool}");
                    assert!(pool != of || index == id as usize);
                }
            }
        }
    }

    #[test]
    fn a_use_ends_in_the_next_generation_of_no_layer() {
        let first = Stamp::free(0);
        let taken = first.taken(LAST_LAYER);
        assert_eq!((taken.layer(), taken.generation()), (Some(LAST_LAYER), 0));
        assert_eq!(taken.freed(), Stamp::free(1));
        assert_ne!(taken, first.taken(LayerId(0)));
        assert!(taken.is_of_same_layer(taken.freed().taken(LAST_LAYER)));
        assert!(!taken.is_of_same_layer(taken.freed()));
        assert!(!taken.is_of_same_layer(first.taken(LayerId(0))));
    }

    #[test]
    fn the_last_generation_is_followed_by_the_first() {
        for layer in [LayerId(0), LAST_LAYER] {
            let last = Stamp::free(Stamp::MAX_GENERATION).taken(layer);
            assert_eq!(last.freed(), Stamp::free(0));
        }
    }

    #[test]
    fn a_stamp_is_printed_as_its_parts() {
        let stamp = Stamp::free(3).taken(LayerId(2));
        let printed = format!("{stamp:?}");
        assert_eq!(printed, "Stamp { layer: Some(LayerId(2)), generation: 3 }");
    }
}
