//! The timeline in plain text.
//!
//! What went wrong stands first, then the table, then who waits for whom, then what the short
//! names of objects mean. No line is wider than asked for.

mod table;

use std::collections::HashSet;

use crate::FailureKind;

use super::scene::Scene;
use super::shape::{clean, clip, clip_path, columns, wrap};
use super::{MAX_WIDTH, MIN_WIDTH, TextOptions};

/// No legend of objects is longer, unless all is wanted.
const OBJECTS: usize = 40;

/// Lines that are never too wide.
pub(super) struct Page {
    text: String,
    pub(super) width: usize,
}

pub(super) fn draw(scene: &Scene<'_>, title: &str, options: TextOptions) -> String {
    let mut page = Page {
        text: String::new(),
        width: options.width.clamp(MIN_WIDTH, MAX_WIDTH),
    };
    page.words("", &clean(title));
    page.words("", &scene.summary());
    if let Some(failure) = &scene.trace.failure {
        let kind = kind(failure.kind);
        let signature = clean(&failure.signature);
        let known = signature == kind;
        let kind = if known {
            String::new()
        } else {
            format!(" ({kind})")
        };
        page.words("", &format!("FAILED: {signature}{kind}"));
    }
    legend(scene, &mut page);
    page.line("");
    table::draw(scene, &mut page, options.all);
    if scene.failed_at.is_none() {
        failure(scene, &mut page);
    }
    waits(scene, &mut page);
    objects(scene, &mut page, options.all);
    page.text
}

/// What sort of failure it is.
pub(super) fn kind(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Property => "a property does not hold",
        FailureKind::Deadlock => "deadlock",
        FailureKind::Liveness => "nobody gets anywhere",
        FailureKind::Nondeterminism => "not the same twice",
    }
}

impl Page {
    /// A line as it is; what does not fit goes.
    pub(super) fn line(&mut self, line: &str) {
        self.text
            .push_str(clip(line.trim_end(), self.width).trim_end());
        self.text.push('\n');
    }

    /// Words in as many lines as they take, the first behind `first`, the others below them.
    pub(super) fn words(&mut self, first: &str, words: &str) {
        let indent = columns(first).min(self.width / 2);
        let blank = " ".repeat(indent);
        for (place, line) in wrap(words, self.width - indent).iter().enumerate() {
            let front = if place == 0 { first } else { &blank };
            self.line(&format!("{front}{line}"));
        }
    }
}

/// What the marks in front of the rows mean; only those that are there.
fn legend(scene: &Scene<'_>, page: &mut Page) {
    let (turns, preemptions, critical) = scene.counts();
    let begun = scene.trace.blocked.len();
    let is_world = scene.trace.is_of_world();
    let marks = [
        (
            turns > preemptions && !is_world,
            table::SWITCH,
            "another task goes on",
        ),
        (
            preemptions > 0,
            table::PREEMPTION,
            "preemption: the task before could have gone on",
        ),
        (
            critical > 0,
            table::CRITICAL,
            match is_world {
                true => "critical: without this fault the failure vanishes",
                false => "critical: without this switch the failure vanishes",
            },
        ),
        (begun > 0, "... ", "begun and never done"),
    ];
    for (_, mark, meaning) in marks.into_iter().filter(|(there, ..)| *there) {
        page.words(&format!("  {mark}"), meaning);
    }
}

/// How it failed, in full.
pub(super) fn failure(scene: &Scene<'_>, page: &mut Page) {
    let Some(failure) = &scene.trace.failure else {
        return;
    };
    page.words(">>> ", &format!("FAILED: {}", clean(&failure.signature)));
    for line in failure.detail.lines().take(40) {
        page.words(">>> ", &clean(line));
    }
    if !failure.location.is_empty() {
        page.words(">>> at ", &clean(&failure.location));
    }
}

/// What each task waits for at the end, and the circle, if there is one.
fn waits(scene: &Scene<'_>, page: &mut Page) {
    if scene.waits.is_empty() {
        return;
    }
    page.line("");
    page.line("At the end:");
    for (waits, blocked) in scene.waits.iter().zip(&scene.trace.blocked) {
        let mut words = scene.waiting(waits, blocked.peer);
        let site = blocked.site.text();
        if !site.is_empty() {
            words += &format!(", at {}", clip_path(&clean(&site), page.width / 2));
        }
        page.words(&format!("  {}  ", scene.task(waits.task)), &words);
    }
    if scene.cycle.is_empty() {
        return;
    }
    page.line("");
    page.line("Wait-for cycle:");
    let last = scene.cycle.len() - 1;
    for (place, &task) in scene.cycle.iter().enumerate() {
        let edge = match (place, place == last) {
            (0, true) => "  └> ",
            (0, false) => "  ┌> ",
            (_, false) => "  │  ",
            (_, true) => "  └─ ",
        };
        page.words(&format!("{edge}{}  ", scene.task(task)), &link(scene, task));
    }
}

/// One link of the circle: `holds M1, waits to lock M2, held by 0.1`.
pub(super) fn link(scene: &Scene<'_>, task: u32) -> String {
    let at = scene.waits.iter().position(|waits| waits.task == task);
    let waits = at.map_or_else(String::new, |at| {
        let peer = (scene.trace.blocked.get(at)).and_then(|blocked| blocked.peer);
        scene.waiting(&scene.waits[at], peer)
    });
    match scene.holds(task) {
        Some(held) => format!("holds {held}, {waits}"),
        None => waits,
    }
}

/// What the short names mean.
fn objects(scene: &Scene<'_>, page: &mut Page, all: bool) {
    let done = scene.trace.events.iter().map(|event| event.object);
    let begun = scene.trace.blocked.iter().map(|blocked| blocked.object);
    let used: HashSet<u32> = done.chain(begun).flatten().collect();
    let shown: Vec<_> = (scene.trace.objects.iter().zip(0_u32..))
        .filter(|(_, object)| all || used.contains(object))
        .collect();
    if shown.is_empty() {
        return;
    }
    page.line("");
    let most = if all { shown.len() } else { OBJECTS };
    for &(it, object) in shown.iter().take(most) {
        let mut words = format!(
            "{}, made by {}",
            scene.object_kind(object),
            scene.task(it.creator)
        );
        let site = it.site.text();
        if !site.is_empty() {
            words += &format!(" at {}", clip_path(&clean(&site), page.width / 2));
        }
        page.words(&format!("{} = ", scene.object(object)), &words);
    }
    if shown.len() > most {
        page.line(&format!("... and {} more objects", shown.len() - most));
    }
}
