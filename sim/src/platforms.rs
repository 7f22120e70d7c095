//! The platforms of the checkers: the same traits that `Std` implements, each call handed to
//! the checker's own primitive, and told to the recorder of [`trace`](crate::trace).

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::time::Duration;

use crate::trace::{self, Operation, Pending, Place};

/// A checker's atomic. The type is ours, so that core's traits can be implemented for it.
///
/// ```
/// use selvedge_sim::LoomPlatform;
/// use selvedge_sim::platform::{Atomic, Ordering, Platform};
///
/// // It is what the checkers' platforms call their atomics.
/// loom::model(|| {
///     let n = <LoomPlatform as Platform>::AtomicU32::new(1);
///     n.store(2, Ordering::Release);
///     assert_eq!(n.load(Ordering::Acquire), 2);
/// });
/// ```
#[derive(Debug)]
pub struct Cell<A> {
    cell: A,
    place: Place,
}

/// A guard of a checker's lock that remembers where it was taken.
///
/// ```
/// use selvedge_sim::platform::Mutex;
/// use selvedge_sim::{Held, LoomGuard, LoomMutex};
///
/// // It is what loom's guards are.
/// loom::model(|| {
///     let lock = LoomMutex::new(1);
///     let guard: LoomGuard<'_, u32> = lock.lock();
///     let held: Held<_> = guard;
///     assert_eq!(*held, 1);
/// });
/// ```
#[derive(Debug)]
pub struct Held<G> {
    /// Gone only while it is dropped.
    guard: Option<G>,
    /// The running task's number.
    me: fn() -> u64,
    place: Place,
    site: &'static Location<'static>,
    release: Operation,
}

impl<G> Held<G> {
    fn new(
        guard: G,
        me: fn() -> u64,
        place: Place,
        site: &'static Location<'static>,
        release: Operation,
    ) -> Self {
        Held {
            guard: Some(guard),
            me,
            place,
            site,
            release,
        }
    }

    /// The checker's guard, which whoever takes it unlocks.
    fn take(mut self) -> G {
        (self.guard.take()).expect("INVARIANT: a guard that can be reached holds the lock")
    }
}

impl<G: Deref> Deref for Held<G> {
    type Target = G::Target;
    fn deref(&self) -> &G::Target {
        (self.guard.as_deref()).expect("INVARIANT: a guard that can be reached holds the lock")
    }
}

impl<G: DerefMut> DerefMut for Held<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        (self.guard.as_deref_mut()).expect("INVARIANT: a guard that can be reached holds the lock")
    }
}

impl<G> Drop for Held<G> {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            let op = Pending::begin(self.me, self.release, self.place, self.site);
            drop(guard);
            op.done();
        }
    }
}

// Defined before the modules that use them: that is how `macro_rules!` scopes.
/// The atomics of a checker have std's methods; only the module they live in differs. `me`
/// there is the running task's number.
macro_rules! atomics {
    ($($cell:ident: $value:ty),*) => {$(
        impl selvedge_core::platform::Atomic<$value> for $crate::platforms::Cell<$cell> {
            #[track_caller]
            fn new(value: $value) -> Self {
                let name = || stringify!($value);
                let place = trace::created(me, ObjectKind::Atomic, name, Location::caller());
                $crate::platforms::Cell { cell: $cell::new(value), place }
            }
            #[track_caller]
            fn load(&self, order: Ordering) -> $value {
                let op = Pending::begin(me, Operation::Load, self.place, Location::caller());
                let value = self.cell.load(order);
                op.done_as(true, || (Some(value.word()), None));
                value
            }
            #[track_caller]
            fn store(&self, value: $value, order: Ordering) {
                let op = Pending::begin(me, Operation::Store, self.place, Location::caller());
                self.cell.store(value, order);
                op.done_as(true, || (None, Some(value.word())));
            }
            #[track_caller]
            fn swap(&self, value: $value, order: Ordering) -> $value {
                let op = Pending::begin(me, Operation::Swap, self.place, Location::caller());
                let old = self.cell.swap(value, order);
                op.done_as(true, || (Some(old.word()), Some(value.word())));
                old
            }
            #[track_caller]
            fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let site = Location::caller();
                let op = Pending::begin(me, Operation::CompareExchange, self.place, site);
                let result = self.cell.compare_exchange(current, new, success, failure);
                let (Ok(old) | Err(old)) = result;
                let wrote = result.ok().map(|_| new.word());
                op.done_as(result.is_ok(), || (Some(old.word()), wrote));
                result
            }
        }
    )*};
}
macro_rules! atomic_ints {
    ($($cell:ident: $value:ty),*) => {$(
        impl selvedge_core::platform::AtomicInt<$value> for $crate::platforms::Cell<$cell> {
            atomic_ints!(@ $value,
                fetch_add FetchAdd |old, value| old.wrapping_add(value),
                fetch_sub FetchSub |old, value| old.wrapping_sub(value),
                fetch_and FetchAnd |old, value| old & value,
                fetch_or FetchOr |old, value| old | value,
                fetch_max FetchMax |old, value| old.max(value)
            );
        }
    )*};
    (@ $value:ty, $($method:ident $operation:ident |$old:ident, $by:ident| $new:expr),*) => {$(
        #[track_caller]
        fn $method(&self, $by: $value, order: Ordering) -> $value {
            let site = Location::caller();
            let op = Pending::begin(me, Operation::$operation, self.place, site);
            let $old = self.cell.$method($by, order);
            op.done_as(true, || (Some($old.word()), Some(($new).word())));
            $old
        }
    )*};
}

/// A limit of more than a hundred years is none, as on real threads: a wait with it is one
/// without a time-out, and costs a search no choice.
fn is_no_limit(timeout: Duration) -> bool {
    timeout > Duration::from_secs(100 * 365 * 24 * 60 * 60)
}

mod explorer;
mod loom;
mod shuttle;

pub use self::explorer::{
    ExplorerArc, ExplorerAtomic, ExplorerCondvar, ExplorerGuard, ExplorerJoinHandle, ExplorerMutex,
    ExplorerPlatform, ExplorerReadGuard, ExplorerRwLock, ExplorerThread, ExplorerWriteGuard,
};

pub(crate) use self::loom::me as loom_task;
pub(crate) use self::loom::number as loom_number;
pub use self::loom::{
    LoomArc, LoomCondvar, LoomGuard, LoomJoinHandle, LoomMutex, LoomPlatform, LoomRwLock,
    LoomThread,
};
pub(crate) use self::shuttle::me as shuttle_task;
pub use self::shuttle::{
    ShuttleArc, ShuttleCondvar, ShuttleGuard, ShuttleJoinHandle, ShuttleMutex, ShuttlePlatform,
    ShuttleRwLock, ShuttleThread,
};

/// What a thread's body returns, whatever it is.
type BoxedResult = Box<dyn Any + Send>;

/// A thread's body and its two notes for the trace. Boxed, because a checker's spawn is a lot of
/// code, and would else be compiled anew for each closure of each scenario.
fn boxed<F, T>(me: fn() -> u64, place: Place, f: F) -> Box<dyn FnOnce() -> BoxedResult + Send>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Box::new(move || {
        trace::started(me, place);
        let result = f();
        trace::finished(me);
        Box::new(result)
    })
}

fn unboxed<T: 'static>(result: BoxedResult) -> T {
    *(result.downcast()).expect("INVARIANT: a handle has its own thread's type")
}
