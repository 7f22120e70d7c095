//! House rules that no lint checks: where std may be named, how large a file may grow, what
//! must be said beside an atomic or an `expect`.
#![cfg(not(loom_run))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file below `dir`, with its text.
fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).expect("a folder of ours") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).expect("source is UTF-8");
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(dir), &mut found);
    assert!(!found.is_empty(), "no sources below {dir}");
    found
}

/// Whether the line is a comment, as examples are: they are written for users, who read what
/// stands around them.
fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

#[test]
fn one_file_of_core_names_std_sync_and_std_thread() {
    let named: Vec<_> = (sources("core/src").into_iter())
        .filter(|(_, text)| text.contains("std::sync") || text.contains("std::thread"))
        .map(|(path, _)| path.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(named, ["std.rs"]);
}

#[test]
fn core_depends_on_no_checker() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "-p",
            "selvedge-core",
            "-e",
            "normal",
            "--prefix",
            "none",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).unwrap();
    for checker in [
        "loom",
        "shuttle",
        "proptest",
        "stateright",
        "tokio",
        "selvedge-sim",
    ] {
        assert!(
            !tree.lines().any(|line| line.starts_with(checker)),
            "{tree}"
        );
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    for (path, text) in ["core", "sim", "models", "scenarios", "tests"]
        .iter()
        .flat_map(|d| sources(d))
    {
        let lines = text.lines().count();
        assert!(lines <= 700, "{}: {lines} lines", path.display());
        assert!(
            text.starts_with("//!") || path.components().any(|part| part.as_os_str() == "target"),
            "{} does not say why it exists",
            path.display()
        );
    }
}

#[test]
fn every_ordering_is_explained() {
    for (path, text) in ["core/src", "sim/src"].iter().flat_map(|dir| sources(dir)) {
        if path.ends_with("platform.rs")
            || path.ends_with("std.rs")
            || path.to_string_lossy().contains("platforms")
        {
            // These hand the caller's ordering on; the calls they make themselves are few.
            continue;
        }
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let uses = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"]
                .iter()
                .any(|ordering| line.contains(&format!("Ordering::{ordering}")));
            let explained = (lines[number.saturating_sub(6)..=number].iter())
                .any(|line| line.contains("ORDERING:"));
            assert!(
                !uses || explained || is_comment(line),
                "{}:{}: {line}",
                path.display(),
                number + 1
            );
        }
    }
}

#[test]
fn every_expect_names_its_invariant() {
    for (path, text) in ["core/src", "sim/src", "models/src", "scenarios/src"]
        .iter()
        .flat_map(|dir| sources(dir))
    {
        // Macros hold the attribute as well, but not at the beginning of a line.
        let shipped = text.split("\n#[cfg(test)]").next().unwrap_or_default();
        let code = shipped.lines().filter(|line| !is_comment(line));
        let code = code
            .flat_map(str::split_whitespace)
            .collect::<Vec<_>>()
            .join(" ");
        for (at, _) in code.match_indices(".expect(") {
            let rest: String = code[at..].chars().take(40).collect();
            assert!(rest.contains("INVARIANT"), "{}: {rest}", path.display());
        }
    }
}

#[test]
fn the_top_holds_five_folders_of_source() {
    let mut folders: Vec<_> = (fs::read_dir(root()).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("Cargo.toml").exists())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    folders.sort();
    assert_eq!(folders, ["core", "models", "scenarios", "sim", "tests"]);
}

#[test]
fn the_architecture_stays_short() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert!(text.lines().count() < 200);
    assert!(text.matches("Architecture Invariant").count() >= 5);
}
