//! vllm PR 28827: resetting the prefix cache failed while any block was in use, and said so in a
//! line of the log. Whoever had asked for it, to swap weights, was told nothing and went on.
//!
//! Alice has a cached turn and bob's request runs when the swap is asked for. A server may refuse
//! it or do it. What it must not do is say yes and keep the cache.
//!
//! What ships refuses with an error that names what is in use; once nothing is, it swaps.

use selvedge_core::engine::ReconfigureError;
use selvedge_core::platform::Platform;
use selvedge_core::time::Instant;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::device::{Memory, OnDevice, TOKEN};
use crate::bed::{check_all_back, spec_of};
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "silent-reset",
    ticket: "vllm PR 28827",
    summary: "a cache reset that failed is told to the log alone",
    source: concat!(include_str!("silent_reset.rs"), include_str!("device.rs")),
    twin: bodies!(reset_in_use, OnlyLogs),
    shipped: bodies!(reset_in_use, Shipped),
    signature: "reset-only-logged",
    must_reach: &["refused-in-use", "reset-when-idle"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: u32 = 6;

/// The server is in use, and the weights are the old ones.
struct InUse;

trait Server<P: Platform> {
    fn new() -> Self;
    /// Alice's turn, to its end.
    fn answer_alice(&mut self, prompt: &[u32]);
    fn begin_bob(&mut self);
    fn end_bob(&mut self);
    fn swap_weights(&mut self) -> Result<(), InUse>;
    fn close(self);
}

fn reset_in_use<P: Platform, T: Server<P>>(_: &Cx) -> Observation {
    let mut server = T::new();
    server.answer_alice(&[1, 2, 3]);
    server.begin_bob();
    let first = server.swap_weights();
    // Whoever is told yes goes on at once.
    if first.is_ok() {
        server.answer_alice(&[1, 2, 3, TOKEN, 4]);
    }
    server.end_bob();
    if first.is_err() {
        reach("refused-in-use");
        match server.swap_weights() {
            Ok(()) => reach("reset-when-idle"),
            Err(InUse) => violation!("reset-never", "refused although nothing runs"),
        }
        server.answer_alice(&[1, 2, 3, TOKEN, 4]);
    }
    server.close();
    Observation::none()
}

/// The code that ships.
struct Shipped<P: Platform>(OnDevice<P>);

impl<P: Platform> Server<P> for Shipped<P> {
    fn new() -> Self {
        Shipped(OnDevice::new(BLOCKS, "reset-only-logged"))
    }

    fn answer_alice(&mut self, prompt: &[u32]) {
        self.0.submit(0, prompt, 1, true);
        self.0.finish();
    }

    fn begin_bob(&mut self) {
        self.0.submit(1, &[5], 3, false);
        drop(self.0.engine.step(Instant::ZERO));
    }

    fn end_bob(&mut self) {
        self.0.finish();
    }

    fn swap_weights(&mut self) -> Result<(), InUse> {
        let swap = (self.0.engine).reconfigure(spec_of(1), BLOCKS, |device| {
            device.weights += 1;
            Ok(())
        });
        match swap {
            Ok(()) => Ok(()),
            Err(ReconfigureError::InUse { live: 1 }) => Err(InUse),
            Err(other) => violation!("wrong-error", "{other}"),
        }
    }

    fn close(self) {
        self.0.engine.shutdown(Instant::ZERO);
        check_all_back(&self.0.pool, "block-leaked");
    }
}

/// As reported.
struct OnlyLogs<P: Platform> {
    memory: Memory<P>,
    /// Alice's cached turn, in block 0.
    cached: Option<Vec<u32>>,
    weights: u32,
    running: u32,
    log: Vec<&'static str>,
}

impl<P: Platform> OnlyLogs<P> {
    /// Empties the prefix cache, if it can.
    fn reset_prefix_cache(&mut self) {
        if self.running > 0 {
            self.log
                .push("warning: the prefix cache was not reset, some blocks are in use");
            return;
        }
        self.cached = None;
    }
}

impl<P: Platform> Server<P> for OnlyLogs<P> {
    fn new() -> Self {
        OnlyLogs {
            memory: Memory::new(),
            cached: None,
            weights: 0,
            running: 0,
            log: Vec::new(),
        }
    }

    fn answer_alice(&mut self, prompt: &[u32]) {
        if let Some(cached) = &self.cached
            && prompt.starts_with(cached)
            && let Some(what) = self.memory.wrong(&[0], self.weights, cached)
        {
            violation!("reset-only-logged", "{what}; {:?}", self.log);
        }
        let mut tokens = prompt.to_vec();
        tokens.push(TOKEN);
        self.memory.write_all(&[0, 1], self.weights, &tokens);
        self.cached = Some(tokens);
    }

    fn begin_bob(&mut self) {
        self.running += 1;
    }

    fn end_bob(&mut self) {
        self.running -= 1;
    }

    fn swap_weights(&mut self) -> Result<(), InUse> {
        self.reset_prefix_cache();
        self.weights += 1;
        Ok(())
    }

    fn close(self) {}
}
