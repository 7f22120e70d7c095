//! sglang PR 32446: with max_tokens = 1 the only token comes from the prefill, and the request is
//! complete before it was ever in the batch that decodes. Its end was told; but what was
//! complete was released where the decode batch is filtered, and it never came by there.
//!
//! What ships has one place where a token is taken, and one way out.

use std::marker::PhantomData;

use selvedge_core::engine::{EngineConfig, NewRequest, Wake};
use selvedge_core::platform::Platform;
use selvedge_core::time::Instant;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::{Bed, Script, completed, tokens_of};
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "prefill-only",
    ticket: "sglang PR 32446",
    summary: "max_tokens = 1: complete, and never released",
    source: concat!(include_str!("prefill_only.rs"), include_str!("../bed.rs")),
    twin: bodies!(one_token, ReleasesAfterDecode),
    shipped: bodies!(one_token, Shipped),
    signature: "never-released",
    must_reach: &["long-prompt-in-chunks", "released"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: u32 = 4;
const TURNS: u32 = 20;
/// Prompt tokens of one chunk.
const CHUNK: u32 = 4;

trait Server<P: Platform> {
    fn new() -> Self;
    fn submit(&mut self, prompt: u32, max_tokens: u32);
    /// Turns until it was told to be complete, at most [`TURNS`].
    fn until_told(&mut self) -> u32;
    fn blocks_used(&self) -> u32;
}

fn one_token<P: Platform, T: Server<P>>(_: &Cx) -> Observation {
    let mut server = T::new();
    // Two tokens are released by both; then one, of a short prompt and a long one.
    for (prompt, max_tokens) in [(3, 2), (3, 1), (2 * CHUNK + 2, 1)] {
        server.submit(prompt, max_tokens);
        let turns = server.until_told();
        if turns >= TURNS {
            violation!("never-told", "{prompt} tokens and {max_tokens}");
        }
        if prompt > CHUNK && turns > 1 {
            reach("long-prompt-in-chunks");
        }
        let used = server.blocks_used();
        if used > 0 {
            violation!(
                "never-released",
                "{used} blocks after {prompt} tokens and {max_tokens} more"
            );
        }
    }
    reach("released");
    Observation::none()
}

/// The code that ships.
struct Shipped<P: Platform> {
    bed: Bed<P>,
    request: Option<(selvedge_core::RequestId, u32)>,
}

impl<P: Platform> Server<P> for Shipped<P> {
    fn new() -> Self {
        let config = EngineConfig {
            prefill_chunk_max: CHUNK,
            prefill_chunk_min: CHUNK,
            ..EngineConfig::default()
        };
        Shipped {
            bed: Bed::new(1, BLOCKS, config, Script::default()),
            request: None,
        }
    }

    fn submit(&mut self, prompt: u32, max_tokens: u32) {
        let mut request = NewRequest::new(self.bed.alice, vec![1; prompt as usize], max_tokens);
        request.keep_cache = false;
        match self.bed.engine.submit(request, Instant::ZERO) {
            Ok(id) => self.request = Some((id, max_tokens)),
            Err(refused) => violation!("submit-refused", "{refused}"),
        }
    }

    fn until_told(&mut self) -> u32 {
        let Some((request, max_tokens)) = self.request else {
            return TURNS;
        };
        let mut told = Vec::new();
        for turn in 1..=TURNS {
            told.extend(self.bed.step());
            if completed(&told, request) {
                let tokens = tokens_of(&told, request).len();
                if tokens != max_tokens as usize {
                    violation!("wrong-length", "{tokens} of {max_tokens} tokens");
                }
                return turn;
            }
        }
        TURNS
    }

    fn blocks_used(&self) -> u32 {
        if self.bed.engine.wake() != Wake::OnCall {
            violation!(
                "restless",
                "nothing is left to do, and it wants to be woken"
            );
        }
        self.bed.pool.snapshot().used
    }
}

/// As reported.
struct ReleasesAfterDecode<P: Platform> {
    /// Prompt tokens to compute, tokens to generate, blocks.
    prefill: Option<(u32, u32, u32)>,
    /// Tokens to generate, blocks.
    decode: Option<(u32, u32)>,
    used: u32,
    platform: PhantomData<P>,
}

impl<P: Platform> ReleasesAfterDecode<P> {
    /// Whether the request was told to be complete.
    fn turn(&mut self) -> bool {
        if let Some((left, max_tokens, blocks)) = self.prefill.take() {
            if left > CHUNK {
                self.prefill = Some((left - CHUNK, max_tokens, blocks));
                return false;
            }
            // The prefill gives the first token. Who is complete does not join the batch.
            self.decode = (max_tokens > 1).then_some((max_tokens - 1, blocks));
            return max_tokens == 1;
        }
        match &mut self.decode {
            Some((left @ 2.., _)) => {
                *left -= 1;
                false
            }
            Some((_, blocks)) => {
                self.used -= *blocks;
                self.decode = None;
                true
            }
            None => false,
        }
    }
}

impl<P: Platform> Server<P> for ReleasesAfterDecode<P> {
    fn new() -> Self {
        ReleasesAfterDecode {
            prefill: None,
            decode: None,
            used: 0,
            platform: PhantomData,
        }
    }

    fn submit(&mut self, prompt: u32, max_tokens: u32) {
        let blocks = (prompt + max_tokens).div_ceil(crate::bed::BLOCK_TOKENS);
        self.used += blocks;
        self.prefill = Some((prompt, max_tokens, blocks));
    }

    fn until_told(&mut self) -> u32 {
        (1..=TURNS).find(|_| self.turn()).unwrap_or(TURNS)
    }

    fn blocks_used(&self) -> u32 {
        self.used
    }
}
