//! The parent's side of a unit: starts a child, watches it, and makes a verdict of whatever
//! became of it. Aborts, kills and time-outs of the child are records like any other.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::atomic::AtomicBool;
//! use std::time::Duration;
//! use selvedge_sim::child::{self, Children, Launcher, Request, UNIT_COMMAND};
//! use selvedge_sim::platform::Platform;
//! use selvedge_sim::unit::Task;
//! use selvedge_sim::{Cx, Engine, Observation, Variant, bodies, host};
//!
//! fn idle<P: Platform>(_: &Cx) -> Observation {
//!     Observation::none()
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     let arguments: Vec<String> = std::env::args().collect();
//!     if let [_, word, file] = &arguments[..] && word == UNIT_COMMAND {
//!         let spec = child::serve(Path::new(file))?;
//!         child::end_with_parent();
//!         return host::run(&spec, &bodies!(idle));
//!     }
//!     let children = Children::by(Launcher::command(&std::env::current_exe()?))?;
//!     let request = Request {
//!         scenario: "idle".to_owned(),
//!         variant: Variant::Shipped,
//!         engine: Engine::Loom { preemptions: None },
//!         task: Task::Search { seed: 1, executions: 1_000 },
//!         rounds: 1,
//!         workers: 1,
//!         most_bytes: u64::MAX,
//!         limit: Duration::from_secs(10),
//!     };
//!     let outcome = children.run(&request, &AtomicBool::new(false), |_| ())?;
//!     println!("{}", outcome.verdict(request.engine).class());
//!     Ok(())
//! }
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::campaign::CampaignFigures;
use crate::explorer::Escalation;
use crate::model::Figures;
use crate::trace::Trace;
use crate::unit::{End, Record, Task, UnitSpec, Variant};
use crate::{Engine, Verdict};

/// The word after which the program's command line names a unit's spec file. A program that
/// [`Launcher::command`] starts must answer to it by calling [`serve`].
///
/// ```
/// use selvedge_sim::child::UNIT_COMMAND;
///
/// let is_child = std::env::args().nth(1).is_some_and(|word| word == UNIT_COMMAND);
/// assert!(!is_child);
/// ```
pub const UNIT_COMMAND: &str = "unit";

/// The environment variable that names a unit's spec file to a test of the program. A test that
/// [`Launcher::test`] starts must answer to it by calling [`serve`].
///
/// ```
/// let is_child = std::env::var_os(selvedge_sim::child::UNIT_VARIABLE).is_some();
/// assert!(!is_child);
/// ```
pub const UNIT_VARIABLE: &str = "SELVEDGE_UNIT";

/// A child ends itself at its limit, or when it finds an execution stuck; one that has not by
/// this much after its limit is killed.
const GRACE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(4);

/// What to run in a child.
///
/// ```
/// use std::time::Duration;
/// use selvedge_sim::child::Request;
/// use selvedge_sim::unit::Task;
/// use selvedge_sim::{Engine, Variant};
///
/// let search = Request {
///     scenario: "idle".to_owned(),
///     variant: Variant::Shipped,
///     engine: Engine::Explorer { preemptions: Some(2) },
///     task: Task::Search { seed: 1, executions: 0 },
///     rounds: 1,
///     workers: 1,
///     most_bytes: u64::MAX,
///     limit: Duration::from_secs(10),
/// };
/// assert_eq!(search.engine.to_string(), "explorer:2");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The scenario's id.
    pub scenario: String,
    /// Which body.
    pub variant: Variant,
    /// Under which engine.
    pub engine: Engine,
    /// To do what.
    pub task: Task,
    /// How often a body repeats what races, on real threads.
    pub rounds: u32,
    /// Threads that may search at a time, where the engine can use several.
    pub workers: usize,
    /// How much memory the search of a model may take, in bytes; never more than is free.
    pub most_bytes: u64,
    /// For how long at most.
    pub limit: Duration,
}

/// What became of a child.
///
/// ```
/// use selvedge_sim::child::Outcome;
/// use selvedge_sim::unit::End;
/// use selvedge_sim::{Class, Engine};
///
/// let outcome = Outcome {
///     end: Some(End::Cut),
///     executions: 40,
///     ..Outcome::default()
/// };
/// let verdict = outcome.verdict(Engine::Explorer { preemptions: None });
/// assert_eq!((verdict.class(), verdict.executions()), (Class::BudgetEnded, 40));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// How it ended; `None` if it was interrupted from outside.
    pub end: Option<End>,
    /// Executions begun.
    pub executions: u64,
    /// Every probe reached.
    pub reached: Vec<String>,
    /// Every different observation, up to a bound.
    pub observations: Vec<String>,
    /// What happened in the execution that failed, where it was taken down.
    pub trace: Option<Trace>,
    /// Whether there were more than the bound: then they are no set to compare.
    pub more_observations: bool,
    /// The bounded searches that took the place of the explorer's full one, if they did.
    pub escalation: Option<Escalation>,
    /// What the search of a model cost.
    pub figures: Option<Figures>,
    /// What the runs of a world have been through; of one that was interrupted, as far as it had
    /// told.
    pub campaign: Option<CampaignFigures>,
}

impl Outcome {
    /// The verdict, for a search.
    #[must_use]
    pub fn verdict(&self, engine: Engine) -> Verdict {
        let executions = self.executions;
        match &self.end {
            Some(End::Complete { drawn }) => engine.verdict_when_complete(executions, drawn),
            Some(End::Violated { failure, .. }) => Verdict::Violated {
                failure: failure.clone(),
                executions,
            },
            Some(End::Failed { what } | End::NotReproduced { why: what, .. }) => {
                Verdict::EngineError {
                    what: what.clone(),
                    executions,
                }
            }
            Some(End::Shrunk { .. } | End::ShrunkWorld { .. }) => Verdict::EngineError {
                what: "it was asked to search, and shrank".to_owned(),
                executions,
            },
            Some(End::Followed { .. }) => Verdict::EngineError {
                what: "it was asked to search, and followed a log".to_owned(),
                executions,
            },
            Some(End::Estimated { .. }) => Verdict::EngineError {
                what: "it was asked to search, and estimated".to_owned(),
                executions,
            },
            Some(End::Cut) | None => self.verdict_when_cut(),
        }
    }

    fn verdict_when_cut(&self) -> Verdict {
        let executions = self.executions;
        let escalation = self.escalation.as_ref();
        match escalation.and_then(|e| Some((e.full, e.completed()?))) {
            Some((full, bound)) => Verdict::Bounded {
                bound: format!(
                    "at most {bound} preemptions, SC; the full search was cut after {full} \
                     executions"
                ),
                executions,
            },
            None => Verdict::BudgetEnded { executions },
        }
    }
}

/// How a child is started and told where its unit's spec file is.
///
/// ```
/// use std::path::Path;
/// use selvedge_sim::child::Launcher;
///
/// let program = Path::new("target/debug/deps/queue");
/// assert_ne!(Launcher::command(program), Launcher::test(program, "tests::explorer"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    program: PathBuf,
    arguments: Vec<String>,
    /// Where the file is named: in the variable, or else as the last argument.
    by_variable: bool,
}

impl Launcher {
    /// Children are `program unit FILE`: see [`UNIT_COMMAND`].
    #[must_use]
    pub fn command(program: &Path) -> Self {
        Launcher {
            program: program.to_owned(),
            arguments: vec![UNIT_COMMAND.to_owned()],
            by_variable: false,
        }
    }

    /// Children are this one test of a test binary, with [`UNIT_VARIABLE`] in the environment.
    /// It runs although it may be marked to be ignored, and nothing it prints is captured.
    #[must_use]
    pub fn test(program: &Path, name: &str) -> Self {
        let arguments = [
            name,
            "--exact",
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
        ];
        Launcher {
            program: program.to_owned(),
            arguments: arguments.map(str::to_owned).to_vec(),
            by_variable: true,
        }
    }

    fn start(&self, spec_file: &Path, errors: &Path) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            // Never written to: it ends when this process does, and the child with it.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(errors)?);
        match self.by_variable {
            true => command.env(UNIT_VARIABLE, spec_file),
            false => command.arg(spec_file),
        };
        // What steers loom and shuttle must come from us alone.
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("LOOM_") || name_text.starts_with("SHUTTLE_") {
                command.env_remove(&name);
            }
        }
        command.spawn()
    }
}

/// Runs children of one program, in a directory that goes away with it.
///
/// ```
/// use std::path::Path;
/// use selvedge_sim::child::{Children, Launcher};
///
/// // Nothing is started yet; the example of the module starts children.
/// let children = Children::by(Launcher::command(Path::new("my-program")));
/// assert!(children.is_ok());
/// ```
#[derive(Debug)]
pub struct Children {
    launcher: Launcher,
    dir: tempfile::TempDir,
    next: AtomicU64,
}

impl Children {
    /// Children are started by this launcher.
    ///
    /// # Errors
    /// When no temporary directory can be made.
    pub fn by(launcher: Launcher) -> io::Result<Self> {
        Ok(Children {
            launcher,
            dir: tempfile::Builder::new().prefix("selvedge-").tempdir()?,
            next: AtomicU64::new(0),
        })
    }

    /// Runs one child to its end. `progress` is told the executions begun, now and then; when
    /// `interrupted` turns true the child is killed.
    ///
    /// # Errors
    /// When files cannot be written or the child cannot be started.
    pub fn run(
        &self,
        request: &Request,
        interrupted: &AtomicBool,
        mut progress: impl FnMut(u64),
    ) -> io::Result<Outcome> {
        self.run_watched(request, interrupted, |outcome| progress(outcome.executions))
    }

    /// As [`Children::run`]; `progress` is told all that the child has told by then.
    ///
    /// # Errors
    /// As [`Children::run`].
    pub fn run_watched(
        &self,
        request: &Request,
        interrupted: &AtomicBool,
        mut progress: impl FnMut(&Outcome),
    ) -> io::Result<Outcome> {
        // ORDERING: Relaxed. Only distinctness matters.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let file = |ending: &str| self.dir.path().join(format!("{number}.{ending}"));
        let spec = UnitSpec {
            scenario: request.scenario.clone(),
            variant: request.variant,
            engine: request.engine,
            task: request.task.clone(),
            rounds: request.rounds,
            workers: request.workers,
            most_bytes: request.most_bytes,
            limit_ms: u64::try_from(request.limit.as_millis()).unwrap_or(u64::MAX),
            record: file("records"),
        };
        let (spec_file, errors) = (file("spec"), file("errors"));
        fs::write(&spec_file, serde_json::to_vec(&spec)?)?;

        let mut child = self.launcher.start(&spec_file, &errors)?;
        let started = Instant::now();
        let mut told = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            // ORDERING: Relaxed. A flag that is looked at again soon.
            let stop = interrupted.load(Ordering::Relaxed);
            if stop || started.elapsed() > request.limit.saturating_add(GRACE) {
                child.kill()?;
                child.wait()?;
                break None;
            }
            if told.elapsed() > Duration::from_millis(200) {
                told = Instant::now();
                progress(&read(&spec.record));
            }
            thread::sleep(POLL);
        };
        let mut outcome = read(&spec.record);
        if outcome.end.is_none() {
            // ORDERING: Relaxed, as above.
            outcome.end = match status {
                None if interrupted.load(Ordering::Relaxed) => None,
                None => Some(End::Failed {
                    what: "the child did not end at its time limit and was killed".to_owned(),
                }),
                // Ctrl-C reaches the children of a terminal before it reaches us.
                Some(status) if was_signalled(status) && soon(interrupted) => None,
                Some(status) => Some(End::Failed {
                    what: died(status, &errors),
                }),
            };
        }
        for leftover in [&spec.record, &spec_file, &errors] {
            // Only so that a long run does not fill the disk; the directory goes away anyway.
            let _ = fs::remove_file(leftover);
        }
        Ok(outcome)
    }
}

/// Ends this process as soon as its parent is gone: call it in a child.
///
/// The parent holds the other end of standard input and writes nothing, so reading it returns
/// when the parent has ended, however that came about.
///
/// ```no_run
/// // In a child, before it runs anything:
/// selvedge_sim::child::end_with_parent();
/// ```
pub fn end_with_parent() {
    thread::spawn(|| {
        let mut rest = Vec::new();
        // Whether it ends or fails, there is no parent to work for.
        let _ = io::Read::read_to_end(&mut io::stdin(), &mut rest);
        std::process::exit(0);
    });
}

/// Reads a child's spec from the file named on its command line.
///
/// ```
/// use std::path::Path;
/// use selvedge_sim::child;
///
/// let error = child::serve(Path::new("no/such/file")).expect_err("there is none");
/// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
/// ```
///
/// # Errors
/// When the file cannot be read or is no spec.
pub fn serve(spec_file: &Path) -> io::Result<UnitSpec> {
    Ok(serde_json::from_slice(&fs::read(spec_file)?)?)
}

/// What the records say, as far as they go: a child that was killed may have left half a line.
fn read(records: &Path) -> Outcome {
    let mut outcome = Outcome::default();
    let text = fs::read_to_string(records).unwrap_or_default();
    for line in text.lines() {
        match serde_json::from_str(line) {
            Ok(Record::Progress {
                executions,
                campaign,
            }) => {
                outcome.executions = executions;
                outcome.campaign = campaign;
            }
            Ok(Record::Ended {
                end,
                executions,
                reached,
                observations,
                trace,
                more_observations,
                escalation,
                figures,
                campaign,
            }) => {
                outcome = Outcome {
                    end: Some(end),
                    executions,
                    reached,
                    observations,
                    trace: trace.map(|trace| *trace),
                    more_observations,
                    escalation,
                    figures,
                    campaign,
                };
            }
            Ok(Record::Started { .. }) | Err(_) => {}
        }
    }
    outcome
}

fn died(status: ExitStatus, errors: &Path) -> String {
    let text = fs::read_to_string(errors).unwrap_or_default();
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    if status.success() {
        return "the child ended well and wrote no verdict: it did not run the unit, or the body \
                ended the process"
            .to_owned();
    }
    match last {
        Some(line) => format!("the child died ({status}): {line}"),
        None => format!("the child died ({status})"),
    }
}

/// Whether the flag is up, or comes up in a moment.
fn soon(flag: &AtomicBool) -> bool {
    for _ in 0..25 {
        // ORDERING: Relaxed. A flag that is looked at again soon.
        if flag.load(Ordering::Relaxed) {
            return true;
        }
        thread::sleep(POLL);
    }
    false
}

#[cfg(unix)]
fn was_signalled(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    const SIGINT: i32 = 2;
    const SIGTERM: i32 = 15;
    matches!(status.signal(), Some(SIGINT | SIGTERM))
}

#[cfg(not(unix))]
fn was_signalled(_: ExitStatus) -> bool {
    false
}
