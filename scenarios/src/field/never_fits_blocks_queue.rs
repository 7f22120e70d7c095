//! vllm #39734: a request that needs more blocks than there are at all was accepted. It came to
//! the head of the queue, did not fit, and the scheduler, which looks no further than the first
//! that does not fit, waited for blocks that could never come free. Everybody behind it hung.
//!
//! A giant is submitted, then a small request. The small one must be served.
//!
//! What ships refuses at submit, with the numbers, what can never fit; the same holds of who
//! waits on the pool itself.

use std::collections::VecDeque;

use selvedge_core::LayerId;
use selvedge_core::engine::{EngineConfig, Event, NewRequest, SubmitError};
use selvedge_core::platform::Platform;
use selvedge_core::pool::{AllocateError, WaitError};
use selvedge_core::time::Instant;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::{BLOCK_TOKENS, Bed, Script};
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "never-fits-blocks-queue",
    ticket: "vllm#39734",
    summary: "larger than the pool, accepted, and the queue behind it hangs",
    source: concat!(
        include_str!("never_fits_blocks_queue.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(giant_first, AcceptsAll),
    shipped: bodies!(giant_first, Shipped),
    signature: "queue-blocked",
    must_reach: &["giant-refused", "small-served"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: u32 = 3;
const TURNS: u32 = 20;
const GIANT: usize = 0;
const SMALL: usize = 1;

trait Server<P: Platform> {
    fn new() -> Self;
    /// Whether it is accepted.
    fn submit(&mut self, who: usize, blocks: u32) -> bool;
    /// Who has ended.
    fn turn(&mut self) -> Vec<usize>;
    fn close(self);
}

fn giant_first<P: Platform, T: Server<P>>(_: &Cx) -> Observation {
    let mut server = T::new();
    if !server.submit(GIANT, BLOCKS + 1) {
        reach("giant-refused");
    }
    if !server.submit(SMALL, 1) {
        violation!("small-refused", "it needs one block of {BLOCKS}");
    }
    if !(0..TURNS).any(|_| server.turn().contains(&SMALL)) {
        violation!("queue-blocked", "{TURNS} turns, and the small one waits");
    }
    reach("small-served");
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

    fn submit(&mut self, who: usize, blocks: u32) -> bool {
        let bed = &self.0;
        let agent = [bed.alice, bed.bob][who];
        let mut request = NewRequest::new(agent, vec![1], blocks * BLOCK_TOKENS - 1);
        request.keep_cache = false;
        match bed.engine.submit(request, Instant::ZERO) {
            Ok(_) => true,
            Err(SubmitError::NeverFits { needed, total }) => {
                // Waiting on the pool would be refused as well.
                let waiting = bed.pool.enqueue(&[(LayerId(0), blocks)], agent);
                let never = AllocateError::ExceedsCapacity {
                    requested: needed,
                    total,
                };
                if waiting.err() != Some(WaitError::Refused(never)) {
                    violation!("queue-blocked", "the giant waits on the pool");
                }
                false
            }
            Err(other) => violation!("wrong-error", "{other}"),
        }
    }

    fn turn(&mut self) -> Vec<usize> {
        let bed = &self.0;
        let who = |event: &Event| match event {
            Event::Ended(ended) => [bed.alice, bed.bob].iter().position(|&a| a == ended.agent),
            _ => None,
        };
        bed.step().iter().filter_map(who).collect()
    }

    fn close(self) {
        self.0.check_all_back("block-leaked");
    }
}

/// As reported.
struct AcceptsAll<P: Platform> {
    queue: VecDeque<(usize, u32)>,
    running: Vec<(usize, u32)>,
    free: u32,
    platform: std::marker::PhantomData<P>,
}

impl<P: Platform> Server<P> for AcceptsAll<P> {
    fn new() -> Self {
        AcceptsAll {
            queue: VecDeque::new(),
            running: Vec::new(),
            free: BLOCKS,
            platform: std::marker::PhantomData,
        }
    }

    fn submit(&mut self, who: usize, blocks: u32) -> bool {
        self.queue.push_back((who, blocks));
        true
    }

    fn turn(&mut self) -> Vec<usize> {
        let ended: Vec<(usize, u32)> = self.running.drain(..).collect();
        self.free += ended.iter().map(|of| of.1).sum::<u32>();
        while let Some(&(who, blocks)) = self.queue.front() {
            if blocks > self.free {
                break;
            }
            self.free -= blocks;
            self.running.push((who, blocks));
            self.queue.pop_front();
        }
        ended.into_iter().map(|of| of.0).collect()
    }

    fn close(self) {}
}
