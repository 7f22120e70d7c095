//! A store that was torn anywhere has the state before or after, and one that is not what was
//! asked for says so.

use core::fmt::Debug;
use std::fs;

use super::*;
use crate::ddp::coordinator::Member;
use crate::ddp::ids::{Incarnation, View};
use crate::ddp::message::AbortReason;
use crate::ddp::schedule::Schedule;
use crate::platform::{Mutex, Platform, Std};

const RUN: RunId = RunId(4);

type Arc<T> = <Std as Platform>::Arc<T>;

/// What was written and not synced yet.
#[derive(Clone, Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Pending {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Pending::Write(at, data) => {
                if bytes.len() < at + data.len() {
                    bytes.resize(at + data.len(), 0);
                }
                bytes[*at..at + data.len()].copy_from_slice(data);
            }
            Pending::Length(length) => bytes.resize(*length, 0),
        }
    }
}

#[derive(Debug, Default)]
struct Platter {
    synced: Vec<u8>,
    seen: Vec<u8>,
    pending: Vec<Pending>,
    /// Writes and syncs that still succeed.
    left: Option<u64>,
    done: u64,
}

impl Platter {
    fn change(&mut self, change: Option<Pending>) -> io::Result<()> {
        if self.left == Some(0) {
            return Err(io::Error::other("power cut"));
        }
        self.left = self.left.map(|left| left - 1);
        self.done += 1;
        match change {
            Some(change) => {
                change.apply(&mut self.seen);
                self.pending.push(change);
            }
            None => {
                self.synced.clone_from(&self.seen);
                self.pending.clear();
            }
        }
        Ok(())
    }

    /// What is found after the power cut: `fate` says of each write that was not synced whether
    /// it was lost, kept, or torn at a sector.
    fn found(&self, mut fate: impl FnMut(usize) -> Fate) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for (at, change) in self.pending.iter().enumerate() {
            match (fate(at), change) {
                (Fate::Lost, _) => {}
                (Fate::Torn, Pending::Write(offset, data)) => {
                    let half = Pending::Write(*offset, data[..data.len() / 2].to_vec());
                    half.apply(&mut bytes);
                }
                (Fate::Kept | Fate::Torn, change) => change.apply(&mut bytes),
            }
        }
        bytes
    }
}

#[derive(Clone, Copy)]
enum Fate {
    Lost,
    Kept,
    Torn,
}

impl Fate {
    /// One after the other.
    fn of(turn: usize) -> Self {
        match turn % 3 {
            0 => Fate::Lost,
            1 => Fate::Kept,
            _ => Fate::Torn,
        }
    }
}

/// A disk whose power can be cut after any write.
#[derive(Clone)]
struct Disk(Arc<<Std as Platform>::Mutex<Platter>>);

impl Disk {
    fn of(bytes: Vec<u8>) -> Self {
        let platter = Platter {
            synced: bytes.clone(),
            seen: bytes,
            ..Platter::default()
        };
        Disk(Arc::new(<Std as Platform>::Mutex::new(platter)))
    }

    fn with<R>(&self, look: impl FnOnce(&mut Platter) -> R) -> R {
        look(&mut Mutex::lock(&*self.0))
    }
}

impl Debug for Disk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Disk")
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.with(|platter| platter.seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.with(|platter| {
            let at = offset as usize;
            let bytes = platter.seen.get(at..at + out.len());
            out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        self.with(|platter| platter.change(Some(Pending::Length(length as usize))))
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.with(|platter| platter.change(None))
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let write = Pending::Write(offset as usize, data.to_vec());
        self.with(|platter| platter.change(Some(write)))
    }
}

fn durable(epoch: u64) -> Durable {
    let life = |rank| Member {
        rank: Rank(rank),
        incarnation: Incarnation(epoch + 1),
    };
    let mut record = CommitRecord::genesis(RUN, Epoch(0), 0, Schedule::default());
    for _ in 0..epoch {
        let applied = record.applied + 3;
        record = record.next(View(epoch), Vec::new(), &[], applied).unwrap();
    }
    Durable {
        view: View(epoch),
        members: (0..40).map(life).collect(),
        lives: (0..40).map(life).collect(),
        record,
        aborted: (epoch == 9).then_some(AbortReason::QuorumLost),
    }
}

fn state(store: &Store) -> (Option<Durable>, Vec<CommitRecord>) {
    (store.durable().unwrap(), store.log().unwrap())
}

#[test]
fn a_torn_commit_leaves_the_state_before_or_after() {
    let mut tried = 0;
    let (mut befores, mut afters) = (0, 0);
    for epochs in [0, 1, 5] {
        // What is on the disk before, and what the commit writes.
        let disk = Disk::of(Vec::new());
        let mut store = Store::with_backend(disk.clone(), RUN).unwrap();
        for epoch in 0..epochs {
            store.persist(&durable(epoch)).unwrap();
        }
        let before = state(&store);
        let image = disk.with(|platter| platter.seen.clone());
        drop(store);
        let steps = {
            let disk = Disk::of(image.clone());
            let mut store = Store::with_backend(disk.clone(), RUN).unwrap();
            let opened = disk.with(|platter| platter.done);
            store.persist(&durable(epochs)).unwrap();
            let after = disk.with(|platter| platter.done) - opened;
            assert!(after > 2, "a commit writes and syncs");
            after
        };
        for cut_after in 0..=steps {
            let disk = Disk::of(image.clone());
            let mut store = Store::with_backend(disk.clone(), RUN).unwrap();
            disk.with(|platter| platter.left = Some(cut_after));
            let told = store.persist(&durable(epochs)).is_ok();
            disk.with(|platter| platter.left = Some(0));
            drop(store);
            for fates in 0..24_usize {
                // All alike first, then mixed.
                let fate = |at: usize| match fates {
                    0..3 => Fate::of(fates),
                    _ => Fate::of(at * 7 + fates * 5),
                };
                let found = disk.with(|platter| platter.found(fate));
                let store = Store::with_backend(Disk::of(found), RUN).unwrap();
                let now = state(&store);
                let (old, new) = (now == before, now.0 == Some(durable(epochs)));
                assert!(old || new, "cut after {cut_after} of {steps}: {:?}", now.0);
                assert!(new || !told, "what was said to be durable is lost");
                if new {
                    assert_eq!(now.1.last(), Some(&durable(epochs).record));
                    assert_eq!(now.1.len(), before.1.len() + 1);
                }
                (befores, afters) = (befores + u32::from(old), afters + u32::from(new));
                tried += 1;
            }
        }
    }
    println!("{tried} power cuts: {befores} left the state before, {afters} the one after");
    assert!(befores > 0 && afters > 0 && tried > 100);
}

#[test]
fn a_torn_checkpoint_is_the_one_before_or_after() {
    let checkpoint = |epoch| RankCheckpoint {
        record: durable(epoch).record,
    };
    let parameters = |epoch: u8| vec![epoch; 9_000];
    let disk = Disk::of(Vec::new());
    let mut store = Store::with_backend(disk.clone(), RUN).unwrap();
    store
        .save_checkpoint(&checkpoint(1), &parameters(1))
        .unwrap();
    let image = disk.with(|platter| platter.seen.clone());
    drop(store);
    let steps = {
        let disk = Disk::of(image.clone());
        let mut store = Store::with_backend(disk.clone(), RUN).unwrap();
        let opened = disk.with(|platter| platter.done);
        store
            .save_checkpoint(&checkpoint(2), &parameters(2))
            .unwrap();
        disk.with(|platter| platter.done) - opened
    };
    let (mut befores, mut afters) = (0, 0);
    for cut_after in 0..=steps {
        let disk = Disk::of(image.clone());
        let mut store = Store::with_backend(disk.clone(), RUN).unwrap();
        disk.with(|platter| platter.left = Some(cut_after));
        let told = store
            .save_checkpoint(&checkpoint(2), &parameters(2))
            .is_ok();
        disk.with(|platter| platter.left = Some(0));
        drop(store);
        for fates in 0..8_usize {
            let found = disk.with(|platter| platter.found(|at| Fate::of(at + fates)));
            let store = Store::with_backend(Disk::of(found), RUN).unwrap();
            let (read, bytes) = store.checkpoint().unwrap().unwrap();
            let old = (&read, &bytes) == (&checkpoint(1), &parameters(1));
            let new = (&read, &bytes) == (&checkpoint(2), &parameters(2));
            assert!((old && !told) || new, "cut after {cut_after} of {steps}");
            (befores, afters) = (befores + u32::from(old), afters + u32::from(new));
        }
    }
    println!("{steps} steps: {befores} times the checkpoint before, {afters} times the one after");
    assert!(befores > 0 && afters > 0);
}

#[test]
fn a_new_store_that_was_torn_is_made_or_refused_and_never_another() {
    let disk = Disk::of(Vec::new());
    drop(Store::with_backend(disk.clone(), RUN).unwrap());
    let steps = disk.with(|platter| platter.done);
    let (mut made, mut refused) = (0, 0);
    for cut_after in 0..=steps {
        let disk = Disk::of(Vec::new());
        disk.with(|platter| platter.left = Some(cut_after));
        drop(Store::with_backend(disk.clone(), RUN));
        disk.with(|platter| platter.left = Some(0));
        for fates in 0..9_usize {
            let found = disk.with(|platter| platter.found(|at| Fate::of(at + fates)));
            match Store::with_backend(Disk::of(found), RUN) {
                Ok(store) => {
                    assert_eq!(state(&store), (None, Vec::new()), "cut after {cut_after}");
                    made += 1;
                }
                // Nobody was told that there is a store: its file may be deleted.
                Err(error) => {
                    assert!(cut_after < steps, "{error}");
                    refused += 1;
                }
            }
        }
    }
    println!("{steps} steps: {made} stores could be made or used, {refused} were refused");
    assert!(made > 0);
}

#[test]
fn a_store_that_is_not_what_was_asked_for_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    assert!(matches!(
        Store::open(&path, RUN),
        Err(StoreError::Missing { .. })
    ));
    let store = Store::open_or_create(&path, RUN).unwrap();
    assert!(
        matches!(Store::open(&path, RUN), Err(StoreError::InUse)),
        "one coordinator at a time"
    );
    drop(store);
    let other = Store::open(&path, RunId(5));
    assert!(matches!(
        other,
        Err(StoreError::OtherRun {
            found: 4,
            expected: 5
        })
    ));
    let other = Store::of_rank(&path, RUN, Rank(1)).unwrap_err().to_string();
    assert_eq!(other, "the store is the coordinator's, not rank 1's");
    let database = builder().create(&path).unwrap();
    let write = database.begin_write().unwrap();
    write
        .open_table(ABOUT)
        .unwrap()
        .insert("format", 2)
        .unwrap();
    write.commit().unwrap();
    drop(database);
    assert!(matches!(
        Store::open(&path, RUN),
        Err(StoreError::OtherFormat { found: 2 })
    ));
    fs::write(&path, [7; 9000]).unwrap();
    assert!(matches!(
        Store::open(&path, RUN),
        Err(StoreError::NotAStore(_))
    ));
}

#[test]
fn a_run_begun_again_forgets_what_came_after() {
    let mut store = Store::in_memory(RUN).unwrap();
    assert_eq!(store.again(None).unwrap(), None);
    for epoch in 0..=9 {
        store.persist(&durable(epoch)).unwrap();
    }
    let again = store.again(Some(Epoch(6))).unwrap().unwrap();
    assert_eq!(store.durable().unwrap(), Some(durable(9)), "only asked");
    store.go_back(&again).unwrap();
    assert_eq!((again.record.epoch, again.view), (Epoch(6), View(9)));
    assert!(again.members.is_empty() && again.aborted.is_none());
    assert_eq!(again.lives, durable(9).lives, "no life is admitted twice");
    assert_eq!(store.log().unwrap().len(), 7);
    assert_eq!(store.durable().unwrap(), Some(again));
    assert_eq!(store.again(Some(Epoch(8))).unwrap(), None);
}
