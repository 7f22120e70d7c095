//! The child's side of a unit: runs one engine on one thread, watches it from another, and
//! writes down what happens.
//!
//! **The first panic ends the unit.** The panic hook hands the message to the watching thread
//! and then holds the panicking thread for ever, so nothing unwinds: an engine never gets the
//! chance to abort on a second panic, and no failure is lost to one.
//!
//! ```no_run
//! // In a child, told by its parent where the spec is:
//! use std::path::Path;
//! use selvedge_sim::platform::Platform;
//! use selvedge_sim::{Cx, Observation, bodies, child, host};
//!
//! fn idle<P: Platform>(_: &Cx) -> Observation {
//!     Observation::none()
//! }
//! let spec = child::serve(Path::new("the.spec"))?;
//! host::run(&spec, &bodies!(idle))?;
//! std::process::exit(0);
//! # #[allow(unreachable_code)]
//! # Ok::<(), std::io::Error>(())
//! ```

use std::any::Any;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::body::{self, Observation, Violation};
use crate::campaign::CampaignFigures;
use crate::explorer::Escalation;
use crate::model::Figures;
use crate::trace::{self, Trace};
use crate::unit::{End, Record, UnitSpec};
use crate::world::WorldReport;
use crate::{Bodies, DecisionLog, Engine, Failure, FailureKind, engines, lock, panics};

/// How often the child writes how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// An execution that takes longer than this is stuck: they take milliseconds. A busy machine
/// must not make one of a slow one, so it is long, and the time limit does not shorten it.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// The child keeps no more different observations than this.
const MOST_OBSERVATIONS: usize = 10_000;
/// Enough for bodies that format messages, in debug builds too.
const ENGINE_STACK_BYTES: usize = 16 << 20;

/// What an engine tells its host, and asks of it.
pub(crate) struct Host {
    events: Mutex<Sender<Event>>,
    started: Instant,
    limit: Duration,
    executions: AtomicU64,
    beats: AtomicU64,
    /// How much longer than others one execution may take, in milliseconds.
    patience_ms: AtomicU64,
    observations: Mutex<Observations>,
    log: Mutex<Option<LogSource>>,
    escalation: Mutex<Option<Escalation>>,
    figures: Mutex<Option<Figures>>,
    campaign: Mutex<Option<CampaignFigures>>,
}

/// Tells the decision log of the execution that just failed.
type LogSource = Box<dyn Fn() -> Option<DecisionLog> + Send>;

enum Event {
    Ended(End, Option<Trace>),
    Panicked(Result<Failure, String>, Option<Trace>),
}

/// What a panic said.
pub(crate) enum Payload {
    Violation(Violation),
    Message(String),
}

impl Host {
    fn new(events: Sender<Event>, limit: Duration) -> Host {
        Host {
            events: Mutex::new(events),
            started: Instant::now(),
            limit,
            executions: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            patience_ms: AtomicU64::new(0),
            observations: Mutex::default(),
            log: Mutex::default(),
            escalation: Mutex::default(),
            figures: Mutex::default(),
            campaign: Mutex::default(),
        }
    }

    /// An execution begins; returns its number, counted from 1. Does not return once the time
    /// is up.
    pub(crate) fn begin(&self) -> u64 {
        // ORDERING: Relaxed. A counter that the watching thread only displays.
        let number = self.executions.fetch_add(1, Ordering::Relaxed) + 1;
        if self.started.elapsed() >= self.limit {
            // ORDERING: Relaxed, as above. This execution does not take place.
            self.executions.store(number - 1, Ordering::Relaxed);
            self.end(End::Cut);
        }
        number
    }

    /// An execution ended well, with this outcome.
    pub(crate) fn observe(&self, observation: &Observation) {
        lock(&self.observations).add(observation);
    }

    /// Sets what tells the decision log should an execution fail from now on.
    pub(crate) fn tell_log_by(&self, source: impl Fn() -> Option<DecisionLog> + Send + 'static) {
        *lock(&self.log) = Some(Box::new(source));
    }

    /// Ends the unit; the engine's thread goes no further.
    pub(crate) fn end(&self, end: End) -> ! {
        self.send(Event::Ended(end, trace::take()));
        hold()
    }

    /// The same, with a trace that no recorder made.
    pub(crate) fn end_with(&self, end: End, trace: Trace) -> ! {
        self.send(Event::Ended(end, Some(trace)));
        hold()
    }

    /// How long work may take that minds the limit itself.
    pub(crate) fn time_for_work(&self) -> Duration {
        self.limit.saturating_sub(self.started.elapsed())
    }

    /// An execution begins that is not held to the time limit.
    pub(crate) fn tick(&self) {
        // ORDERING: Relaxed. A counter that the watching thread only displays.
        self.executions.fetch_add(1, Ordering::Relaxed);
    }

    /// So many executions were begun, whatever was counted.
    pub(crate) fn set_executions(&self, executions: u64) {
        // ORDERING: Relaxed, as above.
        self.executions.store(executions, Ordering::Relaxed);
    }

    /// The work goes on, though there may be nothing new to count for long: a model's last states
    /// lead only to such as are known.
    pub(crate) fn beat(&self) {
        // ORDERING: Relaxed, as above.
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Bounded searches took the place of the full one.
    pub(crate) fn set_escalation(&self, escalation: Escalation) {
        *lock(&self.escalation) = Some(escalation);
    }

    /// What a search cost.
    pub(crate) fn set_figures(&self, figures: Figures) {
        *lock(&self.figures) = Some(figures);
    }

    /// From now on an execution may take so much longer than is usual before it counts as stuck.
    pub(crate) fn allow(&self, more: Duration) {
        let more = u64::try_from(more.as_millis()).unwrap_or(u64::MAX);
        // ORDERING: Relaxed, as above. What is known later is known soon enough.
        self.patience_ms.store(more, Ordering::Relaxed);
        self.beat();
    }

    /// A run of a world is over; with `hash`, its digest is kept.
    pub(crate) fn count_world(&self, report: &WorldReport, hash: bool) {
        let mut campaign = lock(&self.campaign);
        let figures = campaign.get_or_insert_default();
        figures.count(report);
        if hash {
            figures.hashes.push(report.hash);
        }
    }

    /// What the runs of a world have been through; the digests only at the end, for there may be
    /// many.
    fn campaign_so_far(&self) -> Option<CampaignFigures> {
        let campaign = lock(&self.campaign);
        campaign.as_ref().map(CampaignFigures::without_hashes)
    }

    fn stuck_after(&self) -> Duration {
        // ORDERING: Relaxed, as above.
        let more = self.patience_ms.load(Ordering::Relaxed);
        STUCK_AFTER.saturating_add(Duration::from_millis(more))
    }

    fn violated(&self, failure: Failure) -> End {
        End::Violated {
            failure,
            log: lock(&self.log).as_ref().and_then(|source| source()),
        }
    }

    fn send(&self, event: Event) {
        // The receiver lives as long as the process.
        let _ = lock(&self.events).send(event);
    }

    /// Executions begun.
    pub(crate) fn executions(&self) -> u64 {
        // ORDERING: Relaxed. Display only.
        self.executions.load(Ordering::Relaxed)
    }
}

/// The different observations, and whether there were more than are kept.
#[derive(Default)]
struct Observations {
    kept: BTreeSet<String>,
    more: bool,
}

impl Observations {
    fn add(&mut self, observation: &Observation) {
        let outcome = observation.as_str();
        if outcome.is_empty() || self.kept.contains(outcome) {
            return;
        }
        match self.kept.len() < MOST_OBSERVATIONS {
            true => {
                self.kept.insert(outcome.to_owned());
            }
            false => self.more = true,
        }
    }
}

fn hold() -> ! {
    loop {
        thread::park();
    }
}

/// Runs the unit and writes its records. Call it once, in a process of its own, and leave the
/// process when it returns: threads of the body may still be about.
///
/// ```
/// use selvedge_sim::platform::Platform;
/// use selvedge_sim::unit::{Task, UnitSpec};
/// use selvedge_sim::{Cx, Engine, Observation, Variant, bodies, host, violation};
///
/// fn fails<P: Platform>(_: &Cx) -> Observation {
///     violation!("always", "whatever the order")
/// }
///
/// let dir = tempfile::tempdir()?;
/// let spec = UnitSpec {
///     scenario: "fails".to_owned(),
///     variant: Variant::Shipped,
///     engine: Engine::Loom { preemptions: None },
///     task: Task::Search { seed: 1, executions: 1 },
///     rounds: 1,
///     workers: 1,
///     most_bytes: u64::MAX,
///     limit_ms: 10_000,
///     record: dir.path().join("records"),
/// };
/// host::run(&spec, &bodies!(fails))?;
/// assert!(std::fs::read_to_string(&spec.record)?.contains(r#""signature":"always""#));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// When the record file cannot be written.
pub fn run(spec: &UnitSpec, bodies: &Bodies) -> io::Result<()> {
    let mut records = Records::open(spec)?;
    records.write(&Record::Started { spec: spec.clone() })?;

    let (events, incoming) = mpsc::channel();
    let host = Arc::new(Host::new(events, Duration::from_millis(spec.limit_ms)));
    catch_panics(Arc::clone(&host), spec.engine);
    start_engine(Arc::clone(&host), spec.clone(), *bodies)?;

    let (mut seen, mut beats) = ((0, Instant::now()), 0);
    let mut trace = None;
    let mut end = loop {
        match incoming.recv_timeout(PROGRESS_EVERY) {
            Ok(Event::Ended(end, taken)) => {
                trace = taken;
                break end;
            }
            Ok(Event::Panicked(found, taken)) => {
                trace = taken;
                break match found {
                    Ok(failure) => host.violated(failure),
                    Err(what) => End::Failed { what },
                };
            }
            Err(RecvTimeoutError::Disconnected) => {
                break End::Failed {
                    what: "the engine's thread went away".to_owned(),
                };
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let executions = host.executions();
        if executions != seen.0 {
            seen = (executions, Instant::now());
            records.write(&Record::Progress {
                executions,
                campaign: host.campaign_so_far(),
            })?;
        }
        // ORDERING: Relaxed. It is looked at again soon.
        let beat = host.beats.load(Ordering::Relaxed);
        if beat != beats {
            (beats, seen.1) = (beat, Instant::now());
        }
        let still = seen.1.elapsed();
        if still > host.stuck_after() {
            break stuck(&host, spec.engine, still);
        }
    };
    if let (Some(trace), End::Violated { failure, .. }) = (&mut trace, &mut end) {
        trace.failure = Some(failure.clone());
    }
    let seen = std::mem::take(&mut *lock(&host.observations));
    records.write(&Record::Ended {
        end,
        trace: trace.map(Box::new),
        executions: host.executions(),
        reached: body::reached(),
        observations: seen.kept.into_iter().collect(),
        more_observations: seen.more,
        escalation: lock(&host.escalation).clone(),
        figures: *lock(&host.figures),
        campaign: std::mem::take(&mut *lock(&host.campaign)),
    })
}

fn start_engine(host: Arc<Host>, spec: UnitSpec, bodies: Bodies) -> io::Result<()> {
    thread::Builder::new()
        .name("engine".to_owned())
        .stack_size(ENGINE_STACK_BYTES)
        .spawn(move || {
            // Engines that catch panics catch the body's; one that gets here is their own.
            let run = AssertUnwindSafe(|| engines::execute(&host, &spec, &bodies));
            let end = panic::catch_unwind(run).unwrap_or_else(|_| End::Failed {
                what: match panics::first() {
                    Some(Ok(failure)) => format!("{} at {}", failure.detail, failure.location),
                    Some(Err(what)) => what,
                    None => "the engine panicked".to_owned(),
                },
            });
            host.end(end);
        })
        .map(|_| ())
}

fn catch_panics(host: Arc<Host>, engine: Engine) {
    let watcher = thread::current().id();
    let default_hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().id() == watcher {
            return default_hook(info);
        }
        if engine == Engine::Stateright {
            // Nothing is run here, it is searched: whoever searches says what became of it, and
            // a panic on the way is no finding.
            return panics::note(info);
        }
        let found = panics::look(info);
        if let Some(tell) = panics::heir() {
            tell(found);
            hold();
        }
        host.send(Event::Panicked(found, trace::take()));
        hold();
    }));
}

impl Payload {
    pub(crate) fn of(info: &PanicHookInfo<'_>) -> Payload {
        let payload: &(dyn Any + Send) = info.payload();
        match payload.downcast_ref::<Violation>() {
            Some(violation) => Payload::Violation(violation.clone()),
            None => Payload::Message(
                info.payload_as_str()
                    .unwrap_or("a panic without a message")
                    .to_owned(),
            ),
        }
    }
}

/// What a panic means; `Err` where it is the engine that failed.
pub(crate) fn judge(payload: Payload, location: String) -> Result<Failure, String> {
    let (kind, signature, detail) = match payload {
        Payload::Violation(violation) => {
            (FailureKind::Property, violation.signature, violation.detail)
        }
        Payload::Message(message) => {
            let (kind, signature) = classify(&message)?;
            (kind, signature, message)
        }
    };
    Ok(Failure {
        kind,
        signature,
        detail,
        location,
    })
}

/// What a panic's message means. `Err` where it is the engine that failed.
fn classify(message: &str) -> Result<(FailureKind, String), String> {
    let first = message.lines().next().unwrap_or_default();
    if first.starts_with("deadlock") {
        return Ok((FailureKind::Deadlock, "deadlock".to_owned()));
    }
    // Loom's bound on branches, shuttle's on steps: the body spins, or the bound is too low.
    if first.starts_with("Model exceeded maximum number of branches")
        || first.starts_with("exceeded max_steps bound")
    {
        return Ok((FailureKind::Liveness, "livelock".to_owned()));
    }
    if first.starts_with("Causality violation") {
        return Ok((FailureKind::Property, "data race".to_owned()));
    }
    if first.starts_with("Arc leaked") {
        return Ok((FailureKind::Property, "leaked Arc".to_owned()));
    }
    let internal = ["[loom internal bug]", "cannot access Loom execution state"];
    if internal.iter().any(|text| first.contains(text)) || first.contains("self.max_threads") {
        return Err(format!("loom: {first}"));
    }
    Ok((FailureKind::Property, signature_of_panic(first)))
}

/// What a panic with this message is told apart by.
pub(crate) fn signature_of_panic(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    // Numbers differ between executions of one bug.
    let mut signature = String::from("panic: ");
    for c in first.chars().take(80) {
        match c.is_ascii_digit() {
            false => signature.push(c),
            true if signature.ends_with('#') => {}
            true => signature.push('#'),
        }
    }
    signature
}

fn stuck(host: &Host, engine: Engine, still: Duration) -> End {
    if engine == Engine::Stateright {
        return End::Failed {
            what: format!(
                "the checker has said nothing for {} ms, after {} states",
                still.as_millis(),
                host.executions()
            ),
        };
    }
    host.violated(Failure {
        kind: FailureKind::Liveness,
        signature: "hang".to_owned(),
        detail: format!(
            "execution {} has not ended for {} ms",
            host.executions(),
            still.as_millis()
        ),
        location: String::new(),
    })
}

/// The record file, one JSON object a line.
struct Records(File);

impl Records {
    fn open(spec: &UnitSpec) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&spec.record)?;
        Ok(Records(file))
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_observations_than_are_kept_are_told() {
        let mut seen = Observations::default();
        for outcome in 0..MOST_OBSERVATIONS {
            seen.add(&Observation::of(outcome.to_string()));
        }
        seen.add(&Observation::none());
        seen.add(&Observation::of("0"));
        assert_eq!((seen.kept.len(), seen.more), (MOST_OBSERVATIONS, false));
        seen.add(&Observation::of("one more"));
        assert_eq!((seen.kept.len(), seen.more), (MOST_OBSERVATIONS, true));
    }

    #[test]
    fn silence_is_a_hang_of_what_runs_and_a_failure_of_what_searches() {
        let (events, _incoming) = mpsc::channel();
        let host = Host::new(events, Duration::MAX);
        host.set_executions(12);
        let after = Duration::from_secs(11);
        let End::Violated { failure, .. } = stuck(&host, Engine::Native, after) else {
            panic!("an execution does not end")
        };
        assert_eq!(failure.signature, "hang");
        let End::Failed { what } = stuck(&host, Engine::Stateright, after) else {
            panic!("nothing is run")
        };
        assert_eq!(
            what,
            "the checker has said nothing for 11000 ms, after 12 states"
        );
    }

    #[test]
    fn messages_of_the_engines_are_told_apart() {
        let kind = classify;
        let (deadlock, live, property) = (
            FailureKind::Deadlock,
            FailureKind::Liveness,
            FailureKind::Property,
        );
        let cases = [
            ("deadlock; threads = [..]", deadlock, "deadlock"),
            ("deadlock! blocked tasks: [..]", deadlock, "deadlock"),
            ("exceeded max_steps bound 99. this", live, "livelock"),
            (
                "Model exceeded maximum number of branches. This",
                live,
                "livelock",
            ),
            ("Causality violation: x", property, "data race"),
            ("index 12 of 7\nmore", property, "panic: index # of #"),
        ];
        for (message, expected, signature) in cases {
            assert_eq!(kind(message), Ok((expected, signature.to_owned())));
        }
        assert!(kind("[loom internal bug]").is_err());
        assert!(kind("assertion failed: threads.len() < self.max_threads").is_err());
    }
}
