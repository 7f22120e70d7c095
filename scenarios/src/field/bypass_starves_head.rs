//! vllm #31731, PR 33499: so that a large request at the head does not hold the small ones up,
//! the scheduler passed over whoever does not fit now. Nothing bounded how often. While small
//! requests keep coming, there is never a moment at which enough is free, and the head starves.
//!
//! One request needs the whole pool. Two clients each send a small one as soon as their last has
//! ended, out of step, so that one of them always runs.
//!
//! What ships lets a request be overtaken `max_overtakes` times, and then nobody goes first.

use std::collections::VecDeque;
use std::marker::PhantomData;

use selvedge_core::AgentId;
use selvedge_core::engine::{EngineConfig, Event, NewRequest};
use selvedge_core::platform::Platform;
use selvedge_core::time::Instant;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::{BLOCK_TOKENS, Bed, Script, agent_of};
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "bypass-starves-head",
    ticket: "vllm#31731, PR 33499",
    summary: "passed over without bound, the head of the queue starves",
    source: concat!(
        include_str!("bypass_starves_head.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(small_ones_keep_coming, Unbounded),
    shipped: bodies!(small_ones_keep_coming, Shipped),
    signature: "head-starved",
    must_reach: &["overtaken", "head-served"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: u32 = 4;
const SMALL: u32 = 2;
const TURNS: u32 = 80;
const HEAD: usize = 0;
/// Turn from which on each client asks; the head comes between the two others.
const SINCE: [u32; 3] = [1, 0, 4];

trait Server<P: Platform> {
    fn new() -> Self;
    fn submit(&mut self, who: usize, blocks: u32);
    /// Who has ended.
    fn turn(&mut self) -> Vec<usize>;
    fn close(self);
}

fn small_ones_keep_coming<P: Platform, T: Server<P>>(_: &Cx) -> Observation {
    let mut server = T::new();
    let mut idle = [true; 3];
    // Small requests that came after the head.
    let mut younger = [false; 3];
    for turn in 0..TURNS {
        for who in 0..3 {
            if idle[who] && turn >= SINCE[who] {
                server.submit(who, if who == HEAD { BLOCKS } else { SMALL });
                idle[who] = false;
                younger[who] = turn > SINCE[HEAD];
            }
        }
        for who in server.turn() {
            if who == HEAD {
                reach("head-served");
                server.close();
                return Observation::none();
            }
            if younger[who] {
                reach("overtaken");
            }
            idle[who] = true;
        }
    }
    violation!("head-starved", "{TURNS} turns, and it still waits");
}

/// The code that ships.
struct Shipped<P: Platform> {
    bed: Bed<P>,
    agents: [AgentId; 3],
}

impl<P: Platform> Server<P> for Shipped<P> {
    fn new() -> Self {
        let config = EngineConfig {
            max_overtakes: 2,
            ..EngineConfig::default()
        };
        let bed: Bed<P> = Bed::new(1, BLOCKS, config, Script::default());
        let agents = [bed.alice, bed.bob, agent_of(&bed.pool, "carol")];
        Shipped { bed, agents }
    }

    fn submit(&mut self, who: usize, blocks: u32) {
        let mut request = NewRequest::new(self.agents[who], vec![1], blocks * BLOCK_TOKENS - 1);
        request.keep_cache = false;
        if let Err(refused) = self.bed.engine.submit(request, Instant::ZERO) {
            violation!("submit-refused", "{refused}");
        }
    }

    fn turn(&mut self) -> Vec<usize> {
        let who = |event: &Event| match event {
            Event::Ended(ended) => self.agents.iter().position(|&agent| agent == ended.agent),
            _ => None,
        };
        self.bed.step().iter().filter_map(who).collect()
    }

    fn close(self) {
        self.bed.run(TURNS);
        self.bed.check_all_back("block-leaked");
    }
}

/// As reported.
struct Unbounded<P: Platform> {
    waiting: VecDeque<(usize, u32)>,
    /// Who runs, in how many blocks, for how many more turns.
    running: Vec<(usize, u32, u32)>,
    free: u32,
    platform: PhantomData<P>,
}

impl<P: Platform> Server<P> for Unbounded<P> {
    fn new() -> Self {
        Unbounded {
            waiting: VecDeque::new(),
            running: Vec::new(),
            free: BLOCKS,
            platform: PhantomData,
        }
    }

    fn submit(&mut self, who: usize, blocks: u32) {
        self.waiting.push_back((who, blocks));
    }

    fn turn(&mut self) -> Vec<usize> {
        let mut skipped = VecDeque::new();
        while let Some((who, blocks)) = self.waiting.pop_front() {
            if blocks > self.free {
                skipped.push_back((who, blocks));
                continue;
            }
            self.free -= blocks;
            self.running.push((who, blocks, blocks * BLOCK_TOKENS - 1));
        }
        self.waiting = skipped;
        for running in &mut self.running {
            running.2 -= 1;
        }
        let ended: Vec<_> = self.running.extract_if(.., |of| of.2 == 0).collect();
        self.free += ended.iter().map(|of| of.1).sum::<u32>();
        ended.into_iter().map(|of| of.0).collect()
    }

    fn close(self) {}
}
