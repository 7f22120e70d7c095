//! A tensor of alpha for each worker, kept for one epoch and no longer.
//!
//! Ticket B2-DRL-09: each thread of the origin kept its tensor of alpha in thread-local storage.
//! The function that let it go reached the calling thread's alone, and nobody called it.
//!
//! **A worker's entry is its own; that it is of this epoch is everybody's.** [`AlphaCache`]
//! counts epochs. A worker compares the count with that of its entry at every look, which costs
//! one relaxed load; so [`AlphaCache::advance`] reaches every worker's entry by one store, however
//! many there are and whatever they do. No worker waits for another.
//!
//! # What memory stays, and for how long
//! At most one value for each live worker, ever: another takes its place only after it is gone,
//! and a worker that leaves drops its own. A value of an earlier epoch is never *read* again, and
//! is *dropped* at its worker's next look, when the worker calls [`AlphaWorker::clear`] or when it
//! leaves, whichever comes first. A worker that idles keeps its last value until then: to take it
//! from under a worker's hands would need a lock, or an atomic pointer that is counted, at every
//! look. [`AlphaCache::census`] says how many there are.

use core::convert::Infallible;
use core::fmt;

mod state;

pub use state::{AlphaCacheError, AlphaCacheState, AlphaCensus, WorkerId};

use super::EpochGuard;
use crate::ddp::{CommitRecord, Epoch, RunId};
use crate::platform::{Atomic, Mutex, Ordering, Platform, Shared, Std};

/// What an entry is for. Another device, type or alpha, to the bit, is another entry.
///
/// ```
/// use selvedge_core::train::{AlphaKey, Dtype};
///
/// let key = AlphaKey::new(0, Dtype::F32, 0.25);
/// assert_eq!(key, AlphaKey::new(0, Dtype::F32, 0.25));
/// assert_ne!(key, AlphaKey::new(1, Dtype::F32, 0.25));
/// assert_ne!(key, AlphaKey::new(0, Dtype::Bf16, 0.25));
/// assert_eq!(key.alpha(), 0.25);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AlphaKey {
    device: u32,
    dtype: Dtype,
    alpha_bits: u64,
}

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// 16 bits, as IEEE 754 has them.
    F16,
    /// The upper half of 32 bits.
    Bf16,
    /// 32 bits.
    F32,
    /// 64 bits.
    F64,
}

impl AlphaKey {
    /// The key of `alpha`, as any bits, on a device.
    #[must_use]
    pub const fn new(device: u32, dtype: Dtype, alpha: f64) -> Self {
        AlphaKey {
            device,
            dtype,
            alpha_bits: alpha.to_bits(),
        }
    }

    /// Which device.
    #[must_use]
    pub const fn device(self) -> u32 {
        self.device
    }

    /// Which type.
    #[must_use]
    pub const fn dtype(self) -> Dtype {
        self.dtype
    }

    /// Which alpha.
    #[must_use]
    pub const fn alpha(self) -> f64 {
        f64::from_bits(self.alpha_bits)
    }
}

/// The books of all workers' entries, and the epoch they must be of. A clone is another handle of
/// the same.
///
/// ```
/// use selvedge_core::ddp::Epoch;
/// use selvedge_core::train::{AlphaCache, AlphaKey, Dtype};
///
/// let cache: AlphaCache = AlphaCache::new(8)?;
/// let mut worker = cache.join()?;
/// let key = AlphaKey::new(0, Dtype::F32, 0.5);
/// let filled = |key: AlphaKey| vec![key.alpha() as f32; 4];
/// assert_eq!(worker.get_or_insert_with(key, || filled(key)), &[0.5; 4]);
/// assert_eq!(worker.get_or_insert_with(key, || unreachable!()), &[0.5; 4]);
///
/// // A record was applied. Its alpha may be the same as before: the entry is not.
/// assert!(cache.advance(Epoch(1)));
/// assert_eq!(cache.census().stale, 1);
/// assert_eq!(worker.get_or_insert_with(key, || vec![0.5; 2]), &[0.5; 2]);
/// assert_eq!((cache.census().stale, cache.live_entries()), (0, 1));
/// drop(worker);
/// assert_eq!(cache.live_entries(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AlphaCache<P: Platform = Std> {
    shared: P::Arc<Books<P>>,
}

struct Books<P: Platform> {
    /// What entries must be of; changed only with the lock held.
    generation: P::AtomicU64,
    state: P::Mutex<AlphaCacheState>,
}

impl<P: Platform> AlphaCache<P> {
    /// A cache for at most `capacity` workers at once. All its memory is taken here.
    ///
    /// # Errors
    /// [`AlphaCacheError::NoWorkers`], if that is 0.
    pub fn new(capacity: u32) -> Result<Self, AlphaCacheError> {
        let state = AlphaCacheState::new(capacity)?;
        Ok(AlphaCache {
            shared: P::Arc::new(Books {
                generation: P::AtomicU64::new(state.generation()),
                state: P::Mutex::new(state),
            }),
        })
    }

    /// A place for one worker, until it is dropped. Workers of one cache may keep values of
    /// different types.
    ///
    /// # Errors
    /// [`AlphaCacheError::Full`].
    pub fn join<V>(&self) -> Result<AlphaWorker<V, P>, AlphaCacheError> {
        let id = self.shared.state.lock().join()?;
        Ok(AlphaWorker {
            books: self.shared.clone(),
            id,
            entry: None,
        })
    }

    /// A record was applied: no worker reads what is older any more. Whether it was a new one:
    /// epochs only grow, and the same record may come twice.
    ///
    /// Call it when values are made by the record already, as a rank's driver does: what is made
    /// from here on counts as the new epoch's.
    ///
    /// It is in force for each worker that learns of it, as by the next step's work being handed
    /// to it: what [happened before] a look is seen by it.
    ///
    /// [happened before]: https://en.cppreference.com/w/cpp/atomic/memory_order
    pub fn advance(&self, epoch: Epoch) -> bool {
        self.change(|state| state.advance(epoch))
    }

    /// The epochs that follow are those of `run`; whether it is another one than before. A process
    /// may train more than once: the epochs of each run begin anew, and no worker reads what is of
    /// another run.
    ///
    /// As an [`EpochGuard`] the cache does this by itself.
    pub fn begin_run(&self, run: RunId) -> bool {
        self.change(|state| state.begin_run(run))
    }

    /// Changes what entries must be of, if `change` says that it does.
    fn change(&self, change: impl FnOnce(&mut AlphaCacheState) -> bool) -> bool {
        let mut state = self.shared.state.lock();
        let news = change(&mut state);
        if news {
            // ORDERING: Relaxed. What was stored before a look, by whatever way the looker knows
            // of it, the look sees: no older value of one atomic is read after a newer one was
            // known. Nothing else is read by it: the entry is the worker's own.
            let generation = state.generation();
            self.shared.generation.store(generation, Ordering::Relaxed);
        }
        news
    }

    /// How many workers there are and how many entries they have, of one moment.
    #[must_use]
    pub fn census(&self) -> AlphaCensus {
        self.shared.state.lock().census()
    }

    /// How many entries the workers have, of this epoch or an earlier one: never more than there
    /// are workers.
    #[must_use]
    pub fn live_entries(&self) -> u32 {
        self.census().entries
    }
}

/// One worker's entry. It is for one thread at a time; dropping it is to leave.
///
/// [`AlphaCache`] shows one at work.
pub struct AlphaWorker<V, P: Platform = Std> {
    books: P::Arc<Books<P>>,
    id: WorkerId,
    entry: Option<Entry<V>>,
}

struct Entry<V> {
    generation: u64,
    key: AlphaKey,
    value: V,
}

impl<V, P: Platform> AlphaWorker<V, P> {
    /// The value for `key` of this epoch; where there is none, what `make` makes. A value of
    /// another key or an earlier epoch is dropped before: there are never two of them.
    ///
    /// If an epoch begins while `make` is at it, what it makes is returned, and is not found
    /// again.
    #[inline]
    pub fn get_or_insert_with(&mut self, key: AlphaKey, make: impl FnOnce() -> V) -> &V {
        let made = self.get_or_try_insert_with(key, || Ok::<V, Infallible>(make()));
        match made {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// The same, where making may fail. A failure is not kept: the next look makes again.
    ///
    /// # Errors
    /// What `make` fails by; there is no entry then.
    #[inline]
    pub fn get_or_try_insert_with<E>(
        &mut self,
        key: AlphaKey,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<&V, E> {
        // ORDERING: Relaxed; see `AlphaCache::advance`.
        let generation = self.books.generation.load(Ordering::Relaxed);
        let hit = (self.entry.as_ref())
            .is_some_and(|entry| entry.generation == generation && entry.key == key);
        if !hit {
            self.make(key, make)?;
        }
        let entry =
            (self.entry.as_ref()).expect("INVARIANT: there is an entry, found or just made");
        Ok(&entry.value)
    }

    /// Drops the entry: for a worker that has nothing to do for some time.
    pub fn clear(&mut self) {
        if let Some(entry) = self.entry.take() {
            drop(entry);
            self.books.state.lock().cleared(self.id);
        }
    }

    /// Which worker it is.
    #[must_use]
    pub const fn id(&self) -> WorkerId {
        self.id
    }

    #[cold]
    fn make<E>(&mut self, key: AlphaKey, make: impl FnOnce() -> Result<V, E>) -> Result<(), E> {
        // The old value first. It is in the books until it is gone, and so is the new one before
        // it is there: they never say less than there is.
        drop(self.entry.take());
        let generation = self.books.state.lock().filling(self.id);
        let unless_made = Unfilled::<P> {
            books: &self.books,
            id: self.id,
        };
        let value = make()?;
        core::mem::forget(unless_made);
        self.entry = Some(Entry {
            generation,
            key,
            value,
        });
        Ok(())
    }
}

/// Strikes an entry out of the books that came to nothing, whatever was in its way.
struct Unfilled<'a, P: Platform> {
    books: &'a P::Arc<Books<P>>,
    id: WorkerId,
}

impl<P: Platform> Drop for Unfilled<'_, P> {
    fn drop(&mut self) {
        self.books.state.lock().cleared(self.id);
    }
}

impl<V, P: Platform> Drop for AlphaWorker<V, P> {
    fn drop(&mut self) {
        // The value first: who takes the place then finds nothing of it.
        drop(self.entry.take());
        self.books.state.lock().leave(self.id);
    }
}

impl<P: Platform> Clone for AlphaCache<P> {
    fn clone(&self) -> Self {
        AlphaCache {
            shared: self.shared.clone(),
        }
    }
}

impl<P: Platform> EpochGuard for AlphaCache<P> {
    fn at_epoch(&mut self, record: &CommitRecord) {
        self.begin_run(record.run);
        self.advance(record.epoch);
    }
}

impl<P: Platform> fmt::Debug for AlphaCache<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AlphaCache").field(&self.census()).finish()
    }
}

impl<V, P: Platform> fmt::Debug for AlphaWorker<V, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.entry.as_ref().map(|entry| entry.key);
        f.debug_struct("AlphaWorker")
            .field("id", &self.id)
            .field("key", &key)
            .finish_non_exhaustive()
    }
}
