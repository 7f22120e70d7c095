//! Models as a user meets them: searched, found, replayed along their paths, explored; and never
//! a pass where the search was cut short.
#![cfg(not(loom_run))]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{check, code, report, run, selvedge, stderr, stdout};
use selvedge_sim::{DecisionLog, Seed};
use serde_json::Value;

/// Small, and found by a path of six actions.
const SCENARIO: &str = "alpha-drift";

fn seed_of(scenario: &str) -> String {
    let (_, units) = check(&[scenario, "--engine", "stateright"]);
    let twin = (units.iter()).find(|unit| unit["variant"] == "as-reported");
    let seed = twin.and_then(|twin| twin["seed"].as_str());
    seed.expect("the twin was found").to_owned()
}

#[test]
fn every_model_is_judged_right_and_every_path_leads_there_again() {
    let (exit, json) = report(&["--engine", "stateright", "--budget", "240s"]);
    let units = json["units"].as_array().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut measured = 0;
    for unit in units {
        assert_eq!(unit["as_expected"], true, "{unit}");
        let figures = &unit["figures"];
        assert!(figures["states"].as_u64() == unit["executions"].as_u64());
        // The growth of the child's memory, which hangs on no clock: at most 200 bytes a state.
        let bytes = figures["bytes_a_state"].as_u64();
        let many = figures["states"].as_u64() >= Some(100_000);
        assert_eq!(bytes.is_some(), many, "{unit}");
        assert!(bytes.is_none_or(|bytes| bytes <= 200), "{unit}");
        measured += u32::from(bytes.is_some());
        if unit["variant"] == "shipped" {
            // Complete within its boundary, and never called more.
            assert_eq!(unit["verdict"], "Bounded", "{unit}");
            let scope = unit["scope"].as_str().unwrap();
            assert!(scope.contains("ranks, 2 epochs"), "{unit}");
            continue;
        }
        let signature = unit["signature"].as_str().unwrap();
        let replayed = run(dir.path(), &["replay", unit["seed"].as_str().unwrap()]);
        let expected = if signature == "progress" { 11 } else { 10 };
        assert_eq!(code(&replayed), expected, "{unit}: {}", stderr(&replayed));
        let said = stdout(&replayed);
        assert!(said.contains(&format!("violated: {signature}")), "{said}");
        assert!(said.contains(", the shortest path"), "{said}");
    }
    assert_eq!(exit, 0);
    assert!(
        measured >= 2,
        "three ranks that rejoin, two with all faults"
    );
}

#[test]
fn what_a_search_needs_more_time_for_is_left_out_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "check",
        "epoch-four-ranks",
        "--json",
        "out.json",
        "--junit",
        "out.xml",
    ];
    let output = run(dir.path(), &args);
    let told = "epoch-four-ranks shipped stateright did not fit into 1m; `selvedge check --budget \
                30m` has room";
    assert!(stdout(&output).contains(told), "{}", stdout(&output));
    // It was asked for by name, and was not done.
    assert_eq!(code(&output), 20);
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    let json: Value = serde_json::from_str(&read("out.json")).unwrap();
    assert_eq!(json["units"].as_array().unwrap().len(), 1, "the twin ran");
    assert_eq!(json["left_out"][0]["needs_s"], 1_800);
    let xml = read("out.xml");
    assert!(xml.contains("<skipped message=\"did not fit;"), "{xml}");
}

#[test]
fn what_is_left_out_is_below_a_required_class() {
    let dir = tempfile::tempdir().unwrap();
    let all = "epoch-three-ranks-all";
    let args = ["check", all, "--budget", "2m", "--require", "exhausted"];
    let output = run(dir.path(), &args);
    let said = stdout(&output);
    let told = format!("{all} shipped stateright did not fit into 2m; `selvedge check --budget ");
    assert!(said.contains(&told), "{said}");
    // Its twin was searched and found, which is not what was asked for.
    assert!(
        said.contains("1 units in") && said.contains("1 twins found"),
        "{said}"
    );
    assert_eq!(code(&output), 20);
}

#[test]
fn a_search_cut_short_is_no_pass() {
    let (exit, units) = check(&[
        "epoch-evicted-returns",
        "--engine",
        "stateright",
        "--budget",
        "100ms",
    ]);
    assert_eq!(exit, 20, "{units:#?}");
    for unit in &units {
        assert_eq!(unit["verdict"], "BudgetEnded", "{unit}");
        assert_eq!(unit["as_expected"], false);
        assert!(unit["seed"].is_null());
    }
}

/// There is no more to see of a model than what is within its boundary.
#[test]
fn a_complete_model_is_enough_for_every_requirement() {
    for class in ["sampled", "bounded", "exhausted"] {
        let (exit, units) = check(&[SCENARIO, "--engine", "stateright", "--require", class]);
        assert_eq!(exit, 0, "{units:#?}");
        assert_eq!(units[1]["verdict"], "Bounded");
    }
}

#[test]
fn a_path_is_drawn_with_a_column_for_each_rank() {
    let seed = seed_of("epoch-earlier-life");
    let dir = tempfile::tempdir().unwrap();
    let said = stdout(&run(dir.path(), &["replay", &seed]));
    assert!(said.contains("│ coordinator "), "{said}");
    assert!(
        said.contains("│ rank 0 ") && said.contains("│ rank 1 "),
        "{said}"
    );
    assert!(said.contains("a path of 9 actions"), "{said}");
    assert!(said.contains("CRASHES => dead"), "{said}");
    assert_eq!(said, stdout(&run(dir.path(), &["replay", &seed])));
    for (form, file) in [("html", "path.html"), ("perfetto", "path.json")] {
        let args = ["replay", &seed, "--timeline", form, "--out", file];
        assert_eq!(code(&run(dir.path(), &args)), 10);
        let text = fs::read_to_string(dir.path().join(file)).unwrap();
        assert!(
            text.contains("coordinator") && text.contains("CRASHES"),
            "{form}"
        );
    }
}

#[test]
fn a_shortest_path_cannot_be_made_smaller() {
    let seed = seed_of(SCENARIO);
    let dir = tempfile::tempdir().unwrap();
    for command in ["shrink", "explain"] {
        let output = run(dir.path(), &[command, &seed]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let said = stdout(&output);
        assert!(said.contains("no path with fewer actions"), "{said}");
    }
}

#[test]
fn a_path_that_no_longer_fits_is_stale() {
    let parsed: Seed = seed_of(SCENARIO).parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let told = |change: &dyn Fn(&mut Seed), why: &str| {
        let mut seed = parsed.clone();
        change(&mut seed);
        for command in ["replay", "shrink", "explain"] {
            let output = run(dir.path(), &[command, &seed.to_string()]);
            assert_eq!(code(&output), 2, "{command}: {}", stdout(&output));
            let said = stderr(&output);
            assert!(
                said.contains("stale") && said.contains(why),
                "{command}: {said}"
            );
        }
    };
    let path = |seed: &mut Seed, change: &dyn Fn(&mut Vec<u32>)| match &mut seed.log {
        DecisionLog::Path { actions, .. } => change(actions),
        other => panic!("{other:?}"),
    };
    told(
        &|seed| seed.revision = "00000000".to_owned(),
        "made for revision",
    );
    told(
        &|seed| seed.signature = "progress".to_owned(),
        "it violates 'no-mix' now",
    );
    told(&|seed| seed.trace = Some(1), "by other steps");
    told(
        &|seed| path(seed, &|path| path.truncate(4)),
        "all properties hold",
    );
    told(
        &|seed| path(seed, &|path| path[2] = 9),
        "its action 2 is number 9",
    );
    told(
        &|seed| path(seed, &|path| path[0] = 9),
        "no initial state 9",
    );
    told(&|seed| path(seed, &Vec::clear), "the path is empty");
    // What the twin does, the shipped code cannot do.
    told(
        &|seed| seed.variant = selvedge_sim::Variant::Shipped,
        "stale",
    );
}

/// The Explorer, at a port that was free a moment ago.
struct Explorer {
    child: Child,
    address: String,
}

impl Explorer {
    fn of(args: &[&str]) -> Explorer {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = free.local_addr().expect("it is bound").to_string();
        drop(free);
        let child = selvedge()
            .arg("explore")
            .args(args)
            .args(["--address", &address])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        Explorer { child, address }
    }

    /// What it answers, as soon as it does.
    fn get(&self, path: &str) -> String {
        let begin = Instant::now();
        loop {
            if let Some(answer) = self.try_get(path) {
                return answer;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "it never answers"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn try_get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let host = &self.address;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    }

    /// Ctrl-C, and the exit code.
    fn interrupt(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status();
        let sent = sent.expect("there is a kill");
        assert!(sent.success());
        self.child.wait().expect("it was started").code()
    }
}

#[test]
#[cfg(unix)]
fn the_explorer_answers_and_stops() {
    let models: [(&[&str], &str); 6] = [
        (&["alpha"], "EpochModel"),
        (&["alpha", "--mutant", "no-flush"], "EpochModel"),
        (&["gate-sync"], "GateSyncModel"),
        (&["slot"], "SlotModel"),
        (&["option-a"], "TicketModel"),
        (&["option-b"], "TicketModel"),
    ];
    for (args, model) in models {
        let explorer = Explorer::of(args);
        let status = explorer.get("/.status");
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        assert!(status.contains(model), "{args:?}: {status}");
        // The initial state.
        assert!(
            explorer.get("/.states/").contains("fingerprint"),
            "{args:?}"
        );
        assert_eq!(explorer.interrupt(), Some(0), "{args:?}");
    }
}

#[test]
fn what_cannot_be_explored_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let told = |args: &[&str], parts: &[&str]| {
        let output = run(dir.path(), args);
        assert_eq!(code(&output), 2, "{args:?}");
        let said = stderr(&output);
        for part in parts {
            assert!(said.contains(part), "{args:?}: {said}");
        }
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    };
    told(
        &["explore", "alpa"],
        &[
            "no model 'alpa'",
            "gate-sync, slot, option-a",
            "did you mean 'alpha'",
        ],
    );
    told(
        &["explore", "alpha", "--mutant", "no-flsh"],
        &["no mutant", "volatile-view", "did you mean 'no-flush'"],
    );
    told(
        &["explore", "slot", "--mutant", "no-flush"],
        &["only alpha has mutants"],
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    told(
        &["explore", "slot", "--address", &address],
        &["cannot serve at", &address, "free port"],
    );
    told(
        &["explore", "slot", "--address", "nonsense"],
        &["cannot serve at"],
    );
}
