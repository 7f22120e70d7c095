//! Lines of source for the page.
//!
//! A trace names files, and the page is made to be passed on: so only files below the folder
//! where the command runs, or below a package or workspace around it, are ever read.

use std::fs;
use std::path::{Component, Path};

use crate::trace::Site;

/// No source file is longer than this; something that is, is none.
const MAX_BYTES: u64 = 4 << 20;

/// The text of a line of source, without its end. The file is looked for in the current folder,
/// then in each folder above it that has a `Cargo.toml`. `None` where there is no such file or
/// no such line, and where the path is absolute or leads out of the folder.
///
/// ```
/// use selvedge_sim::timeline::source_line;
/// use selvedge_sim::trace::Site;
///
/// let site = Site { file: "src/lib.rs".to_owned(), line: 1 };
/// assert!(source_line(&site).is_some_and(|line| line.starts_with("//!")));
/// assert_eq!(source_line(&Site { file: "/etc/hostname".to_owned(), ..site }), None);
/// ```
#[must_use]
pub fn source_line(site: &Site) -> Option<String> {
    let here = std::env::current_dir().ok()?;
    line_below(&here, site)
}

fn line_below(here: &Path, site: &Site) -> Option<String> {
    let file = Path::new(&site.file);
    let stays = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if site.file.is_empty() || site.line == 0 || !file.components().all(stays) {
        return None;
    }
    let text = (here.ancestors().enumerate())
        .filter(|(up, base)| *up == 0 || base.join("Cargo.toml").is_file())
        .find_map(|(_, base)| read_below(base, file))?;
    let line = text.lines().nth(site.line as usize - 1)?;
    Some(line.to_owned())
}

/// A file's text, unless a link leads out of `base`.
fn read_below(base: &Path, file: &Path) -> Option<String> {
    let path = base.join(file).canonicalize().ok()?;
    let inside = path.starts_with(base.canonicalize().ok()?);
    let about = fs::metadata(&path).ok()?;
    if !inside || !about.is_file() || about.len() > MAX_BYTES {
        return None;
    }
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(file: &str, line: u32) -> Site {
        Site {
            file: file.to_owned(),
            line,
        }
    }

    #[test]
    fn lines_come_from_the_folder_and_the_packages_around_it() {
        let top = tempfile::tempdir().unwrap();
        let package = top.path().join("package");
        let deep = package.join("deep");
        fs::create_dir_all(package.join("src")).unwrap();
        fs::create_dir(&deep).unwrap();
        fs::write(package.join("Cargo.toml"), "").unwrap();
        fs::write(package.join("src/lib.rs"), "one\ntwo\n").unwrap();
        fs::write(top.path().join("secret"), "not ours\n").unwrap();
        let line = |file: &str, line| line_below(&deep, &site(file, line));
        assert_eq!(line("src/lib.rs", 2).as_deref(), Some("two"));
        assert_eq!(line("src/lib.rs", 3), None);
        assert_eq!(line("src/lib.rs", 0), None);
        assert_eq!(line("src/none.rs", 1), None);
        assert_eq!(line("src", 1), None, "a folder");
        assert_eq!(line("secret", 1), None, "no package of ours holds it");
        assert_eq!(line("../../secret", 1), None);
        let absolute = top.path().join("secret");
        assert_eq!(line(&absolute.to_string_lossy(), 1), None);
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&absolute, package.join("src/link.rs")).unwrap();
            assert_eq!(line("src/link.rs", 1), None, "a link that leads out");
        }
    }

    #[test]
    fn this_file_is_found() {
        let here = line!();
        let found = source_line(&site(file!(), here));
        assert_eq!(found.as_deref(), Some("        let here = line!();"));
    }
}
