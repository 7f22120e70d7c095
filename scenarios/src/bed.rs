//! A batch engine small enough to search, on a backend that does as it is told: what the
//! scenarios about the engine share.
//!
//! A scenario whose bug is in what the blocks hold uses `selvedge_sim`'s content-checking model
//! instead of [`Script`].

use std::collections::{BTreeMap, BTreeSet};

use selvedge_core::engine::{
    BatchEngine, BlockSlot, End, Ended, EngineConfig, Event, Generator, NewRequest, NewSequence,
    Produced, StepInput, Wake,
};
use selvedge_core::platform::{Platform, Shared};
use selvedge_core::time::Instant;
use selvedge_core::{AgentId, BlockPool, ModelCacheSpec, RequestId};
use selvedge_sim::{Cx, Observation, violation};

/// Tokens of a block: few, so that short requests need several.
pub(crate) const BLOCK_TOKENS: u32 = 4;

/// A pool, an engine on it, and two agents.
pub(crate) struct Bed<P: Platform> {
    pub(crate) pool: P::Arc<BlockPool<P>>,
    pub(crate) engine: P::Arc<BatchEngine<Script, P>>,
    pub(crate) alice: AgentId,
    pub(crate) bob: AgentId,
}

impl<P: Platform> Clone for Bed<P> {
    fn clone(&self) -> Self {
        Bed {
            pool: self.pool.clone(),
            engine: self.engine.clone(),
            alice: self.alice,
            bob: self.bob,
        }
    }
}

impl<P: Platform> Bed<P> {
    pub(crate) fn new(layers: u32, blocks: u32, config: EngineConfig, script: Script) -> Self {
        let pool = P::Arc::new(pool_of(layers, blocks));
        let engine = BatchEngine::new(pool.clone(), script, config)
            .unwrap_or_else(|refused| violation!("bad-configuration", "{refused}"));
        let [alice, bob] = ["alice", "bob"].map(|name| agent_of(&pool, name));
        Bed {
            engine: P::Arc::new(engine),
            pool,
            alice,
            bob,
        }
    }

    /// Submits, which must be accepted.
    pub(crate) fn submit(&self, agent: AgentId, prompt: &[u32], max_tokens: u32) -> RequestId {
        let request = NewRequest::new(agent, prompt.to_vec(), max_tokens);
        match self.engine.submit(request, Instant::ZERO) {
            Ok(id) => id,
            Err(refused) => violation!("submit-refused", "{refused}"),
        }
    }

    /// One turn, of whoever may make it.
    pub(crate) fn step(&self) -> Vec<Event> {
        self.engine.step(Instant::ZERO).unwrap_or_default()
    }

    /// Steps until there is nothing to do any more. What takes more than `turns` is a livelock.
    pub(crate) fn run(&self, turns: u32) -> Vec<Event> {
        let mut told = Vec::new();
        for _ in 0..turns {
            if self.engine.wake() != Wake::Now {
                return told;
            }
            told.extend(self.step());
        }
        if self.engine.wake() == Wake::Now {
            violation!(
                "goes-on-for-ever",
                "still at work after {turns} turns: {told:?}"
            );
        }
        told
    }

    /// Every block is back and the books of both agree, or the scenario ends by `signature`.
    pub(crate) fn check_all_back(&self, signature: &str) {
        if let Err(violated) = self.engine.audit() {
            violation!(violated.property, "{violated}");
        }
        check_all_back(&self.pool, signature);
    }
}

/// Where each round starts threads, which is what takes the time.
const MOST_ROUNDS: u32 = 40;

/// One round under a checker, which tries every order; several on real threads.
pub(crate) fn in_rounds(cx: &Cx, one_round: impl Fn() -> String) -> Observation {
    let mut outcome = String::new();
    for _ in 0..cx.rounds().min(MOST_ROUNDS) {
        outcome = one_round();
    }
    match cx.rounds() {
        1 => Observation::of(outcome),
        _ => Observation::none(),
    }
}

pub(crate) fn spec_of(layers: u32) -> ModelCacheSpec {
    ModelCacheSpec::new(layers, 1, 8, BLOCK_TOKENS).expect("INVARIANT: no size is zero")
}

pub(crate) fn pool_of<P: Platform>(layers: u32, blocks: u32) -> BlockPool<P> {
    BlockPool::new(spec_of(layers), blocks).expect("INVARIANT: there are blocks")
}

pub(crate) fn agent_of<P: Platform>(pool: &BlockPool<P>, name: &str) -> AgentId {
    pool.agent(name).expect("INVARIANT: it has a name")
}

/// Every block of the pool is available, or the scenario ends by `signature`.
pub(crate) fn check_all_back<P: Platform>(pool: &BlockPool<P>, signature: &str) {
    match pool.audit() {
        Ok(snapshot) if snapshot.available == snapshot.total => {}
        Ok(snapshot) => violation!(
            signature,
            "{} of {} blocks came back",
            snapshot.available,
            snapshot.total
        ),
        Err(violated) => violation!(violated.property, "{violated}"),
    }
}

/// How a request ended, of what was told; `None` if nothing was. Twice is a violation.
pub(crate) fn end_of(told: &[Event], request: RequestId) -> Option<&Ended> {
    let mut ends = told.iter().filter_map(|event| match event {
        Event::Ended(ended) if ended.request == request => Some(ended),
        _ => None,
    });
    let end = ends.next();
    if let Some(again) = ends.next() {
        violation!("ended-twice", "{request}: {end:?}, then {again:?}");
    }
    end
}

/// The tokens told of a request.
pub(crate) fn tokens_of(told: &[Event], request: RequestId) -> Vec<u32> {
    let token = |event: &Event| match event {
        Event::Token {
            request: of, token, ..
        } if *of == request => Some(*token),
        _ => None,
    };
    told.iter().filter_map(token).collect()
}

/// Whether a request was told to be completed.
pub(crate) fn completed(told: &[Event], request: RequestId) -> bool {
    end_of(told, request).is_some_and(|ended| matches!(ended.end, End::Completed(_)))
}

/// The token that [`Script`] gives a sequence of this length of this prompt.
pub(crate) fn token_of(prompt_first: u32, len: u32) -> u32 {
    prompt_first * 1_000 + len
}

/// A backend without a model: a sequence's next token says whose it is and how long it was.
/// What it does wrong is counted in calls of the kind, from 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    /// The insert that fails.
    pub(crate) fail_insert: Option<u32>,
    /// The step that fails.
    pub(crate) fail_step: Option<u32>,
    /// The step that panics.
    pub(crate) panic_step: Option<u32>,
    /// The extraction that fails.
    pub(crate) fail_extract: Option<u32>,
    /// In this step it also returns a sequence that nobody inserted.
    pub(crate) unknown_in_step: Option<u32>,
    // What it has done so far; open, so that a scenario can name what is wrong and no more.
    pub(crate) inserts: u32,
    pub(crate) steps: u32,
    pub(crate) extracts: u32,
    pub(crate) sequences: BTreeMap<RequestId, Vec<u32>>,
    pub(crate) removed: BTreeSet<RequestId>,
    pub(crate) has_stray: bool,
}

/// The id of the sequence that nobody inserted.
pub(crate) const STRAY: RequestId = RequestId(1 << 40);

impl Script {
    fn due(at: Option<u32>, calls: &mut u32) -> bool {
        *calls += 1;
        at == Some(*calls - 1)
    }

    /// Sequences in it, with that which nobody inserted.
    pub(crate) fn held(&self) -> u32 {
        let stray = usize::from(self.has_stray);
        u32::try_from(self.sequences.len() + stray).unwrap_or(u32::MAX)
    }
}

impl Generator for Script {
    /// The tokens of the block.
    type Payload = Vec<u32>;
    type Error = &'static str;

    fn insert(&mut self, sequence: NewSequence<'_, Vec<u32>>) -> Result<(), &'static str> {
        if Script::due(self.fail_insert, &mut self.inserts) {
            return Err("no room");
        }
        sequence.prefix.clear();
        // Who was preempted comes again.
        self.removed.remove(&sequence.request);
        let new = (self.sequences).insert(sequence.request, sequence.tokens.to_vec());
        if new.is_some() {
            violation!("inserted-twice", "{}", sequence.request);
        }
        Ok(())
    }

    fn step(&mut self, input: &StepInput<'_>) -> Result<Vec<Produced>, &'static str> {
        let now = self.steps;
        self.steps += 1;
        if self.fail_step == Some(now) {
            return Err("the device is gone");
        }
        if self.panic_step == Some(now) {
            // As a panic looks to the engine, without the hook, which would end the process.
            std::panic::resume_unwind(Box::new("the backend panics".to_owned()));
        }
        let mut produced = Vec::new();
        for &request in input.decode {
            let Some(tokens) = self.sequences.get_mut(&request) else {
                violation!("unknown-to-backend", "{request} is to decode");
            };
            let len = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
            let token = token_of(tokens[0], len);
            tokens.push(token);
            produced.push(Produced {
                request,
                token,
                finish: None,
            });
        }
        if self.unknown_in_step == Some(now) {
            self.has_stray = true;
            produced.push(Produced {
                request: STRAY,
                token: 0,
                finish: None,
            });
        }
        Ok(produced)
    }

    fn extract_cache(
        &mut self,
        request: RequestId,
        slots: &[BlockSlot],
    ) -> Result<Vec<Vec<u32>>, &'static str> {
        if Script::due(self.fail_extract, &mut self.extracts) {
            return Err("the copy failed");
        }
        let Some(tokens) = self.sequences.get(&request) else {
            violation!("unknown-to-backend", "{request} is to be extracted");
        };
        let of = |slot: &BlockSlot| {
            tokens[slot.tokens.start as usize..slot.tokens.end as usize].to_vec()
        };
        Ok(slots.iter().map(of).collect())
    }

    fn remove(&mut self, request: RequestId) {
        self.sequences.remove(&request);
        self.has_stray &= request != STRAY;
        if !self.removed.insert(request) {
            violation!("removed-twice", "{request}");
        }
    }
}
