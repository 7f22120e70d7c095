//! The origin's store hands out references to the one cache of an agent, and a request that starts
//! from it takes the data out of its blocks. Of two sessions of the agent that both have the
//! reference, one gets the data, and the other empty blocks: an error that is swallowed, all of
//! the prompt computed anew, or an empty answer (15 of 198 runs).
//!
//! Two sessions of one agent each begin a turn. Whoever is let in must start from all that is
//! cached.
//!
//! What ships has no reference to a cache: it is owned by the engine, by one request or by
//! whoever has taken it out. The other session is told that the agent is busy.

use selvedge_core::engine::{EngineConfig, Event, NewRequest, SubmitError};
use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared as _};
use selvedge_core::time::Instant;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::{Bed, Script, in_rounds, token_of};
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "A-HOT-SHARED-REF",
    ticket: "agent-memory, crash_hypothesis.md 1",
    summary: "a cache handed out by reference is emptied by one of two requests",
    source: concat!(
        include_str!("hot_shared_ref.rs"),
        include_str!("subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(two_sessions, SharedReference),
    shipped: bodies!(two_sessions, Shipped),
    signature: "emptied-under-the-other",
    must_reach: &["went-on-from-the-cache", "agent-busy"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// Tokens of the cache, in two blocks.
const CACHED: u32 = 6;
const PROMPT: [u32; 5] = [1, 2, 3, 4, 5];

/// An agent with a cache, as far as this body needs it.
trait Agent: Send + Sync + 'static {
    fn new() -> Self;
    /// Tokens of the cache that the turn starts from; `None` if it is not let in.
    fn begin_turn(&self) -> Option<u32>;
}

fn two_sessions<P: Platform, A: Agent>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let agent = P::Arc::new(A::new());
        let theirs = agent.clone();
        let other = P::spawn(move || theirs.begin_turn());
        let mine = agent.begin_turn();
        let begun = [mine, other.join()];
        for turn in begun {
            match turn {
                Some(CACHED) => reach("went-on-from-the-cache"),
                Some(some) => violation!(
                    "emptied-under-the-other",
                    "{some} tokens instead of {CACHED}"
                ),
                None => reach("agent-busy"),
            }
        }
        if begun == [None, None] {
            violation!("nobody-let-in", "with an idle cache");
        }
        format!("{begun:?}")
    })
}

/// As reported.
struct SharedReference<P: Platform> {
    hot: P::Mutex<P::Arc<Blocks<P>>>,
}

/// The data of each block. Each look at one is safe by itself.
struct Blocks<P: Platform>([P::Mutex<Option<Vec<u32>>>; 2]);

impl<P: Platform> Agent for SharedReference<P> {
    fn new() -> Self {
        let blocks = [vec![1, 2, 3, 4], vec![5, 6]];
        let blocks = Blocks(blocks.map(|data| P::Mutex::new(Some(data))));
        SharedReference {
            hot: P::Mutex::new(P::Arc::new(blocks)),
        }
    }

    fn begin_turn(&self) -> Option<u32> {
        let cache = self.hot.lock().clone();
        let mut tokens: Vec<u32> = Vec::new();
        for block in &cache.0 {
            match &*block.lock() {
                Some(data) => tokens.extend(data),
                // A miss like any other, says the log.
                None => return Some(0),
            }
        }
        for block in &cache.0 {
            *block.lock() = None;
        }
        u32::try_from(tokens.len()).ok()
    }
}

/// The code that ships.
struct Shipped<P: Platform>(Bed<P>);

impl<P: Platform> Agent for Shipped<P> {
    fn new() -> Self {
        let bed = Bed::new(1, 8, EngineConfig::default(), Script::default());
        bed.submit(bed.alice, &PROMPT, 1);
        bed.run(4);
        Shipped(bed)
    }

    fn begin_turn(&self) -> Option<u32> {
        let Bed { engine, alice, .. } = &self.0;
        let said = token_of(PROMPT[0], 5);
        let prompt = [&PROMPT[..], &[said, 9]].concat();
        match engine.submit(NewRequest::new(*alice, prompt, 4), Instant::ZERO) {
            Ok(id) => self.0.step().into_iter().find_map(|event| match event {
                Event::Started { request, reused } if request == id => Some(reused),
                _ => None,
            }),
            Err(SubmitError::AgentBusy { .. }) => None,
            Err(other) => violation!("wrong-error", "{other}"),
        }
    }
}
