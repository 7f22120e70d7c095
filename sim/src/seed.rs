//! Seeds: one line of text that reproduces a failure on any machine.
//!
//! ```text
//! sv2.pool-check-then-act.as-reported.shuttle.5d0c91f7.AAhwb3AtZnJvbS1lbXB0eQABAwAA...
//! |   scenario            variant     engine  revision  signature, trace hash, decision log
//! ```
//!
//! **A seed is either replayed to the same signature, or told to be unreadable or stale;
//! never is it a pass.** The revision is a checksum of the scenario's own source, so a seed
//! knows when the body it was made for has changed.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;
use serde::Deserialize;
use thiserror::Error;

use crate::{DecisionLog, Engine, Variant};

const VERSION: &str = "sv2";
/// A log that unpacks to more was not made by us.
const LARGEST_LOG: usize = 64 << 20;

/// All that is needed to see one failure again.
///
/// ```
/// use selvedge_sim::{DecisionLog, Engine, Seed, Variant, revision_of};
///
/// let seed = Seed {
///     scenario: "queue".to_owned(),
///     variant: Variant::Shipped,
///     engine: Engine::Native,
///     revision: revision_of("the body's source"),
///     signature: "item-lost".to_owned(),
///     trace: None,
///     log: DecisionLog::Workload { seed: 1, execution: 17 },
/// };
/// let text = seed.to_string();
/// assert!(text.starts_with("sv2.queue.shipped.native."));
/// assert_eq!(text.parse(), Ok(seed));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The scenario's id.
    pub scenario: String,
    /// Which body of it.
    pub variant: Variant,
    /// The engine that found the failure.
    pub engine: Engine,
    /// The checksum of the scenario's source.
    pub revision: String,
    /// The failure's signature.
    pub signature: String,
    /// The hash of what happened: [`Trace::hash`](crate::trace::Trace::hash). `None` where
    /// nobody can take it down, as on real threads.
    pub trace: Option<u64>,
    /// What the engine chose.
    pub log: DecisionLog,
}

/// Why a text is no seed.
///
/// ```
/// use selvedge_sim::{Seed, SeedError};
///
/// assert_eq!("hello".parse::<Seed>(), Err(SeedError::NotASeed));
/// let other = "sv9.queue.shipped.loom.00c0ffee.AAAA".parse::<Seed>();
/// assert_eq!(other, Err(SeedError::Version("sv9".to_owned())));
/// ```
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SeedError {
    /// It does not begin as a seed does.
    #[error("this is no seed: a seed begins with '{VERSION}.' and has six parts between dots")]
    NotASeed,
    /// It is of a version this program does not know.
    #[error("the seed is of version '{0}'; this program reads '{VERSION}'")]
    Version(String),
    /// One of its readable parts is wrong.
    #[error("the seed's {part} is '{got}', which does not exist")]
    Part {
        /// Which part.
        part: &'static str,
        /// What stands there.
        got: String,
    },
    /// Its last part was cut short or changed on the way.
    #[error("the seed is damaged ({0}): copy it whole")]
    Damaged(&'static str),
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = postcard::to_stdvec(&(&self.signature, self.trace, &self.log))
            .expect("INVARIANT: strings and integers always serialise");
        let packed = compress_to_vec(&plain, 9);
        let (flag, body) = match packed.len() < plain.len() {
            true => (1, packed),
            false => (0, plain),
        };
        let head = self.head();
        let mut payload = vec![flag];
        payload.extend_from_slice(&body);
        payload.extend_from_slice(&checksum(&head, &payload).to_le_bytes());
        write!(f, "{head}.{}", BASE64URL_NOPAD.encode(&payload))
    }
}

impl FromStr for Seed {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Self, SeedError> {
        let text = text.trim();
        let parts: Vec<&str> = text.split('.').collect();
        let version = parts[0];
        if !version.starts_with("sv") || parts.len() != 6 {
            return Err(SeedError::NotASeed);
        }
        if version != VERSION {
            return Err(SeedError::Version(version.to_owned()));
        }
        let wrong = |part, got: &str| SeedError::Part {
            part,
            got: got.to_owned(),
        };
        let variant = (parts[2].parse()).map_err(|_| wrong("variant", parts[2]))?;
        let engine = (parts[3].parse()).map_err(|_| wrong("engine", parts[3]))?;
        let Content {
            signature,
            trace,
            log,
        } = unpack(text, parts[5])?;
        if !log.fits(engine) {
            return Err(SeedError::Damaged("its engine leaves no log of this kind"));
        }
        Ok(Seed {
            scenario: parts[1].to_owned(),
            variant,
            engine,
            revision: parts[4].to_owned(),
            signature,
            trace,
            log,
        })
    }
}

impl Seed {
    fn head(&self) -> String {
        let Seed {
            scenario,
            variant,
            engine,
            revision,
            ..
        } = self;
        format!("{VERSION}.{scenario}.{variant}.{engine}.{revision}")
    }
}

/// What the last part holds.
#[derive(Deserialize)]
struct Content {
    signature: String,
    trace: Option<u64>,
    log: DecisionLog,
}

fn unpack(text: &str, payload: &str) -> Result<Content, SeedError> {
    let bytes = BASE64URL_NOPAD
        .decode(payload.as_bytes())
        .map_err(|_| SeedError::Damaged("its last part is not base64url"))?;
    let Some((rest, sum)) = bytes.split_last_chunk::<4>() else {
        return Err(SeedError::Damaged("its last part is too short"));
    };
    let head = &text[..text.len() - payload.len() - 1];
    if checksum(head, rest) != u32::from_le_bytes(*sum) {
        return Err(SeedError::Damaged("its checksum differs"));
    }
    let unpacked = match rest {
        [0, plain @ ..] => plain.to_vec(),
        [1, packed @ ..] => decompress_to_vec_with_limit(packed, LARGEST_LOG)
            .map_err(|_| SeedError::Damaged("it does not unpack"))?,
        _ => return Err(SeedError::Damaged("its packing is unknown")),
    };
    let content: Content =
        postcard::from_bytes(&unpacked).map_err(|_| SeedError::Damaged("it does not decode"))?;
    if matches!(&content.log, DecisionLog::Schedule(schedule) if !schedule.is_well_formed()) {
        return Err(SeedError::Damaged(
            "its schedule names tasks that are not there",
        ));
    }
    Ok(content)
}

fn checksum(head: &str, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head.as_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// The revision of a scenario: the checksum of its source text.
///
/// ```
/// use selvedge_sim::revision_of;
///
/// assert_ne!(revision_of("fn a() {}"), revision_of("fn b() {}"));
/// ```
#[must_use]
pub fn revision_of(source: &str) -> String {
    format!("{:08x}", crc32fast::hash(source.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Schedule;

    fn seed(steps: u32) -> Seed {
        let mut schedule = Schedule::default();
        for child in 0..2 {
            schedule.tasks.push(crate::TaskName { parent: 0, child });
        }
        for step in 0..steps {
            schedule.push_step(step % 2);
        }
        Seed {
            scenario: "pool-check-then-act".to_owned(),
            variant: Variant::AsReported,
            engine: Engine::Explorer {
                preemptions: Some(2),
            },
            revision: revision_of("the source"),
            signature: "pop-from-empty".to_owned(),
            trace: Some(0x5e17_ed6e),
            log: DecisionLog::Schedule(schedule),
        }
    }

    #[test]
    fn a_seed_reads_back_as_it_was_written() {
        for steps in [0, 1, 40, 5_000] {
            let text = seed(steps).to_string();
            assert_eq!(text.parse(), Ok(seed(steps)));
            assert_eq!(format!("  {text}\n").parse(), Ok(seed(steps)));
        }
        assert!(
            seed(40).to_string().len() < 300,
            "short enough for a chat line"
        );
    }

    #[test]
    fn an_engine_with_another_ones_log_is_damage() {
        let logs = [
            seed(3).log,
            DecisionLog::Checkpoint {
                path: "{}".to_owned(),
                choices: Vec::new(),
            },
            DecisionLog::Workload {
                seed: 1,
                execution: 2,
            },
            DecisionLog::Path {
                actions: vec![0, 1],
                shortest: true,
            },
            DecisionLog::World(Box::default()),
        ];
        // Of these logs, by place, the one that each leaves.
        let leaves = [
            ("explorer", 0),
            ("explorer:1", 0),
            ("shuttle", 0),
            ("shuttle:pct", 0),
            ("loom", 1),
            ("loom:2", 1),
            ("native", 2),
            ("stateright", 3),
            ("world", 4),
        ];
        for (engine, own) in leaves {
            for (place, log) in logs.iter().enumerate() {
                let seed = Seed {
                    engine: engine.parse().unwrap(),
                    log: log.clone(),
                    ..seed(3)
                };
                let read = seed.to_string().parse::<Seed>();
                let refused = SeedError::Damaged("its engine leaves no log of this kind");
                let expected = if place == own { Ok(seed) } else { Err(refused) };
                assert_eq!(read, expected, "{engine}, {log:?}");
            }
        }
    }

    #[test]
    fn any_damage_is_told() {
        let text = seed(40).to_string();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(changed.parse::<Seed>().is_err(), "{changed}");
        }
        for end in 0..text.len() {
            assert!(text[..end].parse::<Seed>().is_err(), "{}", &text[..end]);
        }
        assert_eq!("hello".parse::<Seed>(), Err(SeedError::NotASeed));
        assert_eq!(
            text.replacen("sv2", "sv9", 1).parse::<Seed>(),
            Err(SeedError::Version("sv9".to_owned()))
        );
        assert_eq!(
            text.replacen("as-reported", "as-rumoured", 1)
                .parse::<Seed>(),
            Err(SeedError::Part {
                part: "variant",
                got: "as-rumoured".to_owned()
            })
        );
    }
}
