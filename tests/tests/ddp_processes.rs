//! `selvedge ddp` and `selvedge rank`: real processes, calm and under chaos, and what a user gets
//! for wrong input.
#![cfg(unix)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{code, run, selvedge, stderr, stdout};
use serde_json::Value;
use tempfile::TempDir;

/// Runs `ddp`, and returns what it printed, its exit code and its report.
#[track_caller]
fn ddp(args: &[&str]) -> (Output, Value) {
    let dir = TempDir::new().expect("a directory");
    let output = run(dir.path(), &[&["ddp", "--json", "out"], args].concat());
    let text = fs::read_to_string(dir.path().join("out"))
        .unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    let json: Value = serde_json::from_str(&text).expect("the report is JSON");
    assert_eq!(json["schema"], 1);
    assert_eq!(json["exit"], code(&output), "{}", stdout(&output));
    (output, json["report"].clone())
}

/// A `rank` with these variables and no others.
fn rank(variables: &[(&str, &str)]) -> Command {
    let mut command = selvedge();
    for other in [
        "SELVEDGE_RUN",
        "TORCHELASTIC_RUN_ID",
        "SLURM_JOB_ID",
        "SELVEDGE_TOKEN",
    ] {
        command.env_remove(other);
    }
    for other in ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"] {
        command.env_remove(other);
    }
    command.arg("rank").envs(variables.iter().copied());
    command
}

fn signal(name: &str, process: u32) {
    let kill = Command::new("kill")
        .args([name, &process.to_string()])
        .status();
    assert!(kill.expect("there is a kill").success());
}

#[test]
fn ranks_with_uneven_shards_agree_and_learn_and_do_so_the_same_every_time() {
    let args = [
        "--world",
        "3",
        "--epochs",
        "24",
        "--seed",
        "5",
        "--batch-time",
        "0ms",
    ];
    let reports = [(); 2].map(|()| {
        let (output, report) = ddp(&args);
        assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
        let told = stdout(&output);
        assert!(
            told.contains("Every rank's alpha is the same in every epoch"),
            "{told}"
        );
        assert!(!told.contains('\u{1b}'), "no colours in a pipe");
        report
    });
    let report = &reports[0];
    assert_eq!(report["batches"], serde_json::json!([1, 2, 1]));
    // Three ranks and the coordinator's log, from epoch 0 on.
    assert_eq!(report["records_compared"], 4 * 25);
    assert_eq!(report["violations"], serde_json::json!([]));
    let losses = report["losses"].as_array().expect("losses");
    assert_eq!(losses.len(), 24);
    assert!(losses[23].as_f64() < losses[0].as_f64());
    assert!(report["alpha_moves"].as_u64() > Some(7), "{report}");
    for rank in report["ranks"].as_array().expect("ranks") {
        let lives = rank["lives"].as_array().expect("lives");
        assert_eq!((lives.len(), &lives[0]["end"]), (1, &"done".into()));
    }
    for what in ["losses", "alpha_moves"] {
        assert_eq!(
            reports[0][what], reports[1][what],
            "{what} is the seed's alone"
        );
    }
}

#[test]
fn chaos_is_survived_and_everybody_accounts_for_himself() {
    let dir = TempDir::new().expect("a directory");
    let kept = dir.path().join("kept");
    let kept_text = kept.to_str().expect("UTF-8");
    let args = [
        "--world",
        "3",
        "--min-world",
        "1",
        "--epochs",
        "60",
        "--batch-time",
        "30ms",
    ];
    let chaos = [
        "--chaos",
        "3",
        "--faults",
        "10",
        "--patience",
        "500ms",
        "--keep",
        kept_text,
    ];
    let (output, report) = ddp(&[&args[..], &chaos[..]].concat());
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).starts_with("The plan:\n  epoch"));

    let faults = report["faults"].as_array().expect("faults");
    assert_eq!(faults.len(), 10);
    let done = faults.iter().filter(|fault| !fault["done_at"].is_null());
    let kinds: BTreeSet<&str> = done
        .map(|fault| fault["what"].as_str().expect("a word"))
        .collect();
    let all = ["cut-off", "kill", "kill-coordinator", "restart", "stop"];
    assert_eq!(kinds, BTreeSet::from(all), "each was really done");
    assert_eq!(report["coordinator_lives"], 2);

    let ranks = report["ranks"].as_array().expect("ranks");
    let lives = ranks
        .iter()
        .flat_map(|rank| rank["lives"].as_array().expect("lives"));
    let killed = lives.clone().filter(|life| life["end"] == "killed").count();
    assert!(killed >= 3, "{killed} were killed");
    for life in lives {
        let end = life["end"].as_str().expect("a word");
        assert!(["done", "killed", "failed"].contains(&end), "{life}");
    }
    // What the dead have applied is in the comparison.
    let journals = fs::read_dir(&kept).expect("it was kept").filter(|file| {
        let name = file.as_ref().expect("a file").file_name();
        name.to_string_lossy().ends_with(".jsonl")
    });
    assert!(journals.count() > 3);
    let reached = ranks.iter().filter_map(|rank| {
        let lives = rank["lives"].as_array()?;
        lives.iter().filter_map(|life| life["last"].as_u64()).max()
    });
    assert_eq!(reached.max(), Some(60));
}

#[test]
fn two_ranks_started_as_torchrun_does_train_together() {
    let dir = TempDir::new().expect("a directory");
    // Free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let port = port.expect("a port").port().to_string();
    let start = |number: &str| {
        let variables = [
            ("RANK", number),
            ("WORLD_SIZE", "2"),
            ("MASTER_ADDR", "127.0.0.1"),
            ("MASTER_PORT", &port),
            ("SELVEDGE_TOKEN", "a secret of the test"),
        ];
        let journal = dir.path().join(number);
        let mut command = rank(&variables);
        command.args(["--epochs", "14", "--journal"]).arg(journal);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts")
    };
    let ranks = ["1", "0"].map(start);
    for child in ranks {
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
        assert!(
            stdout(&output).contains("epoch 14: 0:blending"),
            "{}",
            stdout(&output)
        );
        assert!(stdout(&output).ends_with("done\n"));
    }
    let [one, other] = ["0", "1"].map(|name| fs::read_to_string(dir.path().join(name)).unwrap());
    assert_eq!(one.lines().count(), 15);
    assert_eq!(
        one, other,
        "what they have applied is the same to the last bit"
    );
}

#[test]
fn a_rank_without_a_coordinator_fails_by_its_deadline_and_says_why() {
    let begun = Instant::now();
    let mut command = rank(&[
        ("RANK", "1"),
        ("WORLD_SIZE", "2"),
        ("MASTER_ADDR", "127.0.0.1"),
        // Nobody can listen there without being root.
        ("MASTER_PORT", "1"),
        ("SELVEDGE_TOKEN", "a secret of the test"),
    ]);
    let patience = [
        "--patience",
        "200ms",
        "--deadline",
        "400ms",
        "--admission",
        "400ms",
    ];
    let output = command
        .args(patience)
        .args(["--events", "-"])
        .output()
        .expect("it ends");
    assert_eq!(code(&output), 15, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("the coordinator was not heard of"),
        "{}",
        stderr(&output)
    );
    let last = stdout(&output)
        .lines()
        .last()
        .map(str::to_owned)
        .expect("a line");
    let event: Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!(
        (&event["event"], &event["reason"]),
        (&"failed".into(), &"coordinator-lost".into())
    );
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn wrong_input_says_what_would_be_right() {
    let right = [
        ("RANK", "0"),
        ("WORLD_SIZE", "2"),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", "29500"),
        ("SELVEDGE_TOKEN", "a secret of the test"),
    ];
    for (name, wrong) in [
        ("RANK", "2"),
        ("WORLD_SIZE", "none"),
        ("MASTER_PORT", "70000"),
        ("MASTER_ADDR", ""),
        ("SELVEDGE_TOKEN", "short"),
    ] {
        let others = right.iter().filter(|(other, _)| *other != name).copied();
        let missing: Vec<_> = others.clone().collect();
        for variables in [missing, others.chain([(name, wrong)]).collect()] {
            let output = rank(&variables).output().expect("it ends");
            let told = stderr(&output);
            assert_eq!(code(&output), 2, "{variables:?}: {told}");
            assert_eq!(told.lines().count(), 1, "{told}");
            let named = told.contains(name) || (name == "SELVEDGE_TOKEN" && told.contains("token"));
            assert!(named, "{variables:?}: {told}");
        }
    }
    let dir = TempDir::new().expect("a directory");
    for (args, words) in [
        (&["ddp", "--world", "0"][..], "from 1 to 256"),
        (
            &["ddp", "--world", "2", "--min-world", "3"],
            "the world has only 2",
        ),
        (&["ddp", "--world", "1", "--chaos", "1"], "can spare none"),
        (&["ddp", "--faults", "3"], "--chaos"),
        (&["ddp", "--patience", "40s"], "--deadline must be longer"),
        (&["ddp", "--keep", "."], "cannot make the directory"),
        (&["ddp", "--json", "no/such/place"], "no directory"),
    ] {
        let output = run(dir.path(), args);
        let told = stderr(&output);
        assert_eq!(code(&output), 2, "{args:?}: {told}");
        assert!(
            told.contains(words) && told.lines().count() == 1,
            "{args:?}: {told}"
        );
    }
}

/// Processes that name this directory on their command line.
fn processes_of(dir: &Path) -> Vec<u32> {
    let name = dir.to_str().expect("UTF-8");
    let processes = fs::read_dir("/proc").expect("there is a /proc").flatten();
    let named = processes.filter(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(name)
    });
    named
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_or_a_death_leaves_no_process_behind() {
    for (how, exit) in [("-INT", Some(21)), ("-KILL", None)] {
        let dir = TempDir::new().expect("a directory");
        let kept = dir.path().join("kept");
        let mut child = selvedge()
            .args([
                "ddp", "--world", "2", "--epochs", "100000", "--json", "out", "--keep",
            ])
            .arg(&kept)
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut told = BufReader::new(child.stderr.take().expect("it tells how far it is"));
        let mut first = String::new();
        told.read_line(&mut first).expect("a line");
        assert!(first.contains("rank 1 in epoch"), "{first}");
        assert_eq!(
            processes_of(&kept).len(),
            4,
            "itself, two ranks and a coordinator"
        );
        signal(how, child.id());
        assert_eq!(child.wait().expect("it ends").code(), exit);
        let begun = Instant::now();
        while !processes_of(&kept).is_empty() {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{:?}",
                processes_of(&kept)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        if exit.is_some() {
            let mut said = String::new();
            child
                .stdout
                .take()
                .expect("it reports")
                .read_to_string(&mut said)
                .expect("UTF-8");
            assert!(
                said.contains("what was applied until then agrees"),
                "{said}"
            );
            let text = fs::read_to_string(dir.path().join("out")).expect("a report all the same");
            let json: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(json["report"]["interrupted"], true);
        }
    }
}

#[test]
fn ranks_that_are_killed_leave_profiles_that_perfetto_opens() {
    let dir = TempDir::new().expect("a directory");
    let traces = dir.path().join("traces");
    let at = traces.to_str().expect("its name is text");
    let args = ["--world", "3", "--epochs", "40", "--batch-time", "20ms"];
    let (output, report) = ddp(&[
        &args[..],
        &["--chaos", "1", "--faults", "6", "--profile", at],
    ]
    .concat());
    // On a slow machine a rank's next life may come when the others are done: then a fault of the
    // plan found nobody, which is told, and does not matter here.
    let violations = report["violations"].as_array().expect("violations");
    assert!(
        violations
            .iter()
            .all(|found| found["violation"] == "not-done"),
        "{}",
        stdout(&output)
    );
    let lives: usize = (report["ranks"].as_array().expect("ranks").iter())
        .map(|rank| rank["lives"].as_array().expect("lives").len())
        .sum();
    assert!(lives > 3, "somebody was killed");

    let (mut whole, mut marked) = (0, BTreeSet::new());
    // What a repair keeps beside a trace is none of them.
    let entries = fs::read_dir(&traces).expect("the directory was made");
    let paths: Vec<_> = (entries.map(|entry| entry.expect("an entry").path())).collect();
    for path in paths {
        let name = path.to_str().expect("its name is text");
        // SIGKILL in the midst of a write is what `repair` is for.
        let repaired = run(dir.path(), &["trace", "repair", name]);
        assert_eq!(code(&repaired), 0, "{}", stderr(&repaired));
        let checked = run(dir.path(), &["trace", "check", name]);
        assert_eq!(code(&checked), 0, "{}", stdout(&checked));
        let text = fs::read_to_string(&path).expect("it is there");
        whole += usize::from(text.contains("profiler_totals"));
        let events: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        for event in events.iter().filter(|event| event["name"] == "ApplyEpoch") {
            marked.insert(event["args"]["epoch"].as_u64().expect("an epoch"));
            assert!(event["args"]["alpha of slot 0"].is_f64(), "{event}");
        }
    }
    assert!(whole >= 1, "who was not killed has closed its own");
    assert_eq!(
        marked,
        (0..=40).collect(),
        "each epoch has its mark in some rank's profile"
    );
}

#[test]
fn a_profile_that_cannot_be_is_told_before_anything_runs() {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("file"), "").expect("a file");
    let output = run(dir.path(), &["ddp", "--profile", "file/below"]);
    assert_eq!(code(&output), 2);
    assert!(
        stderr(&output).contains("cannot make the directory file/below"),
        "{}",
        stderr(&output)
    );
}
