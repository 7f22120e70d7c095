//! One event of a trace, and how it is written.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use crate::time::Instant;

/// Text of an event that is longer than so many bytes is cut: the queue is bounded by its events,
/// so an event must be bounded, too.
pub const MOST_TEXT: usize = 8 << 10;
/// All arguments of an event have so much room, as they are written; those that find none are left
/// out.
pub const MOST_ARGS: usize = 32 << 10;

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// Something that took a while (`"ph":"X"`).
    Complete {
        /// How long, in nanoseconds.
        took_ns: u64,
    },
    /// Something that happened (`"ph":"i"`).
    Instant,
    /// Numbers that changed (`"ph":"C"`).
    Counter,
    /// Something said about the process or a thread (`"ph":"M"`).
    Metadata,
}

/// One event.
///
/// ```
/// use selvedge_core::time::Instant;
/// use selvedge_core::train::profiler::{Args, EventKind, TraceEvent};
///
/// let event = TraceEvent {
///     name: "forward".into(),
///     category: "train".into(),
///     at: Instant::from_nanos(1_500),
///     kind: EventKind::Complete { took_ns: 2_000_007 },
///     tid: 4,
///     args: Args::new().with("batch", 7_u64).with("of", "\"x\""),
/// };
/// assert_eq!(
///     event.to_json(99),
///     r#"{"name":"forward","cat":"train","ph":"X","ts":1.500,"dur":2000.007,"pid":99,"tid":4,"args":{"batch":7,"of":"\"x\""}}"#
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceEvent {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its category: of a span, the module it stands in.
    pub category: Cow<'static, str>,
    /// When it began.
    pub at: Instant,
    /// What it is.
    pub kind: EventKind,
    /// The thread it was on.
    pub tid: u32,
    /// What else is known of it.
    pub args: Args,
}

impl TraceEvent {
    /// Something that happens at `at`, on this thread.
    #[must_use]
    pub fn instant(name: impl Into<Cow<'static, str>>, at: Instant, args: Args) -> Self {
        TraceEvent {
            name: name.into(),
            category: Cow::Borrowed(""),
            at,
            kind: EventKind::Instant,
            tid: super::thread_number(),
            args,
        }
    }

    /// It with no text in memory that would be cut when it is written.
    #[must_use]
    pub(super) fn cut(mut self) -> Self {
        for text in [&mut self.name, &mut self.category] {
            if let Cow::Owned(long) = text
                && long.capacity() > MOST_TEXT + Cut::MARK
            {
                *long = Cut::of(long);
            }
        }
        self
    }

    /// About the bytes that it takes, waiting or written.
    pub(super) fn size(&self) -> usize {
        let text = |text: &str| text.len().min(MOST_TEXT);
        // Numbers, keys and punctuation.
        128 + text(&self.name) + text(&self.category) + self.args.0.len()
    }

    /// Appends it as a JSON object on one line.
    pub fn write_json(&self, pid: u32, out: &mut String) {
        out.push_str("{\"name\":");
        write_text(&self.name, out);
        if !self.category.is_empty() {
            out.push_str(",\"cat\":");
            write_text(&self.category, out);
        }
        let at = self.at.as_nanos();
        let ph = match self.kind {
            EventKind::Complete { .. } => 'X',
            EventKind::Instant => 'i',
            EventKind::Counter => 'C',
            EventKind::Metadata => 'M',
        };
        // Writing to a string cannot fail.
        let _ = write!(out, ",\"ph\":\"{ph}\",\"ts\":{}", Micros(at));
        match self.kind {
            EventKind::Complete { took_ns } => {
                let _ = write!(out, ",\"dur\":{}", Micros(took_ns));
            }
            // Of the thread, not of all: Perfetto draws it on the thread's track.
            EventKind::Instant => out.push_str(",\"s\":\"t\""),
            EventKind::Counter | EventKind::Metadata => {}
        }
        let _ = write!(out, ",\"pid\":{pid},\"tid\":{}", self.tid);
        if !self.args.0.is_empty() {
            let _ = write!(out, ",\"args\":{{{}}}", self.args.0);
        }
        out.push('}');
    }

    /// It as a JSON object on one line.
    #[must_use]
    pub fn to_json(&self, pid: u32) -> String {
        let mut out = String::new();
        self.write_json(pid, &mut out);
        out
    }
}

/// Named values of an event, as they will be written. Of two by one name the last is kept.
///
/// ```
/// use selvedge_core::train::profiler::Args;
///
/// let args = Args::new().with("loss", f64::NAN).with("step", 3_u64).with("done", false);
/// // JSON has no such number.
/// assert_eq!(args.as_json_members(), r#""loss":"NaN","step":3,"done":false"#);
/// assert_eq!(args.with("step", 4_u64).as_json_members(), r#""loss":"NaN","done":false,"step":4"#);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Args(String);

impl Args {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Args(String::new())
    }

    /// These and one more.
    #[must_use]
    pub fn with<'a>(mut self, name: &str, value: impl Into<ArgValue<'a>>) -> Self {
        self.add(name, value);
        self
    }

    /// Adds one; it takes the place of one of that name.
    pub fn add<'a>(&mut self, name: &str, value: impl Into<ArgValue<'a>>) {
        let before = self.0.len();
        if before > 0 {
            self.0.push(',');
        }
        let begins = self.0.len();
        write_text(name, &mut self.0);
        self.0.push(':');
        let key = begins..self.0.len();
        // Writing to a string cannot fail.
        let _ = match value.into() {
            ArgValue::Text(text) => {
                write_text(text, &mut self.0);
                Ok(())
            }
            ArgValue::Unsigned(n) => write!(self.0, "{n}"),
            ArgValue::Signed(n) => write!(self.0, "{n}"),
            // `{:?}` of a float has what JSON needs: a point or an exponent.
            ArgValue::Float(x) if x.is_finite() => write!(self.0, "{x:?}"),
            ArgValue::Float(x) => write!(self.0, "\"{x}\""),
            ArgValue::Flag(flag) => write!(self.0, "{flag}"),
        };
        self.settle(before, key);
    }

    /// Adds all of another's.
    pub(super) fn add_all(&mut self, others: &Args) {
        for member in members(&others.0) {
            let before = self.0.len();
            if before > 0 {
                self.0.push(',');
            }
            let begins = self.0.len();
            self.0.push_str(member);
            self.settle(before, begins..begins + key_of(member));
        }
    }

    /// What follows `before`, a member with this key, was added: takes out the one whose place it
    /// takes, or it, if it finds no room.
    fn settle(&mut self, before: usize, key: Range<usize>) {
        let (older, added) = self.0.split_at(before);
        let key = &added[key.start - before..key.end - before];
        // A quote within a text is never the first of it, nor after a comma: it has a backslash.
        let mut same = older.match_indices(key).map(|(at, _)| at);
        let same = same.find(|at| *at == 0 || older.as_bytes()[at - 1] == b',');
        let mut before = before;
        if let Some(at) = same {
            let old = members(&older[at..]).next().map_or(0, str::len);
            // With the comma after it.
            self.0.drain(at..=at + old);
            // Where it was the only one, the comma was the added one's.
            before = before.saturating_sub(old + 1);
        }
        if self.0.len() > MOST_ARGS {
            self.0.truncate(before);
        }
    }

    /// The inside of a JSON object.
    #[must_use]
    pub fn as_json_members(&self) -> &str {
        &self.0
    }
}

/// The members of a flat JSON object, of its inside.
fn members(inside: &str) -> impl Iterator<Item = &str> {
    let (mut in_text, mut escaped) = (false, false);
    let members = inside.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_text = !in_text,
            ',' => return !in_text,
            _ => {}
        }
        false
    });
    members.filter(|member| !member.is_empty())
}

/// Where a member's value begins.
fn key_of(member: &str) -> usize {
    let mut escaped = false;
    let end = member.char_indices().skip(1).find(|(_, c)| match c {
        _ if escaped => {
            escaped = false;
            false
        }
        '\\' => {
            escaped = true;
            false
        }
        c => *c == '"',
    });
    // The quote, and the colon.
    end.map_or(member.len(), |(at, _)| at + 2)
}

/// Text that is cut off where no more of it would be written. It takes no harm and tells of none:
/// not everybody's `Debug` would bear an error.
#[derive(Default)]
pub(super) struct Cut(String);

impl Cut {
    /// So much more than is written is kept, to tell that it was cut: a character.
    const MARK: usize = 4;

    /// So much of a text as will be written.
    pub(super) fn of(text: &str) -> String {
        let mut cut = Cut::default();
        // It never fails.
        let _ = cut.write_str(text);
        cut.0
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

impl core::fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = MOST_TEXT + Cut::MARK - self.0.len();
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        Ok(())
    }
}

/// A value of an argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ArgValue<'a> {
    /// Text.
    Text(&'a str),
    /// A whole number.
    Unsigned(u64),
    /// A whole number.
    Signed(i64),
    /// A number; those that are not finite become text.
    Float(f64),
    /// True or false.
    Flag(bool),
}

impl<'a> From<&'a str> for ArgValue<'a> {
    fn from(text: &'a str) -> Self {
        ArgValue::Text(text)
    }
}

impl<'a> From<&'a String> for ArgValue<'a> {
    fn from(text: &'a String) -> Self {
        ArgValue::Text(text)
    }
}

impl From<u64> for ArgValue<'_> {
    fn from(n: u64) -> Self {
        ArgValue::Unsigned(n)
    }
}

impl From<u32> for ArgValue<'_> {
    fn from(n: u32) -> Self {
        ArgValue::Unsigned(n.into())
    }
}

impl From<i64> for ArgValue<'_> {
    fn from(n: i64) -> Self {
        ArgValue::Signed(n)
    }
}

impl From<f64> for ArgValue<'_> {
    fn from(x: f64) -> Self {
        ArgValue::Float(x)
    }
}

impl From<bool> for ArgValue<'_> {
    fn from(flag: bool) -> Self {
        ArgValue::Flag(flag)
    }
}

/// Nanoseconds, written as microseconds with all their digits: a float would lose some.
struct Micros(u64);

impl core::fmt::Display for Micros {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

/// Appends text as a JSON string.
fn write_text(text: &str, out: &mut String) {
    let cut = match text.len() > MOST_TEXT {
        true => text.floor_char_boundary(MOST_TEXT),
        false => text.len(),
    };
    out.push('"');
    for c in text[..cut].chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    if cut < text.len() {
        out.push('…');
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_json() {
        let hard: String = (0..0x300).filter_map(char::from_u32).collect();
        for text in [&hard, "", "\u{10ffff}", "line\nline\r\0", "\\u0041\\"] {
            let mut out = String::new();
            write_text(text, &mut out);
            let back: String = serde_json::from_str(&out).unwrap();
            assert_eq!(back, *text);
        }
    }

    #[test]
    fn an_event_is_bounded() {
        let long = "ä".repeat(MOST_TEXT);
        let args = (0..1_000).fold(Args::new(), |args, _| args.with(&long, &long));
        let event = TraceEvent::instant(long, Instant::ZERO, args);
        let json = event.to_json(1);
        assert!(json.len() < MOST_ARGS + 2 * MOST_TEXT, "{}", json.len());
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
        // A character that takes six bytes as it is written.
        let escaped = Args::new().with("a", &"\0".repeat(MOST_TEXT));
        assert_eq!(escaped.as_json_members(), "", "it found no room");
    }

    #[test]
    fn what_waits_is_cut_as_it_would_be_written() {
        for unit in ["a", "ä", "€", "😀"] {
            for units in (MOST_TEXT / unit.len() - 3)..(MOST_TEXT / unit.len() + 4) {
                let event = TraceEvent::instant(unit.repeat(units), Instant::ZERO, Args::new());
                let cut = event.clone().cut();
                assert_eq!(cut.to_json(1), event.to_json(1));
            }
            let event = TraceEvent::instant(unit.repeat(1 << 20), Instant::ZERO, Args::new());
            let cut = event.clone().cut();
            assert!(matches!(&cut.name, Cow::Owned(name) if name.capacity() < 2 * MOST_TEXT));
            assert_eq!(cut.to_json(1), event.to_json(1));
        }
    }

    #[test]
    fn of_two_arguments_by_one_name_the_last_is_kept() {
        let names = ["a", "", "z\"a", "a\\", ",", ",\"a", "\":", "ab"];
        let texts = ["", "\"a\":", ",\"a\":1", "\\", "\\\",", "ä,"];
        let mut args = Args::new();
        let mut expected = serde_json::Map::new();
        for round in 0..3 {
            for (at, name) in names.iter().enumerate() {
                let text = texts[(at + round) % texts.len()];
                args.add(name, text);
                expected.insert((*name).to_owned(), text.into());
                let json = format!("{{{}}}", args.as_json_members());
                let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
                assert_eq!(parsed, serde_json::Value::Object(expected.clone()));
                assert_eq!(members(&args.0).count(), expected.len(), "{json}");
            }
        }
        let mut other = Args::new().with("ab", 1_u64).with("new", true);
        other.add_all(&args);
        assert_eq!(members(&other.0).count(), expected.len() + 1);
        other.add_all(&args);
        assert_eq!(members(&other.0).count(), expected.len() + 1);
        assert_eq!(other.clone().with("new", false).0.len(), other.0.len() + 1);
    }

    #[test]
    fn times_keep_their_digits() {
        let told = |nanos| Micros(nanos).to_string();
        assert_eq!(told(0), "0.000");
        assert_eq!(told(999), "0.999");
        assert_eq!(told(u64::MAX), "18446744073709551.615");
    }
}
