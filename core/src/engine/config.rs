//! How an engine is set up: bounds, fairness and when blocks are taken. All of it is values,
//! so that what is tested is what ships.

use core::time::Duration;

use thiserror::Error;

/// When a request gets its blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Admission {
    /// At admission, for all layers, for the prompt and every token it may generate. So a
    /// running request never lacks blocks; the origin reserved one layer's only and ran out at
    /// the very end.
    #[default]
    Full,
    /// At admission for the prompt, then as it grows. More requests run at once; when blocks
    /// run out, the youngest gives its own up and starts again later (it is *preempted*, once
    /// at most: the second time it gets everything at admission).
    Watermark {
        /// Blocks that must stay available after an admission while others are running, for
        /// those to grow into.
        blocks: u32,
    },
}

/// The bounds of an engine.
///
/// ```
/// use selvedge_core::engine::{Admission, EngineConfig};
///
/// let config = EngineConfig {
///     max_running: 64,
///     admission: Admission::Watermark { blocks: 128 },
///     ..EngineConfig::default()
/// };
/// assert!(config.check().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EngineConfig {
    /// Requests in the backend at once. Default 256.
    pub max_running: u32,
    /// Requests that may wait for admission; the next is refused. Default 4,096.
    pub max_waiting: u32,
    /// When blocks are taken. Default [`Admission::Full`].
    pub admission: Admission,
    /// How often one waiting request may be overtaken by younger ones that fit where it does
    /// not. Default 8; 0 is strict first come, first served.
    pub max_overtakes: u32,
    /// The largest chunk of a prompt one step computes, in tokens, and the most prompt tokens
    /// in one step altogether. Default 4,096.
    pub prefill_chunk_max: u32,
    /// The smallest that adaptive chunks come down to, in tokens. Default 512.
    pub prefill_chunk_min: u32,
    /// How many steps in a row the backend may return nothing for a sequence it was told to
    /// decode; one more and the request fails. Default 16.
    pub max_silent_steps: u32,
    /// How long to wait before asking a pool again that had too few blocks while this engine
    /// gave none back: only others who use the pool can have. Default 50 ms.
    pub retry: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            max_running: 256,
            max_waiting: 4_096,
            admission: Admission::Full,
            max_overtakes: 8,
            prefill_chunk_max: 4_096,
            prefill_chunk_min: 512,
            max_silent_steps: 16,
            retry: Duration::from_millis(50),
        }
    }
}

impl EngineConfig {
    /// Whether an engine can run by it.
    ///
    /// # Errors
    /// Each of [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        for (field, value) in [
            ("max_running", self.max_running),
            ("max_waiting", self.max_waiting),
            ("prefill_chunk_min", self.prefill_chunk_min),
        ] {
            if value == 0 {
                return Err(ConfigError::Zero { field });
            }
        }
        if self.prefill_chunk_max < self.prefill_chunk_min {
            return Err(ConfigError::Chunks {
                min: self.prefill_chunk_min,
                max: self.prefill_chunk_max,
            });
        }
        if self.retry.is_zero() {
            return Err(ConfigError::Zero { field: "retry" });
        }
        Ok(())
    }
}

/// Why a configuration was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A bound of 0 would serve nobody: give at least 1.
    #[error("{field} is 0; it must be at least 1")]
    Zero {
        /// The field's name.
        field: &'static str,
    },
    /// The smallest chunk is larger than the largest: swap them.
    #[error("prefill_chunk_min is {min}, more than prefill_chunk_max, which is {max}")]
    Chunks {
        /// The smallest.
        min: u32,
        /// The largest.
        max: u32,
    },
}
