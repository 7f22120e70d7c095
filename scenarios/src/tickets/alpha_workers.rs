//! Workers with a tensor of alpha each, of whom one leaves and another comes while an epoch
//! begins: what the scenarios of ticket B2-DRL-09 share.

use selvedge_core::ddp::Epoch;
use selvedge_core::platform::{Atomic, JoinHandle, Ordering, Platform, Shared};
use selvedge_core::train::{AlphaCache, AlphaKey, AlphaWorker, Dtype};
use selvedge_sim::{Cx, Observation, reach, violation};

use crate::bed::in_rounds;

/// A cache of alphas, as far as these scenarios need one. A value is the epoch it was made in.
pub(super) trait Alphas<P: Platform>: Send + Sync + 'static {
    type Worker: Send + 'static;
    fn new() -> Self;
    fn join(this: &P::Arc<Self>) -> Self::Worker
    where
        Self: Sized;
    /// What the worker has, or else what is made.
    fn look(worker: &mut Self::Worker, make: impl FnOnce() -> u64) -> u64;
    /// An epoch begins, on the thread of `caller`.
    fn advance(&self, caller: &mut Self::Worker, epoch: u64);
    /// Live entries and live workers.
    fn census(&self) -> [u32; 2];
}

pub(super) fn workers_come_and_go<P: Platform, T: Alphas<P>>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let alphas = P::Arc::new(T::new());
        let (mut mine, mut theirs) = (T::join(&alphas), T::join(&alphas));
        let made = [T::look(&mut mine, || 0), T::look(&mut theirs, || 0)];
        let told = P::Arc::new(P::AtomicU64::new(0));
        let (their_alphas, hears) = (alphas.clone(), told.clone());
        let other = P::spawn(move || {
            let first = look::<P, T>(&mut theirs, &hears);
            // It dies, and another is born.
            drop(theirs);
            check_census::<P, T>(&their_alphas);
            let mut next = T::join(&their_alphas);
            let second = look::<P, T>(&mut next, &hears);
            drop(next);
            [first, second]
        });
        alphas.advance(&mut mine, 1);
        // ORDERING: Release, and Acquire where it is read: as the next step's work is handed on.
        told.store(1, Ordering::Release);
        check_census::<P, T>(&alphas);
        let third = look::<P, T>(&mut mine, &told);
        let theirs = other.join();
        drop(mine);
        check_census::<P, T>(&alphas);
        format!("{made:?}, {theirs:?}, {third}")
    })
}

/// Looks, knowing of the epoch that it was told of.
fn look<P: Platform, T: Alphas<P>>(worker: &mut T::Worker, told: &P::AtomicU64) -> u64 {
    // ORDERING: Acquire. See above.
    let epoch = told.load(Ordering::Acquire);
    let value = T::look(worker, || epoch);
    if value < epoch {
        violation!("stale-alpha", "of epoch {value}, in epoch {epoch}");
    }
    reach(if epoch == 0 { "before" } else { "after" });
    value
}

fn check_census<P: Platform, T: Alphas<P>>(alphas: &T) {
    let [entries, workers] = alphas.census();
    if entries > workers {
        violation!("entries-above-workers", "{entries} of {workers}");
    }
}

/// The code that ships.
pub(super) struct Shipped<P: Platform>(AlphaCache<P>);

impl<P: Platform> Alphas<P> for Shipped<P> {
    type Worker = AlphaWorker<u64, P>;

    fn new() -> Self {
        match AlphaCache::new(2) {
            Ok(cache) => Shipped(cache),
            Err(refused) => violation!("bad-configuration", "{refused}"),
        }
    }

    fn join(this: &P::Arc<Self>) -> Self::Worker {
        match this.0.join() {
            Ok(worker) => worker,
            Err(refused) => violation!("no-place", "{refused}"),
        }
    }

    fn look(worker: &mut Self::Worker, make: impl FnOnce() -> u64) -> u64 {
        // The alpha is the same in both epochs: nothing but the epoch tells them apart.
        *worker.get_or_insert_with(AlphaKey::new(0, Dtype::F32, 0.5), make)
    }

    fn advance(&self, _: &mut Self::Worker, epoch: u64) {
        self.0.advance(Epoch(epoch));
    }

    fn census(&self) -> [u32; 2] {
        let census = self.0.census();
        [census.entries, census.workers]
    }
}
