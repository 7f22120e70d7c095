//! The platforms of the checkers: the same traits that `Std` implements, each call handed to
//! the checker's own primitive.

/// A checker's atomic. The type is ours, so that core's traits can be implemented for it.
#[derive(Debug)]
pub struct Cell<A>(A);

// Defined before the modules that use them: that is how `macro_rules!` scopes.
/// The atomics of a checker have std's methods; only the module they live in differs.
macro_rules! atomics {
    ($($cell:ident: $value:ty),*) => {$(
        impl selvedge_core::platform::Atomic<$value> for crate::platforms::Cell<$cell> {
            fn new(value: $value) -> Self {
                crate::platforms::Cell($cell::new(value))
            }
            #[track_caller]
            fn load(&self, order: Ordering) -> $value {
                self.0.load(order)
            }
            #[track_caller]
            fn store(&self, value: $value, order: Ordering) {
                self.0.store(value, order);
            }
            #[track_caller]
            fn swap(&self, value: $value, order: Ordering) -> $value {
                self.0.swap(value, order)
            }
            #[track_caller]
            fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.0.compare_exchange(current, new, success, failure)
            }
        }
    )*};
}
macro_rules! atomic_ints {
    ($($cell:ident: $value:ty),*) => {$(
        impl selvedge_core::platform::AtomicInt<$value> for crate::platforms::Cell<$cell> {
            #[track_caller]
            fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                self.0.fetch_add(value, order)
            }
            #[track_caller]
            fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                self.0.fetch_sub(value, order)
            }
            #[track_caller]
            fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                self.0.fetch_and(value, order)
            }
            #[track_caller]
            fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                self.0.fetch_or(value, order)
            }
            #[track_caller]
            fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                self.0.fetch_max(value, order)
            }
        }
    )*};
}

mod explorer;
mod loom;
mod shuttle;

pub use self::explorer::{
    ExplorerArc, ExplorerAtomic, ExplorerCondvar, ExplorerGuard, ExplorerJoinHandle, ExplorerMutex,
    ExplorerPlatform, ExplorerReadGuard, ExplorerRwLock, ExplorerThread, ExplorerWriteGuard,
};

pub use self::loom::{
    LoomArc, LoomCondvar, LoomJoinHandle, LoomMutex, LoomPlatform, LoomRwLock, LoomThread,
};
pub use self::shuttle::{
    ShuttleArc, ShuttleCondvar, ShuttleGuard, ShuttleJoinHandle, ShuttleMutex, ShuttlePlatform,
    ShuttleRwLock, ShuttleThread,
};
