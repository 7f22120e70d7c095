//! [`ExplorerAtomic`]: each access tells the explorer what it does to the value, so that two that
//! may change places without anybody noticing are known.

use std::fmt;
use std::panic::Location;
use std::sync;

use selvedge_core::platform::{self, Ordering};

use crate::explorer::access::{Kind, Update};
use crate::explorer::runtime::{self, ObjectId, me};
use crate::trace::{self, ObjectKind, Operation, Pending, Place, Word};

/// An atomic of the explorer.
///
/// ```
/// use selvedge_sim::platform::{Atomic, AtomicInt, Ordering, Platform};
/// use selvedge_sim::{ExplorerAtomic, ExplorerPlatform};
///
/// // Outside of a search it is a plain value.
/// let n: ExplorerAtomic<std::sync::atomic::AtomicU32> = Atomic::new(1);
/// n.fetch_add(1, Ordering::SeqCst);
/// assert_eq!(n.load(Ordering::SeqCst), 2);
/// ```
pub struct ExplorerAtomic<A> {
    object: ObjectId,
    place: Place,
    value: A,
}

impl<A: fmt::Debug> fmt::Debug for ExplorerAtomic<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<A> ExplorerAtomic<A> {
    fn of(value: A, word: u64, type_name: &'static str, site: &'static Location<'static>) -> Self {
        let object = ObjectId::new("atomic");
        runtime::has_value(object, word);
        ExplorerAtomic {
            object,
            place: trace::created(me, ObjectKind::Atomic, || type_name, site),
            value,
        }
    }

    /// An access that may write. Where it leaves the value as it was, it could be told from
    /// a read by nobody, and counts as one: that is how a failed exchange is none.
    fn write<V: Word, R>(
        &self,
        operation: Operation,
        update: Update,
        site: &'static Location<'static>,
        look: impl Fn(&A) -> V,
        write: impl FnOnce(&A) -> R,
    ) -> R {
        let op = Pending::begin(me, operation, self.place, site);
        runtime::write(self.object, update);
        let before = look(&self.value);
        let result = write(&self.value);
        let after = look(&self.value);
        match after == before {
            true => runtime::was_a_read(),
            false => runtime::has_value(self.object, after.word()),
        }
        // What a store overwrites it does not look at.
        let read = (operation != Operation::Store).then(|| before.word());
        op.done_as(true, || (read, Some(after.word())));
        result
    }
}

// ORDERING: SeqCst, all. One thread runs all tasks, and they are to see one order of steps.
const ORDER: Ordering = Ordering::SeqCst;

macro_rules! explorer_atomics {
    ($($atomic:ident: $value:ty),*) => {$(
        impl platform::Atomic<$value> for ExplorerAtomic<sync::atomic::$atomic> {
            #[track_caller]
            fn new(value: $value) -> Self {
                let word = value.word();
                let value = sync::atomic::$atomic::new(value);
                ExplorerAtomic::of(value, word, stringify!($value), Location::caller())
            }
            #[track_caller]
            fn load(&self, _: Ordering) -> $value {
                let op = Pending::begin(me, Operation::Load, self.place, Location::caller());
                runtime::access(self.object, Kind::Read);
                let value = self.value.load(ORDER);
                op.done_as(true, || (Some(value.word()), None));
                value
            }
            #[track_caller]
            fn store(&self, value: $value, _: Ordering) {
                self.write(
                    Operation::Store,
                    Update::Put(value.word()),
                    Location::caller(),
                    |cell| cell.load(ORDER),
                    |cell| cell.store(value, ORDER),
                );
            }
            #[track_caller]
            fn swap(&self, value: $value, _: Ordering) -> $value {
                self.write(
                    Operation::Swap,
                    Update::Put(value.word()),
                    Location::caller(),
                    |cell| cell.load(ORDER),
                    |cell| cell.swap(value, ORDER),
                )
            }
            #[track_caller]
            fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                _: Ordering,
                _: Ordering,
            ) -> Result<$value, $value> {
                let site = Location::caller();
                let op = Pending::begin(me, Operation::CompareExchange, self.place, site);
                runtime::write(self.object, Update::Exchange(current.word(), new.word()));
                let result = self.value.compare_exchange(current, new, ORDER, ORDER);
                let (Ok(before) | Err(before)) = result;
                match result.is_err() || before == new {
                    true => runtime::was_a_read(),
                    false => runtime::has_value(self.object, new.word()),
                }
                let wrote = result.ok().map(|_| new.word());
                op.done_as(result.is_ok(), || (Some(before.word()), wrote));
                result
            }
        }
    )*};
}
macro_rules! explorer_integers {
    ($($atomic:ident: $value:ty),*) => {$(
        impl platform::AtomicInt<$value> for ExplorerAtomic<sync::atomic::$atomic> {
            explorer_integers!(@ $value,
                fetch_add FetchAdd Shift, fetch_sub FetchSub Shift, fetch_and FetchAnd And,
                fetch_or FetchOr Or, fetch_max FetchMax Max
            );
        }
    )*};
    (@ $value:ty, $($method:ident $operation:ident $update:ident),*) => {$(
        #[track_caller]
        fn $method(&self, value: $value, _: Ordering) -> $value {
            self.write(
                Operation::$operation,
                Update::$update(value.word()),
                Location::caller(),
                |cell| cell.load(ORDER),
                |cell| cell.$method(value, ORDER),
            )
        }
    )*};
}
explorer_atomics!(AtomicBool: bool, AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);
explorer_integers!(AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);
