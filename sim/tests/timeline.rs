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

/// A short run of the world in which a rank dies, and its end.
fn world(ranks: u32) -> Trace {
    use std::time::Duration;

    use selvedge_core::ddp::Rank;
    use selvedge_sim::world::{Fault, FaultKind, Faults, Plan, When, World, WorldConfig};

    let crash = Fault {
        when: When::At(Duration::from_millis(300)),
        kind: FaultKind::Crash {
            rank: Rank(ranks - 1),
            restart: Some(Duration::from_millis(50)),
            machine: false,
        },
    };
    let faults = Faults::Plan(Plan {
        faults: vec![crash],
        ..Plan::calm()
    });
    let config = WorldConfig {
        ranks,
        min_world: 1,
        epochs: 6,
        record: true,
        faults,
        ..WorldConfig::default()
    };
    World::new(config).unwrap().run().trace()
}

#[test]
fn a_world_has_a_column_a_place_and_its_time_in_front() {
    let mut trace = world(3);
    trace.mark_faults(&[Some(true)]);
    let drawn = draw(&trace, 100);
    let header = drawn.lines().find(|line| line.contains("│ world")).unwrap();
    for place in ["coordinator", "rank 0", "rank 1", "rank 2"] {
        assert!(header.contains(place), "{header}");
    }
    let row = drawn
        .lines()
        .find(|line| line.contains("│ FAULT 0:"))
        .unwrap();
    assert!(row.starts_with("*** 0.300000 s │ FAULT 0:"), "{row}");
    assert!(drawn.contains("CRITICAL FAULT: FAULT 0: crash: rank 2, restart 50ms"));
    assert!(drawn.contains("without this fault the failure vanishes"));
    let words: Vec<&str> = drawn.split_whitespace().collect();
    let words = words.join(" ");
    assert!(words.contains("1 fault, 1 critical") && words.contains("of virtual time"));
    // Nobody takes over from anybody.
    assert!(!drawn.contains("another task goes on"), "{drawn}");
}

#[test]
fn a_world_of_many_places_or_in_a_narrow_terminal_has_one_column() {
    for (ranks, width) in [(9, 100), (3, 60), (64, 40)] {
        let drawn = draw(&world(ranks), width);
        let header = drawn.lines().find(|line| line.contains("task")).unwrap();
        assert!(header.contains("what"), "{header}");
        for line in drawn.lines() {
            assert!(columns(line) <= width, "{ranks} ranks, {width}: {line}");
        }
        assert!(drawn.contains(&format!("rank {}", ranks - 1)));
    }
}

/// What may stand in a file that somebody edited.
#[test]
fn times_and_marks_that_lead_nowhere_are_drawn_too() {
    use selvedge_sim::trace::{FaultMark, Lasting, LastingKind, Timed};

    let mut trace = world(2);
    let nowhere = Timed {
        at: vec![5],
        lasting: vec![Lasting {
            task: u32::MAX,
            kind: LastingKind::Fault,
            from: u64::MAX,
            to: 0,
            open: true,
            text: "\u{1b}[31m".to_owned(),
        }],
        faults: vec![FaultMark {
            event: u32::MAX,
            number: 7,
            critical: Some(true),
        }],
        ..Timed::default()
    };
    trace.timed = Some(Box::new(nowhere));
    assert!(draw(&trace, 80).contains("0.000000 s"));
    let page = timeline::html(&trace, "nowhere", &timeline::source_line);
    assert!(page.contains("</html>") && !page.contains('\u{1b}'));
    let json = timeline::perfetto(&trace, "nowhere");
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
}
