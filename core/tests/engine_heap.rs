//! The ticket's memory criteria, on the engine: no growth over 100 generations, and no step in
//! which more than one and a tenth of a cache is held (issue 6: the old cache and the new one
//! once lived at the same time). Measured by counting every byte.
//!
//! Counted for each thread alone: libtest's own thread allocates while a test runs.
#![allow(clippy::unwrap_used, reason = "all of this file is one test")]
#![allow(clippy::disallowed_types, reason = "the shipped platform's pointer")]

mod counting;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::mem;
use std::sync::Arc;

use counting::{LIVE, PEAK};
use selvedge_core::engine::{
    BatchEngine, BlockSlot, EngineConfig, Event, Generator, NewRequest, NewSequence, Produced,
    StepInput, Wake,
};
use selvedge_core::time::Instant;
use selvedge_core::{BlockPool, LayerId, ModelCacheSpec, RequestId};

const LAYERS: u32 = 4;
const BLOCK_TOKENS: u32 = 16;
/// What a token's keys and values take in one layer.
const TOKEN_BYTES: usize = 1_024;
const PROMPT: u32 = 100;
const ANSWER: u32 = 28;

/// Keeps what it computes in pages of one block, which it hands over without a copy.
#[derive(Default)]
struct Paged {
    sequences: BTreeMap<RequestId, Pages>,
}

struct Pages {
    /// By layer.
    pages: Vec<Vec<Box<[u8]>>>,
    computed: u32,
}

impl Pages {
    fn compute(&mut self, tokens: u32) {
        self.computed += tokens;
        let needed = self.computed.div_ceil(BLOCK_TOKENS) as usize;
        for layer in &mut self.pages {
            let page = || vec![0u8; TOKEN_BYTES * BLOCK_TOKENS as usize].into_boxed_slice();
            layer.resize_with(needed, page);
        }
    }
}

impl Generator for Paged {
    type Payload = Box<[u8]>;
    type Error = Infallible;

    fn insert(&mut self, new: NewSequence<'_, Box<[u8]>>) -> Result<(), Infallible> {
        let mut pages: Vec<Vec<Box<[u8]>>> = Vec::new();
        pages.resize_with(LAYERS as usize, Vec::new);
        for block in new.prefix.drain(..) {
            let LayerId(layer) = block.block().layer();
            pages[layer as usize].push(block.into_data());
        }
        let computed = new.reused;
        self.sequences
            .insert(new.request, Pages { pages, computed });
        Ok(())
    }

    fn step(&mut self, input: &StepInput<'_>) -> Result<Vec<Produced>, Infallible> {
        for chunk in input.prefill {
            let pages = self.sequences.get_mut(&chunk.request).unwrap();
            pages.compute(chunk.tokens.len() as u32);
        }
        let mut produced = Vec::with_capacity(input.decode.len());
        for &request in input.decode {
            let pages = self.sequences.get_mut(&request).unwrap();
            // The prompt's last token comes with the first of the answer.
            pages.compute(1 + u32::from(pages.computed + 1 == PROMPT));
            produced.push(Produced {
                request,
                token: pages.computed,
                finish: None,
            });
        }
        Ok(produced)
    }

    fn extract_cache(
        &mut self,
        request: RequestId,
        slots: &[BlockSlot],
    ) -> Result<Vec<Box<[u8]>>, Infallible> {
        let pages = self.sequences.get_mut(&request).unwrap();
        let page = |slot: &BlockSlot| {
            let place = (slot.tokens.start / BLOCK_TOKENS) as usize;
            mem::take(&mut pages.pages[slot.block.layer().0 as usize][place])
        };
        Ok(slots.iter().map(page).collect())
    }

    fn remove(&mut self, request: RequestId) {
        self.sequences.remove(&request);
    }
}

struct Bench {
    pool: Arc<BlockPool>,
    engine: BatchEngine<Paged>,
}

fn bench() -> Bench {
    let spec = ModelCacheSpec::new(LAYERS, 1, 8, BLOCK_TOKENS).unwrap();
    let pool: Arc<BlockPool> = Arc::new(BlockPool::new(spec, 2 * one_cache_blocks()).unwrap());
    let engine = BatchEngine::new(pool.clone(), Paged::default(), EngineConfig::default()).unwrap();
    Bench { pool, engine }
}

fn one_cache_blocks() -> u32 {
    LAYERS * (PROMPT + ANSWER).div_ceil(BLOCK_TOKENS)
}

fn one_cache_bytes() -> usize {
    one_cache_blocks() as usize * BLOCK_TOKENS as usize * TOKEN_BYTES
}

impl Bench {
    /// One generation from beginning to end; its prompt differs from the last from token
    /// `common` on.
    fn generate(&self, name: &str, common: u32, salt: u32) {
        let agent = self.pool.agent(name).unwrap();
        let prompt = (0..PROMPT)
            .map(|i| if i < common { i } else { salt })
            .collect();
        let request = NewRequest::new(agent, prompt, ANSWER);
        self.engine.submit(request, Instant::ZERO).unwrap();
        let mut tokens = 0;
        while self.engine.wake() == Wake::Now {
            let told = self.engine.step(Instant::ZERO).unwrap();
            tokens += told
                .iter()
                .filter(|event| matches!(event, Event::Token { .. }))
                .count();
        }
        assert_eq!(tokens as u32, ANSWER);
    }
}

/// Runs `cycle` until the heap is warm, then 100 times: not a byte may stay. Returns what was
/// needed at once beyond what was there before the first.
fn peak_of_100(what: &str, bench: &Bench, mut cycle: impl FnMut(&Bench, u32)) -> usize {
    let empty = LIVE.get();
    (0..4).for_each(|i| cycle(bench, i));
    let warm = LIVE.get();
    PEAK.set(warm);
    (4..104).for_each(|i| cycle(bench, i));
    assert_eq!(
        LIVE.get(),
        warm,
        "{what}: 100 generations left bytes behind"
    );
    (PEAK.get() - empty).cast_unsigned()
}

#[test]
fn a_hundred_generations_leave_nothing_and_never_hold_two_caches() {
    let one = one_cache_bytes();
    assert_eq!(one, 524_288);
    let most = one + one / 10;

    // The same agent, turn after turn: each starts from what it has in common with the last.
    for common in [0, 50, PROMPT] {
        let peak = peak_of_100("one agent", &bench(), |bench, i| {
            bench.generate("a", common, i);
        });
        assert!(peak >= one, "the count sees a cache");
        assert!(
            peak < most,
            "{common} in common: {peak} bytes at once, one cache has {one}"
        );
    }
    // Nothing kept: the heap is empty between.
    let peak = peak_of_100("nobody stays", &bench(), |bench, i| {
        bench.generate("a", 0, i);
        drop(bench.engine.take_cache(bench.pool.agent("a").unwrap()));
    });
    assert!(peak < most, "{peak} bytes at once");
    // Four agents on room for two: each third one drops the least recently used.
    let names = ["a", "b", "c", "d"];
    let peak = peak_of_100("evictions", &bench(), |bench, i| {
        bench.generate(names[i as usize % 4], 0, i);
    });
    assert!(peak < 2 * most, "{peak} bytes at once, room is for two");
}
