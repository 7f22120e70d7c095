//! Which blocks hold which tokens: what a request keeps of its agent's cache, what it needs
//! besides, and which token ranges its blocks are filled with at the end.
//!
//! A global layer holds the whole sequence; a layer that slides holds the last window of it, or
//! all if that is less. Within a layer, blocks follow the sequence.

use super::admission::layer_blocks;
use super::generator::BlockSlot;
use crate::spec::LayerKind;
use crate::{BlockRef, LayerId, ModelCacheSpec};

/// How a request comes to its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeasePlan {
    /// Tokens that need not be computed.
    pub(super) reused: u32,
    /// Tokens that the kept blocks hold: those reused, and the rest of their last blocks.
    pub(super) kept_tokens: u32,
    /// By layer, how many blocks of the cache it keeps, from the first.
    pub(super) keep: Vec<u32>,
    /// What it takes besides.
    pub(super) needs: Vec<(LayerId, u32)>,
    /// Blocks of the cache it gives up.
    pub(super) given_up: u32,
}

impl LeasePlan {
    /// For a sequence of `len` tokens whose blocks must be good for `capacity`, from a cache of
    /// `cached` tokens of which the first `common` are the sequence's as well.
    ///
    /// At least the last token is computed, because that is what the first decode is made from.
    /// A sliding layer that has dropped tokens is of use only for the whole of what is cached.
    pub(super) fn new(
        spec: &ModelCacheSpec,
        cached: u32,
        common: u32,
        len: u32,
        capacity: u32,
    ) -> Self {
        let layers = || (0..spec.n_layers()).map(LayerId);
        let reused = common.min(cached).min(len.saturating_sub(1));
        let slid = layers().any(|layer| held_tokens(spec, layer, cached) < cached);
        let reused = if slid && reused < cached { 0 } else { reused };
        let keep: Vec<u32> = (layers())
            .map(|layer| layer_blocks(spec, layer, held_tokens(spec, layer, reused)))
            .collect();
        let needs = (layers().zip(&keep))
            .map(|(layer, &kept)| (layer, layer_blocks(spec, layer, capacity) - kept))
            .filter(|need| need.1 > 0)
            .collect();
        let all = layers().map(|l| layer_blocks(spec, l, held_tokens(spec, l, cached)));
        LeasePlan {
            reused,
            kept_tokens: (spec.blocks_for_tokens(reused))
                .saturating_mul(spec.block_tokens())
                .min(cached),
            needs,
            given_up: all.sum::<u32>() - keep.iter().sum::<u32>(),
            keep,
        }
    }

    /// Blocks it needs beyond those it gives up.
    pub(super) fn more(&self) -> u32 {
        let needed: u32 = self.needs.iter().map(|need| need.1).sum();
        needed.saturating_sub(self.given_up)
    }
}

/// What a running sequence lacks to be good for `capacity` tokens.
pub(super) fn lacking(
    spec: &ModelCacheSpec,
    held: &[BlockRef],
    capacity: u32,
) -> Vec<(LayerId, u32)> {
    let mut by_layer = vec![0u32; spec.n_layers() as usize];
    for block in held {
        if let Some(count) = by_layer.get_mut(block.layer().0 as usize) {
            *count += 1;
        }
    }
    (by_layer.into_iter().zip(0..))
        .map(|(held, layer)| (LayerId(layer), held))
        .map(|(layer, held)| {
            (
                layer,
                layer_blocks(spec, layer, capacity).saturating_sub(held),
            )
        })
        .filter(|need| need.1 > 0)
        .collect()
}

/// Which of `held` are filled with what, for a sequence of `tokens` tokens: layer by layer. The
/// blocks that are not among them hold nothing of it.
pub(super) fn slots(spec: &ModelCacheSpec, held: &[BlockRef], tokens: u32) -> Vec<BlockSlot> {
    let mut next: Vec<u32> = (0..spec.n_layers())
        .map(|layer| tokens - held_tokens(spec, LayerId(layer), tokens))
        .collect();
    let mut slots: Vec<BlockSlot> = (held.iter())
        .filter_map(|&block| {
            let start = next.get_mut(block.layer().0 as usize)?;
            let end = start.saturating_add(spec.block_tokens()).min(tokens);
            let range = *start..end;
            *start = end;
            (!range.is_empty()).then_some(BlockSlot {
                block,
                tokens: range,
            })
        })
        .collect();
    slots.sort_by_key(|slot| (slot.block.layer(), slot.tokens.start));
    slots
}

/// Tokens of a sequence of `tokens` that `layer` holds: the last of it.
fn held_tokens(spec: &ModelCacheSpec, layer: LayerId, tokens: u32) -> u32 {
    match (spec.layer_kind(layer), spec.sliding_window_tokens()) {
        (Some(LayerKind::SlidingWindow), Some(window)) => tokens.min(window),
        _ => tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockId, PoolId};

    /// Blocks of 4 tokens; the second layer slides over `window` tokens.
    fn spec(window: u32) -> ModelCacheSpec {
        ModelCacheSpec::new(2, 1, 8, 4)
            .and_then(|spec| {
                spec.with_layers(
                    vec![LayerKind::Global, LayerKind::SlidingWindow],
                    Some(window),
                )
            })
            .unwrap()
    }

    fn needs(plan: &LeasePlan) -> Vec<(u32, u32)> {
        plan.needs.iter().map(|need| (need.0.0, need.1)).collect()
    }

    #[test]
    fn without_a_cache_all_is_taken() {
        let plan = LeasePlan::new(&spec(8), 0, 0, 5, 20);
        assert_eq!(needs(&plan), [(0, 5), (1, 2)]);
        assert_eq!((plan.reused, plan.given_up, plan.more()), (0, 0, 7));
    }

    #[test]
    fn a_prompt_that_goes_on_keeps_all() {
        // 10 tokens cached: 3 blocks, and the last 8 tokens in 2.
        let plan = LeasePlan::new(&spec(8), 10, 10, 15, 20);
        assert_eq!((plan.reused, plan.kept_tokens, plan.given_up), (10, 10, 0));
        assert_eq!(
            (plan.keep.as_slice(), needs(&plan)),
            ([3, 2].as_slice(), vec![(0, 2)])
        );
    }

    #[test]
    fn a_prompt_that_parts_keeps_the_blocks_before() {
        let plan = LeasePlan::new(&spec(100), 10, 5, 15, 16);
        // Token 5 is in the second block, whose other tokens are kept and not used.
        assert_eq!((plan.reused, plan.kept_tokens, plan.given_up), (5, 8, 2));
        assert_eq!(
            (plan.keep.as_slice(), needs(&plan)),
            ([2, 2].as_slice(), vec![(0, 2), (1, 2)])
        );
        assert_eq!(plan.more(), 2);
    }

    #[test]
    fn what_has_slid_away_is_not_there_for_a_prompt_that_parts() {
        let plan = LeasePlan::new(&spec(8), 10, 9, 15, 16);
        assert_eq!((plan.reused, plan.kept_tokens, plan.given_up), (0, 0, 5));
        assert_eq!(plan.keep, [0, 0]);
    }

    #[test]
    fn the_last_token_is_always_computed() {
        let plan = LeasePlan::new(&spec(100), 10, 10, 10, 12);
        assert_eq!(plan.reused, 9);
    }

    #[test]
    fn blocks_are_filled_in_the_order_of_the_sequence() {
        let block = |id, layer| BlockRef::from_parts(PoolId(1), BlockId(id), LayerId(layer), 0);
        let held = [
            block(0, 0),
            block(1, 1),
            block(2, 0),
            block(3, 1),
            block(4, 0),
            block(5, 0),
        ];
        let filled: Vec<(u32, std::ops::Range<u32>)> = (slots(&spec(6), &held, 9).into_iter())
            .map(|slot| (slot.block.id().0, slot.tokens))
            .collect();
        // The second layer holds tokens 3 to 8; the fourth block of the first is left over.
        assert_eq!(
            filled,
            [(0, 0..4), (2, 4..8), (4, 8..9), (1, 3..7), (3, 7..9)]
        );
    }

    #[test]
    fn growing_takes_what_is_lacking_and_no_more_than_a_window() {
        let block = |id, layer| BlockRef::from_parts(PoolId(1), BlockId(id), LayerId(layer), 0);
        let held = [block(0, 0), block(1, 1), block(2, 1)];
        assert_eq!(lacking(&spec(8), &held, 4), []);
        assert_eq!(lacking(&spec(8), &held, 13), [(LayerId(0), 3)]);
    }
}
