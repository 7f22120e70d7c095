//! An execution, drawn: as a table in plain text, as a page for a browser, as a file for
//! trace viewers.
//!
//! Each drawing is a pure function of a [`Trace`], so a failure looks the same on any machine and
//! under any engine. What they have in common, from names to who waited for whom, is worked out
//! once in `scene`; a drawing only lays it out. A trace may come from a file, so nothing in it
//! is trusted: places that lead nowhere are drawn as `?`, and control characters are escaped.
//!
//! ```
//! use selvedge_sim::timeline::{self, TextOptions};
//! use selvedge_sim::trace::Trace;
//!
//! let trace = Trace::default();
//! let table = timeline::text(&trace, "an empty execution", TextOptions::default());
//! assert!(table.lines().all(|line| line.chars().count() <= 100));
//! let page = timeline::html(&trace, "an empty execution", &timeline::source_line);
//! assert!(page.starts_with("<!doctype html>"));
//! ```

mod html;
mod perfetto;
mod scene;
mod shape;
mod source;
mod spans;
mod text;
mod words;

use self::scene::Scene;
use crate::trace::{Site, Trace};

pub use self::source::source_line;

/// How wide a text timeline may be at most, in columns of a terminal.
///
/// ```
/// use selvedge_sim::timeline::{MAX_WIDTH, TextOptions};
///
/// assert_eq!(TextOptions::default().width, MAX_WIDTH);
/// ```
pub const MAX_WIDTH: usize = 100;

/// How narrow it may be at most.
///
/// ```
/// use selvedge_sim::timeline::{self, MIN_WIDTH, TextOptions};
/// use selvedge_sim::trace::Trace;
///
/// let narrow = TextOptions { width: 0, all: true };
/// let table = timeline::text(&Trace::default(), "empty", narrow);
/// assert!(table.lines().all(|line| line.chars().count() <= MIN_WIDTH));
/// ```
pub const MIN_WIDTH: usize = 40;

/// How a text timeline is laid out.
///
/// ```
/// use selvedge_sim::timeline::TextOptions;
///
/// let whole = TextOptions { all: true, ..TextOptions::default() };
/// assert_ne!(whole, TextOptions::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextOptions {
    /// How many columns a line may take: [`MIN_WIDTH`] to [`MAX_WIDTH`], and what is outside of
    /// these becomes the nearer one.
    pub width: usize,
    /// Whether every row is wanted. Otherwise the middle of an execution of more than 200 rows
    /// is left out, except around critical switches.
    pub all: bool,
}

impl Default for TextOptions {
    fn default() -> Self {
        TextOptions {
            width: MAX_WIDTH,
            all: false,
        }
    }
}

/// A table for a terminal: one column a task, one row an event, no colours. Where there are too
/// many tasks for columns, each row begins with its task's name instead.
///
/// ```
/// use selvedge_sim::explorer::{Explorer, SearchEnd};
/// use selvedge_sim::timeline::{self, TextOptions};
/// use selvedge_sim::{Observation, violation};
///
/// let body = || -> Observation { violation!("always", "whatever the order") };
/// let explorer = Explorer::default();
/// let SearchEnd::Violated { schedule, .. } = explorer.run(body).end else { panic!() };
/// let (_, trace) = explorer.trace(&schedule, body);
/// let table = timeline::text(&trace, "one that fails", TextOptions::default());
/// assert!(table.starts_with("one that fails\n") && table.contains("FAILED: always"));
/// ```
#[must_use]
pub fn text(trace: &Trace, title: &str, options: TextOptions) -> String {
    text::draw(&Scene::of(trace), title, options)
}

/// A page that needs nothing but itself: no network, no other file. `source` gives the text of a
/// line of source, as [`source_line`] does, or `None` where it is not to be had.
///
/// ```
/// use selvedge_sim::timeline::{self, source_line};
/// use selvedge_sim::trace::Trace;
///
/// let page = timeline::html(&Trace::default(), "empty", &source_line);
/// assert!(page.trim_end().ends_with("</html>"));
/// ```
#[must_use]
pub fn html(trace: &Trace, title: &str, source: &dyn Fn(&Site) -> Option<String>) -> String {
    html::draw(&Scene::of(trace), title, source)
}

/// JSON in the Trace Event Format, which `ui.perfetto.dev` and `chrome://tracing` open. An event
/// takes one microsecond: the order is what is drawn, not durations. In a run of the world
/// everything has its virtual time, and faults, lives and stops last as long as they did.
///
/// ```
/// use selvedge_sim::timeline;
/// use selvedge_sim::trace::Trace;
///
/// let json = timeline::perfetto(&Trace::default(), "empty");
/// assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
/// ```
#[must_use]
pub fn perfetto(trace: &Trace, title: &str) -> String {
    perfetto::draw(&Scene::of(trace), title)
}
