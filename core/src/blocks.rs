//! An agent's cache as it is handed around: filled blocks that nobody can change.
//!
//! The origin had `add_block` and `remove_block` here, unlocked and unvalidated, and kept the
//! payload as `Any` (ticket SPRINT-2.5, issues 2 to 4). Both are gone: **a set of blocks is
//! checked once, when it is made, and stays right because nothing can change it.**

use core::fmt;

use thiserror::Error;

use crate::platform::{Platform, Std};
use crate::spec::LayerKind;
use crate::{AgentId, BlockLease, BlockRef, LayerId, ModelCacheSpec};

/// Why a block was not filled.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KvBlockError {
    /// More tokens than a block holds: split them.
    #[error("{tokens} tokens for a block of {capacity}; split them over blocks")]
    TooManyTokens {
        /// Tokens given.
        tokens: u32,
        /// Tokens a block holds.
        capacity: u32,
    },
}

/// Why blocks do not make up an agent's cache. What was passed in has been dropped, payloads
/// first; the blocks are back in the pool.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AgentBlocksError {
    /// A filled block is not of the lease.
    #[error("{block} is not of the lease")]
    NotLeased {
        /// The block.
        block: BlockRef,
    },
    /// A block was filled twice.
    #[error("{block} was filled twice")]
    FilledTwice {
        /// The block.
        block: BlockRef,
    },
    /// A leased block was not filled.
    #[error("{block} was leased but not filled")]
    NotFilled {
        /// The block.
        block: BlockRef,
    },
    /// A filled block is of a layer that the given model has not: it is another model's.
    #[error("{block} is of {}, which the model has not", block.layer())]
    UnknownLayer {
        /// The block.
        block: BlockRef,
    },
    /// There are tokens but no blocks.
    #[error("{tokens} tokens but no blocks")]
    NoBlocks {
        /// Tokens given.
        tokens: u32,
    },
    /// More than 2^32 - 1 tokens.
    #[error("{tokens} tokens; at most 4294967295 are possible")]
    TooLong {
        /// Tokens given.
        tokens: usize,
    },
    /// A layer's blocks do not hold the sequence.
    #[error("{layer} holds {held} tokens; the sequence has {total} (at least {least} expected)")]
    TokenSum {
        /// The layer.
        layer: LayerId,
        /// Tokens its blocks hold.
        held: u64,
        /// Tokens of the sequence.
        total: u32,
        /// The fewest it may hold: fewer than `total` only where it slides.
        least: u32,
    },
}

/// One filled block: which, how many tokens, and the payload. It cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KvBlock<D> {
    block: BlockRef,
    tokens: u32,
    data: D,
}

impl<D> KvBlock<D> {
    /// Fills `block` with `tokens` tokens' worth of `data`.
    ///
    /// # Errors
    /// [`KvBlockError::TooManyTokens`] if a block of `spec` does not hold that many.
    pub fn new(
        spec: &ModelCacheSpec,
        block: BlockRef,
        tokens: u32,
        data: D,
    ) -> Result<Self, KvBlockError> {
        let capacity = spec.block_tokens();
        if tokens > capacity {
            return Err(KvBlockError::TooManyTokens { tokens, capacity });
        }
        Ok(KvBlock {
            block,
            tokens,
            data,
        })
    }

    /// Which block, in which use.
    #[must_use]
    pub fn block(&self) -> BlockRef {
        self.block
    }

    /// Tokens it holds.
    #[must_use]
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// What it holds.
    #[must_use]
    pub fn data(&self) -> &D {
        &self.data
    }

    /// What it holds, for good.
    #[must_use]
    pub fn into_data(self) -> D {
        self.data
    }
}

/// An agent's whole cache: for every layer the blocks that hold the same token sequence.
///
/// ```
/// use selvedge_core::{AgentBlocks, BlockPool, KvBlock, LayerId, ModelCacheSpec};
///
/// let spec = ModelCacheSpec::new(2, 1, 8, 16)?;
/// let pool: BlockPool = BlockPool::new(spec.clone(), 4)?;
/// let alice = pool.agent("alice")?;
/// let lease = pool.allocate_layers(&[(LayerId(0), 1), (LayerId(1), 1)], alice)?;
///
/// let filled = (lease.blocks().iter())
///     .map(|&block| KvBlock::new(&spec, block, 3, vec![0.5f32; 3]))
///     .collect::<Result<Vec<_>, _>>()?;
/// let cache = AgentBlocks::new(&spec, lease, filled, vec![11, 12, 13])?;
/// assert_eq!(cache.total_tokens(), 3);
/// assert_eq!(cache.common_prefix_length(&[11, 12, 99]), 2);
///
/// drop(cache); // the payloads first, then the blocks
/// assert_eq!(pool.snapshot().available, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// There is no way to change one, and no way to mistake its payload's type:
///
/// ```compile_fail
/// # use selvedge_core::{AgentBlocks, KvBlock};
/// fn grow(cache: &mut AgentBlocks<'_, Vec<f32>>, block: KvBlock<Vec<f32>>) {
///     cache.add_block(block);
/// }
/// ```
pub struct AgentBlocks<'p, D, P: Platform = Std> {
    // The order of the fields is the order of their drops: no payload outlives its block.
    layers: Vec<Vec<KvBlock<D>>>,
    lease: BlockLease<'p, P>,
    tokens: Vec<u32>,
}

impl<'p, D, P: Platform> AgentBlocks<'p, D, P> {
    /// Puts filled blocks and the lease they are of together.
    ///
    /// Each layer must hold the whole sequence, or, where it slides, at least its window.
    ///
    /// # Errors
    /// Each of [`AgentBlocksError`]; everything passed in is dropped then, and the blocks are
    /// free.
    pub fn new(
        spec: &ModelCacheSpec,
        lease: BlockLease<'p, P>,
        filled: Vec<KvBlock<D>>,
        tokens: Vec<u32>,
    ) -> Result<Self, AgentBlocksError> {
        let blocks = AgentBlocks {
            layers: by_layer(spec, filled),
            lease,
            tokens,
        };
        blocks.validate(spec)?;
        Ok(blocks)
    }

    /// Whether the parts fit together, as [`AgentBlocks::new`] has checked.
    ///
    /// # Errors
    /// Each of [`AgentBlocksError`].
    pub fn validate(&self, spec: &ModelCacheSpec) -> Result<(), AgentBlocksError> {
        let total = u32::try_from(self.tokens.len()).map_err(|_| AgentBlocksError::TooLong {
            tokens: self.tokens.len(),
        })?;
        let mut filled: Vec<BlockRef> = self.iter().map(KvBlock::block).collect();
        filled.sort_unstable();
        if let Some(pair) = filled.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(AgentBlocksError::FilledTwice { block: pair[0] });
        }
        let mut leased = self.lease.blocks().to_vec();
        leased.sort_unstable();
        if let Some(&block) = filled.iter().find(|b| leased.binary_search(b).is_err()) {
            return Err(AgentBlocksError::NotLeased { block });
        }
        if let Some(&block) = leased.iter().find(|b| filled.binary_search(b).is_err()) {
            return Err(AgentBlocksError::NotFilled { block });
        }
        if let Some(&block) = filled.iter().find(|b| spec.layer_kind(b.layer()).is_none()) {
            return Err(AgentBlocksError::UnknownLayer { block });
        }
        if filled.is_empty() && total > 0 {
            return Err(AgentBlocksError::NoBlocks { tokens: total });
        }
        for (blocks, layer) in self.layers.iter().zip(0..).map(|(b, l)| (b, LayerId(l))) {
            let held: u64 = blocks.iter().map(|block| u64::from(block.tokens)).sum();
            let least = match spec.layer_kind(layer) {
                Some(LayerKind::SlidingWindow) => {
                    spec.sliding_window_tokens().unwrap_or(total).min(total)
                }
                _ => total,
            };
            let holds_it = (u64::from(least)..=u64::from(total)).contains(&held);
            if !holds_it {
                return Err(AgentBlocksError::TokenSum {
                    layer,
                    held,
                    total,
                    least,
                });
            }
        }
        Ok(())
    }

    /// Whose cache it is.
    #[must_use]
    pub fn agent(&self) -> AgentId {
        self.lease.agent()
    }

    /// The token sequence every layer holds.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens of the sequence (not summed over layers).
    #[must_use]
    pub fn total_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Blocks of all layers.
    #[must_use]
    pub fn num_blocks(&self) -> usize {
        self.lease.len()
    }

    /// Layers that have blocks.
    #[must_use]
    pub fn num_layers(&self) -> usize {
        self.layers.iter().filter(|l| !l.is_empty()).count()
    }

    /// The blocks of one layer, in the sequence's order; none for a layer without.
    #[must_use]
    pub fn blocks_for_layer(&self, layer: LayerId) -> &[KvBlock<D>] {
        self.layers.get(layer.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// All blocks, layer by layer.
    pub fn iter(&self) -> impl Iterator<Item = &KvBlock<D>> {
        self.layers.iter().flatten()
    }

    /// How many tokens `prompt` and the cached sequence have in common from the start.
    #[must_use]
    pub fn common_prefix_length(&self, prompt: &[u32]) -> usize {
        let pairs = self.tokens.iter().zip(prompt);
        pairs.take_while(|(cached, asked)| cached == asked).count()
    }

    /// Takes it apart again. The lease comes first, because `let (lease, blocks) = ...` drops
    /// its last part first: the payloads go before their blocks can be handed out again.
    pub fn into_parts(self) -> (BlockLease<'p, P>, Vec<KvBlock<D>>) {
        (self.lease, self.layers.into_iter().flatten().collect())
    }
}

impl<D, P: Platform> fmt::Debug for AgentBlocks<'_, D, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentBlocks")
            .field("agent", &self.agent())
            .field("total_tokens", &self.total_tokens())
            .field("blocks", &self.num_blocks())
            .finish_non_exhaustive()
    }
}

/// A block of a layer the model has not is put under the last, for `validate` to refuse.
fn by_layer<D>(spec: &ModelCacheSpec, filled: Vec<KvBlock<D>>) -> Vec<Vec<KvBlock<D>>> {
    let mut layers: Vec<Vec<KvBlock<D>>> = Vec::new();
    layers.resize_with(spec.n_layers() as usize, Vec::new);
    for block in filled {
        let layer = (block.block.layer().0).min(spec.n_layers() - 1);
        layers[layer as usize].push(block);
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockPool;

    fn setup() -> (ModelCacheSpec, BlockPool) {
        let spec = ModelCacheSpec::new(2, 1, 8, 4).unwrap();
        let pool = BlockPool::new(spec.clone(), 8).unwrap();
        (spec, pool)
    }

    /// Builds a cache from a lease of one block a layer, filled as `tokens` says.
    fn build(tokens: &[u32], sequence: Vec<u32>) -> Result<usize, AgentBlocksError> {
        let (spec, pool) = setup();
        let agent = pool.agent("a").unwrap();
        let lease = pool
            .allocate_layers(&[(LayerId(0), 1), (LayerId(1), 1)], agent)
            .unwrap();
        let filled = (lease.blocks().iter().zip(tokens))
            .map(|(&block, &n)| KvBlock::new(&spec, block, n, ()).unwrap())
            .collect();
        let result = AgentBlocks::new(&spec, lease, filled, sequence).map(|b| b.num_blocks());
        assert_eq!(
            pool.snapshot().available,
            8,
            "whatever happened, all is back"
        );
        result
    }

    #[test]
    fn every_layer_must_hold_the_sequence() {
        assert_eq!(build(&[3, 3], vec![1, 2, 3]), Ok(2));
        assert_eq!(
            build(&[3, 2], vec![1, 2, 3]),
            Err(AgentBlocksError::TokenSum {
                layer: LayerId(1),
                held: 2,
                total: 3,
                least: 3
            })
        );
    }

    #[test]
    fn every_leased_block_must_be_filled_once() {
        assert!(matches!(
            build(&[3], vec![1, 2, 3]),
            Err(AgentBlocksError::NotFilled { .. })
        ));
        let (spec, pool) = setup();
        let agent = pool.agent("a").unwrap();
        let lease = pool.allocate(1, LayerId(0), agent).unwrap();
        let other = pool.allocate(1, LayerId(0), agent).unwrap();
        let fill = |block| KvBlock::new(&spec, block, 1, ()).unwrap();
        let stranger = fill(other.blocks()[0]);
        let twice = vec![fill(lease.blocks()[0]); 2];
        assert!(matches!(
            AgentBlocks::new(&spec, other, twice, vec![1]).unwrap_err(),
            AgentBlocksError::FilledTwice { .. }
        ));
        assert!(matches!(
            AgentBlocks::new(&spec, lease, vec![stranger], vec![1]).unwrap_err(),
            AgentBlocksError::NotLeased { .. }
        ));
    }

    #[test]
    fn a_sliding_layer_may_have_dropped_what_left_its_window() {
        let (spec, _) = setup();
        let spec = spec
            .with_layers(vec![LayerKind::Global, LayerKind::SlidingWindow], Some(4))
            .unwrap();
        let pool: BlockPool = BlockPool::new(spec.clone(), 8).unwrap();
        let agent = pool.agent("a").unwrap();
        let make = |window_tokens| {
            let lease = pool
                .allocate_layers(&[(LayerId(0), 2), (LayerId(1), 1)], agent)
                .unwrap();
            let filled = (lease.blocks().iter().zip([4, 2, window_tokens]))
                .map(|(&block, n)| KvBlock::new(&spec, block, n, ()).unwrap())
                .collect();
            AgentBlocks::new(&spec, lease, filled, vec![7; 6]).map(|_| ())
        };
        assert_eq!(make(4), Ok(()));
        assert!(matches!(make(3), Err(AgentBlocksError::TokenSum { .. })));
    }

    #[test]
    fn no_layer_may_be_missing_or_another_models() {
        let (spec, pool) = setup();
        let agent = pool.agent("a").unwrap();
        let fill = |lease: &BlockLease<'_>| -> Vec<_> {
            let blocks = lease.blocks().iter();
            blocks
                .map(|&b| KvBlock::new(&spec, b, 2, ()).unwrap())
                .collect()
        };
        let first_only = pool.allocate(1, LayerId(0), agent).unwrap();
        let filled = fill(&first_only);
        let missing = AgentBlocks::new(&spec, first_only, filled, vec![1, 2]).unwrap_err();
        let second = LayerId(1);
        assert!(
            matches!(missing, AgentBlocksError::TokenSum { layer, held: 0, .. } if layer == second)
        );

        let one_layer = ModelCacheSpec::new(1, 1, 8, 4).unwrap();
        let lease = pool.allocate(1, second, agent).unwrap();
        let filled = fill(&lease);
        let foreign = AgentBlocks::new(&one_layer, lease, filled, vec![1, 2]).unwrap_err();
        assert!(matches!(foreign, AgentBlocksError::UnknownLayer { .. }));
    }

    #[test]
    fn taken_apart_the_payload_goes_before_its_block() {
        struct Payload<'a>(&'a BlockPool, &'a core::cell::Cell<u32>);
        impl Drop for Payload<'_> {
            fn drop(&mut self) {
                self.1.set(self.0.snapshot().used);
            }
        }
        let spec = ModelCacheSpec::new(1, 1, 8, 4).unwrap();
        let pool = BlockPool::new(spec.clone(), 8).unwrap();
        let agent = pool.agent("a").unwrap();
        let used_at_drop = core::cell::Cell::new(0);
        let lease = pool.allocate(1, LayerId(0), agent).unwrap();
        let payload = Payload(&pool, &used_at_drop);
        let filled = KvBlock::new(&spec, lease.blocks()[0], 1, payload).unwrap();
        let cache = AgentBlocks::new(&spec, lease, vec![filled], vec![1]).unwrap();
        {
            let (_lease, _blocks) = cache.into_parts();
        }
        assert_eq!(used_at_drop.get(), 1, "the block was still the agent's");
        assert_eq!(pool.snapshot().used, 0);
    }

    #[test]
    fn a_block_holds_no_more_than_it_can() {
        let (spec, pool) = setup();
        let agent = pool.agent("a").unwrap();
        let lease = pool.allocate(1, LayerId(0), agent).unwrap();
        assert_eq!(
            KvBlock::new(&spec, lease.blocks()[0], 5, ()),
            Err(KvBlockError::TooManyTokens {
                tokens: 5,
                capacity: 4
            })
        );
    }
}
