//! [`WaitQueue`]: who waits for blocks, in the order they came.
//!
//! **Whatever is free while anybody waits is kept for the first in line.** It gathers blocks as
//! they come back until it has all it asked for; then they are set aside for it, and the next is
//! the first. So a caller that does not wait sees nothing available meanwhile and cannot barge
//! in, a large request is not starved by small ones, and nobody depends on a signal: whoever
//! leaves, leaves what it had gathered to the next in the same step.
//!
//! What is gathered and set aside counts as reserved.

use std::collections::BTreeMap;

use super::error::{AllocateError, WaitError};
use super::state::PoolState;
use crate::{AgentId, BlockRef, LayerId};

/// A place in a pool's queue, by the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(pub u64);

/// Those who wait, and those whose wait is over but who have not come for their blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct WaitQueue {
    /// The ticket given out last.
    pub(super) last: u64,
    pub(super) line: BTreeMap<TicketId, Waiter>,
    /// Blocks kept for the first in line so far.
    pub(super) gathered: u32,
    /// Their blocks are set aside.
    pub(super) served: BTreeMap<TicketId, Waiter>,
    /// They get none.
    pub(super) refused: BTreeMap<TicketId, WaitError>,
    /// Whose wait has ended since it was last asked.
    called: Vec<TicketId>,
    /// Whether nobody may join.
    pub(super) closed: bool,
}

/// What somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiter {
    pub(super) agent: AgentId,
    pub(super) needs: Vec<(LayerId, u32)>,
    /// Blocks of all of `needs`.
    pub(super) n: u32,
}

impl WaitQueue {
    /// Free blocks that are kept for somebody here.
    pub(super) fn set_aside(&self) -> u64 {
        let served = self.served.values().map(|waiter| u64::from(waiter.n));
        u64::from(self.gathered) + served.sum::<u64>()
    }

    fn refuse(&mut self, ticket: TicketId, why: WaitError) {
        self.refused.insert(ticket, why);
        self.called.push(ticket);
    }
}

impl PoolState {
    /// Gets in line for blocks of several layers, all or none. [`Self::claim`] says when they
    /// are there; it may be at once.
    ///
    /// ```
    /// # use selvedge_core::{LayerId, ModelCacheSpec, PoolId, PoolState};
    /// # let mut pool = PoolState::new(PoolId(1), ModelCacheSpec::new(1, 1, 8, 16)?, 2)?;
    /// let (alice, bob) = (pool.register("alice")?, pool.register("bob")?);
    /// let held = pool.allocate(1, LayerId(0), alice)?;
    /// let ticket = pool.enqueue(&[(LayerId(0), 2)], bob)?;
    /// // The one that is free is kept for bob.
    /// assert!(pool.allocate(1, LayerId(0), alice).is_err());
    /// assert_eq!(pool.claim(ticket)?, None);
    /// pool.free(alice, &held)?;
    /// assert_eq!(pool.take_called(), [ticket]);
    /// assert_eq!(pool.claim(ticket)?.map(|blocks| blocks.len()), Some(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`WaitError::Closed`]; [`WaitError::Refused`] for whatever waiting does not help.
    pub fn enqueue(
        &mut self,
        needs: &[(LayerId, u32)],
        agent: AgentId,
    ) -> Result<TicketId, WaitError> {
        if self.waiting.closed {
            return Err(WaitError::Closed);
        }
        let n = match self.check_available(needs, agent) {
            Ok(n) | Err(AllocateError::Exhausted { requested: n, .. }) => n,
            Err(error) => return Err(WaitError::Refused(error)),
        };
        self.waiting.last += 1;
        let ticket = TicketId(self.waiting.last);
        let needs = needs.to_vec();
        (self.waiting.line).insert(ticket, Waiter { agent, needs, n });
        self.serve();
        // It is here, so nobody need call it.
        self.waiting.called.retain(|&called| called != ticket);
        debug_assert_eq!(self.validate(), Ok(()));
        Ok(ticket)
    }

    /// Hands out what a ticket has waited for; `None` while it must go on waiting.
    ///
    /// # Errors
    /// Each of [`WaitError`]; the ticket is spent then, as after the blocks were handed out.
    pub fn claim(&mut self, ticket: TicketId) -> Result<Option<Vec<BlockRef>>, WaitError> {
        let mut out = Vec::new();
        let served = self.claim_into(ticket, &mut out)?;
        Ok(served.then_some(out))
    }

    pub(super) fn claim_into(
        &mut self,
        ticket: TicketId,
        out: &mut impl Extend<BlockRef>,
    ) -> Result<bool, WaitError> {
        if self.waiting.line.contains_key(&ticket) {
            return Ok(false);
        }
        if let Some(why) = self.waiting.refused.remove(&ticket) {
            return Err(why);
        }
        let waiter = self.waiting.served.remove(&ticket);
        let Waiter { agent, needs, n } = waiter.ok_or(WaitError::NoTicket)?;
        self.reserved -= n;
        let granted = self.grant_available(&needs, agent, out);
        if granted.is_err() {
            // It holds a full window by now, say: the next may have them.
            self.serve();
        }
        debug_assert_eq!(self.validate(), Ok(()));
        granted.map(|()| true).map_err(WaitError::Refused)
    }

    /// Leaves the queue. What was gathered or set aside for the ticket is the next one's.
    pub fn withdraw(&mut self, ticket: TicketId) {
        let waiting = &mut self.waiting;
        let first = waiting.line.first_key_value().map(|first| *first.0);
        let kept = if let Some(waiter) = waiting.served.remove(&ticket) {
            waiter.n
        } else if waiting.line.remove(&ticket).is_some() && first == Some(ticket) {
            core::mem::take(&mut waiting.gathered)
        } else {
            0
        };
        waiting.refused.remove(&ticket);
        waiting.called.retain(|&called| called != ticket);
        self.reserved -= kept;
        self.serve();
        debug_assert_eq!(self.validate(), Ok(()));
    }

    /// Sends everybody in line away and lets nobody in. Whose blocks are set aside gets them.
    pub fn close_queue(&mut self) {
        self.waiting.closed = true;
        self.send_away(|_| true, WaitError::Closed);
        debug_assert_eq!(self.validate(), Ok(()));
    }

    /// Lets callers wait again.
    pub fn open_queue(&mut self) {
        self.waiting.closed = false;
    }

    /// How many wait: those in line, not those whose blocks are set aside.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        u32::try_from(self.waiting.line.len()).unwrap_or(u32::MAX)
    }

    /// The tickets whose wait has ended since the last call: whoever drives the state wakes
    /// them.
    #[must_use = "nobody else will wake them"]
    pub fn take_called(&mut self) -> Vec<TicketId> {
        core::mem::take(&mut self.waiting.called)
    }

    #[inline]
    pub(super) fn has_called(&self) -> bool {
        !self.waiting.called.is_empty()
    }

    /// Blocks have come back. Where nobody waits this is one look at a length. Returns whether
    /// somebody is to be called.
    #[inline]
    pub(super) fn came_back(&mut self) -> bool {
        if self.waiting.line.is_empty() {
            return false;
        }
        self.serve();
        self.has_called()
    }

    /// Keeps what is free for the first in line, and sets it aside once it is enough.
    #[cold]
    fn serve(&mut self) {
        while let Some(first) = self.waiting.line.first_entry() {
            let lacks = first.get().n - self.waiting.gathered;
            // As `available`, which cannot be asked while the entry is held.
            let free = u32::try_from(self.free.len()).unwrap_or(u32::MAX) - self.reserved;
            let more = lacks.min(free);
            self.reserved += more;
            if more < lacks {
                self.waiting.gathered += more;
                return;
            }
            self.waiting.gathered = 0;
            let (ticket, waiter) = first.remove_entry();
            self.waiting.served.insert(ticket, waiter);
            self.waiting.called.push(ticket);
        }
    }

    /// Tells those of `whom`, in line, why they get nothing.
    fn send_away(&mut self, whom: impl Fn(&Waiter) -> bool, why: WaitError) {
        let first = self.waiting.line.first_key_value();
        if first.is_some_and(|(_, waiter)| whom(waiter)) {
            self.reserved -= core::mem::take(&mut self.waiting.gathered);
        }
        let leaving = self.waiting.line.extract_if(.., |_, waiter| whom(waiter));
        let leaving: Vec<TicketId> = leaving.map(|(ticket, _)| ticket).collect();
        for ticket in leaving {
            self.waiting.refuse(ticket, why.clone());
        }
        self.serve();
    }

    /// Takes back what was set aside for those of `whom`, and tells them why.
    fn take_away(&mut self, whom: impl Fn(&Waiter) -> bool, why: WaitError) {
        let leaving = self.waiting.served.extract_if(.., |_, waiter| whom(waiter));
        let leaving: Vec<(TicketId, Waiter)> = leaving.collect();
        for (ticket, waiter) in leaving {
            self.reserved -= waiter.n;
            self.waiting.refuse(ticket, why.clone());
        }
    }

    /// An agent is gone: whatever it waits for, it does not get.
    pub(super) fn forget_waits_of(&mut self, agent: AgentId) {
        self.take_away(|waiter| waiter.agent == agent, WaitError::AgentRetired);
        self.send_away(|waiter| waiter.agent == agent, WaitError::AgentRetired);
    }

    /// The model is another: what was asked for means nothing any more.
    pub(super) fn forget_all_waits(&mut self) {
        self.take_away(|_| true, WaitError::Reconfigured);
        self.send_away(|_| true, WaitError::Reconfigured);
    }
}
