//! `selvedge estimate`: how long the explorer's full search of each body would take.

use std::fs::File;
use std::io;
use std::time::Duration;

use selvedge_sim::child::{Children, Request};
use selvedge_sim::explorer::Estimate;
use selvedge_sim::unit::{End, Task};
use selvedge_sim::{Engine, Variant};
use serde_json::{Value, json};

use super::check::{DEFAULT_BUDGET, INTERRUPTED, interrupted, on_ctrl_c, own_children};
use super::{EstimateArgs, Exit, Stop, input, say};
use crate::Scenario;
use crate::report::json::replace;
use crate::report::table;

/// No body's probes take longer.
const LIMIT: Duration = Duration::from_secs(60);

/// What was found out about one body.
enum Found {
    Estimated(Estimate),
    /// A probe violated a property, by this signature, and the search would end there too.
    Fails(String),
    /// The probes took too long.
    Cut,
    Failed(String),
}

struct Row {
    scenario: &'static Scenario,
    variant: Variant,
    found: Found,
}

pub(super) fn estimate(args: &EstimateArgs) -> Result<Exit, Stop> {
    let planned = plan(&input::select(&args.filters)?, args.engine)?;
    let json = args.json.as_deref().map(input::output).transpose()?;
    on_ctrl_c()?;
    let children = own_children()?;
    let mut rows = Vec::new();
    for (scenario, variant) in planned {
        let found = (run_one(args, &children, scenario, variant))
            .map_err(|error| Stop::harness("cannot run a child", error))?;
        if interrupted() {
            break;
        }
        rows.push(Row {
            scenario,
            variant,
            found,
        });
    }
    if let Some(file) = json {
        write(file, args, &rows).map_err(|error| Stop::harness("cannot write the JSON", error))?;
    }
    say(&render(&rows))?;
    let failed = |row: &Row| matches!(row.found, Found::Failed(_));
    let cut = |row: &Row| matches!(row.found, Found::Cut);
    Ok(if interrupted() {
        Exit::Interrupted
    } else if rows.iter().any(failed) {
        Exit::Harness
    } else if rows.iter().any(cut) {
        Exit::Budget
    } else {
        Exit::Ok
    })
}

fn plan(
    scenarios: &[&'static Scenario],
    engine: Engine,
) -> Result<Vec<(&'static Scenario, Variant)>, Stop> {
    let runs = |scenario: &&&'static Scenario| scenario.plan(engine).is_some();
    let planned: Vec<_> = (scenarios.iter().filter(runs))
        .flat_map(|scenario| Variant::ALL.map(|variant| (*scenario, variant)))
        .collect();
    match planned.is_empty() {
        true => Err(Stop::usage(format!(
            "none of the chosen scenarios runs under {engine}; `selvedge list` shows which do"
        ))),
        false => Ok(planned),
    }
}

fn run_one(
    args: &EstimateArgs,
    children: &Children,
    scenario: &Scenario,
    variant: Variant,
) -> io::Result<Found> {
    let request = Request {
        scenario: scenario.id.to_owned(),
        variant,
        engine: args.engine,
        task: Task::Estimate {
            seed: args.seed,
            probes: args.probes,
        },
        rounds: 1,
        workers: 1,
        most_bytes: u64::MAX,
        limit: LIMIT,
    };
    let outcome = children.run(&request, &INTERRUPTED, |_| ())?;
    Ok(match outcome.end {
        Some(End::Estimated { estimate }) if estimate.probes < args.probes => {
            Found::Fails("livelock".to_owned())
        }
        Some(End::Estimated { estimate }) => Found::Estimated(estimate),
        Some(End::Violated { failure, .. }) => Found::Fails(failure.signature),
        Some(End::Failed { what }) => Found::Failed(what),
        Some(End::Cut) | None => Found::Cut,
        Some(other) => Found::Failed(format!("it did something else: {other:?}")),
    })
}

fn render(rows: &[Row]) -> String {
    let budget = humantime::format_duration(DEFAULT_BUDGET).to_string();
    let fits = format!("fits {budget}");
    let mut table = table::new(&["scenario", "variant", "executions", "time", &fits]);
    for row in rows {
        let [executions, time, fits] = match &row.found {
            Found::Estimated(estimate) => [
                executions(estimate),
                format!("{} at {:.0}/s", time(estimate.seconds()), estimate.rate),
                match fits_budget(estimate) {
                    true => "yes".to_owned(),
                    false => "no".to_owned(),
                },
            ],
            Found::Fails(signature) => [
                format!("a probe fails: {signature}"),
                "-".into(),
                "-".into(),
            ],
            Found::Cut => [
                format!("not known after {}", humantime::format_duration(LIMIT)),
                "-".into(),
                "-".into(),
            ],
            Found::Failed(what) => [format!("✗ {what}"), "-".into(), "-".into()],
        };
        table.add_row([
            row.scenario.id.to_owned(),
            row.variant.to_string(),
            executions,
            time,
            fits,
        ]);
    }
    let probes = "An estimate is a mean and its standard error; one core; a search of few \
                  executions was run instead.";
    format!("{table}\n{probes}")
}

/// The number, and how far off it may be.
fn executions(estimate: &Estimate) -> String {
    match estimate.exact {
        Some(exact) => format!("{exact}, exactly"),
        None if estimate.ended == 0 => {
            format!("more than {} probes can tell", estimate.probes)
        }
        None => format!(
            "{} ± {}",
            rounded(estimate.executions),
            rounded(estimate.standard_error)
        ),
    }
}

/// Twice the error on top: what is called a fit should be one.
fn fits_budget(estimate: &Estimate) -> bool {
    let most = match estimate.exact {
        Some(exact) => exact as f64,
        None if estimate.ended == 0 => return false,
        None => estimate.executions + 2.0 * estimate.standard_error,
    };
    most <= DEFAULT_BUDGET.as_secs_f64() * estimate.rate
}

fn rounded(number: f64) -> String {
    match number < 1e6 {
        true => format!("{number:.0}"),
        false => format!("{number:.1e}"),
    }
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 2.0 * 3_600.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3_600.0 => format!("{:.0} h", s / 3_600.0),
        s if s < 1e10 => format!("{:.0} days", s / 86_400.0),
        _ => "centuries".to_owned(),
    }
}

fn write(mut file: File, args: &EstimateArgs, rows: &[Row]) -> io::Result<()> {
    let estimates: Vec<Value> = (rows.iter())
        .map(|row| {
            let mut unit = json!({
                "scenario": row.scenario.id,
                "variant": row.variant.to_string(),
                "engine": args.engine.to_string(),
            });
            let found = match &row.found {
                Found::Estimated(estimate) => json!({
                    "estimate": estimate,
                    "seconds": estimate.seconds(),
                    "fits_default_budget": fits_budget(estimate),
                }),
                Found::Fails(signature) => json!({"signature": signature}),
                Found::Cut => json!({"error": "time ran out"}),
                Found::Failed(what) => json!({"error": what}),
            };
            if let (Value::Object(unit), Value::Object(found)) = (&mut unit, found) {
                unit.extend(found);
            }
            unit
        })
        .collect();
    let run = json!({
        "schema": 1,
        "probes": args.probes,
        "seed": args.seed,
        "default_budget_s": DEFAULT_BUDGET.as_secs(),
        "estimates": estimates,
    });
    let mut text = serde_json::to_vec_pretty(&run)?;
    text.push(b'\n');
    replace(&mut file, &text)
}
