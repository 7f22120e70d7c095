//! The `selvedge` command line: what a user may type, and what each way of ending means.

mod canary;
mod check;
mod corpus;
mod ddp;
mod drawing;
mod estimate;
mod explain;
mod explore;
mod given;
mod input;
mod list;
mod live;
mod merge;
mod mutants;
mod nightly;
mod rank;
mod replay;
mod serve_trace;
mod shrink;
mod trace;
mod world;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use selvedge_core::engine::Admission;
use selvedge_models::epoch::Mutant;
use selvedge_sim::{Class, Engine, FailureKind, child, host};

pub(crate) use check::{drawn_by, exit_code};

use crate::registry;

/// Runs the shipped code and its bugs' as-reported twins under every engine: each twin must be
/// found, each shipped body must survive.
#[derive(Debug, Parser)]
#[command(
    name = "selvedge",
    version,
    args_conflicts_with_subcommands = true,
    after_help = EXIT_CODES
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    check: CheckArgs,
}

const EXIT_CODES: &str = "\
Exit codes:
  0   everything was as expected
  2   the command line, a seed or a file is wrong
  10  a property of the shipped code does not hold (replay: it was violated again; trace check:
      the trace is not valid)
  11  a deadlock
  12  nobody gets anywhere: a livelock or a hang
  13  what should be the same run again was another one; merge: two nights of one plan came to
      different ends
  14  a twin, a mutant or a planted bug was not found, or found by the wrong signature; or
      explorer and loom differ in their outcomes otherwise than their scenario declares
  15  rank: this rank is out of the run, and says why; start it again to rejoin
  20  time ran out, or a verdict is below the required class; merge: the night is incomplete
  21  interrupted; what was done is reported
  70  the bed itself failed";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios (the default)
    Check(CheckArgs),
    /// Show the scenarios, their engines, and what each must find and miss, and why
    List(ListArgs),
    /// Say how long the explorer's full search would take, before waiting for it
    Estimate(EstimateArgs),
    /// Run one failure again, and draw it
    Replay(ReplayArgs),
    /// Find the smallest execution that fails in the same way
    Shrink(ShrinkArgs),
    /// Say which switches a failure needs, and draw its smallest execution
    Explain(ExplainArgs),
    /// Look around in a model's states by a browser, with stateright's Explorer
    Explore(ExploreArgs),
    /// Simulate the whole system in virtual time with everything going wrong, many seeds
    World(world::WorldArgs),
    /// Serve a trace of real requests by the engine that ships, in virtual time
    ServeTrace(ServeTraceArgs),
    /// Train with real rank processes on this machine, and see whether they agree on alpha
    Ddp(ddp::DdpArgs),
    /// Be one rank of a run, as torchrun or srun starts them
    Rank(rank::RankArgs),
    /// Keep seeds as regressions, and replay those that are kept
    Corpus(corpus::CorpusArgs),
    /// Check a profiler's trace, or repair one that was cut off
    Trace(trace::TraceArgs),
    /// Run the whole catalogue, or this machine's part of it, and write down what comes of it
    Nightly(nightly::NightlyArgs),
    /// Put the shards of a night together, and say what is new since another
    Merge(merge::MergeArgs),
    /// Look for the planted bugs, as every night does before anything else
    Canary(canary::CanaryArgs),
    /// Say which engine finds which bug: the kill matrix
    Mutants(mutants::MutantsArgs),
    /// Run one unit for a parent process
    #[command(name = child::UNIT_COMMAND, hide = true)]
    Unit { spec: PathBuf },
}

#[derive(Clone, Debug, Args)]
struct CheckArgs {
    /// Scenarios: an id, or part of some
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// native, explorer, explorer:N, loom, loom:N, shuttle, shuttle:random, shuttle:pct, shuttle:urw, stateright, world; all if none
    #[arg(long = "engine", value_name = "E", value_delimiter = ',', value_parser = input::engine)]
    engines: Vec<Engine>,
    /// Wall-clock time for everything, as 60s or 5m; more time also means more executions
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = input::budget)]
    budget: std::time::Duration,
    /// Times the usual number of executions to draw; one for each minute of the budget if not
    /// given. With 1, a long budget is room for a slow machine and nothing else
    #[arg(long, value_name = "N", value_parser = input::at_least_one::<u64>)]
    effort: Option<u64>,
    /// What every random choice is drawn from
    #[arg(long, value_name = "N", default_value = "1", value_parser = input::number, allow_hyphen_values = true)]
    seed: u64,
    /// Units at a time; as many as there are processors if not given
    #[arg(long, value_name = "N", value_parser = input::jobs)]
    jobs: Option<usize>,
    /// The least a shipped body's verdict must be: sampled, bounded or exhausted. A model that was
    /// searched completely within its boundary is enough for each
    #[arg(long, value_name = "CLASS", default_value = "sampled", value_parser = input::required)]
    require: Class,
    /// Write the verdicts as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the verdicts as JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Scenarios: an id, or part of some
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct EstimateArgs {
    /// Scenarios: an id, or part of some
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// explorer; no other engine's search is estimated
    #[arg(long, value_name = "E", default_value = "explorer", value_parser = input::estimated)]
    engine: Engine,
    /// Ways drawn down the tree of all executions; more of them narrow the error
    #[arg(long, value_name = "N", default_value = "2000", value_parser = input::probes)]
    probes: u32,
    /// What the probes are drawn from
    #[arg(long, value_name = "N", default_value = "1", value_parser = input::number, allow_hyphen_values = true)]
    seed: u64,
    /// Write the estimates as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// A seed, a file that holds one, or the short name of one that `check` printed
    #[arg(value_name = "SEED")]
    seed: String,
    /// Draw what happened
    #[arg(long, value_name = "FORM", value_enum)]
    timeline: Option<drawing::Form>,
    /// Where the drawing goes; `-` is standard output. If not given, text goes there, and html
    /// and perfetto into a file named after the seed
    #[arg(long, value_name = "FILE", requires = "timeline")]
    out: Option<PathBuf>,
    /// Draw every step of a long execution
    #[arg(long, requires = "timeline")]
    all: bool,
}

#[derive(Debug, Args)]
struct ShrinkArgs {
    /// A seed, a file that holds one, or its short name; with --twins, part of a scenario's id
    #[arg(value_name = "SEED")]
    seed: Option<String>,
    /// Find every scenario's twin, shrink each, and print a table of before and after
    #[arg(long)]
    twins: bool,
    /// Wall-clock time for one seed
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = input::budget)]
    limit: std::time::Duration,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// A seed, a file that holds one, or the short name of one that `check` printed
    #[arg(value_name = "SEED")]
    seed: String,
    /// Wall-clock time for shrinking it
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = input::budget)]
    limit: std::time::Duration,
    /// Draw every step of a long execution
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
struct ExploreArgs {
    /// alpha, gate-sync, slot, option-a or option-b
    #[arg(value_name = "MODEL", value_parser = input::model)]
    model: explore::Named,
    /// Break alpha's protocol in this way
    #[arg(long, value_name = "NAME", value_parser = input::mutant)]
    mutant: Option<Mutant>,
    /// Where the browser finds it
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000")]
    address: String,
}

#[derive(Debug, Args)]
struct ServeTraceArgs {
    /// One JSON object a line, with timestamp, input_length, output_length and hash_ids; `-` is
    /// standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Serve the small trace that ships with the program
    #[arg(long, conflicts_with = "file")]
    sample: bool,
    /// Count malformed lines instead of stopping at the first
    #[arg(long)]
    skip_bad: bool,
    /// Serve only the first N requests
    #[arg(long, value_name = "N", value_parser = input::at_least_one::<usize>)]
    limit: Option<usize>,
    /// Blocks of the pool, for all layers
    #[arg(long, value_name = "N", default_value = "65536", value_parser = input::up_to::<{ 1 << 24 }>)]
    blocks: u32,
    /// Tokens of a block
    #[arg(long, value_name = "N", default_value = "256", value_parser = input::up_to::<{ 1 << 20 }>)]
    block_tokens: u32,
    /// Layers of the model; each request needs blocks in all of them
    #[arg(long, value_name = "N", default_value = "2", value_parser = input::up_to::<1024>)]
    layers: u32,
    /// Requests that may run at once
    #[arg(long, value_name = "N", default_value = "256", value_parser = input::at_least_one::<u32>)]
    max_running: u32,
    /// Requests that may wait; more are refused
    #[arg(long, value_name = "N", default_value = "4096", value_parser = input::at_least_one::<u32>)]
    max_waiting: u32,
    /// When blocks are taken: full (all at admission) or watermark:N (as the request grows,
    /// N kept free)
    #[arg(long, value_name = "HOW", default_value = "full", value_parser = input::admission)]
    admission: Admission,
    /// Virtual time of a step, whatever it computes
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = input::virtual_time)]
    step: Duration,
    /// Prompt tokens the model computes in a virtual second, beyond that
    #[arg(long, value_name = "N", default_value = "40000", value_parser = input::at_least_one::<u32>)]
    prefill_rate: u32,
    /// Virtual time of each sequence that a step decodes, beyond that
    #[arg(long, value_name = "TIME", default_value = "50us", value_parser = input::virtual_time)]
    decode: Duration,
    /// Write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Plot pool use and queue over time on an HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// How a run of the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was as expected.
    Ok = 0,
    /// The input is wrong.
    Usage = 2,
    /// A property does not hold.
    Property = 10,
    /// A deadlock.
    Deadlock = 11,
    /// A livelock or a hang.
    Liveness = 12,
    /// What must come to the same did not.
    Nondeterminism = 13,
    /// A twin or a planted bug was not found as it must be, or the cross-check came to something
    /// new.
    Survived = 14,
    /// A rank is out of its run, for a reason that it says.
    Left = 15,
    /// Time ran out before the required class.
    Budget = 20,
    /// Interrupted.
    Interrupted = 21,
    /// The bed failed.
    Harness = 70,
}

impl From<FailureKind> for Exit {
    fn from(kind: FailureKind) -> Exit {
        match kind {
            FailureKind::Property => Exit::Property,
            FailureKind::Deadlock => Exit::Deadlock,
            FailureKind::Liveness => Exit::Liveness,
            FailureKind::Nondeterminism => Exit::Nondeterminism,
        }
    }
}

/// An ending that needs a word of explanation.
#[derive(Debug)]
struct Stop {
    exit: Exit,
    message: String,
}

impl Stop {
    fn usage(message: impl fmt::Display) -> Self {
        Stop {
            exit: Exit::Usage,
            message: message.to_string(),
        }
    }

    fn harness(what: &str, error: impl fmt::Display) -> Self {
        Stop {
            exit: Exit::Harness,
            message: format!("{what}: {error}"),
        }
    }
}

/// Runs the program on the arguments it was started with.
#[must_use]
pub fn main() -> ExitCode {
    let exit = match Cli::try_parse() {
        Ok(cli) => run(cli).unwrap_or_else(|stop| {
            complain(&stop.message);
            stop.exit
        }),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                // Nothing useful can be said where even this cannot be printed.
                let _ = error.print();
                Exit::Ok
            }
            _ => {
                complain(&one_line(&error));
                Exit::Usage
            }
        },
    };
    ExitCode::from(exit as u8)
}

fn run(cli: Cli) -> Result<Exit, Stop> {
    match cli.command.unwrap_or(Command::Check(cli.check)) {
        Command::Check(args) => check::check(&args),
        Command::List(args) => list::list(&args),
        Command::Estimate(args) => estimate::estimate(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Shrink(args) => shrink::shrink(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Explore(args) => explore::explore(&args),
        Command::World(args) => world::world(&args),
        Command::ServeTrace(args) => serve_trace::serve_trace(&args),
        Command::Ddp(args) => ddp::ddp(&args),
        Command::Rank(args) => rank::rank(&args),
        Command::Corpus(args) => corpus::corpus(&args),
        Command::Trace(args) => trace::trace(&args),
        Command::Nightly(args) => nightly::nightly(&args),
        Command::Merge(args) => merge::merge(&args),
        Command::Canary(args) => canary::canary(&args),
        Command::Mutants(args) => mutants::mutants(&args),
        Command::Unit { spec } => serve(&spec),
    }
}

/// Runs one unit for a parent: the child's side of [`child`].
fn serve(spec_file: &std::path::Path) -> Result<Exit, Stop> {
    let spec = child::serve(spec_file)
        .map_err(|error| Stop::usage(format!("{}: {error}", spec_file.display())))?;
    let scenario = registry::find(&spec.scenario)
        .ok_or_else(|| Stop::usage(format!("there is no scenario '{}'", spec.scenario)))?;
    child::end_with_parent();
    host::run(&spec, scenario.bodies(spec.variant))
        .map_err(|error| Stop::harness("cannot write the records", error))?;
    Ok(Exit::Ok)
}

fn complain(message: &str) {
    // Where standard error is closed there is nobody to tell.
    // What users typed, or seeds hold, must neither break the line nor steer the terminal.
    let line: String = (message.chars())
        .flat_map(|c| match c.is_control() {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect();
    let _ = writeln!(io::stderr(), "selvedge: {line}");
}

/// Prints to standard output. A reader that went away (`| head`) is no error.
fn say(text: &str) -> Result<(), Stop> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Stop::harness("cannot write to standard output", error))
        }
        _ => Ok(()),
    }
}

/// clap's message without the usage text: what is wrong, and what is near it.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim);
    let relevant =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let relevant: Vec<&str> = relevant.filter(|line| !line.is_empty()).collect();
    let joined = relevant.join("; ").replace(":; ", ": ");
    joined.strip_prefix("error: ").unwrap_or(&joined).to_owned()
}
