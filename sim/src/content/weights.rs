//! [`Weights`]: the arithmetic of the fake model, and what it generates from nothing. It knows
//! tokens and positions, and nothing of blocks but how many tokens one holds.

use selvedge_core::engine::Finish;
use selvedge_core::spec::LayerKind;
use selvedge_core::{LayerId, ModelCacheSpec};

/// What a [`ContentModel`](super::ContentModel) computes with.
///
/// In each layer, what is stored of a token is a hash of the layer, the position, the token and
/// what is stored of the token before. The next token is a hash of what is stored: the last of
/// every block that a layer sees, in all layers.
///
/// ```
/// use selvedge_core::ModelCacheSpec;
/// use selvedge_core::engine::Finish;
/// use selvedge_sim::content::Weights;
///
/// let spec = ModelCacheSpec::new(2, 1, 8, 4)?;
/// let weights = Weights { vocabulary: 100, ..Weights::of(7) };
/// let (tokens, finish) = weights.expected(&spec, &[1, 2, 3], 5);
/// assert_eq!((tokens.len(), finish), (5, Finish::Length));
///
/// // A sequence goes on as it would have; other weights say something else.
/// let longer = [&[1, 2, 3], &tokens[..2]].concat();
/// assert_eq!(weights.expected(&spec, &longer, 3).0, tokens[2..]);
/// assert_ne!(Weights { seed: 8, ..weights }.expected(&spec, &[1, 2, 3], 5).0, tokens);
/// # Ok::<(), selvedge_core::spec::SpecError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Weights {
    /// Other seeds, other weights.
    pub seed: u64,
    /// Tokens are below this. 0 counts as 1.
    pub vocabulary: u32,
    /// One token of so many is the stop token; 0 if none is.
    pub stop_every: u32,
    /// What the next token is made from.
    pub attention: Attention,
}

/// What of a sequence a next token is made from.
///
/// ```
/// use selvedge_sim::content::{Attention, Weights};
///
/// assert_eq!(Weights::of(1).attention, Attention::Blocks);
/// let fast = Weights { attention: Attention::Last, ..Weights::of(1) };
/// assert_ne!(fast, Weights::of(1));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Attention {
    /// The last token of each block in sight: whichever block is mixed up, the next token is
    /// another.
    #[default]
    Blocks,
    /// The last token of all, which depends on those before. A block that is mixed up after
    /// the next was computed shows only where it is verified; but a token costs the same
    /// however long the sequence is.
    Last,
}

/// A token to come.
pub(super) struct Next {
    pub(super) token: u32,
    pub(super) stop: bool,
}

impl Weights {
    /// Weights of a seed: 32,000 tokens, none of which is a stop.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Weights {
            seed,
            vocabulary: 32_000,
            stop_every: 0,
            attention: Attention::Blocks,
        }
    }

    /// What must be generated after `prompt`, computed from nothing: the tokens and how they
    /// end. The stop token is not among them.
    #[must_use]
    pub fn expected(
        &self,
        spec: &ModelCacheSpec,
        prompt: &[u32],
        max_tokens: u32,
    ) -> (Vec<u32>, Finish) {
        let mut chains: Vec<Vec<u64>> = (0..spec.n_layers())
            .map(|layer| self.chain(LayerId(layer), prompt).collect())
            .collect();
        let mut generated = Vec::new();
        let mut len = prompt.len() as u32;
        while (generated.len() as u32) < max_tokens {
            let next = self.next(spec, len, |layer, at| chains[layer.0 as usize][at as usize]);
            if next.stop {
                return (generated, Finish::Stop);
            }
            for (chain, layer) in chains.iter_mut().zip(0..) {
                let before = (chain.last().copied()).unwrap_or_else(|| self.start(LayerId(layer)));
                chain.push(self.hash(LayerId(layer), len, next.token, before));
            }
            generated.push(next.token);
            len += 1;
        }
        (generated, Finish::Length)
    }

    /// What stands before the first token of a layer.
    pub(super) fn start(&self, layer: LayerId) -> u64 {
        mix(self.seed, u64::from(layer.0).wrapping_add(1))
    }

    /// What is stored of a token.
    #[inline]
    pub(super) fn hash(&self, layer: LayerId, position: u32, token: u32, before: u64) -> u64 {
        let place = u64::from(position) << 32 | u64::from(token);
        mix(
            before ^ self.seed ^ u64::from(layer.0).rotate_left(24),
            place,
        )
    }

    /// What is stored of each of `tokens`, from the first on.
    pub(super) fn chain<'t>(
        &self,
        layer: LayerId,
        tokens: &'t [u32],
    ) -> impl Iterator<Item = u64> + use<'t> {
        let (weights, mut before) = (*self, self.start(layer));
        (tokens.iter().zip(0..)).map(move |(&token, position)| {
            before = weights.hash(layer, position, token, before);
            before
        })
    }

    /// The token that follows `len` tokens, of which `read` says what is stored.
    pub(super) fn next(
        &self,
        spec: &ModelCacheSpec,
        len: u32,
        mut read: impl FnMut(LayerId, u32) -> u64,
    ) -> Next {
        let block = spec.block_tokens();
        let mut seen = self.seed;
        for layer in (0..spec.n_layers()).map(LayerId) {
            let last = len.saturating_sub(1);
            if self.attention == Attention::Blocks {
                let mut at = (len - held(spec, layer, len)) / block * block + (block - 1);
                while at < last {
                    seen = mix(seen, read(layer, at));
                    at = at.saturating_add(block);
                }
            }
            seen = mix(seen, read(layer, last));
        }
        let stop = mix(seen, 1) >> 32;
        Next {
            token: ((seen >> 32) as u32) % self.vocabulary.max(1),
            stop: (stop.checked_rem(u64::from(self.stop_every))) == Some(0),
        }
    }
}

/// Tokens of a sequence of `len` that a layer sees: the last of it.
pub(super) fn held(spec: &ModelCacheSpec, layer: LayerId, len: u32) -> u32 {
    match (spec.layer_kind(layer), spec.sliding_window_tokens()) {
        (Some(LayerKind::SlidingWindow), Some(window)) => len.min(window),
        _ => len,
    }
}

#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let x = (a ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (x ^ (x >> 32)).wrapping_mul(0xCA5A_8263_9512_1157) ^ (x >> 29)
}
