//! Gives the program a revision: a checksum of every source that decides what a run explores. Shards
//! that were run by programs of two revisions are not parts of one night.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What is explored and by what; `Cargo.lock` stands for the engines of others.
const SOURCES: [&str; 5] = [
    "../core/src",
    "../sim/src",
    "../models/src",
    "src",
    "../Cargo.lock",
];

fn main() {
    let mut files = Vec::new();
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
        // Outside of the workspace there is only this package.
        if Path::new(source).exists() {
            collect(Path::new(source), &mut files).expect("INVARIANT: a source can be listed");
        }
    }
    files.sort();
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    for file in &files {
        let text = fs::read(file).expect("INVARIANT: a source can be read");
        hash.add(file.to_string_lossy().replace('\\', "/").as_bytes());
        hash.add(&text.len().to_le_bytes());
        hash.add(&text);
    }
    println!("cargo:rustc-env=SELVEDGE_SOURCES={:016x}", hash.0);
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}

/// FNV-1a, 64 bits.
struct Fnv(u64);

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
