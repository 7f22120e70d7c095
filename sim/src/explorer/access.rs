//! What a step does to an object, and which two such things depend on each other.
//!
//! **Two accesses that are not dependent may change places without anybody noticing: what is
//! called independent here is never tried in both orders.** Where in doubt, dependent.

/// What a step does to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Nothing: a task's start, a join, a yield. Ordered by edges of their own.
    Local,
    /// An atomic is looked at, or written without a change of its value.
    Read,
    /// An atomic changes; also: a shared pointer whose drop can be seen goes.
    Write,
    /// A mutex is acquired.
    Lock,
    /// `try_lock`, before it is known how it goes.
    Try,
    /// `try_lock` that got the lock.
    TryOk,
    /// `try_lock` that did not.
    TryFail,
    /// A mutex is released.
    Unlock,
    /// A readers-writer lock is acquired by a reader.
    ReadLock,
    /// ... released by one.
    ReadUnlock,
    /// ... acquired by the writer.
    WriteLock,
    /// ... released by it.
    WriteUnlock,
    /// A task begins to wait on a condition variable.
    Enqueue,
    /// A timed wait returns: notified or timed out.
    Return,
    /// One waiter is chosen.
    NotifyOne,
    /// All waiters are.
    NotifyAll,
    /// A notification that nobody waits for.
    NotifyNone,
    /// A task without a token gets one.
    Unpark,
    /// A task with a token gets another, which is the same one.
    UnparkNone,
    /// A token is used up.
    Park,
    /// The body takes one of several ways. It touches nothing.
    Choose,
}

impl Kind {
    /// Whether it depends on every other access of its object, so that nothing before it can
    /// be next to what comes after it.
    pub(super) fn is_total(self) -> bool {
        matches!(
            self,
            Kind::Write
                | Kind::Lock
                | Kind::Try
                | Kind::TryOk
                | Kind::Unlock
                | Kind::WriteLock
                | Kind::WriteUnlock
                | Kind::NotifyOne
                | Kind::NotifyAll
                | Kind::Unpark
                | Kind::Park
        )
    }

    /// Whether the object is another afterwards.
    pub(super) fn changes(self) -> bool {
        !matches!(
            self,
            Kind::Local
                | Kind::Read
                | Kind::TryFail
                | Kind::NotifyNone
                | Kind::UnparkNone
                | Kind::Choose
        )
    }
}

/// What a write would make of an atomic's value, as a number of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    /// This value.
    Put(u64),
    /// The second value, if it has the first.
    Exchange(u64, u64),
    /// So much more or less.
    Shift(u64),
    /// Only these bits.
    And(u64),
    /// These bits as well.
    Or(u64),
    /// At least this value.
    Max(u64),
}

impl Update {
    /// Whether the value is another afterwards. It must agree with what the platform finds
    /// when the write takes place.
    pub(super) fn changes(self, value: u64) -> bool {
        match self {
            Update::Put(new) => new != value,
            Update::Exchange(from, to) => value == from && to != value,
            // Whatever the width, the sum is the same only where nothing is added.
            Update::Shift(by) => by != 0,
            Update::And(mask) => value & mask != value,
            Update::Or(bits) => value | bits != value,
            Update::Max(least) => least > value,
        }
    }
}

/// Stands for "no object".
pub(super) const NO_OBJECT: u32 = u32::MAX;

/// One access of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Access {
    /// The object.
    pub(super) object: u32,
    /// What is done to it.
    pub(super) kind: Kind,
}

impl Access {
    pub(super) const LOCAL: Access = Access {
        object: NO_OBJECT,
        kind: Kind::Local,
    };

    /// Whether the order of the two can be told by anybody.
    pub(super) fn depends_on(self, other: Access) -> bool {
        self.object == other.object && self.object != NO_OBJECT && dependent(self.kind, other.kind)
    }
}

/// Whether two accesses of one object depend on each other.
pub(super) fn dependent(a: Kind, b: Kind) -> bool {
    use Kind::{Enqueue, NotifyNone, Read, ReadLock, ReadUnlock, Return, TryFail, UnparkNone};
    !matches!(
        (a, b),
        (Read, Read)
            | (TryFail, TryFail)
            | (ReadLock | ReadUnlock, ReadLock | ReadUnlock)
            // Any waiter may be chosen, so the order in which they came tells nothing.
            | (Enqueue | Return, Enqueue | Return)
            | (NotifyNone, NotifyNone)
            | (UnparkNone, UnparkNone)
    )
}
