//! A failure prints one line that reproduces it, on every engine, every time; and a line that
//! does not says why.

mod common;

use std::fs;

use common::{check, code, run, stderr, stdout};
use serde_json::Value;

const SCENARIO: &str = "pool-check-then-act";

fn seed_of(units: &[Value], engine: &str) -> String {
    let unit = (units.iter())
        .find(|unit| unit["variant"] == "as-reported" && unit["engine"] == engine)
        .expect("the unit ran");
    unit["seed"]
        .as_str()
        .expect("the twin was found")
        .to_owned()
}

#[test]
fn a_seed_reproduces_its_failure_ten_times_of_ten() {
    let (_, units) = check(&[SCENARIO, "--engine", "explorer,loom,shuttle"]);
    let dir = tempfile::tempdir().unwrap();
    for engine in ["explorer", "loom", "shuttle"] {
        let seed = seed_of(&units, engine);
        let first = run(dir.path(), &["replay", &seed]);
        assert!(stdout(&first).contains("violated: pop-from-empty-list"));
        assert!(
            stdout(&first).contains("execution 1"),
            "at the first execution"
        );
        for _ in 0..10 {
            let again = run(dir.path(), &["replay", &seed]);
            assert_eq!(code(&again), 10, "{}", stderr(&again));
            assert_eq!(stdout(&again), stdout(&first));
        }
    }
}

#[test]
fn every_twin_that_was_found_replays_to_its_signature() {
    let (_, units) = check(&["--engine", "explorer,loom,shuttle", "--budget", "120s"]);
    let dir = tempfile::tempdir().unwrap();
    let found = units.iter().filter(|unit| unit["verdict"] == "Violated");
    for unit in found {
        let seed = unit["seed"]
            .as_str()
            .unwrap_or_else(|| panic!("no seed: {unit}"));
        let replayed = run(dir.path(), &["replay", seed]);
        let signature = unit["signature"].as_str().unwrap();
        let expected = match signature {
            "deadlock" => 11,
            "livelock" | "hang" => 12,
            _ => 10,
        };
        assert_eq!(code(&replayed), expected, "{unit}: {}", stderr(&replayed));
        assert!(
            stdout(&replayed).contains(&format!("violated: {signature}")),
            "{unit}"
        );
    }
}

#[test]
fn a_seed_may_stand_in_a_file() {
    let (_, units) = check(&[SCENARIO, "--engine", "shuttle"]);
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("it.seed"),
        seed_of(&units, "shuttle") + "\n",
    )
    .unwrap();
    assert_eq!(code(&run(dir.path(), &["replay", "it.seed"])), 10);
    fs::write(dir.path().join("empty"), "").unwrap();
    let output = run(dir.path(), &["replay", "empty"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("no seed"), "{}", stderr(&output));
}

#[test]
fn a_kept_seed_has_a_short_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("target")).unwrap();
    let output = run(dir.path(), &[SCENARIO, "--engine", "loom"]);
    let text = stdout(&output);
    let (_, bracketed) = text.split_once('[').expect("a name in brackets");
    // What follows the name there says how small the seed was made.
    let (name, _) = bracketed.split_once([',', ']']).expect("a closing bracket");
    assert_eq!(code(&run(dir.path(), &["replay", name])), 10, "{name}");
}

#[test]
fn a_seed_too_long_for_a_line_is_named_by_its_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("target")).unwrap();
    let args = ["iriw", "--engine", "loom", "--json", "out.json"];
    let text = stdout(&run(dir.path(), &args));
    let json = fs::read_to_string(dir.path().join("out.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let seed = seed_of(json["units"].as_array().unwrap(), "loom");
    assert!(seed.len() > 400, "iriw's path through loom is long: {seed}");
    assert!(!text.contains(&seed), "{text}");

    let line = (text.lines()).find_map(|line| line.strip_prefix("selvedge replay "));
    let (name, note) = line.and_then(|line| line.split_once("  ")).expect("a note");
    let (_, file) = note.split_once("is in ").expect("the file's name");
    let file = dir.path().join(file.split_once(';').unwrap().0);
    assert!(
        note.contains(&format!("{} characters", seed.len())),
        "{note}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap().trim_end(), seed);
    assert_eq!(code(&run(dir.path(), &["replay", name])), 10);
    // Elsewhere the name is not known, but a copy of the file does.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir(elsewhere.path().join("target")).unwrap();
    fs::copy(file, elsewhere.path().join("copied")).unwrap();
    assert_eq!(code(&run(elsewhere.path(), &["replay", name])), 2);
    assert_eq!(code(&run(elsewhere.path(), &["replay", "copied"])), 10);
}

#[test]
fn a_stale_or_damaged_seed_is_told_apart() {
    let (_, units) = check(&[SCENARIO, "--engine", "shuttle"]);
    let seed = seed_of(&units, "shuttle");
    let dir = tempfile::tempdir().unwrap();
    let told = |text: &str| {
        let output = run(dir.path(), &["replay", text]);
        assert_eq!(code(&output), 2, "{text}");
        let said = stderr(&output);
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        said
    };
    // Another revision with a right checksum is a seed of other code.
    let parsed: selvedge_sim::Seed = seed.parse().unwrap();
    let other = |change: &dyn Fn(&mut selvedge_sim::Seed)| {
        let mut other = parsed.clone();
        change(&mut other);
        other.to_string()
    };
    assert!(
        told(&other(&|s| s.revision = "00000000".to_owned()))
            .contains("stale: it was made for revision 00000000")
    );
    assert!(
        told(&other(&|s| s.scenario = "gone".to_owned()))
            .contains("stale: there is no scenario 'gone'")
    );
    assert!(
        told(&other(&|s| s.signature = "another".to_owned()))
            .contains("stale: it violates 'pop-from-empty-list' now")
    );
    // A schedule that does not fit the code any more, under a right revision.
    let cut = other(&|s| {
        let selvedge_sim::DecisionLog::Schedule(schedule) = &mut s.log else {
            panic!("shuttle's log is a schedule")
        };
        schedule.steps.truncate(2);
    });
    assert!(told(&cut).contains("stale: the log's"));
    let swapped = other(&|s| {
        let selvedge_sim::DecisionLog::Schedule(schedule) = &mut s.log else {
            panic!("shuttle's log is a schedule")
        };
        schedule.steps = vec![(0, 10_000)];
    });
    assert!(told(&swapped).contains("stale: the log wants task 0"));
    // The same failure by other steps, as a change of the code under test may bring about.
    assert!(told(&other(&|s| s.trace = Some(1))).contains("stale: it fails as it did, by other"));
    // And one that arrived incomplete.
    assert!(told(&seed[..seed.len() - 5]).contains("damaged"));
    assert!(told("sv1.a.b.c.d.e").contains("version 'sv1'"));
}

#[test]
fn a_seed_of_the_twin_does_not_fit_the_shipped_code() {
    let (_, units) = check(&[SCENARIO, "--engine", "shuttle"]);
    let mut seed: selvedge_sim::Seed = seed_of(&units, "shuttle").parse().unwrap();
    seed.variant = selvedge_sim::Variant::Shipped;
    let dir = tempfile::tempdir().unwrap();
    // The shipped code takes other steps, so the schedule cannot be followed: never a pass.
    let output = run(dir.path(), &["replay", &seed.to_string()]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("stale"), "{}", stderr(&output));
}
