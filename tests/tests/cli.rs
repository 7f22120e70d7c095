//! What a user types and gets: good input, wrong input, reports, exit codes.

mod common;

use std::fs;

use common::{check, code, run, selvedge, stderr, stdout};

/// One scenario is enough here: it has a twin that every engine can meet.
const SCENARIO: &str = "pool-check-then-act";

#[test]
fn the_first_command_of_the_ticket_finds_its_bug_and_the_fix() {
    let (exit, units) = check(&[SCENARIO]);
    assert_eq!(exit, 0);
    assert_eq!(units.len(), 8);
    for unit in &units {
        assert_eq!(unit["scenario"], SCENARIO);
        assert_eq!(unit["as_expected"], true, "{unit}");
        match (unit["variant"].as_str(), unit["engine"].as_str()) {
            (Some("as-reported"), Some("explorer" | "loom" | "shuttle")) => {
                assert_eq!(unit["verdict"], "Violated");
                assert_eq!(unit["signature"], "pop-from-empty-list");
                assert!(
                    unit["seed"]
                        .as_str()
                        .is_some_and(|seed| seed.starts_with("sv2."))
                );
            }
            (Some("shipped"), Some("explorer" | "loom")) => {
                assert_eq!(unit["verdict"], "Exhausted");
            }
            (Some("shipped"), Some("native" | "shuttle")) => {
                assert_eq!(unit["verdict"], "Sampled");
            }
            (Some("as-reported"), Some("native")) => {}
            other => panic!("a unit nobody planned: {other:?}"),
        }
        if unit["variant"] == "shipped" {
            assert!(unit["signature"].is_null() && unit["seed"].is_null());
            assert_eq!(unit["reached"], serde_json::json!(["exhausted", "granted"]));
        }
    }
}

#[test]
fn without_a_word_it_checks() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &[SCENARIO, "--engine", "loom"]);
    assert_eq!(code(&output), 0);
    let text = stdout(&output);
    assert!(text.contains("found after"), "{text}");
    assert!(text.contains("Exhausted"), "{text}");
    assert!(text.contains("0 unexpected"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colour codes in a pipe");
}

#[test]
fn a_bounded_search_says_so_and_is_below_exhausted() {
    let (exit, units) = check(&[SCENARIO, "--engine", "loom:2"]);
    assert_eq!(exit, 0);
    let shipped = units
        .iter()
        .find(|unit| unit["variant"] == "shipped")
        .unwrap();
    assert_eq!(shipped["verdict"], "Bounded");
    assert_eq!(shipped["parameters"], "loom:2");
    let (exit, _) = check(&[SCENARIO, "--engine", "loom:2", "--require", "exhausted"]);
    assert_eq!(exit, 20);
    let (exit, _) = check(&[SCENARIO, "--engine", "loom", "--require", "exhausted"]);
    assert_eq!(exit, 0);
}

#[test]
fn each_strategy_of_shuttle_is_what_it_says() {
    for (strategy, word) in [("random", "random"), ("pct", "PCT"), ("urw", "URW")] {
        let (exit, units) = check(&["loom-166", "--engine", &format!("shuttle:{strategy}")]);
        assert_eq!(exit, 0, "{strategy}: {units:?}");
        let of = |variant| {
            units
                .iter()
                .find(|unit| unit["variant"] == variant)
                .unwrap()
        };
        // Past the executions by which PCT's runner looks for a choice.
        assert!(
            of("as-reported")["executions"].as_u64() > Some(3),
            "{strategy}"
        );
        let scope = of("shipped")["scope"].as_str().unwrap().to_owned();
        assert!(scope.contains(word) && scope.ends_with("SC"), "{scope}");
    }
    let (_, units) = check(&["opaque-payload", "--engine", "shuttle:pct"]);
    let scope = units[1]["scope"].as_str().unwrap();
    assert_eq!(scope, "3 random + no PCT: the body never has a choice; SC");
}

#[test]
fn a_verdict_below_the_required_class_is_told() {
    let (exit, units) = check(&[SCENARIO, "--engine", "shuttle", "--require", "exhausted"]);
    assert_eq!(exit, 20);
    let shipped = units
        .iter()
        .find(|unit| unit["variant"] == "shipped")
        .unwrap();
    assert_eq!(
        shipped["surprise"],
        "Sampled is below the required Exhausted"
    );
}

#[test]
fn a_search_that_the_budget_cuts_short_is_no_pass() {
    let (exit, units) = check(&["--budget", "100ms", "--jobs", "1"]);
    assert_eq!(exit, 20);
    let cut = units.iter().filter(|unit| unit["verdict"] == "BudgetEnded");
    assert!(cut.clone().count() > 0);
    assert!(cut.clone().all(|unit| unit["as_expected"] == false));
}

#[test]
fn the_same_seed_gives_the_same_verdicts() {
    let facts = || -> Vec<_> {
        let (_, units) = check(&["pool", "A-", "--engine", "shuttle,loom", "--seed", "7"]);
        let fact = |unit: &serde_json::Value| {
            [
                "scenario",
                "variant",
                "engine",
                "verdict",
                "executions",
                "signature",
                "seed",
                "observations",
            ]
            .map(|key| unit[key].clone())
        };
        units.iter().map(fact).collect()
    };
    assert_eq!(facts(), facts());
}

#[test]
fn junit_has_a_case_a_unit() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(
        dir.path(),
        &[SCENARIO, "--engine", "loom", "--junit", "out.xml"],
    );
    assert_eq!(code(&output), 0);
    let xml = fs::read_to_string(dir.path().join("out.xml")).unwrap();
    assert_eq!(xml.matches("<testcase ").count(), 2, "{xml}");
    assert!(xml.contains("failures=\"0\""), "{xml}");
}

#[test]
fn wrong_input_gets_one_line_and_exit_2() {
    let cases: [(&[&str], &str); 19] = [
        (&["two\nlines"], "two\\nlines"),
        (&["--seed", "-1"], "whole number"),
        (&["--budget", "500000000000years"], "at most 30days"),
        (&["--json", "a", "--junit", "./a"], "give each its own"),
        (&["replay", "sv2.a.b\nc.d.e.f"], "b\\nc"),
        (
            &["pool-chek-then-act"],
            "did you mean 'pool-check-then-act'?",
        ),
        (&["chekc"], "did you mean 'check'?"),
        (&["--engine", "lomo"], "did you mean 'loom'?"),
        (&["--engine", "loom:x"], "loom:N"),
        (&["--bugdet", "5s"], "'--budget'"),
        (&["--budget", "5"], "60s, 5m or 8h"),
        (&["--budget", "1ms"], "at least 100ms"),
        (&["--jobs", "0"], "1 to 1024"),
        (&["--seed", "abc"], "whole number"),
        (
            &["--require", "violated"],
            "require sampled, bounded or exhausted",
        ),
        (
            &["--json", "no/such/dir.json"],
            "there is no directory no/such",
        ),
        (&["--json", "x", "--junit", "x"], "give each its own"),
        (&["replay"], "<SEED>"),
        (
            &["list", "nothing-like-it"],
            "`selvedge list` shows them all",
        ),
    ];
    for (args, hint) in cases {
        let dir = tempfile::tempdir().unwrap();
        let output = run(dir.path(), args);
        let said = stderr(&output);
        assert_eq!(code(&output), 2, "{args:?}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{args:?}: {said}");
        assert!(said.contains(hint), "{args:?}: {said}");
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let started = std::time::Instant::now();
    let output = run(dir.path(), &["--json", dir.path().to_str().unwrap()]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("is a directory"));
    assert!(started.elapsed().as_secs() < 5, "nothing ran");
}

#[test]
fn an_old_report_is_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out.json");
    fs::write(&file, "x".repeat(1 << 20)).unwrap();
    run(
        dir.path(),
        &[SCENARIO, "--engine", "loom", "--json", "out.json"],
    );
    let text = fs::read_to_string(&file).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
}

#[test]
fn help_and_version_are_no_errors() {
    let dir = tempfile::tempdir().unwrap();
    for args in [["--help"], ["--version"], ["help"]] {
        let output = run(dir.path(), &args);
        assert_eq!(code(&output), 0);
        assert!(!stdout(&output).is_empty() && stderr(&output).is_empty());
    }
    assert!(stdout(&run(dir.path(), &["--help"])).contains("Exit codes:"));
}

#[test]
fn the_list_shows_every_scenario_and_is_json_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let json = stdout(&run(dir.path(), &["list", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let table = stdout(&run(dir.path(), &["list"]));
    let listed = json["scenarios"].as_array().unwrap();
    assert_eq!(listed.len(), selvedge_scenarios::all().len());
    for scenario in listed {
        assert!(table.contains(scenario["scenario"].as_str().unwrap()));
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_reports_what_was_done_and_exits_21() {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    let dir = tempfile::tempdir().unwrap();
    let child = selvedge()
        .args(["--budget", "120s", "--jobs", "1", "--json", "out.json"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 21, "{}", stderr(&output));
    assert!(stdout(&output).contains("Interrupted."));
    let json = fs::read_to_string(dir.path().join("out.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["exit"], &json["interrupted"]),
        (&21.into(), &true.into())
    );
}
