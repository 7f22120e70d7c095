//! Making a valid trace of one whose writing was cut off.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

use super::scan::{Elements, TraceFault};

/// What [`repair`] did.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Repaired {
    /// The file is a closed array of events already; it was not touched.
    Valid {
        /// How many.
        events: u64,
    },
    /// The array was closed after the last whole event.
    Closed {
        /// Events that were kept.
        events: u64,
        /// Bytes that were dropped.
        dropped: u64,
        /// What was wrong.
        fault: String,
    },
}

/// Why nothing was repaired. The file is as it was.
#[derive(Debug, Error)]
pub enum RepairError {
    /// It is something else than a trace.
    #[error("{} is not a trace: {why}", path.display())]
    NotATrace {
        /// The file.
        path: PathBuf,
        /// Why it is none.
        why: String,
    },
    /// Somebody writes to it.
    #[error("{} is being written to: repair it when its process has ended", path.display())]
    Changing {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} {}: {error}", path.display())]
    Io {
        /// What was to be done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Makes a valid trace of the file at `path`: keeps every whole event, drops what follows, closes
/// the array. The result takes the file's place at once (or goes to `out`); a file that is valid
/// is not touched.
///
/// ```
/// use selvedge_core::train::profiler::{Repaired, repair};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("torn.trace.json");
/// let event = r#"{"name":"a","ph":"i","ts":1,"pid":1,"tid":1}"#;
/// std::fs::write(&path, format!("[\n{event},\n{event},\n{{\"name\":\"to"))?;
/// let done = repair(&path, None)?;
/// assert!(matches!(done, Repaired::Closed { events: 2, dropped: 13, .. }));
/// assert_eq!(std::fs::read_to_string(&path)?, format!("[\n{event},\n{event}\n]"));
/// assert_eq!(repair(&path, None)?, Repaired::Valid { events: 2 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`RepairError`].
pub fn repair(path: &Path, out: Option<&Path>) -> Result<Repaired, RepairError> {
    let wrong = |what| {
        move |error| RepairError::Io {
            what,
            path: path.to_owned(),
            error,
        }
    };
    // A link is followed: what it points to is replaced, not the link.
    let real = fs::canonicalize(path).map_err(wrong("find"))?;
    let file = File::open(&real).map_err(wrong("open"))?;
    let before = file.metadata().map_err(wrong("read"))?;
    if !before.is_file() {
        return Err(RepairError::NotATrace {
            path: path.to_owned(),
            why: "it is no file".to_owned(),
        });
    }
    let found = look(&file).map_err(|error| match error {
        Look::NotATrace(why) => RepairError::NotATrace {
            path: path.to_owned(),
            why,
        },
        Look::Io(error) => wrong("read")(error),
    })?;
    let target = match (out, &found.fault) {
        (Some(out), _) => out.to_owned(),
        (None, Some(_)) => real.clone(),
        (None, None) => {
            return Ok(Repaired::Valid {
                events: found.events,
            });
        }
    };
    let keep = match found.fault {
        Some(_) => found.good,
        None => before.len(),
    };
    let copied = copy(&real, &target, keep, found.fault.is_some());
    copied.map_err(|error| RepairError::Io {
        what: "write",
        path: target.clone(),
        error,
    })?;
    let after = file.metadata().map_err(wrong("read"))?;
    if after.len() != before.len() {
        // The copy is not of one moment.
        let _ = fs::remove_file(beside(&target));
        return Err(RepairError::Changing {
            path: path.to_owned(),
        });
    }
    fs::rename(beside(&target), &target).map_err(|error| RepairError::Io {
        what: "replace",
        path: target,
        error,
    })?;
    Ok(match found.fault {
        None => Repaired::Valid {
            events: found.events,
        },
        Some(fault) => Repaired::Closed {
            events: found.events,
            dropped: before.len() - keep,
            fault: fault.to_string(),
        },
    })
}

struct Found {
    events: u64,
    good: u64,
    fault: Option<TraceFault>,
}

enum Look {
    NotATrace(String),
    Io(io::Error),
}

/// How far the file is a trace.
fn look(file: &File) -> Result<Found, Look> {
    let mut elements = Elements::new(BufReader::with_capacity(1 << 16, file));
    let fault = loop {
        match elements.next() {
            Ok(Some(element)) if element.number == 0 && !is_event(&element.event) => {
                return Err(Look::NotATrace("its first element has no 'ph'".to_owned()));
            }
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(TraceFault::Io(error)) => return Err(Look::Io(error)),
            Err(TraceFault::NoArray) => {
                return Err(Look::NotATrace(TraceFault::NoArray.to_string()));
            }
            Err(fault @ TraceFault::NoEvent { number: 0, .. }) => {
                return Err(Look::NotATrace(fault.to_string()));
            }
            Err(fault) => break Some(fault),
        }
    };
    Ok(Found {
        events: elements.number(),
        good: elements.good(),
        fault,
    })
}

fn is_event(event: &Value) -> bool {
    event.get("ph").is_some_and(Value::is_string)
}

/// Writes what is to be kept beside the target.
fn copy(from: &Path, target: &Path, keep: u64, close: bool) -> io::Result<()> {
    let temporary = beside(target);
    let copied = (|| {
        let source = File::open(from)?;
        let permissions = source.metadata()?.permissions();
        let mut into = (OpenOptions::new().write(true).create_new(true)).open(&temporary)?;
        io::copy(&mut source.take(keep), &mut into)?;
        if close {
            into.write_all(if keep == 0 { b"[\n]" } else { b"\n]" })?;
        }
        into.set_permissions(permissions)?;
        into.sync_all()
    })();
    if copied.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    copied
}

fn beside(target: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}.repair", std::process::id()));
    target.with_file_name(name)
}
