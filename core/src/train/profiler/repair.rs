//! Making a valid trace of one whose writing was cut off.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::iter;
use std::ops::Range;
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
        /// Elements among those kept that are no JSON, and were left out.
        skipped: u64,
        /// What was wrong first.
        fault: String,
        /// Where the file is as it was; `None` where it is still that.
        original: Option<PathBuf>,
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
    /// To keep what stands before the fault would lose what stands after it.
    #[error(
        "{} has a fault with events after it, which would be lost: {fault}; name another file \
         for what stands before it (--out)",
        path.display()
    )]
    EventsAfter {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
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

/// Something is another thing than a trace: nothing of it is known to be an event.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("it is not a trace: {why}")]
pub struct NotATrace {
    /// Why not.
    pub why: String,
}

/// Makes a valid trace of bytes, by the rules of [`repair`] with an `out`.
///
/// ```
/// use selvedge_core::train::profiler::repaired;
///
/// let event = r#"{"name":"a","ph":"i","ts":1,"pid":1,"tid":1}"#;
/// let torn = format!("[\n{event},\n{{\"name\":\"to");
/// assert_eq!(repaired(torn.as_bytes())?, format!("[\n{event}\n]").into_bytes());
/// assert!(repaired(b"hello").is_err());
/// # Ok::<(), selvedge_core::train::profiler::NotATrace>(())
/// ```
///
/// # Errors
/// [`NotATrace`].
pub fn repaired(bytes: &[u8]) -> Result<Vec<u8>, NotATrace> {
    let no_trace = |error| match error {
        Look::NotATrace(why) => NotATrace { why },
        Look::Io(error) => NotATrace {
            why: error.to_string(),
        },
    };
    let found = look(&mut Cursor::new(bytes)).map_err(no_trace)?;
    if found.fault.is_none() {
        return Ok(bytes.to_vec());
    }
    let mut into = Vec::with_capacity(bytes.len() + 2);
    let written = write(
        &mut Cursor::new(bytes),
        &mut into,
        &found.kept,
        Some(found.head),
    );
    written.map_err(|error| no_trace(Look::Io(error)))?;
    Ok(into)
}

/// Makes a valid trace of the file at `path`: keeps every whole event, drops what follows, closes
/// the array. An element that is no JSON (`"loss":NaN`) but ends where one does is left out, and
/// those after it are kept. The result takes the file's place at once, and the file is kept beside
/// it, as `{path}.orig`; or it goes to `out`. A file that is valid is not touched.
///
/// Where whole events may follow a fault whose end nobody knows, only `out` will do.
///
/// ```
/// use selvedge_core::train::profiler::{Repaired, repair};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("torn.trace.json");
/// let event = r#"{"name":"a","ph":"i","ts":1,"pid":1,"tid":1}"#;
/// std::fs::write(&path, format!("[\n{event},\n{event},\n{{\"name\":\"to"))?;
/// let done = repair(&path, None)?;
/// assert!(matches!(done, Repaired::Closed { events: 2, dropped: 13, skipped: 0, .. }));
/// assert_eq!(std::fs::read_to_string(&path)?, format!("[\n{event},\n{event}\n]"));
/// assert_eq!(repair(&path, None)?, Repaired::Valid { events: 2 });
/// assert!(dir.path().join("torn.trace.json.orig").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`RepairError`].
pub fn repair(path: &Path, out: Option<&Path>) -> Result<Repaired, RepairError> {
    let no_trace = |why| RepairError::NotATrace {
        path: path.to_owned(),
        why,
    };
    // A link is followed: what it points to is replaced, not the link.
    let real = fs::canonicalize(path).map_err(failed("find", path))?;
    let file = File::open(&real).map_err(failed("open", path))?;
    let before = file.metadata().map_err(failed("read", path))?;
    if !before.is_file() {
        return Err(no_trace("it is no file".to_owned()));
    }
    let found = look(&mut &file).map_err(|error| match error {
        Look::NotATrace(why) => no_trace(why),
        Look::Io(error) => failed("read", path)(error),
    })?;
    // The same file by another name is that file.
    let out = out.filter(|out| fs::canonicalize(out).ok().as_ref() != Some(&real));
    let target = match (out, &found.fault) {
        (Some(out), _) => out,
        (None, Some(fault)) if found.events_after => {
            return Err(RepairError::EventsAfter {
                path: path.to_owned(),
                fault: fault.to_string(),
            });
        }
        (None, Some(_)) => &real,
        (None, None) => {
            return Ok(Repaired::Valid {
                events: found.events,
            });
        }
    };
    let (kept, closed_after) = match found.fault {
        Some(_) => (found.kept, Some(found.head)),
        None => (iter::once(0..before.len()).collect(), None),
    };
    copy(&real, target, &kept, closed_after).map_err(failed("write", target))?;
    let placed = place(
        path,
        &file,
        before.len(),
        target,
        out.is_none().then_some(&real),
    );
    let original = placed.inspect_err(|_| {
        let _ = fs::remove_file(beside(target));
    })?;
    Ok(match found.fault {
        None => Repaired::Valid {
            events: found.events,
        },
        Some(fault) => Repaired::Closed {
            events: found.events,
            dropped: before.len() - kept.iter().map(|part| part.end - part.start).sum::<u64>(),
            skipped: found.skipped,
            fault: fault.to_string(),
            original,
        },
    })
}

/// Puts what was copied where it is to be. What is `in_place` is kept; returns where.
fn place(
    path: &Path,
    file: &File,
    copied: u64,
    target: &Path,
    in_place: Option<&PathBuf>,
) -> Result<Option<PathBuf>, RepairError> {
    if file.metadata().map_err(failed("read", path))?.len() != copied {
        // The copy is not of one moment.
        return Err(RepairError::Changing {
            path: path.to_owned(),
        });
    }
    let original = in_place.map(|real| keep(real)).transpose()?;
    fs::rename(beside(target), target).map_err(failed("replace", target))?;
    Ok(original)
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RepairError {
    let path = path.to_owned();
    move |error| RepairError::Io { what, path, error }
}

/// The file keeps its content by this name, too. Nothing that has it already is overwritten.
fn keep(real: &Path) -> Result<PathBuf, RepairError> {
    let mut name = real.as_os_str().to_owned();
    name.push(".orig");
    let original = PathBuf::from(name);
    let kept = fs::hard_link(real, &original).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Err(error),
        // Not every file system has links.
        _ => File::create_new(&original).and_then(|mut copy| {
            io::copy(&mut File::open(real)?, &mut copy)?;
            copy.sync_all()
        }),
    });
    match kept {
        Ok(()) => Ok(original),
        Err(error) => Err(RepairError::Io {
            what: "keep what was there as",
            path: original,
            error,
        }),
    }
}

struct Found {
    events: u64,
    /// Just after the `[`.
    head: u64,
    /// What is to be kept: the head and all whole events up to a fault, and from each fault to
    /// the next.
    kept: Vec<Range<u64>>,
    skipped: u64,
    fault: Option<TraceFault>,
    /// There may be whole events after what is kept.
    events_after: bool,
}

enum Look {
    NotATrace(String),
    Io(io::Error),
}

/// How far the file is a trace.
fn look(file: &mut (impl Read + Seek)) -> Result<Found, Look> {
    let mut elements = Elements::new(BufReader::with_capacity(1 << 16, &mut *file));
    let mut found = Found {
        events: 0,
        head: 0,
        kept: Vec::new(),
        skipped: 0,
        fault: None,
        events_after: false,
    };
    // The next whole event begins a new part.
    let mut apart = false;
    // Where the last element ends, whole or not.
    let mut known = 0;
    let last = loop {
        let next = elements.next();
        if elements.in_object() {
            let why = "it does not begin with '[': of traces that are objects none is repaired";
            return Err(Look::NotATrace(why.to_owned()));
        }
        if found.kept.is_empty() {
            found.head = elements.head();
            found.kept.push(0..found.head);
        }
        match next {
            Ok(Some(element)) if found.events == 0 && !is_event(&element.event) => {
                return Err(Look::NotATrace("its first element has no 'ph'".to_owned()));
            }
            Ok(Some(element)) => {
                found.events += 1;
                match found.kept.last_mut() {
                    Some(part) if !apart => part.end = elements.good(),
                    _ => found.kept.push(element.at..elements.good()),
                }
                apart = false;
            }
            Ok(None) => break None,
            Err(TraceFault::Io(error)) => return Err(Look::Io(error)),
            Err(TraceFault::NoArray) => {
                return Err(Look::NotATrace(TraceFault::NoArray.to_string()));
            }
            Err(fault) if elements.is_passable() => {
                found.skipped += 1;
                found.fault.get_or_insert(fault);
                apart = true;
            }
            Err(fault @ TraceFault::NoEvent { number: 0, .. }) => {
                return Err(Look::NotATrace(fault.to_string()));
            }
            Err(fault) => break Some(fault),
        }
        known = elements.at();
    };
    if let (0, Some(fault)) = (found.events, &found.fault) {
        return Err(Look::NotATrace(fault.to_string()));
    }
    if let Some(fault) = last {
        // A write that was cut off leaves at most one event of which a part is there.
        let part = u64::from(matches!(fault, TraceFault::Unclosed { .. }));
        found.events_after = phases_from(file, known).map_err(Look::Io)? > part;
        found.fault.get_or_insert(fault);
    }
    Ok(found)
}

fn is_event(event: &Value) -> bool {
    event.get("ph").is_some_and(Value::is_string)
}

/// How often there is the name of an event's phase from there on: within a text it has
/// backslashes.
fn phases_from(file: &mut (impl Read + Seek), at: u64) -> io::Result<u64> {
    const PHASE: &[u8] = b"\"ph\"";
    file.seek(SeekFrom::Start(at))?;
    let (mut found, mut last) = (0, [0; PHASE.len()]);
    for byte in BufReader::with_capacity(1 << 16, file).bytes() {
        last.rotate_left(1);
        last[PHASE.len() - 1] = byte?;
        found += u64::from(last == *PHASE);
    }
    Ok(found)
}

/// Writes what is to be kept beside the target. If the array is to be closed, `head` is where it
/// begins.
fn copy(from: &Path, target: &Path, kept: &[Range<u64>], head: Option<u64>) -> io::Result<()> {
    let temporary = beside(target);
    let copied = (|| {
        let mut source = File::open(from)?;
        let permissions = source.metadata()?.permissions();
        let mut into = (OpenOptions::new().write(true).create_new(true)).open(&temporary)?;
        write(&mut source, &mut into, kept, head)?;
        into.set_permissions(permissions)?;
        into.sync_all()
    })();
    if copied.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    copied
}

fn write(
    source: &mut (impl Read + Seek),
    into: &mut impl Write,
    kept: &[Range<u64>],
    head: Option<u64>,
) -> io::Result<()> {
    let mut any = false;
    for (at, part) in kept.iter().enumerate() {
        if at > 0 {
            into.write_all(if any { b",\n" } else { b"\n" })?;
        }
        source.seek(SeekFrom::Start(part.start))?;
        io::copy(&mut (&mut *source).take(part.end - part.start), into)?;
        any |= at > 0 || head.is_some_and(|head| part.end > head);
    }
    match head {
        None => Ok(()),
        Some(0) => into.write_all(b"[\n]"),
        Some(_) => into.write_all(b"\n]"),
    }
}

fn beside(target: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}.repair", std::process::id()));
    target.with_file_name(name)
}
