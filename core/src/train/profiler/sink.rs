//! Where traces go.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Takes one file at a time. **What it is asked to write replaces the end of what is there**: the
/// array's `]` is part of every write, and the next begins where it stood.
///
/// Its calls come from one thread at a time, with no lock held. An error or a panic ends neither
/// the session nor the training; [`close`](super::ProfilerSession::close) reports it. Under
/// `panic = "abort"` a panic ends the process, as any. One whose payload is no text is how
/// coroutines and threads are cancelled: it is reported, and goes on.
pub trait TraceSink: Send + 'static {
    /// Makes a file and puts `head` into it; if there is one of that name, it is an error.
    /// The calls after this are about it, until [`close`](Self::close).
    ///
    /// # Errors
    /// Whatever the sink has to say.
    fn create(&mut self, name: &str, head: &[u8]) -> io::Result<()>;

    /// Writes `bytes` at `offset`, in one go. After fewer than all of them it is called for the
    /// rest, and so it is after [`io::ErrorKind::Interrupted`]; none at all is a full disk.
    ///
    /// # Errors
    /// Whatever the sink has to say.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts the file off at `len` bytes.
    ///
    /// # Errors
    /// Whatever the sink has to say.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// The file is complete: sees that it is where it shall stay.
    ///
    /// # Errors
    /// Whatever the sink has to say.
    fn close(&mut self) -> io::Result<()>;

    /// Whether it may be called while a thread panics, from the panic hook. A panic of its own
    /// would end the process there, so only those that never panic say yes.
    fn may_run_in_panic_hook(&self) -> bool {
        false
    }
}

/// Files in a directory.
#[derive(Debug)]
pub struct FileSink {
    dir: PathBuf,
    file: Option<File>,
}

impl FileSink {
    /// Files in `dir`, which is there.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        FileSink {
            dir: dir.into(),
            file: None,
        }
    }

    /// Where they go.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn file(&mut self) -> io::Result<&mut File> {
        (self.file.as_mut()).ok_or_else(|| io::Error::other("no file is open"))
    }
}

impl TraceSink for FileSink {
    /// The name appears with the head in it: nobody ever finds an empty file there.
    fn create(&mut self, name: &str, head: &[u8]) -> io::Result<()> {
        let target = self.dir.join(name);
        let beside = self.dir.join(format!(".{name}.new"));
        let made: io::Result<File> = (|| {
            let mut file = (OpenOptions::new().write(true).create_new(true)).open(&beside)?;
            file.write_all(head)?;
            // Of two that come to the same name, only one may have it.
            fs::hard_link(&beside, &target).or_else(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Err(error),
                // Not every file system has links.
                _ if target.exists() => Err(io::ErrorKind::AlreadyExists.into()),
                _ => fs::rename(&beside, &target),
            })?;
            Ok(file)
        })();
        // Where it was renamed it is gone.
        let _ = fs::remove_file(&beside);
        self.file = Some(made?);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let file = self.file()?;
        file.seek(SeekFrom::Start(offset))?;
        file.write(bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file()?.set_len(len)
    }

    fn close(&mut self) -> io::Result<()> {
        // What the disk did not take may come out only here.
        self.file.take().map_or(Ok(()), |file| file.sync_all())
    }

    fn may_run_in_panic_hook(&self) -> bool {
        true
    }
}
