//! `world`: the simulated world, one run a seed. What is drawn is everything that a
//! [`WorldConfig`] leaves open, from the seed; so an execution is a seed, and a search is a
//! sample.
//!
//! A run is one call and says nothing until it is over, so the host is told beforehand how long
//! one of that size may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::campaign::{Campaign, FaultTried, SmallerRun, WorldBody, WorldSize};
use crate::host::Host;
use crate::unit::{End, Task, UnitSpec};
use crate::world::{
    Faults, Happened, Plan, Probe, When, World, WorldConfig, WorldReport, first_difference,
};
use crate::{DecisionLog, Failure, FailureKind, body};

/// The signature of a seed that is not the same run twice.
pub(crate) const NOT_THE_SAME: &str = "nondeterminism";
/// How far a fault is moved to see whether its moment matters.
const MOVED_BY: Duration = Duration::from_millis(20);
/// However quick a run is, shrinking tries no more candidates.
const MOST_RUNS: u32 = 20_000;
/// However slow a run is, shrinking tries so many.
const LEAST_RUNS: u32 = 20;

pub(crate) fn execute(host: &Arc<Host>, spec: &UnitSpec, body: WorldBody) -> End {
    match &spec.task {
        Task::Search { seed, executions } => {
            let from = first_seed(*seed, &spec.scenario);
            search(host, &body, &Campaign::of(from, *executions), true)
        }
        Task::Campaign(campaign) => search(host, &body, campaign, false),
        Task::Replay {
            log: DecisionLog::World(config),
        } => replay(host, config),
        Task::Follow {
            log: DecisionLog::World(config),
        } => follow(host, config),
        Task::Shrink {
            log: DecisionLog::World(config),
            signature,
            smaller,
        } => examine(host, config, signature, *smaller),
        Task::Replay { .. }
        | Task::Shrink { .. }
        | Task::Follow { .. }
        | Task::Capture { .. }
        | Task::Estimate { .. } => End::Failed {
            what: "a world replays a configuration with its plan, nothing else".to_owned(),
        },
    }
}

/// Where a scenario's seeds begin: far from those of other scenarios and of other roots, so that
/// no two units run the same worlds.
fn first_seed(root: u64, scenario: &str) -> u64 {
    let own = u64::from(crc32fast::hash(scenario.as_bytes()));
    (root << 48) ^ (own << 16)
}

/// Runs the seeds, to the first that is violated; by the body's symptom, if only that counts.
fn search(host: &Arc<Host>, worlds: &WorldBody, campaign: &Campaign, by_symptom: bool) -> End {
    let mut last = None;
    let mut otherwise = None;
    for nth in 0..campaign.seeds {
        host.begin();
        let seed = campaign.from.wrapping_add(nth);
        let looked_at = campaign.twice_every > 0 && nth % campaign.twice_every == 0;
        let wanted = WorldConfig {
            record: looked_at || (campaign.record && nth + 1 == campaign.seeds),
            ..campaign.config(worlds, seed)
        };
        let report = match run(host, wanted) {
            Ok(report) => report,
            Err(what) => return End::Failed { what },
        };
        if looked_at {
            let record = true;
            let again = campaign.config(worlds, seed);
            match run(host, WorldConfig { record, ..again }) {
                Ok(again) if again.hash == report.hash => {}
                Ok(again) => return not_the_same(seed, &report, &again),
                Err(what) => return End::Failed { what },
            }
        }
        host.count_world(&report, campaign.hashes);
        for &probe in Probe::ALL {
            if report.probes.count(probe) > 0 {
                body::reach(probe.words());
            }
        }
        if let Some(failure) = failure_of(&report) {
            if !by_symptom || worlds.is_symptom(&failure.signature) {
                return violated(host, &report, failure);
            }
            otherwise.get_or_insert((report.clone(), failure));
        }
        last = Some(report);
    }
    if let Some((report, failure)) = otherwise {
        return violated(host, &report, failure);
    }
    let end = End::Complete {
        drawn: match campaign.seeds {
            1 => format!("the world of seed {}", campaign.from),
            _ => format!("worlds of seeds from {}", campaign.from),
        },
    };
    match last.filter(|_| campaign.record) {
        Some(report) => host.end_with(end, report.trace_of_all()),
        None => end,
    }
}

/// Makes one run, with the host prepared to wait for it, and for its panic.
fn run(host: &Arc<Host>, config: WorldConfig) -> Result<WorldReport, String> {
    host.allow(patience(&config));
    let log = log_of(&config, None);
    host.tell_log_by(move || Some(log.clone()));
    let refused = |error| {
        format!(
            "the configuration of seed {} is refused: {error}",
            config.seed
        )
    };
    Ok(World::new(config.clone()).map_err(refused)?.run())
}

/// No run of this size takes longer, on a slow machine in a debug build.
fn patience(config: &WorldConfig) -> Duration {
    let size = config.epochs.saturating_mul(u64::from(config.ranks));
    Duration::from_millis(size.saturating_mul(2).min(24 * 3_600_000))
}

/// What makes a run again; with its plan, where that is known.
fn log_of(config: &WorldConfig, plan: Option<&Plan>) -> DecisionLog {
    let faults = plan.map_or_else(|| config.faults.clone(), |plan| Faults::Plan(plan.clone()));
    DecisionLog::World(Box::new(WorldConfig {
        faults,
        record: false,
        ..config.clone()
    }))
}

fn failure_of(report: &WorldReport) -> Option<Failure> {
    let violation = report.violation.as_ref()?;
    Some(Failure {
        kind: match violation.signature.contains("liveness") {
            true => FailureKind::Liveness,
            false => FailureKind::Property,
        },
        signature: violation.signature.to_owned(),
        detail: format!(
            "{}\nafter {} events, {:.6} s after the beginning, in the world of seed {}",
            violation.message,
            violation.event,
            violation.at.as_nanos() as f64 / 1e9,
            report.config.seed
        ),
        location: String::new(),
    })
}

fn violated(host: &Arc<Host>, report: &WorldReport, failure: Failure) -> End {
    host.allow(patience(&report.config));
    // The plan in place of what drew it.
    let recorded = report.recorded();
    if recorded.hash != report.hash {
        return not_the_same(report.config.seed, report, &recorded);
    }
    let log = Some(log_of(&report.config, Some(&report.plan)));
    host.end_with(End::Violated { failure, log }, recorded.trace())
}

/// A seed that was two different runs. There is nothing that would make either again.
fn not_the_same(seed: u64, one: &WorldReport, other: &WorldReport) -> End {
    End::Violated {
        failure: Failure {
            kind: FailureKind::Nondeterminism,
            signature: NOT_THE_SAME.to_owned(),
            detail: format!(
                "the same seed, {seed}, was two different runs: hash {:016x} after {} events, \
                 then {:016x} after {}\n{}",
                one.hash,
                one.events,
                other.hash,
                other.events,
                difference(&one.happened, &other.happened)
            ),
            location: String::new(),
        },
        log: None,
    }
}

/// The first event that differs, in both runs.
fn difference(one: &[Happened], other: &[Happened]) -> String {
    if one.is_empty() || other.is_empty() {
        return "one of the runs was not recorded".to_owned();
    }
    let Some(place) = first_difference(one, other) else {
        return "everything that is recorded was the same in both".to_owned();
    };
    let line = |run: &[Happened]| match run.get(place) {
        None => "nothing more".to_owned(),
        Some(it) => it.line(),
    };
    format!(
        "the first event that differs is number {}: {}\nthe second time it was:{}{}",
        place + 1,
        line(one),
        " ".repeat(21 + (place + 1).to_string().len()),
        line(other)
    )
}

/// Makes every run another one: it takes some nanoseconds more than the one before, and another
/// process is another one again.
pub(crate) fn plant(config: &mut WorldConfig) {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    // ORDERING: Relaxed. Only distinctness matters.
    let run = RUNS.fetch_add(1, Ordering::Relaxed) + 1;
    let more = run + u64::from(std::process::id()) * 1_000;
    config.timing.compute.1 += Duration::from_nanos(more);
}

fn replay(host: &Arc<Host>, config: &WorldConfig) -> End {
    let stale = |why| End::NotReproduced { stale: true, why };
    host.set_executions(1);
    let record = true;
    let report = match run(
        host,
        WorldConfig {
            record,
            ..config.clone()
        },
    ) {
        Ok(report) => report,
        Err(what) => return stale(what),
    };
    match failure_of(&report) {
        Some(failure) => host.end_with(End::Violated { failure, log: None }, report.trace()),
        // A configuration was kept because a property does not hold in it.
        None => stale(format!(
            "every property holds in all {} events of that run: the code has changed since. A \
             seed holds no record of the events as they were, so which one differs first is not \
             known",
            report.events
        )),
    }
}

/// Makes the run, whatever comes of it: any code can, so all of the log is kept to.
fn follow(host: &Arc<Host>, config: &WorldConfig) -> End {
    host.set_executions(1);
    let record = true;
    let config = WorldConfig {
        record,
        ..config.clone()
    };
    let report = match run(host, config) {
        Ok(report) => report,
        Err(what) => return End::Failed { what },
    };
    match failure_of(&report) {
        Some(failure) => host.end_with(End::Violated { failure, log: None }, report.trace()),
        None => End::Followed {
            kept: report.events,
            of: report.events,
        },
    }
}

/// Makes the run smaller, if that is wanted, and tries each fault that is left.
fn examine(host: &Arc<Host>, config: &WorldConfig, signature: &str, smaller: bool) -> End {
    let began = Instant::now();
    let whole = host.time_for_work();
    let first = match run(host, config.clone()) {
        Ok(report) => report,
        Err(why) => return End::NotReproduced { stale: true, why },
    };
    let fails = |report: &WorldReport| {
        (report.violation.as_ref()).is_some_and(|found| found.signature == signature)
    };
    if !fails(&first) {
        return End::NotReproduced {
            stale: true,
            why: "that run does not fail in this way: the code has changed since".to_owned(),
        };
    }
    // Two thirds of the time for shrinking; each run takes about as long as the first.
    let took = began.elapsed().max(Duration::from_micros(20));
    let affordable = whole.mul_f64(0.66).as_nanos() / took.as_nanos();
    let most = u32::try_from(affordable).unwrap_or(MOST_RUNS);
    let most = most.clamp(LEAST_RUNS, MOST_RUNS);
    host.allow(patience(config).saturating_mul(most).max(whole));
    let before = WorldSize::of(&first);
    let (mut best, mut runs, mut cut) = (first, 1, false);
    if smaller && let Some(shrunk) = best.shrink(most) {
        runs += u64::from(shrunk.runs);
        cut = shrunk.cut;
        best = shrunk.report;
    }
    let mut faults = Vec::new();
    for part in Part::all(&best.plan) {
        let tried = match began.elapsed() < whole {
            true => part.tried(&best, &fails, &mut runs),
            false => FaultTried {
                text: part.text(&best.plan),
                critical: None,
                timed: None,
            },
        };
        faults.push(tried);
    }
    host.set_executions(runs);
    let DecisionLog::World(config) = log_of(&best.config, Some(&best.plan)) else {
        unreachable!("a world's log is a world's")
    };
    End::ShrunkWorld {
        run: Box::new(SmallerRun {
            config: *config,
            before,
            after: WorldSize::of(&best),
            runs,
            cut,
            faults,
            hash: best.hash,
        }),
    }
}

/// Something of a plan that a run may do without.
#[derive(Clone, Copy)]
enum Part {
    /// One of its faults.
    Fault(usize),
    /// One of those of the server's backend.
    Backend(usize),
    /// What becomes of messages between agents and server.
    Mail,
    /// What becomes of compiles.
    Compile,
    /// What drivers rarely do.
    Rare,
}

impl Part {
    /// Those that there are; the faults first, in the order of the plan.
    fn all(plan: &Plan) -> Vec<Part> {
        let calm = Plan::calm();
        let faults = (0..plan.faults.len()).map(Part::Fault);
        let backend = (0..plan.backend.len()).map(Part::Backend);
        let others = [
            (Part::Mail, plan.mail != calm.mail),
            (Part::Compile, plan.compile != calm.compile),
            (Part::Rare, plan.rare != calm.rare),
        ];
        let others = others.into_iter().filter(|(_, there)| *there);
        faults
            .chain(backend)
            .chain(others.map(|(part, _)| part))
            .collect()
    }

    fn text(self, plan: &Plan) -> String {
        match self {
            Part::Fault(place) => plan.faults[place].to_string(),
            Part::Backend(place) => format!("in the backend: {:?}", plan.backend[place]),
            Part::Mail => format!("{:?}", plan.mail),
            Part::Compile => format!("{:?}", plan.compile),
            Part::Rare => format!("{:?}", plan.rare),
        }
    }

    fn leave_out(self, plan: &mut Plan) {
        let calm = Plan::calm();
        match self {
            Part::Fault(place) => drop(plan.faults.remove(place)),
            Part::Backend(place) => drop(plan.backend.remove(place)),
            Part::Mail => plan.mail = calm.mail,
            Part::Compile => plan.compile = calm.compile,
            Part::Rare => plan.rare = calm.rare,
        }
    }

    /// The run without it, and a fault at other moments, too.
    fn tried(
        self,
        best: &WorldReport,
        fails: &dyn Fn(&WorldReport) -> bool,
        runs: &mut u64,
    ) -> FaultTried {
        let mut still_fails = |change: &dyn Fn(&mut Plan)| {
            let mut plan = best.plan.clone();
            change(&mut plan);
            let faults = Faults::Plan(plan);
            let config = WorldConfig {
                faults,
                record: false,
                ..best.config.clone()
            };
            *runs += 1;
            World::new(config).is_ok_and(|world| fails(&world.run()))
        };
        let critical = !still_fails(&|plan| self.leave_out(plan));
        let timed = match self {
            Part::Fault(place) => Some([true, false].iter().any(|&later| {
                !still_fails(&|plan| {
                    let fault = &mut plan.faults[place];
                    fault.when = moved(fault.when, later);
                })
            })),
            _ => None,
        };
        FaultTried {
            text: self.text(&best.plan),
            critical: Some(critical),
            timed,
        }
    }
}

/// A moment a little later, or a little earlier: one time earlier where it is the n-th of
/// something.
fn moved(when: When, later: bool) -> When {
    let shifted = |at: Duration| match later {
        true => at + MOVED_BY,
        false => at.saturating_sub(MOVED_BY),
    };
    match when {
        When::At(at) => When::At(shifted(at)),
        When::After { moment, nth, plus } if later || plus >= MOVED_BY => When::After {
            moment,
            nth,
            plus: shifted(plus),
        },
        When::After { moment, nth, plus } => When::After {
            moment,
            nth: nth.saturating_sub(1),
            plus,
        },
    }
}
