//! Any trace at all, to see that drawings keep their form.

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_sim::trace::{Blocked, Event, Object, ObjectKind, Operation, Site, Switch, Trace};
use selvedge_sim::{Failure, FailureKind, TaskName};

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
pub(crate) fn words() -> impl Strategy<Value = String> {
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
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
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
pub(crate) fn any_trace() -> impl Strategy<Value = Trace> {
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
    let parts = (vec(names, 0..8), vec(objects, 0..6), vec(event(), 0..30));
    let rest = (
        vec(blocked(), 0..6),
        vec(switches, 0..6),
        proptest::option::of(failure),
    );
    (parts, rest).prop_map(
        |((tasks, objects, events), (blocked, switches, failure))| Trace {
            tasks,
            names: Vec::new(),
            objects,
            events,
            blocked,
            switches,
            failure,
            timed: None,
        },
    )
}
