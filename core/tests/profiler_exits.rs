//! Every way out of a process, once unwinding and once aborting on a panic: what is left of the
//! trace then. The table of `docs/profiler-exits.md` is made here, and held to what is found;
//! with `SELVEDGE_BLESS=1` it is written.
#![cfg(all(feature = "profiler", target_os = "linux"))]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test has real threads, and what fails here fails the test"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use selvedge_core::train::profiler::{Repaired, check, repair};
use serde_json::Value;
use tempfile::TempDir;

/// A way out, and what must be left, unwinding and aborting.
struct Exit {
    /// For people.
    name: &'static str,
    /// For the program.
    word: &'static str,
    /// What is sent to it once it is ready.
    signals: &'static [&'static str],
    unwind: Left,
    abort: Left,
    /// What it says on standard error, whichever it is built for.
    says: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    ended: Ended,
    trace: Trace,
    events: Events,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Code(i32),
    Signal(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trace {
    Valid,
    /// It is, once it was repaired.
    Repaired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Events {
    /// All, and the totals at the end: the session was closed.
    All,
    /// Those of the steps that were over.
    Flushed,
}

const INT: i32 = 2;
const ABRT: i32 = 6;
const KILL: i32 = 9;
const TERM: i32 = 15;

const fn left(ended: Ended, trace: Trace, events: Events) -> Left {
    Left {
        ended,
        trace,
        events,
    }
}

const fn closed(ended: Ended) -> Left {
    left(ended, Trace::Valid, Events::All)
}

const fn flushed(ended: Ended) -> Left {
    left(ended, Trace::Valid, Events::Flushed)
}

const fn both(name: &'static str, word: &'static str, left: Left) -> Exit {
    Exit {
        name,
        word,
        signals: &[],
        unwind: left,
        abort: left,
        says: &[],
    }
}

use Ended::{Code, Signal};

const EXITS: [Exit; 21] = [
    both("the closure returns", "return", closed(Code(0))),
    Exit {
        says: &["training: the loss is NaN"],
        ..both("it returns an error", "error", closed(Code(1)))
    },
    Exit {
        abort: closed(Signal(ABRT)),
        says: &["out of memory"],
        ..both("it panics", "panic", closed(Code(101)))
    },
    Exit {
        abort: closed(Signal(ABRT)),
        says: &["the loader is gone"],
        ..both("a worker thread panics", "worker-panic", closed(Code(0)))
    },
    Exit {
        signals: &["INT"],
        ..both("SIGINT", "signal", closed(Signal(INT)))
    },
    Exit {
        signals: &["TERM"],
        ..both("SIGTERM", "signal", closed(Signal(TERM)))
    },
    Exit {
        signals: &["TERM"],
        ..both(
            "SIGTERM, obeyed in a session within it",
            "nested",
            closed(Signal(TERM)),
        )
    },
    both("SIGTERM, while it closes", "late", closed(Signal(TERM))),
    Exit {
        signals: &["INT", "TERM"],
        ..both(
            "SIGINT, not obeyed, then SIGTERM",
            "stuck",
            closed(Signal(TERM)),
        )
    },
    Exit {
        signals: &["INT", "INT"],
        ..both("SIGINT, not obeyed, twice", "stuck", closed(Signal(INT)))
    },
    Exit {
        signals: &["INT", "INT"],
        ..both(
            "SIGINT, not obeyed, twice, and its closing hangs",
            "hung",
            flushed(Signal(INT)),
        )
    },
    Exit {
        signals: &["INT"],
        ..both(
            "SIGINT, after `without_default_action`, to a handler set since",
            "graceful",
            closed(Code(0)),
        )
    },
    Exit {
        signals: &["INT"],
        ..both(
            "SIGINT, after the session",
            "afterwards",
            closed(Signal(INT)),
        )
    },
    both("`process::exit`", "exit", flushed(Code(3))),
    both("`process::abort`", "abort", flushed(Signal(ABRT))),
    Exit {
        signals: &["KILL"],
        ..both("SIGKILL", "stuck", flushed(Signal(KILL)))
    },
    both(
        "SIGKILL in the midst of a write",
        "torn",
        left(Signal(KILL), Trace::Repaired, Events::Flushed),
    ),
    Exit {
        says: &[
            "trace: the profile is not complete: cannot write to the trace",
            "5 events are lost",
        ],
        ..both(
            "the file may not grow (`ulimit -f`)",
            "no-room",
            flushed(Code(4)),
        )
    },
    Exit {
        says: &["trace: the profile is not complete: cannot close the trace"],
        ..both("its sink fails to close", "close-fails", closed(Code(4)))
    },
    Exit {
        abort: flushed(Signal(ABRT)),
        says: &["the sink has a bug"],
        ..both("its sink panics", "sink-panics", flushed(Code(4)))
    },
    both("the session is forgotten", "forget", flushed(Code(0))),
];

#[test]
fn whatever_ends_the_process_the_trace_holds_what_was_flushed() {
    let unwind = PathBuf::from(env!("CARGO_BIN_EXE_profiler-exits"));
    let abort = build("abort");
    let mut table = String::new();
    for exit in &EXITS {
        let cells = [(&unwind, exit.unwind), (&abort, exit.abort)].map(|(program, expected)| {
            let found = run(program, exit);
            assert_eq!(found, expected, "{} under {}", exit.name, program.display());
            found
        });
        let [unwind, abort] = cells.map(cell);
        let _ = writeln!(table, "| {} | {unwind} | {abort} |", exit.name);
    }
    let text = format!("{HEAD}{table}");
    let path = root().join("docs/profiler-exits.md");
    if std::env::var_os("SELVEDGE_BLESS").is_some_and(|v| v == "1") {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "{} is not what was found; write it again with SELVEDGE_BLESS=1:\n{text}",
        path.display()
    );
}

/// Nobody has set up a log: it must be told where everybody looks.
#[test]
fn a_session_that_ends_before_its_first_active_step_says_so() {
    let dir = TempDir::new().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_profiler-exits"));
    let ended = command(program, dir.path(), "too-short").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    assert_eq!(
        said,
        "profiler: no trace: the session ended after 1 of the 2 steps before the first active one\n"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

const HEAD: &str = "\
# What is left of a trace

Made by `core/tests/profiler_exits.rs`, which starts a process for each cell; it fails where this
table is not what it finds. The program is `core/tests/profiler/exits.rs`. *Closed* is a trace that is a
valid array with all events and the totals at its end. *Flushed* is a valid array with all events of
the steps that were over, and maybe more. *Repaired* is the same once `selvedge trace repair` was
there. In each, the events that found the queue full are counted.

| exit | `panic = \"unwind\"` | `panic = \"abort\"` |
|---|---|---|
";

fn cell(left: Left) -> String {
    let ended = match left.ended {
        Code(code) => format!("exit code {code}"),
        Signal(signal) => match signal {
            INT => "SIGINT".to_owned(),
            ABRT => "SIGABRT".to_owned(),
            KILL => "SIGKILL".to_owned(),
            TERM => "SIGTERM".to_owned(),
            other => format!("signal {other}"),
        },
    };
    let trace = match (left.trace, left.events) {
        (Trace::Repaired, _) => "repaired",
        (Trace::Valid, Events::All) => "closed",
        (Trace::Valid, Events::Flushed) => "flushed",
    };
    format!("{trace} ({ended})")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Builds the program with a profile of the workspace, of this name.
fn build(profile: &str) -> PathBuf {
    let here = std::env::current_exe().expect("a test has a program");
    // target/debug/deps/profiler_exits-...
    let target = here
        .ancestors()
        .nth(3)
        .expect("it is below the target directory");
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--locked",
            "-p",
            "selvedge-core",
            "--features",
            "profiler",
        ])
        .args([
            "--bin",
            "profiler-exits",
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(target)
        .current_dir(root())
        .output()
        .expect("cargo starts");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    target.join(profile).join("profiler-exits")
}

/// Runs it to its end, and looks at what it has left.
fn run(program: &Path, exit: &Exit) -> Left {
    let root = TempDir::new().unwrap();
    let dir = root.path().join("traces");
    fs::create_dir(&dir).unwrap();
    let mut child = command(program, &dir, exit.word)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let (status, flushed) = attend(&mut child, exit.signals);
    let mut said = String::new();
    child
        .stderr
        .take()
        .expect("it is piped")
        .read_to_string(&mut said)
        .unwrap();
    let says = exit.says.iter().find(|words| !said.contains(*words));
    assert_eq!(says, None, "{}: {said}", exit.name);
    // The third write of the torn one is what it is killed in.
    let told = if exit.word == "torn" { 2 } else { 3 };
    assert_eq!(flushed, told, "{}: {said}", exit.name);

    let files: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let [path] = &files[..] else {
        panic!("{}: {files:?}", exit.name)
    };
    assert!(path.to_string_lossy().ends_with(".trace.json"));
    let as_found = fs::read(path).unwrap();
    let repaired = repair(path, None).unwrap();
    let trace = match repaired {
        Repaired::Valid { .. } => {
            assert_eq!(fs::read(path).unwrap(), as_found, "it was not touched");
            Trace::Valid
        }
        Repaired::Closed { .. } => Trace::Repaired,
    };
    let bytes = fs::read(path).unwrap();
    check(&bytes[..]).unwrap_or_else(|fault| panic!("{}: {fault}", exit.name));
    let events: Vec<Value> = serde_json::from_slice(&bytes).expect("JSON");
    let has = |name: &str| events.iter().any(|event| event["name"] == name);
    for step in 0..flushed {
        assert!(has(&format!("step {step}")), "{}: step {step}", exit.name);
    }
    let dropped = events
        .iter()
        .find(|event| event["name"] == "events dropped");
    assert_eq!(
        dropped.map(|event| &event["args"]["dropped"]),
        Some(&5.into()),
        "{}",
        exit.name
    );
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => Code(code),
        (_, signal) => Signal(signal.expect("it has ended somehow")),
    };
    let all = has("unflushed") && has("profiler_totals");
    let all = all && (exit.word != "worker-panic" || has("doomed"));
    left(
        ended,
        trace,
        if all { Events::All } else { Events::Flushed },
    )
}

fn command(program: &Path, dir: &Path, word: &str) -> Command {
    let mut command = match word {
        // No file may have more than 4 KiB, or 8 where the shell counts blocks of 1,024 bytes.
        "no-room" => {
            let mut shell = Command::new("sh");
            shell.args([
                "-c",
                "trap '' XFSZ; ulimit -c 0; ulimit -f 8; exec \"$@\"",
                "sh",
            ]);
            shell
        }
        // A core file of each abort is of no use; and a test that runs in the background of a
        // shell has SIGINT ignored, which a profiler would respect.
        _ => {
            let mut shell = Command::new("env");
            shell.args([
                "--default-signal=INT,TERM",
                "sh",
                "-c",
                "ulimit -c 0; exec \"$@\"",
                "sh",
            ]);
            shell
        }
    };
    command.arg(program).arg(dir).arg(word);
    command
}

/// No exit takes longer: a signal that is lost must not hang the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads what it tells, and sends each signal when it is ready for it. Returns how many steps
/// were flushed.
fn attend(child: &mut Child, signals: &[&str]) -> (ExitStatus, u32) {
    let mut signals = signals.iter();
    let mut flushed = 0;
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .try_for_each(|line| tell.send(line))
    });
    loop {
        let line = match told.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                child.kill().expect("it is there");
                panic!("it has not ended; {flushed} steps were flushed");
            }
        };
        match line.as_str() {
            "ready" | "asked to leave" => {
                if let Some(signal) = signals.next() {
                    let pid = child.id().to_string();
                    let sent = Command::new("kill").args(["-s", signal, &pid]).status();
                    assert!(sent.expect("there is kill").success());
                }
            }
            told => {
                let number = told
                    .strip_prefix("flushed ")
                    .expect("it tells nothing else");
                flushed = number.parse().expect("a number");
            }
        }
    }
    assert_eq!(signals.next(), None, "it ended before all was sent");
    (child.wait().expect("it ends"), flushed)
}
