//! `selvedge trace`: whether a profiler's trace is one that Perfetto opens, and making one of what a
//! killed process has left.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use selvedge_core::train::profiler::{RULES, Repaired, TraceFault, check, repair};
use serde_json::{Value, json};

use super::{Exit, Stop, say};

#[derive(Debug, Args)]
pub(super) struct TraceArgs {
    #[command(subcommand)]
    command: TraceCommand,
}

#[derive(Debug, Subcommand)]
enum TraceCommand {
    /// Hold a trace to the rules of Perfetto's importer; 10 if it breaks one
    #[command(after_help = rules())]
    Check(CheckArgs),
    /// Keep every whole event of a trace that was cut off, close it, and keep the original as
    /// FILE.orig; one that is valid is not touched
    Repair(RepairArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The trace
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RepairArgs {
    /// The trace
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Leave the trace as it is, and write to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn trace(args: &TraceArgs) -> Result<Exit, Stop> {
    match &args.command {
        TraceCommand::Check(args) => checked(args),
        TraceCommand::Repair(args) => repaired(args),
    }
}

fn checked(args: &CheckArgs) -> Result<Exit, Stop> {
    let name = args.file.display();
    let file = open(&args.file)?;
    match check(BufReader::with_capacity(1 << 16, file)) {
        Ok(checked) => {
            let phases = checked.by_phase.iter();
            let phases: Vec<String> = phases.map(|(ph, n)| format!("{n} {ph}")).collect();
            let text = match phases.is_empty() {
                true => format!("{name}: valid, no events"),
                false => format!(
                    "{name}: valid, {} events ({})",
                    checked.events,
                    phases.join(", ")
                ),
            };
            tell(args.json, &text, || {
                json!({"file": name.to_string(), "valid": true, "events": checked.events,
                       "by_phase": checked.by_phase})
            })?;
            Ok(Exit::Ok)
        }
        Err(TraceFault::Io(error)) => Err(Stop::usage(format!("cannot read {name}: {error}"))),
        Err(fault) => {
            let hint = match fault {
                TraceFault::NoArray | TraceFault::Rule { .. } => String::new(),
                // Of objects with an array in them none is repaired.
                _ if !begins_as_array(&args.file) => String::new(),
                _ => format!(
                    "; `selvedge trace repair {name}` keeps every whole event, and the original as \
                     {name}.orig"
                ),
            };
            tell(
                args.json,
                &format!("{name}: not valid: {fault}{hint}"),
                || json!({"file": name.to_string(), "valid": false, "fault": fault.to_string()}),
            )?;
            Ok(Exit::Property)
        }
    }
}

fn repaired(args: &RepairArgs) -> Result<Exit, Stop> {
    let name = args.file.display();
    let done = repair(&args.file, args.out.as_deref()).map_err(Stop::usage)?;
    let to = args.out.as_ref().map_or(String::new(), |out| {
        format!("; written to {}", out.display())
    });
    let (text, events, dropped, skipped, fault) = match done {
        Repaired::Valid { events } => {
            let touched = match args.out {
                Some(_) => "",
                None => "; it was not touched",
            };
            let text = format!("{name}: valid already, {events} events{touched}{to}");
            (text, events, 0, 0, None)
        }
        Repaired::Closed {
            events,
            dropped,
            skipped,
            fault,
            original,
        } => {
            let left_out = match skipped {
                0 => String::new(),
                n => format!(", among them {n} elements that are no JSON"),
            };
            let kept = original.map_or(String::new(), |original| {
                format!("; the original is kept as {}", original.display())
            });
            let text = format!(
                "{name}: repaired: {events} events kept, {dropped} bytes dropped{left_out} \
                 ({fault}){to}{kept}"
            );
            (text, events, dropped, skipped, Some(fault))
        }
    };
    tell(args.json, &text, || {
        json!({"file": name.to_string(), "repaired": fault.is_some(), "events": events,
               "dropped_bytes": dropped, "skipped_elements": skipped, "fault": fault, "out": args.out.as_ref().map(|out| out.display().to_string())})
    })?;
    Ok(Exit::Ok)
}

fn open(path: &Path) -> Result<File, Stop> {
    let wrong = |error| Stop::usage(format!("cannot read {}: {error}", path.display()));
    if path.is_dir() {
        return Err(Stop::usage(format!(
            "{} is a directory; name a trace",
            path.display()
        )));
    }
    File::open(path).map_err(wrong)
}

fn begins_as_array(path: &Path) -> bool {
    let bytes = File::open(path).map(|file| BufReader::new(file).bytes());
    let mut bytes = bytes.into_iter().flatten().map_while(Result::ok);
    // An empty one is one that was cut off at once.
    bytes
        .find(|byte| !byte.is_ascii_whitespace())
        .is_none_or(|byte| byte == b'[')
}

fn tell(as_json: bool, text: &str, json: impl FnOnce() -> Value) -> Result<(), Stop> {
    if !as_json {
        return say(text);
    }
    let mut json = json();
    json["schema"] = 1.into();
    say(&format!("{json:#}"))
}

fn rules() -> String {
    let lines = RULES.iter().map(|rule| format!("\n  {rule}"));
    format!("The rules:{}", lines.collect::<String>())
}
