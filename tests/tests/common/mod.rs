//! Runs the program under test and reads what it says.
#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// The program, with no terminal and none of our settings.
pub(crate) fn selvedge() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge-under-test"));
    command
        .env_remove("NO_COLOR")
        .env_remove("CARGO_TARGET_DIR");
    command
}

/// Runs it with these arguments in a directory of its own.
pub(crate) fn run(dir: &Path, args: &[&str]) -> Output {
    (selvedge().args(args).current_dir(dir).output()).expect("the program starts")
}

/// The exit code; a death by signal is none.
#[track_caller]
pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().expect("the program ends by itself")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("output is UTF-8")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("output is UTF-8")
}

/// Runs `check` with these arguments and returns its exit code and the JSON's units.
#[track_caller]
pub(crate) fn check(args: &[&str]) -> (i32, Vec<Value>) {
    let (exit, json) = report(args);
    let units = json["units"].as_array().expect("units are a list").clone();
    (exit, units)
}

/// Runs `check` with these arguments and returns its exit code and the whole JSON.
#[track_caller]
pub(crate) fn report(args: &[&str]) -> (i32, Value) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut all = vec!["check", "--json", "out.json"];
    all.extend(args);
    let output = run(dir.path(), &all);
    let text = std::fs::read_to_string(dir.path().join("out.json"))
        .unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    let json: Value = serde_json::from_str(&text).expect("the report is JSON");
    assert_eq!(json["schema"], 1);
    assert_eq!(
        json["exit"],
        code(&output),
        "the report and the program agree"
    );
    (code(&output), json)
}
