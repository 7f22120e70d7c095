//! [`BlockPool`]: the KV-cache block pool that threads share.
//!
//! The shell of [`PoolState`]: **each call takes the one lock, hands over to the state, and
//! lets go; no user code, no payload's drop and no guard's construction happens inside.** So
//! every operation is atomic, and what a checker explores is only the order of the calls.
//!
//! Blocks are held by a [`BlockLease`], which gives its whole batch back when it is dropped.

mod error;
mod exchange;
mod free;
pub mod invariants;
mod lease;

mod state;
mod ticket;
mod waiting;

use core::fmt;
use std::collections::BTreeMap;

pub use error::{
    AgentError, AllocateError, ExchangeError, FreeError, InvariantViolation, PoolConfigError,
    ReconfigureError, WaitError,
};
pub use lease::{BlockLease, Reservation};
pub use state::PoolState;
pub use ticket::WaitTicket;
pub use waiting::TicketId;

use self::lease::{Batch, Handle};
use crate::platform::{Mutex, Platform, Std, std::process_unique};
use crate::{AgentId, BlockRef, LayerId, ModelCacheSpec, PoolId};

/// A pool of equal blocks of KV cache, shared by threads.
///
/// Put it behind an `Arc` to share it: all calls take `&self`.
///
/// ```
/// use selvedge_core::pool::AllocateError;
/// use selvedge_core::{BlockPool, LayerId, ModelCacheSpec};
///
/// let pool: BlockPool = BlockPool::new(ModelCacheSpec::new(1, 1, 8, 16)?, 4)?;
/// let alice = pool.agent("alice")?;
///
/// let mut lease = pool.allocate(3, LayerId(0), alice)?;
/// // Not now, and never: two different answers.
/// let not_now = pool.allocate(2, LayerId(0), alice).unwrap_err();
/// assert!(matches!(not_now, AllocateError::Exhausted { available: 1, .. }));
/// let never = pool.allocate(5, LayerId(0), alice).unwrap_err();
/// assert!(matches!(never, AllocateError::ExceedsCapacity { total: 4, .. }));
///
/// // Swapping three for four works although only one is available, and never holds seven.
/// lease.exchange(&[(LayerId(0), 4)])?;
/// assert_eq!(pool.snapshot().used, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BlockPool<P: Platform = Std> {
    id: PoolId,
    state: P::Mutex<PoolState>,
    /// Where those sleep who wait for blocks.
    sleepers: P::Mutex<BTreeMap<TicketId, P::Arc<P::Condvar>>>,
}

impl<P: Platform> BlockPool<P> {
    /// A pool of `total_blocks` blocks of the size that `spec` gives them.
    ///
    /// # Errors
    /// [`PoolConfigError::NoBlocks`] if `total_blocks` is 0.
    pub fn new(spec: ModelCacheSpec, total_blocks: u32) -> Result<Self, PoolConfigError> {
        let id = PoolId(process_unique());
        Ok(BlockPool {
            id,
            state: P::Mutex::new(PoolState::new(id, spec, total_blocks)?),
            sleepers: P::Mutex::new(BTreeMap::new()),
        })
    }

    /// The handle of the agent called `name`, registered now if it is not yet.
    ///
    /// # Errors
    /// [`AgentError::EmptyName`], [`AgentError::TooMany`].
    pub fn agent(&self, name: &str) -> Result<AgentId, AgentError> {
        self.state.lock().register(name)
    }

    /// Forgets an agent that holds nothing. Its handle is refused from now on, and so is
    /// whatever it waits for.
    ///
    /// # Errors
    /// [`AgentError::Unknown`], [`AgentError::StillHolds`].
    pub fn retire(&self, agent: AgentId) -> Result<(), AgentError> {
        self.with(|state| state.retire(agent))
    }

    /// Leases `n` blocks of `layer` to `agent`, all or none.
    ///
    /// # Errors
    /// Each of [`AllocateError`]: `Exhausted` may be retried, `ExceedsCapacity` never fits.
    #[inline]
    pub fn allocate(
        &self,
        n: u32,
        layer: LayerId,
        agent: AgentId,
    ) -> Result<BlockLease<'_, P>, AllocateError> {
        let batch = Batch::with_room_for(n.into());
        let mut lease = BlockLease::new(Handle::Borrowed(self), agent, batch);
        (self.state.lock()).allocate_into(&[(layer, n)], agent, &mut lease.blocks)?;
        Ok(lease)
    }

    /// Leases blocks of several layers in one step: all of all layers, or none of any.
    ///
    /// ```
    /// # use selvedge_core::{BlockPool, LayerId, ModelCacheSpec};
    /// # let pool: BlockPool = BlockPool::new(ModelCacheSpec::new(2, 1, 8, 16)?, 4)?;
    /// # let alice = pool.agent("alice")?;
    /// let lease = pool.allocate_layers(&[(LayerId(0), 2), (LayerId(1), 2)], alice)?;
    /// assert_eq!(lease.of_layer(LayerId(1)).count(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Each of [`AllocateError`].
    pub fn allocate_layers(
        &self,
        needs: &[(LayerId, u32)],
        agent: AgentId,
    ) -> Result<BlockLease<'_, P>, AllocateError> {
        let mut batch = Batch::with_room_for(needs.iter().map(|need| u64::from(need.1)).sum());
        (self.state.lock()).allocate_into(needs, agent, &mut batch)?;
        Ok(BlockLease::new(Handle::Borrowed(self), agent, batch))
    }

    /// Sets `n` blocks aside for `agent`, to be leased later without fail.
    ///
    /// ```
    /// # use selvedge_core::{BlockPool, LayerId, ModelCacheSpec};
    /// # let pool: BlockPool = BlockPool::new(ModelCacheSpec::new(1, 1, 8, 16)?, 4)?;
    /// # let alice = pool.agent("alice")?;
    /// let mut promised = pool.reserve(3, alice)?;
    /// assert!(pool.allocate(2, LayerId(0), alice).is_err(), "one is left for everybody else");
    /// let lease = promised.allocate(2, LayerId(0))?;
    /// drop(promised); // the third becomes available again
    /// assert_eq!(pool.snapshot().available, 2);
    /// # drop(lease);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Each of [`AllocateError`] that does not concern a layer.
    pub fn reserve(&self, n: u32, agent: AgentId) -> Result<Reservation<'_, P>, AllocateError> {
        self.state.lock().reserve(n, agent)?;
        Ok(Reservation::new(Handle::Borrowed(self), agent, n))
    }

    /// Frees handles that were kept by [`BlockLease::persist`], all or none.
    ///
    /// # Errors
    /// Each of [`FreeError`], for the first handle that is wrong; none is freed then.
    pub fn free(&self, agent: AgentId, blocks: &[BlockRef]) -> Result<(), FreeError> {
        self.with(|state| state.free(agent, blocks))
    }

    /// Puts handles that were kept under a lease again, so that they are freed by its drop.
    ///
    /// Adopting a handle twice is possible, freeing its block twice is not: the second lease
    /// passes over what the first gave back.
    ///
    /// # Errors
    /// Each of [`FreeError`], for the first handle that is wrong; none is adopted then.
    pub fn adopt(
        &self,
        agent: AgentId,
        blocks: Vec<BlockRef>,
    ) -> Result<BlockLease<'_, P>, FreeError> {
        self.state.lock().check_batch(agent, &blocks)?;
        let batch = Batch::Many(blocks);
        Ok(BlockLease::new(Handle::Borrowed(self), agent, batch))
    }

    /// Frees everything the agent holds, under whatever lease, and returns how many blocks
    /// that was; 0 for an agent that is not registered. Leases left behind give nothing back.
    pub fn free_agent(&self, agent: AgentId) -> u32 {
        self.with(|state| state.free_agent(agent))
    }

    /// Turns an unused pool into one of another model or size; every handle from before is
    /// refused afterwards, and whoever waits for blocks is told so.
    ///
    /// # Errors
    /// [`ReconfigureError::InUse`] with the owners' names while anything is held or reserved;
    /// [`ReconfigureError::Config`] for a pool of no blocks.
    pub fn reconfigure(
        &self,
        spec: ModelCacheSpec,
        total_blocks: u32,
    ) -> Result<(), ReconfigureError> {
        self.with(|state| state.reconfigure(spec, total_blocks))
    }

    /// How many sequences of `tokens` tokens fit into the whole pool at once; 0 if not one.
    pub fn max_batch_size(&self, tokens: u32) -> u32 {
        self.state.lock().max_batch_size(tokens)
    }

    /// The model the pool serves now.
    pub fn spec(&self) -> ModelCacheSpec {
        self.state.lock().spec().clone()
    }

    /// Everything at one instant, read under one lock: `used + available == total` always.
    pub fn snapshot(&self) -> PoolSnapshot {
        self.state.lock().snapshot()
    }

    /// Checks every invariant and returns the snapshot of the same instant. It costs time
    /// proportional to the pool's size.
    ///
    /// # Errors
    /// The first invariant that does not hold: a bug of this crate.
    pub fn audit(&self) -> Result<PoolSnapshot, InvariantViolation> {
        let state = self.state.lock();
        state.validate().map(|()| state.snapshot())
    }

    /// A copy of the whole state, for comparing before with after.
    pub fn state(&self) -> PoolState {
        self.state.lock().clone()
    }

    /// The pool's identity, by which it refuses another pool's handles.
    pub fn id(&self) -> PoolId {
        self.id
    }

    /// Runs an operation that may end somebody's wait, and wakes them with the lock let go.
    #[inline]
    #[track_caller]
    fn with<R>(&self, operation: impl FnOnce(&mut PoolState) -> R) -> R {
        let mut state = self.state.lock();
        let result = operation(&mut state);
        let called = state.has_called().then(|| state.take_called());
        drop(state);
        if let Some(called) = called {
            self.ring(&called);
        }
        result
    }
}

impl<P: Platform> fmt::Debug for BlockPool<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without locking: a debug print must not take part in a deadlock.
        f.debug_struct("BlockPool")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The pool at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolSnapshot {
    /// Blocks there are.
    pub total: u32,
    /// Blocks held or reserved.
    pub used: u32,
    /// Blocks anybody may have: `total - used`.
    pub available: u32,
    /// Of `used`, those not held yet: reserved, or kept for callers who wait.
    pub reserved: u32,
    /// Callers in line for blocks.
    pub waiting: u32,
    /// How often the pool was reconfigured.
    pub epoch: u64,
    /// Bytes of one block.
    pub bytes_per_block: u64,
    /// Every registered agent, by name.
    pub agents: Vec<AgentUse>,
}

/// What one agent uses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentUse {
    /// Its name.
    pub name: String,
    /// Blocks it holds.
    pub blocks: u32,
    /// Blocks reserved for it.
    pub reserved: u32,
}

impl PoolSnapshot {
    /// Bytes of all blocks. Saturates at 2^64 - 1.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.bytes_per_block.saturating_mul(self.total.into())
    }

    /// Bytes held or reserved.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.total_bytes() - self.available_bytes()
    }

    /// Bytes anybody may have.
    #[must_use]
    pub fn available_bytes(&self) -> u64 {
        self.bytes_per_block.saturating_mul(self.available.into())
    }
}
