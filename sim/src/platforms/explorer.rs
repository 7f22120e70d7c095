//! [`ExplorerPlatform`]: primitives that announce what they are about to do, so that the
//! explorer can tell which orders are worth trying.
//!
//! Sequentially consistent: every atomic access counts as `SeqCst` and a fence is nothing. The
//! values live in std's own types, which here are only ever used by one thread at a time and
//! never wait: who may go on is for the explorer to say.

use std::any::TypeId;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{self, PoisonError, TryLockError};
use std::time::Duration;

use selvedge_core::platform::{self, Ordering, Platform};

use crate::explorer::access::Kind;
use crate::explorer::runtime::{self, ObjectId};

/// Runs code under the explorer: see the [module](crate::explorer). Outside of a search its
/// types work as plain values of one thread.
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

    fn spawn<F, T>(f: F) -> Self::JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let result = sync::Arc::new(sync::Mutex::new(None));
        let told = sync::Arc::clone(&result);
        let task = runtime::spawn(Box::new(move || {
            let value = f();
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        }));
        ExplorerJoinHandle { task, result }
    }
    fn current() -> Self::Thread {
        ExplorerThread(runtime::current())
    }
    fn park() {
        runtime::access(runtime::current(), Kind::Park);
    }
    fn yield_now() {
        runtime::yield_now();
    }
    fn spin_loop() {
        runtime::yield_now();
    }
    fn fence(_order: Ordering) {}
}

/// A mutex of the explorer.
#[derive(Debug)]
pub struct ExplorerMutex<T> {
    object: ObjectId,
    value: sync::Mutex<T>,
}

impl<T> ExplorerMutex<T> {
    fn take(&self) -> ExplorerGuard<'_, T> {
        let guard = match self.value.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // A destructor of a task being unwound wants what another task still holds.
            Err(TryLockError::WouldBlock) => runtime::never(),
        };
        ExplorerGuard {
            guard: Some(guard),
            mutex: self,
        }
    }
}

impl<T: Send> platform::Mutex<T> for ExplorerMutex<T> {
    type Guard<'a>
        = ExplorerGuard<'a, T>
    where
        T: 'a;
    fn new(value: T) -> Self {
        ExplorerMutex {
            object: ObjectId::new("mutex"),
            value: sync::Mutex::new(value),
        }
    }
    fn lock(&self) -> ExplorerGuard<'_, T> {
        runtime::access(self.object, Kind::Lock);
        self.take()
    }
    fn try_lock(&self) -> Option<ExplorerGuard<'_, T>> {
        match runtime::access(self.object, Kind::Try) {
            Some(true) => Some(self.take()),
            Some(false) => None,
            None => {
                let guard = match self.value.try_lock() {
                    Ok(guard) => guard,
                    Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                    Err(TryLockError::WouldBlock) => return None,
                };
                Some(ExplorerGuard {
                    guard: Some(guard),
                    mutex: self,
                })
            }
        }
    }
    fn into_inner(self) -> T {
        self.value
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Access to what an [`ExplorerMutex`] guards.
#[derive(Debug)]
pub struct ExplorerGuard<'a, T> {
    /// Gone only while the lock is given up and in a guard that was taken apart.
    guard: Option<sync::MutexGuard<'a, T>>,
    mutex: &'a ExplorerMutex<T>,
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
            // The step first: until it is picked, the lock is still held.
            runtime::access(self.mutex.object, Kind::Unlock);
            self.guard = None;
        }
    }
}

/// A readers-writer lock of the explorer.
#[derive(Debug)]
pub struct ExplorerRwLock<T> {
    object: ObjectId,
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
    fn new(value: T) -> Self {
        ExplorerRwLock {
            object: ObjectId::new("readers-writer lock"),
            value: sync::RwLock::new(value),
        }
    }
    fn read(&self) -> ExplorerReadGuard<'_, T> {
        runtime::access(self.object, Kind::ReadLock);
        let guard = match self.value.try_read() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => runtime::never(),
        };
        ExplorerReadGuard {
            guard: Some(guard),
            object: self.object,
        }
    }
    fn write(&self) -> ExplorerWriteGuard<'_, T> {
        runtime::access(self.object, Kind::WriteLock);
        let guard = match self.value.try_write() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => runtime::never(),
        };
        ExplorerWriteGuard {
            guard: Some(guard),
            object: self.object,
        }
    }
}

/// Shared access to what an [`ExplorerRwLock`] guards.
#[derive(Debug)]
pub struct ExplorerReadGuard<'a, T> {
    guard: Option<sync::RwLockReadGuard<'a, T>>,
    object: ObjectId,
}

impl<T> Deref for ExplorerReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        (self.guard.as_deref()).expect("INVARIANT: a guard that can be reached holds the lock")
    }
}

impl<T> Drop for ExplorerReadGuard<'_, T> {
    fn drop(&mut self) {
        runtime::access(self.object, Kind::ReadUnlock);
        self.guard = None;
    }
}

/// Exclusive access to what an [`ExplorerRwLock`] guards.
#[derive(Debug)]
pub struct ExplorerWriteGuard<'a, T> {
    guard: Option<sync::RwLockWriteGuard<'a, T>>,
    object: ObjectId,
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
        runtime::access(self.object, Kind::WriteUnlock);
        self.guard = None;
    }
}

/// A condition variable of the explorer: a notification chooses any of those who wait.
///
/// A wait is three steps: get in line, unlock, lock again once notified. A notification
/// between the first two finds the task in line, as if it came after both.
#[derive(Debug)]
pub struct ExplorerCondvar(ObjectId);

impl platform::Condvar<ExplorerPlatform> for ExplorerCondvar {
    fn new() -> Self {
        ExplorerCondvar(ObjectId::new("condition variable"))
    }
    fn wait<'a, T: Send + 'static + 'a>(
        &self,
        guard: ExplorerGuard<'a, T>,
    ) -> ExplorerGuard<'a, T> {
        let mutex = guard.mutex;
        runtime::access(self.0, Kind::Enqueue);
        drop(guard);
        runtime::lock_when_notified(mutex.object);
        mutex.take()
    }
    fn wait_timeout<'a, T: Send + 'static + 'a>(
        &self,
        guard: ExplorerGuard<'a, T>,
        _timeout: Duration,
    ) -> (ExplorerGuard<'a, T>, bool) {
        let mutex = guard.mutex;
        runtime::access(self.0, Kind::Enqueue);
        drop(guard);
        let notified = runtime::return_from_wait(self.0);
        runtime::access(mutex.object, Kind::Lock);
        (mutex.take(), !notified)
    }
    fn notify_one(&self) {
        runtime::access(self.0, Kind::NotifyOne);
    }
    fn notify_all(&self) {
        runtime::access(self.0, Kind::NotifyAll);
    }
}

/// A shared pointer of the explorer.
///
/// Its clones are no steps, and its drops only where it matters. Nothing but the last drop can
/// be told from outside (the trait has no count and no way back to the value), and that only
/// by what the value's destructor does on the platform. Where a destructor is seen to make a
/// step, the search begins again with every drop of a pointer to that type as a step, so that
/// each of the tasks gets to be the last.
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
        runtime::drop_pointer(self.object, TypeId::of::<T>());
        let last = self.value.take();
        let destruct = || drop(last);
        runtime::watch_destructor(TypeId::of::<T>(), destruct);
    }
}

/// A task of a search.
#[derive(Debug)]
pub struct ExplorerJoinHandle<T> {
    task: u32,
    result: sync::Arc<sync::Mutex<Option<T>>>,
}

impl<T> platform::JoinHandle<T> for ExplorerJoinHandle<T> {
    fn join(self) -> T {
        runtime::join(self.task);
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
#[derive(Clone, Debug)]
pub struct ExplorerThread(ObjectId);

impl platform::Unpark for ExplorerThread {
    fn unpark(&self) {
        runtime::access(self.0, Kind::Unpark);
    }
}

/// An atomic of the explorer.
pub struct ExplorerAtomic<A> {
    object: ObjectId,
    value: A,
}

impl<A: fmt::Debug> fmt::Debug for ExplorerAtomic<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<A> ExplorerAtomic<A> {
    fn of(value: A) -> Self {
        ExplorerAtomic {
            object: ObjectId::new("atomic"),
            value,
        }
    }

    fn read<V>(&self, read: impl FnOnce(&A) -> V) -> V {
        runtime::access(self.object, Kind::Read);
        read(&self.value)
    }

    /// An access that may write. Where it leaves the value as it was, it could be told from
    /// a read by nobody, and counts as one: that is how a failed exchange is none.
    fn write<V: PartialEq, R>(&self, look: impl Fn(&A) -> V, write: impl FnOnce(&A) -> R) -> R {
        runtime::access(self.object, Kind::Write);
        let before = look(&self.value);
        let result = write(&self.value);
        if look(&self.value) == before {
            runtime::was_a_read();
        }
        result
    }
}

// ORDERING: SeqCst, all. One thread runs all tasks, and they are to see one order of steps.
const ORDER: Ordering = Ordering::SeqCst;

macro_rules! explorer_atomics {
    ($($atomic:ident: $value:ty),*) => {$(
        impl platform::Atomic<$value> for ExplorerAtomic<sync::atomic::$atomic> {
            fn new(value: $value) -> Self {
                ExplorerAtomic::of(sync::atomic::$atomic::new(value))
            }
            fn load(&self, _: Ordering) -> $value {
                self.read(|cell| cell.load(ORDER))
            }
            fn store(&self, value: $value, _: Ordering) {
                self.write(|cell| cell.load(ORDER), |cell| cell.store(value, ORDER));
            }
            fn swap(&self, value: $value, _: Ordering) -> $value {
                self.write(|cell| cell.load(ORDER), |cell| cell.swap(value, ORDER))
            }
            fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                _: Ordering,
                _: Ordering,
            ) -> Result<$value, $value> {
                self.write(
                    |cell| cell.load(ORDER),
                    |cell| cell.compare_exchange(current, new, ORDER, ORDER),
                )
            }
        }
    )*};
}
macro_rules! explorer_integers {
    ($($atomic:ident: $value:ty),*) => {$(
        impl platform::AtomicInt<$value> for ExplorerAtomic<sync::atomic::$atomic> {
            fn fetch_add(&self, value: $value, _: Ordering) -> $value {
                self.write(|cell| cell.load(ORDER), |cell| cell.fetch_add(value, ORDER))
            }
            fn fetch_sub(&self, value: $value, _: Ordering) -> $value {
                self.write(|cell| cell.load(ORDER), |cell| cell.fetch_sub(value, ORDER))
            }
            fn fetch_and(&self, value: $value, _: Ordering) -> $value {
                self.write(|cell| cell.load(ORDER), |cell| cell.fetch_and(value, ORDER))
            }
            fn fetch_or(&self, value: $value, _: Ordering) -> $value {
                self.write(|cell| cell.load(ORDER), |cell| cell.fetch_or(value, ORDER))
            }
            fn fetch_max(&self, value: $value, _: Ordering) -> $value {
                self.write(|cell| cell.load(ORDER), |cell| cell.fetch_max(value, ORDER))
            }
        }
    )*};
}
explorer_atomics!(AtomicBool: bool, AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);
explorer_integers!(AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);
