//! A shard's file: appended to line by line, and good after a kill at any moment.
//!
//! **A line is written once it is whole, and only what ends in a newline is a line.** Whatever is
//! behind the last newline was being written when its process died: it is cut off, and its piece is
//! run again. A line before that which cannot be read is damage by somebody else, and is told.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Header, Line, SCHEMA, Shard};

/// Why a shard cannot be written to.
#[derive(Debug, Error)]
pub enum FileError {
    /// The file or its directory is not to be had.
    #[error("cannot write {}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another process has it.
    #[error(
        "another process is writing {}: wait for it, or give this one another --out",
        path.display()
    )]
    Busy {
        /// Which.
        path: PathBuf,
    },
    /// It holds something else.
    #[error("{} {why}", path.display())]
    Other {
        /// Which.
        path: PathBuf,
        /// What it holds, and what to do.
        why: String,
    },
}

/// What a shard's file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// The file, as it was named.
    pub name: String,
    /// The first line; `None` where even that was not written.
    pub header: Option<Header>,
    /// All others.
    pub lines: Vec<Line>,
    /// Whether something stood behind the last newline.
    pub torn: bool,
    /// The first line that cannot be read, counted from 1, and why. Those after it are not looked at.
    pub damaged: Option<(usize, String)>,
    /// How many bytes there are up to the last newline.
    pub whole: u64,
}

impl Contents {
    /// Of these bytes.
    #[must_use]
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let mut contents = Contents {
            name: name.to_owned(),
            torn: whole < bytes.len(),
            whole: whole as u64,
            ..Contents::default()
        };
        let lines = bytes[..whole].split_inclusive(|byte| *byte == b'\n');
        for (at, line) in lines.enumerate() {
            match (serde_json::from_slice::<Line>(line), at) {
                (Ok(Line::Header(header)), 0) => contents.header = Some(header),
                (Ok(line), 1..) if !matches!(line, Line::Header(_)) => contents.lines.push(line),
                (Ok(_), _) => {
                    let why = "the header is the first line and no other".to_owned();
                    contents.damaged = Some((at + 1, why));
                }
                (Err(error), _) => contents.damaged = Some((at + 1, error.to_string())),
            }
            if contents.damaged.is_some() {
                break;
            }
        }
        contents
    }

    /// Of this file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(Contents::of(&path.display().to_string(), &fs::read(path)?))
    }

    /// The number of the last session that began; 0 if none did.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        let sessions = self.lines.iter().map(|line| match line {
            Line::Session { session, .. } => *session,
            _ => 0,
        });
        sessions.max().unwrap_or(0)
    }
}

/// The files of shards in these folders, in order; a file may be named itself.
///
/// # Errors
/// What cannot be listed, or that there is none.
pub fn find(places: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut found: Vec<(PathBuf, PathBuf)> = Vec::new();
    for place in places {
        let told = |error: io::Error| format!("cannot read {}: {error}", place.display());
        let mut files = match fs::metadata(place).map_err(told)?.is_dir() {
            false => vec![place.clone()],
            true => {
                let entries = fs::read_dir(place).and_then(Iterator::collect::<io::Result<Vec<_>>>);
                let files = entries.map_err(told)?.into_iter().map(|entry| entry.path());
                files.filter(|path| is_shard(path)).collect()
            }
        };
        if files.is_empty() {
            return Err(format!(
                "there is no shard-K-of-N.jsonl in {}: name the --out of `selvedge nightly`",
                place.display()
            ));
        }
        files.sort();
        for file in files {
            // Named twice, it is still one file.
            let real = file.canonicalize().map_err(told)?;
            if !found.iter().any(|(known, _)| *known == real) {
                found.push((real, file));
            }
        }
    }
    Ok(found.into_iter().map(|(_, file)| file).collect())
}

fn is_shard(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy());
    name.is_some_and(|name| name.starts_with("shard-") && name.ends_with(".jsonl"))
}

/// A shard's file in this folder.
#[must_use]
pub fn path(dir: &Path, shard: Shard) -> PathBuf {
    dir.join(format!("shard-{}-of-{}.jsonl", shard.number, shard.of))
}

/// A shard's file that is being written.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the shard's file in a folder, which is made if need be, and returns what it says
    /// already. What was torn is cut off; a new file gets its header. As long as the log lives no
    /// other process can open it.
    ///
    /// # Errors
    /// When it cannot be written, another process has it, or it is not of this plan.
    pub fn open(dir: &Path, header: &Header) -> Result<(Log, Contents), FileError> {
        fs::create_dir_all(dir).map_err(|error| FileError::Io {
            path: dir.to_owned(),
            error,
        })?;
        let path = path(dir, header.shard);
        let io = |error| FileError::Io {
            path: path.clone(),
            error,
        };
        let mut options = OpenOptions::new();
        options.create(true).read(true).write(true).truncate(false);
        let mut file = options.open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FileError::Busy { path }),
            // Not every network file system has locks; there the cluster keeps shards apart.
            Err(TryLockError::Error(_)) => {}
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let mut contents = Contents::of(&path.display().to_string(), &bytes);
        if let Some(why) = refusal(&contents, header) {
            return Err(FileError::Other { path, why });
        }
        file.set_len(contents.whole).map_err(io)?;
        file.seek(SeekFrom::Start(contents.whole)).map_err(io)?;
        let mut log = Log { path, file };
        if contents.header.is_none() {
            log.append(&Line::Header(header.clone()))?;
            contents.header = Some(header.clone());
        }
        Ok((log, contents))
    }

    /// Writes a line, down to the disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&mut self, line: &Line) -> Result<(), FileError> {
        let write = |file: &mut File| {
            let mut text = serde_json::to_vec(line)?;
            text.push(b'\n');
            file.write_all(&text)?;
            file.sync_data()
        };
        write(&mut self.file).map_err(|error| FileError::Io {
            path: self.path.clone(),
            error,
        })
    }
}

/// Why what a file says cannot be gone on with; `None` where it can.
fn refusal(contents: &Contents, ours: &Header) -> Option<String> {
    if let Some((line, why)) = &contents.damaged {
        return Some(format!(
            "is damaged: line {line} is no record ({why}); move the file away to run the shard anew"
        ));
    }
    let theirs = contents.header.as_ref()?;
    let (theirs_are, ours_are) = (&theirs.inputs, &ours.inputs);
    let other_place = "give this one another --out";
    if theirs.schema != SCHEMA {
        return Some(format!(
            "has records of schema {}, and this program writes {SCHEMA}: {other_place}",
            theirs.schema
        ));
    }
    if theirs_are.run_id != ours_are.run_id {
        return Some(format!(
            "is of run '{}', and this is run '{}': {other_place}",
            theirs_are.run_id, ours_are.run_id
        ));
    }
    if theirs.plan != ours.plan {
        return Some(format!(
            "is of plan {}, and this is plan {}: {}; to go on with it {}, else {other_place}",
            theirs.plan,
            ours.plan,
            differing(theirs, ours),
            match theirs_are.sources == ours_are.sources {
                true => "give the same filters, --seed, --effort and --budget",
                false => "run the program that began it",
            }
        ));
    }
    (theirs.shard != ours.shard).then(|| {
        format!(
            "is of shard {}, and this is shard {}: {other_place}",
            theirs.shard, ours.shard
        )
    })
}

/// By what two plans of one run differ, in words.
fn differing(theirs: &Header, ours: &Header) -> String {
    let (one, other) = (&theirs.inputs, &ours.inputs);
    let mut all = Vec::new();
    let mut add = |what: &str, one: String, other: String| {
        if one != other {
            all.push(format!("{what} was {one} and is {other}"));
        }
    };
    let filters = |filters: &[String]| match filters {
        [] => "everything".to_owned(),
        some => format!("'{}'", some.join(" ")),
    };
    add("the filter", filters(&one.filters), filters(&other.filters));
    add("--seed", one.seed.to_string(), other.seed.to_string());
    add("--effort", one.effort.to_string(), other.effort.to_string());
    add(
        "the longest search that fits",
        format!("{}s", one.room_s),
        format!("{}s", other.room_s),
    );
    add("the program", one.sources.clone(), other.sources.clone());
    match all.is_empty() {
        true => "the catalogue is another".to_owned(),
        false => all.join(", "),
    }
}

/// Why a folder is not one for this plan's shards: it holds those of another.
///
/// # Errors
/// Which file, and what it is of.
pub fn others(dir: &Path, header: &Header) -> Result<(), FileError> {
    let Ok(files) = find(&[dir.to_owned()]) else {
        return Ok(());
    };
    let ours = path(dir, header.shard);
    for path in files.into_iter().filter(|path| *path != ours) {
        // Its process may be about to write it, or to take it away.
        let Ok(contents) = Contents::read(&path) else {
            continue;
        };
        let Some(theirs) = contents.header else {
            continue;
        };
        let same_shard = Header {
            shard: header.shard,
            ..theirs
        };
        let only_header = Contents {
            header: Some(same_shard),
            ..Contents::default()
        };
        if let Some(why) = refusal(&only_header, header) {
            return Err(FileError::Other { path, why });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::ran;
    use super::super::{Ended, Inputs};
    use super::*;

    fn header(run_id: &str) -> Header {
        Header {
            schema: SCHEMA,
            version: "0".to_owned(),
            plan: format!("plan-of-{run_id}"),
            inputs: Inputs {
                run_id: run_id.to_owned(),
                seed: 1,
                effort: 1,
                filters: Vec::new(),
                room_s: 0,
                sources: "s".to_owned(),
            },
            shard: Shard { number: 2, of: 8 },
            pieces: 3,
        }
    }

    fn lines() -> Vec<Line> {
        let piece = |interval| Line::Piece {
            session: 1,
            ran: Box::new(ran(interval, 6)),
        };
        vec![
            Line::Session {
                session: 1,
                budget_s: 60,
            },
            piece(0),
            piece(1),
            Line::End {
                session: 1,
                how: Ended::Done,
            },
        ]
    }

    #[test]
    fn cut_at_any_byte_a_file_goes_on_after_its_last_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, before) = Log::open(dir.path(), &header("a")).unwrap();
        assert!(before.lines.is_empty());
        for line in lines() {
            log.append(&line).unwrap();
        }
        drop(log);
        let file = path(dir.path(), header("a").shard);
        let whole = fs::read(&file).unwrap();
        for cut in 0..=whole.len() {
            fs::write(&file, &whole[..cut]).unwrap();
            let (mut log, contents) = Log::open(dir.path(), &header("a")).unwrap();
            let newlines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            let had = newlines.saturating_sub(1);
            assert_eq!(contents.lines, lines()[..had], "cut at {cut}");
            assert_eq!(contents.torn, cut > 0 && whole[cut - 1] != b'\n');
            for line in &lines()[had..] {
                log.append(line).unwrap();
            }
            drop(log);
            assert_eq!(fs::read(&file).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn damage_before_the_end_is_told_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), &header("a")).unwrap();
        for line in lines() {
            log.append(&line).unwrap();
        }
        drop(log);
        let file = path(dir.path(), header("a").shard);
        let mut text = fs::read_to_string(&file).unwrap();
        let second = text.match_indices('\n').nth(1).unwrap().0;
        text.replace_range(second + 5..second + 9, "\0\0\0\0");
        fs::write(&file, &text).unwrap();
        let said = Log::open(dir.path(), &header("a")).unwrap_err().to_string();
        assert!(said.contains("line 3 is no record"), "{said}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        let contents = Contents::read(&file).unwrap();
        assert_eq!((contents.lines.len(), contents.damaged.unwrap().0), (1, 3));
        // A second header is none, and neither is a file without one.
        let twice = format!(
            "{0}\n{0}\n",
            serde_json::to_string(&Line::Header(header("a"))).unwrap()
        );
        assert_eq!(Contents::of("f", twice.as_bytes()).damaged.unwrap().0, 2);
        let none = format!("{}\n", serde_json::to_string(&lines()[0]).unwrap());
        assert_eq!(Contents::of("f", none.as_bytes()).damaged.unwrap().0, 1);
    }

    #[test]
    fn what_is_of_another_run_plan_or_shard_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        drop(Log::open(dir.path(), &header("a")).unwrap());
        let refused = |change: fn(&mut Header)| {
            let mut header = header("a");
            change(&mut header);
            let own = Log::open(dir.path(), &header).unwrap_err().to_string();
            let mut other = header.clone();
            other.shard.number = 3;
            let beside = others(dir.path(), &other).unwrap_err().to_string();
            assert_eq!(own, beside);
            own
        };
        let said = refused(|header| header.inputs.run_id = "b".to_owned());
        assert!(
            said.contains("is of run 'a', and this is run 'b'"),
            "{said}"
        );
        let said = refused(|header| {
            header.plan = "p".to_owned();
            header.inputs.effort = 7;
        });
        assert!(said.contains("--effort was 1 and is 7"), "{said}");
        let said = refused(|header| {
            header.plan = "p".to_owned();
            header.inputs.sources = "t".to_owned();
        });
        assert!(said.contains("run the program that began it"), "{said}");
        let said = refused(|header| header.plan = "p".to_owned());
        assert!(said.contains("the catalogue is another"), "{said}");
        assert!(others(dir.path(), &header("a")).is_ok());
    }

    #[test]
    fn two_processes_cannot_write_one_shard() {
        let dir = tempfile::tempdir().unwrap();
        let first = Log::open(dir.path(), &header("a")).unwrap();
        let second = Log::open(dir.path(), &header("a")).unwrap_err();
        assert!(matches!(second, FileError::Busy { .. }), "{second}");
        drop(first);
        assert!(Log::open(dir.path(), &header("a")).is_ok());
    }

    #[test]
    fn a_file_named_twice_is_one_and_a_folder_without_any_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let place = || dir.path().to_owned();
        assert!(find(&[place()]).unwrap_err().contains("no shard-K-of-N"));
        drop(Log::open(dir.path(), &header("a")).unwrap());
        fs::write(dir.path().join("notes.txt"), "not ours").unwrap();
        let file = path(dir.path(), header("a").shard);
        assert_eq!(find(&[place(), file.clone(), place()]).unwrap(), [file]);
        assert!(
            find(&[dir.path().join("no")])
                .unwrap_err()
                .contains("cannot read")
        );
    }
}
