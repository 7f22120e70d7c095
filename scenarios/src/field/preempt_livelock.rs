//! mistral.rs PR 2043: when a running sequence could not grow, the last of the others gave its
//! blocks up and was put at the front of the queue. Admission comes before decoding, so in the
//! same turn it got the very blocks back that it had given up, and its prompt was computed
//! again. The one that could not grow still could not, and in the next turn the same began
//! anew. Both were busy for ever, and neither got a token.
//!
//! Two requests grow in a pool that is not enough for both.
//!
//! What ships lets nobody be admitted before the older ones have grown, and who gave way once
//! comes back only when it can have all it needs, so that it never gives way again.

use std::collections::VecDeque;
use std::marker::PhantomData;

use selvedge_core::engine::{Admission, EngineConfig, Event, NewRequest};
use selvedge_core::platform::Platform;
use selvedge_core::time::Instant;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::{BLOCK_TOKENS, Bed, Script};
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "preempt-livelock",
    ticket: "mistral.rs PR 2043",
    summary: "who gives way gets its blocks back at once, and all begins anew",
    source: concat!(
        include_str!("preempt_livelock.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(two_grow, VictimFirst),
    shipped: bodies!(two_grow, Shipped),
    signature: "preempted-for-ever",
    must_reach: &["preempted", "both-complete"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: u32 = 2;
const TURNS: u32 = 60;

/// Prompt tokens, and tokens to generate.
const REQUESTS: [(u32, u32); 2] = [(3, 5), (1, 3)];

trait Server<P: Platform> {
    /// With both requests submitted.
    fn new() -> Self;
    /// Tokens generated in this turn, requests that ended in it, and how many gave way.
    fn turn(&mut self) -> (u32, u32, u32);
    fn close(self);
}

fn two_grow<P: Platform, T: Server<P>>(_: &Cx) -> Observation {
    let mut server = T::new();
    let (mut tokens, mut ended) = (0, 0);
    for _ in 0..TURNS {
        let turn = server.turn();
        tokens += turn.0;
        ended += turn.1;
        if turn.2 > 0 {
            reach("preempted");
        }
        if ended == 2 {
            reach("both-complete");
            server.close();
            return Observation::of(format!("{tokens} tokens"));
        }
    }
    violation!(
        "preempted-for-ever",
        "{TURNS} turns, {tokens} of 8 tokens, {ended} of 2 ended"
    );
}

/// The code that ships.
struct Shipped<P: Platform>(Bed<P>);

impl<P: Platform> Server<P> for Shipped<P> {
    fn new() -> Self {
        let config = EngineConfig {
            admission: Admission::Watermark { blocks: 0 },
            ..EngineConfig::default()
        };
        let bed: Bed<P> = Bed::new(1, BLOCKS, config, Script::default());
        for (agent, (prompt, max_tokens)) in [bed.alice, bed.bob].into_iter().zip(REQUESTS) {
            let mut request = NewRequest::new(agent, vec![1; prompt as usize], max_tokens);
            request.keep_cache = false;
            if let Err(refused) = bed.engine.submit(request, Instant::ZERO) {
                violation!("submit-refused", "{refused}");
            }
        }
        Shipped(bed)
    }

    fn turn(&mut self) -> (u32, u32, u32) {
        let mut counts = (0, 0, 0);
        for event in self.0.step() {
            match event {
                Event::Token { .. } => counts.0 += 1,
                Event::Ended(_) => counts.1 += 1,
                Event::Preempted { .. } => counts.2 += 1,
                _ => {}
            }
        }
        counts
    }

    fn close(self) {
        self.0.check_all_back("block-leaked");
    }
}

/// As reported.
struct VictimFirst<P: Platform> {
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    free: u32,
    platform: PhantomData<P>,
}

#[derive(Clone, Copy)]
struct Sequence {
    len: u32,
    len_max: u32,
    blocks: u32,
}

impl Sequence {
    /// Blocks it needs for its next token.
    fn needs(self) -> u32 {
        (self.len + 1).div_ceil(BLOCK_TOKENS)
    }
}

impl<P: Platform> VictimFirst<P> {
    /// Lets everybody grow who must, at the cost of the last. How many gave way.
    fn grow(&mut self) -> u32 {
        let (mut preempted, mut at) = (0, 0);
        while let Some(&sequence) = self.running.get(at) {
            if sequence.blocks >= sequence.needs() {
                at += 1;
            } else if self.free > 0 {
                self.free -= 1;
                self.running[at].blocks += 1;
                at += 1;
            } else if let Some(mut victim) = self.running.pop() {
                preempted += 1;
                self.free += victim.blocks;
                victim.blocks = 0;
                self.waiting.push_front(victim);
                // The next turn will find room.
                at += 1;
            }
        }
        preempted
    }

    /// Whether a prompt was taken in, which takes the turn.
    fn admit(&mut self) -> bool {
        let Some(first) = self
            .waiting
            .front()
            .filter(|first| first.needs() <= self.free)
        else {
            return false;
        };
        let blocks = first.needs();
        self.free -= blocks;
        self.running.push(Sequence { blocks, ..*first });
        self.waiting.pop_front();
        true
    }
}

impl<P: Platform> Server<P> for VictimFirst<P> {
    fn new() -> Self {
        let waiting = REQUESTS.map(|(prompt, max_tokens)| Sequence {
            len: prompt,
            len_max: prompt + max_tokens,
            blocks: 0,
        });
        VictimFirst {
            waiting: waiting.into(),
            running: Vec::new(),
            free: BLOCKS,
            platform: PhantomData,
        }
    }

    fn turn(&mut self) -> (u32, u32, u32) {
        let preempted = self.grow();
        if self.admit() {
            return (0, 0, preempted);
        }
        let mut tokens = 0;
        for sequence in &mut self.running {
            if sequence.blocks >= sequence.needs() {
                sequence.len += 1;
                tokens += 1;
            }
        }
        let over = |of: &mut Sequence| -> bool { of.len >= of.len_max };
        let ended: Vec<Sequence> = self.running.extract_if(.., over).collect();
        self.free += ended.iter().map(|of| of.blocks).sum::<u32>();
        (
            tokens,
            u32::try_from(ended.len()).unwrap_or(u32::MAX),
            preempted,
        )
    }

    fn close(self) {}
}
