//! `selvedge world`: what a user types and gets, and what becomes of the seeds it prints.
#![cfg(not(loom_run))]
#![allow(clippy::unwrap_used, reason = "all of this file is one test")]

mod common;

use std::fs;
use std::path::Path;

use common::{code, run, selvedge, stderr, stdout};
use selvedge_sim::world::{Faults, Mutant, World, WorldConfig};
use selvedge_sim::{DecisionLog, Seed};
use serde_json::Value;

/// Runs `world` with these arguments; its exit code and its JSON.
fn world(args: &[&str]) -> (i32, Value) {
    let dir = tempfile::tempdir().unwrap();
    let all = [&["world", "--json", "out.json"], args].concat();
    let output = run(dir.path(), &all);
    let json = fs::read_to_string(dir.path().join("out.json"))
        .unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["exit"], code(&output), "{json:#}");
    (code(&output), json)
}

/// The smallest seed that fails by this mutant, and the directory that keeps it.
fn failing(mutant: &str) -> String {
    let (exit, json) = world(&["--mutant", mutant, "--seeds", "60"]);
    assert!(exit == 10 || exit == 12, "{json:#}");
    let found = json["violations"].as_array().unwrap();
    let seed = found.iter().find_map(|it| it["seed"].as_str());
    seed.expect("it has a seed").to_owned()
}

#[test]
fn seeds_are_run_and_summed_up() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["world", "--seeds", "120", "--from", "1000"];
    let output = run(dir.path(), &args);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    for part in [
        "120 of 120 seeds: every property held",
        "virtual s/s",
        "rejoin at a boundary",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let (exit, json) = world(&["--seeds", "120", "--from", "1000", "--jobs", "3"]);
    assert_eq!((exit, &json["seeds"]), (0, &120.into()));
    // However they are shared out, they are those worlds.
    let events: u64 = (1000..1120)
        .map(|seed| World::new(WorldConfig::whole(seed)).unwrap().run().events)
        .sum();
    assert_eq!(json["events"], events);
    assert!(json["probes"]["false suspicion"].as_u64() > Some(0));
}

#[test]
fn what_is_fixed_is_fixed_in_every_run() {
    let fixed = [
        "--seeds", "30", "--ranks", "3", "--epochs", "7", "--faults", "none",
    ];
    let (exit, json) = world(&fixed);
    assert_eq!(exit, 0);
    let events: u64 = (0..30)
        .map(|seed| {
            let drawn = WorldConfig::whole(seed);
            let config = WorldConfig {
                ranks: 3,
                min_world: drawn.min_world.min(3),
                epochs: 7,
                faults: Faults::None,
                ..drawn
            };
            World::new(config).unwrap().run().events
        })
        .sum();
    assert_eq!(json["events"], events);
    assert_eq!(json["probes"]["all ranks done in their first life"], 30);
    let missed = json["missed"].as_array().unwrap();
    assert!(missed.contains(&"rejoin at a boundary".into()), "{json:#}");
}

#[test]
fn a_printed_seed_is_replayed_shrunk_explained_and_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let seed = failing("no-flush");
    let parsed: Seed = seed.parse().unwrap();
    assert_eq!(parsed.scenario, "world-no-flush");
    let violated = format!("violated: {}", parsed.signature);

    let first = run(dir.path(), &["replay", &seed]);
    assert!(stdout(&first).contains(&violated), "{}", stderr(&first));
    for _ in 0..3 {
        let again = run(dir.path(), &["replay", &seed]);
        assert_eq!(
            (code(&again), stdout(&again)),
            (code(&first), stdout(&first))
        );
    }
    let shrunk = run(dir.path(), &["shrink", &seed]);
    assert_eq!(code(&shrunk), 0, "{}", stderr(&shrunk));
    let text = stdout(&shrunk);
    assert!(
        text.contains("before") && text.contains("selvedge replay "),
        "{text}"
    );

    let explained = run(dir.path(), &["explain", &seed]);
    assert_eq!(code(&explained), code(&first), "{}", stderr(&explained));
    let text = stdout(&explained);
    for part in [
        "critical: without it the failure vanishes",
        "*** CRITICAL FAULT: ",
        "coordinator",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    drawn(dir.path(), &seed);
}

fn drawn(dir: &Path, seed: &str) {
    let of = |form: &str| {
        let output = run(dir, &["replay", seed, "--timeline", form, "--out", "-"]);
        assert!([10, 12].contains(&code(&output)), "{}", stderr(&output));
        stdout(&output)
    };
    let table = of("text");
    assert!(
        table.contains("FAULT 0: ") && table.contains(" s │"),
        "{table}"
    );
    let page = of("html");
    assert!(page.starts_with("<!doctype html>") && page.contains("\"kind\":\"life\""));
    let perfetto: Value = serde_json::from_str(&of("perfetto")).unwrap();
    let events = perfetto["traceEvents"].as_array().unwrap();
    let slices = |category: &str| {
        let of = |event: &&Value| event["ph"] == "X" && event["cat"] == category;
        events.iter().filter(of).count()
    };
    assert!(slices("life") > 0 && slices("fault") > 0);
}

#[test]
fn a_seed_of_other_code_is_stale_and_a_damaged_one_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let seed = failing("same-life-again");
    let told = |text: &str| {
        let output = run(dir.path(), &["replay", text]);
        assert_eq!(code(&output), 2, "{text}");
        let said = stderr(&output);
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        said
    };
    let other = |change: &dyn Fn(&mut Seed)| {
        let mut other: Seed = seed.parse().unwrap();
        change(&mut other);
        told(&other.to_string())
    };
    assert!(other(&|it| it.trace = Some(1)).contains("stale: it fails as it did, after other"));
    let another = other(&|it| it.signature = "another".to_owned());
    assert!(
        another.contains("stale: it violates 'monotone' now"),
        "{another}"
    );
    let revision = other(&|it| it.revision = "00000000".to_owned());
    assert!(revision.contains("stale: it was made for revision 00000000"));
    let mended = other(&|it| {
        let DecisionLog::World(config) = &mut it.log else {
            panic!("a world's")
        };
        config.mutant = Mutant::None;
    });
    assert!(
        mended.contains("stale: every property holds in all"),
        "{mended}"
    );
    assert!(told(&seed[..seed.len() - 4]).contains("damaged"));
    let shrunk = run(dir.path(), &["shrink", &seed[..seed.len() - 4]]);
    assert_eq!(code(&shrunk), 2);
}

#[test]
fn a_seed_twice_is_the_same_run_and_a_canary_is_told() {
    let (exit, json) = world(&["--twice", "--processes", "--seeds", "40"]);
    assert_eq!((exit, &json["seeds"]), (0, &40.into()));
    let dir = tempfile::tempdir().unwrap();
    let canary = |more: &[&str]| {
        let args = [
            &[
                "world", "--twice", "--canary", "--seeds", "3", "--jobs", "1",
            ],
            more,
        ];
        let output = run(dir.path(), &args.concat());
        assert_eq!(code(&output), 13, "{}", stderr(&output));
        stdout(&output)
    };
    for text in [canary(&[]), canary(&["--processes"])] {
        assert!(
            text.contains("the first event that differs is number "),
            "{text}"
        );
        assert!(text.contains("no seed: "), "{text}");
    }
}

#[test]
fn every_mutant_is_hunted_and_one_that_survives_is_told() {
    let (exit, json) = world(&["--mutants"]);
    assert_eq!(exit, 0, "{json:#}");
    let hunted = json["mutants"].as_array().unwrap();
    assert_eq!(hunted.len(), Mutant::ALL.len());
    for mutant in hunted {
        assert_eq!(mutant["as_expected"], true, "{mutant}");
    }
    // One seed is too few for most of them.
    let (exit, _) = world(&["--mutants", "--seeds", "1"]);
    assert_eq!(exit, 14);
}

#[test]
fn a_budget_that_ends_first_is_no_pass() {
    let (exit, json) = world(&["--seeds", "100000000", "--budget", "1s"]);
    assert_eq!((exit, &json["cut"]), (20, &true.into()));
    assert!(json["seeds"].as_u64() > Some(0), "{json:#}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_flushes_what_was_done() {
    use std::process::{Command, Stdio};

    let dir = tempfile::tempdir().unwrap();
    let args = [
        "world",
        "--seeds",
        "100000000",
        "--jobs",
        "2",
        "--json",
        "out.json",
    ];
    let child = selvedge()
        .args(args)
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let id = child.id().to_string();
    let killed = Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 21, "{}", stderr(&output));
    assert!(stdout(&output).contains("interrupted, the others were not run"));
    let json = fs::read_to_string(dir.path().join("out.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["exit"], &json["interrupted"]),
        (&21.into(), &true.into())
    );
    assert!(json["seeds"].as_u64() > Some(0), "{json:#}");
}

#[test]
fn wrong_input_gets_one_line_and_exit_2() {
    let cases: [(&[&str], &str); 12] = [
        (&["--seeds", "0"], "at least 1"),
        (&["--seeds", "-3"], "'-3'"),
        (&["--from", "x"], "whole number"),
        (&["--mutant", "no-flash"], "did you mean 'no-flush'?"),
        (&["--faults", "some"], "none, swarm"),
        (&["--ranks", "0"], "1 to 256"),
        (&["--ranks", "257"], "1 to 256"),
        (&["--epochs", "0"], "1 to 1000000"),
        (&["--jobs", "0"], "1 to 1024"),
        (&["--processes"], "--twice"),
        (
            &["--mutants", "--mutant", "no-flush"],
            "cannot be used with",
        ),
        (
            &["--json", "no/such/dir.json"],
            "there is no directory no/such",
        ),
    ];
    for (args, hint) in cases {
        let dir = tempfile::tempdir().unwrap();
        let output = run(dir.path(), &[&["world"], args].concat());
        let said = stderr(&output);
        assert_eq!(code(&output), 2, "{args:?}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{args:?}: {said}");
        assert!(said.contains(hint), "{args:?}: {said}");
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}
