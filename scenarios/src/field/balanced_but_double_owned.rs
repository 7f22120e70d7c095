//! sglang PR 27731: when a turn is cached that shares only the beginning of what was cached
//! before, one of the two versions of each further page has to go. The wrong one was freed: the
//! page that the cache now held. The other was nobody's. Free and used pages still added up to
//! all there were, so the leak check, which counts, saw nothing, until the freed page was handed
//! to somebody else.
//!
//! Alice caches a turn and then another that parts from it after the first block. The counts
//! balance. Bob takes blocks and writes into them; alice goes on from her cache, and the backend
//! reads it back.
//!
//! What ships exchanges the blocks given up for new ones in one step, by handles with an owner
//! and a generation; its audit looks at owners, not at counts.

use std::collections::BTreeMap;

use selvedge_core::platform::Platform;
use selvedge_core::time::Instant;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::device::{Memory, OnDevice, TOKEN};
use crate::bed::{BLOCK_TOKENS, check_all_back};
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "balanced-but-double-owned",
    ticket: "sglang PR 27731",
    summary: "the wrong one of two pages is freed, and the counts add up",
    source: concat!(
        include_str!("balanced_but_double_owned.rs"),
        include_str!("device.rs")
    ),
    twin: bodies!(a_turn_that_parts, FreesTheWrongOne),
    shipped: bodies!(a_turn_that_parts, Shipped),
    signature: "double-owned",
    must_reach: &["books-balance", "went-on-from-cache"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: u32 = 6;
const ALICE: usize = 0;
const BOB: usize = 1;

trait Server<P: Platform> {
    fn new() -> Self;
    /// A turn to its end, cached; how many tokens it started from.
    fn turn(&mut self, who: usize, prompt: &[u32]) -> u32;
    /// Whether used and free blocks are all blocks.
    fn balances(&self) -> bool;
    fn close(self);
}

fn a_turn_that_parts<P: Platform, T: Server<P>>(_: &Cx) -> Observation {
    let mut server = T::new();
    server.turn(ALICE, &[1, 1, 1, 1, 2, 2, 2]);
    server.turn(ALICE, &[1, 1, 1, 1, 3, 3, 3]);
    if server.balances() {
        reach("books-balance");
    }
    server.turn(BOB, &[9, 9, 9, 9, 9]);
    if server.turn(ALICE, &[1, 1, 1, 1, 3, 3, 3, TOKEN, 4]) == 8 {
        reach("went-on-from-cache");
    }
    server.close();
    Observation::none()
}

/// The code that ships.
struct Shipped<P: Platform>(OnDevice<P>);

impl<P: Platform> Server<P> for Shipped<P> {
    fn new() -> Self {
        Shipped(OnDevice::new(BLOCKS, "double-owned"))
    }

    fn turn(&mut self, who: usize, prompt: &[u32]) -> u32 {
        self.0.submit(who, prompt, 1, true);
        self.0.finish()
    }

    fn balances(&self) -> bool {
        let cached = self.0.engine.snapshot().blocks_cached;
        match self.0.pool.audit() {
            Ok(pool) => u64::from(pool.used) == cached,
            Err(violated) => violation!(violated.property, "{violated}"),
        }
    }

    fn close(self) {
        self.0.engine.shutdown(Instant::ZERO);
        check_all_back(&self.0.pool, "block-leaked");
    }
}

/// As reported.
struct FreesTheWrongOne<P: Platform> {
    memory: Memory<P>,
    free: Vec<u32>,
    /// By agent: the tokens of its cached turn, and its pages.
    cached: BTreeMap<usize, (Vec<u32>, Vec<u32>)>,
}

impl<P: Platform> Server<P> for FreesTheWrongOne<P> {
    fn new() -> Self {
        FreesTheWrongOne {
            memory: Memory::new(),
            free: (0..BLOCKS).collect(),
            cached: BTreeMap::new(),
        }
    }

    fn turn(&mut self, who: usize, prompt: &[u32]) -> u32 {
        let block = BLOCK_TOKENS as usize;
        let (before, old) = self.cached.remove(&who).unwrap_or_default();
        let common = (before.iter().zip(prompt))
            .take_while(|(a, b)| a == b)
            .count();
        let shared = common / block;
        let reused = &prompt[..shared * block];
        if let Some(what) = self.memory.wrong(&old, 0, reused) {
            violation!("double-owned", "{what}");
        }
        let mut tokens = prompt.to_vec();
        tokens.push(TOKEN);
        let mut pages = old[..shared].to_vec();
        while pages.len() < tokens.len().div_ceil(block) {
            match self.free.pop() {
                Some(page) => pages.push(page),
                None => violation!("no-page", "{:?}", self.cached),
            }
        }
        self.memory.write_all(&pages, 0, &tokens);
        // Past the shared part there are two versions of a page, and one of them goes.
        for (_, new) in old.iter().zip(&pages).skip(shared) {
            self.free.push(*new);
        }
        self.cached.insert(who, (tokens, pages));
        u32::try_from(reused.len()).unwrap_or(u32::MAX)
    }

    fn balances(&self) -> bool {
        let used: usize = self.cached.values().map(|(_, pages)| pages.len()).sum();
        used + self.free.len() == BLOCKS as usize
    }

    fn close(self) {}
}
