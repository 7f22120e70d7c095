//! `selvedge serve-trace`: traces, right and wrong, and what a user gets for them.

mod common;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{code, run, selvedge, stderr, stdout};
use serde_json::Value;
use tempfile::TempDir;

/// A line of a trace.
fn line(timestamp: u64, input: u32, output: u32, ids: &[u64]) -> String {
    format!(
        r#"{{"timestamp": {timestamp}, "input_length": {input}, "output_length": {output}, "hash_ids": {ids:?}}}"#
    )
}

fn serve(dir: &Path, args: &[&str]) -> Output {
    run(dir, &[&["serve-trace"], args].concat())
}

/// Serves lines, and returns the exit code and the report.
#[track_caller]
fn served(lines: &[String], args: &[&str]) -> (i32, Value) {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("trace"), lines.join("\n")).expect("a file");
    let output = serve(dir.path(), &[&["trace", "--json", "out"], args].concat());
    let text = fs::read_to_string(dir.path().join("out"))
        .unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    let json: Value = serde_json::from_str(&text).expect("the report is JSON");
    assert_eq!(json["schema"], 1);
    (code(&output), json["report"].clone())
}

#[test]
fn the_sample_is_served_and_the_same_every_time() {
    let dir = TempDir::new().expect("a directory");
    let args = ["--sample", "--json", "out.json", "--html", "out.html"];
    let outputs = ["a", "b"].map(|run| {
        let output = serve(dir.path(), &args);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(stdout(&output).contains("every accepted request has ended"));
        assert!(!stdout(&output).contains('\u{1b}'), "no colours in a pipe");
        let read = |name| fs::read_to_string(dir.path().join(name)).expect("it was written");
        (run, read("out.json"), read("out.html"))
    });
    assert_eq!(
        outputs[0].1, outputs[1].1,
        "virtual time is the same everywhere"
    );
    assert_eq!(outputs[0].2, outputs[1].2);

    let json: Value = serde_json::from_str(&outputs[0].1).expect("JSON");
    let report = &json["report"];
    assert_eq!(report["requests"], 304);
    assert_eq!(report["completed"], 304);
    assert_eq!(report["unended"], 0);
    assert_eq!(report["generated"], report["output_tokens"]);
    assert_eq!(report["pool"]["left_after_shutdown"], 0);
    let share = report["prefill"]["reused_share"].as_f64().expect("a share");
    assert!(
        (0.4..0.9).contains(&share),
        "turns start from their caches: {share}"
    );
    let samples = report["series"].as_array().expect("a series");
    assert!(samples.len() > 100);

    let page = &outputs[0].2;
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert_eq!(page.matches("<svg").count(), 2);
    for outside in ["http://www.w3.org/2000/svg", "src=", "href=", "@import"] {
        let found = page.matches(outside).count();
        assert_eq!(
            found,
            usize::from(outside.ends_with("svg")) * 2,
            "{outside}"
        );
    }
}

#[test]
fn times_are_those_of_the_cost_of_steps() {
    // A step of 5 ms; 100 prompt tokens a second, so 10 ms each; 1 ms a token.
    let costs = ["--step", "5ms", "--prefill-rate", "100", "--decode", "1ms"];
    let (exit, report) = served(&[line(70, 4, 3, &[1])], &costs);
    assert_eq!(exit, 0);
    // The last token of the prompt is computed with the first that is generated.
    let first = 5.0 + 3.0 * 10.0 + 5.0 + 1.0;
    assert_eq!(report["first_token_ms"]["p50"], first);
    assert_eq!(report["between_tokens_ms"]["max"], 6.0);
    assert_eq!(report["total_ms"]["max"], first + 2.0 * 6.0);
    assert_eq!(report["waiting_ms"]["max"], 0.0);
    assert_eq!(
        (&report["steps"], &report["generated"]),
        (&4.into(), &3.into())
    );
}

#[test]
fn the_next_turn_of_a_conversation_starts_from_its_cache() {
    let lines = [
        line(0, 1_000, 5, &[0, 1]),
        line(60_000, 2_000, 5, &[0, 2, 3, 4]),
        line(120_000, 600, 5, &[9, 10]),
    ];
    let (_, report) = served(&lines, &[]);
    assert_eq!(report["agents"], 2);
    assert_eq!(report["prefill"]["reused"], 512);
}

#[test]
fn what_does_not_fit_is_counted_and_the_rest_is_served() {
    let lines = [
        line(0, 90, 10, &[1]),
        line(0, 90, 11, &[2]),
        line(1, 10, 10, &[3]),
    ];
    let small = ["--blocks", "10", "--block-tokens", "10", "--layers", "1"];
    let (exit, report) = served(&lines, &small);
    assert_eq!(exit, 0);
    assert_eq!(
        (&report["completed"], &report["never_fit"]),
        (&2.into(), &1.into())
    );
    assert_eq!(report["largest_needed"], 11);
    let (_, report) = served(&lines, &[&small[..], &["--max-waiting", "1"]].concat());
    assert_eq!(
        report["queue_full"], 0,
        "the large one never was in the queue"
    );
    let crowd: Vec<String> = (0..5).map(|id| line(0, 90, 10, &[id])).collect();
    let (exit, report) = served(&crowd, &[&small[..], &["--max-waiting", "2"]].concat());
    assert_eq!(
        (exit, &report["queue_full"], &report["completed"]),
        (0, &3.into(), &2.into())
    );
}

#[test]
fn a_pool_too_small_for_all_evicts_and_preempts_and_serves_all_the_same() {
    let crowd: Vec<String> = (0..40)
        .map(|id| line(10 * id, 700, 200, &[2 * id, 2 * id + 1]))
        .collect();
    let tight = ["--blocks", "56", "--block-tokens", "64", "--layers", "2"];
    let (exit, report) = served(
        &crowd,
        &[&tight[..], &["--admission", "watermark:2"]].concat(),
    );
    assert_eq!((exit, &report["completed"]), (0, &40.into()));
    for field in ["preemptions", "evictions", "peak_waiting"] {
        assert!(report[field].as_u64() > Some(0), "{field}");
    }
}

#[test]
fn a_malformed_line_gives_its_number_and_what_is_wrong() {
    let dir = TempDir::new().expect("a directory");
    let good = line(0, 5, 2, &[1]);
    let lines = [good.clone(), r#"{"timestamp": 1}"#.to_owned(), good].join("\n");
    fs::write(dir.path().join("trace"), lines).expect("a file");
    let output = serve(dir.path(), &["trace"]);
    assert_eq!(code(&output), 2);
    let told = stderr(&output);
    assert!(
        told.starts_with("selvedge: trace: line 2: missing field `input_length`"),
        "{told}"
    );
    assert!(told.contains("--skip-bad"), "{told}");
    assert_eq!(told.lines().count(), 1);

    let output = serve(dir.path(), &["trace", "--skip-bad", "--json", "out"]);
    assert_eq!(code(&output), 0);
    let text = fs::read_to_string(dir.path().join("out")).expect("a report");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&json["report"]["bad_lines"], &json["report"]["completed"]),
        (&1.into(), &2.into())
    );
}

#[test]
fn wrong_input_says_what_would_be_right() {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("empty"), "").expect("a file");
    fs::write(dir.path().join("one"), line(0, 5, 2, &[1])).expect("a file");
    for (args, word) in [
        (&[][..], "--sample"),
        (&["nowhere"], "cannot read nowhere"),
        (&["empty"], "no request"),
        (&["."], "."),
        (&["one", "--sample"], "cannot be used with"),
        (&["one", "--blocks", "0"], "from 1 to"),
        (&["one", "--layers", "many"], "from 1 to 1024"),
        (&["one", "--blocks", "4294967295"], "from 1 to 16777216"),
        (
            &["one", "--block-tokens", "4294967295"],
            "from 1 to 1048576",
        ),
        (&["one", "--json", "one"], "the same file"),
        (&["one", "--admission", "half"], "watermark:N"),
        (&["one", "--step", "10"], "10ms"),
        (&["one", "--prefill-rate", "0"], "at least 1"),
        (&["one", "--json", "r", "--html", "r"], "the same file"),
        (&["one", "--html", "no/such/place"], "no directory"),
    ] {
        let output = serve(dir.path(), args);
        let told = stderr(&output);
        assert_eq!(code(&output), 2, "{args:?}: {told}");
        assert!(told.contains(word), "{args:?}: {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn a_trace_can_come_by_standard_input() {
    let mut child = selvedge()
        .args(["serve-trace", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("it listens");
    writeln!(input, "{}", line(0, 5, 2, &[1])).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("1 completed"));
}

#[test]
fn an_interrupt_reports_what_was_served_and_exits_21() {
    let dir = TempDir::new().expect("a directory");
    let mut lines = String::new();
    for id in 0..20_000 {
        writeln!(lines, "{}", line(id, 400, 400, &[id])).expect("a string");
    }
    fs::write(dir.path().join("long"), lines).expect("a file");
    let mut child = selvedge()
        .args(["serve-trace", "long", "--json", "out"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut told = BufReader::new(child.stderr.take().expect("it tells how far it is"));
    let mut first = String::new();
    told.read_line(&mut first).expect("a line");
    assert!(first.contains("running"), "{first}");
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("there is a kill");
    assert!(killed.success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), 21, "{}", stderr(&output));
    let text = fs::read_to_string(dir.path().join("out")).expect("a report all the same");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let report = &json["report"];
    assert_eq!(report["interrupted"], true);
    let left = report["unended"].as_u64().expect("a number");
    assert!(left > 0, "the rest is told");
    assert_eq!(report["pool"]["left_after_shutdown"], 0);
}
