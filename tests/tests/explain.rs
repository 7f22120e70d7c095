//! What a user does with a failure: makes it smaller, asks why, has it drawn.
#![cfg(not(loom_run))]

mod common;

use std::fs;

use common::{check, code, run, stderr, stdout};
use serde_json::Value;

fn seed_of(units: &[Value], scenario: &str, engine: &str) -> String {
    let found = units.iter().find(|unit| {
        unit["scenario"] == scenario && unit["variant"] == "as-reported" && unit["engine"] == engine
    });
    let seed = found.and_then(|unit| unit["seed"].as_str());
    seed.unwrap_or_else(|| panic!("{scenario} under {engine}: {found:?}"))
        .to_owned()
}

#[test]
fn check_makes_its_seeds_small() {
    let (_, units) = check(&["pool-check-then-act", "--engine", "shuttle"]);
    let twin = (units.iter())
        .find(|unit| unit["variant"] == "as-reported")
        .unwrap();
    let shrunk = &twin["shrunk"];
    assert!(shrunk["before"]["preemptions"].as_u64() > Some(1), "{twin}");
    assert_eq!(shrunk["after"]["preemptions"], 1, "{twin}");
    // The body waits by yields, and not every way of going on after one was tried.
    assert_eq!(shrunk["least"], false, "{twin}");
}

#[test]
fn shrink_says_what_is_left() {
    let (_, units) = check(&["abba-3", "--engine", "explorer"]);
    let dir = tempfile::tempdir().unwrap();
    let seed = seed_of(&units, "abba-3", "explorer");
    let output = run(dir.path(), &["shrink", &seed]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains("no schedule with fewer preemptions fails in this way"),
        "{text}"
    );
    let smaller = text.lines().last().unwrap();
    let smaller = smaller.strip_prefix("selvedge replay ").expect(smaller);
    assert_eq!(code(&run(dir.path(), &["replay", smaller])), 11);

    let (_, native) = check(&["pool-check-then-act", "--engine", "native"]);
    if let Some(seed) = native[0]["seed"].as_str() {
        let output = run(dir.path(), &["shrink", seed]);
        assert_eq!(code(&output), 2);
        assert!(stderr(&output).contains("no schedule to make smaller"));
    }
    let output = run(dir.path(), &["shrink"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("--twins"), "{}", stderr(&output));
}

#[test]
fn every_twin_shrinks_in_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["shrink", "--twins", "abba"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("6 failures: at most"), "{text}");
    assert!(text.contains("abba-2") && text.contains("abba-3"), "{text}");
}

#[test]
fn explain_names_the_switch_that_matters() {
    let (_, units) = check(&["pool-check-then-act", "--engine", "explorer,shuttle"]);
    let dir = tempfile::tempdir().unwrap();
    for engine in ["explorer", "shuttle"] {
        let seed = seed_of(&units, "pool-check-then-act", engine);
        let output = run(dir.path(), &["explain", &seed]);
        assert_eq!(code(&output), 10, "{}", stderr(&output));
        let text = stdout(&output);
        assert!(text.contains("It needs one switch"), "{engine}: {text}");
        assert!(text.contains("preempted"), "{engine}: {text}");
        assert_eq!(
            text.matches("CRITICAL SWITCH").count(),
            1,
            "{engine}: {text}"
        );
        let fits = |line: &str| line.starts_with("selvedge") || line.chars().count() <= 100;
        assert!(text.lines().all(fits), "{engine}: {text}");
    }
}

#[test]
fn explain_tells_weak_memory_from_an_order_of_steps() {
    let (_, units) = check(&["message-passing", "abba-2", "--engine", "loom"]);
    let dir = tempfile::tempdir().unwrap();
    let weak = run(
        dir.path(),
        &["explain", &seed_of(&units, "message-passing", "loom")],
    );
    let text = stdout(&weak);
    assert!(
        text.contains("It needs weak memory: the explorer tried every order"),
        "{text}"
    );
    assert!(text.contains("stale"), "{text}");
    let order = run(dir.path(), &["explain", &seed_of(&units, "abba-2", "loom")]);
    let text = stdout(&order);
    assert!(text.contains("It needs no weak memory"), "{text}");
    assert!(text.contains("Each waits for the next: "), "{text}");
    let next = (text.lines())
        .find_map(|line| line.strip_prefix("selvedge explain "))
        .expect("a seed to go on with");
    let output = run(dir.path(), &["explain", next]);
    assert_eq!(code(&output), 11);
    assert!(
        stdout(&output).contains("CRITICAL SWITCH"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn a_replay_is_drawn_in_three_forms() {
    let (_, units) = check(&["dining-philosophers", "--engine", "explorer"]);
    let dir = tempfile::tempdir().unwrap();
    let seed = seed_of(&units, "dining-philosophers", "explorer");
    let replay = |more: &[&str]| {
        let mut args = vec!["replay", seed.as_str(), "--timeline"];
        args.extend(more);
        let output = run(dir.path(), &args);
        assert_eq!(code(&output), 11, "{more:?}: {}", stderr(&output));
        output
    };
    let text = stdout(&replay(&["text"]));
    assert!(
        text.contains("lock M1") && text.contains("violated: deadlock"),
        "{text}"
    );
    assert!(text.contains("CRITICAL SWITCH"), "{text}");
    let (_, drawing) = text.split_once("\n\n").expect("a drawing");
    assert!(
        drawing.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );

    // Without --out, a file named after the seed; with it, that file; `-` is standard output.
    let drawn = stdout(&replay(&["html"]));
    let name = drawn
        .lines()
        .last()
        .unwrap()
        .strip_prefix("drawn in ")
        .expect("a file");
    let page = fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("lane"));
    replay(&["perfetto", "--out", "it.json"]);
    let file = fs::read_to_string(dir.path().join("it.json")).unwrap();
    let to_stdout = stdout(&replay(&["perfetto", "--out", "-"]));
    let parsed: Value = serde_json::from_str(&to_stdout).expect("nothing but JSON");
    assert_eq!(serde_json::from_str::<Value>(&file).unwrap(), parsed);
    assert!(parsed["traceEvents"].as_array().unwrap().len() > 10);

    let refused = |args: &[&str], why: &str| {
        let output = run(dir.path(), args);
        assert_eq!(code(&output), 2, "{args:?}");
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
    };
    refused(&["replay", &seed, "--timeline", "svg"], "perfetto");
    refused(&["replay", &seed, "--out", "x"], "--timeline");
    refused(
        &[
            "replay",
            &seed,
            "--timeline",
            "html",
            "--out",
            "no/such/dir.html",
        ],
        "no/such",
    );
}
