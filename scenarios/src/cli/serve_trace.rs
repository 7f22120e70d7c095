//! `selvedge serve-trace`: real requests through the code that ships, in virtual time.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use selvedge_core::engine::EngineConfig;
use serde_json::json;

use super::check::{interrupted, on_ctrl_c};
use super::{Exit, ServeTraceArgs, Stop, input, say};
use crate::report::json::replace;
use crate::report::table;
use crate::serving::{
    Progress, ServeConfig, ServeError, ServeReport, StepCost, Trace, page, report, serve,
};

/// A trace of our own making that ships with the program.
const SAMPLE: &str = include_str!("../../traces/sample.jsonl");
/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The bar is not told oftener: a turn takes some microseconds.
const TURNS_A_LOOK: u64 = 256;

pub(super) fn serve_trace(args: &ServeTraceArgs) -> Result<Exit, Stop> {
    let (name, trace) = read(args)?;
    // Before a report's file is opened, or it may be the trace.
    let trace_file = ("FILE", args.file.as_deref());
    for report in [
        ("--json", args.json.as_deref()),
        ("--html", args.html.as_deref()),
    ] {
        input::distinct(&[trace_file, report])?;
    }
    let json = args.json.as_deref().map(input::output).transpose()?;
    let html = args.html.as_deref().map(input::output).transpose()?;
    input::distinct(&[
        ("--json", args.json.as_deref()),
        ("--html", args.html.as_deref()),
    ])?;
    // Not before: until then Ctrl-C may end the program as it ends any, also one that waits for
    // standard input.
    on_ctrl_c()?;

    let config = config(args);
    let started = Instant::now();
    let mut watch = Watch::new(trace.requests.len());
    let served = serve(&trace, &config, &mut |progress| watch.look(progress));
    watch.bar.finish_and_clear();
    let report = served.map_err(|error| Stop {
        exit: exit_of_error(&error),
        message: format!("{name}: {error}"),
    })?;

    if let Some(mut file) = json {
        let text = json!({"schema": 1, "trace": name, "report": report});
        let text = format!("{text:#}\n");
        replace(&mut file, text.as_bytes())
            .map_err(|error| Stop::harness("cannot write the JSON", error))?;
    }
    if let Some(mut file) = html {
        let title = format!("{name}, served");
        page::render(&title, &report)
            .map_err(io::Error::other)
            .and_then(|page| replace(&mut file, page.as_bytes()))
            .map_err(|error| Stop::harness("cannot write the page", error))?;
    }
    say(&render(&name, &report, started.elapsed()))?;
    Ok(exit_of(&report))
}

fn read(args: &ServeTraceArgs) -> Result<(String, Trace), Stop> {
    let Some(path) = args.file.as_deref() else {
        if !args.sample {
            return Err(Stop::usage(
                "name a trace, `-` for standard input, or take --sample, the one that ships",
            ));
        }
        let trace = Trace::read(SAMPLE.as_bytes(), false)
            .map_err(|error| Stop::harness("the trace that ships", error))?;
        return Ok(("the sample".to_owned(), trace));
    };
    let name = match path == Path::new("-") {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    };
    let trace = match path == Path::new("-") {
        true => Trace::read(io::stdin().lock(), args.skip_bad),
        false => {
            let file = File::open(path)
                .map_err(|error| Stop::usage(format!("cannot read {name}: {error}")))?;
            Trace::read(BufReader::new(file), args.skip_bad)
        }
    };
    let mut trace = trace.map_err(|error| Stop::usage(format!("{name}: {error}")))?;
    trace.requests.truncate(args.limit.unwrap_or(usize::MAX));
    Ok((name, trace))
}

fn config(args: &ServeTraceArgs) -> ServeConfig {
    ServeConfig {
        layers: args.layers,
        block_tokens: args.block_tokens,
        blocks: args.blocks,
        engine: EngineConfig {
            max_running: args.max_running,
            max_waiting: args.max_waiting,
            admission: args.admission,
            ..EngineConfig::default()
        },
        cost: StepCost {
            step: args.step,
            prefill_token: Duration::from_secs(1) / args.prefill_rate,
            decode: args.decode,
        },
    }
}

/// 10 if the code that ships has lost a request or a block: then it has a bug.
fn exit_of(report: &ServeReport) -> Exit {
    let lost = report.pool.left_after_shutdown > 0;
    let wrong = report.counts.failed > 0 || report.backend_faults > 0;
    match report.interrupted {
        _ if lost || wrong => Exit::Property,
        true => Exit::Interrupted,
        false => Exit::Ok,
    }
}

fn exit_of_error(error: &ServeError) -> Exit {
    match error {
        ServeError::Spec(_) | ServeError::Pool(_) | ServeError::Config(_) => Exit::Usage,
        ServeError::Agent(_) => Exit::Harness,
        ServeError::Stuck { .. } => Exit::Liveness,
        ServeError::Refused { .. } | ServeError::Died(_) | ServeError::Violated(_) => {
            Exit::Property
        }
    }
}

fn render(name: &str, report: &ServeReport, took: Duration) -> String {
    let mut table = table::new(&["served", name]);
    for (what, value) in report::rows(report) {
        table.add_row([what, value.as_str()]);
    }
    let took = report::seconds(took.as_secs_f64());
    let ended = match report.interrupted {
        true => format!("interrupted after {took}; what was served until then is reported"),
        false => format!("every accepted request has ended; {took}"),
    };
    format!("{table}\n\n{ended}")
}

/// A bar where standard error is a terminal, a line now and then otherwise.
struct Watch {
    bar: ProgressBar,
    plain: bool,
    turns: u64,
    last_line: Option<Instant>,
}

impl Watch {
    fn new(requests: usize) -> Self {
        let plain = !io::stderr().is_terminal();
        let target = match plain {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let bar = ProgressBar::with_draw_target(Some(requests as u64), target);
        let style = ProgressStyle::with_template(
            "{elapsed:>4} {bar:24} {pos}/{len} requests, {eta} left  {wide_msg}",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Watch {
            bar,
            plain,
            turns: 0,
            last_line: None,
        }
    }

    fn look(&mut self, progress: &Progress) -> ControlFlow<()> {
        if interrupted() {
            return ControlFlow::Break(());
        }
        self.turns += 1;
        if self.turns % TURNS_A_LOOK == 1 {
            self.bar.set_position(progress.ended as u64);
            let line = format!(
                "{} virtual, {} steps, {} running, {} waiting",
                report::seconds(progress.at.as_secs_f64()),
                progress.steps,
                progress.running,
                progress.waiting
            );
            let due = self.last_line.is_none_or(|at| at.elapsed() > LINE_EVERY);
            if self.plain && due {
                self.last_line = Some(Instant::now());
                let total = self.bar.length().unwrap_or(0);
                // Progress that nobody can read is not worth an error.
                let _ = writeln!(io::stderr(), "[{}/{total}] {line}", progress.ended);
            }
            self.bar.set_message(line);
        }
        ControlFlow::Continue(())
    }
}
