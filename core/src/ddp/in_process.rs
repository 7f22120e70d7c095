//! The [`Collective`] between threads of one process: a barrier of a lock and a condition
//! variable around [`RoundState`], which decides everything.
//!
//! What goes wrong in barriers of others, and why it cannot here:
//! * A counter without a round lets a fast thread into the barrier that a slow one is still
//!   leaving (uccl#1052). Here every contribution and every wait names its round.
//! * Waiters that nobody wakes when a participant fails (torchft). Here a dropped handle, a left
//!   view and a passed deadline each end the view for all, with the same reason.
//! * Sums in the order of arrival differ from run to run. Here one thread, whichever comes last,
//!   adds up by rank, and all get what it got.

use core::fmt;
use core::ops::AddAssign;
use core::time::Duration;
use std::collections::BTreeMap;

mod rounds;

pub use rounds::{RoundError, RoundState, Seat};

use super::collective::{Collective, Contribution, Reduced};
use super::ids::{Rank, View};
use crate::platform::{Condvar, Mutex, Platform, Shared, Std};
use crate::time::Clock;

/// What buckets are made of: `f32` and `f64`. It is sealed, so that what is added up under the
/// lock cannot panic.
pub trait Scalar: sealed::Number + Copy + AddAssign + Send + Sync + 'static {}

impl Scalar for f32 {}
impl Scalar for f64 {}

mod sealed {
    pub trait Number {}
    impl Number for f32 {}
    impl Number for f64 {}
}

/// The ranks of one process that reduce together.
///
/// **One handle a rank, in the thread that trains; to give up is to drop it.** Whoever completes
/// a round adds it up with the lock held: all others of the view wait for the sum anyhow.
///
/// ```
/// use core::time::Duration;
/// use selvedge_core::ddp::{
///     Collective, Contribution, Epoch, InProcessGroup, Rank, RunId, StepTag, View,
/// };
/// use selvedge_core::platform::{JoinHandle, Platform, Std};
/// use selvedge_core::time::SystemClock;
///
/// let patience = Duration::from_secs(10);
/// let group: InProcessGroup<f64> = InProcessGroup::new(patience, Box::new(SystemClock::new()));
/// let members = [Rank(0), Rank(1)];
/// let mut threads = Vec::new();
/// for rank in members {
///     let mut collective = group.join(rank)?;
///     threads.push(Std::spawn(move || {
///         let tag = StepTag {
///             run: RunId(1), view: View(1), seq: 0, epoch: Epoch(1), schedule: 0, applied: 0,
///         };
///         // The second rank's loader is exhausted: it gives zeros.
///         let has_batch = rank == Rank(0);
///         let mut gradient = if has_batch { [0.5, -1.0] } else { [0.0, 0.0] };
///         let given = Contribution { tag, active: has_batch, more: false };
///         collective.enter(tag.view, &members)?;
///         let reduced = collective.all_reduce(&given, &mut gradient)?;
///         Ok::<_, selvedge_core::ddp::RoundError>((reduced.active, gradient))
///     }));
/// }
/// for thread in threads {
///     assert_eq!(JoinHandle::join(thread)?, (1, [0.5, -1.0]));
/// }
/// # Ok::<(), selvedge_core::ddp::RoundError>(())
/// ```
pub struct InProcessGroup<T: Scalar, P: Platform = Std> {
    hall: P::Arc<Hall<T, P>>,
}

impl<T: Scalar, P: Platform> InProcessGroup<T, P> {
    /// A group without anybody in it. A rank that has waited for a round for `patience`, by
    /// `clock`, ends the round for all.
    #[must_use]
    pub fn new(patience: Duration, clock: Box<dyn Clock>) -> Self {
        InProcessGroup {
            hall: P::Arc::new(Hall {
                table: P::Mutex::new(Table {
                    state: RoundState::default(),
                    buckets: BTreeMap::new(),
                    sums: BTreeMap::new(),
                }),
                changed: P::Condvar::new(),
                patience,
                clock,
            }),
        }
    }

    /// The handle of a rank, for the thread that reduces. While a rank has none it is either
    /// expected, if it never had one, or gone.
    ///
    /// # Errors
    /// [`RoundError::Taken`] while the rank has a handle.
    pub fn join(&self, rank: Rank) -> Result<InProcess<T, P>, RoundError> {
        let seat = self.hall.table.lock().state.sit(rank)?;
        let hall = self.hall.clone();
        Ok(InProcess {
            exit: InProcessExit { hall, seat },
        })
    }

    /// Whom the present round of a view waits for, in order; nobody if none has contributed.
    /// This is what to log at a soft deadline.
    #[must_use]
    pub fn missing(&self, view: View) -> Vec<Rank> {
        self.hall.table.lock().state.missing(view)
    }
}

/// One rank's end of the collective. **To drop it is to be gone**: every round that cannot be
/// complete without the rank fails for all with [`RoundError::Gone`].
pub struct InProcess<T: Scalar, P: Platform = Std> {
    exit: InProcessExit<T, P>,
}

impl<T: Scalar, P: Platform> InProcess<T, P> {
    /// The way out for another thread while this one waits.
    #[must_use]
    pub fn exit(&self) -> InProcessExit<T, P> {
        self.exit.clone()
    }
}

impl<T: Scalar, P: Platform> Collective for InProcess<T, P> {
    type Bucket = [T];
    type Error = RoundError;

    fn enter(&mut self, view: View, members: &[Rank]) -> Result<(), RoundError> {
        let seat = self.exit.seat;
        self.exit
            .hall
            .with(|state| state.enter(seat, view, members))
    }

    /// It waits for the group's patience at most. After an error `bucket` is as it was.
    fn all_reduce(
        &mut self,
        contribution: &Contribution,
        bucket: &mut [T],
    ) -> Result<Reduced, RoundError> {
        let (hall, seat) = (&self.exit.hall, self.exit.seat);
        let (view, seq) = (contribution.tag.view, contribution.tag.seq);
        let deadline = hall.clock.now() + hall.patience;
        let ours = bucket.to_vec();
        let mut table = hall.table.lock();
        match table.state.contribute(seat, contribution, ours.len()) {
            Ok(complete) => {
                table.buckets.insert((view, seat.rank), ours);
                if complete {
                    table.add_up(view);
                    hall.changed.notify_all();
                }
            }
            Err(error) => {
                table.clear();
                hall.changed.notify_all();
                return Err(error);
            }
        }
        let mut timed_out = false;
        loop {
            if let Some(reduced) = table.state.result(seat, view, seq)? {
                let sum = table.sums.get(&view).cloned();
                drop(table);
                let sum = sum.expect("INVARIANT: a complete round has its sum until the next one");
                bucket.copy_from_slice(&sum);
                return Ok(reduced);
            }
            let left = deadline.saturating_since(hall.clock.now());
            if timed_out || left.is_zero() {
                table.state.expire(seat, view, seq);
                table.clear();
                hall.changed.notify_all();
                timed_out = false;
                continue;
            }
            (table, timed_out) = hall.changed.wait_timeout(table, left);
        }
    }

    fn leave(&mut self, view: View) {
        self.exit.leave(view);
    }
}

impl<T: Scalar, P: Platform> Drop for InProcess<T, P> {
    fn drop(&mut self) {
        let seat = self.exit.seat;
        self.exit.hall.with(|state| state.stand_up(seat));
    }
}

/// Ends a rank's view from another thread than the one that waits in it, as the thread must that
/// hears of a new view. It is of one life: it does nothing once the rank's handle was dropped.
pub struct InProcessExit<T: Scalar, P: Platform = Std> {
    hall: P::Arc<Hall<T, P>>,
    seat: Seat,
}

impl<T: Scalar, P: Platform> InProcessExit<T, P> {
    /// As [`Collective::leave`]; whoever waits in the view is woken with [`RoundError::Left`].
    pub fn leave(&self, view: View) {
        self.hall.with(|state| state.leave(self.seat, view));
    }
}

impl<T: Scalar, P: Platform> Clone for InProcessExit<T, P> {
    fn clone(&self) -> Self {
        InProcessExit {
            hall: self.hall.clone(),
            seat: self.seat,
        }
    }
}

/// Where the ranks meet.
struct Hall<T: Scalar, P: Platform> {
    table: P::Mutex<Table<T, P>>,
    changed: P::Condvar,
    patience: Duration,
    clock: Box<dyn Clock>,
}

struct Table<T: Scalar, P: Platform> {
    state: RoundState,
    /// Of the rounds that are gathered now.
    buckets: BTreeMap<(View, Rank), Vec<T>>,
    /// Of each view's last complete round.
    sums: BTreeMap<View, P::Arc<Vec<T>>>,
}

impl<T: Scalar, P: Platform> Hall<T, P> {
    fn with<R>(&self, operation: impl FnOnce(&mut RoundState) -> R) -> R {
        let mut table = self.table.lock();
        let result = operation(&mut table.state);
        table.clear();
        drop(table);
        self.changed.notify_all();
        result
    }
}

impl<T: Scalar, P: Platform> Table<T, P> {
    /// Adds up the buckets of a complete round, **in order of rank**: float addition is not
    /// associative, so any other order could give another sum.
    fn add_up(&mut self, view: View) {
        let all = (view, Rank(u32::MIN))..=(view, Rank(u32::MAX));
        let buckets = self.buckets.extract_if(all, |_, _| true);
        let sum = buckets.map(|(_, bucket)| bucket).reduce(|mut sum, bucket| {
            for (sum, value) in sum.iter_mut().zip(bucket) {
                *sum += value;
            }
            sum
        });
        if let Some(sum) = sum {
            self.sums.insert(view, P::Arc::new(sum));
        }
    }

    /// Lets go of what nobody will ask for.
    fn clear(&mut self) {
        let Table {
            state,
            buckets,
            sums,
        } = self;
        buckets.retain(|(view, _), _| state.is_gathering(*view));
        sums.retain(|view, _| state.is_open(*view));
    }
}

macro_rules! opaque {
    ($($name:ident),*) => {$(
        impl<T: Scalar, P: Platform> fmt::Debug for $name<T, P> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Without locking: a debug print must not take part in a deadlock.
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}
opaque!(InProcessGroup, InProcess, InProcessExit);
