//! Nights as a cluster runs them: in shards, killed and resumed, with pieces missing, and merged.
#![cfg(all(unix, not(loom_run)))]
#![allow(clippy::unwrap_used, reason = "all of this file is one test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use common::{code, run, selvedge, stderr, stdout};
use selvedge_scenarios::nightly::file::Contents;
use serde_json::Value;
use tempfile::TempDir;

/// Every engine has a part in it, and what is drawn is drawn in three intervals.
const FILTER: [&str; 3] = ["pool-check-then-act", "lost-wakeup", "E-GATE-D4"];
const SHARDS: u32 = 8;

/// One shard of the night.
fn nightly(dir: &Path, out: &str, shard: &str, more: &[&str]) -> Output {
    let mut args = vec![
        "nightly", "--run-id", "night", "--out", out, "--shard", shard,
    ];
    args.extend(["--budget", "300s", "--effort", "3", "--jobs", "1"]);
    args.extend(more);
    args.extend(FILTER);
    run(dir, &args)
}

fn merge(dir: &Path, args: &[&str]) -> (i32, Value, String) {
    let mut all = vec!["merge", "--json", "merged.json"];
    all.extend(args);
    let output = run(dir, &all);
    let text = fs::read_to_string(dir.join("merged.json"));
    let text = text.unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    let json: Value = serde_json::from_str(&text).expect("the night is JSON");
    assert_eq!(json["exit"], code(&output), "{}", stdout(&output));
    (code(&output), json, stdout(&output))
}

/// The night in eight shards, and in one piece.
static NIGHT: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for shard in 1..=SHARDS {
        let output = nightly(dir.path(), "eight", &format!("{shard}/{SHARDS}"), &[]);
        assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    }
    let output = nightly(dir.path(), "whole", "1/1", &[]);
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    dir
});

/// A copy of the eight shards that may be spoilt.
fn eight() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(dir.path().join("eight")).unwrap();
    for entry in fs::read_dir(NIGHT.path().join("eight")).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(
            &from,
            dir.path().join("eight").join(from.file_name().unwrap()),
        )
        .unwrap();
    }
    dir
}

fn shard_file(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("eight/shard-{number}-of-{SHARDS}.jsonl"))
}

#[test]
fn eight_shards_are_one_night_unit_by_unit() {
    let whole = NIGHT.path().join("whole");
    let dir = eight();
    let (exit, night, text) = merge(dir.path(), &["eight", "--compare", whole.to_str().unwrap()]);
    assert_eq!(exit, 0, "{text}");
    let same = &night["trend"]["same_plan"];
    assert_eq!(same["different"], serde_json::json!([]));
    assert_eq!(
        (&same["same"], &same["by_luck"]),
        (&14.into(), &2.into()),
        "{same}"
    );
    // Not only as the merge says.
    let (_, alone, _) = merge(NIGHT.path(), &["whole"]);
    let facts = |night: &Value| -> Vec<String> {
        let units = night["units"].as_array().unwrap().iter();
        let units = units.filter(|unit| unit["engine"] != "native");
        let fact = |unit: &Value| {
            let keys = [
                "scenario",
                "variant",
                "engine",
                "verdict",
                "executions",
                "signature",
            ];
            let facts = keys.map(|key| unit[key].to_string()).join(" ");
            format!("{facts} {} {}", unit["reached"], unit["explored"])
        };
        units.map(fact).collect()
    };
    assert_eq!(facts(&night), facts(&alone));
    assert_eq!(facts(&night).len(), 14);
    // What is drawn was really shared, and all the planted bugs were found in each shard.
    let pieces = |dir: &Path, number| {
        let contents = Contents::read(&shard_file(dir, number)).unwrap();
        contents.header.unwrap().pieces
    };
    assert!((1..=SHARDS).all(|number| pieces(dir.path(), number) > 0));
    let canaries = night["canaries"].as_array().unwrap();
    assert_eq!(canaries.len(), 4 * SHARDS as usize);
    assert!(canaries.iter().all(|canary| canary["found"] == true));
    let drawn = night["units"].as_array().unwrap().iter();
    let mut drawn = drawn.filter(|unit| unit["engine"] == "shuttle");
    assert!(drawn.all(|unit| unit["pieces"] == 3));
}

#[test]
fn the_same_shards_merge_to_the_same_bytes_in_any_order() {
    let dir = eight();
    let forms = ["a.json", "a.xml", "a.md", "a.html"];
    let read = |places: &[&str]| {
        let mut args = vec!["merge"];
        args.extend(["--json", forms[0], "--junit", forms[1]]);
        args.extend(["--markdown", forms[2], "--html", forms[3]]);
        args.extend(places);
        let output = run(dir.path(), &args);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let files = forms.map(|form| fs::read(dir.path().join(form)).unwrap());
        (output.stdout, files)
    };
    let files: Vec<String> = (1..=SHARDS)
        .rev()
        .map(|number| format!("eight/shard-{number}-of-{SHARDS}.jsonl"))
        .collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let first = read(&["eight"]);
    assert_eq!(read(&["eight"]), first);
    assert_eq!(read(&["eight", "eight"]), first);
    assert_eq!(read(&files), first);
    let [json, junit, markdown, html] = first.1.map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(json.contains("\"word\": \"green\""));
    assert!(junit.contains("failures=\"0\"") && junit.contains("canary: canary loom shard 8"));
    assert!(
        markdown.starts_with("### ✅ Night 'night' is green"),
        "{markdown}"
    );
    // Nothing is loaded from anywhere, and there is nothing that could.
    for outside in [
        "http:", "https:", "<script", "<link", "<img", "url(", "@import",
    ] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("width=device-width"));
}

#[test]
fn a_missing_and_a_doubled_shard_are_told_and_exit_20() {
    let dir = eight();
    fs::remove_file(shard_file(dir.path(), 3)).unwrap();
    let (exit, night, text) = merge(dir.path(), &["eight"]);
    assert_eq!(
        (exit, &night["gaps"]),
        (20, &serde_json::json!(["shard 3 is missing"]))
    );
    assert!(text.contains("✗ incomplete: shard 3 is missing"), "{text}");
    let dir = eight();
    fs::create_dir(dir.path().join("copy")).unwrap();
    let copy = dir.path().join("copy/shard-3-of-8.jsonl");
    fs::copy(shard_file(dir.path(), 3), copy).unwrap();
    let (exit, night, _) = merge(dir.path(), &["eight", "copy"]);
    assert_eq!(exit, 20);
    assert!(
        night["gaps"][0]
            .as_str()
            .unwrap()
            .contains("shard 3 is there 2 times")
    );
    // Cut off in the middle of a line.
    let dir = eight();
    let file = shard_file(dir.path(), 5);
    let text = fs::read(&file).unwrap();
    fs::write(&file, &text[..text.len() * 9 / 10]).unwrap();
    let (exit, night, _) = merge(dir.path(), &["eight"]);
    assert_eq!(exit, 20);
    assert!(
        night["gaps"][0]
            .as_str()
            .unwrap()
            .contains("shard 5 was cut off"),
        "{}",
        night["gaps"]
    );
    // It goes on from there, and then it is all there.
    assert_eq!(code(&nightly(dir.path(), "eight", "5/8", &[])), 0);
    let whole = NIGHT.path().join("whole");
    let (exit, night, _) = merge(dir.path(), &["eight", "--compare", whole.to_str().unwrap()]);
    assert_eq!(
        (exit, &night["trend"]["same_plan"]["same"]),
        (0, &14.into())
    );
}

#[test]
fn other_nights_are_no_part_of_this_one() {
    let dir = eight();
    let other = |args: &[&str]| {
        let output = run(dir.path(), args);
        assert_eq!(code(&output), 2, "{args:?}: {}", stdout(&output));
        stderr(&output)
    };
    let begin = [
        "nightly", "--out", "eight", "--shard", "5/8", "--budget", "60s",
    ];
    let with = |more: &[&str]| other(&[&begin[..], more, &FILTER[..]].concat());
    let said = with(&["--run-id", "another", "--effort", "3"]);
    assert!(
        said.contains("is of run 'night', and this is run 'another'"),
        "{said}"
    );
    let said = with(&["--run-id", "night", "--effort", "4"]);
    assert!(said.contains("--effort was 3 and is 4"), "{said}");
    assert!(
        said.contains("give the same filters, --seed, --effort and --budget"),
        "{said}"
    );
    let said = with(&["--run-id", "night", "--effort", "3", "--seed", "2"]);
    assert!(said.contains("--seed was 1 and is 2"), "{said}");
    // A folder of its own, but merged with the others.
    let output = run(
        dir.path(),
        &[
            "nightly",
            "--out",
            "b",
            "--run-id",
            "b",
            "--budget",
            "60s",
            "lost-wakeup",
        ],
    );
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let said = other(&["merge", "eight", "b"]);
    assert!(said.contains("no parts of one night"), "{said}");
    // Another base is no night.
    fs::write(dir.path().join("base.json"), "{}").unwrap();
    assert!(other(&["merge", "eight", "--compare", "base.json"]).contains("not of a night"));
}

#[test]
fn a_night_of_which_the_planted_bug_is_not_found_is_red() {
    let dir = tempfile::tempdir().unwrap();
    let output = nightly(dir.path(), "drill", "1/1", &["--dead-canary"]);
    assert_eq!(code(&output), 14, "{}", stderr(&output));
    assert!(
        stdout(&output).contains("the planted bug was not found"),
        "{}",
        stdout(&output)
    );
    let (exit, night, _) = merge(dir.path(), &["drill"]);
    assert_eq!((exit, night["word"].as_str()), (14, Some("red")));
    // Its records taken out of a good night.
    let dir = eight();
    let file = shard_file(dir.path(), 2);
    let text = fs::read_to_string(&file).unwrap();
    let without: Vec<&str> = (text.lines())
        .filter(|line| !line.contains("\"record\":\"canary\""))
        .collect();
    assert_eq!(without.len() + 4, text.lines().count());
    fs::write(&file, format!("{}\n", without.join("\n"))).unwrap();
    let (exit, night, text) = merge(dir.path(), &["eight"]);
    assert_eq!((exit, night["word"].as_str()), (14, Some("red")));
    assert!(text.contains("there is no record of it"), "{text}");
    // Alone.
    assert_eq!(code(&run(dir.path(), &["canary"])), 0);
    let dead = run(dir.path(), &["canary", "--dead-canary"]);
    assert_eq!(code(&dead), 14);
    assert!(
        stdout(&dead).contains("0 of 4 planted bugs found"),
        "{}",
        stdout(&dead)
    );
}

#[test]
fn killed_at_any_moment_a_shard_goes_on_and_comes_to_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("killed/shard-1-of-1.jsonl");
    let (mut kills, mut grown) = (0, 0);
    for round in 0..24_u64 {
        let mut args = vec!["nightly", "--run-id", "night", "--out", "killed"];
        args.extend(["--budget", "300s", "--effort", "3", "--jobs", "1"]);
        args.extend(FILTER);
        let mut child = selvedge()
            .args(&args)
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Moments spread over what a session does: opening, planted bugs, pieces.
        std::thread::sleep(Duration::from_millis(20 + round * 97 % 1_400));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        child.wait().unwrap();
        if !file.exists() {
            continue;
        }
        let contents = Contents::read(&file).unwrap();
        assert_eq!(contents.damaged, None, "only the last line can be torn");
        assert!(contents.lines.len() >= grown, "nothing is lost");
        grown = contents.lines.len();
    }
    assert!(kills >= 5, "{kills} sessions were killed");
    let output = nightly(dir.path(), "killed", "1/1", &[]);
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    let whole = NIGHT.path().join("whole");
    let (exit, night, text) = merge(
        dir.path(),
        &["killed", "--compare", whole.to_str().unwrap()],
    );
    assert_eq!(
        (exit, &night["trend"]["same_plan"]["same"]),
        (0, &14.into()),
        "{text}"
    );
    assert_eq!(night["gaps"], serde_json::json!([]));
    // Once more there is nothing to do, and nothing is written.
    let before = fs::read(&file).unwrap();
    let output = nightly(dir.path(), "killed", "1/1", &[]);
    assert!(
        stdout(&output).contains("is done already"),
        "{}",
        stdout(&output)
    );
    assert_eq!((code(&output), fs::read(&file).unwrap()), (0, before));
}

#[test]
fn a_polite_signal_flushes_and_exits_21() {
    for signal in ["-TERM", "-INT"] {
        let dir = tempfile::tempdir().unwrap();
        let child = selvedge()
            .args([
                "nightly", "--run-id", "n", "--out", "o", "--budget", "300s", "--effort", "500",
            ])
            .arg("lost-wakeup")
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let file = dir.path().join("o/shard-1-of-1.jsonl");
        let pieces = || {
            let text = fs::read_to_string(&file).unwrap_or_default();
            text.matches("\"record\":\"piece\"").count()
        };
        for _ in 0..600 {
            if pieces() > 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), 21, "{signal}: {}", stderr(&output));
        let text = fs::read_to_string(&file).unwrap();
        let last = text.lines().last().unwrap();
        assert_eq!(last, r#"{"record":"end","session":1,"how":"interrupted"}"#);
        assert!(text.ends_with('\n') && pieces() > 0);
        let (exit, night, _) = merge(dir.path(), &["o"]);
        assert_eq!(exit, 20);
        assert!(
            night["gaps"][0].as_str().unwrap().contains("(interrupted)"),
            "{}",
            night["gaps"]
        );
    }
}

/// A value of the manifest, by what stands before it.
fn after<'a>(text: &'a str, mark: &str) -> &'a str {
    let rest = text
        .split_once(mark)
        .unwrap_or_else(|| panic!("no {mark}"))
        .1;
    rest.lines().next().unwrap().trim().trim_matches('"')
}

fn shipped(name: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/nightly");
    fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn auto_takes_its_shard_from_what_the_shipped_scripts_set() {
    let manifest = shipped("night.k8s.yaml");
    let count = after(&manifest, "SELVEDGE_SHARDS\n              value:");
    assert_eq!(after(&manifest, "completions:"), count);
    assert_eq!(after(&manifest, "parallelism:"), count);
    assert!(manifest.contains("completionMode: Indexed"));
    // `--array=0-7` has as many tasks as its script says shards.
    let script = shipped("night.sbatch");
    let last: u32 = after(&script, "--array=0-").parse().unwrap();
    let tasks = (last + 1).to_string();
    let matrix = shipped("night.github.yml");
    let nodes = after(&matrix, "node: [")
        .trim_end_matches(']')
        .split(',')
        .count()
        .to_string();
    for text in [&manifest, &script, &matrix] {
        assert!(text.contains("--shard auto") || text.contains("--shard=auto"));
    }
    let cases: [(&[(&str, &str)], &str); 3] = [
        (
            &[("JOB_COMPLETION_INDEX", "7"), ("SELVEDGE_SHARDS", count)],
            "8-of-8",
        ),
        (
            &[
                ("SLURM_ARRAY_TASK_ID", "2"),
                ("SLURM_ARRAY_TASK_MIN", "0"),
                ("SLURM_ARRAY_TASK_COUNT", &tasks),
            ],
            "3-of-8",
        ),
        (
            &[("CI_NODE_INDEX", "1"), ("CI_NODE_TOTAL", &nodes)],
            "1-of-8",
        ),
    ];
    for (variables, shard) in cases {
        let dir = tempfile::tempdir().unwrap();
        let output = selvedge()
            .args(["nightly", "--run-id", "n", "--out", "o", "--shard", "auto"])
            .args(["--budget", "60s", "abba-2"])
            .envs(variables.iter().copied())
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(
            dir.path().join(format!("o/shard-{shard}.jsonl")).exists(),
            "{shard}"
        );
    }
}

#[test]
fn every_exit_code_has_one_rule_of_the_manifest() {
    let manifest = shipped("night.k8s.yaml");
    let mut codes: Vec<u8> = (manifest.split("values: [").skip(1))
        .flat_map(|rest| rest.split(']').next().unwrap().split(','))
        .map(|code| code.trim().parse().unwrap())
        .collect();
    codes.sort_unstable();
    // All that `nightly` ends with but success; 13 and 15 are of other commands.
    assert_eq!(codes, [2, 10, 11, 12, 14, 20, 21, 70]);
}

#[test]
fn bad_input_gets_one_line_and_exit_2() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "not a folder").unwrap();
    let night = ["nightly", "--run-id", "n", "--out"];
    let cases: [(&[&str], &str); 13] = [
        (&["o", "--shard", "9/8"], "no shard 9 of 8"),
        (&["o", "--shard", "0/4"], "no shard 0 of 4"),
        (&["o", "--shard", "3"], "write K/N"),
        (&["o", "--shard", "auto"], "SLURM_ARRAY_TASK_ID"),
        (&["o", "--shard", "auto"], "JOB_COMPLETION_INDEX"),
        (&["o", "--shard", "auto"], "CI_NODE_INDEX"),
        (&["file"], "cannot write file"),
        (&["file/below"], "cannot write file/below"),
        (&["/proc/no"], "cannot write /proc/no"),
        (&["o", "--run-id", "a b"], "'--run-id"),
        (&["o", "--effort", "0"], "at least 1"),
        (&["o", "abba-22"], "did you mean 'abba-2'?"),
        (&["o", "--budget", "8"], "60s, 5m or 8h"),
    ];
    let cases = cases
        .into_iter()
        .map(|(args, hint)| ([&night[..], args].concat(), hint));
    let others: [(&[&str], &str); 5] = [
        (&["nightly", "--out", "o"], "--run-id"),
        (&["merge"], "<DIR>"),
        (&["merge", "no"], "cannot read no"),
        (&["merge", "."], "no shard-K-of-N.jsonl"),
        (&["mutants", "abba-22"], "did you mean 'abba-2'?"),
    ];
    for (args, hint) in cases.chain(others.into_iter().map(|(args, hint)| (args.to_vec(), hint))) {
        let output = run(dir.path(), &args);
        let said = stderr(&output);
        assert_eq!(code(&output), 2, "{args:?}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{args:?}: {said}");
        assert!(said.contains(hint), "{args:?}: {said}");
    }
    assert!(!dir.path().join("o").exists(), "nothing was begun");
}

#[test]
fn the_kill_matrix_says_who_kills_whom() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "mutants",
        "--json",
        "m.json",
        "pool-check-then-act",
        "dekker",
        "loom-166",
    ];
    let output = run(dir.path(), &args);
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    let json = fs::read_to_string(dir.path().join("m.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let mutants = json["mutants"].as_array().unwrap();
    assert!(mutants.len() >= 3);
    let cell = |mutant: &str, engine: &str| {
        let row = mutants.iter().find(|row| row["mutant"] == mutant).unwrap();
        assert_eq!(
            (&row["killed"], &row["as_expected"]),
            (&true.into(), &true.into())
        );
        let cells = row["engines"].as_array().unwrap();
        cells
            .iter()
            .find(|cell| cell["engine"] == engine)
            .unwrap()
            .clone()
    };
    for engine in ["explorer", "loom", "shuttle"] {
        let cell = cell("pool-check-then-act", engine);
        assert_eq!(cell["outcome"], "killed");
        assert!(cell["executions"].as_u64() > Some(0));
    }
    // A matter of weak memory, which only one of them has.
    let missed = cell("dekker", "explorer");
    assert_eq!(missed["outcome"], "must-miss");
    assert!(!missed["why"].as_str().unwrap().is_empty());
    assert_eq!(cell("dekker", "loom")["outcome"], "killed");
    assert!(
        stdout(&output).contains("must miss it"),
        "{}",
        stdout(&output)
    );
}
