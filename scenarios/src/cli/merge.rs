//! `selvedge merge`: the shards of a night put together.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Exit, Stop, complain, input, say};
use crate::nightly::file::{self, Contents};
use crate::nightly::{Base, Night, Plan, Refused, Trend, common_header, sources};
use crate::report::json::replace;
use crate::report::night::NightReport;
use crate::report::{html, junit, markdown, night, seeds};

/// Puts the shards of a night together and says what is missing, what was explored, and what fails.
/// The same shards come to the same bytes, in whatever order they are named.
#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// The folders that `selvedge nightly` wrote to, or files in them
    #[arg(value_name = "DIR", required = true)]
    places: Vec<PathBuf>,
    /// Another night: the JSON of its merge, or the folder of its shards. Of the same plan, both must
    /// come to the same
    #[arg(long, value_name = "BASE")]
    compare: Option<PathBuf>,
    /// Write the night as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write it as JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write it as Markdown, for a comment, to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write it as one HTML page to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) fn merge(args: &MergeArgs) -> Result<Exit, Stop> {
    let night = read(&args.places)?;
    let base = args.compare.as_deref().map(read_base).transpose()?;
    let open = |path: &Option<PathBuf>| path.as_deref().map(input::output).transpose();
    let (json, junit) = (open(&args.json)?, open(&args.junit)?);
    let (markdown, html) = (open(&args.markdown)?, open(&args.html)?);
    input::distinct(&[
        ("--json", args.json.as_deref()),
        ("--junit", args.junit.as_deref()),
        ("--markdown", args.markdown.as_deref()),
        ("--html", args.html.as_deref()),
        ("--compare", args.compare.as_deref()),
    ])?;
    let trend = base.map(|base| Trend::of(&Base::of(&night), &base));
    let report = NightReport::new(night, trend);
    // First, because the reports name the files of long seeds.
    for seed in report
        .base
        .failures
        .iter()
        .filter_map(|failing| failing.seed.as_ref())
    {
        if let Err(problem) = seeds::keep_one(seed) {
            complain(&problem);
        }
    }
    let failed = |what: &'static str| move |error: io::Error| Stop::harness(what, error);
    if let Some(file) = json {
        write(file, &night::json(&report)).map_err(failed("cannot write the JSON"))?;
    }
    if let Some(file) = junit {
        junit::write_night(file, &report).map_err(failed("cannot write the JUnit XML"))?;
    }
    if let Some(file) = markdown {
        write(file, &markdown::render(&report)).map_err(failed("cannot write the Markdown"))?;
    }
    if let Some(file) = html {
        write(file, &html::render(&report)).map_err(failed("cannot write the HTML"))?;
    }
    say(&night::text(&report))?;
    Ok(report.exit)
}

fn write(mut file: File, text: &str) -> io::Result<()> {
    replace(&mut file, text.as_bytes())
}

/// The night whose shards these are.
fn read(places: &[PathBuf]) -> Result<Night, Stop> {
    let mut files = Vec::new();
    for path in file::find(places).map_err(Stop::usage)? {
        let contents = Contents::read(&path)
            .map_err(|error| Stop::usage(format!("cannot read {}: {error}", path.display())))?;
        files.push(contents);
    }
    let header = common_header(&files).map_err(Stop::usage)?;
    let other_program = |ours: String| {
        Stop::usage(Refused::OtherProgram {
            theirs: header.plan.clone(),
            ours,
            program: header.inputs.sources.clone(),
            here: sources().to_owned(),
        })
    };
    // What was run can be judged only by the catalogue that it was run of.
    let Ok(scenarios) = input::select(&header.inputs.filters) else {
        return Err(other_program("nothing: it has no such scenario".to_owned()));
    };
    let plan = Plan::of(header.inputs.clone(), &scenarios);
    if plan.hash() != header.plan || header.inputs.sources != sources() {
        return Err(other_program(plan.hash()));
    }
    Ok(Night::of(plan, header.shard.of, files, None))
}

fn read_base(path: &Path) -> Result<Base, Stop> {
    if path.is_dir() {
        return Ok(Base::of(&read(&[path.to_owned()])?));
    }
    let wrong = |why: String| {
        Stop::usage(format!(
            "{} is no base: {why}; name the JSON of an earlier `selvedge merge --json`, or a folder \
             of shards",
            path.display()
        ))
    };
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    night::read_base(&text).map_err(wrong)
}
