//! One regression as it stands in a file, and everything that can be wrong with it before
//! anything runs.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use selvedge_sim::{DecisionLog, Seed, Variant};
use serde::Deserialize;
use toml::Spanned;

/// The file as it is written. A field that nobody knows is an error: it may be a misspelled one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    regression: Vec<WrittenEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEntry {
    name: Spanned<String>,
    engine: Spanned<String>,
    signature: Spanned<String>,
    expect: Spanned<String>,
    found_by: Spanned<String>,
    twin: Option<Spanned<String>>,
    fixed_in: Option<Spanned<String>>,
    size: Option<String>,
    why: Spanned<String>,
    seed: Spanned<String>,
}

/// What a replay must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The twin's bug, again.
    Fails,
    /// Nothing: the bug is fixed.
    Passes,
}

/// One regression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) seed: Seed,
    pub(crate) expect: Expected,
    /// Which command, or who.
    pub(crate) found_by: String,
    /// Of a twin: the report of the bug that it has.
    pub(crate) twin: Option<String>,
    /// Of a bug of the shipped code: where it was fixed; `None` as long as it is not.
    pub(crate) fixed_in: Option<String>,
    /// How large the seed's execution is, in words.
    pub(crate) size: Option<String>,
    /// What went wrong, and why: some three lines.
    pub(crate) why: String,
    pub(crate) place: Place,
}

/// Where something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    /// Counted from 1, as editors do.
    pub(crate) line: usize,
    /// In characters, counted from 1.
    pub(crate) column: usize,
    /// Which entry of the file, counted from 0.
    pub(crate) index: usize,
}

/// What is wrong with a file or an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) place: Place,
    pub(crate) what: String,
}

impl Expected {
    /// What is expected of a body's seeds.
    pub(crate) fn of(variant: Variant) -> Self {
        match variant {
            Variant::AsReported => Expected::Fails,
            Variant::Shipped => Expected::Passes,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Expected::Fails => "fails",
            Expected::Passes => "passes",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place {
            file, line, column, ..
        } = self;
        write!(f, "{}:{line}:{column}", file.display())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

impl Entry {
    /// The entries of a file's text. One that is wrong does not hide the others; a text that is
    /// no TOML, or has fields of its own, has none.
    pub(crate) fn read_all(file: &Path, text: &str) -> (Vec<Entry>, Vec<Problem>) {
        let at = |span: Range<usize>, index| place(file, text, span.start, index);
        let written: Written = match toml::from_str(text) {
            Ok(written) => written,
            Err(error) => {
                let problem = Problem {
                    place: at(error.span().unwrap_or_default(), 0),
                    what: error.message().trim().replace('\n', ", "),
                };
                return (Vec::new(), vec![problem]);
            }
        };
        let (mut entries, mut problems) = (Vec::new(), Vec::new());
        for (index, written) in written.regression.into_iter().enumerate() {
            match written.check(|span| at(span, index)) {
                Ok(entry) => entries.push(entry),
                Err((span, what)) => problems.push(Problem {
                    place: at(span, index),
                    what,
                }),
            }
        }
        (entries, problems)
    }

    /// Whether the two are of one bug, found by one engine, whatever its bound.
    pub(crate) fn is_same_bug(&self, other: &Entry) -> bool {
        let key = |entry: &Entry| {
            (
                entry.seed.scenario.clone(),
                entry.seed.variant,
                entry.seed.engine.name(),
                entry.seed.signature.clone(),
                entry.fixed_in.clone(),
            )
        };
        key(self) == key(other)
    }
}

type Wrong = (Range<usize>, String);

impl WrittenEntry {
    fn check(self, at: impl Fn(Range<usize>) -> Place) -> Result<Entry, Wrong> {
        let wrong = |field: &Spanned<String>, what: String| Err((field.span(), what));
        for (name, field) in [
            ("name", &self.name),
            ("found_by", &self.found_by),
            ("why", &self.why),
        ] {
            if field.get_ref().trim().is_empty() {
                return wrong(field, format!("{name} is empty"));
            }
        }
        let seed: Seed = match self.seed.get_ref().parse() {
            Ok(seed) => seed,
            Err(error) => return wrong(&self.seed, format!("{error}")),
        };
        if matches!(seed.log, DecisionLog::Workload { .. }) {
            return wrong(&self.seed, NO_SCHEDULE.to_owned());
        }
        let engine = seed.engine.to_string();
        let expect = Expected::of(seed.variant);
        for (name, field, of_seed) in [
            ("engine", &self.engine, &*engine),
            ("signature", &self.signature, &*seed.signature),
            ("expect", &self.expect, expect.word()),
        ] {
            if field.get_ref().as_str() != of_seed {
                let said = field.get_ref();
                let what = match name {
                    "expect" => format!(
                        "expect is '{said}', but the seed is of the {} body: it is '{of_seed}'",
                        seed.variant
                    ),
                    _ => format!("{name} is '{said}', but the seed's is '{of_seed}'"),
                };
                return wrong(field, what);
            }
        }
        match (expect, &self.twin, &self.fixed_in) {
            (Expected::Fails, _, Some(field)) => wrong(
                field,
                "a twin is never fixed: it has its bug for ever; say twin = \"its report\""
                    .to_owned(),
            ),
            (Expected::Passes, Some(field), _) => wrong(
                field,
                "the seed is of the shipped body, and of no twin; say fixed_in, if it is fixed"
                    .to_owned(),
            ),
            (Expected::Fails, None, None) => wrong(
                &self.seed,
                "the seed is of a twin: say twin = \"the report of its bug\"".to_owned(),
            ),
            (Expected::Fails, Some(_), None) | (Expected::Passes, None, _) => Ok(Entry {
                place: at(self.name.span()),
                name: self.name.into_inner(),
                seed,
                expect,
                found_by: self.found_by.into_inner(),
                twin: self.twin.map(Spanned::into_inner),
                fixed_in: self.fixed_in.map(Spanned::into_inner),
                size: self.size,
                why: self.why.into_inner(),
            }),
        }
    }
}

/// Why seeds of real threads are not kept.
pub(crate) const NO_SCHEDULE: &str = "the seed is of real threads, which the machine schedules: it holds a workload and may fail \
     or not, so it cannot be kept; add one of explorer, shuttle, loom or stateright";

fn place(file: &Path, text: &str, offset: usize, index: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Place {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        index,
    }
}

#[cfg(test)]
mod tests {
    use selvedge_sim::{Engine, Schedule};

    use super::*;

    fn seed(variant: Variant) -> Seed {
        Seed {
            scenario: "queue".to_owned(),
            variant,
            engine: Engine::Explorer { preemptions: None },
            revision: "00c0ffee".to_owned(),
            signature: "item-lost".to_owned(),
            trace: Some(7),
            log: DecisionLog::Schedule(Schedule::default()),
        }
    }

    fn text(kind: &str, seed: &Seed) -> String {
        format!(
            "[[regression]]\nname = \"one\"\nengine = \"explorer\"\nsignature = \"item-lost\"\n\
             {kind}\nfound_by = \"me\"\nwhy = \"it was lost\"\nseed = \"{seed}\"\n"
        )
    }

    const TWIN: &str = "expect = \"fails\"\ntwin = \"#1\"";
    const FIXED: &str = "expect = \"passes\"\nfixed_in = \"0.2\"";

    fn read(text: &str) -> Result<Entry, String> {
        let (mut entries, problems) = Entry::read_all(Path::new("queue.toml"), text);
        match (entries.pop(), problems.first()) {
            (Some(entry), None) => Ok(entry),
            (None, Some(problem)) => Err(problem.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_kinds_are_read_with_their_place() {
        let twin = read(&text(TWIN, &seed(Variant::AsReported))).unwrap();
        assert_eq!((twin.expect, twin.place.line), (Expected::Fails, 2));
        assert_eq!(twin.place.to_string(), "queue.toml:2:8");
        let fixed = read(&text(FIXED, &seed(Variant::Shipped))).unwrap();
        assert_eq!(fixed.fixed_in.as_deref(), Some("0.2"));
        assert!(fixed.is_same_bug(&fixed) && !fixed.is_same_bug(&twin));
        let again = Entry {
            fixed_in: Some("0.3".to_owned()),
            ..fixed.clone()
        };
        assert!(
            !again.is_same_bug(&fixed),
            "a bug that came back is another"
        );
        // Open: it is not fixed yet.
        assert!(read(&text("expect = \"passes\"", &seed(Variant::Shipped))).is_ok());
    }

    #[test]
    fn whatever_is_wrong_is_told_with_its_place() {
        let right = text(TWIN, &seed(Variant::AsReported));
        let broken = |from: &str, to: &str| {
            assert!(right.contains(from), "{from}");
            read(&right.replacen(from, to, 1)).unwrap_err()
        };
        let cases = [
            (
                "name = \"one\"",
                "name = \"\"",
                "queue.toml:2:8: name is empty",
            ),
            ("name = \"one\"", "name = one", "queue.toml:2:8: "),
            (
                "found_by",
                "found_buy",
                "queue.toml:7:1: unknown field `found_buy`",
            ),
            ("why = \"it was lost\"\n", "", "missing field `why`"),
            (
                "\"explorer\"",
                "\"loom\"",
                "queue.toml:3:10: engine is 'loom', but the seed's is",
            ),
            (
                "\"item-lost\"",
                "\"lost\"",
                "queue.toml:4:13: signature is 'lost', but the seed's",
            ),
            (
                "\"fails\"",
                "\"passes\"",
                "queue.toml:5:10: expect is 'passes', but the seed is of",
            ),
            (
                "twin = \"#1\"",
                "fixed_in = \"1\"",
                "queue.toml:6:12: a twin is never fixed",
            ),
            ("twin = \"#1\"\n", "", "the seed is of a twin: say twin"),
            (
                "00c0ffee.A",
                "00c0ffee.B",
                "queue.toml:9:8: the seed is damaged",
            ),
            (
                "sv2.queue",
                "sv9.queue",
                "queue.toml:9:8: the seed is of version 'sv9'",
            ),
        ];
        for (from, to, told) in cases {
            let said = broken(from, to);
            assert!(said.contains(told), "{said}\n{told}");
            assert!(
                said.starts_with("queue.toml:") && !said.contains('\n'),
                "{said}"
            );
        }
        let shipped = text(TWIN, &seed(Variant::Shipped)).replace("fails", "passes");
        assert!(read(&shipped).unwrap_err().contains("of no twin"));
    }

    #[test]
    fn real_threads_leave_nothing_to_keep() {
        let native = Seed {
            engine: Engine::Native,
            log: DecisionLog::Workload {
                seed: 1,
                execution: 2,
            },
            ..seed(Variant::AsReported)
        };
        let written = text(TWIN, &native).replace("explorer", "native");
        assert!(read(&written).unwrap_err().contains("may fail or not"));
    }

    #[test]
    fn one_wrong_entry_does_not_hide_the_others() {
        let right = text(TWIN, &seed(Variant::AsReported));
        let wrong = right.replace("\"fails\"", "\"may fail\"");
        let all = format!("{wrong}\n{right}");
        let (entries, problems) = Entry::read_all(Path::new("queue.toml"), &all);
        assert_eq!((entries.len(), problems.len()), (1, 1));
        assert_eq!((entries[0].place.index, problems[0].place.index), (1, 0));
        assert_eq!(entries[0].place.line, 12);
    }
}
