//! What the shipped code may ask of the machine it runs on: locks, atomics, shared pointers,
//! threads. One trait bundles them, so that a checker replaces all of them at once.
//!
//! **Implement [`Platform`] for a checker, and every shell type of this crate runs under it
//! unchanged; ask for anything that is not in the trait, and no checker will see it.**
//!
//! The trait lists what the checkers really model and nothing else: there is no `Weak`, no
//! `OnceLock`, no scoped thread and no sleeping, because loom has none of them.
//!
//! # Poisoning
//! Locks here are never poisoned. A locked section of this crate runs no user code and
//! validates before it mutates, so a panic cannot leave state half-changed behind a lock.

use core::fmt::Debug;
use core::hash::Hash;
use core::ops::{Deref, DerefMut};
use core::time::Duration;

pub mod std;

pub use self::std::Std;
/// Memory orderings, re-exported so that users need not name the module of std they live in.
pub use ::core::sync::atomic::Ordering;

/// A mutual-exclusion lock around a `T`.
pub trait Mutex<T>: Send + Sync {
    /// Access to the value while the lock is held; dropping it unlocks.
    type Guard<'a>: DerefMut<Target = T>
    where
        Self: 'a,
        T: 'a;
    /// A new, unlocked mutex.
    fn new(value: T) -> Self;
    /// Blocks until the lock is held. Locking twice on one thread deadlocks.
    fn lock(&self) -> Self::Guard<'_>;
    /// The lock if nobody holds it now, else `None`.
    fn try_lock(&self) -> Option<Self::Guard<'_>>;
    /// The value, once nobody else can reach the lock.
    fn into_inner(self) -> T;
}

/// A readers-writer lock around a `T`.
pub trait RwLock<T>: Send + Sync {
    /// Shared access.
    type ReadGuard<'a>: Deref<Target = T>
    where
        Self: 'a,
        T: 'a;
    /// Exclusive access.
    type WriteGuard<'a>: DerefMut<Target = T>
    where
        Self: 'a,
        T: 'a;
    /// A new, unlocked lock.
    fn new(value: T) -> Self;
    /// Blocks until no writer holds the lock.
    fn read(&self) -> Self::ReadGuard<'_>;
    /// Blocks until nobody holds the lock.
    fn write(&self) -> Self::WriteGuard<'_>;
}

/// A condition variable for this platform's [`Mutex`].
pub trait Condvar<P: Platform>: Send + Sync {
    /// A new condition variable with no waiter.
    fn new() -> Self;
    /// Unlocks, waits to be notified, locks again. May wake spuriously: call it in a loop.
    fn wait<'a, T: Send + 'static + 'a>(
        &self,
        guard: <P::Mutex<T> as Mutex<T>>::Guard<'a>,
    ) -> <P::Mutex<T> as Mutex<T>>::Guard<'a>;
    /// As [`Condvar::wait`], for at most `timeout`; the flag says whether it timed out.
    ///
    /// Under a checker the time-out is a *choice* that may fire a bounded number of times, unless
    /// it is of more than a hundred years, which no wait lives to see.
    /// Under loom, which has no notion of it, it never fires: whoever relies on a time-out
    /// needs another engine as well.
    fn wait_timeout<'a, T: Send + 'static + 'a>(
        &self,
        guard: <P::Mutex<T> as Mutex<T>>::Guard<'a>,
        timeout: Duration,
    ) -> (<P::Mutex<T> as Mutex<T>>::Guard<'a>, bool);
    /// Wakes one waiter, if there is one.
    fn notify_one(&self);
    /// Wakes every waiter.
    fn notify_all(&self);
}

/// An atomic cell holding a `V`.
pub trait Atomic<V: Copy>: Send + Sync {
    /// A cell holding `value`.
    fn new(value: V) -> Self;
    /// Reads the value.
    fn load(&self, order: Ordering) -> V;
    /// Replaces the value.
    fn store(&self, value: V, order: Ordering);
    /// Replaces the value and returns the old one.
    fn swap(&self, value: V, order: Ordering) -> V;
    /// Stores `new` if the cell holds `current`; `Err` carries what it holds instead.
    ///
    /// # Errors
    /// The value found, where it was not `current`.
    fn compare_exchange(
        &self,
        current: V,
        new: V,
        success: Ordering,
        failure: Ordering,
    ) -> Result<V, V>;
}

/// An [`Atomic`] integer.
pub trait AtomicInt<V: Copy>: Atomic<V> {
    /// Adds, wrapping, and returns the old value.
    fn fetch_add(&self, value: V, order: Ordering) -> V;
    /// Subtracts, wrapping, and returns the old value.
    fn fetch_sub(&self, value: V, order: Ordering) -> V;
    /// Bitwise and; returns the old value.
    fn fetch_and(&self, value: V, order: Ordering) -> V;
    /// Bitwise or; returns the old value.
    fn fetch_or(&self, value: V, order: Ordering) -> V;
    /// The greater of the two; returns the old value.
    fn fetch_max(&self, value: V, order: Ordering) -> V;
}

/// A shared, counted pointer.
pub trait Shared<T>: Deref<Target = T> + Clone + Send + Sync {
    /// Moves `value` behind a counted pointer.
    fn new(value: T) -> Self;
}

/// A thread that can be joined.
pub trait JoinHandle<T> {
    /// Waits for the thread and returns what it returned; a panic of the thread goes on here.
    fn join(self) -> T;
}

/// A thread that can be woken from [`Platform::park`].
pub trait Unpark: Clone + Send + Sync + 'static {
    /// Makes the thread's next (or present) `park` return.
    fn unpark(&self);
}

/// One bundle of everything concurrent: see the [module](self).
///
/// It is a type-level switch and holds nothing. Shell types take it as a parameter that
/// defaults to [`Std`], so users read `BlockPool` and only implementers see `P`.
///
/// ```
/// use selvedge_core::platform::{AtomicInt, Atomic, JoinHandle, Ordering, Platform, Shared, Std};
///
/// fn count_to_two<P: Platform>() -> u32 {
///     let n = P::Arc::new(P::AtomicU32::new(0));
///     let theirs = n.clone();
///     let other = P::spawn(move || {
///         theirs.fetch_add(1, Ordering::Relaxed);
///     });
///     n.fetch_add(1, Ordering::Relaxed);
///     other.join();
///     n.load(Ordering::Relaxed)
/// }
/// assert_eq!(count_to_two::<Std>(), 2);
/// ```
pub trait Platform: Copy + Clone + Debug + Default + Eq + Hash + Send + Sync + 'static {
    /// Its name in reports: `std`, `loom`, `shuttle`.
    const NAME: &'static str;
    /// Mutual exclusion.
    type Mutex<T: Send + 'static>: Mutex<T> + 'static;
    /// Readers and writers.
    type RwLock<T: Send + Sync + 'static>: RwLock<T> + 'static;
    /// Waiting for a condition.
    type Condvar: Condvar<Self> + 'static;
    /// A shared pointer whose last drop a checker can order against everything else.
    type Arc<T: Send + Sync + 'static>: Shared<T> + 'static;
    /// An atomic boolean.
    type AtomicBool: Atomic<bool> + 'static;
    /// An atomic 8-bit integer.
    type AtomicU8: AtomicInt<u8> + 'static;
    /// An atomic 16-bit integer.
    type AtomicU16: AtomicInt<u16> + 'static;
    /// An atomic 32-bit integer.
    type AtomicU32: AtomicInt<u32> + 'static;
    /// An atomic 64-bit integer.
    type AtomicU64: AtomicInt<u64> + 'static;
    /// An atomic pointer-sized integer.
    type AtomicUsize: AtomicInt<usize> + 'static;
    /// A running thread.
    type JoinHandle<T: Send + 'static>: JoinHandle<T>;
    /// A handle by which another thread wakes this one.
    type Thread: Unpark;

    /// Starts a thread.
    fn spawn<F, T>(f: F) -> Self::JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static;
    /// The running thread.
    fn current() -> Self::Thread;
    /// Blocks until somebody unparks this thread; may return spuriously.
    fn park();
    /// Lets another thread run: a loop that waits for one must call it.
    fn yield_now();
    /// Tells the processor (and the checker) that this is a spin loop.
    fn spin_loop();
    /// A memory fence.
    fn fence(order: Ordering);
}
