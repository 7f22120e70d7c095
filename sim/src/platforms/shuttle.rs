//! [`ShuttlePlatform`]: shuttle's primitives, sequentially consistent, scheduled by whichever
//! scheduler drives the run.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

use selvedge_core::platform::{self, Ordering, Platform};

use super::Cell;
use shuttle::sync::atomic::{
    self, AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
};
use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use shuttle::thread;

/// Runs code under shuttle. Use it inside a shuttle run only.
///
/// Every atomic access counts as `SeqCst` whatever it says, so no weak-memory bug shows here;
/// that is loom's part. A timed wait is a *choice*: shuttle's own never fires, ours may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShuttlePlatform;

impl Platform for ShuttlePlatform {
    const NAME: &'static str = "shuttle";
    type Mutex<T: Send + 'static> = ShuttleMutex<T>;
    type RwLock<T: Send + Sync + 'static> = ShuttleRwLock<T>;
    type Condvar = ShuttleCondvar;
    type Arc<T: Send + Sync + 'static> = ShuttleArc<T>;
    type AtomicBool = Cell<AtomicBool>;
    type AtomicU8 = Cell<AtomicU8>;
    type AtomicU16 = Cell<AtomicU16>;
    type AtomicU32 = Cell<AtomicU32>;
    type AtomicU64 = Cell<AtomicU64>;
    type AtomicUsize = Cell<AtomicUsize>;
    type JoinHandle<T: Send + 'static> = ShuttleJoinHandle<T>;
    type Thread = ShuttleThread;

    #[track_caller]
    fn spawn<F, T>(f: F) -> Self::JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        ShuttleJoinHandle(thread::spawn(f))
    }
    fn current() -> Self::Thread {
        ShuttleThread(thread::current())
    }
    fn park() {
        thread::park();
    }
    fn yield_now() {
        thread::yield_now();
    }
    fn spin_loop() {
        shuttle::hint::spin_loop();
    }
    fn fence(order: Ordering) {
        atomic::fence(order);
    }
}

/// Shuttle's mutex.
#[derive(Debug)]
pub struct ShuttleMutex<T>(Mutex<T>);

impl<T: Send> platform::Mutex<T> for ShuttleMutex<T> {
    type Guard<'a>
        = ShuttleGuard<'a, T>
    where
        T: 'a;
    fn new(value: T) -> Self {
        ShuttleMutex(Mutex::new(value))
    }
    fn lock(&self) -> ShuttleGuard<'_, T> {
        ShuttleGuard {
            guard: self.0.lock().unwrap_or_else(PoisonError::into_inner),
            mutex: &self.0,
        }
    }
    fn try_lock(&self) -> Option<ShuttleGuard<'_, T>> {
        let guard = match self.0.try_lock() {
            Ok(guard) => guard,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        Some(ShuttleGuard {
            guard,
            mutex: &self.0,
        })
    }
    fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shuttle's guard, and the mutex it came from: a timed wait unlocks and locks again itself.
#[derive(Debug)]
pub struct ShuttleGuard<'a, T> {
    guard: MutexGuard<'a, T>,
    mutex: &'a Mutex<T>,
}

impl<T> std::ops::Deref for ShuttleGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> std::ops::DerefMut for ShuttleGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// Shuttle's readers-writer lock.
#[derive(Debug)]
pub struct ShuttleRwLock<T>(RwLock<T>);

impl<T: Send + Sync> platform::RwLock<T> for ShuttleRwLock<T> {
    type ReadGuard<'a>
        = RwLockReadGuard<'a, T>
    where
        T: 'a;
    type WriteGuard<'a>
        = RwLockWriteGuard<'a, T>
    where
        T: 'a;
    fn new(value: T) -> Self {
        ShuttleRwLock(RwLock::new(value))
    }
    fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often timed waits on one condition variable may time out while others could still run.
/// Past it a wait times out only after the others had [`PATIENCE`] turns, so that a loop
/// around a timed wait ends, and a time-out never hides a deadlock for good.
const EARLY_TIMEOUTS: u32 = 4;
const PATIENCE: u32 = 100;

/// A condition variable whose timed waits are a choice of the scheduler.
///
/// One thing it does not show: a timed waiter that takes a `notify_one` away from an untimed
/// one. While somebody waits without a limit, timed waiters only time out.
///
/// The bookkeeping uses std's own mutex: shuttle runs one task at a time and switches only
/// inside its own primitives, none of which is called while it is locked.
#[derive(Debug)]
pub struct ShuttleCondvar {
    untimed: Condvar,
    book: std::sync::Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    untimed_waiters: u32,
    /// Tickets of those who wait with a time limit and were not notified yet.
    timed_waiters: VecDeque<u64>,
    next_ticket: u64,
    early_timeouts: u32,
}

impl ShuttleCondvar {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl platform::Condvar<ShuttlePlatform> for ShuttleCondvar {
    fn new() -> Self {
        ShuttleCondvar {
            untimed: Condvar::new(),
            book: std::sync::Mutex::default(),
        }
    }
    fn wait<'a, T: Send + 'static + 'a>(&self, guard: ShuttleGuard<'a, T>) -> ShuttleGuard<'a, T> {
        self.book().untimed_waiters += 1;
        let mutex = guard.mutex;
        let guard = (self.untimed.wait(guard.guard)).unwrap_or_else(PoisonError::into_inner);
        self.book().untimed_waiters -= 1;
        ShuttleGuard { guard, mutex }
    }
    fn wait_timeout<'a, T: Send + 'static + 'a>(
        &self,
        guard: ShuttleGuard<'a, T>,
        _timeout: Duration,
    ) -> (ShuttleGuard<'a, T>, bool) {
        let mutex = guard.mutex;
        let ticket = {
            let mut book = self.book();
            book.next_ticket += 1;
            let ticket = book.next_ticket;
            book.timed_waiters.push_back(ticket);
            ticket
        };
        drop(guard);
        let mut turns = 0;
        // Being scheduled again before anybody notified *is* the time-out.
        let timed_out = loop {
            thread::yield_now();
            let mut book = self.book();
            let Some(place) = book.timed_waiters.iter().position(|&t| t == ticket) else {
                break false;
            };
            if book.early_timeouts < EARLY_TIMEOUTS || turns >= PATIENCE {
                book.early_timeouts += 1;
                book.timed_waiters.remove(place);
                break true;
            }
            turns += 1;
        };
        let guard = ShuttleGuard {
            guard: mutex.lock().unwrap_or_else(PoisonError::into_inner),
            mutex,
        };
        (guard, timed_out)
    }
    fn notify_one(&self) {
        // Timed waiters are woken only where nobody waits without a limit: one of them that is
        // passed over times out instead, which it may at any moment anyway.
        let mut book = self.book();
        if book.untimed_waiters == 0 {
            book.timed_waiters.pop_front();
        }
        drop(book);
        self.untimed.notify_one();
    }
    fn notify_all(&self) {
        self.book().timed_waiters.clear();
        self.untimed.notify_all();
    }
}

/// Shuttle's shared pointer.
#[derive(Debug)]
pub struct ShuttleArc<T>(Arc<T>);

impl<T: Send + Sync> platform::Shared<T> for ShuttleArc<T> {
    fn new(value: T) -> Self {
        ShuttleArc(Arc::new(value))
    }
}

impl<T> std::ops::Deref for ShuttleArc<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Clone for ShuttleArc<T> {
    fn clone(&self) -> Self {
        ShuttleArc(self.0.clone())
    }
}

/// A task of a shuttle run.
#[derive(Debug)]
pub struct ShuttleJoinHandle<T>(thread::JoinHandle<T>);

impl<T> platform::JoinHandle<T> for ShuttleJoinHandle<T> {
    fn join(self) -> T {
        (self.0.join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Wakes a parked task of a shuttle run.
#[derive(Clone, Debug)]
pub struct ShuttleThread(thread::Thread);

impl platform::Unpark for ShuttleThread {
    fn unpark(&self) {
        self.0.unpark();
    }
}

atomics!(AtomicBool: bool, AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);
atomic_ints!(AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);
