//! What a world is made of, as text: its checksum is part of the revision in the seeds of worlds.
//!
//! The code that ships is not in it, as for other scenarios: where that has changed, a replay
//! says what is different now, which says more than that something is.

macro_rules! sources {
    ($($file:literal),+ $(,)?) => {
        /// The files, by their paths below the world's folder, with their text.
        const SOURCES: &[(&str, &str)] = &[$(($file, include_str!(concat!("../world/", $file)))),+];
    };
}

// What only looks at a run (its drawing, its shrinking) makes no run another one.
sources![
    "../world.rs",
    "chain.rs",
    "clock.rs",
    "collective.rs",
    "config.rs",
    "coordinator.rs",
    "disrupt.rs",
    "faults.rs",
    "guards.rs",
    "guards/disk.rs",
    "mutants.rs",
    "network.rs",
    "probes.rs",
    "properties.rs",
    "random.rs",
    "ranks.rs",
    "rare.rs",
    "run.rs",
    "serving.rs",
    "serving/agent.rs",
    "serving/engine.rs",
    "serving/front.rs",
    "serving/mail.rs",
    "serving/server.rs",
    "serving/shape.rs",
    "swarm.rs",
    "training.rs",
];

/// The checksum of what makes a run of the world what it is. One that was made for another need
/// not be the same run.
///
/// ```
/// assert_eq!(selvedge_sim::campaign::world_revision().len(), 8);
/// ```
#[must_use]
pub fn world_revision() -> String {
    let mut hasher = crc32fast::Hasher::new();
    for (file, text) in SOURCES {
        hasher.update(file.as_bytes());
        hasher.update(text.as_bytes());
    }
    format!("{:08x}", hasher.finalize())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_world_counts_or_is_known_not_to() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/world");
        let files = fs::read_dir(folder).unwrap();
        let files = files.map(|it| it.unwrap().file_name().into_string().unwrap());
        let files: BTreeSet<String> = files.filter(|name| name.ends_with(".rs")).collect();
        let known = (SOURCES.iter().map(|(file, _)| *file)).chain([
            "mirrors.rs",
            "shrink.rs",
            "timeline.rs",
        ]);
        let known: BTreeSet<&str> = known.collect();
        let forgotten = files.iter().filter(|file| !known.contains(&***file));
        let forgotten: Vec<&String> = forgotten.collect();
        assert!(
            forgotten.is_empty(),
            "name {forgotten:?} in `sources!`, or here if no run depends on it"
        );
    }
}
