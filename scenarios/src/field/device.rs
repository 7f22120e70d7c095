//! A backend that keeps what it computes in one memory, block by block, as a device does. A
//! prompt that starts from a cache is read back from there, so a block that was stale, lost or
//! somebody else's is seen. What the scenarios about contents share.

use std::collections::BTreeMap;
use std::convert::Infallible;

use selvedge_core::engine::{
    BatchEngine, BlockSlot, EngineConfig, Event, Generator, NewRequest, NewSequence, Produced,
    StepInput, Wake,
};
use selvedge_core::platform::{Mutex, Platform, Shared};
use selvedge_core::time::Instant;
use selvedge_core::{AgentId, BlockPool, BlockRef, RequestId};
use selvedge_sim::violation;

use crate::bed::{BLOCK_TOKENS, agent_of, pool_of};

/// The token of every answer.
pub(super) const TOKEN: u32 = 7;

/// What one block holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// Of which weights it was computed.
    pub(super) weights: u32,
    pub(super) tokens: Vec<u32>,
}

/// What all blocks hold, by their place.
pub(super) struct Memory<P: Platform>(P::Mutex<BTreeMap<u32, Content>>);

impl<P: Platform> Memory<P> {
    pub(super) fn new() -> Self {
        Memory(P::Mutex::new(BTreeMap::new()))
    }

    pub(super) fn write(&self, place: u32, content: Content) {
        self.0.lock().insert(place, content);
    }

    pub(super) fn read(&self, place: u32) -> Option<Content> {
        self.0.lock().get(&place).cloned()
    }

    /// Writes a sequence into its blocks.
    pub(super) fn write_all(&self, places: &[u32], weights: u32, tokens: &[u32]) {
        for (&place, tokens) in places.iter().zip(tokens.chunks(BLOCK_TOKENS as usize)) {
            let tokens = tokens.to_vec();
            self.write(place, Content { weights, tokens });
        }
    }

    /// What is wrong with the blocks that should hold `tokens`, computed by these weights.
    pub(super) fn wrong(&self, places: &[u32], weights: u32, tokens: &[u32]) -> Option<String> {
        let chunks = tokens.chunks(BLOCK_TOKENS as usize);
        places.iter().zip(chunks).find_map(|(&place, wanted)| {
            let found = self.read(place);
            let right = (found.as_ref())
                .is_some_and(|it| it.weights == weights && it.tokens.starts_with(wanted));
            (!right).then(|| {
                format!("block {place} holds {found:?}, wanted {wanted:?} by weights {weights}")
            })
        })
    }
}

pub(super) struct Device<P: Platform> {
    memory: P::Arc<Memory<P>>,
    pub(super) weights: u32,
    /// By what a wrong block is reported.
    signature: &'static str,
    sequences: BTreeMap<RequestId, (Vec<u32>, Vec<u32>)>,
}

impl<P: Platform> Generator for Device<P> {
    type Payload = ();
    type Error = Infallible;

    fn insert(&mut self, sequence: NewSequence<'_, ()>) -> Result<(), Infallible> {
        sequence.prefix.clear();
        let tokens = sequence.tokens.to_vec();
        let places: Vec<u32> = sequence.blocks.iter().map(place).collect();
        let reused = &tokens[..sequence.reused as usize];
        if let Some(what) = self.memory.wrong(&places, self.weights, reused) {
            violation!(self.signature, "{what}");
        }
        self.sequences.insert(sequence.request, (tokens, places));
        Ok(())
    }

    fn step(&mut self, input: &StepInput<'_>) -> Result<Vec<Produced>, Infallible> {
        // The step is under way now: whatever comes meanwhile, it ends by writing.
        P::yield_now();
        let produced = |&request: &RequestId| {
            let (tokens, places) = self.sequences.get_mut(&request)?;
            tokens.push(TOKEN);
            self.memory.write_all(places, self.weights, tokens);
            Some(Produced {
                request,
                token: TOKEN,
                finish: None,
            })
        };
        Ok(input.decode.iter().filter_map(produced).collect())
    }

    fn extract_cache(&mut self, _: RequestId, slots: &[BlockSlot]) -> Result<Vec<()>, Infallible> {
        Ok(vec![(); slots.len()])
    }

    fn remove(&mut self, request: RequestId) {
        self.sequences.remove(&request);
    }
}

fn place(block: &BlockRef) -> u32 {
    block.id().0
}

/// The shipped engine on a device, of one layer.
pub(super) struct OnDevice<P: Platform> {
    pub(super) pool: P::Arc<BlockPool<P>>,
    pub(super) engine: BatchEngine<Device<P>, P>,
    pub(super) memory: P::Arc<Memory<P>>,
    pub(super) agents: [AgentId; 2],
}

impl<P: Platform> OnDevice<P> {
    pub(super) fn new(blocks: u32, signature: &'static str) -> Self {
        let pool = P::Arc::new(pool_of(1, blocks));
        let memory = P::Arc::new(Memory::new());
        let device = Device {
            memory: memory.clone(),
            weights: 0,
            signature,
            sequences: BTreeMap::new(),
        };
        let engine = BatchEngine::new(pool.clone(), device, EngineConfig::default())
            .unwrap_or_else(|refused| violation!("bad-configuration", "{refused}"));
        OnDevice {
            engine,
            memory,
            agents: ["alice", "bob"].map(|name| agent_of(&pool, name)),
            pool,
        }
    }

    pub(super) fn submit(
        &self,
        who: usize,
        prompt: &[u32],
        max_tokens: u32,
        keep: bool,
    ) -> RequestId {
        let mut request = NewRequest::new(self.agents[who], prompt.to_vec(), max_tokens);
        request.keep_cache = keep;
        (self.engine.submit(request, Instant::ZERO))
            .unwrap_or_else(|refused| violation!("submit-refused", "{refused}"))
    }

    /// Steps until there is nothing to do, also not later; returns the tokens it has reused.
    pub(super) fn finish(&self) -> u32 {
        let (mut reused, mut now) = (0, Instant::ZERO);
        for _ in 0..40 {
            for event in self.engine.step(now).unwrap_or_default() {
                if let Event::Started { reused: of, .. } = event {
                    reused += of;
                }
            }
            match self.engine.wake() {
                Wake::Now => {}
                Wake::At(at) => now = at,
                Wake::OnCall => return reused,
            }
        }
        violation!("goes-on-for-ever", "still at work after 40 turns");
    }
}
