//! Waiting for blocks on a thread: [`BlockPool::allocate_wait`], and [`WaitTicket`], a place in
//! the queue that is given up when it is dropped.
//!
//! The queue itself is [`PoolState`](super::PoolState)'s. Here is only who sleeps where: each
//! waiter on a condition variable of its own, so that the one whose turn it is wakes and no other.

use core::fmt;
use core::time::Duration;

use super::lease::{Batch, Handle};
use super::{BlockLease, BlockPool, TicketId, WaitError};
use crate::platform::{Condvar, Mutex, Platform, Shared, Std};
use crate::{AgentId, LayerId};

impl<P: Platform> BlockPool<P> {
    /// Leases `n` blocks of `layer` to `agent`, all or none, and waits for them in line, for at
    /// most `at_most` if that is given. (A spurious wake-up starts that time again.)
    ///
    /// First come, first served: while anybody waits, what is free is kept for the first in
    /// line, and calls that do not wait are refused as [`AllocateError::Exhausted`]. **Who holds
    /// blocks should not wait for more without a time-out: the blocks it waits for may be those
    /// that another waiter holds.** Nor should anybody wait without one on a pool whose engine
    /// takes blocks as its requests grow: they cannot grow meanwhile.
    ///
    /// ```
    /// # use selvedge_core::{BlockPool, LayerId, ModelCacheSpec};
    /// # use selvedge_core::pool::WaitError;
    /// # use std::{sync::Arc, thread, time::Duration};
    /// # let pool: BlockPool = BlockPool::new(ModelCacheSpec::new(1, 1, 8, 16)?, 2)?;
    /// let pool = Arc::new(pool);
    /// let (alice, bob) = (pool.agent("alice")?, pool.agent("bob")?);
    /// let held = pool.allocate(2, LayerId(0), alice)?;
    /// let at_most = Some(Duration::from_millis(1));
    /// let refused = pool.allocate_wait(1, LayerId(0), bob, at_most).unwrap_err();
    /// assert_eq!(refused, WaitError::TimedOut);
    ///
    /// let shared = pool.clone();
    /// let waiter = thread::spawn(move || shared.allocate_wait(1, LayerId(0), bob, None).map(|l| l.len()));
    /// drop(held);
    /// assert_eq!(waiter.join().unwrap(), Ok(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Each of [`WaitError`]. What can never fit is refused at once.
    ///
    /// [`AllocateError::Exhausted`]: super::AllocateError::Exhausted
    pub fn allocate_wait(
        &self,
        n: u32,
        layer: LayerId,
        agent: AgentId,
        at_most: Option<Duration>,
    ) -> Result<BlockLease<'_, P>, WaitError> {
        self.enqueue(&[(layer, n)], agent)?.wait(at_most)
    }

    /// As [`Self::allocate_wait`], for blocks of several layers in one step.
    ///
    /// # Errors
    /// Each of [`WaitError`].
    pub fn allocate_layers_wait(
        &self,
        needs: &[(LayerId, u32)],
        agent: AgentId,
        at_most: Option<Duration>,
    ) -> Result<BlockLease<'_, P>, WaitError> {
        self.enqueue(needs, agent)?.wait(at_most)
    }

    /// Gets in line and returns at once: the ticket is the place.
    ///
    /// ```
    /// # use selvedge_core::{BlockPool, LayerId, ModelCacheSpec};
    /// # let pool: BlockPool = BlockPool::new(ModelCacheSpec::new(1, 1, 8, 16)?, 2)?;
    /// # let (alice, bob) = (pool.agent("alice")?, pool.agent("bob")?);
    /// let held = pool.allocate(2, LayerId(0), alice)?;
    /// let first = pool.enqueue(&[(LayerId(0), 2)], bob)?;
    /// let mut second = pool.enqueue(&[(LayerId(0), 1)], bob)?;
    /// drop(held);
    /// assert!(second.try_claim()?.is_none(), "both are kept for the first");
    /// drop(first); // gives up, so the second is served
    /// assert_eq!(second.try_claim()?.map(|lease| lease.len()), Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`WaitError::Closed`], [`WaitError::Refused`].
    pub fn enqueue(
        &self,
        needs: &[(LayerId, u32)],
        agent: AgentId,
    ) -> Result<WaitTicket<'_, P>, WaitError> {
        let id = self.state.lock().enqueue(needs, agent)?;
        Ok(WaitTicket {
            id,
            agent,
            n: needs.iter().map(|need| u64::from(need.1)).sum(),
            spent: false,
            pool: Handle::Borrowed(self),
        })
    }

    /// Sends everybody in line away with [`WaitError::Closed`] and lets nobody in, before a
    /// shutdown say. Allocating without waiting goes on.
    pub fn close_queue(&self) {
        self.with(super::PoolState::close_queue);
    }

    /// Lets callers wait again.
    pub fn open_queue(&self) {
        self.state.lock().open_queue();
    }

    /// Wakes those whose wait is over. With the state's lock let go.
    #[cold]
    pub(super) fn ring(&self, called: &[TicketId]) {
        let sleepers = self.sleepers.lock();
        let bells: Vec<P::Arc<P::Condvar>> = (called.iter())
            .filter_map(|ticket| sleepers.get(ticket).cloned())
            .collect();
        drop(sleepers);
        for bell in bells {
            bell.notify_one();
        }
    }
}

/// A place in the queue for a pool's blocks: see [`BlockPool::enqueue`]. Dropping it leaves the
/// queue, and whoever is next is served with what was kept for it.
#[must_use = "dropping a ticket leaves the queue at once"]
pub struct WaitTicket<'p, P: Platform = Std> {
    id: TicketId,
    agent: AgentId,
    n: u64,
    /// Whether the state has forgotten it.
    spent: bool,
    pool: Handle<'p, P>,
}

impl<'p, P: Platform> WaitTicket<'p, P> {
    /// Its place: who has a smaller one is served before.
    #[must_use]
    pub fn id(&self) -> TicketId {
        self.id
    }

    /// The blocks, if they are there; `None` while they are not. The ticket is spent once it
    /// has given them, or an error.
    ///
    /// # Errors
    /// Each of [`WaitError`] but [`WaitError::TimedOut`]; [`WaitError::NoTicket`] if it is spent.
    pub fn try_claim(&mut self) -> Result<Option<BlockLease<'p, P>>, WaitError> {
        let mut batch = Batch::with_room_for(self.n);
        let claimed = (self.pool.get()).with(|state| state.claim_into(self.id, &mut batch));
        self.spent = claimed != Ok(false);
        claimed.map(|served| served.then(|| self.lease(batch)))
    }

    /// Waits for the blocks, for at most `at_most` if that is given.
    ///
    /// # Errors
    /// Each of [`WaitError`].
    pub fn wait(mut self, at_most: Option<Duration>) -> Result<BlockLease<'p, P>, WaitError> {
        if let Some(lease) = self.try_claim()? {
            return Ok(lease);
        }
        let bell = P::Arc::new(P::Condvar::new());
        // Before the state is looked at again: whoever serves the ticket after that look finds
        // the bell here.
        (self.pool.get().sleepers.lock()).insert(self.id, bell.clone());
        let result = self.sleep(&bell, at_most);
        self.pool.get().sleepers.lock().remove(&self.id);
        result
    }

    /// The same place with a share of the pool instead of a borrow, as what it is given will be.
    ///
    /// # Errors
    /// The ticket as it was, if `pool` is not the one it is from.
    pub fn into_shared(
        mut self,
        pool: &P::Arc<BlockPool<P>>,
    ) -> Result<WaitTicket<'static, P>, Self> {
        if pool.id() != self.pool.get().id() {
            return Err(self);
        }
        // The place goes on under the new ticket.
        let spent = core::mem::replace(&mut self.spent, true);
        Ok(WaitTicket {
            id: self.id,
            agent: self.agent,
            n: self.n,
            spent,
            pool: Handle::Shared(pool.clone()),
        })
    }

    fn sleep(
        &mut self,
        bell: &P::Condvar,
        at_most: Option<Duration>,
    ) -> Result<BlockLease<'p, P>, WaitError> {
        let mut batch = Batch::with_room_for(self.n);
        let mut timed_out = false;
        let pool = self.pool.clone();
        let pool = pool.get();
        let mut state = pool.state.lock();
        let result = loop {
            match state.claim_into(self.id, &mut batch) {
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
                Ok(false) if timed_out => {
                    state.withdraw(self.id);
                    break Err(WaitError::TimedOut);
                }
                Ok(false) => {}
            }
            match at_most {
                None => state = bell.wait(state),
                Some(time) => (state, timed_out) = bell.wait_timeout(state, time),
            }
        };
        self.spent = true;
        let called = state.take_called();
        drop(state);
        if !called.is_empty() {
            pool.ring(&called);
        }
        result.map(|()| self.lease(batch))
    }

    fn lease(&self, batch: Batch) -> BlockLease<'p, P> {
        BlockLease::new(self.pool.clone(), self.agent, batch)
    }
}

impl<P: Platform> Drop for WaitTicket<'_, P> {
    fn drop(&mut self) {
        if !self.spent {
            (self.pool.get()).with(|state| state.withdraw(self.id));
        }
    }
}

impl<P: Platform> fmt::Debug for WaitTicket<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitTicket")
            .field("id", &self.id)
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}
