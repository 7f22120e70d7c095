//! [`PoolState`]: every decision of the block pool as plain state, without a lock, a clock or
//! a type parameter. The shell ([`BlockPool`](crate::BlockPool)) only locks and hands over.
//!
//! **Each operation validates first and mutates after, or undoes what it did: one that
//! returns an error has left the state as it was, to the bit.**

use std::collections::BTreeMap;

use super::error::{
    AgentError, AllocateError, InvariantViolation, PoolConfigError, ReconfigureError,
};
use super::waiting::WaitQueue;
use super::{AgentUse, PoolSnapshot, invariants};
use crate::ids::{AgentPlace, Place, Stamp};
use crate::{AgentId, BlockId, BlockRef, LayerId, ModelCacheSpec, PoolId};

/// The block pool's state. Explorers and models use it directly; threads share it through
/// [`BlockPool`](crate::BlockPool).
///
/// ```
/// use selvedge_core::{LayerId, ModelCacheSpec, PoolId, PoolState};
///
/// let mut pool = PoolState::new(PoolId(1), ModelCacheSpec::new(1, 1, 8, 16)?, 3)?;
/// let alice = pool.register("alice")?;
/// let blocks = pool.allocate(2, LayerId(0), alice)?;
/// assert_eq!(pool.available(), 1);
/// pool.free(alice, &blocks)?;
/// assert!(pool.free(alice, &blocks).is_err(), "a second free is refused");
/// assert_eq!(pool.validate(), Ok(()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolState {
    pub(super) id: PoolId,
    pub(super) spec: ModelCacheSpec,
    /// By layer: the most blocks one agent can use, or [`NO_CAP`].
    pub(super) caps: Vec<u32>,
    /// A stack: the block freed last is handed out first, while it is still in the cache.
    pub(super) free: Vec<BlockId>,
    /// By block id.
    pub(super) slots: Vec<Slot>,
    /// By agent place.
    pub(super) agents: Vec<AgentRecord>,
    /// Places of retired agents that may be given away again.
    pub(super) vacant: Vec<AgentPlace>,
    pub(super) places: BTreeMap<String, AgentPlace>,
    /// Free blocks promised to reservations, or kept for those who wait.
    pub(super) reserved: u32,
    pub(super) waiting: WaitQueue,
    /// How often the pool was reconfigured.
    pub(super) epoch: u64,
}

/// The cap of a layer that has none.
const NO_CAP: u32 = u32::MAX;

/// One block's place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    /// The stamp of the block's handle; of no layer while the block is free.
    pub(super) stamp: Stamp,
    /// `None` while the block is free.
    pub(super) owner: Option<AgentPlace>,
}

// Four a cache line: a batch is as fast as its slots are brought in.
const _: () = assert!(size_of::<Slot>() == 16);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct AgentRecord {
    pub(super) generation: u32,
    /// `None` once retired.
    pub(super) name: Option<String>,
    pub(super) blocks: u32,
    pub(super) reserved: u32,
    /// Blocks held, by layer.
    pub(super) by_layer: Vec<u32>,
}

/// Where an allocation takes its blocks from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// What is neither held nor reserved.
    Available,
    /// What was reserved for the agent.
    Reserved,
}

impl PoolState {
    /// A pool of `total_blocks` free blocks; the first handed out is the last of them.
    ///
    /// # Errors
    /// [`PoolConfigError::NoBlocks`] if `total_blocks` is 0.
    pub fn new(
        id: PoolId,
        spec: ModelCacheSpec,
        total_blocks: u32,
    ) -> Result<Self, PoolConfigError> {
        if total_blocks == 0 {
            return Err(PoolConfigError::NoBlocks);
        }
        let slot = Slot {
            stamp: Stamp::free(0),
            owner: None,
        };
        Ok(PoolState {
            id,
            caps: caps(&spec),
            spec,
            free: (0..total_blocks).map(BlockId).collect(),
            slots: vec![slot; total_blocks as usize],
            agents: Vec::new(),
            vacant: Vec::new(),
            places: BTreeMap::new(),
            reserved: 0,
            waiting: WaitQueue::default(),
            epoch: 0,
        })
    }

    /// The handle of the agent called `name`, registered now if it is not yet.
    ///
    /// # Errors
    /// [`AgentError::EmptyName`], [`AgentError::TooMany`].
    pub fn register(&mut self, name: &str) -> Result<AgentId, AgentError> {
        if name.is_empty() {
            return Err(AgentError::EmptyName);
        }
        let place = match self.places.get(name) {
            Some(&place) => place,
            None => self.place_for(name)?,
        };
        debug_assert_eq!(self.validate(), Ok(()));
        Ok(AgentId {
            place,
            generation: self.agents[place.index()].generation,
            pool: self.id,
        })
    }

    fn place_for(&mut self, name: &str) -> Result<AgentPlace, AgentError> {
        let place = match self.vacant.pop() {
            Some(place) => place,
            None => {
                let place = AgentPlace::from_index(self.agents.len()).ok_or(AgentError::TooMany)?;
                self.agents.push(AgentRecord {
                    generation: 0,
                    name: None,
                    blocks: 0,
                    reserved: 0,
                    by_layer: vec![0; self.caps.len()],
                });
                place
            }
        };
        self.agents[place.index()].name = Some(name.to_owned());
        self.places.insert(name.to_owned(), place);
        Ok(place)
    }

    /// Forgets an agent that holds nothing, so that a server's table of them stays bounded.
    /// Its handle is refused from now on, and so is whatever it waits for.
    ///
    /// # Errors
    /// [`AgentError::Unknown`], [`AgentError::StillHolds`].
    pub fn retire(&mut self, agent: AgentId) -> Result<(), AgentError> {
        let index = self.agent_index(agent).ok_or(AgentError::Unknown)?;
        let record = &self.agents[index];
        if record.blocks > 0 || record.reserved > 0 {
            return Err(AgentError::StillHolds {
                name: record.name.clone().unwrap_or_default(),
                blocks: record.blocks,
                reserved: record.reserved,
            });
        }
        self.forget_waits_of(agent);
        let record = &mut self.agents[index];
        if let Some(name) = record.name.take() {
            self.places.remove(&name);
        }
        // A place whose generations are used up is never given away again.
        if let Some(next) = record.generation.checked_add(1) {
            record.generation = next;
            self.vacant.push(agent.place);
        }
        debug_assert_eq!(self.validate(), Ok(()));
        Ok(())
    }

    /// Hands out `n` blocks of `layer`, all or none.
    ///
    /// # Errors
    /// Each of [`AllocateError`]; the state is unchanged then.
    pub fn allocate(
        &mut self,
        n: u32,
        layer: LayerId,
        agent: AgentId,
    ) -> Result<Vec<BlockRef>, AllocateError> {
        self.allocate_layers(&[(layer, n)], agent)
    }

    /// Hands out blocks of several layers, all or none. They come in the order of `needs`.
    ///
    /// # Errors
    /// Each of [`AllocateError`]; the state is unchanged then.
    pub fn allocate_layers(
        &mut self,
        needs: &[(LayerId, u32)],
        agent: AgentId,
    ) -> Result<Vec<BlockRef>, AllocateError> {
        let mut out = Vec::new();
        self.allocate_into(needs, agent, &mut out)?;
        Ok(out)
    }

    /// As [`PoolState::allocate_layers`], out of what was reserved for the agent.
    ///
    /// # Errors
    /// Each of [`AllocateError`]; `Exhausted` counts what is reserved.
    pub fn allocate_reserved(
        &mut self,
        needs: &[(LayerId, u32)],
        agent: AgentId,
    ) -> Result<Vec<BlockRef>, AllocateError> {
        let mut out = Vec::new();
        self.grant(Source::Reserved, needs, agent, &mut out)?;
        debug_assert_eq!(self.validate(), Ok(()));
        Ok(out)
    }

    /// As [`PoolState::allocate_layers`], but to where the caller made room before it locked.
    ///
    /// Public for the bench alone, which writes the shell a second time.
    #[doc(hidden)]
    #[inline]
    pub fn allocate_into(
        &mut self,
        needs: &[(LayerId, u32)],
        agent: AgentId,
        out: &mut impl Extend<BlockRef>,
    ) -> Result<(), AllocateError> {
        self.grant(Source::Available, needs, agent, out)?;
        debug_assert_eq!(self.validate(), Ok(()));
        Ok(())
    }

    /// The same in the middle of an operation, at whose end it is validated.
    #[inline]
    pub(super) fn grant_available(
        &mut self,
        needs: &[(LayerId, u32)],
        agent: AgentId,
        out: &mut impl Extend<BlockRef>,
    ) -> Result<(), AllocateError> {
        self.grant(Source::Available, needs, agent, out)
    }

    /// How many blocks `needs` comes to, if `agent` can have them now.
    pub(super) fn check_available(
        &self,
        needs: &[(LayerId, u32)],
        agent: AgentId,
    ) -> Result<u32, AllocateError> {
        let index = self.agent_index(agent).ok_or(AllocateError::UnknownAgent)?;
        self.check_needs(Source::Available, needs, index)
    }

    #[inline]
    fn grant(
        &mut self,
        source: Source,
        needs: &[(LayerId, u32)],
        agent: AgentId,
        out: &mut impl Extend<BlockRef>,
    ) -> Result<(), AllocateError> {
        let index = self.agent_index(agent).ok_or(AllocateError::UnknownAgent)?;
        let wanted = self.check_needs(source, needs, index)?;

        let record = &mut self.agents[index];
        record.blocks += wanted;
        if source == Source::Reserved {
            record.reserved -= wanted;
            self.reserved -= wanted;
        }
        for &(layer, n) in needs {
            record.by_layer[layer.0 as usize] += n;
            let (pool, slots) = (self.id, self.slots.as_mut_slice());
            let rest = self.free.len() - n as usize;
            out.extend(self.free[rest..].iter().rev().map(|&id| {
                let slot = &mut slots[id.0 as usize];
                let stamp = slot.stamp.taken(layer);
                *slot = Slot {
                    stamp,
                    owner: Some(agent.place),
                };
                let place = Place::new(pool, id);
                BlockRef { place, stamp }
            }));
            self.free.truncate(rest);
        }
        Ok(())
    }

    /// How many blocks `needs` comes to, if it can be served.
    #[inline]
    fn check_needs(
        &self,
        source: Source,
        needs: &[(LayerId, u32)],
        agent_index: usize,
    ) -> Result<u32, AllocateError> {
        if needs.is_empty() {
            return Err(AllocateError::ZeroBlocks);
        }
        let record = &self.agents[agent_index];
        let (mut wanted, mut ascending) = (0u64, true);
        for (i, &(layer, n)) in needs.iter().enumerate() {
            let Some(&cap) = self.caps.get(layer.0 as usize) else {
                let last = self.spec.n_layers() - 1;
                return Err(AllocateError::UnknownLayer { layer, last });
            };
            if n == 0 {
                return Err(AllocateError::ZeroBlocks);
            }
            // Needs usually come in ascending order; from the first that does not, all are searched.
            ascending &= i == 0 || needs[i - 1].0 < layer;
            if !ascending && needs[..i].iter().any(|need| need.0 == layer) {
                return Err(AllocateError::DuplicateLayer { layer });
            }
            let held = record.by_layer[layer.0 as usize];
            if n > cap.saturating_sub(held) && cap != NO_CAP {
                return Err(AllocateError::WindowExceeded {
                    layer,
                    cap,
                    held,
                    requested: n,
                });
            }
            wanted += u64::from(n);
        }
        let total = self.total();
        let requested = match u32::try_from(wanted) {
            Ok(requested) if requested <= total => requested,
            _ => {
                return Err(AllocateError::ExceedsCapacity {
                    requested: wanted,
                    total,
                });
            }
        };
        let available = match source {
            Source::Available => self.available(),
            Source::Reserved => record.reserved,
        };
        if requested > available {
            return Err(AllocateError::Exhausted {
                requested,
                available,
                total,
            });
        }
        Ok(requested)
    }

    /// Sets `n` available blocks aside for `agent`.
    ///
    /// # Errors
    /// Each of [`AllocateError`] that does not concern a layer.
    pub fn reserve(&mut self, n: u32, agent: AgentId) -> Result<(), AllocateError> {
        let index = self.agent_index(agent).ok_or(AllocateError::UnknownAgent)?;
        let (total, available) = (self.total(), self.available());
        if n == 0 {
            return Err(AllocateError::ZeroBlocks);
        }
        if n > total {
            return Err(AllocateError::ExceedsCapacity {
                requested: n.into(),
                total,
            });
        }
        if n > available {
            return Err(AllocateError::Exhausted {
                requested: n,
                available,
                total,
            });
        }
        self.agents[index].reserved += n;
        self.reserved += n;
        debug_assert_eq!(self.validate(), Ok(()));
        Ok(())
    }

    /// Makes `n` of the blocks reserved for `agent` available again, or as many as there are.
    pub fn unreserve(&mut self, n: u32, agent: AgentId) {
        if let Some(index) = self.agent_index(agent) {
            let n = n.min(self.agents[index].reserved);
            self.agents[index].reserved -= n;
            self.reserved -= n;
        }
        self.came_back();
        debug_assert_eq!(self.validate(), Ok(()));
    }

    /// Turns an unused pool into one of another model or size. Every handle from before is
    /// stale afterwards; agents stay registered. Who waits is sent away.
    ///
    /// # Errors
    /// [`ReconfigureError::InUse`] while anything is held or reserved;
    /// [`ReconfigureError::Config`] for a pool of no blocks.
    pub fn reconfigure(
        &mut self,
        spec: ModelCacheSpec,
        total_blocks: u32,
    ) -> Result<(), ReconfigureError> {
        let mut owners: Vec<String> = (self.agents.iter())
            .filter(|record| record.blocks > 0 || record.reserved > 0)
            .filter_map(|record| record.name.clone())
            .collect();
        if !owners.is_empty() {
            owners.sort();
            return Err(ReconfigureError::InUse { owners });
        }
        if total_blocks == 0 {
            return Err(PoolConfigError::NoBlocks.into());
        }
        self.forget_all_waits();
        // Past every generation so far, so that also a block that went away in a smaller pool
        // and came back in a larger one is in a new generation.
        let used = self.slots.iter().map(|slot| slot.stamp.generation()).max();
        let slot = Slot {
            stamp: Stamp::free(used.unwrap_or(0) + 1),
            owner: None,
        };
        self.caps = caps(&spec);
        for record in &mut self.agents {
            record.by_layer = vec![0; self.caps.len()];
        }
        self.spec = spec;
        self.free = (0..total_blocks).map(BlockId).collect();
        self.slots = vec![slot; total_blocks as usize];
        self.epoch += 1;
        debug_assert_eq!(self.validate(), Ok(()));
        Ok(())
    }

    /// The pool's identity.
    #[must_use]
    pub fn id(&self) -> PoolId {
        self.id
    }

    /// The model the pool serves now.
    #[must_use]
    pub fn spec(&self) -> &ModelCacheSpec {
        &self.spec
    }

    /// Blocks there are.
    #[must_use]
    #[inline]
    pub fn total(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("INVARIANT: slots are made from a u32 count")
    }

    /// Blocks neither held nor reserved.
    #[must_use]
    #[inline]
    pub fn available(&self) -> u32 {
        let free =
            u32::try_from(self.free.len()).expect("INVARIANT: no more free blocks than slots");
        free.saturating_sub(self.reserved)
    }

    /// How many sequences of `tokens` tokens fit into the whole pool at once; 0 if not even one.
    #[must_use]
    pub fn max_batch_size(&self, tokens: u32) -> u32 {
        let blocks = self.spec.blocks_for_tokens(tokens.max(1));
        let by_layer = self.caps.iter().map(|&cap| u64::from(blocks.min(cap)));
        let each: u64 = by_layer.sum();
        u32::try_from(u64::from(self.total()) / each).unwrap_or(u32::MAX)
    }

    /// Everything at one instant: see [`PoolSnapshot`].
    #[must_use]
    pub fn snapshot(&self) -> PoolSnapshot {
        let (total, available) = (self.total(), self.available());
        PoolSnapshot {
            total,
            available,
            used: total - available,
            reserved: self.reserved,
            waiting: self.waiting(),
            epoch: self.epoch,
            bytes_per_block: self.spec.bytes_per_block(),
            agents: (self.places.iter())
                .map(|(name, place)| {
                    let record = &self.agents[place.index()];
                    AgentUse {
                        name: name.clone(),
                        blocks: record.blocks,
                        reserved: record.reserved,
                    }
                })
                .collect(),
        }
    }

    /// Whether every property of [`invariants`](super::invariants) holds.
    ///
    /// # Errors
    /// The first that does not, with what was found.
    pub fn validate(&self) -> Result<(), InvariantViolation> {
        invariants::check_all(self)
    }

    #[inline]
    pub(super) fn agent_index(&self, agent: AgentId) -> Option<usize> {
        let index = agent.place.index();
        let record = self.agents.get(index)?;
        let current = agent.pool == self.id && agent.generation == record.generation;
        (current && record.name.is_some()).then_some(index)
    }
}

fn caps(spec: &ModelCacheSpec) -> Vec<u32> {
    (0..spec.n_layers())
        .map(|layer| spec.max_blocks_for_layer(LayerId(layer)).unwrap_or(NO_CAP))
        .collect()
}
