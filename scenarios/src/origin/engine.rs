//! The origin's batch engine, resurrected: its order of steps, its locks and its errors, with
//! every bug that the rows of this folder are about. Written from what it does, not from its
//! code.
//!
//! It has two locks. One, the device's, is held by each call of the backend; the other by each
//! look at the books, and let go between two looks. The pool is the one that ships, used as the
//! origin uses its own: by bare handles, which somebody must remember to free.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use selvedge_core::platform::{Mutex, Platform};
use selvedge_core::pool::AllocateError;
use selvedge_core::{AgentId, BlockPool, BlockRef, LayerId};
use selvedge_sim::{note, violation};

use super::subject::{Engine, Fate, Id, NAMES, Refused, Setup};
use crate::bed::{BLOCK_TOKENS, agent_of, pool_of};

/// The resurrected engine.
pub(crate) struct OriginEngine<P: Platform> {
    pool: BlockPool<P>,
    agents: [AgentId; NAMES.len()],
    device: P::Mutex<Device>,
    books: P::Mutex<Books>,
    setup: Setup,
    meter: Arc<Meter>,
}

/// What went wrong in a step. What the step had not come to by then is lost.
#[derive(Clone, Debug)]
pub(crate) struct Failed(pub(crate) String);

#[derive(Default)]
struct Device {
    /// Attempts to make the backend.
    made: u32,
    /// Made by the first request, and dropped when a step fails.
    backend: Option<Backend>,
}

#[derive(Default)]
struct Books {
    draining: bool,
    active: BTreeMap<Id, Active>,
    /// One cache for each agent: what it has reserved, later what was computed.
    tracked: BTreeMap<usize, Vec<Tracked>>,
}

#[derive(Clone)]
struct Active {
    who: usize,
    generated: u32,
}

struct Tracked {
    block: BlockRef,
    /// `None` if nothing was computed yet, and again after somebody has used it up.
    data: Option<Slice>,
}

/// A response of the backend.
struct Response {
    id: Id,
    finished: bool,
    /// The cache, layer by layer, of a sequence that finished.
    cache: Option<Vec<Slice>>,
}

impl<P: Platform> OriginEngine<P> {
    /// The first steps of [`Engine::step`], as far as they got.
    pub(crate) fn step_once(&self) -> Result<Vec<(Id, Fate)>, Failed> {
        let mut ended = Vec::new();
        for response in self.next()? {
            ended.extend(self.take(response)?);
        }
        Ok(ended)
    }

    /// Bytes of payloads, now and at most.
    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    fn next(&self) -> Result<Vec<Response>, Failed> {
        let mut device = self.device.lock();
        let Some(backend) = &mut device.backend else {
            return Ok(Vec::new());
        };
        let result = backend.next();
        if result.is_err() {
            // The books are not told.
            device.backend = None;
        }
        result
    }

    fn take(&self, response: Response) -> Result<Option<(Id, Fate)>, Failed> {
        let Response {
            id,
            finished,
            cache,
        } = response;
        {
            let mut books = self.books.lock();
            let Some(active) = books.active.get_mut(&id) else {
                // Nobody's, says the log.
                return Ok(None);
            };
            active.generated += 1;
        }
        match finished {
            true => self.finalize(id, cache).map(Some),
            false => Ok(None),
        }
    }

    fn finalize(&self, id: Id, cache: Option<Vec<Slice>>) -> Result<(Id, Fate), Failed> {
        let Some(Active { who, generated }) = self.books.lock().active.get(&id).cloned() else {
            return Err(Failed(format!("{id} is not active")));
        };
        let extracts_first = self.setup.origin.extracts_before_freeing;
        if !extracts_first {
            self.free_tracked(who);
        }
        let new = match self.extract(id, who, cache) {
            Ok(new) => new,
            Err(failed) => {
                self.pool.free_agent(self.agents[who]);
                return Err(failed);
            }
        };
        if extracts_first {
            self.free_tracked(who);
        }
        self.books.lock().tracked.insert(who, new);
        self.books.lock().active.remove(&id);
        Ok((id, Fate::Completed { generated }))
    }

    /// New blocks for a finished sequence, with what was computed of it.
    fn extract(
        &self,
        id: Id,
        who: usize,
        cache: Option<Vec<Slice>>,
    ) -> Result<Vec<Tracked>, Failed> {
        let cache = match cache {
            Some(cache) => cache,
            None => (self.device.lock().backend.as_mut())
                .and_then(|backend| backend.extract(id))
                .ok_or_else(|| Failed(format!("{id} is not in the backend")))?,
        };
        let mut new = Vec::new();
        for (mut rest, layer) in cache.into_iter().zip(0..) {
            let blocks = self
                .allocate(rest.len(), layer, who)
                .map_err(|refused| Failed(refused.to_string()))?;
            for block in blocks {
                let after = rest.split_off(BLOCK_TOKENS as usize);
                let data = Some(std::mem::replace(&mut rest, after));
                new.push(Tracked { block, data });
            }
        }
        Ok(new)
    }

    fn allocate(
        &self,
        tokens: usize,
        layer: u32,
        who: usize,
    ) -> Result<Vec<BlockRef>, AllocateError> {
        let n = tokens.div_ceil(BLOCK_TOKENS as usize);
        let n = u32::try_from(n).expect("INVARIANT: prompts here are short");
        let lease = self.pool.allocate(n, LayerId(layer), self.agents[who])?;
        Ok(lease.persist())
    }

    /// Frees what the agent has in the books now, which may not be what the caller has put there.
    fn free_tracked(&self, who: usize) {
        let Some(old) = self.books.lock().tracked.remove(&who) else {
            return;
        };
        let blocks: Vec<BlockRef> = old.iter().map(|of| of.block).collect();
        drop(old);
        // A block that is not the agent's any more is logged.
        let _ = self.pool.free(self.agents[who], &blocks);
    }

    /// What the agent's cache holds, layer by layer. The cache is used up by it.
    fn use_up(&self, who: usize) -> Option<Vec<Slice>> {
        let mut books = self.books.lock();
        let tracked = books.tracked.get_mut(&who)?;
        let mut layers: Vec<Slice> = (0..self.setup.layers)
            .map(|_| Slice::new(&self.meter))
            .collect();
        for of in tracked.iter() {
            let data = of.data.as_ref()?;
            layers[of.block.layer().0 as usize].append_copy(data);
        }
        // In the ticket's day the old cache stayed until the new one was there.
        if !self.setup.origin.extracts_before_freeing {
            for of in tracked {
                of.data = None;
            }
        }
        Some(layers)
    }

    fn reserve(&self, who: usize, prompt: &[u32]) -> Result<(), AllocateError> {
        let layers = match self.setup.origin.frees_layer_0_only {
            true => self.setup.layers,
            false => 1,
        };
        let mut reserved = Vec::new();
        for layer in 0..layers {
            for block in self.allocate(prompt.len(), layer, who)? {
                reserved.push(Tracked { block, data: None });
            }
        }
        // Whatever the agent had in the books is in nobody's now.
        self.books.lock().tracked.insert(who, reserved);
        Ok(())
    }

    fn clean_up_after_insert(&self, who: usize) {
        let mut books = self.books.lock();
        let Some(mut tracked) = books.tracked.remove(&who) else {
            return;
        };
        drop(books);
        if self.setup.origin.frees_layer_0_only {
            tracked.retain(|of| of.block.layer() == LayerId(0));
        }
        let blocks: Vec<BlockRef> = tracked.iter().map(|of| of.block).collect();
        let _ = self.pool.free(self.agents[who], &blocks);
    }
}

impl<P: Platform> Engine for OriginEngine<P> {
    fn new(setup: Setup) -> Self {
        let pool = pool_of(setup.layers, setup.blocks);
        OriginEngine {
            agents: NAMES.map(|name| agent_of(&pool, name)),
            pool,
            device: P::Mutex::new(Device::default()),
            books: P::Mutex::new(Books::default()),
            setup,
            meter: Arc::new(Meter::default()),
        }
    }

    fn submit(&self, who: usize, prompt: &[u32], max_tokens: u32) -> Result<Id, Refused> {
        if self.books.lock().draining {
            return Err(Refused::Closed);
        }
        let cache = self.use_up(who);
        if cache.is_none() {
            (self.reserve(who, prompt)).map_err(|_| Refused::Exhausted)?;
        }
        {
            let mut device = self.device.lock();
            if device.backend.is_none() {
                device.made += 1;
                if device.made <= self.setup.factory_fails {
                    return Err(Refused::Other("the model does not load".to_owned()));
                }
                device.backend = Some(Backend::new(&self.setup, &self.meter));
            }
        }
        let is_new = cache.is_none();
        let inserted = {
            let mut device = self.device.lock();
            (device.backend.as_mut()).and_then(|b| b.insert(prompt, cache, max_tokens))
        };
        let Some(id) = inserted else {
            if is_new {
                self.clean_up_after_insert(who);
            }
            return Err(Refused::InsertFailed);
        };
        let active = Active { who, generated: 0 };
        self.books.lock().active.insert(id, active);
        Ok(id)
    }

    fn step(&self) -> Vec<(Id, Fate)> {
        // Its callers log what goes wrong, and call again.
        self.step_once().unwrap_or_else(|Failed(what)| {
            note(&what);
            Vec::new()
        })
    }

    /// Each response is looked at when the caller asks for the next, and it stops to ask.
    fn run_for(&self, id: Id) {
        while let Ok(responses) = self.next() {
            if responses.is_empty() {
                return;
            }
            for response in responses {
                if matches!(self.take(response), Ok(Some(ended)) if ended.0 == id) {
                    return;
                }
            }
        }
    }

    fn drain(&self, turns: u32) -> bool {
        self.books.lock().draining = true;
        for _ in 0..turns {
            if self.live() == 0 {
                return true;
            }
            self.step();
        }
        self.live() == 0
    }

    fn shutdown(&self) {
        self.device.lock().backend = None;
        let mut books = self.books.lock();
        books.active.clear();
        books.tracked.clear();
    }

    fn live(&self) -> u32 {
        u32::try_from(self.books.lock().active.len()).unwrap_or(u32::MAX)
    }

    fn cached(&self, who: usize) -> Result<u32, String> {
        let books = self.books.lock();
        let Some(tracked) = books.tracked.get(&who) else {
            return Ok(0);
        };
        let of_layer_0 = tracked.iter().filter(|of| of.block.layer() == LayerId(0));
        let held: Option<usize> = of_layer_0.map(|of| Some(of.data.as_ref()?.len())).sum();
        match held {
            Some(held) => u32::try_from(held).map_err(|error| error.to_string()),
            None => Err("blocks without data".to_owned()),
        }
    }

    fn forget_caches(&self) {
        for who in 0..NAMES.len() {
            self.free_tracked(who);
        }
    }

    fn available(&self) -> u32 {
        match self.pool.audit() {
            Ok(snapshot) => snapshot.available,
            Err(violated) => violation!(violated.property, "{violated}"),
        }
    }

    fn held_by_backend(&self) -> u32 {
        let device = self.device.lock();
        let held = device.backend.as_ref().map_or(0, |b| b.sequences.len());
        u32::try_from(held).unwrap_or(u32::MAX)
    }
}

/// The origin's backend: it mints the ids, and a sequence lives from its insert on.
struct Backend {
    setup: Setup,
    meter: Arc<Meter>,
    inserts: u32,
    steps: u32,
    extracts: u32,
    ids: Id,
    sequences: BTreeMap<Id, Sequence>,
}

struct Sequence {
    last: u32,
    left: u32,
    layers: Vec<Slice>,
}

impl Backend {
    fn new(setup: &Setup, meter: &Arc<Meter>) -> Self {
        Backend {
            setup: setup.clone(),
            meter: meter.clone(),
            inserts: 0,
            steps: 0,
            extracts: 0,
            ids: 0,
            sequences: BTreeMap::new(),
        }
    }

    /// `None` if it fails.
    fn insert(&mut self, prompt: &[u32], cache: Option<Vec<Slice>>, left: u32) -> Option<Id> {
        self.inserts += 1;
        if self.setup.script.fail_insert == Some(self.inserts - 1) {
            return None;
        }
        self.ids += 1;
        let mut layers = cache.unwrap_or_else(|| {
            let layers = 0..self.setup.layers;
            layers.map(|_| Slice::new(&self.meter)).collect()
        });
        for layer in &mut layers {
            layer.truncate(prompt.len());
            for &token in &prompt[layer.len()..] {
                layer.push(token);
            }
        }
        let last = prompt.last().copied().unwrap_or_default();
        let sequence = Sequence { last, left, layers };
        self.sequences.insert(self.ids, sequence);
        Some(self.ids)
    }

    /// One token for each sequence that has any left.
    fn next(&mut self) -> Result<Vec<Response>, Failed> {
        let now = self.steps;
        self.steps += 1;
        if self.setup.script.fail_step == Some(now) {
            return Err(Failed("the device is gone".to_owned()));
        }
        let keeps = self.setup.origin.backend_keeps_finished;
        let live: Vec<Id> = (self.sequences.iter())
            .filter(|(_, sequence)| sequence.left > 0)
            .map(|(&id, _)| id)
            .collect();
        let mut responses = Vec::new();
        for id in live {
            let finished = self.sequences.get_mut(&id).is_some_and(Sequence::decode);
            let cache = match finished && !keeps {
                true => self.extract(id),
                false => None,
            };
            responses.push(Response {
                id,
                finished,
                cache,
            });
        }
        Ok(responses)
    }

    fn extract(&mut self, id: Id) -> Option<Vec<Slice>> {
        self.extracts += 1;
        let sequence = self.sequences.remove(&id)?;
        match self.setup.script.fail_extract == Some(self.extracts - 1) {
            true => None,
            false => Some(sequence.layers),
        }
    }
}

impl Sequence {
    /// Whether that was its last token.
    fn decode(&mut self) -> bool {
        self.last = self.last.wrapping_add(1);
        for layer in &mut self.layers {
            layer.push(self.last);
        }
        self.left -= 1;
        self.left == 0
    }
}

/// Bytes of payloads that live. It is the bed's, not the engine's: no checker need see it.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    live: AtomicU64,
    peak: AtomicU64,
}

/// Bytes that a token comes to in a layer.
pub(crate) const TOKEN_BYTES: u64 = 4;

impl Meter {
    pub(crate) fn live(&self) -> u64 {
        self.live.load(SeqCst)
    }

    /// The most since [`Self::forget_peak`].
    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(SeqCst)
    }

    pub(crate) fn forget_peak(&self) {
        self.peak.store(self.live(), SeqCst);
    }

    fn more(&self, tokens: usize) {
        let bytes = tokens as u64 * TOKEN_BYTES;
        let live = self.live.fetch_add(bytes, SeqCst) + bytes;
        self.peak.fetch_max(live, SeqCst);
    }

    fn less(&self, tokens: usize) {
        self.live.fetch_sub(tokens as u64 * TOKEN_BYTES, SeqCst);
    }
}

/// What some tokens come to in a layer: a payload that counts itself up and down.
#[derive(Debug)]
pub(crate) struct Slice {
    tokens: Vec<u32>,
    meter: Arc<Meter>,
}

impl Slice {
    pub(crate) fn new(meter: &Arc<Meter>) -> Self {
        Slice {
            tokens: Vec::new(),
            meter: meter.clone(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(crate) fn push(&mut self, token: u32) {
        self.tokens.push(token);
        self.meter.more(1);
    }

    /// Moves: nothing is there twice.
    pub(crate) fn split_off(&mut self, at: usize) -> Slice {
        Slice {
            tokens: self.tokens.split_off(at.min(self.tokens.len())),
            meter: self.meter.clone(),
        }
    }

    /// Moves: nothing is there twice.
    pub(crate) fn append(&mut self, mut other: Slice) {
        self.tokens.append(&mut other.tokens);
    }

    fn append_copy(&mut self, other: &Slice) {
        self.tokens.extend(&other.tokens);
        self.meter.more(other.len());
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        drop(self.split_off(len));
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        self.meter.less(self.tokens.len());
    }
}
