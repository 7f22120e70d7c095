//! [`ContentModel`]: a fake model whose cache is checked. A batch engine moves blocks about and
//! never looks into them; this is a backend that does, so that a block lost, mixed up, left
//! from an earlier turn or owned twice is found, and says the wrong token if it is not.
//!
//! For each token a layer stores a hash of all before it ([`Weights`]), in a fake memory that has
//! a slot for each block of the pool. What is generated is read back from there, and so must be
//! what [`Weights::expected`] computes from nothing, however often a sequence was cached, cut,
//! preempted and begun again. Besides, each block that is loaded, continued or handed over is
//! verified, and each slot knows whose it is: a [`ContentError`] says what is wrong where.
//!
//! It is plain state, without a lock, a thread, a clock or chance, so it runs alike under every
//! engine of the bed and in virtual time.
//!
//! ```
//! use selvedge_core::ModelCacheSpec;
//! use selvedge_sim::content::{ContentModel, Weights};
//!
//! // The generator of an engine, and what each of its requests must come to.
//! let (spec, weights) = (ModelCacheSpec::new(2, 1, 8, 16)?, Weights::of(1));
//! let model = ContentModel::new(spec.clone(), 64, weights);
//! let (tokens, _) = weights.expected(&spec, &[11, 12, 13], 4);
//! assert_eq!((tokens.len(), model.findings().len()), (4, 0));
//! # Ok::<(), selvedge_core::spec::SpecError>(())
//! ```

mod error;
mod load;
mod memory;
mod weights;

use std::collections::BTreeMap;

use selvedge_core::engine::{BlockSlot, Finish, Generator, NewSequence, Produced, StepInput};
use selvedge_core::{AgentId, BlockRef, LayerId, ModelCacheSpec, RequestId};

pub use self::error::ContentError;
pub use self::weights::{Attention, Weights};

use self::memory::{Memory, Owner};
use self::weights::held;

/// So many findings are kept; more are only counted.
const MAX_FINDINGS: usize = 100;

/// A fake model for [`BatchEngine`](selvedge_core::engine::BatchEngine) that checks what it is
/// given. By itself it returns what it finds as an error, so that the engine ends what is
/// concerned with the finding's text; [`Self::recording`] makes it go on.
///
/// ```
/// use std::sync::Arc;
///
/// use selvedge_core::engine::{BatchEngine, EngineConfig, Event, NewRequest, Wake};
/// use selvedge_core::time::Instant;
/// use selvedge_core::{BlockPool, ModelCacheSpec};
/// use selvedge_sim::content::{ContentModel, Weights};
///
/// let (spec, weights) = (ModelCacheSpec::new(2, 1, 8, 4)?, Weights::of(7));
/// let pool: Arc<BlockPool> = Arc::new(BlockPool::new(spec.clone(), 16)?);
/// let model = ContentModel::new(spec.clone(), 16, weights);
/// let engine: BatchEngine<ContentModel> = BatchEngine::new(pool.clone(), model, EngineConfig::default())?;
///
/// // Two turns: the second starts from what the first has left in alice's blocks.
/// let (alice, now) = (pool.agent("alice")?, Instant::ZERO);
/// let mut said = vec![1, 2, 3, 4, 5];
/// for turn in [6, 7] {
///     said.push(turn);
///     engine.submit(NewRequest::new(alice, said.clone(), 4), now)?;
///     let (prompt, mut reused_all) = (said.clone(), 0);
///     while engine.wake() == Wake::Now {
///         for event in engine.step(now)? {
///             match event {
///                 Event::Token { token, .. } => said.push(token),
///                 Event::Started { reused, .. } => reused_all += reused,
///                 _ => {}
///             }
///         }
///     }
///     assert_eq!(said[prompt.len()..], weights.expected(&spec, &prompt, 4).0);
///     assert_eq!(reused_all, if turn == 6 { 0 } else { 10 });
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ContentModel {
    spec: ModelCacheSpec,
    weights: Weights,
    memory: Memory,
    sequences: BTreeMap<RequestId, Sequence>,
    /// Whether findings are only noted.
    recording: bool,
    findings: Vec<ContentError>,
    /// Found in a call that cannot fail: the next step does.
    owed: Option<ContentError>,
    counts: ContentCounts,
}

/// What one block of one layer holds: what is stored of each of its tokens.
///
/// ```
/// use selvedge_core::engine::{BlockSlot, Generator, NewSequence, StepInput};
/// use selvedge_core::{BlockPool, LayerId, ModelCacheSpec, RequestId};
/// use selvedge_sim::content::{ContentModel, Weights};
///
/// let spec = ModelCacheSpec::new(1, 1, 8, 4)?;
/// let pool: BlockPool = BlockPool::new(spec.clone(), 2)?;
/// let lease = pool.allocate(1, LayerId(0), pool.agent("alice")?)?;
/// let mut model = ContentModel::new(spec, 2, Weights::of(1));
/// let (request, block) = (RequestId(1), lease.blocks()[0]);
/// model.insert(NewSequence {
///     request,
///     agent: lease.agent(),
///     tokens: &[9],
///     reused: 0,
///     prefix: &mut Vec::new(),
///     blocks: lease.blocks(),
///     max_tokens: 2,
/// })?;
/// model.step(&StepInput { decode: &[request], prefill: &[] })?;
/// let payloads = model.extract_cache(request, &[BlockSlot { block, tokens: 0..2 }])?;
/// assert_eq!((payloads[0].block(), payloads[0].start()), (block, 0));
/// assert_eq!(payloads[0].stored().len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContentBlock {
    block: BlockRef,
    start: u32,
    weights: u64,
    stored: Vec<u64>,
}

impl ContentBlock {
    /// The block it was filled for.
    #[must_use]
    pub fn block(&self) -> BlockRef {
        self.block
    }

    /// The place in the sequence of its first token.
    #[must_use]
    pub fn start(&self) -> u32 {
        self.start
    }

    /// What is stored of each token.
    #[must_use]
    pub fn stored(&self) -> &[u64] {
        &self.stored
    }

    /// To break it, for a test of what notices.
    ///
    /// Whoever starts from a block changed so finds [`ContentError::WrongContent`].
    pub fn stored_mut(&mut self) -> &mut Vec<u64> {
        &mut self.stored
    }
}

/// What a model has done: a check that never looked at anything has proved nothing.
///
/// ```
/// use selvedge_core::ModelCacheSpec;
/// use selvedge_sim::content::{ContentCounts, ContentModel, Weights};
///
/// let model = ContentModel::new(ModelCacheSpec::new(1, 1, 8, 4)?, 2, Weights::of(1));
/// assert_eq!(model.counts(), ContentCounts::default());
/// # Ok::<(), selvedge_core::spec::SpecError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContentCounts {
    /// Sequences taken in.
    pub inserted: u64,
    /// Steps made.
    pub steps: u64,
    /// Tokens computed, in prompts or as produced.
    pub computed: u64,
    /// Tokens produced, stop tokens included.
    pub produced: u64,
    /// Cached blocks that were loaded.
    pub loaded: u64,
    /// Blocks handed over.
    pub extracted: u64,
    /// Stored tokens that were compared with what they must be, those of each layer.
    pub verified: u64,
    /// Findings.
    pub findings: u64,
}

#[derive(Clone, Debug)]
struct Sequence {
    agent: AgentId,
    /// To verify by; what is generated is made from what is stored.
    tokens: Vec<u32>,
    /// Tokens of the prompt.
    prompt: u32,
    /// Tokens stored.
    computed: u32,
    max_tokens: u32,
    layers: Vec<Layer>,
    /// Whether its blocks were handed over.
    extracted: bool,
}

#[derive(Clone, Debug)]
struct Layer {
    id: LayerId,
    blocks: Vec<BlockRef>,
    /// Tokens after which a layer that slides begins again in its first block.
    ring: Option<u32>,
    /// What must be stored of the last token.
    last: u64,
    /// What its last decode has overwritten, with its positions: if the sequence is cancelled
    /// meanwhile, the step is taken back. (Two tokens are fed by the first: the prompt's last.)
    spare: Vec<(u32, u64)>,
}

impl Layer {
    /// The block for a position, and the place in it.
    fn place(&self, block_tokens: u32, position: u32) -> Option<(BlockRef, usize)> {
        let position = self.ring.map_or(position, |ring| position % ring);
        let block = self.blocks.get((position / block_tokens) as usize)?;
        Some((*block, (position % block_tokens) as usize))
    }

    fn no_room(&self, request: RequestId, position: u32) -> ContentError {
        ContentError::NoRoom {
            request,
            layer: self.id,
            position,
            blocks: self.blocks.len() as u32,
        }
    }
}

/// Where a check is made: what its findings have in common.
#[derive(Clone, Copy)]
struct Site {
    call: &'static str,
    request: RequestId,
    layer: LayerId,
}

impl Site {
    fn not_owned(self, position: u32, block: BlockRef, owner: Option<Owner>) -> ContentError {
        let Site {
            call,
            request,
            layer,
        } = self;
        ContentError::NotOwned {
            call,
            request,
            layer,
            position,
            block,
            owner: owner.map(|owner| owner.request),
        }
    }

    fn missing(self, position: u32) -> ContentError {
        let Site {
            call,
            request,
            layer,
        } = self;
        ContentError::Missing {
            call,
            request,
            layer,
            position,
        }
    }

    /// `None` if what is stored is right.
    fn compare(
        self,
        position: u32,
        block: BlockRef,
        stored: u64,
        wanted: u64,
    ) -> Option<ContentError> {
        let Site {
            call,
            request,
            layer,
        } = self;
        (stored != wanted).then_some(ContentError::WrongContent {
            call,
            request,
            layer,
            position,
            block,
            stored,
            wanted,
        })
    }
}

impl ContentModel {
    /// A model of `spec` on a memory of `total_blocks` blocks.
    #[must_use]
    pub fn new(spec: ModelCacheSpec, total_blocks: u32, weights: Weights) -> Self {
        ContentModel {
            spec,
            weights,
            memory: Memory::new(total_blocks),
            sequences: BTreeMap::new(),
            recording: false,
            findings: Vec::new(),
            owed: None,
            counts: ContentCounts::default(),
        }
    }

    /// Goes on after a finding, with whatever is stored: then what is wrong comes out as a
    /// wrong token.
    #[must_use]
    pub fn recording(mut self) -> Self {
        self.recording = true;
        self
    }

    /// Becomes another model in the place of this one, on a memory that is empty: what
    /// [`BatchEngine::reconfigure`](selvedge_core::engine::BatchEngine::reconfigure) swaps.
    ///
    /// # Errors
    /// [`ContentError::InUse`] while a sequence is in it. It is as it was then.
    pub fn swap(
        &mut self,
        spec: ModelCacheSpec,
        total_blocks: u32,
        weights: Weights,
    ) -> Result<(), ContentError> {
        let sequences = self.sequences.len();
        if sequences > 0 {
            return Err(self.found(ContentError::InUse { sequences }));
        }
        self.spec = spec;
        self.weights = weights;
        self.memory = Memory::new(total_blocks);
        Ok(())
    }

    /// The model it is.
    #[must_use]
    pub fn spec(&self) -> &ModelCacheSpec {
        &self.spec
    }

    /// What it computes with.
    #[must_use]
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What was found, the first hundred.
    #[must_use]
    pub fn findings(&self) -> &[ContentError] {
        &self.findings
    }

    /// What it has done.
    #[must_use]
    pub fn counts(&self) -> ContentCounts {
        self.counts
    }

    /// The sequences in it, and how many tokens of each are stored.
    pub fn sequences(&self) -> impl Iterator<Item = (RequestId, u32)> + '_ {
        (self.sequences.iter()).map(|(&id, sequence)| (id, sequence.computed))
    }

    /// The blocks in which something is stored of a sequence that is in it. They must be its
    /// agent's, in the pool: else somebody else may be given them.
    pub fn blocks(&self) -> impl Iterator<Item = (AgentId, BlockRef)> + '_ {
        let live = self.sequences.values().filter(|s| !s.extracted);
        live.flat_map(|s| {
            let blocks = s.layers.iter().flat_map(|layer| &layer.blocks);
            blocks.map(|&block| (s.agent, block))
        })
    }

    /// Notes a finding and gives it back.
    fn found(&mut self, error: ContentError) -> ContentError {
        self.counts.findings += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(error.clone());
        }
        error
    }

    /// Notes findings. The first is the call's error, unless they are only noted.
    fn conclude(&mut self, found: Vec<ContentError>) -> Result<(), ContentError> {
        let mut first = None;
        for error in found {
            let error = self.found(error);
            first.get_or_insert(error);
        }
        match first {
            Some(error) if !self.recording => Err(error),
            _ => Ok(()),
        }
    }

    /// A finding in a call that cannot fail.
    fn owe(&mut self, error: ContentError) {
        let error = self.found(error);
        if !self.recording {
            self.owed.get_or_insert(error);
        }
    }

    /// What is stored of a token.
    fn read(&self, site: Site, layer: &Layer, position: u32) -> Result<u64, ContentError> {
        let (block, at) = layer
            .place(self.spec.block_tokens(), position)
            .ok_or_else(|| layer.no_room(site.request, position))?;
        let owner = Owner {
            request: site.request,
            block,
        };
        let slot = (self.memory.owned(owner)).map_err(|of| site.not_owned(position, block, of))?;
        (slot.cells.get(at).copied()).ok_or_else(|| site.missing(position))
    }

    /// Stores `tokens`, which stand from `start` on, in every layer.
    fn store(
        &mut self,
        call: &'static str,
        request: RequestId,
        sequence: &mut Sequence,
        (start, tokens): (u32, &[u32]),
        found: &mut Vec<ContentError>,
    ) {
        for layer in &mut sequence.layers {
            let site = Site {
                call,
                request,
                layer: layer.id,
            };
            let mut before = self.weights.start(layer.id);
            if let Some(last) = start.checked_sub(1) {
                match self.read(site, layer, last) {
                    Ok(stored) => {
                        self.counts.verified += 1;
                        if let Some((block, _)) = layer.place(self.spec.block_tokens(), last) {
                            found.extend(site.compare(last, block, stored, layer.last));
                        }
                        before = stored;
                    }
                    Err(error) => {
                        found.push(error);
                        before = 0;
                    }
                }
            }
            layer.last = self.store_layer(site, layer, (start, tokens, before), found);
        }
        self.counts.computed += tokens.len() as u64;
        sequence.computed = start + tokens.len() as u32;
    }

    /// Stores `tokens` in one layer, block by block; returns what the last comes to.
    fn store_layer(
        &mut self,
        site: Site,
        layer: &mut Layer,
        (start, tokens, mut before): (u32, &[u32], u64),
        found: &mut Vec<ContentError>,
    ) -> u64 {
        let block_tokens = self.spec.block_tokens();
        let (mut position, mut left) = (start, tokens);
        while !left.is_empty() {
            let Some((block, at)) = layer.place(block_tokens, position) else {
                found.push(layer.no_room(site.request, position));
                break;
            };
            let (here, rest) = left.split_at(left.len().min(block_tokens as usize - at));
            let owner = Owner {
                request: site.request,
                block,
            };
            let weights = self.weights;
            match self.memory.owned_mut(owner) {
                Ok(slot) => {
                    if slot.cells.len() < at + here.len() {
                        slot.cells
                            .reserve_exact(block_tokens as usize - slot.cells.len());
                        slot.cells.resize(at + here.len(), 0);
                    } else if let Some(ring) = layer.ring.filter(|&ring| position >= ring) {
                        let old = slot.cells[at..].iter().zip(position - ring..);
                        (layer.spare).extend(old.map(|(&old, of)| (of, old)).take(here.len()));
                    }
                    for ((cell, &token), position) in
                        slot.cells[at..].iter_mut().zip(here).zip(position..)
                    {
                        before = weights.hash(site.layer, position, token, before);
                        *cell = before;
                    }
                }
                Err(of) => {
                    found.push(site.not_owned(position, block, of));
                    for (&token, position) in here.iter().zip(position..) {
                        before = weights.hash(site.layer, position, token, before);
                    }
                }
            }
            position += here.len() as u32;
            left = rest;
        }
        before
    }

    /// The next token of a sequence, from what is stored of it.
    fn decode(
        &mut self,
        request: RequestId,
        sequence: &mut Sequence,
        found: &mut Vec<ContentError>,
    ) -> Produced {
        let len = sequence.tokens.len() as u32;
        if sequence.computed + 1 < len {
            found.push(ContentError::TooEarly {
                request,
                computed: sequence.computed,
                tokens: len,
            });
        }
        sequence
            .layers
            .iter_mut()
            .for_each(|layer| layer.spare.clear());
        // The last token of the prompt, which no chunk contains.
        let fed = sequence.tokens[sequence.computed as usize..].to_vec();
        if !fed.is_empty() {
            let at = sequence.computed;
            self.store("step", request, sequence, (at, &fed), found);
        }
        let read = |layer: LayerId, position| {
            let site = Site {
                call: "step",
                request,
                layer,
            };
            let part = &sequence.layers[layer.0 as usize];
            self.read(site, part, position).unwrap_or_else(|error| {
                found.push(error);
                0
            })
        };
        let next = self.weights.next(&self.spec, len, read);
        sequence.tokens.push(next.token);
        // Ahead of what is fed, as backends are that compute while the caller looks at it.
        self.store("step", request, sequence, (len, &[next.token]), found);
        self.counts.produced += 1;
        let finish = match next.stop {
            true => Some(Finish::Stop),
            false => (len + 1 >= sequence.prompt.saturating_add(sequence.max_tokens))
                .then_some(Finish::Length),
        };
        Produced {
            request,
            token: next.token,
            finish,
        }
    }

    /// Gives up every block of a sequence.
    fn forget(&mut self, request: RequestId, sequence: &Sequence) {
        for &block in sequence.layers.iter().flat_map(|layer| &layer.blocks) {
            self.memory.give_up(Owner { request, block });
        }
    }
}

impl Generator for ContentModel {
    type Payload = ContentBlock;
    type Error = ContentError;

    fn insert(&mut self, sequence: NewSequence<'_, ContentBlock>) -> Result<(), ContentError> {
        let mut found = Vec::new();
        let lasts = self.verify_new(&sequence, &mut found);
        self.conclude(found)?;
        self.load(sequence, lasts);
        self.counts.inserted += 1;
        Ok(())
    }

    fn extend(&mut self, request: RequestId, blocks: &[BlockRef]) {
        let Some(mut sequence) = self.sequences.remove(&request) else {
            return self.owe(ContentError::Unknown {
                call: "extend",
                request,
            });
        };
        let mut found = Vec::new();
        for &block in blocks {
            found.extend(self.unusable(request, block));
            if let Some(layer) = sequence.layers.get_mut(block.layer().0 as usize) {
                layer.blocks.push(block);
                self.memory.claim(Owner { request, block });
            }
        }
        self.sequences.insert(request, sequence);
        found.into_iter().for_each(|error| self.owe(error));
    }

    fn step(&mut self, input: &StepInput<'_>) -> Result<Vec<Produced>, ContentError> {
        if let Some(owed) = self.owed.take() {
            return Err(owed);
        }
        self.counts.steps += 1;
        let mut found = Vec::new();
        if input.decode.is_empty() && input.prefill.is_empty() {
            found.push(ContentError::EmptyStep);
        }
        for chunk in input.prefill {
            let request = chunk.request;
            let Some(mut sequence) = self.known("step", request, &mut found) else {
                continue;
            };
            let end = chunk.start as usize + chunk.tokens.len();
            let wanted = sequence.tokens.get(chunk.start as usize..end);
            // The last token of a prompt is for the first decode.
            let fits = chunk.start == sequence.computed && end < sequence.prompt as usize;
            if !fits || wanted != Some(chunk.tokens) {
                found.push(ContentError::WrongChunk {
                    request,
                    start: chunk.start,
                    tokens: chunk.tokens.len() as u32,
                    computed: sequence.computed,
                    prompt: sequence.prompt,
                });
            }
            let place = (chunk.start, chunk.tokens);
            self.store("step", request, &mut sequence, place, &mut found);
            // A prompt's chunk is never taken back.
            sequence
                .layers
                .iter_mut()
                .for_each(|layer| layer.spare.clear());
            self.sequences.insert(request, sequence);
        }
        let mut produced = Vec::with_capacity(input.decode.len());
        for &request in input.decode {
            if let Some(mut sequence) = self.known("step", request, &mut found) {
                produced.push(self.decode(request, &mut sequence, &mut found));
                self.sequences.insert(request, sequence);
            }
        }
        self.conclude(found)?;
        Ok(produced)
    }

    fn extract_cache(
        &mut self,
        request: RequestId,
        slots: &[BlockSlot],
    ) -> Result<Vec<ContentBlock>, ContentError> {
        let mut found = Vec::new();
        let Some(mut sequence) = self.known("extract", request, &mut found) else {
            self.conclude(found)?;
            return Ok(Vec::new());
        };
        let payloads = self.unload(request, &sequence, slots, &mut found);
        let concluded = self.conclude(found);
        if concluded.is_ok() {
            self.forget(request, &sequence);
            sequence.extracted = true;
            self.counts.extracted += payloads.len() as u64;
        }
        self.sequences.insert(request, sequence);
        concluded.map(|()| payloads)
    }

    fn remove(&mut self, request: RequestId) {
        if let Some(sequence) = self.sequences.remove(&request) {
            self.forget(request, &sequence);
        }
    }
}
