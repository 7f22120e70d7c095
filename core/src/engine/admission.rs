//! Who gets blocks next, and which.
//!
//! First come, first served. A request that does not fit now is passed over, and younger ones
//! that do fit go first, but past nobody more than `max_overtakes` times. Idle caches give way
//! to whoever can really be admitted by it. Nothing waits on a signal that could be lost: the
//! queue is data, looked at in every turn, so that a head that is cancelled wakes the next by
//! simply not being there.

use core::ops::Bound;
use std::collections::BTreeSet;

use super::action::{Action, LeaseOrder};
use super::config::Admission;
use super::request::Phase;
use super::state::{CacheRecord, EngineState, Mode};
use crate::pool::AllocateError;
use crate::time::Instant;
use crate::{AgentId, LayerId, ModelCacheSpec, RequestId};

/// What was tried since blocks last became available.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Round {
    /// Waiting requests that did not fit.
    pub(super) passed_over: BTreeSet<RequestId>,
    /// No waiting request up to this one is still to be tried. Whoever comes later is younger.
    pub(super) tried: Option<RequestId>,
    /// Whether one of those passed over may be overtaken no more, so that nobody younger is tried.
    pub(super) no_further: bool,
    /// Running requests that have no room for their next token and cannot get any.
    pub(super) starved: BTreeSet<RequestId>,
    /// For whom idle caches are dropped, and how many blocks are still to come of them.
    pub(super) evicting: Option<(RequestId, u32)>,
    /// Whether the youngest must give its blocks up, because an older one cannot grow.
    pub(super) preempt: bool,
    /// When the pool is asked again although this engine has given nothing back.
    pub(super) retry_at: Option<Instant>,
}

impl Round {
    /// A turn begins: after a while the pool is asked again.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            *self = Round::default();
        }
    }

    /// Blocks came back: everybody is asked again.
    pub(super) fn reopen(&mut self) {
        *self = Round::default();
    }

    pub(super) fn forget(&mut self, id: RequestId) {
        self.passed_over.remove(&id);
        self.starved.remove(&id);
        self.evicting = self.evicting.filter(|of| of.0 != id);
    }
}

impl EngineState {
    /// The next admission, or the eviction that makes it possible.
    pub(super) fn next_admission(&self) -> Option<Action> {
        let id = self.candidate()?;
        if let Some(eviction) = self.next_eviction(id) {
            return Some(eviction);
        }
        let request = &self.requests[&id];
        let (capacity, keep_free) = match self.config.admission {
            Admission::Watermark { blocks } if !request.preempted => {
                // With nobody running there is nobody to keep anything free for.
                let alone = self.live.is_empty() && self.leased.is_empty();
                (request.len() + 1, if alone { 0 } else { blocks })
            }
            _ => (request.len_max(), 0),
        };
        Some(Action::Lease(LeaseOrder {
            request: id,
            agent: request.shape.agent,
            cached: self.caches.contains_key(&request.shape.agent),
            len: request.len(),
            capacity,
            keep_free,
        }))
    }

    fn next_eviction(&self, id: RequestId) -> Option<Action> {
        self.admission.evicting.filter(|of| of.0 == id)?;
        let agent = self.evictable_for(id).next()?;
        Some(Action::Evict { agent })
    }

    /// An idle cache is dropped: nobody can have it any more.
    pub(super) fn note_eviction(&mut self, agent: AgentId) {
        let Some(cache) = self.caches.remove(&agent) else {
            return;
        };
        if let Some((id, short)) = self.admission.evicting {
            self.counters.evictions += 1;
            let short = short.saturating_sub(cache.size.blocks);
            self.admission.evicting = (short > 0).then_some((id, short));
        }
    }

    /// The oldest waiting request that was not passed over, if it may go first.
    pub(super) fn candidate(&self) -> Option<RequestId> {
        let running = self.live.len() + self.leased.len();
        if running >= self.config.max_running as usize {
            return None;
        }
        if self.admission.no_further {
            return None;
        }
        let tried = self.admission.tried;
        let younger = (
            tried.map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded,
        );
        self.waiting.range(younger).next().copied()
    }

    /// A waiting request does not fit now.
    pub(super) fn pass_over(&mut self, id: RequestId) {
        self.admission.passed_over.insert(id);
        self.admission.tried = Some(id);
        self.admission.no_further |= self.may_not_be_overtaken(id);
    }

    fn may_not_be_overtaken(&self, id: RequestId) -> bool {
        (self.requests.get(&id)).is_some_and(|r| r.overtaken >= self.config.max_overtakes)
    }

    /// The agents whose idle caches may be dropped to admit `id` (or for a running request to
    /// grow), least recently used first. Not its own, which it starts from; nor those of older
    /// requests that wait.
    fn evictable_for(&self, id: RequestId) -> impl Iterator<Item = AgentId> + '_ {
        let mut agents: Vec<(u64, AgentId)> = (self.caches.iter())
            .filter(move |(agent, _)| {
                let waiting = self.busy.get(agent);
                waiting.is_none_or(|&other| other > id)
            })
            .map(|(&agent, cache)| (cache.used, agent))
            .collect();
        agents.sort_unstable();
        agents.into_iter().map(|(_, agent)| agent)
    }

    /// Others may have a request that was admitted past them: each knows how often.
    pub(super) fn note_overtaking(&mut self, admitted: RequestId) {
        for id in &self.admission.passed_over {
            if let Some(request) = self.requests.get_mut(id)
                && *id < admitted
            {
                request.overtaken += 1;
                self.admission.no_further |= request.overtaken >= self.config.max_overtakes;
            }
        }
    }

    /// What to do about blocks that were not to be had: drop idle caches if that is enough.
    /// Returns whether it is.
    pub(super) fn make_room(&mut self, id: RequestId, short: u32) -> bool {
        let idle: u64 = (self.evictable_for(id))
            .filter_map(|agent| self.caches.get(&agent))
            .map(|cache| u64::from(cache.size.blocks))
            .sum();
        let enough = short > 0 && idle >= u64::from(short);
        self.admission.evicting = enough.then_some((id, short));
        enough
    }

    /// Blocks of all idle caches.
    pub(super) fn idle_blocks(&self) -> u64 {
        let blocks = |cache: &CacheRecord| u64::from(cache.size.blocks);
        self.caches.values().map(blocks).sum()
    }

    /// How many blocks were missing; `None` if it never fits.
    pub(super) fn shortage(&self, error: AllocateError, keep_free: u32) -> Option<u32> {
        match error {
            AllocateError::Exhausted {
                requested,
                available,
                ..
            } => Some(requested - available),
            // With what is to be kept free it is more than there is: once it is alone, it fits.
            AllocateError::ExceedsCapacity { requested, .. } if keep_free > 0 => {
                Some(u32::try_from(requested).unwrap_or(u32::MAX))
            }
            _ => None,
        }
    }

    /// Under a watermark: blocks for the oldest request that has none left for its next token.
    pub(super) fn next_growth(&self) -> Option<Action> {
        if self.config.admission == Admission::Full {
            return None;
        }
        let id = *self.live.iter().find(|id| {
            let request = &self.requests[id];
            let hungry = request.is_prefilled() && !request.has_room();
            hungry && !self.admission.starved.contains(id)
        })?;
        if let Some(eviction) = self.next_eviction(id) {
            return Some(eviction);
        }
        let request = &self.requests[&id];
        if self.admission.preempt {
            let request = self.next_to_give_way()?;
            let tokens = self.requests[&request].len();
            return Some(Action::Preempt { request, tokens });
        }
        Some(Action::Grow {
            request: id,
            capacity: request.len() + 1,
        })
    }

    /// The youngest of those who grow, so that the oldest always gets on. Who gave way before
    /// has all it needs now, and does not again, or it might for ever.
    pub(super) fn next_to_give_way(&self) -> Option<RequestId> {
        self.growing().next_back()
    }

    /// Running requests that take blocks as they grow.
    pub(super) fn growing(&self) -> impl DoubleEndedIterator<Item = RequestId> + '_ {
        let live = self.live.iter().copied();
        live.filter(|id| !self.requests[id].preempted)
    }

    /// When the pool is asked again, if somebody waits for that.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let waits = !self.admission.passed_over.is_empty() || !self.admission.starved.is_empty();
        self.admission.retry_at.filter(|_| waits)
    }

    /// Whether a turn would get on with anything.
    pub(super) fn has_work(&self) -> bool {
        let closing = self.mode == Mode::ShutDown;
        let dying = matches!(self.mode, Mode::Dying(_));
        let active = self.live.iter().any(|id| {
            let request = &self.requests[id];
            debug_assert_eq!(request.phase, Phase::Live);
            !request.is_prefilled() || !self.admission.starved.contains(id)
        });
        dying
            || active
            || self.under_way.is_some()
            || !self.events.is_empty()
            || !self.strays.is_empty()
            || !self.ending.is_empty()
            || !self.leased.is_empty()
            || (closing && !self.caches.is_empty())
            || self.candidate().is_some()
    }
}

/// Blocks of all layers for a sequence of `tokens` tokens: a sliding layer needs its window's.
pub(super) fn blocks_for(spec: &ModelCacheSpec, tokens: u32) -> u64 {
    (0..spec.n_layers())
        .map(|layer| u64::from(layer_blocks(spec, LayerId(layer), tokens)))
        .sum()
}

/// Blocks of one layer for a sequence of `tokens` tokens.
pub(super) fn layer_blocks(spec: &ModelCacheSpec, layer: LayerId, tokens: u32) -> u32 {
    let blocks = spec.blocks_for_tokens(tokens);
    let cap = spec.max_blocks_for_layer(layer);
    blocks.min(cap.unwrap_or(u32::MAX))
}
