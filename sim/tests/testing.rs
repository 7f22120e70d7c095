//! What the tests that `model_tests!` makes say, by running this test binary once more: tests
//! that fail, each ignored unless it is asked for by name.
#![cfg(not(loom_run))]

#[allow(dead_code, reason = "what the example prints is not wanted here")]
#[path = "../examples/own_code.rs"]
mod example;

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use example::{broken, mended};
use selvedge_sim::platform::{Condvar, JoinHandle, Mutex, Platform};
use selvedge_sim::testing::{REPLAY_VARIABLE, TIMELINE_VARIABLE};
use selvedge_sim::{Class, Cx, Observation, Seed};

/// Leaves the process without a word.
fn aborts<P: Platform>(_: &Cx) -> Observation {
    P::spawn(|| std::process::abort()).join()
}

/// Ends the process as if all were well.
fn leaves<P: Platform>(_: &Cx) -> Observation {
    P::spawn(|| std::process::exit(0)).join()
}

/// Panics, and panics again while it unwinds: that aborts wherever something unwinds.
fn panics_twice<P: Platform>(_: &Cx) -> Observation {
    struct Again;
    impl Drop for Again {
        fn drop(&mut self) {
            panic!("the second");
        }
    }
    P::spawn(|| {
        let _again = Again;
        panic!("the first")
    })
    .join()
}

/// Waits for what never comes.
fn hangs<P: Platform>(_: &Cx) -> Observation {
    let nothing = P::Mutex::<()>::new(());
    let never = P::Condvar::new();
    drop(never.wait(nothing.lock()));
    Observation::none()
}

selvedge_sim::model_tests! {
    mod panicking = panics_twice;
    must_fail = "panic: the first";
}

selvedge_sim::model_tests! {
    mod hanging = hangs;
    must_fail = "deadlock";
}

selvedge_sim::model_tests! {
    mod shown = broken;
    engines = [#[ignore = "fails"] explorer, #[ignore = "fails"] loom, #[ignore = "fails"] shuttle];
}

selvedge_sim::model_tests! {
    mod aborting = aborts;
    engines = [#[ignore = "fails"] native, #[ignore = "fails"] explorer];
}

selvedge_sim::model_tests! {
    mod leaving = leaves;
    engines = [#[ignore = "fails"] explorer];
}

selvedge_sim::model_tests! {
    mod cut_short = mended;
    engines = [#[ignore = "fails"] explorer, #[ignore = "fails"] loom, #[ignore = "fails"] native];
    limit = Duration::ZERO;
}

selvedge_sim::model_tests! {
    mod with_no_bug = mended;
    engines = [#[ignore = "fails"] explorer];
    must_fail = "deadlock";
}

selvedge_sim::model_tests! {
    mod with_another_bug = broken;
    engines = [#[ignore = "fails"] explorer];
    must_fail = "item-lost";
}

selvedge_sim::model_tests! {
    mod idle = mended;
    engines = [#[ignore = "fails"] explorer];
    must_reach = &["found-it-empty", "found-it-full"];
}

selvedge_sim::model_tests! {
    mod asking_too_much = mended;
    engines = [#[ignore = "fails"] shuttle, #[ignore = "fails"] explorer:2];
    require = Class::Exhausted;
}

selvedge_sim::model_tests! {
    mod asking_too_little = mended;
    engines = [#[ignore = "fails"] explorer];
    require = Class::BudgetEnded;
}

selvedge_sim::model_tests! {
    mod misspelt = mended;
    engines = [#[ignore = "fails"] lom];
}

/// Runs one test of this binary, with these variables where they have a value.
fn run(filter: &str, variables: &[(&str, Option<&str>)]) -> Output {
    let program = std::env::current_exe().expect("a test knows its binary");
    let mut command = Command::new(program);
    command
        .args([filter, "--exact", "--include-ignored"])
        .env_remove(REPLAY_VARIABLE)
        .env_remove(TIMELINE_VARIABLE)
        .env_remove("RUST_BACKTRACE");
    for (name, value) in variables {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.output().expect("the test binary starts")
}

/// What the one test says that fails.
#[track_caller]
fn failing(filter: &str, variables: &[(&str, Option<&str>)]) -> String {
    let output = run(filter, variables);
    let text = String::from_utf8(output.stdout).expect("output is UTF-8");
    assert_eq!(output.status.code(), Some(101), "{text}");
    assert!(text.contains("0 passed; 1 failed"), "{text}");
    text
}

#[track_caller]
fn replaying(filter: &str, seed: &str) -> String {
    failing(filter, &[(REPLAY_VARIABLE, Some(seed))])
}

#[track_caller]
fn in_this_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let Some(at) = rest.find(part) else {
            panic!("no '{part}' after what came before it:\n{text}");
        };
        rest = &rest[at + part.len()..];
    }
}

/// The seed in the last line of a failure.
#[track_caller]
fn seed_in(text: &str) -> &str {
    let marker = format!("\n{REPLAY_VARIABLE}=");
    let at = text.find(&marker).expect("a seed") + marker.len();
    text[at..].split(' ').next().expect("a word")
}

#[test]
fn a_failure_says_what_how_small_why_how_and_how_to_see_it_again() {
    for (engine, smaller, small, cause) in [
        (
            "explorer",
            "Made smaller in ",
            "preemptions 3 -> 1, switches 7 -> 5; no schedule with fewer",
            "It needs one switch",
        ),
        ("shuttle", "Made smaller in ", "preemptions ", "switch"),
        (
            "loom",
            "It was made no smaller: ",
            "preemptions 1, switches 2; whether fewer preemptions would do",
            "this engine cannot tell",
        ),
    ] {
        let name = format!("shown::{engine}");
        let text = failing(&name, &[]);
        let command = format!(" cargo test -p selvedge-sim shown::{engine}\n");
        let title = format!("testing::{name}: deadlock\n");
        in_this_order(
            &text,
            &[
                "panicked at sim/tests/testing.rs:",
                "violated: deadlock\n",
                "own_code.rs:",
                " and sim/",
                ", execution ",
                smaller,
                small,
                cause,
                &title,
                "own_code.rs:",
                "\nSELVEDGE_REPLAY=",
                &command,
            ],
        );
        let seed = match fs::read_to_string(seed_in(&text)) {
            Ok(kept) => kept,
            Err(_) => seed_in(&text).to_owned(),
        };
        // The same failure again, and the same seed.
        let again = replaying(&name, &seed);
        let title = format!("{title}3 tasks, ");
        in_this_order(
            &again,
            &["violated: deadlock\n", &title, "\nSELVEDGE_REPLAY="],
        );
        assert_eq!(seed_in(&again), seed_in(&text));
    }
}

#[test]
fn a_seed_is_replayed_or_told_to_be_stale_or_damaged_or_of_another_test() {
    let text = failing("shown::explorer", &[]);
    let seed = seed_in(&text);
    let whole: Seed = seed.parse().expect("a seed");

    for other in ["panicking::explorer", "shown::loom"] {
        let output = run(other, &[(REPLAY_VARIABLE, Some(seed))]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let line = format!(
            "testing::{other}: skipped: the seed in SELVEDGE_REPLAY is of \
             testing::shown::explorer under explorer\n"
        );
        assert!(said.contains(&line), "{said}");
    }

    let revision = Seed {
        revision: "00000000".to_owned(),
        ..whole.clone()
    };
    let signature = Seed {
        signature: "item-lost".to_owned(),
        ..whole.clone()
    };
    let trace = Seed {
        trace: Some(1),
        ..whole.clone()
    };
    let stale = "the seed is stale: ";
    for (seed, why) in [
        (
            revision.to_string(),
            format!("{stale}it was made for revision 00000000"),
        ),
        (
            signature.to_string(),
            format!("{stale}it violates 'deadlock' now"),
        ),
        (
            trace.to_string(),
            format!("{stale}it fails as it did, by other steps"),
        ),
        (
            seed[..seed.len() - 3].to_owned(),
            "the seed is damaged".to_owned(),
        ),
        ("no-such-file".to_owned(), "this is no seed".to_owned()),
    ] {
        let text = replaying("shown::explorer", &seed);
        assert!(text.contains(&why), "{why}:\n{text}");
    }

    // As a file.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("seed");
    fs::write(&file, format!("{seed}\n")).expect("a file is written");
    let text = replaying("shown::explorer", &file.to_string_lossy());
    assert!(text.contains("violated: deadlock"), "{text}");

    // One that all is well with: the mended queue takes the same seed for its own.
    let other = Seed {
        scenario: "testing::with_no_bug::explorer".to_owned(),
        ..whole
    };
    let text = replaying("with_no_bug::explorer", &other.to_string());
    assert!(text.contains(stale), "{text}");
}

#[test]
fn failures_are_drawn_as_pages_where_that_is_asked_for() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let folder = dir.path().join("not").join("there");
    let file = folder.join("testing-shown-explorer.html");
    let text = failing("shown::explorer", &[(TIMELINE_VARIABLE, folder.to_str())]);
    let drawn = format!("\nDrawn in {}", file.display());
    in_this_order(
        &text,
        &["It needs one switch", &drawn, "\nSELVEDGE_REPLAY="],
    );
    let page = fs::read_to_string(&file).expect("the page is there");
    assert!(page.contains("</html>") && page.contains("notify_one"));

    // A file stands where the folder would be.
    let text = failing("shown::explorer", &[(TIMELINE_VARIABLE, file.to_str())]);
    in_this_order(
        &text,
        &["SELVEDGE_TIMELINE: cannot write ", "\nSELVEDGE_REPLAY="],
    );
}

#[test]
fn what_proves_nothing_fails_and_says_why() {
    for (test, why) in [
        ("aborting::native", "the engine failed: the child died ("),
        ("aborting::explorer", "the engine failed: the child died ("),
        (
            "leaving::explorer",
            "the child ended well and wrote no verdict",
        ),
        ("cut_short::explorer", "which is no pass: raise `limit`"),
        ("cut_short::loom", "which is no pass: raise `limit`"),
        ("cut_short::native", "which is no pass: raise `limit`"),
        (
            "with_no_bug::explorer",
            "it must fail with 'deadlock', and does not: Exhausted, ",
        ),
        (
            "with_another_bug::explorer",
            "it must fail with 'item-lost', and fails with another.",
        ),
        ("with_another_bug::explorer", "violated: deadlock"),
        (
            "idle::explorer",
            "it never reached found-it-full: it proves nothing",
        ),
        (
            "asking_too_much::shuttle",
            "shuttle never comes to Exhausted",
        ),
        (
            "asking_too_much::explorer",
            "explorer:2 never comes to Exhausted",
        ),
        (
            "asking_too_little::explorer",
            "BudgetEnded cannot be required",
        ),
        (
            "misspelt::lom",
            "there is no engine 'lom'; engines are native, explorer,",
        ),
    ] {
        let text = failing(test, &[]);
        assert!(text.contains(why), "{why}:\n{text}");
    }
}

#[test]
fn a_variable_left_in_the_environment_is_no_pass() {
    let program = std::env::current_exe().expect("a test knows its binary");
    let mut command = Command::new(program);
    command.args(["shown::explorer", "--exact", "--include-ignored"]);
    let output = (command.env("SELVEDGE_UNIT", "nowhere").output()).expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("SELVEDGE_UNIT is set, to 'nowhere'"),
        "{said}"
    );
}
