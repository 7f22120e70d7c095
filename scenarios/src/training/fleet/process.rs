//! One child process: what it says, and the signals it gets.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::training::event::Event;

/// Of what a child complained at its end, so much is told.
const COMPLAINT: usize = 2_000;

/// Which process: the coordinator or a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Coordinator,
    Rank(u32),
}

/// What a child said, or that it has said all.
pub(super) enum Said {
    Event(Event),
    /// A line that is no event.
    Other(String),
    End,
}

/// A child. It is killed and waited for when it is dropped.
pub(super) struct Process {
    child: Child,
    commands: ChildStdin,
    stderr: PathBuf,
    pub(super) life: u32,
    /// Whether it was killed on purpose.
    pub(super) killed: bool,
    /// All that it had to say was read.
    pub(super) silent: bool,
}

impl Process {
    /// Starts a child. What it says goes into `said`, with who it is and which life.
    pub(super) fn start(
        command: &mut Command,
        (who, life): (Who, u32),
        stderr: &Path,
        said: &Sender<(Who, u32, Said)>,
    ) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(stderr)?)
            // The terminal's Ctrl-C is for the parent, who ends its children itself.
            .process_group(0)
            .spawn()?;
        let (Some(commands), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a child without its pipes"));
        };
        let said = said.clone();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let parse = |line: String| match serde_json::from_str(&line) {
                Ok(event) => Said::Event(event),
                Err(_) => Said::Other(line),
            };
            for one in lines.map(parse).chain([Said::End]) {
                if said.send((who, life, one)).is_err() {
                    return;
                }
            }
        });
        Ok(Process {
            child,
            commands,
            stderr: stderr.to_owned(),
            life,
            killed: false,
            silent: false,
        })
    }

    /// Kills it: nothing in it gets a chance to run.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.killed = true;
        self.child.kill()
    }

    pub(super) fn stop(&self) -> io::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    pub(super) fn go_on(&self) -> io::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// It was not waited for yet, so the id is its own.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        let id = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        Ok(kill(Pid::from_raw(id), signal)?)
    }

    /// Gives it a command.
    pub(super) fn command(&mut self, command: &str) -> io::Result<()> {
        writeln!(self.commands, "{command}")
    }

    /// How it ended, if it has, and all that it said was read.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        match self.silent {
            true => self.child.try_wait(),
            false => Ok(None),
        }
    }

    /// The end of what it complained of.
    pub(super) fn complaint(&self) -> String {
        let text = std::fs::read_to_string(&self.stderr).unwrap_or_default();
        let text = text.trim();
        let from = text.len().saturating_sub(COMPLAINT);
        let from = (from..=text.len()).find(|&at| text.is_char_boundary(at));
        text[from.unwrap_or(0)..].to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Whoever has ended already cannot be killed, and is waited for all the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
