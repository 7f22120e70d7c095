//! Fits words into columns of a terminal: what is escaped, how wide it is, where it breaks.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

/// What stands for words that had to go.
const CUT: &str = "...";

/// The same words with nothing in them that could move a cursor, turn the direction of writing
/// or take no room: all of that is escaped as Rust would, so that each character left takes one
/// or two columns.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' | '"' | '\\' => out.push(c),
            c if c.width().is_none_or(|width| width == 0) => {
                let _ = match c {
                    '\n' | '\r' | '\t' => write!(out, "{}", c.escape_debug()),
                    c => write!(out, "{}", c.escape_unicode()),
                };
            }
            c => out.extend(c.escape_debug()),
        }
    }
    out
}

/// Columns that cleaned words take.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// As much of the beginning as fits, and a sign that something is missing.
pub(super) fn clip(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let sign = &CUT[..CUT.len().min(width)];
    let mut out = head(text, width - sign.len()).to_owned();
    out.push_str(sign);
    out
}

/// As much of the end as fits.
pub(super) fn clip_left(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let sign = &CUT[..CUT.len().min(width)];
    let mut room = width - sign.len();
    let mut from = text.len();
    for (at, c) in text.char_indices().rev() {
        let Some(left) = room.checked_sub(c.width().unwrap_or(0)) else {
            break;
        };
        (room, from) = (left, at);
    }
    format!("{sign}{}", &text[from..])
}

/// `.../pool/state.rs:88` of a longer path: whole folders go, the file's name last.
pub(super) fn clip_path(text: &str, width: usize) -> String {
    let mut rest = text;
    let mut shown = text.to_owned();
    while columns(&shown) > width {
        let Some((_, tail)) = rest.split_once(['/', '\\']) else {
            return clip_left(rest, width);
        };
        rest = tail;
        shown = match tail.contains(['/', '\\']) {
            true => format!(".../{tail}"),
            false => tail.to_owned(),
        };
    }
    shown
}

/// Filled up with blanks.
pub(super) fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(columns(text));
    format!("{text}{}", " ".repeat(missing))
}

/// Broken into lines, between words where that can be. `width` is at least 2, as one character
/// may need that.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(2);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let gap = usize::from(!line.is_empty());
        if columns(&line) + gap + columns(word) <= width {
            line.push_str(&" ".repeat(gap));
            line.push_str(word);
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        let mut rest = word;
        while columns(rest) > width {
            let (part, tail) = rest.split_at(head(rest, width).len());
            lines.push(part.to_owned());
            rest = tail;
        }
        line = rest.to_owned();
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// The longest beginning that fits.
fn head(text: &str, width: usize) -> &str {
    let mut room = width;
    for (at, c) in text.char_indices() {
        match room.checked_sub(c.width().unwrap_or(0)) {
            Some(left) => room = left,
            None => return &text[..at],
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_is_escaped() {
        assert_eq!(clean("a\u{1b}[31m\n\t\"'\\é"), r#"a\u{1b}[31m\n\t"'\é"#);
        assert_eq!(
            clean("\u{202e}x\u{200b}\u{fe0f}"),
            r"\u{202e}x\u{200b}\u{fe0f}"
        );
        // Shown by no terminal on its own, printable all the same.
        assert_eq!(clean("\u{1160}"), r"\u{1160}");
        assert_eq!(columns("漢字"), 4);
    }

    #[test]
    fn words_fit_whatever_the_width() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("漢字漢", 3), ["漢", "字", "漢"]);
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(clip("abcdef", 5), "ab...");
        assert_eq!(clip("漢字漢字", 6), "漢...");
        assert_eq!(clip_left("abcdef", 5), "...ef");
        assert_eq!(clip("abc", 0), "");
    }

    #[test]
    fn paths_lose_their_first_folders_first() {
        let path = "core/src/pool/state.rs:88";
        assert_eq!(clip_path(path, 25), path);
        assert_eq!(clip_path(path, 24), ".../src/pool/state.rs:88");
        assert_eq!(clip_path(path, 20), ".../pool/state.rs:88");
        assert_eq!(clip_path(path, 19), "state.rs:88");
        assert_eq!(clip_path(path, 8), "...rs:88");
    }
}
