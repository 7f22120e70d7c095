//! [`AlphaCacheState`]: who is a worker, who has an entry, and of which epoch.

use thiserror::Error;

use crate::ddp::{Epoch, RunId};
use crate::pool::InvariantViolation;

/// One worker of one cache: its place, and which of the workers that had the place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId {
    place: u32,
    life: u64,
}

/// The books of a cache: plain, so that what is counted can be checked without a thread.
///
/// **What is told of a worker that has left changes nothing**: its place may be another's by now,
/// and nobody inherits.
///
/// ```
/// use selvedge_core::ddp::Epoch;
/// use selvedge_core::train::AlphaCacheState;
///
/// let mut state = AlphaCacheState::new(1)?;
/// let first = state.join()?;
/// state.filling(first);
/// assert!(state.leave(first));
/// let second = state.join()?;
/// assert_eq!(state.census().entries, 0, "nothing is inherited");
/// state.filling(first);
/// assert_eq!(state.census().entries, 0, "it has left");
/// # let _ = second;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AlphaCacheState {
    /// Counts what makes every entry one of the past.
    generation: u64,
    /// The run whose epochs these are, if it was told of.
    run: Option<RunId>,
    /// The last epoch of it.
    epoch: Option<Epoch>,
    places: Vec<Place>,
    /// Places that nobody has, by number; the last is given next.
    free: Vec<u32>,
}

/// A worker's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Place {
    /// How many workers have left it.
    life: u64,
    taken: bool,
    /// The generation of the entry, if there is one.
    entry: Option<u64>,
}

/// Workers and entries, of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AlphaCensus {
    /// The last epoch that was told of, since its run began.
    pub epoch: Option<Epoch>,
    /// Live workers.
    pub workers: u32,
    /// Their entries: at most as many.
    pub entries: u32,
    /// Of these: of an earlier epoch. They are not read again, and dropped at the next look.
    pub stale: u32,
}

/// Why there is no cache, or no place in it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AlphaCacheError {
    /// It would be for nobody: give at least 1.
    #[error("an alpha cache for 0 workers would serve nobody; give at least 1")]
    NoWorkers,
    /// All places are taken.
    #[error(
        "all {capacity} places of the alpha cache are taken; a worker must leave first, or the cache be made larger"
    )]
    Full {
        /// How many there are.
        capacity: u32,
    },
}

impl AlphaCacheState {
    /// For at most `capacity` workers at once.
    ///
    /// # Errors
    /// [`AlphaCacheError::NoWorkers`], if that is 0.
    pub fn new(capacity: u32) -> Result<Self, AlphaCacheError> {
        if capacity == 0 {
            return Err(AlphaCacheError::NoWorkers);
        }
        Ok(AlphaCacheState {
            generation: 0,
            run: None,
            epoch: None,
            places: vec![Place::default(); capacity as usize],
            free: (0..capacity).rev().collect(),
        })
    }

    /// Gives a worker a place.
    ///
    /// # Errors
    /// [`AlphaCacheError::Full`].
    pub fn join(&mut self) -> Result<WorkerId, AlphaCacheError> {
        let capacity = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        let number = self.free.pop().ok_or(AlphaCacheError::Full { capacity })?;
        let place = &mut self.places[number as usize];
        place.taken = true;
        let life = place.life;
        let place = number;
        Ok(self.checked(WorkerId { place, life }))
    }

    /// The worker is about to make an entry, its former one being gone; of which generation.
    pub fn filling(&mut self, worker: WorkerId) -> u64 {
        let generation = self.generation;
        if let Some(place) = self.place(worker) {
            place.entry = Some(generation);
        }
        self.checked(generation)
    }

    /// The worker has no entry any more.
    pub fn cleared(&mut self, worker: WorkerId) {
        if let Some(place) = self.place(worker) {
            place.entry = None;
        }
    }

    /// The worker leaves. Whether it was there.
    pub fn leave(&mut self, worker: WorkerId) -> bool {
        let Some(place) = self.place(worker) else {
            return false;
        };
        *place = Place {
            life: place.life + 1,
            taken: false,
            entry: None,
        };
        self.free.push(worker.place);
        self.checked(true)
    }

    /// The epochs that follow are of `run`; whether that is another run than before. Its epochs
    /// begin anew, and what is of the other run is of the past.
    pub fn begin_run(&mut self, run: RunId) -> bool {
        let news = self.run.replace(run).is_some_and(|last| last != run);
        if news {
            self.epoch = None;
            self.generation += 1;
        }
        self.checked(news)
    }

    /// An epoch begins; whether it is a new one. Within a run epochs only grow.
    pub fn advance(&mut self, epoch: Epoch) -> bool {
        let news = self.epoch.is_none_or(|last| epoch > last);
        if news {
            self.epoch = Some(epoch);
            self.generation += 1;
        }
        self.checked(news)
    }

    /// What entries must be of to be read.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Workers and entries.
    #[must_use]
    pub fn census(&self) -> AlphaCensus {
        let count = |wanted: fn(&Place, u64) -> bool| {
            let found = self.places.iter().filter(|p| wanted(p, self.generation));
            u32::try_from(found.count()).unwrap_or(u32::MAX)
        };
        AlphaCensus {
            epoch: self.epoch,
            workers: count(|place, _| place.taken),
            entries: count(|place, _| place.entry.is_some()),
            stale: count(|place, now| place.entry.is_some_and(|entry| entry < now)),
        }
    }

    /// Whether entries are workers' alone and no entry is of an epoch to come, and each place is
    /// taken or free.
    ///
    /// # Errors
    /// `entries_of_workers`, `entries_in_time` or `places_balance`, with what was found.
    pub fn validate(&self) -> Result<(), InvariantViolation> {
        for (number, place) in self.places.iter().enumerate() {
            let detail = || {
                format!(
                    "place {number} of generation {}: {place:?}",
                    self.generation
                )
            };
            if place.entry.is_some() && !place.taken {
                return Err(InvariantViolation::new("entries_of_workers", detail()));
            }
            if place.entry.is_some_and(|entry| entry > self.generation) {
                return Err(InvariantViolation::new("entries_in_time", detail()));
            }
        }
        let is_free = |number: &u32| !self.places[*number as usize].taken;
        let free = self.places.iter().filter(|place| !place.taken).count();
        if free != self.free.len() || !self.free.iter().all(is_free) {
            let detail = format!("{free} places are free, and listed are {:?}", self.free);
            return Err(InvariantViolation::new("places_balance", detail));
        }
        Ok(())
    }

    fn place(&mut self, worker: WorkerId) -> Option<&mut Place> {
        let place = self.places.get_mut(worker.place as usize)?;
        (place.taken && place.life == worker.life).then_some(place)
    }

    /// Returns `value`, having checked in debug builds that all is well.
    fn checked<T>(&self, value: T) -> T {
        debug_assert_eq!(self.validate(), Ok(()));
        value
    }
}
