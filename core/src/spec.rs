//! How large one block of a model's KV cache is: plain byte arithmetic, as the origin's
//! `ModelCacheSpec` has it (its published values are this module's tests).

use thiserror::Error;

use crate::LayerId;
use crate::ids::Stamp;

/// What a layer attends to, and hence how many blocks it can ever use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LayerKind {
    /// Every token before it: no cap.
    #[default]
    Global,
    /// The last [`ModelCacheSpec::sliding_window_tokens`] tokens only.
    SlidingWindow,
}

/// How the cached keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KvPrecision {
    /// 16-bit floats: 2 bytes an element, no scales.
    Fp16,
    /// 8 bits an element, with a 2-byte scale and a 2-byte bias for each group.
    Q8,
    /// 4 bits an element, with a 2-byte scale and a 2-byte bias for each group.
    #[default]
    Q4,
}

/// Why a [`ModelCacheSpec`] was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SpecError {
    /// A size is zero: give every size as at least 1.
    #[error("{field} is 0; it must be at least 1")]
    Zero {
        /// The field's name.
        field: &'static str,
    },
    /// Quantisation groups must be a power of two: 32, 64 or 128 are usual.
    #[error("kv_group_size is {got}; it must be a power of two")]
    GroupSize {
        /// What was given.
        got: u32,
    },
    /// A block's handle has 16 bits for its layer: no model has so many.
    #[error("n_layers is {got}; at most 65535 can be told apart")]
    TooManyLayers {
        /// What was given.
        got: u32,
    },
    /// Give one kind a layer.
    #[error("{got} layer kinds for {n_layers} layers; give one a layer")]
    LayerKinds {
        /// How many kinds were given.
        got: usize,
        /// How many layers there are.
        n_layers: u32,
    },
    /// A layer slides but no window was given: call [`ModelCacheSpec::with_layers`] with one.
    #[error("a layer is SlidingWindow but no window was given; give one of at least 1 token")]
    NoWindow,
    /// One block is larger than 2^64 bytes: some field is not what was meant.
    #[error("one block would exceed 2^64 bytes; check heads, dimensions and block_tokens")]
    TooLarge,
}

/// The shape of one model's KV cache.
///
/// ```
/// use selvedge_core::spec::{KvPrecision, ModelCacheSpec};
///
/// // 48 layers, 8 KV heads of dimension 256, blocks of 256 tokens.
/// let spec = ModelCacheSpec::new(48, 8, 256, 256)?.with_precision(KvPrecision::Q4, 64)?;
/// assert_eq!(spec.bytes_per_block(), 589_824);
/// # Ok::<(), selvedge_core::spec::SpecError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelCacheSpec {
    n_layers: u32,
    n_kv_heads: u32,
    k_head_dim: u32,
    v_head_dim: u32,
    block_tokens: u32,
    precision: KvPrecision,
    group_size: u32,
    sliding_window_tokens: Option<u32>,
    layers: Vec<LayerKind>,
    bytes_per_block: u64,
}

impl ModelCacheSpec {
    /// A model of global layers with equal key and value dimensions, quantised to 4 bits in
    /// groups of 64 (the origin's defaults).
    ///
    /// # Errors
    /// [`SpecError::Zero`] if any size is 0, [`SpecError::TooManyLayers`] past 65,535 of them,
    /// [`SpecError::TooLarge`] if a block overflows.
    pub fn new(
        n_layers: u32,
        n_kv_heads: u32,
        head_dim: u32,
        block_tokens: u32,
    ) -> Result<Self, SpecError> {
        // Before a kind is noted for each.
        if n_layers > Stamp::MAX_LAYERS {
            return Err(SpecError::TooManyLayers { got: n_layers });
        }
        ModelCacheSpec {
            n_layers,
            n_kv_heads,
            k_head_dim: head_dim,
            v_head_dim: head_dim,
            block_tokens,
            precision: KvPrecision::default(),
            group_size: 64,
            sliding_window_tokens: None,
            layers: vec![LayerKind::Global; n_layers as usize],
            bytes_per_block: 0,
        }
        .checked()
    }

    /// The same model with values of another dimension than keys (as MLA has them).
    ///
    /// # Errors
    /// [`SpecError::Zero`], [`SpecError::TooLarge`].
    pub fn with_v_head_dim(mut self, v_head_dim: u32) -> Result<Self, SpecError> {
        self.v_head_dim = v_head_dim;
        self.checked()
    }

    /// The same model at another precision. `group_size` is how many elements share a scale;
    /// FP16 has none and ignores it.
    ///
    /// # Errors
    /// [`SpecError::Zero`] or [`SpecError::GroupSize`] for the group size.
    pub fn with_precision(
        mut self,
        precision: KvPrecision,
        group_size: u32,
    ) -> Result<Self, SpecError> {
        self.precision = precision;
        self.group_size = group_size;
        self.checked()
    }

    /// The same model with the given kind for each layer, and the window of those that slide.
    ///
    /// # Errors
    /// [`SpecError::LayerKinds`] unless there is one kind a layer, [`SpecError::NoWindow`] if
    /// one slides and `window_tokens` is `None`, [`SpecError::Zero`] for a window of 0.
    pub fn with_layers(
        mut self,
        layers: Vec<LayerKind>,
        window_tokens: Option<u32>,
    ) -> Result<Self, SpecError> {
        self.layers = layers;
        self.sliding_window_tokens = window_tokens;
        self.checked()
    }

    /// Layers of the model.
    #[must_use]
    pub fn n_layers(&self) -> u32 {
        self.n_layers
    }

    /// Tokens one block holds.
    #[must_use]
    pub fn block_tokens(&self) -> u32 {
        self.block_tokens
    }

    /// The window of the layers that slide, in tokens.
    #[must_use]
    pub fn sliding_window_tokens(&self) -> Option<u32> {
        self.sliding_window_tokens
    }

    /// What `layer` attends to; `None` past the last layer.
    #[must_use]
    pub fn layer_kind(&self, layer: LayerId) -> Option<LayerKind> {
        self.layers.get(layer.0 as usize).copied()
    }

    /// Bytes one block of one layer takes, scales and biases included.
    #[must_use]
    pub fn bytes_per_block(&self) -> u64 {
        self.bytes_per_block
    }

    /// The most blocks one agent can use of `layer`: `None` if it attends to everything (or is
    /// past the last layer), else its window in blocks, rounded up.
    #[must_use]
    pub fn max_blocks_for_layer(&self, layer: LayerId) -> Option<u32> {
        match self.layer_kind(layer)? {
            LayerKind::Global => None,
            LayerKind::SlidingWindow => self
                .sliding_window_tokens
                .map(|tokens| tokens.div_ceil(self.block_tokens)),
        }
    }

    /// Blocks one layer needs for `tokens` tokens, the window not considered.
    #[must_use]
    pub fn blocks_for_tokens(&self, tokens: u32) -> u32 {
        tokens.div_ceil(self.block_tokens)
    }

    /// Whole blocks that fit into `bytes` of memory.
    #[must_use]
    pub fn blocks_for_budget(&self, bytes: u64) -> u64 {
        bytes / self.bytes_per_block
    }

    fn checked(mut self) -> Result<Self, SpecError> {
        let sizes = [
            ("n_layers", self.n_layers),
            ("n_kv_heads", self.n_kv_heads),
            ("head_dim", self.k_head_dim),
            ("v_head_dim", self.v_head_dim),
            ("block_tokens", self.block_tokens),
            ("kv_group_size", self.group_size),
            (
                "sliding_window_tokens",
                self.sliding_window_tokens.unwrap_or(1),
            ),
        ];
        for (field, value) in sizes {
            if value == 0 {
                return Err(SpecError::Zero { field });
            }
        }
        if !self.group_size.is_power_of_two() {
            return Err(SpecError::GroupSize {
                got: self.group_size,
            });
        }
        if self.layers.len() != self.n_layers as usize {
            return Err(SpecError::LayerKinds {
                got: self.layers.len(),
                n_layers: self.n_layers,
            });
        }
        if self.sliding_window_tokens.is_none() && self.layers.contains(&LayerKind::SlidingWindow) {
            return Err(SpecError::NoWindow);
        }
        self.bytes_per_block = self.block_bytes().ok_or(SpecError::TooLarge)?;
        Ok(self)
    }

    /// `None` where it overflows.
    fn block_bytes(&self) -> Option<u64> {
        let elements = |dim: u32| {
            u64::from(self.n_kv_heads)
                .checked_mul(u64::from(dim))?
                .checked_mul(u64::from(self.block_tokens))
        };
        let (k, v) = (elements(self.k_head_dim)?, elements(self.v_head_dim)?);
        let both = k.checked_add(v)?;
        let bits = match self.precision {
            KvPrecision::Fp16 => return both.checked_mul(2),
            KvPrecision::Q8 => 8,
            KvPrecision::Q4 => 4,
        };
        let groups = k.div_ceil(self.group_size.into()) + v.div_ceil(self.group_size.into());
        let scales_and_biases = groups.checked_mul(4)?;
        (both.checked_mul(bits)? / 8).checked_add(scales_and_biases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gemma(precision: KvPrecision) -> ModelCacheSpec {
        ModelCacheSpec::new(48, 8, 256, 256)
            .unwrap()
            .with_precision(precision, 64)
            .unwrap()
    }

    #[test]
    fn the_four_published_block_sizes() {
        assert_eq!(gemma(KvPrecision::Fp16).bytes_per_block(), 2_097_152);
        assert_eq!(gemma(KvPrecision::Q8).bytes_per_block(), 1_114_112);
        assert_eq!(gemma(KvPrecision::Q4).bytes_per_block(), 589_824);
        let mla = ModelCacheSpec::new(48, 16, 192, 256)
            .unwrap()
            .with_v_head_dim(128)
            .unwrap();
        assert_eq!(mla.bytes_per_block(), 737_280);
    }

    #[test]
    fn groups_round_up_for_keys_and_values_apart() {
        // 3 key and 3 value elements, groups of 4: one group each, not two thirds of two.
        let spec = ModelCacheSpec::new(1, 1, 3, 1)
            .unwrap()
            .with_precision(KvPrecision::Q8, 4)
            .unwrap();
        assert_eq!(spec.bytes_per_block(), 6 + 8);
    }

    #[test]
    fn a_window_caps_its_layers_only() {
        let spec = ModelCacheSpec::new(2, 1, 8, 256)
            .unwrap()
            .with_layers(
                vec![LayerKind::Global, LayerKind::SlidingWindow],
                Some(1_000),
            )
            .unwrap();
        assert_eq!(spec.max_blocks_for_layer(LayerId(0)), None);
        assert_eq!(spec.max_blocks_for_layer(LayerId(1)), Some(4));
        assert_eq!(spec.max_blocks_for_layer(LayerId(2)), None);
    }

    #[test]
    fn a_pool_is_sized_by_its_budget() {
        assert_eq!(
            gemma(KvPrecision::Q4).blocks_for_budget(8_192 << 20),
            14_563
        );
        assert_eq!(gemma(KvPrecision::Q4).blocks_for_tokens(257), 2);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let ok = || ModelCacheSpec::new(2, 1, 8, 16).unwrap();
        assert_eq!(
            ModelCacheSpec::new(0, 1, 8, 16),
            Err(SpecError::Zero { field: "n_layers" })
        );
        assert_eq!(
            ModelCacheSpec::new(65_536, 1, 8, 16),
            Err(SpecError::TooManyLayers { got: 65_536 })
        );
        assert!(ModelCacheSpec::new(65_535, 1, 8, 16).is_ok());
        assert_eq!(
            ModelCacheSpec::new(u32::MAX, 1, 8, 16)
                .unwrap_err()
                .to_string(),
            "n_layers is 4294967295; at most 65535 can be told apart"
        );
        assert_eq!(
            ModelCacheSpec::new(2, 1, 8, 0).unwrap_err().to_string(),
            "block_tokens is 0; it must be at least 1"
        );
        assert_eq!(
            ok().with_v_head_dim(0),
            Err(SpecError::Zero {
                field: "v_head_dim"
            })
        );
        assert_eq!(
            ok().with_precision(KvPrecision::Q8, 48),
            Err(SpecError::GroupSize { got: 48 })
        );
        assert_eq!(
            ok().with_layers(vec![LayerKind::Global], None),
            Err(SpecError::LayerKinds {
                got: 1,
                n_layers: 2
            })
        );
        assert_eq!(
            ok().with_layers(vec![LayerKind::SlidingWindow; 2], None),
            Err(SpecError::NoWindow)
        );
        assert_eq!(
            ok().with_layers(vec![LayerKind::SlidingWindow; 2], Some(0)),
            Err(SpecError::Zero {
                field: "sliding_window_tokens"
            })
        );
        assert_eq!(
            ModelCacheSpec::new(1, u32::MAX, u32::MAX, u32::MAX),
            Err(SpecError::TooLarge)
        );
    }
}
