//! [`Std`]: the platform that ships. The only file of this crate that names `std::sync` or
//! `std::thread`; the clippy configuration of the crate keeps it so.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this file is where the platform's traits meet std"
)]

use std::sync::atomic;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::sync::{RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::Duration;

use super::{Ordering, Platform};

/// Real threads and std's own primitives, each called directly: a function over `Platform`
/// compiles to the same code as one written against std (the `block_pool` bench compares).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Std;

impl Platform for Std {
    const NAME: &'static str = "std";
    type Mutex<T: Send + 'static> = Mutex<T>;
    type RwLock<T: Send + Sync + 'static> = RwLock<T>;
    type Condvar = Condvar;
    type Arc<T: Send + Sync + 'static> = Arc<T>;
    type AtomicBool = atomic::AtomicBool;
    type AtomicU8 = atomic::AtomicU8;
    type AtomicU16 = atomic::AtomicU16;
    type AtomicU32 = atomic::AtomicU32;
    type AtomicU64 = atomic::AtomicU64;
    type AtomicUsize = atomic::AtomicUsize;
    type JoinHandle<T: Send + 'static> = thread::JoinHandle<T>;
    type Thread = thread::Thread;

    fn spawn<F, T>(f: F) -> Self::JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        thread::spawn(f)
    }
    fn current() -> Self::Thread {
        thread::current()
    }
    fn park() {
        thread::park();
    }
    fn yield_now() {
        thread::yield_now();
    }
    fn spin_loop() {
        std::hint::spin_loop();
    }
    fn fence(order: Ordering) {
        atomic::fence(order);
    }
}

impl<T: Send> super::Mutex<T> for Mutex<T> {
    type Guard<'a>
        = MutexGuard<'a, T>
    where
        T: 'a;
    #[inline]
    fn new(value: T) -> Self {
        Mutex::new(value)
    }
    #[inline]
    fn lock(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
    #[inline]
    fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
    fn into_inner(self) -> T {
        self.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + Sync> super::RwLock<T> for RwLock<T> {
    type ReadGuard<'a>
        = RwLockReadGuard<'a, T>
    where
        T: 'a;
    type WriteGuard<'a>
        = RwLockWriteGuard<'a, T>
    where
        T: 'a;
    fn new(value: T) -> Self {
        RwLock::new(value)
    }
    fn read(&self) -> RwLockReadGuard<'_, T> {
        self.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl super::Condvar<Std> for Condvar {
    fn new() -> Self {
        Condvar::new()
    }
    fn wait<'a, T: Send + 'static + 'a>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }
    fn wait_timeout<'a, T: Send + 'static + 'a>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        let (guard, result) = self
            .wait_timeout(guard, timeout)
            .unwrap_or_else(PoisonError::into_inner);
        (guard, result.timed_out())
    }
    fn notify_one(&self) {
        self.notify_one();
    }
    fn notify_all(&self) {
        self.notify_all();
    }
}

impl<T: Send + Sync> super::Shared<T> for Arc<T> {
    #[inline]
    fn new(value: T) -> Self {
        Arc::new(value)
    }
}

impl<T> super::JoinHandle<T> for thread::JoinHandle<T> {
    fn join(self) -> T {
        self.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl super::Unpark for thread::Thread {
    fn unpark(&self) {
        self.unpark();
    }
}

macro_rules! atomic {
    ($($cell:ident: $value:ty),*) => {$(
        impl super::Atomic<$value> for atomic::$cell {
            #[inline]
            fn new(value: $value) -> Self {
                atomic::$cell::new(value)
            }
            #[inline]
            fn load(&self, order: Ordering) -> $value {
                self.load(order)
            }
            #[inline]
            fn store(&self, value: $value, order: Ordering) {
                self.store(value, order);
            }
            #[inline]
            fn swap(&self, value: $value, order: Ordering) -> $value {
                self.swap(value, order)
            }
            #[inline]
            fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }
        }
    )*};
}
macro_rules! atomic_int {
    ($($cell:ident: $value:ty),*) => {$(
        impl super::AtomicInt<$value> for atomic::$cell {
            #[inline]
            fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                self.fetch_add(value, order)
            }
            #[inline]
            fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                self.fetch_sub(value, order)
            }
            #[inline]
            fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                self.fetch_and(value, order)
            }
            #[inline]
            fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                self.fetch_or(value, order)
            }
            #[inline]
            fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                self.fetch_max(value, order)
            }
        }
    )*};
}
atomic!(AtomicBool: bool, AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);
atomic_int!(AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);

/// A number no other of the last 2^32 calls of this process has returned.
///
/// Pools draw their identity from it. It is deliberately outside [`Platform`]: identities
/// decide nothing about the order of events, so no checker needs to explore them.
pub(crate) fn process_unique() -> u32 {
    static NEXT: atomic::AtomicU32 = atomic::AtomicU32::new(1);
    // ORDERING: Relaxed. Only distinctness matters, and a read-modify-write gives that alone.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A value that the whole process has one of: what a panic hook or a signal finds its way by.
///
/// As [`process_unique`] it is deliberately outside [`Platform`]: what belongs to the process is
/// out of any checker's reach.
#[cfg(feature = "profiler")]
pub(crate) struct ProcessWide<T>(std::sync::OnceLock<T>);

#[cfg(feature = "profiler")]
impl<T> ProcessWide<T> {
    pub(crate) const fn new() -> Self {
        ProcessWide(std::sync::OnceLock::new())
    }
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.get()
    }
    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.0.get_or_init(make)
    }
}

/// Whether this thread is being unwound.
#[cfg(feature = "profiler")]
pub(crate) fn panicking() -> bool {
    thread::panicking()
}

/// A thread that nobody waits for.
///
/// # Errors
/// What the system says, where it has no room for one.
#[cfg(feature = "profiler")]
pub(crate) fn spawn_named(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map(drop)
}
