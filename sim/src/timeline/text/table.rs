//! The table itself: one column a task while there is room, else one for all of them.

use crate::timeline::scene::{Scene, Turn};
use crate::timeline::shape::{clean, clip, clip_path, columns, pad, wrap};
use crate::trace::Site;

use super::{Page, failure};

/// What stands before a row whose task took over from another.
pub(super) const SWITCH: &str = " -> ";
/// The same, if the other could have gone on.
pub(super) const PREEMPTION: &str = "!-> ";
/// The same, if without it there is no failure.
pub(super) const CRITICAL: &str = "*** ";
const NO_MARK: &str = "    ";

/// A column narrower than this breaks too many words to be read.
const NARROWEST: usize = 11;
/// With less than that there is no telling files apart.
const NARROWEST_SOURCE: usize = 10;
/// A cell has no more lines than this.
const CELL_LINES: usize = 6;
/// An execution of no more rows is shown whole.
const ROWS: usize = 200;
/// Of a longer one, so many rows at its beginning, at its end and around what matters.
const FIRST: usize = 50;
const LAST: usize = 120;
const AROUND: usize = 6;
/// At most so many critical switches keep their surroundings.
const MOST_CRITICAL: usize = 10;

/// A row of the table.
#[derive(Clone, Copy)]
enum Row {
    /// An event, by place.
    Event(usize),
    /// Something begun that was never done, by place.
    Begun(usize),
    /// A switch behind the last event.
    Last,
}

pub(super) fn draw(scene: &Scene<'_>, page: &mut Page, all: bool) {
    let rows = rows(scene);
    if rows.is_empty() {
        page.line("Nothing happened.");
        return;
    }
    let shown = shown(scene, &rows, all);
    let table = Table::layout(scene, page.width, rows.iter().zip(&shown));
    table.header(scene, page);
    let mut left_out = 0;
    for (row, shown) in rows.iter().zip(shown) {
        if !shown {
            left_out += 1;
            continue;
        }
        gap(page, &mut left_out);
        table.row(scene, page, *row);
    }
    gap(page, &mut left_out);
}

fn gap(page: &mut Page, left_out: &mut usize) {
    if *left_out > 0 {
        page.line(&format!("{NO_MARK}... {left_out} rows left out ..."));
        *left_out = 0;
    }
}

/// Events in their order; what was never done where it was begun.
fn rows(scene: &Scene<'_>) -> Vec<Row> {
    let end = scene.trace.events.len();
    let mut begun: Vec<(usize, usize)> = (scene.trace.blocked.iter().enumerate())
        .map(|(place, blocked)| ((blocked.since as usize).min(end), place))
        .collect();
    begun.sort_unstable();
    let mut begun = begun.into_iter().peekable();
    let mut rows = Vec::new();
    for place in 0..=end {
        while let Some((_, blocked)) = begun.next_if(|&(since, _)| since == place) {
            rows.push(Row::Begun(blocked));
        }
        if place < end {
            rows.push(Row::Event(place));
        }
    }
    // Tasks that only ran into what they wait for have no event to mark.
    if scene.turns.contains_key(&end) {
        rows.push(Row::Last);
    }
    rows
}

/// Which rows are worth their room.
fn shown(scene: &Scene<'_>, rows: &[Row], all: bool) -> Vec<bool> {
    if all || rows.len() <= ROWS {
        return vec![true; rows.len()];
    }
    let mut shown = vec![false; rows.len()];
    shown[..FIRST].fill(true);
    let last = rows.len() - LAST;
    shown[last..].fill(true);
    let mut critical = 0;
    for (at, row) in rows.iter().enumerate() {
        let Row::Event(place) = *row else {
            continue;
        };
        let is_critical = scene.turns.get(&place).is_some_and(|turn| turn.critical);
        critical += usize::from(is_critical);
        if (is_critical && critical <= MOST_CRITICAL) || scene.failed_at == Some(place) {
            let to = (at + AROUND).min(rows.len());
            shown[at.saturating_sub(AROUND)..to].fill(true);
        }
    }
    shown
}

/// How wide everything is.
struct Table {
    /// Of each lane; empty where there is one column for all.
    lanes: Vec<usize>,
    /// Of tasks' names and of what they do, where there is one column for all.
    name: usize,
    single: usize,
    number: usize,
    source: usize,
}

impl Table {
    fn layout<'r>(
        scene: &Scene<'_>,
        width: usize,
        rows: impl Iterator<Item = (&'r Row, &'r bool)>,
    ) -> Table {
        let mut wanted: Vec<usize> = scene
            .lanes
            .iter()
            .map(|name| columns(name).max(2))
            .collect();
        let mut source = 0;
        for (row, _) in rows.filter(|(_, shown)| **shown) {
            let Some((lane, words, remark, site)) = cell(scene, *row) else {
                continue;
            };
            let whole = columns(&words) + remark.map_or(0, |remark| 2 + columns(&remark));
            wanted[lane] = wanted[lane].max(whole);
            source = source.max(columns(&clean(&site.text())));
        }
        let last = scene.trace.events.len().saturating_sub(1);
        let number = columns(&number(scene, last));
        let mut table = Table {
            lanes: Vec::new(),
            name: (scene.lanes.iter().map(|name| columns(name)).max())
                .unwrap_or(0)
                .clamp("task".len(), 12),
            single: 0,
            number,
            source: source.min((width / 3).max(NARROWEST_SOURCE)),
        };
        // Either the columns of all tasks fit beside the source, or beside a narrower one.
        let narrow = table.source.min(NARROWEST_SOURCE + 4);
        for source in [table.source, narrow] {
            let taken = table.gutter() + 3 * wanted.len() + side(source);
            if let Some(lanes) = share(width.saturating_sub(taken), &wanted) {
                table.lanes = lanes;
                table.source = source;
                return table;
            }
        }
        let taken = table.gutter() + table.name + 3 + side(table.source);
        let widest = wanted.iter().max().copied().unwrap_or(0);
        table.single = width.saturating_sub(taken).min(widest).max(2);
        table
    }

    fn gutter(&self) -> usize {
        NO_MARK.len() + self.number + 1
    }

    fn header(&self, scene: &Scene<'_>, page: &mut Page) {
        let gutter = pad("", self.gutter());
        let source = if self.source > 0 { " source" } else { "" };
        if self.lanes.is_empty() {
            let name = pad(&clip("task", self.name), self.name);
            let what = pad("what", self.single);
            page.line(&format!("{gutter}{name} │ {what} │{source}"));
        } else {
            let mut line = gutter;
            for (name, &width) in scene.lanes.iter().zip(&self.lanes) {
                line += &format!("│ {} ", pad(&clip(name, width), width));
            }
            page.line(&format!("{line}│{source}"));
        }
        let mut rule = "─".repeat(self.gutter());
        if self.lanes.is_empty() {
            rule += &format!(
                "{}┼{}",
                "─".repeat(self.name + 1),
                "─".repeat(self.single + 2)
            );
        }
        for width in &self.lanes {
            rule += &format!("┼{}", "─".repeat(width + 2));
        }
        page.line(&format!(
            "{rule}┼{}",
            "─".repeat(side(self.source).saturating_sub(1))
        ));
    }

    fn row(&self, scene: &Scene<'_>, page: &mut Page, row: Row) {
        let (turn, number) = match row {
            Row::Event(place) => (scene.turns.get(&place), number(scene, place)),
            Row::Begun(_) => (None, String::new()),
            Row::Last => (scene.turns.get(&scene.trace.events.len()), String::new()),
        };
        if let Some(turn) = turn.filter(|turn| turn.critical) {
            critical(scene, page, turn);
        }
        let mark = match turn {
            None => NO_MARK,
            Some(turn) if turn.critical => CRITICAL,
            Some(turn) if turn.preemption => PREEMPTION,
            Some(_) => SWITCH,
        };
        let gutter = format!("{mark}{number:>width$} ", width = self.number);
        let Some((lane, words, remark, site)) = cell(scene, row) else {
            page.line(gutter.trim_end());
            return;
        };
        let width = self.lanes.get(lane).copied().unwrap_or(self.single);
        let mut lines = wrap(&words, width);
        if let Some(remark) = remark {
            match columns(&words) + 2 + columns(&remark) <= width {
                true => lines = vec![format!("{words}  {remark}")],
                false => lines.extend(wrap(&remark, width)),
            }
        }
        if lines.len() > CELL_LINES {
            lines.truncate(CELL_LINES);
            let last = lines.pop().unwrap_or_default();
            lines.push(clip(&format!("{last} ..."), width));
        }
        let source = clip_path(&clean(&site.text()), self.source);
        for (at, words) in lines.iter().enumerate() {
            let (gutter, source) = match at {
                0 => (gutter.as_str(), source.as_str()),
                _ => (&*" ".repeat(self.gutter()), ""),
            };
            page.line(&format!(
                "{gutter}{} {source}",
                self.cells(scene, lane, words)
            ));
        }
        if matches!(row, Row::Event(place) if scene.failed_at == Some(place)) {
            failure(scene, page);
        }
    }

    /// One line of a row, without its gutter and its source.
    fn cells(&self, scene: &Scene<'_>, lane: usize, words: &str) -> String {
        if self.lanes.is_empty() {
            let name = scene.lanes.get(lane).map_or("?", String::as_str);
            let name = pad(&clip(name, self.name), self.name);
            return format!("{name} │ {} │", pad(words, self.single));
        }
        let mut line = String::new();
        for (place, &width) in self.lanes.iter().enumerate() {
            let words = if place == lane { words } else { "" };
            line += &format!("│ {} ", pad(words, width));
        }
        line + "│"
    }
}

/// What tells a row: its number, or when it was.
fn number(scene: &Scene<'_>, place: usize) -> String {
    (scene.time(place)).unwrap_or_else(|| (place + 1).to_string())
}

/// What the column of the source takes, with the rule before it.
fn side(source: usize) -> usize {
    if source == 0 { 1 } else { source + 2 }
}

/// What a row says: in which lane, what, what else, and where in the source.
fn cell<'a>(scene: &Scene<'a>, row: Row) -> Option<(usize, String, Option<String>, &'a Site)> {
    match row {
        Row::Event(place) => {
            let event = scene.trace.events.get(place)?;
            let remark = scene.remark(place);
            Some((
                scene.lane(event.task),
                scene.phrase(event),
                remark,
                &event.site,
            ))
        }
        Row::Begun(place) => {
            let blocked = scene.trace.blocked.get(place)?;
            let words = scene.begun(scene.waits.get(place)?, blocked.peer);
            Some((scene.lane(blocked.task), words, None, &blocked.site))
        }
        Row::Last => None,
    }
}

/// Room for each column: what it wants, if it is no more than the others can spare.
fn share(room: usize, wanted: &[usize]) -> Option<Vec<usize>> {
    let taken = |most: usize| wanted.iter().map(|&want| want.min(most)).sum::<usize>();
    let widest = wanted.iter().max().copied().unwrap_or(0);
    let most = (NARROWEST..=widest.max(NARROWEST))
        .rev()
        .find(|&most| taken(most) <= room)?;
    Some(wanted.iter().map(|&want| want.min(most)).collect())
}

/// A line across the table that nobody overlooks.
fn critical(scene: &Scene<'_>, page: &mut Page, turn: &Turn) {
    let what = match turn.fault {
        Some(_) => "FAULT",
        None => "SWITCH",
    };
    let words = format!(
        "CRITICAL {what}: {}; without it the failure vanishes",
        scene.turning(turn)
    );
    for line in wrap(&words, page.width - CRITICAL.len()) {
        let filled = page
            .width
            .saturating_sub(CRITICAL.len() + columns(&line) + 1);
        page.line(&format!("{CRITICAL}{line} {}", "*".repeat(filled)));
    }
}
