//! The timeline as a page for a browser.
//!
//! The page is three files of ours, `page.html`, `page.css` and `page.js`, and the trace as
//! JSON. Here the JSON is made and everything is put together; what is drawn and how is in the
//! script. The page's own policy forbids it to load anything.

use std::collections::HashMap;

use serde::Serialize;

use crate::trace::waits::Waits;
use crate::trace::{Event, ObjectKind, Operation, Site};

use super::scene::{Scene, Turn};
use super::shape::clean;
use super::{MAX_WIDTH, TextOptions};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// So many lines of source before and after the one of an event.
const AROUND: u32 = 3;

/// What the script draws.
#[derive(Serialize)]
struct Data {
    summary: String,
    failure: Option<FailureData>,
    lanes: Vec<String>,
    objects: Vec<ObjectData>,
    events: Vec<EventData>,
    /// What was begun and never done.
    stuck: Vec<StuckData>,
    spans: Vec<SpanData>,
    arrows: Vec<ArrowData>,
    cycle: Vec<CycleData>,
    sites: Vec<SiteData>,
    /// A switch behind the last event.
    last: Option<TurnData>,
}

#[derive(Serialize)]
struct FailureData {
    kind: &'static str,
    signature: String,
    detail: String,
    location: String,
}

#[derive(Serialize)]
struct ObjectData {
    name: String,
    kind: String,
    lock: bool,
    maker: String,
    at: String,
    events: usize,
}

#[derive(Serialize)]
struct EventData {
    lane: usize,
    /// When it was, where there is time.
    at: Option<String>,
    say: String,
    /// Names and values, in the order in which they are shown.
    facts: Vec<(&'static str, String)>,
    site: Option<usize>,
    stale: Option<String>,
    turn: Option<TurnData>,
    /// Of no interest by itself.
    quiet: bool,
    /// It did not do what it was to do.
    missed: bool,
    failing: bool,
}

#[derive(Serialize)]
struct StuckData {
    lane: usize,
    say: String,
    short: String,
    facts: Vec<(&'static str, String)>,
    site: Option<usize>,
}

#[derive(Serialize)]
struct TurnData {
    from: Option<usize>,
    to: Option<usize>,
    preemption: bool,
    critical: bool,
    say: String,
}

#[derive(Serialize)]
struct SpanData {
    kind: &'static str,
    lane: usize,
    object: Option<u32>,
    from: usize,
    to: usize,
    open: bool,
    say: String,
}

#[derive(Serialize)]
struct ArrowData {
    kind: &'static str,
    from: usize,
    to: usize,
}

#[derive(Serialize)]
struct CycleData {
    lane: usize,
    /// What this one waits for.
    edge: String,
    say: String,
}

#[derive(Serialize)]
struct SiteData {
    at: String,
    line: u32,
    lines: Vec<(u32, String)>,
}

pub(super) fn draw(
    scene: &Scene<'_>,
    title: &str,
    source: &dyn Fn(&Site) -> Option<String>,
) -> String {
    let data = data(scene, source);
    // Within a script element only `<` can end or change anything; JSON has it in strings alone.
    let json = serde_json::to_string(&data)
        .expect("INVARIANT: numbers, strings and lists of them are JSON")
        .replace('<', "\\u003c");
    let options = TextOptions {
        width: MAX_WIDTH,
        all: true,
    };
    let plain = super::text::draw(scene, title, options);
    let mut page = String::with_capacity(PAGE.len() + STYLE.len() + SCRIPT.len() + json.len());
    // Piece by piece, so that a title with a mark in it stays a title.
    for piece in PAGE.split("{{") {
        let (mark, rest) = piece.split_once("}}").unwrap_or(("", piece));
        match mark {
            "title" => page.push_str(&escape(&clean(title))),
            "style" => page.push_str(STYLE),
            "script" => page.push_str(SCRIPT),
            "plain" => page.push_str(&escape(&plain)),
            "data" => page.push_str(&json),
            _ => {}
        }
        page.push_str(rest);
    }
    page
}

/// Words as they stand in a page.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn data(scene: &Scene<'_>, source: &dyn Fn(&Site) -> Option<String>) -> Data {
    let trace = scene.trace;
    let mut sites = Sites::default();
    let events = (trace.events.iter().enumerate())
        .map(|(place, event)| self::event(scene, event, place, sites.place(&event.site)))
        .collect();
    let stuck = (scene.waits.iter().zip(&trace.blocked))
        .map(|(waits, blocked)| StuckData {
            lane: scene.lane(blocked.task),
            say: scene.waiting(waits, blocked.peer),
            short: scene.begun(waits, blocked.peer),
            facts: blocked
                .object
                .map(|object| known_object(scene, object))
                .into_iter()
                .collect(),
            site: sites.place(&blocked.site),
        })
        .collect();
    let mut used: HashMap<u32, usize> = HashMap::new();
    for object in trace.events.iter().filter_map(|event| event.object) {
        *used.entry(object).or_default() += 1;
    }
    Data {
        summary: scene.summary(),
        failure: trace.failure.as_ref().map(|failure| FailureData {
            kind: super::text::kind(failure.kind),
            signature: clean(&failure.signature),
            detail: failure
                .detail
                .lines()
                .map(clean)
                .collect::<Vec<_>>()
                .join("\n"),
            location: clean(&failure.location),
        }),
        lanes: scene.lanes.clone(),
        objects: (trace.objects.iter().zip(0_u32..))
            .map(|(it, object)| ObjectData {
                name: scene.object(object).to_owned(),
                kind: scene.object_kind(object),
                lock: matches!(it.kind, ObjectKind::Mutex | ObjectKind::RwLock),
                maker: scene.task(it.creator),
                at: clean(&it.site.text()),
                events: used.get(&object).copied().unwrap_or(0),
            })
            .collect(),
        events,
        stuck,
        spans: (scene.spans.iter())
            .map(|span| SpanData {
                kind: span.kind.word(),
                lane: scene.lane(span.task),
                object: span.object,
                from: span.from,
                to: span.to,
                open: span.open,
                say: scene.lasting(span),
            })
            .collect(),
        arrows: (scene.arrows.iter())
            .map(|arrow| ArrowData {
                kind: arrow.kind.word(),
                from: arrow.from,
                to: arrow.to,
            })
            .collect(),
        cycle: scene.cycle.iter().map(|&task| link(scene, task)).collect(),
        sites: sites.read(source),
        last: scene
            .turns
            .get(&trace.events.len())
            .map(|at| turn(scene, at)),
    }
}

fn event(scene: &Scene<'_>, event: &Event, place: usize, site: Option<usize>) -> EventData {
    let time = scene.time(place);
    let mut facts = match &time {
        Some(time) => vec![("place", scene.task(event.task)), ("time", time.clone())],
        None => vec![
            ("task", scene.task(event.task)),
            ("operation", event.operation.word().to_owned()),
        ],
    };
    facts.extend(event.object.map(|object| known_object(scene, object)));
    facts.extend(event.peer.map(|peer| ("about", scene.task(peer))));
    facts.extend(event.read.map(|value| ("read", value.to_string())));
    facts.extend(event.wrote.map(|value| ("wrote", value.to_string())));
    if !event.text.is_empty() && time.is_none() {
        facts.push(("says", clean(&event.text)));
    }
    if event.step > 0 {
        facts.push(("step", event.step.to_string()));
    }
    let quiet = matches!(
        event.operation,
        Operation::Start
            | Operation::Finish
            | Operation::Unlock
            | Operation::ReadUnlock
            | Operation::WriteUnlock
            | Operation::Yield
    );
    EventData {
        lane: scene.lane(event.task),
        at: time,
        say: scene.phrase(event),
        facts,
        site,
        stale: scene.remark(place),
        turn: scene.turns.get(&place).map(|at| turn(scene, at)),
        quiet,
        missed: !event.ok,
        failing: scene.failed_at == Some(place) || event.operation == Operation::Fail,
    }
}

fn known_object(scene: &Scene<'_>, object: u32) -> (&'static str, String) {
    let name = scene.object(object);
    ("object", format!("{name}, {}", scene.object_kind(object)))
}

fn turn(scene: &Scene<'_>, turn: &Turn) -> TurnData {
    TurnData {
        from: turn.from,
        to: turn.to,
        preemption: turn.preemption,
        critical: turn.critical,
        say: scene.turning(turn),
    }
}

fn link(scene: &Scene<'_>, task: u32) -> CycleData {
    let waits = scene.waits.iter().find(|waits| waits.task == task);
    let edge = |waits: &Waits| match waits.object {
        Some(object) => format!("{} {}", waits.operation.word(), scene.object(object)),
        None => waits.operation.word().to_owned(),
    };
    CycleData {
        lane: scene.lane(task),
        edge: waits.map(edge).unwrap_or_default(),
        say: super::text::link(scene, task),
    }
}

/// Each place in the source once.
#[derive(Default)]
struct Sites<'a> {
    places: HashMap<&'a Site, usize>,
    sites: Vec<&'a Site>,
}

impl<'a> Sites<'a> {
    fn place(&mut self, site: &'a Site) -> Option<usize> {
        if site.file.is_empty() {
            return None;
        }
        let sites = &mut self.sites;
        Some(*self.places.entry(site).or_insert_with(|| {
            sites.push(site);
            sites.len() - 1
        }))
    }

    fn read(&self, source: &dyn Fn(&Site) -> Option<String>) -> Vec<SiteData> {
        let around = |site: &Site| {
            let lines = site.line.saturating_sub(AROUND).max(1)..=site.line.saturating_add(AROUND);
            let text = |line| {
                let file = site.file.clone();
                let text = source(&Site { file, line })?;
                Some((line, clean(&text.replace('\t', "    "))))
            };
            lines.filter_map(text).collect()
        };
        (self.sites.iter())
            .map(|site| SiteData {
                at: clean(&site.text()),
                line: site.line,
                lines: around(site),
            })
            .collect()
    }
}
