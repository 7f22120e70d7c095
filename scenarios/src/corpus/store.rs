//! The folder of the corpus: which files there are, and how they are changed without touching
//! what others wrote in them.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, Value};

use super::entry::{Entry, Place, Problem};

/// Every file of the folder, as it was when it was read.
#[derive(Debug)]
pub(crate) struct Corpus {
    dir: PathBuf,
    files: Vec<CorpusFile>,
}

#[derive(Debug)]
struct CorpusFile {
    path: PathBuf,
    entries: Vec<Entry>,
    problems: Vec<Problem>,
}

/// One change of a file. Places are those of the file as it was read.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// The entry at this place, of which all but comments and the order of fields is replaced.
    Set(usize, Entry),
    /// A new one, at the end.
    Push(Entry),
    /// The entry at this place goes, with the comments right above it.
    Remove(usize),
}

const TABLES: &str = "regression";

impl Corpus {
    /// Reads every `.toml` file of the folder, in the order of their names.
    ///
    /// # Errors
    /// Why the folder or a file cannot be read, in words. What is wrong inside of a file is one
    /// of the [`Corpus::problems`].
    pub(crate) fn read(dir: &Path) -> Result<Self, String> {
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => format!(
                "there is no corpus at {}: run this in the project's root, or name the folder \
                 with --dir",
                dir.display()
            ),
            _ => format!("cannot read the folder {}: {error}", dir.display()),
        };
        let mut paths = Vec::new();
        for found in fs::read_dir(dir).map_err(unreadable)? {
            let path = found.map_err(unreadable)?.path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        let files = paths.into_iter().map(CorpusFile::read);
        let mut corpus = Corpus {
            dir: dir.to_owned(),
            files: files.collect::<Result<_, _>>()?,
        };
        corpus.tell_names_apart();
        Ok(corpus)
    }

    /// One without files, in a folder that need not be there yet.
    pub(crate) fn empty(dir: &Path) -> Self {
        Corpus {
            dir: dir.to_owned(),
            files: Vec::new(),
        }
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.files.iter().flat_map(|file| &file.entries)
    }

    pub(crate) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.files.iter().flat_map(|file| &file.problems)
    }

    /// The file that has the scenario's entries, or is to have them.
    pub(crate) fn file_for(&self, scenario: &str) -> PathBuf {
        let holds = |file: &&CorpusFile| file.entries.iter().any(|e| e.seed.scenario == scenario);
        let file = self.files.iter().find(holds);
        file.map_or_else(
            || self.dir.join(format!("{scenario}.toml")),
            |file| file.path.clone(),
        )
    }

    fn tell_names_apart(&mut self) {
        let mut seen: BTreeMap<String, Place> = BTreeMap::new();
        for file in &mut self.files {
            let problems = &mut file.problems;
            file.entries.retain(|entry| {
                let first = seen.get(&entry.name);
                if let Some(first) = first {
                    problems.push(Problem {
                        place: entry.place.clone(),
                        what: format!("the name '{}' is that of {first}, too", entry.name),
                    });
                    return false;
                }
                seen.insert(entry.name.clone(), entry.place.clone());
                true
            });
        }
    }
}

impl CorpusFile {
    fn read(path: PathBuf) -> Result<Self, String> {
        let text = fs::read(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let (entries, problems) = match String::from_utf8(text) {
            Ok(text) => Entry::read_all(&path, &text),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let before = &error.as_bytes()[..at];
                let problem = Problem {
                    place: Place {
                        file: path.clone(),
                        line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
                        column: 1,
                        index: 0,
                    },
                    what: "this is no UTF-8, and so no TOML".to_owned(),
                };
                (Vec::new(), vec![problem])
            }
        };
        Ok(CorpusFile {
            path,
            entries,
            problems,
        })
    }
}

/// Changes a file: whole or, if that fails, not at all. A file of which no entry is left goes.
///
/// # Errors
/// What went wrong, in words.
pub(crate) fn change(path: &Path, edits: &[Edit]) -> Result<(), String> {
    let cannot = |error: io::Error| format!("cannot write {}: {error}", path.display());
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let changed = edited(&text, edits).map_err(|what| format!("{}: {what}", path.display()))?;
    let Some(changed) = changed else {
        return fs::remove_file(path).map_err(cannot);
    };
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        // What the user's mask leaves of it, as for any file.
        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(dir)?;
        file.write_all(changed.as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(cannot)
}

/// The text with these changes; `None` where no entry is left.
fn edited(text: &str, edits: &[Edit]) -> Result<Option<String>, String> {
    let mut document: DocumentMut =
        (text.parse()).map_err(|error: toml_edit::TomlError| error.message().to_owned())?;
    let item = (document.as_table_mut().entry(TABLES))
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let tables = item.as_array_of_tables_mut().ok_or_else(|| {
        "its regressions are written as one value; write each as a [[regression]]".to_owned()
    })?;
    let mut pushed = Vec::new();
    let mut removed = Vec::new();
    for edit in edits {
        match edit {
            Edit::Set(index, entry) => {
                let table = (tables.get_mut(*index))
                    .ok_or_else(|| format!("it has no entry {index} any more"))?;
                set(table, entry);
            }
            Edit::Push(entry) => pushed.push(entry),
            Edit::Remove(index) => removed.push(*index),
        }
    }
    // From the end, so that the places of the others stay.
    removed.sort_unstable();
    for &index in removed.iter().rev() {
        remove(tables, index)?;
    }
    let mut first = tables.is_empty();
    for entry in pushed {
        let mut table = Table::new();
        set(&mut table, entry);
        if !first {
            table.decor_mut().set_prefix("\n");
        }
        first = false;
        tables.push(table);
    }
    if tables.is_empty() {
        return Ok(None);
    }
    // In a file that had no entry the comments stand at its end.
    if text
        .parse::<DocumentMut>()
        .is_ok_and(|old| !old.contains_key(TABLES))
    {
        let above = document.trailing().as_str().unwrap_or_default().to_owned();
        document.set_trailing("");
        if let Some(first) = (document[TABLES].as_array_of_tables_mut()).and_then(|t| t.get_mut(0))
            && !above.trim().is_empty()
        {
            first
                .decor_mut()
                .set_prefix(format!("{}\n\n", above.trim_end()));
        }
    }
    Ok(Some(document.to_string()))
}

/// Writes the entry's fields; those that are right already stay as they are written.
fn set(table: &mut Table, entry: &Entry) {
    let seed = &entry.seed;
    let fields = [
        ("name", Some(entry.name.clone())),
        ("engine", Some(seed.engine.to_string())),
        ("signature", Some(seed.signature.clone())),
        ("expect", Some(entry.expect.word().to_owned())),
        ("found_by", Some(entry.found_by.clone())),
        ("twin", entry.twin.clone()),
        ("fixed_in", entry.fixed_in.clone()),
        ("size", entry.size.clone()),
        ("why", Some(entry.why.clone())),
        ("seed", Some(seed.to_string())),
    ];
    for (key, wanted) in fields {
        let Some(wanted) = wanted else {
            table.remove(key);
            continue;
        };
        if table.get(key).and_then(Item::as_str) == Some(&*wanted) {
            continue;
        }
        let mut value = Value::from(wanted);
        if let Some(old) = table.get(key).and_then(Item::as_value) {
            // The comment behind it.
            *value.decor_mut() = old.decor().clone();
        }
        table.insert(key, Item::Value(value));
    }
}

/// Removes an entry. What stands above the first one, and apart from it, is the file's.
fn remove(tables: &mut ArrayOfTables, index: usize) -> Result<(), String> {
    let gone = (tables.get(index)).ok_or_else(|| format!("it has no entry {index} any more"))?;
    let above = gone.decor().prefix().and_then(|raw| raw.as_str());
    let above = above.unwrap_or_default().to_owned();
    tables.remove(index);
    if let (0, Some((head, _)), Some(next)) = (index, above.rsplit_once("\n\n"), tables.get_mut(0))
    {
        let own = next.decor().prefix().and_then(|raw| raw.as_str());
        let own = own.unwrap_or_default().trim_start_matches('\n').to_owned();
        next.decor_mut().set_prefix(format!("{head}\n\n{own}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use selvedge_sim::{DecisionLog, Engine, Seed, Variant};

    use super::super::entry::Expected;
    use super::*;

    fn entry(name: &str) -> Entry {
        Entry {
            name: name.to_owned(),
            seed: Seed {
                scenario: "queue".to_owned(),
                variant: Variant::AsReported,
                engine: Engine::Stateright,
                revision: "00c0ffee".to_owned(),
                signature: "item-lost".to_owned(),
                trace: None,
                log: DecisionLog::Path {
                    actions: vec![0, 1],
                    shortest: true,
                },
            },
            expect: Expected::Fails,
            found_by: "me".to_owned(),
            twin: Some("#1".to_owned()),
            fixed_in: None,
            size: None,
            why: "an item was lost,\nbecause nobody looked\nafter \"it\"".to_owned(),
            place: Place::default(),
        }
    }

    fn read(text: &str) -> Vec<Entry> {
        let (entries, problems) = Entry::read_all(Path::new("queue.toml"), text);
        assert_eq!(problems, []);
        let strip = |entry: Entry| Entry {
            place: Place::default(),
            ..entry
        };
        entries.into_iter().map(strip).collect()
    }

    fn change(text: &str, edits: &[Edit]) -> String {
        edited(text, edits).unwrap().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back_in_its_order() {
        let names = ["c", "a", "b"];
        let mut text = String::new();
        for name in names {
            text = change(&text, &[Edit::Push(entry(name))]);
        }
        assert_eq!(read(&text), names.map(entry));
        assert!(text.starts_with("[[regression]]\nname = \"c\"\n"), "{text}");
        assert!(
            text.contains("\"\n\n[[regression]]\nname = \"a\"\n"),
            "{text}"
        );
        // Three lines of why stand in three lines.
        assert!(text.contains("\nbecause nobody looked\n"), "{text}");
    }

    const COMMENTED: &str = "# Of the file.\n\n# Of a.\n";

    fn three() -> String {
        let three = change("", &["a", "b", "c"].map(|name| Edit::Push(entry(name))));
        let b = "\n# Of b.\n[[regression]]\nname = \"b\" # its name\n";
        let three = three.replace("\n[[regression]]\nname = \"b\"\n", b);
        format!("{COMMENTED}{three}# The end.\n")
    }

    #[test]
    fn a_change_leaves_the_comments_and_the_words_of_others() {
        let text = three();
        let mut other = entry("b");
        other.seed.signature = "item-doubled".to_owned();
        other.name = "b-again".to_owned();
        let changed = change(&text, &[Edit::Set(1, other.clone())]);
        assert_eq!(read(&changed), [entry("a"), other, entry("c")]);
        for kept in [
            COMMENTED,
            "# Of b.\n",
            "\"b-again\" # its name\n",
            "# The end.\n",
        ] {
            assert!(changed.contains(kept), "{kept}: {changed}");
        }
        // To set what is there already changes not a byte.
        assert_eq!(change(&text, &[Edit::Set(1, entry("b"))]), text);
    }

    #[test]
    fn an_entry_goes_with_its_own_comments_only() {
        let text = three();
        let without_b = change(&text, &[Edit::Remove(1)]);
        assert_eq!(read(&without_b), [entry("a"), entry("c")]);
        assert!(!without_b.contains("Of b") && without_b.contains("# The end."));
        let without_a = change(&text, &[Edit::Remove(0)]);
        assert_eq!(read(&without_a), [entry("b"), entry("c")]);
        assert!(
            without_a.starts_with("# Of the file.\n\n# Of b.\n[[reg"),
            "{without_a}"
        );
        // In whatever order they are told.
        let only_c = change(&text, &[Edit::Remove(0), Edit::Remove(1)]);
        assert_eq!(read(&only_c), [entry("c")]);
        assert_eq!(edited(&only_c, &[Edit::Remove(0)]), Ok(None));
        assert!(edited(&only_c, &[Edit::Remove(7)]).is_err());
    }

    #[test]
    fn comments_of_a_file_without_entries_stay_above() {
        let text = change("# Why there is this file.\n", &[Edit::Push(entry("a"))]);
        assert!(
            text.starts_with("# Why there is this file.\n\n[[regression]]"),
            "{text}"
        );
        assert_eq!(read(&text), [entry("a")]);
        assert!(edited("regression = []\nx = 1\n", &[Edit::Push(entry("a"))]).is_err());
    }

    #[test]
    fn a_name_is_one_entrys() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["one.toml", "two.toml"] {
            super::change(&dir.path().join(file), &[Edit::Push(entry("a"))]).unwrap();
        }
        fs::write(dir.path().join("notes.txt"), "not ours").unwrap();
        let corpus = Corpus::read(dir.path()).unwrap();
        assert_eq!(corpus.entries().count(), 1);
        let problem = corpus.problems().next().unwrap().to_string();
        assert!(
            problem.contains("two.toml:2:8: the name 'a' is that of"),
            "{problem}"
        );
        assert_eq!(corpus.file_for("queue"), dir.path().join("one.toml"));
        assert_eq!(corpus.file_for("other"), dir.path().join("other.toml"));
        // The last entry takes the file with it.
        super::change(&dir.path().join("one.toml"), &[Edit::Remove(0)]).unwrap();
        assert!(!dir.path().join("one.toml").exists());
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let gone = Corpus::read(&dir.path().join("gone")).unwrap_err();
        assert!(gone.starts_with("there is no corpus at "), "{gone}");
        fs::write(dir.path().join("a.toml"), b"name = \"\n\xff\"").unwrap();
        let corpus = Corpus::read(dir.path()).unwrap();
        let problem = corpus.problems().next().unwrap().to_string();
        assert!(
            problem.contains("a.toml:2:1: this is no UTF-8"),
            "{problem}"
        );
        fs::create_dir(dir.path().join("b.toml")).unwrap();
        assert!(
            Corpus::read(dir.path())
                .unwrap_err()
                .starts_with("cannot read ")
        );
    }
}
