//! [`ExplorerPlatform`]: primitives that announce what they are about to do, so that the
//! explorer can tell which orders are worth trying.
//!
//! Sequentially consistent: every atomic access counts as `SeqCst` and a fence is nothing. The
//! values live in std's own types, which here are only ever used by one thread at a time and
//! never wait: who may go on is for the explorer to say.

mod atomic;

use std::any::type_name;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::{self, PoisonError, TryLockError};
use std::time::Duration;

use selvedge_core::platform::{self, Ordering, Platform};

use super::is_no_limit;
use crate::explorer::access::Kind;
use crate::explorer::runtime::{self, ObjectId, me};
use crate::trace::{self, ObjectKind, Operation, Pending, Place};

pub use self::atomic::ExplorerAtomic;

/// Runs code under the explorer: see the [module](crate::explorer). Outside of a search its
/// types work as plain values of one thread.
///
/// ```
/// use selvedge_sim::explorer::{Explorer, SearchEnd};
/// use selvedge_sim::platform::{JoinHandle, Platform};
/// use selvedge_sim::{ExplorerPlatform, Observation};
///
/// let search = Explorer::default().run(|| {
///     let other = ExplorerPlatform::spawn(|| 1 + 1);
///     assert_eq!(other.join(), 2);
///     Observation::none()
/// });
/// assert_eq!(search.end, SearchEnd::Complete);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExplorerPlatform;

impl Platform for ExplorerPlatform {
    const NAME: &'static str = "explorer";
    type Mutex<T: Send + 'static> = ExplorerMutex<T>;
    type RwLock<T: Send + Sync + 'static> = ExplorerRwLock<T>;
    type Condvar = ExplorerCondvar;
    type Arc<T: Send + Sync + 'static> = ExplorerArc<T>;
    type AtomicBool = ExplorerAtomic<sync::atomic::AtomicBool>;
    type AtomicU8 = ExplorerAtomic<sync::atomic::AtomicU8>;
    type AtomicU16 = ExplorerAtomic<sync::atomic::AtomicU16>;
    type AtomicU32 = ExplorerAtomic<sync::atomic::AtomicU32>;
    type AtomicU64 = ExplorerAtomic<sync::atomic::AtomicU64>;
    type AtomicUsize = ExplorerAtomic<sync::atomic::AtomicUsize>;
    type JoinHandle<T: Send + 'static> = ExplorerJoinHandle<T>;
    type Thread = ExplorerThread;

    #[track_caller]
    fn spawn<F, T>(f: F) -> Self::JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let place = trace::spawned(me, Location::caller());
        let result = sync::Arc::new(sync::Mutex::new(None));
        let told = sync::Arc::clone(&result);
        let task = runtime::spawn(Box::new(move || {
            trace::started(me, place);
            let value = f();
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            trace::finished(me);
        }));
        ExplorerJoinHandle {
            task,
            place,
            result,
        }
    }
    fn current() -> Self::Thread {
        ExplorerThread {
            token: runtime::current(),
            task: me(),
        }
    }
    #[track_caller]
    fn park() {
        let op = Pending::begin(me, Operation::Park, Place::NONE, Location::caller());
        runtime::access(runtime::current(), Kind::Park);
        op.done();
    }
    #[track_caller]
    fn yield_now() {
        let op = Pending::begin(me, Operation::Yield, Place::NONE, Location::caller());
        runtime::yield_now();
        op.done();
    }
    #[track_caller]
    fn spin_loop() {
        Self::yield_now();
    }
    fn fence(_order: Ordering) {}
}

/// A mutex of the explorer.
///
/// ```
/// use selvedge_sim::explorer::{Explorer, SearchEnd};
/// use selvedge_sim::platform::Mutex;
/// use selvedge_sim::{ExplorerMutex, Observation};
///
/// let search = Explorer::default().run(|| {
///     let lock = ExplorerMutex::new(1);
///     *lock.lock() += 1;
///     assert_eq!(lock.into_inner(), 2);
///     Observation::none()
/// });
/// assert_eq!(search.end, SearchEnd::Complete);
/// ```
#[derive(Debug)]
pub struct ExplorerMutex<T> {
    object: ObjectId,
    place: Place,
    value: sync::Mutex<T>,
}

impl<T> ExplorerMutex<T> {
    fn take(&self, site: &'static Location<'static>) -> ExplorerGuard<'_, T> {
        let guard = match self.value.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // A destructor of a task being unwound wants what another task still holds.
            Err(TryLockError::WouldBlock) => runtime::never(),
        };
        self.guard(guard, site)
    }

    fn guard<'a>(
        &'a self,
        guard: sync::MutexGuard<'a, T>,
        site: &'static Location<'static>,
    ) -> ExplorerGuard<'a, T> {
        ExplorerGuard {
            guard: Some(guard),
            mutex: self,
            site,
        }
    }

    /// Locks it, once notified if that is what is waited for.
    fn lock_by(
        &self,
        acquire: impl FnOnce(),
        site: &'static Location<'static>,
    ) -> ExplorerGuard<'_, T> {
        let op = Pending::begin(me, Operation::Lock, self.place, site);
        acquire();
        let guard = self.take(site);
        op.done();
        guard
    }
}

impl<T: Send> platform::Mutex<T> for ExplorerMutex<T> {
    type Guard<'a>
        = ExplorerGuard<'a, T>
    where
        T: 'a;
    #[track_caller]
    fn new(value: T) -> Self {
        ExplorerMutex {
            object: ObjectId::new("mutex"),
            place: trace::created(me, ObjectKind::Mutex, type_name::<T>, Location::caller()),
            value: sync::Mutex::new(value),
        }
    }
    #[track_caller]
    fn lock(&self) -> ExplorerGuard<'_, T> {
        let acquire = || {
            runtime::access(self.object, Kind::Lock);
        };
        self.lock_by(acquire, Location::caller())
    }
    #[track_caller]
    fn try_lock(&self) -> Option<ExplorerGuard<'_, T>> {
        let site = Location::caller();
        let op = Pending::begin(me, Operation::TryLock, self.place, site);
        let guard = match runtime::access(self.object, Kind::Try) {
            Some(true) => Some(self.take(site)),
            Some(false) => None,
            None => match self.value.try_lock() {
                Ok(guard) => Some(self.guard(guard, site)),
                Err(TryLockError::Poisoned(poisoned)) => {
                    Some(self.guard(poisoned.into_inner(), site))
                }
                Err(TryLockError::WouldBlock) => None,
            },
        };
        op.done_if(guard.is_some());
        guard
    }
    fn into_inner(self) -> T {
        self.value
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Access to what an [`ExplorerMutex`] guards.
///
/// ```
/// use selvedge_sim::explorer::{Explorer, SearchEnd};
/// use selvedge_sim::platform::Mutex;
/// use selvedge_sim::{ExplorerGuard, ExplorerMutex, Observation};
///
/// let search = Explorer::default().run(|| {
///     let lock = ExplorerMutex::new(1);
///     let mut guard: ExplorerGuard<'_, u32> = lock.lock();
///     *guard += 1;
///     assert!(lock.try_lock().is_none());
///     Observation::none()
/// });
/// assert_eq!(search.end, SearchEnd::Complete);
/// ```
#[derive(Debug)]
pub struct ExplorerGuard<'a, T> {
    /// Gone only while the lock is given up and in a guard that was taken apart.
    guard: Option<sync::MutexGuard<'a, T>>,
    mutex: &'a ExplorerMutex<T>,
    /// Where it was locked.
    site: &'static Location<'static>,
}

impl<T> Deref for ExplorerGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        (self.guard.as_deref()).expect("INVARIANT: a guard that can be reached holds the lock")
    }
}

impl<T> DerefMut for ExplorerGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        (self.guard.as_deref_mut()).expect("INVARIANT: a guard that can be reached holds the lock")
    }
}

impl<T> Drop for ExplorerGuard<'_, T> {
    fn drop(&mut self) {
        if self.guard.is_some() {
            let op = Pending::begin(me, Operation::Unlock, self.mutex.place, self.site);
            // The step first: until it is picked, the lock is still held.
            runtime::access(self.mutex.object, Kind::Unlock);
            self.guard = None;
            op.done();
        }
    }
}

/// A readers-writer lock of the explorer.
///
/// ```
/// use selvedge_sim::explorer::{Explorer, SearchEnd};
/// use selvedge_sim::platform::RwLock;
/// use selvedge_sim::{ExplorerRwLock, Observation};
///
/// let search = Explorer::default().run(|| {
///     let lock = ExplorerRwLock::new(1);
///     *lock.write() += 1;
///     assert_eq!(*lock.read(), 2);
///     Observation::none()
/// });
/// assert_eq!(search.end, SearchEnd::Complete);
/// ```
#[derive(Debug)]
pub struct ExplorerRwLock<T> {
    object: ObjectId,
    place: Place,
    value: sync::RwLock<T>,
}

impl<T: Send + Sync> platform::RwLock<T> for ExplorerRwLock<T> {
    type ReadGuard<'a>
        = ExplorerReadGuard<'a, T>
    where
        T: 'a;
    type WriteGuard<'a>
        = ExplorerWriteGuard<'a, T>
    where
        T: 'a;
    #[track_caller]
    fn new(value: T) -> Self {
        ExplorerRwLock {
            object: ObjectId::new("readers-writer lock"),
            place: trace::created(me, ObjectKind::RwLock, type_name::<T>, Location::caller()),
            value: sync::RwLock::new(value),
        }
    }
    #[track_caller]
    fn read(&self) -> ExplorerReadGuard<'_, T> {
        let site = Location::caller();
        let op = Pending::begin(me, Operation::ReadLock, self.place, site);
        runtime::access(self.object, Kind::ReadLock);
        let guard = match self.value.try_read() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => runtime::never(),
        };
        op.done();
        ExplorerReadGuard {
            guard: Some(guard),
            object: self.object,
            place: self.place,
            site,
        }
    }
    #[track_caller]
    fn write(&self) -> ExplorerWriteGuard<'_, T> {
        let site = Location::caller();
        let op = Pending::begin(me, Operation::WriteLock, self.place, site);
        runtime::access(self.object, Kind::WriteLock);
        let guard = match self.value.try_write() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => runtime::never(),
        };
        op.done();
        ExplorerWriteGuard {
            guard: Some(guard),
            object: self.object,
            place: self.place,
            site,
        }
    }
}

/// Shared access to what an [`ExplorerRwLock`] guards.
///
/// ```
/// use selvedge_sim::explorer::{Explorer, SearchEnd};
/// use selvedge_sim::platform::RwLock;
/// use selvedge_sim::{ExplorerReadGuard, ExplorerRwLock, Observation};
///
/// let search = Explorer::default().run(|| {
///     let lock = ExplorerRwLock::new(1);
///     let first: ExplorerReadGuard<'_, u32> = lock.read();
///     assert_eq!(*first + *lock.read(), 2);
///     Observation::none()
/// });
/// assert_eq!(search.end, SearchEnd::Complete);
/// ```
#[derive(Debug)]
pub struct ExplorerReadGuard<'a, T> {
    guard: Option<sync::RwLockReadGuard<'a, T>>,
    object: ObjectId,
    place: Place,
    site: &'static Location<'static>,
}

impl<T> Deref for ExplorerReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        (self.guard.as_deref()).expect("INVARIANT: a guard that can be reached holds the lock")
    }
}

impl<T> Drop for ExplorerReadGuard<'_, T> {
    fn drop(&mut self) {
        let op = Pending::begin(me, Operation::ReadUnlock, self.place, self.site);
        runtime::access(self.object, Kind::ReadUnlock);
        self.guard = None;
        op.done();
    }
}

/// Exclusive access to what an [`ExplorerRwLock`] guards.
///
/// ```
/// use selvedge_sim::explorer::{Explorer, SearchEnd};
/// use selvedge_sim::platform::RwLock;
/// use selvedge_sim::{ExplorerRwLock, ExplorerWriteGuard, Observation};
///
/// let search = Explorer::default().run(|| {
///     let lock = ExplorerRwLock::new(1);
///     let mut guard: ExplorerWriteGuard<'_, u32> = lock.write();
///     *guard += 1;
///     assert_eq!(*guard, 2);
///     Observation::none()
/// });
/// assert_eq!(search.end, SearchEnd::Complete);
/// ```
#[derive(Debug)]
pub struct ExplorerWriteGuard<'a, T> {
    guard: Option<sync::RwLockWriteGuard<'a, T>>,
    object: ObjectId,
    place: Place,
    site: &'static Location<'static>,
}

impl<T> Deref for ExplorerWriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        (self.guard.as_deref()).expect("INVARIANT: a guard that can be reached holds the lock")
    }
}

impl<T> DerefMut for ExplorerWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        (self.guard.as_deref_mut()).expect("INVARIANT: a guard that can be reached holds the lock")
    }
}

impl<T> Drop for ExplorerWriteGuard<'_, T> {
    fn drop(&mut self) {
        let op = Pending::begin(me, Operation::WriteUnlock, self.place, self.site);
        runtime::access(self.object, Kind::WriteUnlock);
        self.guard = None;
        op.done();
    }
}

/// A condition variable of the explorer: a notification chooses any of those who wait.
///
/// A wait is three steps: get in line, unlock, lock again once notified. A notification
/// between the first two finds the task in line, as if it came after both.
///
/// ```
/// use selvedge_sim::explorer::{Explorer, SearchEnd};
/// use selvedge_sim::platform::{Condvar, JoinHandle, Mutex, Platform, Shared};
/// use selvedge_sim::{ExplorerArc, ExplorerCondvar, ExplorerMutex, ExplorerPlatform, Observation};
///
/// let search = Explorer::default().run(|| {
///     let pair = ExplorerArc::new((ExplorerMutex::new(false), ExplorerCondvar::new()));
///     let theirs = pair.clone();
///     let other = ExplorerPlatform::spawn(move || {
///         *theirs.0.lock() = true;
///         theirs.1.notify_one();
///     });
///     let mut is_set = pair.0.lock();
///     while !*is_set {
///         is_set = pair.1.wait(is_set);
///     }
///     drop(is_set);
///     other.join();
///     Observation::none()
/// });
/// assert_eq!(search.end, SearchEnd::Complete);
/// ```
#[derive(Debug)]
pub struct ExplorerCondvar {
    object: ObjectId,
    place: Place,
}

impl ExplorerCondvar {
    fn op(&self, operation: Operation, site: &'static Location<'static>) -> Pending {
        Pending::begin(me, operation, self.place, site)
    }

    /// Gets in line and unlocks.
    fn enqueue<T>(&self, guard: ExplorerGuard<'_, T>, site: &'static Location<'static>) {
        let op = self.op(Operation::Wait, site);
        runtime::access(self.object, Kind::Enqueue);
        op.done();
        drop(guard);
    }
}

impl platform::Condvar<ExplorerPlatform> for ExplorerCondvar {
    #[track_caller]
    fn new() -> Self {
        ExplorerCondvar {
            object: ObjectId::new("condition variable"),
            place: trace::created(me, ObjectKind::Condvar, || "", Location::caller()),
        }
    }
    #[track_caller]
    fn wait<'a, T: Send + 'static + 'a>(
        &self,
        guard: ExplorerGuard<'a, T>,
    ) -> ExplorerGuard<'a, T> {
        let (mutex, site) = (guard.mutex, Location::caller());
        self.enqueue(guard, site);
        // To be notified and to lock again is one step, and two events.
        let woken = self.op(Operation::Wake, site);
        runtime::lock_when_notified(mutex.object);
        woken.done();
        mutex.lock_by(|| (), site)
    }
    #[track_caller]
    fn wait_timeout<'a, T: Send + 'static + 'a>(
        &self,
        guard: ExplorerGuard<'a, T>,
        timeout: Duration,
    ) -> (ExplorerGuard<'a, T>, bool) {
        if is_no_limit(timeout) {
            return (self.wait(guard), false);
        }
        let (mutex, site) = (guard.mutex, Location::caller());
        self.enqueue(guard, site);
        let woken = self.op(Operation::Wake, site);
        let notified = runtime::return_from_wait(self.object);
        woken.done_if(notified);
        let acquire = || {
            runtime::access(mutex.object, Kind::Lock);
        };
        (mutex.lock_by(acquire, site), !notified)
    }
    #[track_caller]
    fn notify_one(&self) {
        let op = self.op(Operation::NotifyOne, Location::caller());
        runtime::access(self.object, Kind::NotifyOne);
        op.done();
    }
    #[track_caller]
    fn notify_all(&self) {
        let op = self.op(Operation::NotifyAll, Location::caller());
        runtime::access(self.object, Kind::NotifyAll);
        op.done();
    }
}

/// A shared pointer of the explorer.
///
/// Its clones are no steps, and its drops only where it matters. Nothing but the last drop can
/// be told from outside (the trait has no count and no way back to the value), and that only
/// by what the value's destructor does on the platform. Where a destructor is seen to make a
/// step, the search begins again with every drop of a pointer to that type as a step, so that
/// each of the tasks gets to be the last.
///
/// ```
/// use selvedge_sim::explorer::{Explorer, SearchEnd};
/// use selvedge_sim::platform::Shared;
/// use selvedge_sim::{ExplorerArc, Observation};
///
/// let search = Explorer::default().run(|| {
///     let first = ExplorerArc::new(7);
///     let second = first.clone();
///     assert_eq!(*first, *second);
///     Observation::none()
/// });
/// assert_eq!(search.end, SearchEnd::Complete);
/// ```
#[derive(Debug)]
pub struct ExplorerArc<T: 'static> {
    object: ObjectId,
    /// Gone only while it is dropped.
    value: Option<sync::Arc<T>>,
}

impl<T: Send + Sync + 'static> platform::Shared<T> for ExplorerArc<T> {
    fn new(value: T) -> Self {
        ExplorerArc {
            object: ObjectId::new("shared pointer"),
            value: Some(sync::Arc::new(value)),
        }
    }
}

impl<T> Deref for ExplorerArc<T> {
    type Target = T;
    fn deref(&self) -> &T {
        (self.value.as_deref()).expect("INVARIANT: a pointer has its value until it is dropped")
    }
}

impl<T> Clone for ExplorerArc<T> {
    fn clone(&self) -> Self {
        ExplorerArc {
            object: self.object,
            value: self.value.clone(),
        }
    }
}

impl<T: 'static> Drop for ExplorerArc<T> {
    fn drop(&mut self) {
        runtime::drop_pointer(self.object, type_name::<T>());
        let last = self.value.take();
        let destruct = || drop(last);
        runtime::watch_destructor(type_name::<T>(), destruct);
    }
}

/// A task of a search.
///
/// ```
/// use selvedge_sim::explorer::{Explorer, SearchEnd};
/// use selvedge_sim::platform::{JoinHandle, Platform};
/// use selvedge_sim::{ExplorerJoinHandle, ExplorerPlatform, Observation};
///
/// let search = Explorer::default().run(|| {
///     let other: ExplorerJoinHandle<u32> = ExplorerPlatform::spawn(|| 7);
///     assert_eq!(other.join(), 7);
///     Observation::none()
/// });
/// assert_eq!(search.end, SearchEnd::Complete);
/// ```
#[derive(Debug)]
pub struct ExplorerJoinHandle<T> {
    task: u32,
    place: Place,
    result: sync::Arc<sync::Mutex<Option<T>>>,
}

impl<T> platform::JoinHandle<T> for ExplorerJoinHandle<T> {
    #[track_caller]
    fn join(self) -> T {
        let op = Pending::begin(me, Operation::Join, Place::NONE, Location::caller());
        let op = op.about(self.place);
        runtime::join(self.task);
        op.done();
        let result = self
            .result
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // A task that panics ends the execution, so nobody gets here.
        result.expect("INVARIANT: a task that ended without a panic left its result")
    }
}

/// Wakes a parked task of a search.
///
/// ```
/// use selvedge_sim::explorer::{Explorer, SearchEnd};
/// use selvedge_sim::platform::{Platform, Unpark};
/// use selvedge_sim::{ExplorerPlatform, ExplorerThread, Observation};
///
/// let search = Explorer::default().run(|| {
///     let me: ExplorerThread = ExplorerPlatform::current();
///     me.unpark();
///     // It was unparked before: it goes on at once.
///     ExplorerPlatform::park();
///     Observation::none()
/// });
/// assert_eq!(search.end, SearchEnd::Complete);
/// ```
#[derive(Clone, Debug)]
pub struct ExplorerThread {
    token: ObjectId,
    task: u64,
}

impl platform::Unpark for ExplorerThread {
    #[track_caller]
    fn unpark(&self) {
        let op = Pending::begin(me, Operation::Unpark, Place::NONE, Location::caller());
        let op = op.about(trace::place_of(self.task));
        runtime::access(self.token, Kind::Unpark);
        op.done();
    }
}
