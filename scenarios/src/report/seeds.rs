//! Keeps the seeds of a run in files under short names, so that `selvedge replay 3fa02c11`
//! is enough on the machine that found a failure. The seed itself works on any other, and so
//! does the file: a seed that is too long to be passed on as a line is named by it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::RunReport;

/// A longer seed is named by its file: a line must survive a chat and a terminal.
const LONGEST_LINE: usize = 400;

/// The command that runs a seed again: with the seed itself where it fits a line, else with its
/// short name and a word on its file.
#[must_use]
pub fn replay_command(seed: &str) -> String {
    let name = short_name(seed);
    command(seed, &name, path_of(&name).as_deref())
}

/// As long as the file is not there, only the seed itself is a way to run it again.
fn command(seed: &str, name: &str, file: Option<&Path>) -> String {
    match file {
        Some(file) if seed.len() > LONGEST_LINE && file.is_file() => format!(
            "selvedge replay {name}  (the seed has {} characters and is in {}; copy the file to \
             replay it elsewhere)",
            seed.len(),
            file.display()
        ),
        _ => format!("selvedge replay {seed}"),
    }
}

/// The short name of a seed: the checksum of its text.
#[must_use]
pub fn short_name(seed: &str) -> String {
    selvedge_sim::revision_of(seed)
}

/// Where the seed of this short name is kept; `None` if it is no short name.
#[must_use]
pub fn path_of(short_name: &str) -> Option<PathBuf> {
    let is_one = short_name.len() == 8 && short_name.bytes().all(|b| b.is_ascii_hexdigit());
    is_one.then(|| directory().join(format!("{}.seed", short_name.to_lowercase())))
}

/// Keeps every seed of the run. Returns what went wrong, to be told: the run itself is well.
#[must_use]
pub fn keep(report: &RunReport) -> Vec<String> {
    let seeds = report.units.iter().filter_map(|unit| unit.seed.as_ref());
    seeds
        .filter_map(|seed| keep_one(seed).err())
        .take(1)
        .collect()
}

/// Keeps one seed.
///
/// # Errors
/// What went wrong, in words.
pub fn keep_one(seed: &str) -> Result<(), String> {
    let Some(path) = path_of(&short_name(seed)) else {
        return Ok(());
    };
    let write = || -> io::Result<()> {
        fs::create_dir_all(directory())?;
        fs::write(&path, format!("{seed}\n"))
    };
    write().map_err(|error| {
        format!(
            "the seeds' short names will not work: cannot write {}: {error}",
            path.display()
        )
    })
}

/// Inside the build directory of the project we are in, else among temporary files.
fn directory() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    match target.is_dir() {
        true => target.join("selvedge-seeds"),
        false => std::env::temp_dir().join("selvedge-seeds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_line_up_to_400_characters_and_a_file_beyond() {
        // Any file will do: the tests' directory holds this package's manifest.
        let file = Path::new("Cargo.toml");
        let line = |length| command(&"s".repeat(length), "0123abcd", Some(file));
        assert_eq!(line(400), format!("selvedge replay {}", "s".repeat(400)));
        assert_eq!(
            line(401),
            "selvedge replay 0123abcd  (the seed has 401 characters and is in Cargo.toml; copy \
             the file to replay it elsewhere)"
        );
        let gone = command(
            &"s".repeat(401),
            "0123abcd",
            Some(Path::new("no/such.seed")),
        );
        assert_eq!(gone, format!("selvedge replay {}", "s".repeat(401)));
    }
}
