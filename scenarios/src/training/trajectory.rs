//! What each rank has applied, epoch by epoch, as it writes it down; and whether all of them
//! have applied the same.
//!
//! A line is in the file before the rank goes on, so a rank that is killed leaves what it had
//! applied. **Agreement is uniform: the dead count.**

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use selvedge_core::ddp::{CommitRecord, Rank, SlotId};
use serde::{Deserialize, Serialize};

use super::worker::EpochLoss;

/// One slot, as it is from an epoch's end on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotLine {
    /// Which.
    pub slot: u32,
    /// Where its seed stands.
    pub stage: String,
    /// Its alpha, for readers.
    pub alpha: f64,
    /// The bits of its alpha, as hexadecimal: these are compared.
    pub bits: String,
}

/// One record that was applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The epoch that it ends.
    pub epoch: u64,
    /// The view that voted.
    pub view: u64,
    /// How many steps were applied until then.
    pub applied: u64,
    /// One number for the whole record.
    pub record: String,
    /// All slots.
    pub slots: Vec<SlotLine>,
    /// One number for parameters and optimizer, where they are of this record.
    pub model: Option<String>,
    /// How the epoch went, where this rank was there.
    pub loss: Option<EpochLoss>,
}

impl Line {
    /// The line of a record; `model` and `loss` where they are known.
    #[must_use]
    pub fn of(record: &CommitRecord, model: Option<u64>, loss: Option<EpochLoss>) -> Self {
        let hex = |number: u64| format!("{number:016x}");
        let slots = record.schedule.slots().iter().map(|slot| {
            let alpha = slot.alpha().map_or(0.0, |alpha| alpha.alpha());
            SlotLine {
                slot: slot.id().0,
                stage: slot.stage().to_string(),
                alpha,
                bits: hex(alpha.to_bits()),
            }
        });
        Line {
            epoch: record.epoch.0,
            view: record.view.0,
            applied: record.applied,
            record: hex(record.digest()),
            slots: slots.collect(),
            model: model.map(hex),
            loss,
        }
    }

    /// The same, with the alphas that the model has really taken from the record.
    #[must_use]
    pub fn with_alphas(mut self, alpha: impl Fn(SlotId) -> f64) -> Self {
        for slot in &mut self.slots {
            slot.alpha = alpha(SlotId(slot.slot));
            slot.bits = format!("{:016x}", slot.alpha.to_bits());
        }
        self
    }

    /// Whether it is the line of the same record, now with the parameters that `before` has not.
    #[must_use]
    pub fn completes(&self, before: &Line) -> bool {
        let record = |line: &Line| (line.epoch, line.record.clone());
        record(self) == record(before) && before.model.is_none() && self.model.is_some()
    }

    /// The slots in short: `0:blending 0.250 1:dormant 0.000`.
    #[must_use]
    pub fn slots_in_short(&self) -> String {
        let slots = self.slots.iter();
        let each = slots.map(|slot| format!("{}:{} {:.3}", slot.slot, slot.stage, slot.alpha));
        each.collect::<Vec<_>>().join(" ")
    }
}

/// The file that a life of a rank writes its lines to.
#[derive(Debug)]
pub struct Journal(File);

impl Journal {
    /// A new file.
    ///
    /// # Errors
    /// When it cannot be made, or is there already: each life has its own.
    pub fn create(path: &Path) -> io::Result<Self> {
        File::create_new(path).map(Journal)
    }

    /// Writes a line in one piece, so that a kill leaves all of it or part of the last.
    ///
    /// # Errors
    /// The file's.
    pub fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.0.write_all(&text)
    }
}

/// Whose lines they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Author {
    /// The coordinator, which decided.
    Log,
    /// One life of a rank, counted from 1.
    Life(Rank, u32),
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Author::Log => f.write_str("the coordinator's log"),
            Author::Life(rank, life) => write!(f, "{rank}'s life {life}"),
        }
    }
}

/// Reads a journal. Half a last line, as a kill leaves it, is left out.
///
/// # Errors
/// When it cannot be read, or a whole line is none.
pub fn read(path: &Path) -> io::Result<Vec<Line>> {
    let text = std::fs::read_to_string(path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Disagreement {
    /// Two lives have applied different things for one epoch.
    Differ {
        /// The epoch.
        epoch: u64,
        /// What differs: alpha, stage, record, parameters or loss.
        what: &'static str,
        /// Who, and what he has.
        one: (String, String),
        /// Who else, and what he has.
        other: (String, String),
    },
    /// A life has left an epoch out, or gone back.
    Gap {
        /// Whose.
        life: String,
        /// The epoch before.
        after: u64,
        /// The one after it.
        epoch: u64,
    },
    /// A later life of a rank began at an epoch that an earlier one had applied.
    WentBack {
        /// The later one.
        life: String,
        /// Its first epoch.
        epoch: u64,
        /// The earlier life's last.
        had: u64,
    },
    /// No life has applied an epoch. That the coordinator has it in its log is no excuse.
    Missing {
        /// The epoch.
        epoch: u64,
    },
    /// A life did not say what its parameters were, and no copy that it waited for explains it.
    Untold {
        /// Whose.
        life: String,
        /// The epoch.
        epoch: u64,
    },
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Disagreement::Differ {
                epoch,
                what,
                one,
                other,
            } => write!(
                f,
                "epoch {epoch}: {what} of {} is {}, of {} it is {}",
                one.0, one.1, other.0, other.1
            ),
            Disagreement::Gap { life, after, epoch } => {
                write!(f, "{life} applied epoch {epoch} right after epoch {after}")
            }
            Disagreement::WentBack { life, epoch, had } => {
                write!(
                    f,
                    "{life} began at epoch {epoch}, but the rank had applied {had}"
                )
            }
            Disagreement::Missing { epoch } => write!(f, "nobody has applied epoch {epoch}"),
            Disagreement::Untold { life, epoch } => write!(
                f,
                "{life} applied epoch {epoch}, and what its parameters were then is not known"
            ),
        }
    }
}

/// Whether all lives have applied the same, epoch by epoch, up to `last`; what does not agree.
///
/// A life that begins in the midst of a run has a record before it has the parameters that go
/// with it, and writes a second line of that record when it has copied them. No other line may
/// be without parameters.
///
/// ```
/// use selvedge_core::ddp::{CommitRecord, Epoch, Rank, RunId, Schedule};
/// use selvedge_scenarios::training::trajectory::{Author, Line, disagreements};
///
/// let record = CommitRecord::genesis(RunId(1), Epoch(0), 0, Schedule::default());
/// let line = Line::of(&record, Some(7), None);
/// let [one, other] = [0, 1].map(|rank| Author::Life(Rank(rank), 1));
/// let alike = [(one, vec![line.clone()]), (other, vec![line.clone()])];
/// assert!(disagreements(&alike, 0).is_empty());
///
/// let off = Line { model: Some("0000000000000008".into()), ..line.clone() };
/// let found = disagreements(&[(one, vec![line]), (other, vec![off])], 0);
/// assert_eq!(
///     found[0].to_string(),
///     "epoch 0: parameters of rank 0's life 1 is 0000000000000007, of rank 1's life 1 it is \
///      0000000000000008",
/// );
/// ```
#[must_use]
pub fn disagreements(written: &[(Author, Vec<Line>)], last: u64) -> Vec<Disagreement> {
    let mut found = Vec::new();
    let mut first: BTreeMap<(u64, &'static str), (Author, String)> = BTreeMap::new();
    let mut had: BTreeMap<Rank, u64> = BTreeMap::new();
    let mut applied: BTreeSet<u64> = BTreeSet::new();
    let mut written: Vec<&(Author, Vec<Line>)> = written.iter().collect();
    written.sort_by_key(|(author, _)| *author);
    for (author, lines) in written {
        for pair in lines.windows(2) {
            if pair[1].epoch != pair[0].epoch + 1 && !pair[1].completes(&pair[0]) {
                found.push(Disagreement::Gap {
                    life: author.to_string(),
                    after: pair[0].epoch,
                    epoch: pair[1].epoch,
                });
            }
        }
        if let (Author::Life(rank, _), Some(begin), Some(end)) =
            (author, lines.first(), lines.last())
            && let Some(had) = had.insert(*rank, end.epoch)
            && begin.epoch <= had
        {
            found.push(Disagreement::WentBack {
                life: author.to_string(),
                epoch: begin.epoch,
                had,
            });
        }
        if matches!(author, Author::Life(..)) {
            applied.extend(lines.iter().map(|line| line.epoch));
            found.extend(untold(lines).map(|epoch| Disagreement::Untold {
                life: author.to_string(),
                epoch,
            }));
        }
        for line in lines {
            for (what, value) in facts(line) {
                let known = first.entry((line.epoch, what));
                let (one, expected) = known.or_insert_with(|| (*author, value.clone()));
                if *expected != value {
                    found.push(Disagreement::Differ {
                        epoch: line.epoch,
                        what,
                        one: (one.to_string(), expected.clone()),
                        other: (author.to_string(), value),
                    });
                }
            }
        }
    }
    let missing = (0..=last).filter(|epoch| !applied.contains(epoch));
    found.extend(missing.map(|epoch| Disagreement::Missing { epoch }));
    found
}

/// The epochs of a life whose parameters are not known, though they should be.
fn untold(lines: &[Line]) -> impl Iterator<Item = u64> {
    let bare = (lines.iter().enumerate()).filter(|(_, line)| line.model.is_none());
    let unexplained = bare.filter(|(at, line)| match lines.get(at + 1) {
        // It may have ended before it had its copy, but only a life that has just begun needs one.
        None => *at > 0,
        Some(next) => !next.completes(line),
    });
    unexplained.map(|(_, line)| line.epoch)
}

/// What must be the same wherever it is known.
fn facts(line: &Line) -> impl Iterator<Item = (&'static str, String)> {
    let joined = |of: fn(&SlotLine) -> &str| {
        let parts: Vec<String> = line
            .slots
            .iter()
            .map(|slot| format!("{}:{}", slot.slot, of(slot)))
            .collect();
        parts.join(" ")
    };
    let loss = line
        .loss
        .map(|loss| format!("{:016x}", loss.loss.to_bits()));
    let always = [
        ("alpha", joined(|slot| &slot.bits)),
        ("stage", joined(|slot| &slot.stage)),
        (
            "record",
            format!("{} after step {}", line.record, line.applied),
        ),
    ];
    let known = [("parameters", line.model.clone()), ("loss", loss)];
    let known = known
        .into_iter()
        .filter_map(|(what, value)| Some((what, value?)));
    always.into_iter().chain(known)
}

#[cfg(test)]
mod tests {
    use selvedge_core::ddp::{Epoch, RunId, SeedStage};

    use super::*;
    use crate::training::job::genesis;

    fn line(epoch: u64) -> Line {
        let mut record = genesis(RunId(1));
        record.epoch = Epoch(epoch);
        Line::of(&record, Some(7 + epoch), None)
    }

    fn life(rank: u32, life: u32, epochs: core::ops::Range<u64>) -> (Author, Vec<Line>) {
        (Author::Life(Rank(rank), life), epochs.map(line).collect())
    }

    #[test]
    fn lives_that_agree_where_they_overlap_agree() {
        let log = (Author::Log, (0..10).map(line).collect());
        let lives = [log, life(0, 1, 0..10), life(1, 1, 0..4), life(1, 2, 6..9)];
        assert_eq!(disagreements(&lives, 9), []);
    }

    /// Each doctored in one place; each must be found, and named.
    #[test]
    fn whatever_differs_is_found() {
        let found = |change: fn(&mut Line), what: &str| {
            let mut lives = [life(0, 1, 0..10), life(1, 1, 0..10)];
            change(&mut lives[1].1[5]);
            let found = disagreements(&lives, 9);
            assert_eq!(found.len(), 1, "{found:?}");
            let told = found[0].to_string();
            assert!(
                told.starts_with(&format!("epoch 5: {what} of rank 0's life 1 is")),
                "{told}"
            );
            assert!(told.contains("of rank 1's life 1 it is"), "{told}");
        };
        found(|line| line.slots[1].bits = format!("{:016x}", 1), "alpha");
        found(
            |line| line.slots[0].stage = SeedStage::Holding.to_string(),
            "stage",
        );
        found(|line| line.record = "other".into(), "record");
        found(|line| line.applied += 1, "record");
        found(|line| line.model = Some("other".into()), "parameters");
        let known = |loss| {
            Some(EpochLoss {
                loss,
                accuracy: 0.5,
            })
        };
        let mut lives = [life(0, 1, 0..3), life(1, 1, 0..3)];
        (lives[0].1[1].loss, lives[1].1[1].loss) = (known(0.25), known(0.5));
        assert!(
            disagreements(&lives, 2)[0]
                .to_string()
                .starts_with("epoch 1: loss")
        );
        let (slot, missing) = (SlotId(0).0, &mut lives[0].1[2]);
        missing.slots.retain(|line| line.slot != slot);
        assert!(disagreements(&lives, 2).len() > 1, "a slot that is missing");
    }

    #[test]
    fn whoever_leaves_out_or_goes_back_is_found() {
        let mut gap = life(0, 1, 0..6);
        gap.1.remove(3);
        let found = disagreements(&[gap, life(1, 1, 0..6)], 5);
        let told = "rank 0's life 1 applied epoch 4 right after epoch 2";
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [told]
        );

        let found = disagreements(&[life(0, 1, 0..6), life(0, 2, 5..8)], 7);
        assert!(matches!(
            found[..],
            [Disagreement::WentBack {
                epoch: 5,
                had: 5,
                ..
            }]
        ));

        let found = disagreements(&[life(0, 1, 0..6)], 7);
        let missing = [6, 7].map(|epoch| Disagreement::Missing { epoch });
        assert_eq!(found, missing);
    }

    /// What the coordinator has in its log stands for no life.
    #[test]
    fn an_epoch_that_only_the_log_has_is_missing() {
        let log = (Author::Log, (0..6).map(line).collect());
        let found = disagreements(&[log, life(0, 1, 0..4)], 5);
        assert_eq!(found, [4, 5].map(|epoch| Disagreement::Missing { epoch }));
    }

    #[test]
    fn parameters_may_be_unknown_only_until_they_are_copied() {
        let bare = |epoch| Line {
            model: None,
            ..line(epoch)
        };
        let found = |lines: Vec<Line>| {
            let lives = [life(0, 1, 0..9), (Author::Life(Rank(1), 1), lines)];
            disagreements(&lives, 8)
        };
        assert_eq!(found(vec![bare(4), line(4), line(5)]), [], "copied");
        assert_eq!(found(vec![bare(4)]), [], "ended before it was copied");
        let untold = |epoch| Disagreement::Untold {
            life: "rank 1's life 1".into(),
            epoch,
        };
        assert_eq!(found(vec![bare(4), line(5)]), [untold(4)]);
        assert_eq!(found(vec![line(4), bare(5), line(6)]), [untold(5)]);
        assert_eq!(found(vec![line(4), bare(5)]), [untold(5)]);
        let other = Line {
            model: Some("other".into()),
            ..line(4)
        };
        assert!(
            matches!(
                found(vec![bare(4), other])[..],
                [Disagreement::Differ {
                    what: "parameters",
                    ..
                }]
            ),
            "a copy is compared too"
        );
    }

    #[test]
    fn two_records_for_one_epoch_are_found_in_one_life() {
        let mut twice = life(1, 1, 0..4);
        let other = Line {
            record: "other".into(),
            ..line(2)
        };
        twice.1.insert(3, other);
        let found = disagreements(&[life(0, 1, 0..4), twice], 3);
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(
            told.iter()
                .any(|told| told.starts_with("epoch 2: record of rank 0's life 1 is")),
            "{told:?}"
        );
    }

    #[test]
    fn half_a_last_line_is_left_out_and_a_damaged_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::create(&path).unwrap();
        journal.write(&line(0)).unwrap();
        journal.write(&line(1)).unwrap();
        assert!(Journal::create(&path).is_err(), "each life has its own");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        assert_eq!(read(&path).unwrap(), [line(0)]);
        std::fs::write(&path, "nonsense\n").unwrap();
        assert!(read(&path).is_err());
        std::fs::write(&path, "").unwrap();
        assert_eq!(read(&path).unwrap(), []);
    }
}
