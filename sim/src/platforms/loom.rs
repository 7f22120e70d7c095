//! [`LoomPlatform`]: loom's primitives, which model C11-like weak memory.

use std::time::Duration;

use loom::sync::atomic::{
    self, AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
};
use loom::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use loom::thread;
use selvedge_core::platform::{self, Ordering, Platform};

use super::Cell;

/// Runs code under loom. Use it inside a loom model only.
///
/// What loom does not model, and what happens here instead: a timed wait never times out; a
/// `SeqCst` access counts as acquire-release (use fences); loads are never reordered after
/// stores that follow them; at most five threads with the main one.
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
        let handle = thread::Builder::new()
            .stack_size(STACK_WORDS)
            .spawn(f)
            .expect("INVARIANT: loom's spawn has no way to fail");
        LoomJoinHandle(handle)
    }
    fn current() -> Self::Thread {
        LoomThread(thread::current())
    }
    #[track_caller]
    fn park() {
        thread::park();
    }
    fn yield_now() {
        thread::yield_now();
    }
    fn spin_loop() {
        loom::hint::spin_loop();
    }
    fn fence(order: Ordering) {
        atomic::fence(order);
    }
}

/// Loom's mutex.
#[derive(Debug)]
pub struct LoomMutex<T>(Mutex<T>);

impl<T: Send> platform::Mutex<T> for LoomMutex<T> {
    type Guard<'a>
        = MutexGuard<'a, T>
    where
        T: 'a;
    fn new(value: T) -> Self {
        LoomMutex(Mutex::new(value))
    }
    #[track_caller]
    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("INVARIANT: loom never poisons")
    }
    #[track_caller]
    fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
    fn into_inner(self) -> T {
        self.0.into_inner().expect("INVARIANT: loom never poisons")
    }
}

/// Loom's readers-writer lock.
#[derive(Debug)]
pub struct LoomRwLock<T>(RwLock<T>);

impl<T: Send + Sync> platform::RwLock<T> for LoomRwLock<T> {
    type ReadGuard<'a>
        = RwLockReadGuard<'a, T>
    where
        T: 'a;
    type WriteGuard<'a>
        = RwLockWriteGuard<'a, T>
    where
        T: 'a;
    fn new(value: T) -> Self {
        LoomRwLock(RwLock::new(value))
    }
    #[track_caller]
    fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().expect("INVARIANT: loom never poisons")
    }
    #[track_caller]
    fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().expect("INVARIANT: loom never poisons")
    }
}

/// Loom's condition variable. It never wakes spuriously and never times out.
#[derive(Debug)]
pub struct LoomCondvar(Condvar);

impl platform::Condvar<LoomPlatform> for LoomCondvar {
    fn new() -> Self {
        LoomCondvar(Condvar::new())
    }
    #[track_caller]
    fn wait<'a, T: Send + 'static + 'a>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).expect("INVARIANT: loom never poisons")
    }
    #[track_caller]
    fn wait_timeout<'a, T: Send + 'static + 'a>(
        &self,
        guard: MutexGuard<'a, T>,
        _timeout: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        (self.wait(guard), false)
    }
    #[track_caller]
    fn notify_one(&self) {
        self.0.notify_one();
    }
    #[track_caller]
    fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Loom's shared pointer: each clone and drop is a step it orders.
#[derive(Debug)]
pub struct LoomArc<T>(Arc<T>);

impl<T: Send + Sync> platform::Shared<T> for LoomArc<T> {
    #[track_caller]
    fn new(value: T) -> Self {
        LoomArc(Arc::new(value))
    }
}

impl<T> std::ops::Deref for LoomArc<T> {
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
#[derive(Debug)]
pub struct LoomJoinHandle<T>(thread::JoinHandle<T>);

impl<T: 'static> platform::JoinHandle<T> for LoomJoinHandle<T> {
    #[track_caller]
    fn join(self) -> T {
        (self.0.join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Wakes a parked thread of a loom model.
#[derive(Clone, Debug)]
pub struct LoomThread(thread::Thread);

impl platform::Unpark for LoomThread {
    fn unpark(&self) {
        self.0.unpark();
    }
}

atomics!(AtomicBool: bool, AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);
atomic_ints!(AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);
