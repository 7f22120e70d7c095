//! [`Unlocked`]: a platform for one thread, whose locks are none. What the same code costs on it
//! is what it costs without its locks; nobody else must ever use it.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a bench's peer is written against std"
)]

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, atomic};
use std::thread;
use std::time::Duration;

use selvedge_core::platform::{Condvar, Mutex, Ordering, Platform, RwLock};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Unlocked;

/// A cell that says it is a lock.
pub(crate) struct Cell<T>(UnsafeCell<T>);

#[allow(
    unsafe_code,
    reason = "a lock that costs nothing can be had only by saying what is not true of threads; \
              this bench has one"
)]
mod one_thread {
    use super::Cell;

    // SAFETY: nothing of this platform ever leaves the bench's one thread.
    unsafe impl<T: Send> Sync for Cell<T> {}

    impl<T> Cell<T> {
        #[inline]
        #[expect(clippy::mut_from_ref, reason = "as a lock's guard would")]
        pub(super) fn get(&self) -> &mut T {
            // SAFETY: one thread, and what it runs never locks what it has locked: on `Std`
            // it would hang.
            unsafe { &mut *self.0.get() }
        }
    }
}

pub(crate) struct Guard<'a, T>(&'a mut T);

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        self.0
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.0
    }
}

impl<T: Send> Mutex<T> for Cell<T> {
    type Guard<'a>
        = Guard<'a, T>
    where
        T: 'a;
    fn new(value: T) -> Self {
        Cell(UnsafeCell::new(value))
    }
    #[inline]
    fn lock(&self) -> Guard<'_, T> {
        Guard(self.get())
    }
    fn try_lock(&self) -> Option<Guard<'_, T>> {
        Some(self.lock())
    }
    fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: Send + Sync> RwLock<T> for Cell<T> {
    type ReadGuard<'a>
        = Guard<'a, T>
    where
        T: 'a;
    type WriteGuard<'a>
        = Guard<'a, T>
    where
        T: 'a;
    fn new(value: T) -> Self {
        Cell(UnsafeCell::new(value))
    }
    fn read(&self) -> Guard<'_, T> {
        Guard(self.get())
    }
    fn write(&self) -> Guard<'_, T> {
        Guard(self.get())
    }
}

/// Nobody is there to notify anybody.
pub(crate) struct Nobody;

impl Condvar<Unlocked> for Nobody {
    fn new() -> Self {
        Nobody
    }
    fn wait<'a, T: Send + 'static + 'a>(&self, _: Guard<'a, T>) -> Guard<'a, T> {
        panic!("the only thread would wait for ever")
    }
    fn wait_timeout<'a, T: Send + 'static + 'a>(
        &self,
        guard: Guard<'a, T>,
        _: Duration,
    ) -> (Guard<'a, T>, bool) {
        (guard, true)
    }
    fn notify_one(&self) {}
    fn notify_all(&self) {}
}

impl Platform for Unlocked {
    const NAME: &'static str = "unlocked";
    type Mutex<T: Send + 'static> = Cell<T>;
    type RwLock<T: Send + Sync + 'static> = Cell<T>;
    type Condvar = Nobody;
    type Arc<T: Send + Sync + 'static> = Arc<T>;
    type AtomicBool = atomic::AtomicBool;
    type AtomicU8 = atomic::AtomicU8;
    type AtomicU16 = atomic::AtomicU16;
    type AtomicU32 = atomic::AtomicU32;
    type AtomicU64 = atomic::AtomicU64;
    type AtomicUsize = atomic::AtomicUsize;
    type JoinHandle<T: Send + 'static> = thread::JoinHandle<T>;
    type Thread = thread::Thread;

    fn spawn<F, T>(_: F) -> thread::JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        panic!("a second thread would break what this platform rests on")
    }
    fn current() -> thread::Thread {
        thread::current()
    }
    fn park() {}
    fn yield_now() {}
    fn spin_loop() {}
    fn fence(_: Ordering) {}
}
