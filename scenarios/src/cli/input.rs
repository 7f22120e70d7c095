//! Reads what users type, and says what is wrong with it and what is near it.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use selvedge_core::engine::Admission;
use selvedge_models::epoch::Mutant;
use selvedge_sim::{Class, Engine};

use super::Stop;
use super::explore::Named;
use crate::{Scenario, registry};

const LEAST_BUDGET: Duration = Duration::from_millis(100);
const MOST_STEP: Duration = Duration::from_secs(3_600);
const MOST_BUDGET: Duration = Duration::from_secs(30 * 24 * 3_600);

pub(super) fn engine(text: &str) -> Result<Engine, String> {
    text.parse().map_err(|error| {
        let known = [
            "native",
            "explorer",
            "loom",
            "shuttle",
            "shuttle:random",
            "shuttle:pct",
            "shuttle:urw",
            "stateright",
            "world",
        ];
        match near(text, known) {
            Some(near) => format!("{error}; did you mean '{near}'?"),
            None => format!("{error}"),
        }
    })
}

/// A model that can be looked around in.
pub(super) fn model(text: &str) -> Result<Named, String> {
    let known = Named::ALL.map(Named::name);
    let found = Named::ALL.into_iter().find(|model| model.name() == text);
    found.ok_or_else(|| unknown("model", text, &known))
}

/// A way in which alpha's protocol can be broken.
pub(super) fn mutant(text: &str) -> Result<Mutant, String> {
    let known = Mutant::ALL.map(Mutant::name);
    let found = Mutant::ALL.into_iter().find(|mutant| mutant.name() == text);
    found.ok_or_else(|| unknown("mutant", text, &known))
}

pub(super) fn unknown(what: &str, text: &str, known: &[&str]) -> String {
    let all = known.join(", ");
    let near = near(text, known.iter().copied());
    let near = near.map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
    format!("there is no {what} '{text}'; there are {all}{near}")
}

pub(super) fn budget(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(budget) if (LEAST_BUDGET..=MOST_BUDGET).contains(&budget) => Ok(budget),
        Ok(_) => Err("a budget is at least 100ms and at most 30days".to_owned()),
        Err(_) => Err("a budget is a number and a unit, as 60s, 5m or 8h".to_owned()),
    }
}

/// How long something is waited for.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(wait) if (LEAST_BUDGET..=MOST_BUDGET).contains(&wait) => Ok(wait),
        Ok(_) => Err("it is at least 100ms and at most 30days".to_owned()),
        Err(_) => Err("it is a number and a unit, as 500ms, 10s or 5m".to_owned()),
    }
}

pub(super) fn number(text: &str) -> Result<u64, String> {
    (text.parse()).map_err(|_| "it is a whole number, from 0 to 2^64 - 1".to_owned())
}

/// A count of which there must be some.
pub(super) fn at_least_one<N: FromStr + Default + PartialEq>(text: &str) -> Result<N, String> {
    match text.parse() {
        Ok(n) if n != N::default() => Ok(n),
        _ => Err("it is a whole number, at least 1".to_owned()),
    }
}

/// A size of something that is really allocated.
pub(super) fn up_to<const MOST: u32>(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(n) if (1..=MOST).contains(&n) => Ok(n),
        _ => Err(format!("it is a whole number, from 1 to {MOST}")),
    }
}

pub(super) fn admission(text: &str) -> Result<Admission, String> {
    let watermark = text.strip_prefix("watermark:").map(str::parse);
    match (text, watermark) {
        ("full", _) => Ok(Admission::Full),
        (_, Some(Ok(blocks))) => Ok(Admission::Watermark { blocks }),
        _ => Err("it is full, or watermark:N with the blocks to keep free".to_owned()),
    }
}

pub(super) fn virtual_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time <= MOST_STEP => Ok(time),
        Ok(_) => Err("a step takes at most 1h".to_owned()),
        Err(_) => Err("it is a number and a unit, as 10ms or 50us".to_owned()),
    }
}

/// Two reports into one file would be one too few.
pub(super) fn distinct(files: &[(&str, Option<&Path>)]) -> Result<(), Stop> {
    // What cannot be found, as standard input, is the same as nothing.
    let place = |path: Option<&Path>| path.and_then(|path| path.canonicalize().ok());
    for (at, (name, one)) in files.iter().enumerate() {
        for (other_name, other) in &files[at + 1..] {
            if place(*one).is_some_and(|one| place(*other) == Some(one)) {
                return Err(Stop::usage(format!(
                    "{name} and {other_name} name the same file; give each its own"
                )));
            }
        }
    }
    Ok(())
}

pub(super) fn jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(jobs @ 1..=1024) => Ok(jobs),
        _ => Err("jobs are a number from 1 to 1024".to_owned()),
    }
}

/// An engine whose search can be estimated.
pub(super) fn estimated(text: &str) -> Result<Engine, String> {
    match engine(text)? {
        full @ Engine::Explorer { preemptions: None } => Ok(full),
        other => Err(format!(
            "the search of {other} cannot be estimated; only that of explorer can, without a bound"
        )),
    }
}

pub(super) fn probes(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(probes @ 2..=10_000_000) => Ok(probes),
        _ => Err("probes are a number from 2 to 10000000".to_owned()),
    }
}

pub(super) fn required(text: &str) -> Result<Class, String> {
    match text.parse()? {
        class @ (Class::Sampled | Class::Bounded | Class::Exhausted) => Ok(class),
        class => Err(format!(
            "{class} is no pass; require sampled, bounded or exhausted"
        )),
    }
}

/// The scenarios that any of the filters names: the one with just this id, else all whose id
/// contains it. No filter names all.
pub(super) fn select(filters: &[String]) -> Result<Vec<&'static Scenario>, Stop> {
    let all = registry::all();
    if filters.is_empty() {
        return Ok(all);
    }
    let mut chosen = vec![false; all.len()];
    for filter in filters {
        let wanted = filter.to_lowercase();
        let exact = all.iter().position(|s| s.id.to_lowercase() == wanted);
        let mut any = exact.is_some();
        for (index, scenario) in all.iter().enumerate() {
            let hit = match exact {
                Some(exact) => exact == index,
                None => !wanted.is_empty() && scenario.id.to_lowercase().contains(&wanted),
            };
            chosen[index] |= hit;
            any |= hit;
        }
        if !any {
            return Err(Stop::usage(no_such_scenario(filter)));
        }
    }
    let chosen = all.into_iter().zip(chosen).filter(|(_, chosen)| *chosen);
    Ok(chosen.map(|(scenario, _)| scenario).collect())
}

pub(super) fn no_such_scenario(name: &str) -> String {
    let commands = ["check", "list", "estimate", "replay"];
    let ids = registry::all().into_iter().map(|scenario| scenario.id);
    match near(name, commands.into_iter().chain(ids)) {
        Some(near) => format!("there is no scenario '{name}'; did you mean '{near}'?"),
        None => format!("there is no scenario '{name}'; `selvedge list` shows them all"),
    }
}

/// The known word that is most like `text`, if one is.
fn near<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_lowercase();
    known
        .into_iter()
        .map(|word| (strsim::jaro_winkler(&text, &word.to_lowercase()), word))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

/// Opens a file for a report before anything runs, so that a long run is not lost to a wrong
/// path. What the file held stays until the report replaces it.
pub(super) fn output(path: &Path) -> Result<File, Stop> {
    if path.is_dir() {
        return Err(Stop::usage(format!(
            "{} is a directory; name a file",
            path.display()
        )));
    }
    OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
        .map_err(|error| {
            let hint = match path.parent() {
                Some(dir) if !dir.as_os_str().is_empty() && fs::metadata(dir).is_err() => {
                    format!("; there is no directory {}", dir.display())
                }
                _ => String::new(),
            };
            Stop::usage(format!("cannot write {}: {error}{hint}", path.display()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_gets_a_near_word() {
        assert!(
            engine("lomo")
                .unwrap_err()
                .ends_with("did you mean 'loom'?")
        );
        assert!(no_such_scenario("lost-wakup").contains("'lost-wakeup'"));
        assert!(no_such_scenario("lsit").contains("'list'"));
        assert!(no_such_scenario("zzzz").contains("`selvedge list`"));
    }

    #[test]
    fn a_filter_is_an_id_or_part_of_some() {
        let ids = |filter: &str| {
            select(&[filter.to_owned()]).map(|found| found.iter().map(|s| s.id).collect::<Vec<_>>())
        };
        assert_eq!(ids("LOST-wakeup").unwrap(), ["lost-wakeup"]);
        assert!(ids("abba").unwrap().contains(&"abba-2"));
        assert!(ids("").is_err());
        assert_eq!(select(&[]).unwrap().len(), registry::all().len());
    }

    #[test]
    fn durations_and_numbers_are_bounded() {
        assert_eq!(budget("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(wait("300ms"), Ok(Duration::from_millis(300)));
        for wrong in ["", "60", "1ms", "-3s", "soon"] {
            assert!(budget(wrong).is_err() && wait(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0", "-1", "x", "4096"] {
            assert!(jobs(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0", "1", "-1", "x"] {
            assert!(probes(wrong).is_err(), "{wrong}");
        }
        for wrong in ["loom", "explorer:2", "shuttle:pct"] {
            assert!(estimated(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0", "-1", "4294967296", "x", ""] {
            assert!(at_least_one::<u32>(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            admission("watermark:7"),
            Ok(Admission::Watermark { blocks: 7 })
        );
        for wrong in ["watermark", "watermark:", "watermark:-1", "Full", ""] {
            assert!(admission(wrong).is_err(), "{wrong}");
        }
        for wrong in ["10", "2h", "-1ms"] {
            assert!(virtual_time(wrong).is_err(), "{wrong}");
        }
        for wrong in ["Violated", "perfect"] {
            assert!(required(wrong).is_err(), "{wrong}");
        }
    }
}
