//! Whether a trace is one that Perfetto opens.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde_json::{Map, Value};

use super::scan::{Elements, TraceFault};

/// What [`check`] holds a trace to: the rules of the JSON importer of Perfetto's trace processor,
/// which has become strict (perfetto 926, 1822), and of the Chrome trace format where that
/// importer skips an event in silence.
pub const RULES: &[&str] = &[
    "the file is one closed JSON array, or an object whose 'traceEvents' is one: no comma before ']', nothing after the end",
    "each element is a JSON object",
    "'ph' is one letter, and one that the format knows",
    "'pid' is a whole number, or text",
    "'tid' is a whole number, or text; counters and metadata may have none",
    "'name' is text; only ends, and what belongs to an id, may have none",
    "'ts' is a number, or text that is one; metadata may have none",
    "'dur' of an X is a number that is not negative",
    "'s' of an i is g, p or t",
    "'args', where there are any, are an object; those of a counter are numbers",
    "'id' is there where an event is matched by it: b, e, n, s, t, f",
];

/// What is in a valid trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checked {
    /// Its events.
    pub events: u64,
    /// How many there are of each `ph`.
    pub by_phase: BTreeMap<char, u64>,
}

/// Reads a trace to its end, and holds it to the [`RULES`].
///
/// ```
/// use selvedge_core::train::profiler::check;
///
/// let good = br#"[{"name":"a","ph":"X","ts":1,"dur":2,"pid":1,"tid":1}]"#;
/// assert_eq!(check(&good[..])?.events, 1);
/// let bad = check(&br#"[{"name":"a","ph":"X","ts":1,"dur":2,"pid":1,"tid":1},]"#[..]);
/// assert_eq!(bad.unwrap_err().to_string(), "byte 54: a comma before the array's end");
/// // As torch writes it.
/// let torch = br#"{"schemaVersion":1,"traceEvents":[{"name":"a","ph":"X","ts":1,"dur":2,"pid":1,"tid":1}]}"#;
/// assert_eq!(check(&torch[..])?.events, 1);
/// # Ok::<(), selvedge_core::train::profiler::TraceFault>(())
/// ```
///
/// # Errors
/// The first [`TraceFault`].
pub fn check(from: impl BufRead) -> Result<Checked, TraceFault> {
    let mut elements = Elements::new(from);
    let mut checked = Checked::default();
    while let Some(element) = elements.next()? {
        let (number, at) = (element.number, element.at);
        let phase = (element.event.as_object())
            .ok_or_else(|| "is no object".to_owned())
            .and_then(event)
            .map_err(|why| TraceFault::Rule { number, at, why })?;
        checked.events += 1;
        *checked.by_phase.entry(phase).or_default() += 1;
    }
    Ok(checked)
}

/// The phases that the format knows.
const PHASES: &str = "BEXiICbnestfPNODMVvRcSTpF()";

/// The event's phase, or the rule that it breaks.
fn event(event: &Map<String, Value>) -> Result<char, String> {
    let ph = event.get("ph").and_then(Value::as_str).unwrap_or_default();
    let mut letters = ph.chars();
    let (Some(ph), None) = (letters.next(), letters.next()) else {
        return Err(format!(
            "has 'ph' {:?}, which is not one letter",
            show(event, "ph")
        ));
    };
    if !PHASES.contains(ph) {
        return Err(format!("has the unknown 'ph' {ph:?}"));
    }
    let need = |holds: bool, key: &str, what: &str| match holds {
        true => Ok(()),
        false => Err(format!(
            "of 'ph' {ph:?} has '{key}' {}, which is not {what}",
            show(event, key)
        )),
    };
    let is_id = |key| {
        event
            .get(key)
            .is_some_and(|id| id.is_i64() || id.is_u64() || id.is_string())
    };
    need(is_id("pid"), "pid", "a whole number or text")?;
    let no_tid = matches!(ph, 'C' | 'M') && !event.contains_key("tid");
    need(no_tid || is_id("tid"), "tid", "a whole number or text")?;
    let nameless = matches!(ph, 'E' | 'e' | 'f' | 'D' | 'O' | 'N' | 'F' | ')');
    let named = event.get("name").is_some_and(Value::is_string);
    need(
        named || nameless && !event.contains_key("name"),
        "name",
        "text",
    )?;
    let timeless = ph == 'M' && !event.contains_key("ts");
    need(timeless || number(event, "ts").is_some(), "ts", "a number")?;
    if ph == 'X' {
        let dur = number(event, "dur");
        need(
            dur.is_some_and(|dur| dur >= 0.0),
            "dur",
            "a number from 0 on",
        )?;
    }
    if matches!(ph, 'i' | 'I') && event.contains_key("s") {
        let scope = event.get("s").and_then(Value::as_str);
        need(matches!(scope, Some("g" | "p" | "t")), "s", "g, p or t")?;
    }
    if let Some(args) = event.get("args") {
        need(args.is_object(), "args", "an object")?;
    }
    if ph == 'C' {
        let args = event.get("args").and_then(Value::as_object);
        let numbers = args.is_some_and(|args| args.values().all(Value::is_number));
        need(numbers, "args", "numbers by name")?;
    }
    if matches!(ph, 'b' | 'e' | 'n' | 's' | 't' | 'f') {
        let matched = ["id", "id2", "bind_id"]
            .iter()
            .any(|key| event.contains_key(*key));
        need(matched, "id", "there")?;
    }
    Ok(ph)
}

fn number(event: &Map<String, Value>, key: &str) -> Option<f64> {
    let value = event.get(key)?;
    (value.as_f64()).or_else(|| value.as_str()?.parse().ok().filter(|x: &f64| x.is_finite()))
}

/// A value for people, cut where it is long.
fn show(event: &Map<String, Value>, key: &str) -> String {
    let text = event.get(key).map_or("(none)".to_owned(), Value::to_string);
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}
