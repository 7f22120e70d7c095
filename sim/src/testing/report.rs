//! What a failed test says, in the order in which it is wanted: what failed, how small it was
//! made, why it fails, how it went, how to see it again.

use std::fs;
use std::path::Path;

use super::{NEVER, REPLAY_VARIABLE, TIMELINE_VARIABLE, Test};
use crate::child::Children;
use crate::reduce::{Shrinking, Smaller};
use crate::replay::Replayed;
use crate::timeline::{self, TextOptions};
use crate::trace::Trace;
use crate::{Failure, FailureKind, Seed, explain};

/// A longer seed goes to a file: systems bound how long a variable may be, and readers how long
/// a line.
const LONGEST_LINE: usize = 2_000;

/// The report. Makes the seed as small as the settings allow.
pub(super) fn of(
    test: &Test,
    children: &Children,
    failure: &Failure,
    executions: u64,
    seed: Option<Seed>,
    trace: Option<Trace>,
) -> String {
    let mut parts = Vec::new();
    let (failure, trace, seed) = match seed {
        None => {
            parts.push(what(failure, executions, trace.as_ref()));
            parts.push("This engine cannot run it again.".to_owned());
            (failure.clone(), trace, None)
        }
        Some(seed) => match smaller(test, children, &seed) {
            Ok((smaller, again)) => {
                let (failure, trace) = again;
                parts.push(what(&failure, executions, trace.as_ref()));
                parts.push(how_small(&smaller));
                (failure, trace, Some(smaller.seed))
            }
            Err(why) => {
                parts.push(what(failure, executions, trace.as_ref()));
                parts.push(format!("Not made smaller: {why}."));
                (failure.clone(), trace, Some(seed))
            }
        },
    };
    if let Some(trace) = trace.filter(|trace| !trace.events.is_empty()) {
        let title = format!("{}: {}", test.path, failure.signature);
        parts.push(explain::cause(&trace));
        let table = timeline::text(&trace, &title, TextOptions::default());
        parts.push(format!("\n{}\n", table.trim_end()));
        parts.extend(std::env::var_os(TIMELINE_VARIABLE).map(|dir| {
            let name = test.path.replace("::", "-");
            let path = Path::new(&dir).join(format!("{name}.html"));
            draw(&trace, &title, &path)
        }));
    }
    parts.extend(seed.map(|seed| command(test, &seed)));
    parts.join("\n")
}

/// Draws the page, and says where.
fn draw(trace: &Trace, title: &str, path: &Path) -> String {
    let page = timeline::html(trace, title, &timeline::source_line);
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    match made.and_then(|()| fs::write(&path, page)) {
        Ok(()) => format!("Drawn in {}", path.display()),
        Err(error) => format!(
            "{TIMELINE_VARIABLE}: cannot write {}: {error}",
            path.display()
        ),
    }
}

/// How to see it again.
pub(super) fn command(test: &Test, seed: &Seed) -> String {
    let seed = seed.to_string();
    let kept = (seed.len() > LONGEST_LINE).then(|| {
        let name = format!("selvedge-{}.seed", crate::revision_of(&seed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, &seed).map(|()| path.display().to_string())
    });
    let seed = match kept {
        Some(Ok(path)) => path,
        // It is good where it stands, if long.
        Some(Err(_)) | None => seed,
    };
    format!(
        "{REPLAY_VARIABLE}={seed} cargo test -p {} {}",
        test.package,
        test.name()
    )
}

fn what(failure: &Failure, executions: u64, trace: Option<&Trace>) -> String {
    let place = match (failure.kind, trace) {
        // The engine panics in its own code where nobody can go on; of interest is who waits.
        (FailureKind::Deadlock, Some(trace)) => {
            let waits: Vec<String> = (trace.blocked.iter())
                .map(|blocked| blocked.site.text())
                .filter(|site| !site.is_empty())
                .collect();
            waits.join(" and ")
        }
        _ => failure.location.clone(),
    };
    let at = match place.is_empty() {
        true => String::new(),
        false => format!("at {place}, "),
    };
    format!(
        "violated: {}\n  {}\n  {at}execution {executions}",
        failure.signature,
        failure.detail.replace('\n', "\n  ")
    )
}

/// The smallest execution that fails in this way, with its failure and its trace; or why there
/// is none.
type Smallest = (Smaller, (Failure, Option<Trace>));

fn smaller(test: &Test, children: &Children, seed: &Seed) -> Result<Smallest, String> {
    let settings = &test.settings;
    let cannot = |error| format!("cannot run its child process: {error}");
    let smaller = match (children.shrink(seed, settings.shrink, &NEVER)).map_err(cannot)? {
        Shrinking::Done(smaller) => smaller,
        Shrinking::World(_) => return Err("tests run no worlds".to_owned()),
        Shrinking::Least(why) | Shrinking::Impossible(why) => return Err(why.to_owned()),
        Shrinking::Stale(why) => return Err(why),
        Shrinking::Failed(what) => return Err(format!("the engine failed: {what}")),
        Shrinking::Stopped => return Err(format!("time ran out ({:?})", settings.shrink)),
    };
    let replayed = children.replay(&smaller.seed, settings.rounds, settings.limit, &NEVER);
    match replayed.map_err(cannot)? {
        Replayed::Violated {
            failure, mut trace, ..
        } => {
            if let Some(trace) = &mut trace {
                smaller.mark(trace);
            }
            Ok((smaller, (failure, trace)))
        }
        Replayed::NotReproduced(why) | Replayed::Stale(why) | Replayed::Failed(why) => {
            Err(format!("what was left did not fail again: {why}"))
        }
        Replayed::Cut | Replayed::Interrupted => Err("time ran out".to_owned()),
    }
}

fn how_small(smaller: &Smaller) -> String {
    let (before, after) = (smaller.before, smaller.after);
    let least = match (smaller.least, smaller.cut) {
        (true, _) => "no schedule with fewer preemptions fails in this way",
        (false, true) => "time ran out, there may be a smaller one",
        (false, false) => "whether fewer preemptions would do was not tried",
    };
    if before == after {
        return format!(
            "It was made no smaller: preemptions {}, switches {}; {least}.",
            after.preemptions, after.switches
        );
    }
    format!(
        "Made smaller in {} executions: preemptions {} -> {}, switches {} -> {}; {least}.",
        smaller.replays, before.preemptions, after.preemptions, before.switches, after.switches
    )
}
