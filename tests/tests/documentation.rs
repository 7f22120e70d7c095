//! The simulator's documentation, as far as no lint checks it: every public item has an example
//! that runs as a test, and says what its errors are.
#![cfg(not(loom_run))]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A public item, as it stands in the source.
#[derive(Debug)]
struct Item {
    file: PathBuf,
    line: usize,
    /// `fn`, `struct`, ...
    kind: String,
    name: String,
    /// The type that it is a method of.
    of: Option<String>,
    docs: String,
    /// From `pub` to the opening brace.
    signature: String,
}

impl Item {
    fn has_example(&self) -> bool {
        let mut inside = false;
        for line in self.docs.lines().map(str::trim) {
            let Some(info) = line.strip_prefix("```") else {
                continue;
            };
            if !inside && matches!(info, "" | "rust" | "no_run" | "should_panic") {
                return true;
            }
            inside = !inside;
        }
        false
    }

    fn place(&self) -> String {
        format!(
            "{}:{}: {} {}",
            self.file.display(),
            self.line,
            self.kind,
            self.name
        )
    }
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of ours") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The public items of one file. Everything `pub` can be reached: the lint `unreachable_pub`,
/// which CI denies, sees to that.
fn items(file: &Path, text: &str) -> Vec<Item> {
    let shipped = text
        .split("\n#[cfg(test)]\nmod ")
        .next()
        .unwrap_or_default();
    let lines: Vec<&str> = shipped.lines().collect();
    let mut found = Vec::new();
    let mut of = None;
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with("impl") {
            of = type_of_impl(line);
        } else if *line == "}" {
            of = None;
        }
        let words = line.trim_start();
        let (kind, name) = match words.strip_prefix("pub ") {
            Some(rest) => {
                let rest = rest.strip_prefix("const fn ").map_or(rest, |_| &rest[6..]);
                let Some((kind, rest)) = rest.split_once(' ') else {
                    continue;
                };
                (kind, rest)
            }
            None => match words.strip_prefix("macro_rules! ") {
                Some(rest) if at > 0 && lines[at - 1] == "#[macro_export]" => ("macro", rest),
                _ => continue,
            },
        };
        let kinds = [
            "fn", "struct", "enum", "trait", "macro", "const", "static", "type", "mod",
        ];
        if !kinds.contains(&kind) {
            continue;
        }
        let name: String = (name.chars())
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let docs = match (kind, words.ends_with(';')) {
            ("mod", true) => docs_of_module(file, &name),
            _ => docs_above(&lines[..at]),
        };
        let signature: Vec<&str> = (lines[at..].iter().copied())
            .scan(false, |over, line| {
                let last = *over;
                *over = line.ends_with('{') || line.ends_with(';');
                (!last).then_some(line)
            })
            .collect();
        found.push(Item {
            file: file.to_owned(),
            line: at + 1,
            kind: kind.to_owned(),
            name,
            of: of.clone().filter(|_| line.starts_with(' ')),
            docs,
            signature: signature.join(" "),
        });
    }
    found
}

/// `Trace` of `impl Trace {`, `impl<T> Held<T> {`; none where it is a trait's.
fn type_of_impl(line: &str) -> Option<String> {
    let line = line.strip_prefix("impl")?;
    if line.contains(" for ") {
        return None;
    }
    let rest = match line.strip_prefix('<') {
        // Bounds hold no `> ` of their own in this code.
        Some(generic) => generic.split_once("> ")?.1,
        None => line.trim_start(),
    };
    Some(rest.chars().take_while(|c| c.is_alphanumeric()).collect())
}

/// The doc comment that ends where these lines do, with attributes after it or in between.
fn docs_above(lines: &[&str]) -> String {
    let mut docs = Vec::new();
    let mut in_attribute = false;
    for line in lines.iter().rev().map(|line| line.trim_start()) {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc);
        } else if line.starts_with("#[") {
            in_attribute = false;
        } else if line == ")]" || line == "]" || in_attribute {
            in_attribute = true;
        } else {
            break;
        }
    }
    docs.reverse();
    docs.join("\n")
}

fn docs_of_module(file: &Path, name: &str) -> String {
    let beside = match file.file_name().is_some_and(|name| name == "lib.rs") {
        true => file.with_file_name(format!("{name}.rs")),
        false => file.with_extension("").join(format!("{name}.rs")),
    };
    let text = fs::read_to_string(beside).expect("a module has a file");
    let docs = text.lines().map_while(|line| line.strip_prefix("//!"));
    docs.collect::<Vec<_>>().join("\n")
}

fn all() -> Vec<Item> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/src");
    let mut files = Vec::new();
    sources(&dir, &mut files);
    let found: Vec<Item> = (files.iter())
        .flat_map(|file| {
            let text = fs::read_to_string(file).expect("source is UTF-8");
            let short = file.strip_prefix(&dir).expect("it is below").to_owned();
            items(file, &text).into_iter().map(move |item| Item {
                file: short.clone(),
                ..item
            })
        })
        .collect();
    assert!(
        found.len() > 150,
        "only {} items: does it still read them?",
        found.len()
    );
    found
}

#[test]
fn every_public_item_of_the_simulator_has_an_example() {
    let all = all();
    let shown: BTreeSet<&str> = (all.iter())
        .filter(|item| item.of.is_none() && item.has_example())
        .map(|item| item.name.as_str())
        .collect();
    let without: Vec<String> = (all.iter())
        .filter(|item| {
            let by_its_type = item.of.as_deref().is_some_and(|of| shown.contains(of));
            item.docs.trim().is_empty() || !(item.has_example() || by_its_type)
        })
        .map(Item::place)
        .collect();
    assert!(
        without.is_empty(),
        "without an example:\n{}",
        without.join("\n")
    );
}

#[test]
fn every_public_function_of_the_simulator_that_may_fail_says_how() {
    let silent: Vec<String> = (all().iter())
        .filter(|item| item.kind == "fn")
        .filter(|item| {
            let returned = item.signature.rsplit_once("->").map_or("", |(_, it)| it);
            returned.contains("Result<") && !item.docs.contains("# Errors")
        })
        .map(Item::place)
        .collect();
    assert!(silent.is_empty(), "no `# Errors`:\n{}", silent.join("\n"));
}

#[test]
fn items_are_read_as_they_stand() {
    let text = "\
/// Text only.
///
/// ```text
/// no example
/// ```
#[derive(
    Clone,
)]
pub struct Pair<T>(T);

impl<T> Pair<T> {
    /// ```
    /// assert!(true);
    /// ```
    #[must_use]
    pub const fn first(
        &self,
    ) -> Result<T, ()> {
    }
}

pub(crate) fn hidden() {}
    pub field: u32,
pub use other::Thing;

#[cfg(test)]
mod tests {
    pub fn helper() {}
}
";
    let found = items(Path::new("pair.rs"), text);
    let names: Vec<_> = (found.iter())
        .map(|item| (item.kind.as_str(), item.name.as_str(), item.of.as_deref()))
        .collect();
    assert_eq!(
        names,
        [("struct", "Pair", None), ("fn", "first", Some("Pair"))]
    );
    assert!(!found[0].has_example() && found[0].docs.contains("Text only."));
    assert!(found[1].has_example());
    assert!(found[1].signature.contains("Result<T, ()>"));
}
