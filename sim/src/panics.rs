//! Panics that are caught and looked at instead of printed: a search in this process meets
//! many, and each is a finding, not a crash.

use std::cell::{Cell, RefCell};
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

use crate::host::{Payload, judge};
use crate::trace::{self, Operation, Site};
use crate::{Failure, FailureKind};

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// What the first panic since [`forget`] means; `Err` where it is the engine that failed.
    static FIRST: RefCell<Option<Result<Failure, String>>> = const { RefCell::new(None) };
    static HEIR: RefCell<Option<Heir>> = const { RefCell::new(None) };
}

/// Runs `f`; panics of this thread meanwhile are noted and not printed.
pub(crate) fn quietly<R>(f: impl FnOnce() -> R) -> R {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| match QUIET.get() {
            true => note(info),
            false => others(info),
        }));
    });
    let _restored = Restore(QUIET.replace(true));
    f()
}

struct Restore(bool);

impl Drop for Restore {
    fn drop(&mut self) {
        QUIET.set(self.0);
    }
}

/// What a thread that panics is to tell before it is held for ever.
pub(crate) type Heir = Box<dyn FnOnce(Result<Failure, String>)>;

/// Where panics end a unit: those of this thread end a part of it, and are told to this one.
pub(crate) fn hand_over_to(heir: Option<Heir>) {
    HEIR.set(heir);
}

/// Who is to be told of a panic of this thread, if that is not the host.
pub(crate) fn heir() -> Option<Heir> {
    HEIR.take()
}

/// Forgets the panics so far.
pub(crate) fn forget() {
    FIRST.take();
}

/// What this thread's first quiet panic since [`forget`] means; `Err` where the engine failed.
pub(crate) fn first() -> Option<Result<Failure, String>> {
    FIRST.with_borrow(Clone::clone)
}

/// Where that was, as `file:line:column`.
pub(crate) fn location() -> String {
    match first() {
        Some(Ok(failure)) => failure.location,
        _ => String::new(),
    }
}

/// Keeps what a panic of this thread means, if it is the first.
pub(crate) fn note(info: &PanicHookInfo<'_>) {
    let found = look(info);
    FIRST.with_borrow_mut(|first| {
        first.get_or_insert(found);
    });
}

/// What a panic means. A failed property is written into the running trace; deadlocks and the
/// engines' own limits are no task's doing, and are not.
pub(crate) fn look(info: &PanicHookInfo<'_>) -> Result<Failure, String> {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let found = judge(Payload::of(info), location);
    if let Ok(failure) = &found
        && failure.kind == FailureKind::Property
    {
        let site = info.location().map_or_else(Site::default, Site::from);
        trace::note(Operation::Fail, &failure.signature, site);
    }
    found
}
