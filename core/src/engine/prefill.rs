//! Which part of which prompt the next step computes. A long prompt is computed in chunks, so
//! that those who decode are not held up (the origin once held all up for fourteen minutes),
//! and the chunks shrink as attention over what came before grows.

use super::action::{PlannedChunk, StepPlan};
use super::config::EngineConfig;
use super::state::EngineState;
use crate::RequestId;

/// Tokens of the chunk that begins at `position`: the largest up to 2,000 tokens, half of it up
/// to 8,000, a quarter up to 20,000, then the smallest (the origin's thresholds).
///
/// ```
/// use selvedge_core::engine::{EngineConfig, chunk_tokens};
///
/// let config = EngineConfig::default();
/// let sizes = [0, 2_000, 8_000, 20_000].map(|at| chunk_tokens(&config, at));
/// assert_eq!(sizes, [4_096, 2_048, 1_024, 512]);
/// ```
#[must_use]
pub fn chunk_tokens(config: &EngineConfig, position: u32) -> u32 {
    let (min, max) = (config.prefill_chunk_min, config.prefill_chunk_max);
    let size = match position {
        0..2_000 => max,
        2_000..8_000 => max / 2,
        8_000..20_000 => max / 4,
        _ => min,
    };
    size.max(min)
}

impl EngineState {
    /// What the next step computes: a token of everybody who decodes, and of the prompts, in
    /// turn, as many chunks as fit into the largest.
    pub(super) fn step_plan(&self) -> StepPlan {
        let mut decode = Vec::with_capacity(self.live.len());
        let mut prefilling = Vec::new();
        for &id in &self.live {
            let request = &self.requests[&id];
            if !request.is_prefilled() {
                prefilling.push(id);
            } else if request.has_room() {
                decode.push(id);
            }
        }
        // In turn: whoever comes after the one served last is served first.
        let first = prefilling.partition_point(|&id| id <= self.prefilled_last);
        if first < prefilling.len() {
            prefilling.rotate_left(first);
        }
        StepPlan {
            decode,
            prefill: self.chunks(&prefilling),
        }
    }

    fn chunks(&self, prefilling: &[RequestId]) -> Vec<PlannedChunk> {
        let mut budget = self.config.prefill_chunk_max;
        let mut chunks = Vec::new();
        for &id in prefilling {
            let request = &self.requests[&id];
            // The last token of the prompt is fed by the first decode.
            let left = request.len() - 1 - request.computed;
            let tokens = (left.min(chunk_tokens(&self.config, request.computed))).min(budget);
            if tokens == 0 {
                break;
            }
            budget -= tokens;
            chunks.push(PlannedChunk {
                request: id,
                start: request.computed,
                end: request.computed + tokens,
            });
        }
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_of_17600_tokens_comes_to_these_chunks() {
        let config = EngineConfig::default();
        let (mut at, mut chunks) = (0, Vec::new());
        while at < 17_600 {
            let tokens = chunk_tokens(&config, at).min(17_600 - at);
            chunks.push(tokens);
            at += tokens;
        }
        let mut wanted = vec![4_096, 2_048, 2_048, 1_024];
        wanted.extend([1_024; 8]);
        wanted.push(192);
        assert_eq!(chunks, wanted);
    }

    #[test]
    fn no_chunk_is_smaller_than_the_smallest() {
        let config = EngineConfig {
            prefill_chunk_max: 600,
            prefill_chunk_min: 512,
            ..EngineConfig::default()
        };
        assert_eq!(
            [0, 5_000, 9_000, 30_000].map(|at| chunk_tokens(&config, at)),
            [600, 512, 512, 512]
        );
    }
}
