//! Where a drawing of an execution goes, and in which form.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use selvedge_sim::timeline::{self, TextOptions};
use selvedge_sim::trace::Trace;
use selvedge_sim::{DecisionLog, Seed};

use super::{ReplayArgs, Stop, input, say};
use crate::report::seeds::short_name;

/// A form of drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// A table for the terminal
    Text,
    /// A page for a browser, in one file
    Html,
    /// A file for ui.perfetto.dev and chrome://tracing
    Perfetto,
}

/// A form, and where it goes.
pub(super) struct Target {
    form: Form,
    all: bool,
    /// `None` is standard output.
    file: Option<(File, PathBuf)>,
}

/// Where the drawing that was asked for goes. The file is opened before anything runs.
pub(super) fn target(seed: &Seed, args: &ReplayArgs) -> Result<Option<Target>, Stop> {
    let Some(form) = args.timeline else {
        return Ok(None);
    };
    if matches!(seed.log, DecisionLog::Workload { .. }) {
        return Err(Stop::usage(
            "what happens on real threads cannot be taken down, so there is nothing to draw; find \
             the failure under another engine",
        ));
    }
    let ending = match form {
        Form::Text => None,
        Form::Html => Some("html"),
        Form::Perfetto => Some("json"),
    };
    let path = match (&args.out, ending) {
        (Some(path), _) if path == Path::new("-") => None,
        (Some(path), _) => Some(path.clone()),
        (None, Some(ending)) => {
            let name = short_name(&seed.to_string());
            Some(PathBuf::from(format!("selvedge-{name}.{ending}")))
        }
        (None, None) => None,
    };
    let file = match path {
        Some(path) => Some((input::output(&path)?, path)),
        None => None,
    };
    Ok(Some(Target {
        form,
        all: args.all,
        file,
    }))
}

impl Target {
    /// Whether it goes to standard output, in a form that is no text for people.
    pub(super) fn is_standard_output(&self) -> bool {
        self.file.is_none() && self.form != Form::Text
    }

    /// Draws it.
    pub(super) fn draw(&mut self, trace: &Trace, title: &str) -> Result<(), Stop> {
        let text = match self.form {
            Form::Text => timeline::text(trace, title, options(self.all, self.file.is_some())),
            Form::Html => timeline::html(trace, title, &timeline::source_line),
            Form::Perfetto => timeline::perfetto(trace, title),
        };
        match &mut self.file {
            None if self.form == Form::Text => say(&format!("\n{}", text.trim_end())),
            None => say(text.trim_end()),
            Some((file, path)) => {
                crate::report::json::replace(file, text.as_bytes())
                    .map_err(|error| Stop::harness("cannot write the drawing", error))?;
                say(&format!("drawn in {}", path.display()))
            }
        }
    }
}

/// As wide as the terminal, where there is one.
pub(super) fn options(all: bool, to_file: bool) -> TextOptions {
    let options = TextOptions {
        all,
        ..TextOptions::default()
    };
    let width = match !to_file && io::stdout().is_terminal() {
        true => comfy_table::Table::new().width(),
        false => None,
    };
    match width {
        Some(width) => TextOptions {
            width: usize::from(width),
            ..options
        },
        None => options,
    }
}
