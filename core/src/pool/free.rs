//! Giving blocks back: by handle, by lease, by agent. What is wrong with a handle is said by
//! comparing it with its block's stamp, so that one kept too long is refused.

use std::collections::BTreeSet;

use super::error::FreeError;
use super::state::{PoolState, Slot};
use crate::ids::{AgentPlace, Place};
use crate::{AgentId, BlockId, BlockRef, LayerId};

impl PoolState {
    /// Takes back handles that `agent` kept, all or none.
    ///
    /// # Errors
    /// Each of [`FreeError`], for the first handle that is wrong; none is freed then.
    pub fn free(&mut self, agent: AgentId, blocks: &[BlockRef]) -> Result<(), FreeError> {
        self.check_and_free(agent, blocks)?;
        self.came_back();
        debug_assert_eq!(self.validate(), Ok(()));
        Ok(())
    }

    pub(super) fn check_and_free(
        &mut self,
        agent: AgentId,
        blocks: &[BlockRef],
    ) -> Result<(), FreeError> {
        self.agent_index(agent).ok_or(FreeError::UnknownAgent)?;
        let mut done = 0;
        while let Some(&block) = blocks.get(done) {
            let taken = self.take_back(agent.place, &blocks[done..]);
            if taken == 0 {
                self.undo_free(agent, &blocks[..done]);
                // What is wrong with it was wrong before the call, or it is here twice.
                self.check_owned(agent, block)?;
                return Err(FreeError::DuplicateInBatch { block });
            }
            done += taken;
        }
        Ok(())
    }

    /// Whether `agent` owns `blocks`, each once: what [`PoolState::free`] would say.
    ///
    /// # Errors
    /// As [`PoolState::free`].
    pub fn check_batch(&self, agent: AgentId, blocks: &[BlockRef]) -> Result<(), FreeError> {
        self.agent_index(agent).ok_or(FreeError::UnknownAgent)?;
        let mut seen = BTreeSet::new();
        for &block in blocks {
            self.check_owned(agent, block)?;
            if !seen.insert(block) {
                return Err(FreeError::DuplicateInBatch { block });
            }
        }
        Ok(())
    }

    fn check_owned(&self, agent: AgentId, block: BlockRef) -> Result<(), FreeError> {
        if block.pool() != self.id {
            return Err(FreeError::ForeignPool { block });
        }
        let slot = self.slots.get(block.id().0 as usize);
        let Some((slot, owner)) = slot.and_then(|slot| Some((slot, slot.owner?))) else {
            return Err(FreeError::NotAllocated { block });
        };
        if slot.stamp.generation() != block.generation() {
            return Err(FreeError::StaleGeneration {
                block,
                current: slot.stamp.generation(),
            });
        }
        if owner != agent.place {
            let owner = self.agents[owner.index()].name.clone();
            return Err(FreeError::WrongOwner {
                block,
                owner: owner.unwrap_or_default(),
            });
        }
        if slot.stamp != block.stamp {
            return Err(FreeError::NotAllocated { block });
        }
        Ok(())
    }

    /// Ends the present use of the blocks, up to the first that is of another layer than the
    /// first, or not what [`PoolState::check_owned`] wants; returns how many that was.
    ///
    /// One run of one layer, so that the counts change once and the free list grows once.
    #[inline]
    fn take_back(&mut self, owner: AgentPlace, blocks: &[BlockRef]) -> usize {
        let Some(&BlockRef { stamp: first, .. }) = blocks.first() else {
            return 0;
        };
        let (pool, slots) = (self.id, self.slots.as_mut_slice());
        let end = blocks.iter().position(|block| {
            let in_run = block.stamp.is_of_same_layer(first);
            match slots.get_mut(block.place.index_in(pool)) {
                // Each is cleared as soon as it is checked, so that one that comes again is seen.
                Some(slot) if in_run && slot.stamp == block.stamp && slot.owner == Some(owner) => {
                    *slot = Slot {
                        stamp: block.stamp.freed(),
                        owner: None,
                    };
                    false
                }
                _ => true,
            }
        });
        let taken = &blocks[..end.unwrap_or(blocks.len())];
        // A handle from before a reconfiguration may name a layer or an agent that is no more.
        if let (false, Some(LayerId(layer))) = (taken.is_empty(), first.layer()) {
            self.free.extend(taken.iter().map(|block| block.id()));
            let record = &mut self.agents[owner.index()];
            // INVARIANT: no more than there are blocks, which a u32 counts.
            record.blocks -= taken.len() as u32;
            record.by_layer[layer as usize] -= taken.len() as u32;
        }
        taken.len()
    }

    /// The inverse of [`PoolState::take_back`] for the blocks freed last, in their order.
    pub(super) fn undo_free(&mut self, agent: AgentId, blocks: &[BlockRef]) {
        for &block in blocks.iter().rev() {
            let freed = self.free.pop();
            debug_assert_eq!(
                freed,
                Some(block.id()),
                "only the blocks freed last are undone"
            );
            let slot = &mut self.slots[block.id().0 as usize];
            slot.stamp = block.stamp;
            slot.owner = Some(agent.place);
            let record = &mut self.agents[agent.place.index()];
            record.blocks += 1;
            record.by_layer[block.layer().0 as usize] += 1;
        }
    }

    /// Takes back what a lease still holds. Handles whose block was freed in the meantime (by
    /// [`PoolState::free_agent`], say) are passed over: their generation says so.
    ///
    /// Public for the bench alone, which writes the shell a second time. The handles must be
    /// what this pool gave to `agent`, as those of a lease are: that is not checked again.
    /// Returns whether somebody's wait has ended by it, so that the shell looks at the queue once.
    #[doc(hidden)]
    #[inline]
    pub fn release(&mut self, agent: AgentId, blocks: &[BlockRef]) -> bool {
        let mut rest = blocks;
        while !rest.is_empty() {
            let taken = self.take_back(agent.place, rest);
            rest = &rest[taken.max(1)..];
        }
        let called = self.came_back();
        debug_assert_eq!(self.validate(), Ok(()));
        called
    }

    /// Frees everything `agent` holds and returns how many blocks that was; 0 for an agent
    /// that is not registered. Its reservations stay.
    pub fn free_agent(&mut self, agent: AgentId) -> u32 {
        let Some(index) = self.agent_index(agent) else {
            return 0;
        };
        let freed = self.agents[index].blocks;
        if freed > 0 {
            for id in (0..self.total()).rev().map(BlockId) {
                let &Slot { stamp, owner } = &self.slots[id.0 as usize];
                if owner == Some(agent.place) {
                    let place = Place::new(self.id, id);
                    self.take_back(agent.place, &[BlockRef { place, stamp }]);
                }
            }
        }
        self.came_back();
        debug_assert_eq!(self.validate(), Ok(()));
        freed
    }
}
