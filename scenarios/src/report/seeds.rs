//! Keeps the seeds of a run in files under short names, so that `selvedge replay 3fa02c11`
//! is enough on the machine that found a failure. The seed itself works on any other.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::RunReport;

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
