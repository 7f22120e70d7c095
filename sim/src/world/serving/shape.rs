//! What the server serves: the model, the pool and the engine's bounds, drawn anew for each run
//! and for each change of model, small enough that agents compete for blocks all the time.

use std::time::Duration;

use selvedge_core::ModelCacheSpec;
use selvedge_core::engine::{Admission, EngineConfig};
use selvedge_core::spec::LayerKind;

use crate::content::Weights;
use crate::world::random::hash;

/// Tokens that a conversation comes to at most, with what is still to be generated.
pub(in crate::world) const MOST_TOKENS: u32 = 72;

/// A model and a pool for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::world) struct Shape {
    pub(in crate::world) spec: ModelCacheSpec,
    pub(in crate::world) blocks: u32,
    pub(in crate::world) weights: Weights,
}

impl Shape {
    /// Of a seed, for the model of a number in a life of the server: no two have the same weights.
    pub(in crate::world) fn draw(seed: u64, life: u64, model: u64) -> Shape {
        let drawn = hash(&[seed, model, 0x7368_6170]);
        let layers = 1 + (drawn & 1) as u32;
        let block_tokens = [2, 4, 4, 8][(drawn >> 8) as usize % 4];
        let slides = layers > 1 && (drawn >> 16).is_multiple_of(4);
        let spec = ModelCacheSpec::new(layers, 1, 8, block_tokens)
            .and_then(|spec| match slides {
                true => {
                    let kinds = vec![LayerKind::Global, LayerKind::SlidingWindow];
                    spec.with_layers(kinds, Some(block_tokens * 3))
                }
                false => Ok(spec),
            })
            .expect("INVARIANT: each number is above 0, and there is a kind for each layer");
        // One that is as long as may be fits, and a few more of the usual length.
        let one = MOST_TOKENS.div_ceil(block_tokens) * layers;
        let blocks = one + one * ((drawn >> 24) % 5) as u32 / 4;
        let weights = Weights {
            stop_every: [0, 0, 24][(drawn >> 32) as usize % 3],
            vocabulary: 997,
            ..Weights::of(hash(&[seed, life, model]))
        };
        Shape {
            spec,
            blocks,
            weights,
        }
    }
}

/// The engine's bounds, of a seed.
pub(in crate::world) fn engine_config(seed: u64) -> EngineConfig {
    let drawn = hash(&[seed, 0x656e_6769]);
    let most = |shift: u32, of: u64| ((drawn >> shift) % of) as u32;
    let chunk = 4 << most(0, 3);
    EngineConfig {
        max_running: 1 + most(8, 4),
        max_waiting: 1 + most(16, 6),
        admission: match most(24, 2) {
            0 => Admission::Full,
            _ => Admission::Watermark {
                blocks: most(28, 4),
            },
        },
        max_overtakes: most(32, 4),
        prefill_chunk_min: chunk,
        prefill_chunk_max: chunk * (1 + most(40, 4)),
        max_silent_steps: 2,
        retry: Duration::from_millis(40),
    }
}
