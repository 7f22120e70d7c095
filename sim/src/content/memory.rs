//! [`Memory`]: the fake device's memory, a slot for each block of the pool. Whoever writes to a
//! slot or reads it says whose it is to be, so a block that two have is noticed by the first
//! that finds the other's stamp.

use selvedge_core::{BlockRef, RequestId};

/// Whose a slot is: a sequence, by the block it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) request: RequestId,
    pub(super) block: BlockRef,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub(super) owner: Option<Owner>,
    /// As what the block was owned last. A cache lies in its blocks while nobody owns the
    /// slots, and this is how it is noticed that somebody did in the meantime.
    pub(super) last: Option<BlockRef>,
    pub(super) cells: Vec<u64>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    slots: Vec<Slot>,
}

impl Memory {
    pub(super) fn new(total_blocks: u32) -> Self {
        Memory {
            slots: vec![Slot::default(); total_blocks as usize],
        }
    }

    pub(super) fn blocks(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(super) fn slot(&self, block: BlockRef) -> Option<&Slot> {
        self.slots.get(block.id().0 as usize)
    }

    /// The slot of a block, whoever's it is.
    pub(super) fn slot_mut(&mut self, block: BlockRef) -> Option<&mut Slot> {
        self.slots.get_mut(block.id().0 as usize)
    }

    /// The slot, if it is `owner`'s; else whose it is.
    pub(super) fn owned(&self, owner: Owner) -> Result<&Slot, Option<Owner>> {
        match self.slot(owner.block) {
            Some(slot) if slot.owner == Some(owner) => Ok(slot),
            other => Err(other.and_then(|slot| slot.owner)),
        }
    }

    /// As [`Self::owned`], to write to.
    pub(super) fn owned_mut(&mut self, owner: Owner) -> Result<&mut Slot, Option<Owner>> {
        match self.slot_mut(owner.block) {
            Some(slot) if slot.owner == Some(owner) => Ok(slot),
            other => Err(other.and_then(|slot| slot.owner)),
        }
    }

    pub(super) fn claim(&mut self, owner: Owner) {
        if let Some(slot) = self.slot_mut(owner.block) {
            slot.owner = Some(owner);
            slot.last = Some(owner.block);
            slot.cells.clear();
        }
    }

    /// Forgets whose it is and what is in it, if it is `owner`'s.
    pub(super) fn give_up(&mut self, owner: Owner) {
        if let Ok(slot) = self.owned_mut(owner) {
            slot.owner = None;
            slot.cells.clear();
        }
    }
}
