//! The alpha cache on real threads: nothing stale is read, nobody inherits, and a thousand epochs
//! of workers that come and go leave not a byte behind.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "all of this file is one test"
)]

mod counting;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use counting::{LIVE, PEAK};
use proptest::prelude::*;
use selvedge_core::ddp::{CommitRecord, Epoch, RunId, Schedule};
use selvedge_core::train::{
    AlphaCache, AlphaCacheError, AlphaCacheState, AlphaKey, Dtype, EpochGuard,
};

const KEY: AlphaKey = AlphaKey::new(0, Dtype::F32, 0.5);

fn cache(capacity: u32) -> AlphaCache {
    AlphaCache::new(capacity).unwrap()
}

#[test]
fn a_value_is_of_its_key_and_its_epoch() {
    let cache = cache(2);
    let mut worker = cache.join::<u32>().unwrap();
    assert_eq!(*worker.get_or_insert_with(KEY, || 1), 1);
    assert_eq!(*worker.get_or_insert_with(KEY, || 2), 1);
    for (made, key) in [
        (3, AlphaKey::new(1, Dtype::F32, 0.5)),
        (4, AlphaKey::new(1, Dtype::F64, 0.5)),
        (5, AlphaKey::new(1, Dtype::F64, 0.25)),
        (6, AlphaKey::new(1, Dtype::F64, 0.0)),
        (7, AlphaKey::new(1, Dtype::F64, -0.0)),
    ] {
        assert_eq!(*worker.get_or_insert_with(key, || made), made, "{key:?}");
        assert_eq!(*worker.get_or_insert_with(key, || 99), made, "{key:?}");
    }
    assert!(cache.advance(Epoch(0)), "the record that a run begins from");
    let key = AlphaKey::new(1, Dtype::F64, -0.0);
    assert_eq!(*worker.get_or_insert_with(key, || 8), 8);
    assert!(!cache.advance(Epoch(0)), "the same record again");
    assert_eq!(*worker.get_or_insert_with(key, || 9), 8);
    assert!(cache.advance(Epoch(5)) && !cache.advance(Epoch(4)));
    assert_eq!(*worker.get_or_insert_with(key, || 10), 10);
    assert_eq!(cache.census().epoch, Some(Epoch(5)));
}

#[test]
fn places_are_bounded_and_nobody_inherits() {
    assert_eq!(
        AlphaCache::<selvedge_core::Std>::new(0).unwrap_err(),
        AlphaCacheError::NoWorkers
    );
    let cache = cache(2);
    let mut first = cache.join::<u32>().unwrap();
    let _second = cache.join::<String>().unwrap();
    let full = cache.join::<u32>().unwrap_err();
    assert_eq!(full, AlphaCacheError::Full { capacity: 2 });
    let id = first.id();
    first.get_or_insert_with(KEY, || 1);
    assert_eq!((cache.census().workers, cache.live_entries()), (2, 1));
    drop(first);
    assert_eq!((cache.census().workers, cache.live_entries()), (1, 0));
    let mut next = cache.join::<u32>().unwrap();
    assert_ne!(next.id(), id, "the same place, another worker");
    assert_eq!(*next.get_or_insert_with(KEY, || 2), 2);
}

/// Not two at once, not even while one takes the other's place.
#[test]
fn the_old_value_is_gone_before_the_new_one_is_made() {
    #[allow(dead_code, reason = "it is there to be counted")]
    struct Counted(Rc<()>);
    let alive = Rc::new(());
    let cache = cache(1);
    let mut worker = cache.join().unwrap();
    for epoch in 0..5 {
        cache.advance(Epoch(epoch));
        worker.get_or_insert_with(KEY, || {
            assert_eq!(Rc::strong_count(&alive), 1, "there is another");
            Counted(alive.clone())
        });
    }
    assert_eq!(cache.live_entries(), 1);
    worker.clear();
    assert_eq!((Rc::strong_count(&alive), cache.live_entries()), (1, 0));
    worker.clear();
    worker.get_or_insert_with(KEY, || Counted(alive.clone()));
    drop(worker);
    assert_eq!((Rc::strong_count(&alive), cache.live_entries()), (1, 0));
}

/// A process trains twice: epochs and alphas of the second run may be those of the first, values may
/// not.
#[test]
fn nothing_of_another_run_is_read() {
    let mut cache = cache(1);
    let mut worker = cache.join::<u32>().unwrap();
    let at = |run, epoch| CommitRecord::genesis(RunId(run), Epoch(epoch), 0, Schedule::default());
    for (nth, (run, epoch)) in [(1, 0), (1, 7), (2, 0), (2, 7), (1, 7)]
        .into_iter()
        .enumerate()
    {
        cache.at_epoch(&at(run, epoch));
        assert_eq!(cache.census().epoch, Some(Epoch(epoch)));
        assert_eq!(*worker.get_or_insert_with(KEY, || nth as u32), nth as u32);
        cache.at_epoch(&at(run, epoch));
        assert_eq!(cache.census().stale, 0, "the same record again");
    }
}

/// The books never say less than there is: whenever a value goes, its worker still has its place, so
/// nobody else can have come and made another.
#[test]
fn a_place_is_given_up_after_its_value() {
    struct Value(AlphaCache, Arc<Mutex<Vec<u32>>>);
    impl Drop for Value {
        fn drop(&mut self) {
            let census = self.0.census();
            assert_eq!(census.entries, 1);
            self.1.lock().unwrap().push(census.workers);
        }
    }
    let (cache, workers_then) = (cache(1), Arc::new(Mutex::new(Vec::new())));
    let value = || Value(cache.clone(), Arc::clone(&workers_then));
    let mut worker = cache.join().unwrap();
    worker.get_or_insert_with(KEY, value);
    cache.advance(Epoch(1));
    worker.get_or_insert_with(KEY, value);
    worker.clear();
    worker.get_or_insert_with(KEY, value);
    drop(worker);
    assert_eq!(*workers_then.lock().unwrap(), [1, 1, 1]);
    assert_eq!((cache.census().workers, cache.live_entries()), (0, 0));
}

/// No failure is kept, whichever way making fails.
#[test]
fn what_could_not_be_made_is_made_again() {
    let cache = cache(1);
    let mut worker = cache.join::<u32>().unwrap();
    worker.get_or_insert_with(KEY, || 1);
    cache.advance(Epoch(1));
    let refused = worker.get_or_try_insert_with(KEY, || Err("out of memory"));
    assert_eq!(refused, Err("out of memory"));
    assert_eq!(cache.live_entries(), 0);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        worker.get_or_insert_with(KEY, || panic!("the device is gone"));
    }));
    assert!(panicked.is_err());
    assert_eq!(cache.live_entries(), 0);
    let made = worker.get_or_try_insert_with::<()>(KEY, || Ok(2));
    assert_eq!(made, Ok(&2));
}

/// An epoch begins while a value is made: it is handed out this once, and found by nobody.
#[test]
fn what_is_made_across_an_epoch_is_not_kept() {
    let cache = cache(1);
    let mut worker = cache.join::<u32>().unwrap();
    let made = *worker.get_or_insert_with(KEY, || {
        cache.advance(Epoch(1));
        1
    });
    assert_eq!((made, cache.census().stale), (1, 1));
    assert_eq!(*worker.get_or_insert_with(KEY, || 2), 2);
}

/// A record is applied, then the cache is told, then the workers are, by a message, as the next
/// step's work is: from then on nothing older is read, by any of them. Values say of which record
/// they are.
#[test]
fn no_worker_reads_an_older_epoch() {
    const WORKERS: usize = 3;
    const EPOCHS: u64 = 2_000;
    let cache = cache(WORKERS as u32);
    let [applied, told] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (cache, applied, told) = (cache.clone(), Arc::clone(&applied), Arc::clone(&told));
            thread::spawn(move || {
                let mut worker = cache.join::<u64>().unwrap();
                let mut hits = 0_u64;
                loop {
                    // ORDERING: Acquire. What was stored before is known from here on.
                    let epoch = told.load(Ordering::Acquire);
                    let made = || applied.load(Ordering::Acquire);
                    let value = *worker.get_or_insert_with(KEY, made);
                    assert!(value >= epoch, "{value} in epoch {epoch}");
                    let mut made_again = false;
                    worker.get_or_insert_with(KEY, || {
                        made_again = true;
                        made()
                    });
                    hits += u64::from(!made_again);
                    if epoch == EPOCHS {
                        return hits;
                    }
                }
            })
        })
        .collect();
    for epoch in 1..=EPOCHS {
        // ORDERING: Release. What is made in the epoch is of its record.
        applied.store(epoch, Ordering::Release);
        assert!(cache.advance(Epoch(epoch)));
        // ORDERING: Release. It hands the advance on.
        told.store(epoch, Ordering::Release);
        let census = cache.census();
        assert!(census.entries <= census.workers, "{census:?}");
        if epoch % 100 == 0 {
            thread::yield_now();
        }
    }
    for worker in workers {
        assert!(worker.join().unwrap() > 0, "it never hit");
    }
    assert_eq!(cache.live_entries(), 0);
}

/// A thousand epochs, and five hundred times a worker dies and another is born: the heap stays as it
/// was.
#[test]
fn a_thousand_epochs_leave_the_heap_flat() {
    let cache = cache(4);
    let mut old = Vec::with_capacity(4);
    let mut epoch = 0;
    let mut cycle = || {
        epoch += 1;
        cache.advance(Epoch(epoch));
        // In every other epoch; in those between, four values take the place of four.
        if old.len() == 4 && epoch % 2 == 0 {
            drop(old.remove(epoch as usize % 4));
        }
        if old.len() < 4 {
            old.push(cache.join::<Vec<u64>>().unwrap());
        }
        for worker in &mut old {
            worker.get_or_insert_with(KEY, || vec![epoch; 128]);
        }
        let census = cache.census();
        assert!(census.entries <= census.workers && census.stale == 0);
    };
    (0..11).for_each(|_| cycle());
    let before = LIVE.get();
    PEAK.set(before);
    (0..1_000).for_each(|_| cycle());
    assert_eq!(LIVE.get(), before, "bytes were left behind");
    let needed = PEAK.get() - before;
    assert!(
        needed <= 0,
        "{needed} bytes more at once: a value beside its successor"
    );
}

/// The same with threads that really die: what each of them took it gave back by its end.
#[test]
fn threads_that_die_leave_nothing() {
    let cache = cache(4);
    let (send, receive) = mpsc::channel();
    for epoch in 0..200 {
        cache.advance(Epoch(epoch));
        let (theirs, send) = (cache.clone(), send.clone());
        let worker = thread::spawn(move || {
            let before = LIVE.get();
            let mut worker = theirs.join::<Vec<u64>>().unwrap();
            worker.get_or_insert_with(KEY, || vec![epoch; 128]);
            if epoch % 2 == 0 {
                // It dies of a panic; its worker is dropped by the unwinding.
                let died = catch_unwind(AssertUnwindSafe(move || {
                    let _held = worker;
                    std::panic::resume_unwind(Box::new(()));
                }));
                drop(died);
            } else {
                drop(worker);
            }
            send.send(LIVE.get() - before).unwrap();
        });
        worker.join().unwrap();
        assert_eq!(receive.recv().unwrap(), 0, "epoch {epoch}");
        assert_eq!((cache.census().workers, cache.live_entries()), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Entries never exceed workers, whatever is told in whatever order, of the dead as well.
    #[test]
    fn the_books_hold(ops in prop::collection::vec((0..6_u8, 0..6_usize, 0..20_u64), 0..200)) {
        let mut state = AlphaCacheState::new(3).unwrap();
        let (mut ids, mut live) = (Vec::new(), 0_u32);
        for (op, which, number) in ops {
            let id = (!ids.is_empty()).then(|| ids[which % ids.len().max(1)]);
            match (op, id) {
                (0, _) => match state.join() {
                    Ok(id) => {
                        prop_assert!(!ids.contains(&id), "an id twice");
                        ids.push(id);
                        live += 1;
                    }
                    Err(AlphaCacheError::Full { capacity: 3 }) => prop_assert_eq!(live, 3),
                    Err(other) => prop_assert!(false, "{}", other),
                },
                (1 | 2, Some(id)) => {
                    state.filling(id);
                }
                (3, Some(id)) => state.cleared(id),
                (4, Some(id)) => live -= u32::from(state.leave(id)),
                (5, _) => {
                    let before = state.generation();
                    let news = state.advance(Epoch(number));
                    prop_assert_eq!(news, state.generation() > before);
                    prop_assert!(state.generation() >= before);
                }
                _ => {}
            }
            prop_assert_eq!(state.validate(), Ok(()));
            let census = state.census();
            prop_assert_eq!(census.workers, live);
            prop_assert!(census.stale <= census.entries && census.entries <= census.workers);
        }
    }
}
