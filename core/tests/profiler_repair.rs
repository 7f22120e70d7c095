//! Traces by themselves: what is checked, and what is repaired.
#![cfg(feature = "profiler")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use selvedge_core::train::profiler::{RULES, RepairError, Repaired, check, repair};
use serde_json::Value;
use tempfile::TempDir;

const EVENTS: [&str; 3] = [
    r#"{"name":"a","ph":"X","ts":1,"dur":2,"pid":1,"tid":1,"args":{"text":"]},{\\\"["}}"#,
    r#"{"name":"ä","ph":"i","s":"t","ts":1.5,"pid":1,"tid":1,"args":{"deep":[[{"x":[]}]]}}"#,
    r#"{"name":"c","ph":"C","ts":2,"pid":1,"args":{"n":1}}"#,
];

/// What a flush writes over the end of a trace that has `before` events.
fn torn_at(before: usize, cut: usize) -> Vec<u8> {
    let mut file = format!("[\n{}\n]", EVENTS[..before].join(",\n")).into_bytes();
    let flush = format!(",\n{}\n]", EVENTS[before..].join(",\n")).into_bytes();
    let tail = file.len() - 2;
    let cut = cut.min(flush.len());
    file.resize(file.len().max(tail + cut), 0);
    file[tail..tail + cut].copy_from_slice(&flush[..cut]);
    file
}

/// A write is cut off at each byte, as SIGKILL or a power cut may: what was flushed before stays.
#[test]
fn a_write_that_is_cut_off_at_any_byte_can_be_repaired() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("torn.trace.json");
    let (mut repaired, mut valid, mut kept) = (0, 0, BTreeSet::new());
    for before in 1..=2 {
        for cut in 0..=(EVENTS.join(",\n").len() + 4) {
            let file = torn_at(before, cut);
            fs::write(&path, &file).unwrap();
            let was_json = serde_json::from_slice::<Value>(&file).is_ok();
            let events = match repair(&path, None).unwrap() {
                Repaired::Valid { events } => {
                    assert!(was_json, "{cut}");
                    assert_eq!(fs::read(&path).unwrap(), file, "it was not touched");
                    valid += 1;
                    events
                }
                Repaired::Closed {
                    events,
                    dropped,
                    skipped,
                    original,
                    ..
                } => {
                    assert!(!was_json && skipped == 0, "{cut}");
                    let original = original.unwrap();
                    assert_eq!(original, dir.path().join("torn.trace.json.orig"));
                    assert_eq!(fs::read(&original).unwrap(), file, "it is kept");
                    fs::remove_file(original).unwrap();
                    let now = fs::read(&path).unwrap();
                    assert_eq!(now.len() as u64 + dropped, file.len() as u64 + 2);
                    repaired += 1;
                    events
                }
            };
            let now: Vec<Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let whole: Vec<Value> = EVENTS
                .iter()
                .map(|event| serde_json::from_str(event).unwrap())
                .collect();
            assert!(now.len() >= before && now[..] == whole[..now.len()]);
            assert_eq!(now.len() as u64, events);
            kept.insert(events);
            check(&fs::read(&path).unwrap()[..]).unwrap();
        }
    }
    assert!(repaired > 150 && valid > 3, "{repaired} {valid}");
    assert_eq!(kept, BTreeSet::from([1, 2, 3]));
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
}

#[test]
fn what_a_power_cut_leaves_is_repaired_too() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("t");
    let whole = format!("[\n{}", EVENTS.join(",\n"));
    let cases: [(Vec<u8>, u64); 7] = [
        (b"".to_vec(), 0),
        (b"[".to_vec(), 0),
        (b"[\n{\"name\":\"a".to_vec(), 0),
        ([whole.as_bytes(), &[0; 5_000][..]].concat(), 3),
        ([whole.as_bytes(), b",\n]"].concat(), 3),
        ([whole.as_bytes(), b"\n]\n]"].concat(), 3),
        ([whole.as_bytes(), b",\n\xff\xfe{}]"].concat(), 3),
    ];
    for (file, kept) in cases {
        fs::write(&path, &file).unwrap();
        let _ = fs::remove_file(dir.path().join("t.orig"));
        let done = repair(&path, None).unwrap();
        assert!(
            matches!(done, Repaired::Closed { events, .. } if events == kept),
            "{done:?}"
        );
        assert_eq!(check(&fs::read(&path).unwrap()[..]).unwrap().events, kept);
    }
}

/// Elements that are no JSON, and end where one does: only they are left out.
#[test]
fn an_element_that_is_no_json_costs_no_other() {
    let dir = TempDir::new().unwrap();
    let (path, original) = (dir.path().join("t"), dir.path().join("t.orig"));
    let nan = r#"{"name":"b","ph":"i","ts":1,"pid":1,"tid":1,"args":{"loss":NaN}}"#;
    let deep = format!(
        r#"{{"name":"b","ph":"i","ts":1,"pid":1,"tid":1,"args":{{"a":{}{}}}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    let [a, b, c] = EVENTS;
    let cases: [(&[&str], u64, u64); 7] = [
        (&[a, nan, b, c], 3, 1),
        (&[nan, a, b], 2, 1),
        (&[a, nan], 1, 1),
        (&[nan, nan, a, nan, &deep, nan, b], 2, 5),
        (&[a, &deep, b], 2, 1),
        (&[a, r#"{"name":"\xff","ph":"i",}"#, b, r#"{,}{"#, c], 2, 2),
        (&[a, b, nan, r#"{"name":"to"#], 2, 1),
    ];
    for (elements, kept, left_out) in cases {
        let torn = elements.last().is_some_and(|last| !last.ends_with('}'));
        let ends = if torn { "" } else { "\n]" };
        let text = format!("[\n{}{ends}", elements.join(",\n"));
        fs::write(&path, &text).unwrap();
        let out = dir.path().join("out");
        let aside = repair(&path, Some(&out)).unwrap();
        let Repaired::Closed {
            events,
            skipped,
            original: None,
            dropped,
            ..
        } = aside
        else {
            panic!("{aside:?}")
        };
        assert_eq!((events, skipped), (kept, left_out), "{text}");
        let repaired = fs::read(&out).unwrap();
        assert_eq!(check(&repaired[..]).unwrap().events, kept, "{text}");
        assert!(dropped > 0);
        for event in EVENTS {
            let there = elements.contains(&event) && !elements.contains(&"{,}{");
            let held = String::from_utf8_lossy(&repaired).contains(event);
            assert!(!there || held, "{event} of {text}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        if elements.contains(&"{,}{") {
            // Nobody knows where that one ends.
            let refused = repair(&path, None).unwrap_err();
            assert!(
                matches!(refused, RepairError::EventsAfter { .. }) && !original.exists(),
                "{refused}"
            );
            assert!(refused.to_string().contains("--out"), "{refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            continue;
        }
        let done = repair(&path, None).unwrap();
        assert!(matches!(done, Repaired::Closed { original: Some(at), .. } if at == original));
        assert_eq!(fs::read(&path).unwrap(), repaired);
        assert_eq!(fs::read_to_string(&original).unwrap(), text);
        fs::remove_file(&original).unwrap();
    }
    // None of it is an event.
    fs::write(&path, format!("[{nan}]")).unwrap();
    assert!(matches!(
        repair(&path, None).unwrap_err(),
        RepairError::NotATrace { .. }
    ));
}

#[test]
fn events_after_a_fault_are_not_thrown_away_in_place() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("t");
    let [a, b, c] = EVENTS;
    for text in [
        format!("[{a}{b},{c}]"),
        format!("[{a},{b}],{c}]"),
        format!("[{a},,{b},{c}]"),
        format!("[{a},5,{c}]"),
        format!("[{a},\n{{\"name\":\"to\0\0\0,\n{b},\n{c}\n]"),
    ] {
        fs::write(&path, &text).unwrap();
        let refused = repair(&path, None).unwrap_err();
        assert!(
            matches!(refused, RepairError::EventsAfter { .. }),
            "{text}: {refused}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        // By another name it is the same file.
        let same = dir.path().join(".").join("t");
        assert!(repair(&path, Some(&same)).is_err(), "{text}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let done = repair(&path, Some(&dir.path().join("out"))).unwrap();
        assert!(matches!(done, Repaired::Closed { events: 1 | 2, .. }));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// What an earlier repair has kept is not overwritten.
#[test]
fn what_was_kept_is_kept() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("t");
    let torn = format!("[\n{},\n{{", EVENTS[0]);
    fs::write(&path, &torn).unwrap();
    fs::write(dir.path().join("t.orig"), "kept").unwrap();
    let error = repair(&path, None).unwrap_err().to_string();
    assert!(
        error.contains("cannot keep what was there as") && error.contains("t.orig"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), torn);
    assert_eq!(
        fs::read_to_string(dir.path().join("t.orig")).unwrap(),
        "kept"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// As torch writes it, and Perfetto opens it.
#[test]
fn the_array_may_be_a_member_of_an_object() {
    let a = EVENTS[0];
    for good in [
        format!(r#"{{"traceEvents":[{a}]}}"#),
        format!(r#" {{ "x" : 1 , "traceEvents" : [ {a} , {a} ] , "y" : {{"z":[1,"]}}"]}} }} "#),
        r#"{"deviceProperties":[{"id":0}],"s":"a\"b","n":-1.5e3,"b":true,"traceEvents":[],"e":null}"#
            .to_owned(),
    ] {
        let checked = check(good.as_bytes()).unwrap_or_else(|fault| panic!("{good}: {fault}"));
        assert_eq!(checked.events as usize, good.matches("\"ph\"").count());
    }
    for (bad, why) in [
        (format!(r#"{{"traceEvents":[{a}]"#), "the file ends"),
        (format!(r#"{{"traceEvents":[{a}]}}}}"#), "something follows"),
        (format!(r#"{{"traceEvents":[{a},]}}"#), "a comma before"),
        (format!(r#"{{"traceEvents":[{a}],}}"#), "its name"),
        (format!(r#"{{"traceEvents":[{a}],"x":NaN}}"#), "around"),
        (format!(r#"{{"traceEvents":[{a}],"x" 1}}"#), "no ':'"),
        (format!(r#"{{"traceEvents":[{a}]"x":1}}"#), "neither ','"),
        (r#"{"traceEvents":[],"traceEvents":[]}"#.to_owned(), "twice"),
        (r#"{"traceEvents":5}"#.to_owned(), "no object with"),
        (r#"{"x":1,"y":["#.to_owned(), "the file ends"),
        (r#"{"x"#.to_owned(), "the file ends"),
        (r#"{"traceEvents":[{"ph":"Q"}]}"#.to_owned(), "unknown 'ph'"),
    ] {
        let fault = check(bad.as_bytes()).unwrap_err().to_string();
        assert!(fault.contains(why), "{bad}: {fault}");
    }
}

#[test]
fn what_is_no_trace_is_refused_and_stays_as_it_is() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("t");
    let cases = [
        ("hello", "does not begin with '['"),
        (r#"{"traceEvents":[]}"#, "does not begin with '['"),
        ("[1, 2, 3", "no JSON object"),
        (r#"[{"a": 1}, {"#, "no 'ph'"),
        ("[[]", "no JSON object"),
    ];
    for (text, why) in cases {
        fs::write(&path, text).unwrap();
        let error = repair(&path, None).unwrap_err();
        assert!(matches!(error, RepairError::NotATrace { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    let missing = repair(&dir.path().join("none"), None).unwrap_err();
    assert!(missing.to_string().contains("cannot find"), "{missing}");
    assert!(
        repair(dir.path(), None)
            .unwrap_err()
            .to_string()
            .contains("no file")
    );
}

#[test]
fn a_repaired_trace_may_go_elsewhere_and_a_link_stays_one() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    let torn = format!("[\n{},\n{{", EVENTS[0]);
    fs::write(at("torn"), &torn).unwrap();
    let done = repair(&at("torn"), Some(&at("out"))).unwrap();
    assert!(matches!(done, Repaired::Closed { events: 1, .. }));
    assert_eq!(fs::read_to_string(at("torn")).unwrap(), torn);
    assert_eq!(
        fs::read_to_string(at("out")).unwrap(),
        format!("[\n{}\n]", EVENTS[0])
    );

    let again = repair(&at("out"), Some(&at("copy"))).unwrap();
    assert_eq!(again, Repaired::Valid { events: 1 });
    assert_eq!(fs::read(at("copy")).unwrap(), fs::read(at("out")).unwrap());

    std::os::unix::fs::symlink(at("torn"), at("link")).unwrap();
    repair(&at("link"), None).unwrap();
    assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
    assert!(check(&fs::read(at("torn")).unwrap()[..]).is_ok());
}

/// Each of the rules, broken.
#[test]
fn what_perfetto_would_not_take_is_told_by_place_and_rule() {
    let a = EVENTS[0];
    let cases = [
        ("", "it is empty"),
        ("{}", "does not begin"),
        (&format!("[{a}"), "the file ends before the array does"),
        (&format!("[{a},"), "the file ends before the array does"),
        (&format!("[{a},]"), "a comma before the array's end"),
        (&format!("[{a}{a}]"), "neither ',' nor ']'"),
        (&format!("[{a}]]"), "something follows"),
        (&format!("[,{a}]"), "it begins with ','"),
        ("[5]", "no JSON object"),
        (r#"[{"name":1,}]"#, "no JSON object"),
        (
            r#"[{"name":"a","pid":1,"tid":1,"ts":1}]"#,
            "'ph' \"(none)\"",
        ),
        (
            r#"[{"name":"a","ph":"XX","pid":1,"tid":1,"ts":1}]"#,
            "not one letter",
        ),
        (
            r#"[{"name":"a","ph":"Q","pid":1,"tid":1,"ts":1}]"#,
            "unknown 'ph' 'Q'",
        ),
        (r#"[{"name":"a","ph":"B","tid":1,"ts":1}]"#, "'pid' (none)"),
        (r#"[{"name":"a","ph":"B","pid":1,"ts":1}]"#, "'tid' (none)"),
        (
            r#"[{"name":"a","ph":"B","pid":1,"tid":1.5,"ts":1}]"#,
            "'tid' 1.5",
        ),
        (r#"[{"ph":"B","pid":1,"tid":1,"ts":1}]"#, "'name' (none)"),
        (
            r#"[{"name":"a","ph":"B","pid":1,"tid":1,"ts":"soon"}]"#,
            "'ts' \"soon\"",
        ),
        (
            r#"[{"name":"a","ph":"X","pid":1,"tid":1,"ts":1}]"#,
            "'dur' (none)",
        ),
        (
            r#"[{"name":"a","ph":"X","pid":1,"tid":1,"ts":1,"dur":-1}]"#,
            "'dur' -1",
        ),
        (
            r#"[{"name":"a","ph":"i","s":"x","pid":1,"tid":1,"ts":1}]"#,
            "'s' \"x\"",
        ),
        (
            r#"[{"name":"a","ph":"B","pid":1,"tid":1,"ts":1,"args":[]}]"#,
            "'args' []",
        ),
        (
            r#"[{"name":"a","ph":"C","pid":1,"ts":1,"args":{"n":"many"}}]"#,
            "numbers by name",
        ),
        (
            r#"[{"name":"a","ph":"b","pid":1,"tid":1,"ts":1}]"#,
            "'id' (none)",
        ),
    ];
    for (text, why) in cases {
        let fault = check(text.as_bytes()).unwrap_err();
        assert!(fault.to_string().contains(why), "{text}: {fault}");
    }
    for good in [
        "[]",
        " [ ] \n",
        r#"[{"ph":"E","pid":"p","tid":"t","ts":"1.5"}]"#,
    ] {
        check(good.as_bytes()).unwrap();
    }
    // In the order of the rules, what is told where one is broken.
    const TOLD: [&str; 11] = [
        "a comma before the array's end",
        "no JSON object",
        "unknown 'ph'",
        "'pid'",
        "'tid'",
        "'name'",
        "'ts'",
        "'dur'",
        "'s' ",
        "'args' []",
        "'id'",
    ];
    assert_eq!(RULES.len(), TOLD.len(), "each has its words");
    for (rule, told) in RULES.iter().zip(TOLD) {
        let key = told.split('\'').nth(1).filter(|_| told.starts_with('\''));
        assert!(
            key.is_none_or(|key| rule.contains(&format!("'{key}'"))),
            "{rule}"
        );
        assert!(cases.iter().any(|(_, why)| why.contains(told)), "{rule}");
    }
}

#[test]
fn a_long_trace_is_read_event_by_event() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("long");
    let many = vec![EVENTS[0]; 20_000].join(",\n");
    fs::write(&path, format!("[\n{many},\n{{\"tor")).unwrap();
    let done = repair(&path, None).unwrap();
    assert!(
        matches!(done, Repaired::Closed { events: 20_000, .. }),
        "{done:?}"
    );
    assert_eq!(count(&path), 20_000);
}

fn count(path: &Path) -> u64 {
    check(fs::read(path).unwrap().as_slice()).unwrap().events
}
