//! `selvedge trace`: traces, whole and torn, and what a user is told of them.
#![cfg(not(loom_run))]

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;

use common::{code, run, stderr, stdout};
use serde_json::Value;
use tempfile::TempDir;

const A: &str = r#"{"name":"a","ph":"X","ts":1,"dur":2,"pid":1,"tid":1}"#;
const B: &str = r#"{"name":"b","ph":"i","ts":3,"pid":1,"tid":1}"#;

fn trace(dir: &Path, args: &[&str]) -> Output {
    run(dir, &[&["trace"], args].concat())
}

fn dir_with(text: &str) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("t"), text).expect("a file");
    dir
}

#[test]
fn a_valid_trace_is_told_and_not_touched() {
    let text = format!("[\n{A},\n{B}\n]");
    let dir = dir_with(&text);
    let checked = trace(dir.path(), &["check", "t"]);
    assert_eq!(code(&checked), 0, "{}", stderr(&checked));
    assert_eq!(stdout(&checked), "t: valid, 2 events (1 X, 1 i)\n");
    let repaired = trace(dir.path(), &["repair", "t"]);
    assert_eq!(code(&repaired), 0);
    assert_eq!(
        stdout(&repaired),
        "t: valid already, 2 events; it was not touched\n"
    );
    assert_eq!(fs::read_to_string(dir.path().join("t")).unwrap(), text);
}

#[test]
fn a_torn_trace_is_told_then_repaired_then_valid() {
    let dir = dir_with(&format!("[\n{A},\n{B},\n{{\"name\":\"to"));
    let checked = trace(dir.path(), &["check", "t", "--json"]);
    assert_eq!(code(&checked), 10);
    let json: Value = serde_json::from_str(&stdout(&checked)).expect("JSON");
    assert_eq!(
        (&json["schema"], &json["valid"]),
        (&1.into(), &false.into())
    );
    assert!(
        json["fault"]
            .as_str()
            .unwrap()
            .contains("the file ends before the array does")
    );
    let told = stdout(&trace(dir.path(), &["check", "t"]));
    assert!(told.contains("`selvedge trace repair t`"), "{told}");

    let aside = trace(dir.path(), &["repair", "t", "--out", "u", "--json"]);
    assert_eq!(code(&aside), 0, "{}", stderr(&aside));
    let json: Value = serde_json::from_str(&stdout(&aside)).expect("JSON");
    assert_eq!(
        (&json["events"], &json["dropped_bytes"]),
        (&2.into(), &13.into())
    );
    assert_eq!(
        code(&trace(dir.path(), &["check", "t"])),
        10,
        "the original is as it was"
    );
    assert_eq!(code(&trace(dir.path(), &["check", "u"])), 0);

    let repaired = trace(dir.path(), &["repair", "t"]);
    assert_eq!(code(&repaired), 0);
    let told = stdout(&repaired);
    assert!(
        told.starts_with("t: repaired: 2 events kept, 13 bytes dropped (byte "),
        "{told}"
    );
    assert!(told.contains("the original is kept as "), "{told}");
    assert!(told.trim_end().ends_with("t.orig"), "{told}");
    assert_eq!(code(&trace(dir.path(), &["check", "t"])), 0);
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        3,
        "nothing is left beside them but the original"
    );
}

#[test]
fn events_after_a_fault_are_kept_or_the_original_is_not_touched() {
    let nan = r#"{"name":"n","ph":"i","ts":3,"pid":1,"tid":1,"args":{"loss":NaN}}"#;
    let dir = dir_with(&format!("[\n{A},\n{nan},\n{B}\n]"));
    let repaired = trace(dir.path(), &["repair", "t"]);
    assert_eq!(code(&repaired), 0, "{}", stderr(&repaired));
    let told = stdout(&repaired);
    assert!(
        told.contains("2 events kept") && told.contains("among them 1 elements that are no JSON"),
        "{told}"
    );
    assert_eq!(code(&trace(dir.path(), &["check", "t"])), 0);

    let text = format!("[\n{A}\n{A},\n{B}\n]");
    let dir = dir_with(&text);
    let refused = trace(dir.path(), &["repair", "t"]);
    assert_eq!(code(&refused), 2);
    assert!(stderr(&refused).contains("--out"), "{}", stderr(&refused));
    assert_eq!(fs::read_to_string(dir.path().join("t")).unwrap(), text);
}

#[test]
fn a_trace_as_torch_writes_it_is_valid() {
    let dir = dir_with(&format!(
        r#"{{"schemaVersion": 1, "traceEvents": [{A}, {B}]}}"#
    ));
    let checked = trace(dir.path(), &["check", "t"]);
    assert_eq!(code(&checked), 0, "{}", stdout(&checked));
    assert_eq!(stdout(&checked), "t: valid, 2 events (1 X, 1 i)\n");
    fs::write(dir.path().join("t"), r#"{"traceEvents": [{"#).unwrap();
    let told = stdout(&trace(dir.path(), &["check", "t"]));
    assert!(
        told.contains("not valid") && !told.contains("repair"),
        "{told}"
    );
}

#[test]
fn what_is_wrong_is_told_by_name() {
    let dir = dir_with("hello");
    let cases: [(&[&str], i32, &str); 7] = [
        (&["check", "none"], 2, "cannot read none: No such file"),
        (&["check", "."], 2, "is a directory"),
        (&["repair", "none"], 2, "cannot find none: No such file"),
        (
            &["repair", "t"],
            2,
            "t is not a trace: it does not begin with '['",
        ),
        (&["repair", "."], 2, "is not a trace: it is no file"),
        (&["check"], 2, "<FILE>"),
        (&["mend", "t"], 2, "mend"),
    ];
    for (args, exit, words) in cases {
        let output = trace(dir.path(), args);
        assert_eq!(code(&output), exit, "{args:?}: {}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains(words), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let invalid = trace(dir.path(), &["check", "t"]);
    assert_eq!(code(&invalid), 10);
    assert_eq!(
        stdout(&invalid),
        "t: not valid: it does not begin with '[', as an array of events does, and is no object \
         with 'traceEvents'\n"
    );
    let help = stdout(&trace(dir.path(), &["check", "--help"]));
    assert!(
        help.contains("no comma before ']'"),
        "the rules are told: {help}"
    );
}
