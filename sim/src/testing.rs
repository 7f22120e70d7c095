//! One generic body, a `#[test]` for each engine: what [`model_tests!`](crate::model_tests) makes.
//!
//! **Each test runs its engine in a child process, which is the test binary itself, told to run
//! that one test; so what aborts, hangs or panics twice becomes a failure that can be read.** A
//! child is known by [`UNIT_VARIABLE`] in its environment.
//!
//! ```text
//! cargo test                                              search
//! SELVEDGE_REPLAY=seed cargo test -p PACKAGE NAME         see one failure again
//! SELVEDGE_TIMELINE=folder cargo test                     draw failures as pages in this folder
//! ```
//!
//! ```
//! use selvedge_sim::{Cx, Observation, platform::Platform};
//!
//! fn idle<P: Platform>(_: &Cx) -> Observation {
//!     Observation::none()
//! }
//! // Four tests: idle::native, idle::explorer, idle::loom, idle::shuttle.
//! selvedge_sim::model_tests!(mod idle = idle);
//! # assert_eq!(idle::<selvedge_sim::Std>(&Cx::new(1, 1, 1)), Observation::none());
//! ```
//!
//! A seed may also be given as the name of a file that holds it. While a replay is asked for,
//! the test that the seed is of never passes, and every other says that it is skipped.
//!
//! # What makes a seed stale
//! A body's source is not to be had where it is compiled, so a seed's revision covers what is:
//! the package and its version, the test's path, the body's name, the rounds. An edit of the
//! code changes none of them. It is noticed where it matters: the schedule no longer fits, or
//! the failure or its trace is another. On real threads nothing is taken down, and an edit is
//! not noticed.

mod report;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::child::{self, Children, Launcher, Outcome, Request, UNIT_VARIABLE};
use crate::replay::Replayed;
use crate::unit::Task;
use crate::{Bodies, Class, Engine, Seed, Variant, Verdict, host, revision_of};

/// The environment variable that holds a seed to replay, or names a file that does.
///
/// ```
/// assert_eq!(selvedge_sim::testing::REPLAY_VARIABLE, "SELVEDGE_REPLAY");
/// ```
pub const REPLAY_VARIABLE: &str = "SELVEDGE_REPLAY";

/// The environment variable that names the folder for the pages of failures. One that is not
/// absolute is below the package, where tests run.
///
/// ```
/// assert_eq!(selvedge_sim::testing::TIMELINE_VARIABLE, "SELVEDGE_TIMELINE");
/// ```
pub const TIMELINE_VARIABLE: &str = "SELVEDGE_TIMELINE";

/// A file that is longer holds no seed of ours.
const LONGEST_FILE: u64 = 64 << 20;
/// Nobody interrupts a test but by ending the process, and then its child ends too.
static NEVER: AtomicBool = AtomicBool::new(false);

/// Turns one body, generic over its platform, into a module with one `#[test]` for each engine.
///
/// ```
/// use selvedge_sim::platform::{Atomic, AtomicInt, JoinHandle, Ordering, Platform, Shared};
/// use selvedge_sim::{Cx, Observation, violation};
///
/// fn two_add_one<P: Platform>(_: &Cx) -> Observation {
///     let n = P::Arc::new(P::AtomicU32::new(0));
///     let theirs = n.clone();
///     let other = P::spawn(move || theirs.fetch_add(1, Ordering::Relaxed));
///     n.fetch_add(1, Ordering::Relaxed);
///     other.join();
///     if n.load(Ordering::Relaxed) != 2 {
///         violation!("lost-update", "{}", n.load(Ordering::Relaxed));
///     }
///     Observation::none()
/// }
///
/// selvedge_sim::model_tests!(mod counter = two_add_one);
///
/// selvedge_sim::model_tests! {
///     /// The same, with everything that can be set.
///     mod counter_in_detail = two_add_one;
///     engines = [explorer, loom:2, #[ignore = "slow"] shuttle:pct];
///     executions = 1_000;
///     limit = std::time::Duration::from_secs(20);
///     require = selvedge_sim::Class::Sampled;
/// }
/// # let counter = selvedge_sim::bodies!(two_add_one).threads.expect("it runs on threads");
/// # assert_eq!((counter.native)(&Cx::new(0, 0, 1)), Observation::none());
/// ```
///
/// After the body may stand what it is about, as in [`bodies!`](crate::bodies):
/// `mod broken = body, BrokenQueue;` tests `body::<P, BrokenQueue<P>>`.
///
/// `engines` are named as on the command line, each at most once; without it they are
/// `[native, explorer, loom, shuttle]`. Every other setting is a method of
/// [`Settings`](crate::testing::Settings). The
/// module sees what stands around it, and exists in test builds only.
#[macro_export]
macro_rules! model_tests {
    (
        $(#[$about:meta])*
        mod $name:ident = $($body:ident)::+ $(, $subject:ident)?;
        engines = [$($(#[$of_test:meta])* $engine:ident $(: $parameter:tt)?),+ $(,)?];
        $($setting:ident = $value:expr;)*
    ) => {
        #[cfg(test)]
        $(#[$about])*
        mod $name {
            #[allow(unused_imports, reason = "settings may name nothing from around here")]
            use super::*;

            fn settings() -> $crate::testing::Settings {
                $crate::testing::Settings::default()$(.$setting($value))*
            }

            fn run(path: &'static str, engine: &'static str) {
                $crate::testing::run(&$crate::testing::Test {
                    path,
                    engine,
                    body: stringify!($($body)::+ $(, $subject)?),
                    package: env!("CARGO_PKG_NAME"),
                    version: env!("CARGO_PKG_VERSION"),
                    bodies: $crate::bodies!($($body)::+ $(, $subject)?),
                    settings: settings(),
                });
            }

            $(
                $(#[$of_test])*
                #[test]
                fn $engine() {
                    run(
                        concat!(module_path!(), "::", stringify!($engine)),
                        concat!(stringify!($engine) $(, ":", stringify!($parameter))?),
                    );
                }
            )+
        }
    };
    (
        $(#[$about:meta])*
        mod $name:ident = $($body:ident)::+ $(, $subject:ident)?;
        $($setting:ident = $value:expr;)*
    ) => {
        $crate::model_tests! {
            $(#[$about])*
            mod $name = $($body)::+ $(, $subject)?;
            engines = [native, explorer, loom, shuttle];
            $($setting = $value;)*
        }
    };
    ($(#[$about:meta])* mod $name:ident = $($body:ident)::+ $(, $subject:ident)?) => {
        $crate::model_tests!($(#[$about])* mod $name = $($body)::+ $(, $subject)?;);
    };
}

/// What may be set of the tests of one body.
///
/// ```
/// use std::time::Duration;
/// use selvedge_sim::testing::Settings;
///
/// let longer = Settings::default().limit(Duration::from_secs(300)).executions(100_000);
/// assert_ne!(longer, Settings::default());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    executions: Option<u64>,
    rounds: u32,
    seed: u64,
    limit: Duration,
    shrink: Duration,
    require: Option<Class>,
    must_fail: Option<&'static str>,
    must_reach: &'static [&'static str],
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            executions: None,
            rounds: 1,
            seed: 1,
            limit: Duration::from_secs(60),
            shrink: Duration::from_secs(5),
            require: None,
            must_fail: None,
            must_reach: &[],
        }
    }
}

impl Settings {
    /// How many executions shuttle and real threads draw: 5,000 and 2,000 if not given. The
    /// explorer and loom go on until done.
    #[must_use]
    pub fn executions(self, executions: u64) -> Self {
        Settings {
            executions: Some(executions),
            ..self
        }
    }

    /// What [`Cx::rounds`](crate::Cx::rounds) says on real threads: 1 if not given.
    #[must_use]
    pub fn rounds(self, rounds: u32) -> Self {
        Settings { rounds, ..self }
    }

    /// What every random choice is drawn from: 1 if not given.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Settings { seed, ..self }
    }

    /// How long each search may take: a minute if not given. One that is cut short fails.
    #[must_use]
    pub fn limit(self, limit: Duration) -> Self {
        Settings { limit, ..self }
    }

    /// How long it may take to make a failure smaller: 5 seconds if not given.
    #[must_use]
    pub fn shrink(self, shrink: Duration) -> Self {
        Settings { shrink, ..self }
    }

    /// The least that each verdict must be: [`Class::Sampled`], [`Class::Bounded`] or
    /// [`Class::Exhausted`]. If not given, the most that its engine can come to. A search cut
    /// short is less than any of them.
    #[must_use]
    pub fn require(self, require: Class) -> Self {
        Settings {
            require: Some(require),
            ..self
        }
    }

    /// The body has a bug that every engine must find, with this signature; a test that finds
    /// none, or another, fails. On real threads nobody can tell a deadlock from a hang, so there
    /// `deadlock` means `hang`.
    #[must_use]
    pub fn must_fail(self, signature: &'static str) -> Self {
        Settings {
            must_fail: Some(signature),
            ..self
        }
    }

    /// Probes that a search which finds nothing must have come by: see
    /// [`reach`](crate::reach).
    #[must_use]
    pub fn must_reach(self, probes: &'static [&'static str]) -> Self {
        Settings {
            must_reach: probes,
            ..self
        }
    }
}

/// One test: one body under one engine. [`model_tests!`](crate::model_tests) makes them.
///
/// ```no_run
/// use selvedge_sim::testing::{Settings, Test, run};
/// use selvedge_sim::{Cx, Observation, bodies, platform::Platform};
///
/// fn idle<P: Platform>(_: &Cx) -> Observation {
///     Observation::none()
/// }
///
/// // In a test function `idle_under_the_explorer` at the top of the test binary `idle`:
/// run(&Test {
///     path: "idle::idle_under_the_explorer",
///     engine: "explorer",
///     body: "idle",
///     package: "my-package",
///     version: "1.0.0",
///     bodies: bodies!(idle),
///     settings: Settings::default(),
/// });
/// ```
#[derive(Clone, Debug)]
pub struct Test {
    /// The crate, the modules and the function, as `module_path!()` has them. The test binary
    /// knows the test by all but the crate.
    pub path: &'static str,
    /// The engine, as on the command line.
    pub engine: &'static str,
    /// The body's name.
    pub body: &'static str,
    /// The package that it is in.
    pub package: &'static str,
    /// The package's version.
    pub version: &'static str,
    /// The body.
    pub bodies: Bodies,
    /// What was set.
    pub settings: Settings,
}

/// Runs one test, from within a test function of its name. In a child of a test it runs the
/// unit instead, and ends the process.
///
/// ```no_run
/// # let test: selvedge_sim::testing::Test = unimplemented!();
/// // `test` as in the example of `Test`:
/// selvedge_sim::testing::run(&test);
/// ```
///
/// # Panics
/// Where the test fails; the message says what failed, how small it was made, why it fails, how
/// it went, and how to see it again.
#[track_caller]
pub fn run(test: &Test) {
    if let Some(spec_file) = std::env::var_os(UNIT_VARIABLE) {
        serve(test, Path::new(&spec_file));
    }
    let found = match std::env::var_os(REPLAY_VARIABLE) {
        Some(text) => replay(test, &text),
        None => search(test),
    };
    match found {
        Ok(words) => println!("{}: {words}", test.path),
        Err(report) => panic!("{}: {report}", test.path),
    }
}

/// The child's side.
fn serve(test: &Test, spec_file: &Path) -> ! {
    let served = child::serve(spec_file).and_then(|spec| {
        if spec.scenario != test.path {
            let other = format!("the unit is of '{}', not of '{}'", spec.scenario, test.path);
            return Err(io::Error::other(other));
        }
        child::end_with_parent();
        host::run(&spec, &test.bodies)
    });
    let Err(error) = served else {
        // Threads of the body may still be about.
        std::process::exit(0);
    };
    let file = spec_file.display();
    say(&format!(
        "{UNIT_VARIABLE} is set, to '{file}', which only children of tests have: {error}"
    ));
    std::process::exit(2);
}

/// A line that the test harness does not capture.
fn say(line: &str) {
    // Where standard error is closed there is nobody to tell.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

impl Test {
    /// Its name in the test binary.
    fn name(&self) -> &'static str {
        self.path
            .split_once("::")
            .map_or(self.path, |(_, name)| name)
    }

    fn revision(&self) -> String {
        let Test {
            path,
            body,
            package,
            version,
            settings,
            ..
        } = self;
        let rounds = settings.rounds;
        revision_of(&format!("{package} {version} {path} {body} {rounds}"))
    }

    fn engine(&self) -> Result<Engine, String> {
        self.engine.parse().map_err(|error| format!("{error}"))
    }

    fn children(&self) -> Result<Children, String> {
        let program = std::env::current_exe()
            .map_err(|error| format!("cannot find this program, to start it again: {error}"))?;
        Children::by(Launcher::test(&program, self.name()))
            .map_err(|error| format!("cannot make a temporary directory: {error}"))
    }

    /// The signature that must be found.
    fn must_fail(&self, engine: Engine) -> Option<&'static str> {
        match self.settings.must_fail {
            Some("deadlock") if engine == Engine::Native => Some("hang"),
            signature => signature,
        }
    }

    fn request(&self, engine: Engine) -> Request {
        let settings = &self.settings;
        let (executions, rounds) = match engine {
            Engine::Native => (2_000, settings.rounds),
            _ => (5_000, 1),
        };
        Request {
            scenario: self.path.to_owned(),
            variant: match settings.must_fail {
                Some(_) => Variant::AsReported,
                None => Variant::Shipped,
            },
            engine,
            task: Task::Search {
                seed: settings.seed,
                executions: settings.executions.unwrap_or(executions),
            },
            rounds,
            workers: 1,
            most_bytes: u64::MAX,
            limit: settings.limit,
        }
    }
}

/// Searches: what it came to, `Err` where that fails the test.
fn search(test: &Test) -> Result<String, String> {
    let engine = test.engine()?;
    reachable(test, engine)?;
    let children = test.children()?;
    let request = test.request(engine);
    let cannot = |error| format!("cannot run its child process: {error}");
    let outcome = children.run(&request, &NEVER, |_| ()).map_err(cannot)?;
    let verdict = outcome.verdict(engine);
    let Some(failure) = verdict.failure() else {
        return survived(test, engine, &verdict, &outcome);
    };
    let revision = test.revision();
    let seed = (children.seed_of(&request, &outcome, &revision, &NEVER)).map_err(cannot)?;
    if test.must_fail(engine) == Some(failure.signature.as_str()) {
        let again = seed.map_or_else(String::new, |seed| {
            format!("; see it: {}", report::command(test, &seed))
        });
        let executions = verdict.executions();
        return Ok(format!(
            "found after {executions}: {}{again}",
            failure.signature
        ));
    }
    let report = report::of(
        test,
        &children,
        failure,
        verdict.executions(),
        seed,
        outcome.trace,
    );
    Err(match test.must_fail(engine) {
        Some(other) => format!("it must fail with '{other}', and fails with another.\n{report}"),
        None => report,
    })
}

/// Whether the engine can ever come to what is required.
fn reachable(test: &Test, engine: Engine) -> Result<(), String> {
    let most = engine.verdict_when_complete(0, "").class();
    match test.settings.require {
        Some(required) if required > most => Err(format!(
            "{engine} never comes to {required}, which is required: at most to {most}; leave it \
             out of `engines`, or require less"
        )),
        Some(required) if required < Class::Sampled => Err(format!(
            "{required} cannot be required: require sampled, bounded or exhausted"
        )),
        _ => Ok(()),
    }
}

/// What a search that found nothing is worth.
fn survived(
    test: &Test,
    engine: Engine,
    verdict: &Verdict,
    outcome: &Outcome,
) -> Result<String, String> {
    let (class, executions) = (verdict.class(), verdict.executions());
    let words = format!("{class}, {executions} executions ({})", verdict.scope());
    let limit = test.settings.limit;
    match class {
        Class::EngineError => {
            return Err(format!("the engine failed: {}", verdict.scope()));
        }
        Class::BudgetEnded => {
            return Err(format!(
                "cut short after {executions} executions in {limit:?}, which is no pass: raise \
                 `limit`, make the body smaller, or bound the preemptions, as `explorer:2` does"
            ));
        }
        _ => {}
    }
    if let Some(signature) = test.must_fail(engine) {
        return Err(format!(
            "it must fail with '{signature}', and does not: {words}"
        ));
    }
    let most = engine.verdict_when_complete(0, "").class();
    let required = test.settings.require.unwrap_or(most);
    if class < required {
        return Err(format!(
            "{required} is required, and this is {words}: raise `limit`, make the body smaller, or \
             require less"
        ));
    }
    let missed: Vec<&str> = (test.settings.must_reach.iter().copied())
        .filter(|probe| !outcome.reached.iter().any(|reached| reached == probe))
        .collect();
    match missed.is_empty() {
        true => Ok(words),
        false => Err(format!(
            "{words}, but it never reached {}: it proves nothing about that",
            missed.join(", ")
        )),
    }
}

/// Replays the seed: `Ok` only where it is of another test.
fn replay(test: &Test, text: &OsStr) -> Result<String, String> {
    let seed = read_seed(text)?;
    if let Some(other) = of_another(test, &seed)? {
        say(&format!("{}: skipped: {other}", test.path));
        return Ok(format!("skipped: {other}"));
    }
    if seed.revision != test.revision() {
        return Err(format!(
            "the seed is stale: it was made for revision {}, and this is {}: the package's \
             version, the body's name or the rounds have changed since",
            seed.revision,
            test.revision()
        ));
    }
    let children = test.children()?;
    let Settings { rounds, limit, .. } = test.settings;
    let replayed = (children.replay(&seed, rounds, limit, &NEVER))
        .map_err(|error| format!("cannot run its child process: {error}"))?;
    Err(match replayed {
        Replayed::Violated {
            failure,
            executions,
            trace,
        } => report::of(test, &children, &failure, executions, Some(seed), trace),
        Replayed::Stale(why) => format!("the seed is stale: {why}"),
        Replayed::NotReproduced(why) => format!(
            "not reproduced: {why}. One execution proves nothing: run the test without \
             {REPLAY_VARIABLE} to see whether the failure is gone"
        ),
        Replayed::Failed(what) => format!("the engine failed: {what}"),
        Replayed::Cut | Replayed::Interrupted => {
            format!("not reproduced within {limit:?}: raise `limit`")
        }
    })
}

/// Why the seed is not of this test, if it is not.
fn of_another(test: &Test, seed: &Seed) -> Result<Option<String>, String> {
    // A seed made smaller under loom has a bound that the test has not.
    let same_engine = seed.engine.name() == test.engine()?.name();
    Ok((seed.scenario != test.path || !same_engine).then(|| {
        format!(
            "the seed in {REPLAY_VARIABLE} is of {} under {}",
            seed.scenario, seed.engine
        )
    }))
}

fn read_seed(text: &OsStr) -> Result<Seed, String> {
    let path = Path::new(text);
    let mut content = text.to_string_lossy().into_owned();
    if path.is_file() {
        content.clear();
        (File::open(path).and_then(|file| file.take(LONGEST_FILE).read_to_string(&mut content)))
            .map_err(|error| {
                format!("{REPLAY_VARIABLE}: cannot read {}: {error}", path.display())
            })?;
    }
    content
        .parse()
        .map_err(|error| format!("{REPLAY_VARIABLE}: {error}; or name a file that holds one"))
}
