//! What a drawing of an execution says, and that it keeps its form whatever the trace.
#![cfg(not(loom_run))]
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

mod traces;

use proptest::prelude::*;
use selvedge_sim::timeline::{self, TextOptions};
use selvedge_sim::trace::{ObjectKind, Operation, Trace};
use traces::arbitrary::{any_trace, words};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

fn draw(trace: &Trace, width: usize) -> String {
    let options = TextOptions { width, all: false };
    timeline::text(trace, "a title", options)
}

/// Compares with a file of `tests/golden`, without blanks at the ends of lines.
fn assert_golden(name: &str, golden: &str, drawn: &str) {
    assert_eq!(
        drawn.trim_end(),
        golden.trim_end(),
        "{name} is now:\n{drawn}"
    );
}

/// As a terminal would count, and as one that joins no characters would.
fn columns(line: &str) -> usize {
    let each = line.chars().map(|c| c.width().unwrap_or(0)).sum::<usize>();
    each.max(line.width())
}

#[test]
fn a_lost_update_is_a_table() {
    let golden = include_str!("golden/lost_update.txt");
    assert_golden("lost_update", golden, &draw(&traces::lost_update(), 100));
}

#[test]
fn a_deadlock_says_who_waits_for_whom() {
    let golden = include_str!("golden/deadlock.txt");
    assert_golden("deadlock", golden, &draw(&traces::deadlock(), 100));
}

#[test]
fn a_deadlock_in_a_narrow_terminal_has_one_column() {
    let golden = include_str!("golden/deadlock_narrow.txt");
    assert_golden("deadlock_narrow", golden, &draw(&traces::deadlock(), 60));
}

#[test]
fn a_stale_read_is_marked() {
    let golden = include_str!("golden/message_passing.txt");
    assert_golden(
        "message_passing",
        golden,
        &draw(&traces::message_passing(), 100),
    );
}

#[test]
fn every_operation_has_its_words() {
    let golden = include_str!("golden/everything.txt");
    assert_golden("everything", golden, &draw(&traces::everything(), 100));
}

#[test]
fn an_empty_trace_is_drawn_too() {
    let drawn = draw(&Trace::default(), 100);
    assert!(drawn.contains("Nothing happened."), "{drawn}");
}

/// Each task adds to a counter under a lock, in turns.
fn many_tasks(tasks: u32, rounds: u32) -> Trace {
    let mut b = traces::Builder::new("some/long/way/to/the/file.rs");
    let lock = b.object(0, ObjectKind::Mutex, "Vec<Option<String>>", 1);
    let count = b.object(0, ObjectKind::Atomic, "u64", 2);
    let tasks: Vec<u32> = (1..tasks).map(|_| b.spawn(0, 3)).collect();
    for round in 0..u64::from(rounds) {
        for &task in &tasks {
            b.switch(true, None).on(task, Operation::Lock, lock, 10);
            b.event(task, Operation::FetchAdd, Some(count), 11, |e| {
                (e.read, e.wrote) = (Some(round * 1_000_003), Some(u64::MAX - round));
            });
            b.event(task, Operation::Note, None, 12, |e| {
                e.text = "reached: a note of many words, some of them 漢字".to_owned();
            });
            b.on(task, Operation::Unlock, lock, 13);
        }
    }
    b.trace
}

#[test]
fn no_line_is_too_wide_however_many_tasks() {
    for tasks in 1..=12 {
        let trace = many_tasks(tasks, 2);
        for width in 40..=100 {
            let drawn = draw(&trace, width);
            for line in drawn.lines() {
                assert!(columns(line) <= width, "{tasks} tasks, {width}: {line}");
            }
            // Nothing that matters is cut off: every task is there, and every note's last word.
            for task in 1..tasks {
                assert!(drawn.contains(&format!("0.{}", task - 1)), "{drawn}");
            }
            let notes = drawn.matches("漢字").count() + drawn.matches("字").count();
            assert!(tasks == 1 || notes > 0, "{drawn}");
        }
    }
}

#[test]
fn widths_out_of_reach_become_the_nearest() {
    let trace = traces::deadlock();
    assert_eq!(draw(&trace, 0), draw(&trace, 40));
    assert_eq!(draw(&trace, usize::MAX), draw(&trace, 100));
}

/// The numbers of the rows that are there.
fn numbers(drawn: &str) -> Vec<usize> {
    let number = |line: &str| {
        let front: String = line.split('│').next()?.chars().skip(4).collect();
        front.trim().parse().ok()
    };
    drawn.lines().filter_map(number).collect()
}

#[test]
fn the_middle_of_a_long_execution_is_left_out() {
    let mut trace = many_tasks(3, 100);
    let critical = &mut trace.switches[100];
    critical.critical = Some(true);
    let step = critical.step;
    let drawn = draw(&trace, 100);
    let rows = trace.events.len();
    assert!(drawn.contains("rows left out ..."), "{drawn}");
    assert!(drawn.contains("*** CRITICAL SWITCH"), "{drawn}");
    assert!(drawn.contains(&format!("*** {step} ")), "{drawn}");
    let options = TextOptions {
        width: 100,
        all: true,
    };
    let whole = timeline::text(&trace, "a title", options);
    assert!(!whole.contains("left out"));
    assert!(drawn.lines().count() < whole.lines().count() / 2, "{drawn}");
    assert_eq!(numbers(&whole), (1..=rows).collect::<Vec<_>>());
    // What is left out is told to the row.
    let left_out: usize = (drawn.lines())
        .filter_map(|line| {
            line.trim()
                .strip_prefix("... ")?
                .strip_suffix(" rows left out ...")
        })
        .map(|number| number.parse::<usize>().unwrap())
        .sum();
    assert_eq!(left_out + numbers(&drawn).len(), rows);
}

#[test]
fn control_characters_reach_no_terminal() {
    let mut trace = traces::lost_update();
    trace.objects[0].of = "\u{1b}[2J\u{202e}".to_owned();
    trace.events[2].site.file = "a\nb\t\u{7}.rs".to_owned();
    let failure = trace.failure.as_mut().unwrap();
    failure.detail = "two\nlines \u{1b}[31m".to_owned();
    let drawn = draw(&trace, 100);
    assert!(drawn.contains(r"\u{1b}[2J\u{202e}"), "{drawn}");
    assert!(drawn.contains(r"a\nb\t\u{7}.rs:"), "{drawn}");
    assert!(
        drawn.contains(">>> two\n>>> lines \\u{1b}[31m\n"),
        "{drawn}"
    );
    let control = |c: char| c.is_control() && c != '\n';
    assert!(
        !drawn.contains(control) && !drawn.contains('\u{202e}'),
        "{drawn}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_trace_keeps_to_the_width(
        trace in any_trace(), title in words(), width in 40..=100_usize, all: bool
    ) {
        let drawn = timeline::text(&trace, &title, TextOptions { width, all });
        for line in drawn.lines() {
            prop_assert!(columns(line) <= width, "{} of {width}: {line}", columns(line));
            prop_assert!(!line.contains(char::is_control), "{line:?}");
        }
    }
}
