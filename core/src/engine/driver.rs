//! [`Driver`]: the part of the shell that works outside its lock. It carries out one action and
//! reports how it went; what to do is the state's to say.
//!
//! Whoever steps the engine owns the driver meanwhile, so the backend is called from one thread
//! at a time although no lock is held.

use core::mem;
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::action::{Action, CacheSize, Event, LeaseOrder, Outcome, StepPlan};
use super::generator::{BlockSlot, Finish, Generator, NewSequence, PrefillChunk, StepInput};
use super::layout::{self, LeasePlan};
use crate::panic_text::text_of;
use crate::platform::Platform;
use crate::pool::{AllocateError, ExchangeError};
use crate::{
    AgentBlocks, AgentId, BlockLease, BlockPool, BlockRef, KvBlock, ModelCacheSpec, RequestId,
};

/// An agent's idle cache.
pub(super) type Cache<G, P> = AgentBlocks<'static, <G as Generator>::Payload, P>;

/// All idle caches.
pub(super) type Caches<G, P> = BTreeMap<AgentId, Cache<G, P>>;

/// Prompts of accepted requests.
pub(super) type Arrivals = Vec<(RequestId, Vec<u32>)>;

pub(super) struct Driver<G: Generator, P: Platform> {
    // The order of the fields is the order of their drops: no payload outlives its block.
    /// `None` once the engine is dead.
    pub(super) generator: Option<G>,
    sequences: BTreeMap<RequestId, Sequence<G::Payload, P>>,
    /// What the caller is still to be told.
    pub(super) events: Vec<Event>,
    pub(super) pool: P::Arc<BlockPool<P>>,
    pub(super) spec: ModelCacheSpec,
}

/// What the driver has of a request.
struct Sequence<D, P: Platform> {
    /// Blocks of the agent's cache that it starts from, until the backend has taken them.
    prefix: Prefix<D>,
    lease: Option<BlockLease<'static, P>>,
    /// Tokens of it that are not computed again.
    reused: u32,
    tokens: Vec<u32>,
}

struct Prefix<D> {
    blocks: Vec<KvBlock<D>>,
    /// How many blocks there were.
    whole: usize,
    /// The tokens they hold.
    tokens: Vec<u32>,
}

impl<D> Prefix<D> {
    fn none() -> Self {
        Prefix {
            blocks: Vec::new(),
            whole: 0,
            tokens: Vec::new(),
        }
    }
}

/// How an action went, and what became idle by it.
pub(super) struct Report<G: Generator, P: Platform> {
    pub(super) outcome: Outcome,
    pub(super) idle: Option<Cache<G, P>>,
}

impl<G: Generator, P: Platform> From<Outcome> for Report<G, P> {
    fn from(outcome: Outcome) -> Self {
        Report {
            outcome,
            idle: None,
        }
    }
}

impl<G: Generator, P: Platform> Driver<G, P> {
    pub(super) fn new(generator: G, pool: P::Arc<BlockPool<P>>, spec: ModelCacheSpec) -> Self {
        Driver {
            generator: Some(generator),
            sequences: BTreeMap::new(),
            events: Vec::new(),
            pool,
            spec,
        }
    }

    /// Takes the prompts of requests that were accepted.
    pub(super) fn receive(&mut self, arrivals: Arrivals) {
        for (id, tokens) in arrivals {
            let sequence = Sequence {
                prefix: Prefix::none(),
                lease: None,
                reused: 0,
                tokens,
            };
            self.sequences.insert(id, sequence);
        }
    }

    /// Carries out an action. `cache` is the idle cache that it concerns, if it concerns one.
    ///
    /// A panic becomes [`Outcome::Panicked`] if it carries a text, as `panic!` makes it. What
    /// carries anything else is how coroutines and threads are cancelled: it goes on.
    pub(super) fn perform(&mut self, action: Action, cache: Option<Cache<G, P>>) -> Report<G, P> {
        let call = action.name();
        match catch_unwind(AssertUnwindSafe(|| self.carry_out(action, cache))) {
            Ok(report) => report,
            Err(payload) => match text_of(payload.as_ref()) {
                Some(message) => Outcome::Panicked { call, message }.into(),
                None => resume_unwind(payload),
            },
        }
    }

    fn carry_out(&mut self, action: Action, cache: Option<Cache<G, P>>) -> Report<G, P> {
        match action {
            Action::Lease(order) => self.lease(&order, cache),
            Action::Grow { request, capacity } => self.grow(request, capacity).into(),
            Action::Insert {
                request,
                max_tokens,
            } => self.insert(request, max_tokens).into(),
            Action::Step(plan) => self.step(&plan).into(),
            Action::Extract { request, tokens } => self.extract(request, tokens),
            Action::Remove { request } => {
                self.backend().remove(request);
                Outcome::Removed.into()
            }
            Action::Release { request } => self.release(request),
            Action::Preempt { request, tokens } => {
                self.backend().remove(request);
                let sequence = self.sequence(request);
                sequence.tokens.truncate(tokens as usize);
                sequence.lease = None;
                Outcome::Preempted.into()
            }
            Action::Evict { .. } => {
                drop(cache);
                Outcome::Evicted.into()
            }
            // The shell does these itself.
            Action::Abandon | Action::Emit(_) => Outcome::Abandoned.into(),
        }
    }

    /// Gets a request its blocks. First it makes sure of what it needs beyond the blocks it
    /// gives up, which changes nothing if it fails. Then the payloads of those are dropped, and
    /// only then are they exchanged, which cannot fail for want of blocks any more.
    fn lease(&mut self, order: &LeaseOrder, cache: Option<Cache<G, P>>) -> Report<G, P> {
        let (pool, spec) = (self.pool.clone(), self.spec.clone());
        let sequence = self.sequence(order.request);
        let cached = cache
            .as_ref()
            .map_or(0, |cache| count(cache.total_tokens()));
        let common =
            (cache.as_ref()).map_or(0, |c| count(c.common_prefix_length(&sequence.tokens)));
        let plan = LeasePlan::new(&spec, cached, common, order.len, order.capacity);

        let promised = match plan.more().saturating_add(order.keep_free) {
            0 => None,
            n => match pool.reserve(n, order.agent) {
                Ok(promised) => Some(promised),
                Err(error) => return lease_refused(error, cache),
            },
        };
        let Some(cache) = cache else {
            let lease = match promised {
                Some(mut promised) => promised.allocate_layers(&plan.needs),
                None => pool.allocate_layers(&plan.needs, order.agent),
            };
            return match lease {
                Ok(lease) => {
                    sequence.lease = lease.into_shared(&pool).ok();
                    leased(sequence, 0)
                }
                Err(error) => lease_refused(error, None),
            };
        };

        let kept_tokens = cache.tokens()[..plan.kept_tokens as usize].to_vec();
        let (mut lease, blocks) = cache.into_parts();
        let mut kept_of = plan.keep.clone();
        let (kept, given_up): (Vec<_>, Vec<_>) = (blocks.into_iter()).partition(|block| {
            let left = kept_of.get_mut(block.block().layer().0 as usize);
            left.is_some_and(|left| {
                *left > 0 && {
                    *left -= 1;
                    true
                }
            })
        });
        drop(given_up);
        let keeps: Vec<BlockRef> = sorted(kept.iter().map(KvBlock::block));
        let gives_up = |block: BlockRef| keeps.binary_search(&block).is_err();
        let mut promised = promised;
        match lease.exchange_part(gives_up, &plan.needs, promised.as_mut()) {
            Ok(()) => {
                sequence.lease = Some(lease);
                sequence.prefix = Prefix {
                    whole: kept.len(),
                    blocks: kept,
                    tokens: kept_tokens,
                };
                leased(sequence, plan.reused)
            }
            Err(error) => {
                let error = match error {
                    ExchangeError::New(error) => error,
                    // Somebody freed them behind the cache's back: it is nobody's any more.
                    ExchangeError::Old(_) => AllocateError::UnknownAgent,
                };
                drop(promised);
                lease_refused(error, rebuilt(&spec, lease, kept, kept_tokens))
            }
        }
    }

    fn grow(&mut self, request: RequestId, capacity: u32) -> Outcome {
        let spec = self.spec.clone();
        let Some(lease) = self.sequence(request).lease.as_mut() else {
            return Outcome::GrowRefused(AllocateError::ZeroBlocks);
        };
        let before = lease.len();
        let needs = layout::lacking(&spec, lease.blocks(), capacity);
        match lease.exchange_part(|_| false, &needs, None) {
            Ok(()) => {
                let new = lease.blocks()[before..].to_vec();
                let blocks = count(lease.len());
                self.backend().extend(request, &new);
                Outcome::Grown { blocks }
            }
            Err(ExchangeError::New(error)) => Outcome::GrowRefused(error),
            Err(ExchangeError::Old(_)) => Outcome::GrowRefused(AllocateError::UnknownAgent),
        }
    }

    fn insert(&mut self, request: RequestId, max_tokens: u32) -> Outcome {
        let Driver {
            generator,
            sequences,
            ..
        } = self;
        let sequence = (sequences.get_mut(&request))
            .expect("INVARIANT: a prompt arrives under the lock that accepts its request");
        let lease = (sequence.lease.as_ref())
            .expect("INVARIANT: a request is inserted after it was leased its blocks");
        let inserted = alive(generator).insert(NewSequence {
            request,
            agent: lease.agent(),
            tokens: &sequence.tokens,
            reused: sequence.reused,
            prefix: &mut sequence.prefix.blocks,
            blocks: lease.blocks(),
            max_tokens,
        });
        match inserted {
            Ok(()) => {
                sequence.prefix = Prefix::none();
                Outcome::Inserted
            }
            Err(error) => Outcome::InsertFailed {
                message: error.to_string(),
            },
        }
    }

    fn step(&mut self, plan: &StepPlan) -> Outcome {
        let Driver {
            generator,
            sequences,
            ..
        } = self;
        let prefill: Vec<PrefillChunk<'_>> = (plan.prefill.iter())
            .filter_map(|chunk| {
                let tokens = &sequences.get(&chunk.request)?.tokens;
                Some(PrefillChunk {
                    request: chunk.request,
                    start: chunk.start,
                    tokens: tokens.get(chunk.start as usize..chunk.end as usize)?,
                })
            })
            .collect();
        let input = StepInput {
            decode: &plan.decode,
            prefill: &prefill,
        };
        match alive(generator).step(&input) {
            Ok(produced) => {
                // What should not have come is cut off again, or its request fails.
                for one in produced
                    .iter()
                    .filter(|one| one.finish != Some(Finish::Stop))
                {
                    if let Some(sequence) = sequences.get_mut(&one.request) {
                        sequence.tokens.push(one.token);
                    }
                }
                Outcome::Stepped(produced)
            }
            Err(error) => Outcome::StepFailed {
                message: error.to_string(),
            },
        }
    }

    /// Moves what the backend has of a sequence into its blocks. Nothing else of the agent's is
    /// in memory then: what it started from went to the backend, or was dropped, long before.
    ///
    /// Until the backend has handed over, it may use every block of the sequence: none is given
    /// up before, and none at all if it fails, as long as the sequence is in it.
    fn extract(&mut self, request: RequestId, tokens: u32) -> Report<G, P> {
        let Driver {
            generator,
            sequences,
            spec,
            ..
        } = self;
        let failed = |message: String| Outcome::ExtractFailed { message }.into();
        let Some(sequence) = sequences.get_mut(&request) else {
            return failed("there is no such sequence".to_owned());
        };
        let held = sequence.lease.as_ref().map_or(&[][..], BlockLease::blocks);
        let slots = layout::slots(spec, held, tokens);
        let payloads = match alive(generator).extract_cache(request, &slots) {
            Ok(payloads) if payloads.len() == slots.len() => payloads,
            Ok(payloads) => {
                let message = format!("{} payloads for {} blocks", payloads.len(), slots.len());
                drop(payloads);
                return failed(message);
            }
            Err(error) => return failed(error.to_string()),
        };
        let Some(mut lease) = sequence.lease.take() else {
            return failed("the sequence has no blocks".to_owned());
        };
        let filled: Vec<BlockRef> = sorted(slots.iter().map(|slot| slot.block));
        let surplus = |block: BlockRef| filled.binary_search(&block).is_err();
        if let Err(error) = lease.exchange_part(surplus, &[], None) {
            drop(payloads);
            return failed(error.to_string());
        }
        let blocks = fill(spec, slots, payloads);
        sequence.tokens.truncate(tokens as usize);
        match AgentBlocks::new(spec, lease, blocks, mem::take(&mut sequence.tokens)) {
            Ok(cache) => Report {
                outcome: Outcome::Extracted(size_of_cache(&cache)),
                idle: Some(cache),
            },
            Err(error) => failed(error.to_string()),
        }
    }

    /// Gives up what a request holds. If the backend never took what it started from, that is
    /// its agent's cache again.
    fn release(&mut self, request: RequestId) -> Report<G, P> {
        let idle = self.sequences.remove(&request).and_then(|sequence| {
            let Sequence { prefix, lease, .. } = sequence;
            let untouched = prefix.whole > 0 && prefix.blocks.len() == prefix.whole;
            let Some(lease) = lease.filter(|_| untouched) else {
                // The payloads first.
                drop(prefix.blocks);
                return None;
            };
            rebuilt(&self.spec, lease, prefix.blocks, prefix.tokens)
        });
        Report {
            outcome: Outcome::Released {
                cache: idle.as_ref().map(size_of_cache),
            },
            idle,
        }
    }

    /// Drops the backend, the caches and what every request holds, in this order and whatever
    /// panics meanwhile.
    pub(super) fn abandon(&mut self, caches: Caches<G, P>) {
        let generator = self.generator.take();
        let sequences = mem::take(&mut self.sequences);
        let mut not_ours = None;
        let mut drop_it = |panicked: Result<(), Box<dyn Any + Send>>| {
            if let Err(payload) = panicked
                && text_of(payload.as_ref()).is_none()
            {
                not_ours.get_or_insert(payload);
            }
        };
        drop_it(catch_unwind(AssertUnwindSafe(|| drop(generator))));
        for cache in caches.into_values() {
            drop_it(catch_unwind(AssertUnwindSafe(|| drop(cache))));
        }
        for sequence in sequences.into_values() {
            drop_it(catch_unwind(AssertUnwindSafe(|| drop(sequence))));
        }
        if let Some(payload) = not_ours {
            resume_unwind(payload);
        }
    }

    fn backend(&mut self) -> &mut G {
        alive(&mut self.generator)
    }

    fn sequence(&mut self, request: RequestId) -> &mut Sequence<G::Payload, P> {
        (self.sequences.get_mut(&request))
            .expect("INVARIANT: a prompt arrives under the lock that accepts its request")
    }
}

fn alive<G>(generator: &mut Option<G>) -> &mut G {
    (generator.as_mut()).expect("INVARIANT: a dead engine asks for nothing but to be abandoned")
}

fn leased<G: Generator, P: Platform>(
    sequence: &mut Sequence<G::Payload, P>,
    reused: u32,
) -> Report<G, P> {
    sequence.reused = reused;
    let blocks = sequence.lease.as_ref().map_or(0, BlockLease::len);
    Outcome::Leased {
        blocks: count(blocks),
        reused,
    }
    .into()
}

fn lease_refused<G: Generator, P: Platform>(
    error: AllocateError,
    cache: Option<Cache<G, P>>,
) -> Report<G, P> {
    Report {
        outcome: Outcome::LeaseRefused {
            error,
            cache: cache.as_ref().map(size_of_cache),
        },
        idle: cache,
    }
}

/// The cache that `blocks` are, once the lease's other blocks are given up.
fn rebuilt<D, P: Platform>(
    spec: &ModelCacheSpec,
    mut lease: BlockLease<'static, P>,
    blocks: Vec<KvBlock<D>>,
    tokens: Vec<u32>,
) -> Option<AgentBlocks<'static, D, P>> {
    let kept: Vec<BlockRef> = sorted(blocks.iter().map(KvBlock::block));
    let others = |block: BlockRef| kept.binary_search(&block).is_err();
    let given_up = lease.exchange_part(others, &[], None);
    if given_up.is_err() || tokens.is_empty() {
        drop(blocks);
        return None;
    }
    AgentBlocks::new(spec, lease, blocks, tokens).ok()
}

/// Puts each payload into its block. They are as many, so none is left over.
fn fill<D>(spec: &ModelCacheSpec, slots: Vec<BlockSlot>, payloads: Vec<D>) -> Vec<KvBlock<D>> {
    (slots.into_iter().zip(payloads))
        .filter_map(|(slot, payload)| {
            let tokens = slot.tokens.end - slot.tokens.start;
            KvBlock::new(spec, slot.block, tokens, payload).ok()
        })
        .collect()
}

pub(super) fn size_of_cache<D, P: Platform>(cache: &AgentBlocks<'_, D, P>) -> CacheSize {
    CacheSize {
        tokens: count(cache.total_tokens()),
        blocks: count(cache.num_blocks()),
    }
}

fn sorted(blocks: impl Iterator<Item = BlockRef>) -> Vec<BlockRef> {
    let mut blocks: Vec<BlockRef> = blocks.collect();
    blocks.sort_unstable();
    blocks
}

/// Tokens and blocks are counted by a u32 throughout.
fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
