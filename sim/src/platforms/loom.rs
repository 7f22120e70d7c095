//! [`LoomPlatform`]: loom's primitives, which model C11-like weak memory.

use std::any::type_name;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::Location;
use std::time::Duration;

use loom::sync::atomic::{
    self, AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
};
use loom::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use loom::thread;
use selvedge_core::platform::{self, Ordering, Platform};

use super::{BoxedResult, Cell, Held, boxed, unboxed};
use crate::trace::{self, ObjectKind, Operation, Pending, Place, Word};

/// Runs code under loom. Use it inside a loom model only.
///
/// What loom does not model, and what happens here instead: a timed wait never times out; a
/// `SeqCst` access counts as acquire-release (use fences); loads are never reordered after
/// stores that follow them; at most five threads with the main one.
///
/// ```
/// use selvedge_sim::platform::{JoinHandle, Platform};
/// use selvedge_sim::LoomPlatform;
///
/// loom::model(|| {
///     let other = LoomPlatform::spawn(|| 1 + 1);
///     assert_eq!(other.join(), 2);
/// });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LoomPlatform;

/// In machine words. Loom's own default of 4,096 is short for a thread that formats a message.
const STACK_WORDS: usize = 0x8000;

impl Platform for LoomPlatform {
    const NAME: &'static str = "loom";
    type Mutex<T: Send + 'static> = LoomMutex<T>;
    type RwLock<T: Send + Sync + 'static> = LoomRwLock<T>;
    type Condvar = LoomCondvar;
    type Arc<T: Send + Sync + 'static> = LoomArc<T>;
    type AtomicBool = Cell<AtomicBool>;
    type AtomicU8 = Cell<AtomicU8>;
    type AtomicU16 = Cell<AtomicU16>;
    type AtomicU32 = Cell<AtomicU32>;
    type AtomicU64 = Cell<AtomicU64>;
    type AtomicUsize = Cell<AtomicUsize>;
    type JoinHandle<T: Send + 'static> = LoomJoinHandle<T>;
    type Thread = LoomThread;

    #[track_caller]
    fn spawn<F, T>(f: F) -> Self::JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let place = trace::spawned(me, Location::caller());
        let handle = thread::Builder::new()
            .stack_size(STACK_WORDS)
            .spawn(boxed(me, place, f))
            .expect("INVARIANT: loom's spawn has no way to fail");
        trace::resumed(me);
        LoomJoinHandle {
            handle,
            place,
            result: PhantomData,
        }
    }
    fn current() -> Self::Thread {
        LoomThread(thread::current())
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
        loom::hint::spin_loop();
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

/// The running thread's number in its execution, which is the same in every one: threads are
/// numbered as they are spawned.
pub(crate) fn number() -> u32 {
    // Loom tells it in this way only.
    let text = format!("{:?}", thread::current().id());
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(u32::MAX)
}

fn number_of(thread: &thread::Thread) -> u64 {
    let mut hasher = DefaultHasher::new();
    thread.id().hash(&mut hasher);
    hasher.finish()
}

/// Loom's mutex.
///
/// ```
/// use selvedge_sim::platform::Mutex;
/// use selvedge_sim::LoomMutex;
///
/// loom::model(|| {
///     let lock = LoomMutex::new(1);
///     *lock.lock() += 1;
///     assert_eq!(lock.into_inner(), 2);
/// });
/// ```
#[derive(Debug)]
pub struct LoomMutex<T> {
    mutex: Mutex<T>,
    place: Place,
}

impl<T: Send> platform::Mutex<T> for LoomMutex<T> {
    type Guard<'a>
        = LoomGuard<'a, T>
    where
        T: 'a;
    #[track_caller]
    fn new(value: T) -> Self {
        LoomMutex {
            mutex: Mutex::new(value),
            place: trace::created(me, ObjectKind::Mutex, type_name::<T>, Location::caller()),
        }
    }
    #[track_caller]
    fn lock(&self) -> LoomGuard<'_, T> {
        let site = Location::caller();
        let op = Pending::begin(me, Operation::Lock, self.place, site);
        let guard = self.mutex.lock().expect("INVARIANT: loom never poisons");
        op.done();
        held(guard, self.place, site, Operation::Unlock)
    }
    #[track_caller]
    fn try_lock(&self) -> Option<LoomGuard<'_, T>> {
        let site = Location::caller();
        let op = Pending::begin(me, Operation::TryLock, self.place, site);
        let guard = self.mutex.try_lock().ok();
        op.done_if(guard.is_some());
        guard.map(|guard| held(guard, self.place, site, Operation::Unlock))
    }
    fn into_inner(self) -> T {
        (self.mutex.into_inner()).expect("INVARIANT: loom never poisons")
    }
}

/// Access to what a [`LoomMutex`] guards.
///
/// ```
/// use selvedge_sim::platform::Mutex;
/// use selvedge_sim::{LoomGuard, LoomMutex};
///
/// loom::model(|| {
///     let lock = LoomMutex::new(1);
///     let mut guard: LoomGuard<'_, u32> = lock.lock();
///     *guard += 1;
///     assert!(lock.try_lock().is_none());
/// });
/// ```
pub type LoomGuard<'a, T> = Held<MutexGuard<'a, T>>;

fn held<G>(
    guard: G,
    place: Place,
    site: &'static Location<'static>,
    release: Operation,
) -> Held<G> {
    Held::new(guard, me, place, site, release)
}

/// Loom's readers-writer lock.
///
/// ```
/// use selvedge_sim::platform::RwLock;
/// use selvedge_sim::LoomRwLock;
///
/// loom::model(|| {
///     let lock = LoomRwLock::new(1);
///     *lock.write() += 1;
///     assert_eq!(*lock.read(), 2);
/// });
/// ```
#[derive(Debug)]
pub struct LoomRwLock<T> {
    lock: RwLock<T>,
    place: Place,
}

impl<T: Send + Sync> platform::RwLock<T> for LoomRwLock<T> {
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
        LoomRwLock {
            lock: RwLock::new(value),
            place: trace::created(me, ObjectKind::RwLock, type_name::<T>, Location::caller()),
        }
    }
    #[track_caller]
    fn read(&self) -> Held<RwLockReadGuard<'_, T>> {
        let site = Location::caller();
        let op = Pending::begin(me, Operation::ReadLock, self.place, site);
        let guard = self.lock.read().expect("INVARIANT: loom never poisons");
        op.done();
        held(guard, self.place, site, Operation::ReadUnlock)
    }
    #[track_caller]
    fn write(&self) -> Held<RwLockWriteGuard<'_, T>> {
        let site = Location::caller();
        let op = Pending::begin(me, Operation::WriteLock, self.place, site);
        let guard = self.lock.write().expect("INVARIANT: loom never poisons");
        op.done();
        held(guard, self.place, site, Operation::WriteUnlock)
    }
}

/// Loom's condition variable. It never wakes spuriously and never times out.
///
/// ```
/// use selvedge_sim::platform::{Condvar, JoinHandle, Mutex, Platform, Shared};
/// use selvedge_sim::{LoomArc, LoomCondvar, LoomMutex, LoomPlatform};
///
/// loom::model(|| {
///     let pair = LoomArc::new((LoomMutex::new(false), LoomCondvar::new()));
///     let theirs = pair.clone();
///     let other = LoomPlatform::spawn(move || {
///         *theirs.0.lock() = true;
///         theirs.1.notify_one();
///     });
///     let mut is_set = pair.0.lock();
///     while !*is_set {
///         is_set = pair.1.wait(is_set);
///     }
///     drop(is_set);
///     other.join();
/// });
/// ```
#[derive(Debug)]
pub struct LoomCondvar {
    condvar: Condvar,
    place: Place,
}

impl platform::Condvar<LoomPlatform> for LoomCondvar {
    #[track_caller]
    fn new() -> Self {
        LoomCondvar {
            condvar: Condvar::new(),
            place: trace::created(me, ObjectKind::Condvar, || "", Location::caller()),
        }
    }
    #[track_caller]
    fn wait<'a, T: Send + 'static + 'a>(&self, guard: LoomGuard<'a, T>) -> LoomGuard<'a, T> {
        let site = Location::caller();
        let (place, locked_at) = (guard.place, guard.site);
        // Loom does all of it at once, so it is told before and after.
        Pending::begin(me, Operation::Wait, self.place, site).done();
        Pending::begin(me, Operation::Unlock, place, locked_at).done();
        let woken = Pending::begin(me, Operation::Wake, self.place, site);
        let inner = guard.take();
        let inner = (self.condvar.wait(inner)).expect("INVARIANT: loom never poisons");
        woken.done();
        Pending::begin(me, Operation::Lock, place, site).done();
        held(inner, place, site, Operation::Unlock)
    }
    #[track_caller]
    fn wait_timeout<'a, T: Send + 'static + 'a>(
        &self,
        guard: LoomGuard<'a, T>,
        _timeout: Duration,
    ) -> (LoomGuard<'a, T>, bool) {
        (self.wait(guard), false)
    }
    #[track_caller]
    fn notify_one(&self) {
        let op = Pending::begin(me, Operation::NotifyOne, self.place, Location::caller());
        self.condvar.notify_one();
        op.done();
    }
    #[track_caller]
    fn notify_all(&self) {
        let op = Pending::begin(me, Operation::NotifyAll, self.place, Location::caller());
        self.condvar.notify_all();
        op.done();
    }
}

/// Loom's shared pointer: each clone and drop is a step it orders.
///
/// ```
/// use selvedge_sim::platform::Shared;
/// use selvedge_sim::LoomArc;
///
/// loom::model(|| {
///     let first = LoomArc::new(7);
///     let second = first.clone();
///     assert_eq!(*first, *second);
/// });
/// ```
#[derive(Debug)]
pub struct LoomArc<T>(Arc<T>);

impl<T: Send + Sync> platform::Shared<T> for LoomArc<T> {
    #[track_caller]
    fn new(value: T) -> Self {
        LoomArc(Arc::new(value))
    }
}

impl<T> Deref for LoomArc<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Clone for LoomArc<T> {
    fn clone(&self) -> Self {
        LoomArc(self.0.clone())
    }
}

/// A thread of a loom model.
///
/// ```
/// use selvedge_sim::platform::{JoinHandle, Platform};
/// use selvedge_sim::{LoomJoinHandle, LoomPlatform};
///
/// loom::model(|| {
///     let other: LoomJoinHandle<u32> = LoomPlatform::spawn(|| 7);
///     assert_eq!(other.join(), 7);
/// });
/// ```
#[derive(Debug)]
pub struct LoomJoinHandle<T> {
    handle: thread::JoinHandle<BoxedResult>,
    place: Place,
    result: PhantomData<T>,
}

impl<T: 'static> platform::JoinHandle<T> for LoomJoinHandle<T> {
    #[track_caller]
    fn join(self) -> T {
        let op = Pending::begin(me, Operation::Join, Place::NONE, Location::caller());
        let op = op.about(self.place);
        let result = (self.handle.join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        op.done();
        unboxed(result)
    }
}

/// Wakes a parked thread of a loom model.
///
/// ```
/// use selvedge_sim::platform::{Platform, Unpark};
/// use selvedge_sim::{LoomPlatform, LoomThread};
///
/// loom::model(|| {
///     let me: LoomThread = LoomPlatform::current();
///     me.unpark();
///     // It was unparked before: it goes on at once.
///     LoomPlatform::park();
/// });
/// ```
#[derive(Clone, Debug)]
pub struct LoomThread(thread::Thread);

impl platform::Unpark for LoomThread {
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
