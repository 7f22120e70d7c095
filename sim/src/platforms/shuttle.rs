//! [`ShuttlePlatform`]: shuttle's primitives, sequentially consistent, scheduled by whichever
//! scheduler drives the run.

use std::any::type_name;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::PoisonError;
use std::time::Duration;

use selvedge_core::platform::{self, Ordering, Platform};

use super::{BoxedResult, Cell, Held, boxed, is_no_limit, unboxed};
use crate::trace::{self, ObjectKind, Operation, Pending, Place, Word};
use shuttle::sync::atomic::{
    self, AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
};
use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use shuttle::thread;

/// Runs code under shuttle. Use it inside a shuttle run only.
///
/// Every atomic access counts as `SeqCst` whatever it says, so no weak-memory bug shows here;
/// that is loom's part. A timed wait is a *choice*: shuttle's own never fires, ours may.
///
/// ```
/// use selvedge_sim::platform::{JoinHandle, Platform};
/// use selvedge_sim::ShuttlePlatform;
///
/// shuttle::check_random(
///     || {
///         let other = ShuttlePlatform::spawn(|| 1 + 1);
///         assert_eq!(other.join(), 2);
///     },
///     10,
/// );
/// ```
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
        let place = trace::spawned(me, Location::caller());
        let handle = thread::spawn(boxed(me, place, f));
        trace::resumed(me);
        ShuttleJoinHandle {
            handle,
            place,
            result: PhantomData,
        }
    }
    fn current() -> Self::Thread {
        ShuttleThread(thread::current())
    }
    #[track_caller]
    fn park() {
        let op = Pending::begin(me, Operation::Park, Place::NONE, Location::caller());
        thread::park();
        op.done();
    }
    #[track_caller]
    fn yield_now() {
        let op = Pending::begin(me, Operation::Yield, Place::NONE, Location::caller());
        thread::yield_now();
        op.done();
    }
    #[track_caller]
    fn spin_loop() {
        let op = Pending::begin(me, Operation::Yield, Place::NONE, Location::caller());
        shuttle::hint::spin_loop();
        op.done();
    }
    fn fence(order: Ordering) {
        atomic::fence(order);
    }
}

/// The running task's number, for the recorder.
pub(crate) fn me() -> u64 {
    number_of(&thread::current())
}

fn number_of(thread: &thread::Thread) -> u64 {
    let mut hasher = DefaultHasher::new();
    thread.id().hash(&mut hasher);
    hasher.finish()
}

/// Shuttle's mutex.
///
/// ```
/// use selvedge_sim::platform::Mutex;
/// use selvedge_sim::ShuttleMutex;
///
/// shuttle::check_random(
///     || {
///         let lock = ShuttleMutex::new(1);
///         *lock.lock() += 1;
///         assert_eq!(lock.into_inner(), 2);
///     },
///     10,
/// );
/// ```
#[derive(Debug)]
pub struct ShuttleMutex<T> {
    mutex: Mutex<T>,
    place: Place,
}

impl<T> ShuttleMutex<T> {
    fn lock_at(&self, site: &'static Location<'static>) -> ShuttleGuard<'_, T> {
        let op = Pending::begin(me, Operation::Lock, self.place, site);
        let guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        op.done();
        self.guard(guard, site)
    }

    fn guard<'a>(
        &'a self,
        guard: MutexGuard<'a, T>,
        site: &'static Location<'static>,
    ) -> ShuttleGuard<'a, T> {
        ShuttleGuard {
            guard: Some(guard),
            mutex: self,
            site,
        }
    }
}

impl<T: Send> platform::Mutex<T> for ShuttleMutex<T> {
    type Guard<'a>
        = ShuttleGuard<'a, T>
    where
        T: 'a;
    #[track_caller]
    fn new(value: T) -> Self {
        ShuttleMutex {
            mutex: Mutex::new(value),
            place: trace::created(me, ObjectKind::Mutex, type_name::<T>, Location::caller()),
        }
    }
    #[track_caller]
    fn lock(&self) -> ShuttleGuard<'_, T> {
        self.lock_at(Location::caller())
    }
    #[track_caller]
    fn try_lock(&self) -> Option<ShuttleGuard<'_, T>> {
        let site = Location::caller();
        let op = Pending::begin(me, Operation::TryLock, self.place, site);
        let guard = match self.mutex.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        };
        op.done_if(guard.is_some());
        guard.map(|guard| self.guard(guard, site))
    }
    fn into_inner(self) -> T {
        (self.mutex.into_inner()).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shuttle's guard, and the mutex it came from: a timed wait unlocks and locks again itself.
///
/// ```
/// use selvedge_sim::platform::Mutex;
/// use selvedge_sim::{ShuttleGuard, ShuttleMutex};
///
/// shuttle::check_random(
///     || {
///         let lock = ShuttleMutex::new(1);
///         let mut guard: ShuttleGuard<'_, u32> = lock.lock();
///         *guard += 1;
///         assert!(lock.try_lock().is_none());
///     },
///     10,
/// );
/// ```
#[derive(Debug)]
pub struct ShuttleGuard<'a, T> {
    /// Gone only while it is dropped or handed to a wait.
    guard: Option<MutexGuard<'a, T>>,
    mutex: &'a ShuttleMutex<T>,
    site: &'static Location<'static>,
}

impl<T> Deref for ShuttleGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        (self.guard.as_deref()).expect("INVARIANT: a guard that can be reached holds the lock")
    }
}

impl<T> DerefMut for ShuttleGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        (self.guard.as_deref_mut()).expect("INVARIANT: a guard that can be reached holds the lock")
    }
}

impl<T> Drop for ShuttleGuard<'_, T> {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            let op = Pending::begin(me, Operation::Unlock, self.mutex.place, self.site);
            drop(guard);
            op.done();
        }
    }
}

/// Shuttle's readers-writer lock.
///
/// ```
/// use selvedge_sim::platform::RwLock;
/// use selvedge_sim::ShuttleRwLock;
///
/// shuttle::check_random(
///     || {
///         let lock = ShuttleRwLock::new(1);
///         *lock.write() += 1;
///         assert_eq!(*lock.read(), 2);
///     },
///     10,
/// );
/// ```
#[derive(Debug)]
pub struct ShuttleRwLock<T> {
    lock: RwLock<T>,
    place: Place,
}

impl<T: Send + Sync> platform::RwLock<T> for ShuttleRwLock<T> {
    type ReadGuard<'a>
        = Held<RwLockReadGuard<'a, T>>
    where
        T: 'a;
    type WriteGuard<'a>
        = Held<RwLockWriteGuard<'a, T>>
    where
        T: 'a;
    #[track_caller]
    fn new(value: T) -> Self {
        ShuttleRwLock {
            lock: RwLock::new(value),
            place: trace::created(me, ObjectKind::RwLock, type_name::<T>, Location::caller()),
        }
    }
    #[track_caller]
    fn read(&self) -> Held<RwLockReadGuard<'_, T>> {
        let site = Location::caller();
        let op = Pending::begin(me, Operation::ReadLock, self.place, site);
        let guard = self.lock.read().unwrap_or_else(PoisonError::into_inner);
        op.done();
        Held::new(guard, me, self.place, site, Operation::ReadUnlock)
    }
    #[track_caller]
    fn write(&self) -> Held<RwLockWriteGuard<'_, T>> {
        let site = Location::caller();
        let op = Pending::begin(me, Operation::WriteLock, self.place, site);
        let guard = self.lock.write().unwrap_or_else(PoisonError::into_inner);
        op.done();
        Held::new(guard, me, self.place, site, Operation::WriteUnlock)
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
///
/// ```
/// use selvedge_sim::platform::{Condvar, JoinHandle, Mutex, Platform, Shared};
/// use selvedge_sim::{ShuttleArc, ShuttleCondvar, ShuttleMutex, ShuttlePlatform};
///
/// shuttle::check_random(
///     || {
///         let pair = ShuttleArc::new((ShuttleMutex::new(false), ShuttleCondvar::new()));
///         let theirs = pair.clone();
///         let other = ShuttlePlatform::spawn(move || {
///             *theirs.0.lock() = true;
///             theirs.1.notify_one();
///         });
///         let mut is_set = pair.0.lock();
///         while !*is_set {
///             is_set = pair.1.wait(is_set);
///         }
///         drop(is_set);
///         other.join();
///     },
///     10,
/// );
/// ```
#[derive(Debug)]
pub struct ShuttleCondvar {
    untimed: Condvar,
    place: Place,
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

    fn op(&self, operation: Operation, site: &'static Location<'static>) -> Pending {
        Pending::begin(me, operation, self.place, site)
    }
}

impl platform::Condvar<ShuttlePlatform> for ShuttleCondvar {
    #[track_caller]
    fn new() -> Self {
        ShuttleCondvar {
            untimed: Condvar::new(),
            place: trace::created(me, ObjectKind::Condvar, || "", Location::caller()),
            book: std::sync::Mutex::default(),
        }
    }
    #[track_caller]
    fn wait<'a, T: Send + 'static + 'a>(
        &self,
        mut guard: ShuttleGuard<'a, T>,
    ) -> ShuttleGuard<'a, T> {
        let (mutex, site) = (guard.mutex, Location::caller());
        self.book().untimed_waiters += 1;
        // Shuttle does all of it at once, so it is told before and after.
        self.op(Operation::Wait, site).done();
        Pending::begin(me, Operation::Unlock, mutex.place, guard.site).done();
        let woken = self.op(Operation::Wake, site);
        let inner = (guard.guard.take()).expect("INVARIANT: a guard holds the lock");
        let inner = (self.untimed.wait(inner)).unwrap_or_else(PoisonError::into_inner);
        woken.done();
        Pending::begin(me, Operation::Lock, mutex.place, site).done();
        self.book().untimed_waiters -= 1;
        mutex.guard(inner, site)
    }
    #[track_caller]
    fn wait_timeout<'a, T: Send + 'static + 'a>(
        &self,
        guard: ShuttleGuard<'a, T>,
        timeout: Duration,
    ) -> (ShuttleGuard<'a, T>, bool) {
        if is_no_limit(timeout) {
            return (self.wait(guard), false);
        }
        let (mutex, site) = (guard.mutex, Location::caller());
        let ticket = {
            let mut book = self.book();
            book.next_ticket += 1;
            let ticket = book.next_ticket;
            book.timed_waiters.push_back(ticket);
            ticket
        };
        self.op(Operation::Wait, site).done();
        drop(guard);
        let woken = self.op(Operation::Wake, site);
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
        woken.done_if(!timed_out);
        (mutex.lock_at(site), timed_out)
    }
    #[track_caller]
    fn notify_one(&self) {
        let op = self.op(Operation::NotifyOne, Location::caller());
        // Timed waiters are woken only where nobody waits without a limit: one of them that is
        // passed over times out instead, which it may at any moment anyway.
        let mut book = self.book();
        if book.untimed_waiters == 0 {
            book.timed_waiters.pop_front();
        }
        drop(book);
        self.untimed.notify_one();
        op.done();
    }
    #[track_caller]
    fn notify_all(&self) {
        let op = self.op(Operation::NotifyAll, Location::caller());
        self.book().timed_waiters.clear();
        self.untimed.notify_all();
        op.done();
    }
}

/// Shuttle's shared pointer.
///
/// ```
/// use selvedge_sim::platform::Shared;
/// use selvedge_sim::ShuttleArc;
///
/// shuttle::check_random(
///     || {
///         let first = ShuttleArc::new(7);
///         let second = first.clone();
///         assert_eq!(*first, *second);
///     },
///     10,
/// );
/// ```
#[derive(Debug)]
pub struct ShuttleArc<T>(Arc<T>);

impl<T: Send + Sync> platform::Shared<T> for ShuttleArc<T> {
    fn new(value: T) -> Self {
        ShuttleArc(Arc::new(value))
    }
}

impl<T> Deref for ShuttleArc<T> {
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
///
/// ```
/// use selvedge_sim::platform::{JoinHandle, Platform};
/// use selvedge_sim::{ShuttleJoinHandle, ShuttlePlatform};
///
/// shuttle::check_random(
///     || {
///         let other: ShuttleJoinHandle<u32> = ShuttlePlatform::spawn(|| 7);
///         assert_eq!(other.join(), 7);
///     },
///     10,
/// );
/// ```
#[derive(Debug)]
pub struct ShuttleJoinHandle<T> {
    handle: thread::JoinHandle<BoxedResult>,
    place: Place,
    result: PhantomData<T>,
}

impl<T: 'static> platform::JoinHandle<T> for ShuttleJoinHandle<T> {
    #[track_caller]
    fn join(self) -> T {
        let op = Pending::begin(me, Operation::Join, Place::NONE, Location::caller());
        let op = op.about(self.place);
        let result = (self.handle.join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        op.done();
        unboxed(result)
    }
}

/// Wakes a parked task of a shuttle run.
///
/// ```
/// use selvedge_sim::platform::{Platform, Unpark};
/// use selvedge_sim::{ShuttlePlatform, ShuttleThread};
///
/// shuttle::check_random(
///     || {
///         let me: ShuttleThread = ShuttlePlatform::current();
///         me.unpark();
///         // It was unparked before: it goes on at once.
///         ShuttlePlatform::park();
///     },
///     10,
/// );
/// ```
#[derive(Clone, Debug)]
pub struct ShuttleThread(thread::Thread);

impl platform::Unpark for ShuttleThread {
    #[track_caller]
    fn unpark(&self) {
        let op = Pending::begin(me, Operation::Unpark, Place::NONE, Location::caller());
        let op = op.about(trace::place_of(number_of(&self.0)));
        self.0.unpark();
        op.done();
    }
}

atomics!(AtomicBool: bool, AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);
atomic_ints!(AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);
