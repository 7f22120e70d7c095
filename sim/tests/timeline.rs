//! What a drawing of an execution says, and that it keeps its form whatever the trace.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

mod traces;

use proptest::prelude::*;
use selvedge_sim::timeline::{self, TextOptions};
use selvedge_sim::trace::{Blocked, Event, Object, ObjectKind, Operation, Site, Switch, Trace};
use selvedge_sim::{Failure, FailureKind, TaskName};
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

const OPERATIONS: [Operation; 30] = [
    Operation::Start,
    Operation::Finish,
    Operation::Spawn,
    Operation::Join,
    Operation::Lock,
    Operation::TryLock,
    Operation::Unlock,
    Operation::ReadLock,
    Operation::ReadUnlock,
    Operation::WriteLock,
    Operation::WriteUnlock,
    Operation::Wait,
    Operation::Wake,
    Operation::NotifyOne,
    Operation::NotifyAll,
    Operation::Park,
    Operation::Unpark,
    Operation::Yield,
    Operation::Load,
    Operation::Store,
    Operation::Swap,
    Operation::CompareExchange,
    Operation::FetchAdd,
    Operation::FetchSub,
    Operation::FetchAnd,
    Operation::FetchOr,
    Operation::FetchMax,
    Operation::Choose,
    Operation::Note,
    Operation::Fail,
];

const KINDS: [ObjectKind; 4] = [
    ObjectKind::Mutex,
    ObjectKind::RwLock,
    ObjectKind::Condvar,
    ObjectKind::Atomic,
];

/// Words with what breaks terminals, pages and JSON.
fn words() -> impl Strategy<Value = String> {
    let odd = [
        "",
        " ",
        "</script>",
        "<!--",
        "<b>",
        "&amp;",
        "\"",
        "\\",
        "\0",
        "\n",
        "\r",
        "\t",
        "\u{1b}[31m",
        "\u{7f}",
        "\u{85}",
        "\u{202e}",
        "\u{200d}",
        "\u{fe0f}",
        "❤",
        "e\u{301}",
        "漢字",
        "👩‍👩‍👧",
        "🇩🇪",
        "لا",
        "\u{2028}",
        "{{data}}",
        "{{title}}",
        "a/b/c.rs",
        "word",
    ];
    let piece = prop_oneof![
        2 => proptest::sample::select(odd.to_vec()).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => "[a-z/]{1,40}",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn place() -> impl Strategy<Value = u32> {
    prop_oneof![20 => 0..6_u32, 1 => any::<u32>()]
}

fn site() -> impl Strategy<Value = Site> {
    (words(), any::<u32>()).prop_map(|(file, line)| Site { file, line })
}

fn event() -> impl Strategy<Value = Event> {
    let what = (place(), 0..OPERATIONS.len(), any::<bool>(), words(), site());
    let numbers = (
        place(),
        place(),
        0..40_u32,
        any::<[Option<u64>; 2]>(),
        place(),
    );
    (what, numbers, any::<(bool, bool)>()).prop_map(
        |((task, operation, ok, text, site), (object, peer, since, [read, wrote], step), given)| {
            Event {
                task,
                operation: OPERATIONS[operation],
                object: given.0.then_some(object),
                peer: given.1.then_some(peer),
                read,
                wrote,
                ok,
                text,
                site,
                since,
                step: u64::from(step),
            }
        },
    )
}

fn blocked() -> impl Strategy<Value = Blocked> {
    event().prop_map(|event| Blocked {
        task: event.task,
        operation: event.operation,
        object: event.object,
        peer: event.peer,
        site: event.site,
        since: event.since,
    })
}

/// Any trace at all: as it might come from a file that somebody wrote by hand.
fn any_trace() -> impl Strategy<Value = Trace> {
    let names = (place(), place()).prop_map(|(parent, child)| TaskName { parent, child });
    let objects = (place(), any::<u32>(), 0..KINDS.len(), words(), site()).prop_map(
        |(creator, ordinal, kind, of, site)| Object {
            creator,
            ordinal,
            kind: KINDS[kind],
            of,
            site,
        },
    );
    let switches =
        (place(), any::<bool>(), any::<Option<bool>>()).prop_map(|(step, preemption, critical)| {
            Switch {
                step: u64::from(step),
                preemption,
                critical,
            }
        });
    let failure = (words(), words(), words()).prop_map(|(signature, detail, location)| Failure {
        kind: FailureKind::Liveness,
        signature,
        detail,
        location,
    });
    use proptest::collection::vec;
    let parts = (vec(names, 0..8), vec(objects, 0..6), vec(event(), 0..30));
    let rest = (
        vec(blocked(), 0..6),
        vec(switches, 0..6),
        proptest::option::of(failure),
    );
    (parts, rest).prop_map(
        |((tasks, objects, events), (blocked, switches, failure))| Trace {
            tasks,
            objects,
            events,
            blocked,
            switches,
            failure,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

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
