//! vllm #45388 and #45414: the log said "running 0, waiting n", for ever. Requests that were
//! parked between two phases kept their blocks. The head of the queue needed more than what was
//! left; nobody ran, so nothing would ever come free; and parked requests were not among those
//! whose blocks could be taken.
//!
//! Alice's turn is over and its blocks are parked for her next one. Bob needs more than the rest.
//!
//! What ships counts parked blocks as room: idle caches give way, least recently used first, to
//! whoever can really be admitted by it.

use std::collections::VecDeque;
use std::marker::PhantomData;

use selvedge_core::engine::{EngineConfig, Wake};
use selvedge_core::platform::Platform;
use selvedge_core::time::Instant;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::{BLOCK_TOKENS, Bed, Script};
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "scheduler-stall",
    ticket: "vllm#45388, #45414",
    summary: "parked requests keep their blocks: nobody runs and all wait",
    source: concat!(
        include_str!("scheduler_stall.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(parked_blocks, KeepsParked),
    shipped: bodies!(parked_blocks, Shipped),
    signature: "stalled",
    must_reach: &["parked", "parked-gave-way"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: u32 = 4;
const TURNS: u32 = 30;
const ALICE: usize = 0;
const BOB: usize = 1;

/// What a server says of itself in its log.
struct Load {
    running: u32,
    waiting: u32,
    parked_blocks: u64,
}

trait Server<P: Platform> {
    fn new() -> Self;
    /// A request whose blocks are parked at its end.
    fn submit(&mut self, who: usize, blocks: u32);
    fn turn(&mut self);
    fn load(&self) -> Load;
    fn close(self);
}

fn parked_blocks<P: Platform, T: Server<P>>(_: &Cx) -> Observation {
    let mut server = T::new();
    server.submit(ALICE, 2);
    let until_idle = |server: &mut T| {
        for _ in 0..TURNS {
            server.turn();
            let Load {
                running, waiting, ..
            } = server.load();
            if running + waiting == 0 {
                return;
            }
        }
        let Load {
            running,
            waiting,
            parked_blocks,
        } = server.load();
        violation!(
            "stalled",
            "running {running}, waiting {waiting}, {parked_blocks} blocks parked"
        );
    };
    until_idle(&mut server);
    if server.load().parked_blocks == 2 {
        reach("parked");
    }
    server.submit(BOB, 3);
    until_idle(&mut server);
    if server.load().parked_blocks == 3 {
        reach("parked-gave-way");
    }
    server.close();
    Observation::none()
}

/// The code that ships.
struct Shipped<P: Platform>(Bed<P>);

impl<P: Platform> Server<P> for Shipped<P> {
    fn new() -> Self {
        Shipped(Bed::new(
            1,
            BLOCKS,
            EngineConfig::default(),
            Script::default(),
        ))
    }

    fn submit(&mut self, who: usize, blocks: u32) {
        let agent = [self.0.alice, self.0.bob][who];
        self.0.submit(agent, &[1], blocks * BLOCK_TOKENS - 1);
    }

    fn turn(&mut self) {
        self.0.step();
    }

    fn load(&self) -> Load {
        let now = self.0.engine.snapshot();
        Load {
            running: now.requests.running + now.requests.ending,
            waiting: now.requests.waiting,
            parked_blocks: now.blocks_cached,
        }
    }

    fn close(self) {
        if self.0.engine.wake() != Wake::OnCall {
            violation!(
                "restless",
                "nothing is left to do, and it wants to be woken"
            );
        }
        self.0.engine.shutdown(Instant::ZERO);
        self.0.check_all_back("block-leaked");
    }
}

/// As reported.
struct KeepsParked<P: Platform> {
    waiting: VecDeque<u32>,
    running: Vec<u32>,
    parked: Vec<u32>,
    platform: PhantomData<P>,
}

impl<P: Platform> KeepsParked<P> {
    fn free(&self) -> u32 {
        BLOCKS - self.running.iter().sum::<u32>() - self.parked.iter().sum::<u32>()
    }
}

impl<P: Platform> Server<P> for KeepsParked<P> {
    fn new() -> Self {
        KeepsParked {
            waiting: VecDeque::new(),
            running: Vec::new(),
            parked: Vec::new(),
            platform: PhantomData,
        }
    }

    fn submit(&mut self, _: usize, blocks: u32) {
        self.waiting.push_back(blocks);
    }

    fn turn(&mut self) {
        // Whoever ran is through, and is parked for its next phase.
        self.parked.append(&mut self.running);
        while let Some(blocks) = self.waiting.pop_front() {
            if blocks > self.free() {
                // Only who runs could be preempted for it.
                if let Some(victim) = self.running.pop() {
                    self.waiting.push_back(victim);
                }
                self.waiting.push_front(blocks);
                break;
            }
            self.running.push(blocks);
        }
    }

    fn load(&self) -> Load {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Load {
            running: count(self.running.len()),
            waiting: count(self.waiting.len()),
            parked_blocks: self.parked.iter().map(|&blocks| u64::from(blocks)).sum(),
        }
    }

    fn close(self) {}
}
