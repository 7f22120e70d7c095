//! A disk in memory, for the traces of one life of a rank. It may be full, and a write that its
//! process dies in may be there in part.

use std::io;
use std::time::Duration;

use selvedge_core::time::Instant;
use selvedge_core::train::profiler::{Io, IoEnd};

use crate::world::mutants::Mutant;

/// What stands after the last event.
const TAIL: usize = 2;

/// A write takes so long: who dies within may have made it in part.
const WRITE: Duration = Duration::from_millis(15);

/// A trace.
#[derive(Clone, Debug, Default)]
pub(in crate::world) struct TraceFile {
    pub(in crate::world) bytes: Vec<u8>,
    /// Events that were written, all of them.
    pub(in crate::world) events: u64,
    pub(in crate::world) closed: bool,
    /// Its process died in a write.
    pub(in crate::world) torn: bool,
}

#[derive(Clone, Debug)]
struct LastWrite {
    at: Instant,
    offset: usize,
    events: u64,
}

/// The disk.
#[derive(Clone, Debug, Default)]
pub(in crate::world) struct Disk {
    files: Vec<TraceFile>,
    last: Option<LastWrite>,
    pub(in crate::world) full: bool,
}

impl Disk {
    pub(in crate::world) fn new(full: bool) -> Self {
        Disk {
            full,
            ..Disk::default()
        }
    }

    pub(in crate::world) fn files(&self) -> &[TraceFile] {
        &self.files
    }

    /// Does what a session wants done.
    pub(in crate::world) fn perform(&mut self, io: Io, now: Instant, mutant: Mutant) -> IoEnd {
        let full = || IoEnd::Failed {
            kind: io::ErrorKind::StorageFull,
            text: "no space left".to_owned(),
        };
        match (io, self.files.last_mut()) {
            (Io::Create { .. }, _) if self.full => return full(),
            (Io::Create { head, .. }, _) => self.files.push(TraceFile {
                bytes: head,
                events: 1,
                ..TraceFile::default()
            }),
            (Io::Write { offset, bytes }, Some(file)) => {
                let offset = offset as usize;
                file.bytes.truncate(offset);
                if self.full {
                    file.bytes.extend_from_slice(&bytes[..bytes.len() / 2]);
                    self.last = None;
                    return full();
                }
                // A line for each event, and one for the end.
                let lines = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
                let events = lines.saturating_sub(1);
                file.bytes.extend_from_slice(&bytes);
                file.events += events;
                if mutant == Mutant::ArrayLeftOpen {
                    file.bytes.truncate(offset + bytes.len() - TAIL);
                }
                self.last = Some(LastWrite {
                    at: now,
                    offset,
                    events,
                });
            }
            (Io::Restore { .. }, Some(_)) if mutant == Mutant::RestoreForgotten => {}
            (Io::Restore { offset, bytes }, Some(file)) => {
                file.bytes.truncate(offset as usize);
                file.bytes.extend_from_slice(&bytes);
            }
            (Io::Close, Some(file)) => {
                file.closed = true;
                self.last = None;
            }
            (_, None) => {
                return IoEnd::Failed {
                    kind: io::ErrorKind::NotFound,
                    text: "no file is open".to_owned(),
                };
            }
        }
        IoEnd::Done
    }

    /// Its process dies. If it was writing, so much of the write is there, of a thousand parts.
    /// Whether it was.
    pub(in crate::world) fn tear(&mut self, now: Instant, per_mille: u64) -> bool {
        let Some(last) = self.last.take() else {
            return false;
        };
        let Some(file) = self.files.last_mut() else {
            return false;
        };
        if now.saturating_since(last.at) > WRITE {
            return false;
        }
        let written = file.bytes.split_off(last.offset);
        let there = (written.len() as u64 * per_mille / 1_000) as usize;
        file.bytes.extend_from_slice(&written[..there]);
        // It wrote over the old end; what it did not come to still stands.
        file.bytes
            .extend_from_slice(b"\n]".get(there..).unwrap_or_default());
        file.events -= last.events;
        file.torn = true;
        true
    }
}
