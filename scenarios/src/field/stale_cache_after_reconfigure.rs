//! vllm #17103 and #20627: weights were swapped in place, as reinforcement learning does between
//! two rounds, and the prefix cache was kept. A prompt that had been seen before then started
//! from keys and values that the old weights had computed.
//!
//! A prompt is answered, answered again from its cache, and once more after a swap. The backend
//! reads back what a prompt starts from.
//!
//! What ships changes the model only by `reconfigure`, which forgets every cache first.

use std::collections::BTreeMap;

use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::device::{Memory, OnDevice, TOKEN};
use crate::bed::{BLOCK_TOKENS, check_all_back, spec_of};
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "stale-cache-after-reconfigure",
    ticket: "vllm#17103, #20627",
    summary: "weights swapped, the prefix cache kept",
    source: concat!(
        include_str!("stale_cache_after_reconfigure.rs"),
        include_str!("device.rs")
    ),
    twin: bodies!(swapped, KeepsHashes),
    shipped: bodies!(swapped, Shipped),
    signature: "stale-prefix",
    must_reach: &["prefix-reused", "computed-anew"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: u32 = 4;

trait Server<P: Platform> {
    fn new() -> Self;
    /// Answers a prompt by one token; how many tokens of it were not computed again.
    fn answer(&mut self, prompt: &[u32]) -> u32;
    fn swap_weights(&mut self);
    fn close(self);
}

fn swapped<P: Platform, T: Server<P>>(_: &Cx) -> Observation {
    let mut server = T::new();
    server.answer(&[1, 2, 3]);
    let again = [1, 2, 3, TOKEN, 4];
    if server.answer(&again) > 0 {
        reach("prefix-reused");
    }
    server.swap_weights();
    if server.answer(&again) == 0 {
        reach("computed-anew");
    }
    server.close();
    Observation::none()
}

/// The code that ships.
struct Shipped<P: Platform>(OnDevice<P>);

impl<P: Platform> Server<P> for Shipped<P> {
    fn new() -> Self {
        Shipped(OnDevice::new(BLOCKS, "stale-prefix"))
    }

    fn answer(&mut self, prompt: &[u32]) -> u32 {
        self.0.submit(0, prompt, 1, true);
        self.0.finish()
    }

    fn swap_weights(&mut self) {
        let swapped = (self.0.engine).reconfigure(spec_of(1), BLOCKS, |device| {
            device.weights += 1;
            Ok(())
        });
        if let Err(refused) = swapped {
            violation!("swap-refused", "{refused}");
        }
    }

    fn close(self) {
        self.0.engine.shutdown(selvedge_core::time::Instant::ZERO);
        check_all_back(&self.0.pool, "block-leaked");
    }
}

/// As reported: a block is found by its tokens, whatever weights it was computed with.
struct KeepsHashes<P: Platform> {
    memory: Memory<P>,
    /// By all tokens up to the end of a block: its place.
    known: BTreeMap<Vec<u32>, u32>,
    weights: u32,
    places: u32,
}

impl<P: Platform> Server<P> for KeepsHashes<P> {
    fn new() -> Self {
        KeepsHashes {
            memory: Memory::new(),
            known: BTreeMap::new(),
            weights: 0,
            places: 0,
        }
    }

    fn answer(&mut self, prompt: &[u32]) -> u32 {
        let block = BLOCK_TOKENS as usize;
        let mut tokens = prompt.to_vec();
        tokens.push(TOKEN);
        let mut reused = 0;
        for end in (block..=tokens.len()).step_by(block) {
            let chunk = &tokens[end - block..end];
            if let Some(&place) = self.known.get(&tokens[..end]) {
                if let Some(what) = self.memory.wrong(&[place], self.weights, chunk) {
                    violation!("stale-prefix", "{what}");
                }
                reused = u32::try_from(end).unwrap_or(u32::MAX);
                continue;
            }
            let place = self.places;
            self.places += 1;
            self.memory.write_all(&[place], self.weights, chunk);
            self.known.insert(tokens[..end].to_vec(), place);
        }
        reused
    }

    fn swap_weights(&mut self) {
        self.weights += 1;
    }

    fn close(self) {}
}
