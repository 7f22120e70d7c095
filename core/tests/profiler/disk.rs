//! A disk in memory that fails as it is told.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use selvedge_core::Std;
use selvedge_core::time::{Clock, Instant};
use selvedge_core::train::profiler::{
    Args, ProfilerSession, Schedule, SessionConfig, TraceEvent, TraceNaming, TraceSink,
};
use serde_json::Value;

/// What is to go wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The bytes that all files together have room for.
    pub(crate) room: Option<usize>,
    /// Calls of `close` fail.
    pub(crate) close: bool,
    /// This call of any kind panics, counted from 0.
    pub(crate) panic_at: Option<usize>,
    /// Calls of `truncate` fail.
    pub(crate) truncate: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Inside {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) calls: usize,
    /// What each call of `write_at` was given, and what stood there before.
    pub(crate) writes: Vec<(u64, Vec<u8>, Vec<u8>)>,
    open: Option<String>,
    faults: Faults,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(pub(crate) Arc<Mutex<Inside>>);

impl Disk {
    pub(crate) fn with(faults: Faults) -> Self {
        let disk = Disk::default();
        disk.0.lock().unwrap().faults = faults;
        disk
    }

    /// The names of the events of each file, but those of the session itself.
    pub(crate) fn names(&self) -> Vec<Vec<String>> {
        let inside = self.0.lock().unwrap();
        inside.files.values().map(|bytes| names(bytes)).collect()
    }

    fn call<T>(&self, f: impl FnOnce(&mut Inside) -> io::Result<T>) -> io::Result<T> {
        let mut inside = self.0.lock().unwrap();
        inside.calls += 1;
        if inside.faults.panic_at == Some(inside.calls - 1) {
            drop(inside);
            panic!("planned");
        }
        f(&mut inside)
    }
}

impl Inside {
    fn put(&mut self, offset: usize, bytes: &[u8]) -> io::Result<usize> {
        let used: usize = self.files.values().map(Vec::len).sum();
        let name = self.open.clone().expect("a file is open");
        let file = self.files.get_mut(&name).expect("it is there");
        let free = self
            .faults
            .room
            .map_or(usize::MAX, |room| room.saturating_sub(used));
        let old = file.len() - offset;
        let fits = bytes.len().min(old.saturating_add(free));
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.resize(file.len().max(offset + fits), 0);
        file[offset..offset + fits].copy_from_slice(&bytes[..fits]);
        Ok(fits)
    }
}

impl TraceSink for Disk {
    fn create(&mut self, name: &str, head: &[u8]) -> io::Result<()> {
        self.call(|inside| {
            let used: usize = inside.files.values().map(Vec::len).sum();
            if inside
                .faults
                .room
                .is_some_and(|room| used + head.len() > room)
            {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let before = inside.files.insert(name.to_owned(), head.to_vec());
            assert!(before.is_none(), "{name} was there");
            inside.open = Some(name.to_owned());
            Ok(())
        })
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.call(|inside| {
            let before = inside.files[inside.open.as_ref().expect("a file is open")].clone();
            inside.writes.push((offset, bytes.to_vec(), before));
            inside.put(offset as usize, bytes)
        })
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.call(|inside| {
            if inside.faults.truncate {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            let name = inside.open.clone().expect("a file is open");
            inside
                .files
                .get_mut(&name)
                .expect("it is there")
                .truncate(len as usize);
            Ok(())
        })
    }

    fn close(&mut self) -> io::Result<()> {
        self.call(|inside| {
            inside.open = None;
            match inside.faults.close {
                true => Err(io::Error::other("the disk did not take it")),
                false => Ok(()),
            }
        })
    }
}

/// Goes on by a millisecond each time it is asked.
#[derive(Debug, Default)]
pub(crate) struct Ticking(std::sync::atomic::AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Instant {
        let ticks = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Instant::from_nanos(ticks * 1_000_000)
    }
}

pub(crate) fn config(schedule: Schedule, room: usize) -> SessionConfig {
    SessionConfig {
        schedule,
        naming: TraceNaming {
            host: "host".into(),
            pid: 7,
            process: String::new(),
            origin_unix_ns: 1_000_000_000,
        },
        queue_room: room,
    }
}

pub(crate) fn open(disk: &Disk, schedule: Schedule, room: usize) -> ProfilerSession<Std, Disk> {
    let clock = Box::new(Ticking::default());
    ProfilerSession::open(config(schedule, room), disk.clone(), clock)
}

pub(crate) fn event(name: &str) -> TraceEvent {
    TraceEvent::instant(name.to_owned(), Instant::ZERO, Args::new())
}

/// The names of the events of a trace, but those of the session itself; it must be JSON.
#[track_caller]
pub(crate) fn names(bytes: &[u8]) -> Vec<String> {
    let parsed: Value = serde_json::from_slice(bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)));
    let names = parsed
        .as_array()
        .expect("an array")
        .iter()
        .map(|event| event["name"].as_str());
    let names = names.map(|name| name.expect("each has a name").to_owned());
    let own = ["process_name", "profiler_totals", "events dropped"];
    names
        .filter(|name| !own.contains(&name.as_str()) && !name.starts_with("ProfilerStep#"))
        .collect()
}
