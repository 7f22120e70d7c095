//! Guards that give back what they hold: [`BlockLease`] for blocks, [`Reservation`] for a
//! promise of blocks.

use core::fmt;
use core::mem;

use super::{AllocateError, BlockPool, ExchangeError};
use crate::platform::{Mutex, Platform, Std};
use crate::{AgentId, BlockRef, LayerId};

/// Blocks leased to an agent: dropping it gives the whole batch back under one lock.
///
/// It is not `Clone`, so a batch has one holder and is given back once. It borrows the pool;
/// [`BlockLease::into_shared`] makes one that can be kept anywhere.
///
/// The owner of blocks can still free them behind the lease's back, by handle or by
/// [`BlockPool::free_agent`]. The lease's handles are stale then: it gives nothing back, and
/// every use of them is refused.
#[must_use = "dropping a lease gives its blocks back at once"]
pub struct BlockLease<'p, P: Platform = Std> {
    pub(super) blocks: Batch,
    agent: AgentId,
    pool: Handle<'p, P>,
}

impl<'p, P: Platform> BlockLease<'p, P> {
    #[inline]
    pub(super) fn new(pool: Handle<'p, P>, agent: AgentId, blocks: Batch) -> Self {
        BlockLease {
            blocks,
            agent,
            pool,
        }
    }

    /// The blocks, in the order they were asked for.
    #[must_use]
    pub fn blocks(&self) -> &[BlockRef] {
        self.blocks.as_slice()
    }

    /// The blocks of one layer.
    pub fn of_layer(&self, layer: LayerId) -> impl Iterator<Item = BlockRef> + '_ {
        let blocks = self.blocks().iter().copied();
        blocks.filter(move |block| block.layer() == layer)
    }

    /// How many blocks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks().is_empty()
    }

    /// Whose they are.
    #[must_use]
    pub fn agent(&self) -> AgentId {
        self.agent
    }

    /// Gives up these blocks for `needs` in one step. The caller never holds both, so memory
    /// never doubles (ticket SPRINT-2.5, issue 6).
    ///
    /// Drop what the old blocks hold first: they may be handed to anybody the moment this
    /// returns.
    ///
    /// # Errors
    /// Each of [`ExchangeError`]; the lease still holds the old blocks then.
    pub fn exchange(&mut self, needs: &[(LayerId, u32)]) -> Result<(), ExchangeError> {
        let mut batch = Batch::with_room_for(needs.iter().map(|need| u64::from(need.1)).sum());
        let pool = self.pool.get();
        pool.with(|state| state.exchange_into(self.agent, self.blocks(), needs, &mut batch))?;
        self.blocks = batch;
        Ok(())
    }

    /// Gives up those blocks for which `give_up` says so, and takes `needs` instead, in one
    /// step; the others stay as they are. The lease then holds what it kept, in its order, and
    /// what it got. `needs` may be empty.
    ///
    /// What `promised` has left is used for as many blocks as `needs` has more than are given
    /// up. So a holder can make sure first (reserve the difference), drop what the blocks hold
    /// next, and exchange last, which cannot fail then.
    ///
    /// ```
    /// # use selvedge_core::{BlockPool, LayerId, ModelCacheSpec};
    /// # let pool: BlockPool = BlockPool::new(ModelCacheSpec::new(1, 1, 8, 16)?, 5)?;
    /// # let alice = pool.agent("alice")?;
    /// let mut lease = pool.allocate(3, LayerId(0), alice)?;
    /// let kept = lease.blocks()[0];
    /// let mut promised = pool.reserve(2, alice)?;
    /// // Two given up, four taken: the two more are those that were promised.
    /// lease.exchange_part(|block| block != kept, &[(LayerId(0), 4)], Some(&mut promised))?;
    /// assert_eq!((lease.len(), lease.blocks()[0]), (5, kept));
    /// assert_eq!(promised.left(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Each of [`ExchangeError`]; the lease still holds what it held then, and the promise what
    /// it had left.
    pub fn exchange_part(
        &mut self,
        give_up: impl Fn(BlockRef) -> bool,
        needs: &[(LayerId, u32)],
        promised: Option<&mut Reservation<'_, P>>,
    ) -> Result<(), ExchangeError> {
        let (old, mut kept): (Vec<BlockRef>, Vec<BlockRef>) =
            (self.blocks().iter().copied()).partition(|&block| give_up(block));
        let wanted: u64 = needs.iter().map(|need| u64::from(need.1)).sum();
        let more = wanted.saturating_sub(old.len() as u64);
        kept.reserve(wanted.min(LARGE) as usize);
        let pool = self.pool.get();
        // A promise of another pool or agent is worth nothing here.
        let promised = promised.filter(|p| p.agent == self.agent && p.pool.get().id() == pool.id());
        let left = promised.as_ref().map_or(0, |promised| promised.left);
        let used = u32::try_from(more).unwrap_or(u32::MAX).min(left);
        pool.with(|state| state.exchange_part(self.agent, &old, needs, used, &mut kept))?;
        if let Some(promised) = promised {
            promised.left -= used;
        }
        self.blocks = Batch::Many(kept);
        Ok(())
    }

    /// Ends the lease without giving the blocks back: they stay the agent's until the handles
    /// are freed or adopted, or the agent's blocks are freed altogether.
    #[must_use = "the blocks stay allocated: keep the handles"]
    pub fn persist(mut self) -> Vec<BlockRef> {
        mem::take(&mut self.blocks).into_vec()
    }

    /// The same lease with a share of the pool instead of a borrow.
    ///
    /// # Errors
    /// The lease as it was, if `pool` is not the one it is from.
    pub fn into_shared(
        mut self,
        pool: &P::Arc<BlockPool<P>>,
    ) -> Result<BlockLease<'static, P>, Self> {
        if pool.id() != self.pool.get().id() {
            return Err(self);
        }
        let blocks = mem::take(&mut self.blocks);
        Ok(BlockLease::new(
            Handle::Shared(pool.clone()),
            self.agent,
            blocks,
        ))
    }
}

impl<P: Platform> Drop for BlockLease<'_, P> {
    #[inline]
    fn drop(&mut self) {
        let blocks = self.blocks.as_slice();
        if !blocks.is_empty() {
            let pool = self.pool.get();
            let mut state = pool.state.lock();
            let called = (state.release(self.agent, blocks)).then(|| state.take_called());
            drop(state);
            if let Some(called) = called {
                pool.ring(&called);
            }
        }
    }
}

impl<P: Platform> fmt::Debug for BlockLease<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockLease")
            .field("agent", &self.agent)
            .field("blocks", &self.blocks())
            .finish_non_exhaustive()
    }
}

/// Blocks promised to an agent: see [`BlockPool::reserve`]. Dropping it takes the rest of the
/// promise back.
#[must_use = "dropping a reservation gives it up at once"]
pub struct Reservation<'p, P: Platform = Std> {
    left: u32,
    agent: AgentId,
    pool: Handle<'p, P>,
}

impl<'p, P: Platform> Reservation<'p, P> {
    pub(super) fn new(pool: Handle<'p, P>, agent: AgentId, left: u32) -> Self {
        Reservation { left, agent, pool }
    }

    /// Blocks still promised.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Leases `n` of the promised blocks for `layer`.
    ///
    /// # Errors
    /// Each of [`AllocateError`]: `ExceedsReservation` past [`Self::left`], `Exhausted` never.
    pub fn allocate(&mut self, n: u32, layer: LayerId) -> Result<BlockLease<'p, P>, AllocateError> {
        // The agent's other reservations are not this one's to use.
        if n > self.left {
            return Err(AllocateError::ExceedsReservation {
                requested: n,
                left: self.left,
            });
        }
        let mut state = self.pool.get().state.lock();
        let blocks = state.allocate_reserved(&[(layer, n)], self.agent)?;
        drop(state);
        self.left -= n;
        let batch = Batch::Many(blocks);
        Ok(BlockLease::new(self.pool.clone(), self.agent, batch))
    }

    /// Leases promised blocks of several layers in one step: all of all layers, or none of any.
    ///
    /// # Errors
    /// Each of [`AllocateError`]: `ExceedsReservation` past [`Self::left`], `Exhausted` never.
    pub fn allocate_layers(
        &mut self,
        needs: &[(LayerId, u32)],
    ) -> Result<BlockLease<'p, P>, AllocateError> {
        let wanted: u64 = needs.iter().map(|need| u64::from(need.1)).sum();
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        if wanted > self.left {
            return Err(AllocateError::ExceedsReservation {
                requested: wanted,
                left: self.left,
            });
        }
        let mut state = self.pool.get().state.lock();
        let blocks = state.allocate_reserved(needs, self.agent)?;
        drop(state);
        self.left -= wanted;
        let batch = Batch::Many(blocks);
        Ok(BlockLease::new(self.pool.clone(), self.agent, batch))
    }

    /// The same reservation with a share of the pool instead of a borrow.
    ///
    /// # Errors
    /// The reservation as it was, if `pool` is not the one it is from.
    pub fn into_shared(
        mut self,
        pool: &P::Arc<BlockPool<P>>,
    ) -> Result<Reservation<'static, P>, Self> {
        if pool.id() != self.pool.get().id() {
            return Err(self);
        }
        let left = mem::take(&mut self.left);
        Ok(Reservation::new(
            Handle::Shared(pool.clone()),
            self.agent,
            left,
        ))
    }
}

impl<P: Platform> Drop for Reservation<'_, P> {
    fn drop(&mut self) {
        if self.left > 0 {
            (self.pool.get()).with(|state| state.unreserve(self.left, self.agent));
        }
    }
}

impl<P: Platform> fmt::Debug for Reservation<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("agent", &self.agent)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// How a guard reaches its pool. Borrowing costs nothing; a share costs two atomic
/// read-modify-writes a lease, half of what a small allocation costs altogether.
pub(super) enum Handle<'p, P: Platform> {
    Borrowed(&'p BlockPool<P>),
    Shared(P::Arc<BlockPool<P>>),
}

impl<P: Platform> Handle<'_, P> {
    #[inline]
    pub(super) fn get(&self) -> &BlockPool<P> {
        match self {
            Handle::Borrowed(pool) => pool,
            Handle::Shared(pool) => pool,
        }
    }
}

impl<P: Platform> Clone for Handle<'_, P> {
    fn clone(&self) -> Self {
        match self {
            Handle::Borrowed(pool) => Handle::Borrowed(pool),
            Handle::Shared(pool) => Handle::Shared(pool.clone()),
        }
    }
}

/// More than this many handles get no room in advance: such a request is usually refused.
const LARGE: u64 = 1 << 16;

/// A lease's blocks; a single one needs no heap.
pub(super) enum Batch {
    One(Option<BlockRef>),
    Many(Vec<BlockRef>),
}

impl Batch {
    /// Room for `n`, made before the pool's lock is taken. A request for more than any pool
    /// grants is refused later, so it gets no more room than a large one.
    #[inline]
    pub(super) fn with_room_for(n: u64) -> Self {
        match n {
            0 | 1 => Batch::One(None),
            // INVARIANT: at most 2^16, which every usize holds.
            _ => Batch::Many(Vec::with_capacity(n.min(LARGE) as usize)),
        }
    }

    #[inline]
    fn as_slice(&self) -> &[BlockRef] {
        match self {
            Batch::One(one) => one.as_slice(),
            Batch::Many(many) => many,
        }
    }

    fn into_vec(self) -> Vec<BlockRef> {
        match self {
            Batch::One(one) => one.into_iter().collect(),
            Batch::Many(many) => many,
        }
    }
}

impl Extend<BlockRef> for Batch {
    #[inline]
    fn extend<I: IntoIterator<Item = BlockRef>>(&mut self, blocks: I) {
        let mut blocks = blocks.into_iter();
        match self {
            Batch::Many(many) => many.extend(blocks),
            Batch::One(one) => {
                let first = one.take().or_else(|| blocks.next());
                match blocks.next() {
                    None => *one = first,
                    // More than room was made for.
                    Some(second) => {
                        let all = first.into_iter().chain([second]).chain(blocks);
                        *self = Batch::Many(all.collect());
                    }
                }
            }
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch::One(None)
    }
}
